//! Do two files mean the same thing by one name?
//!
//! The rules are those of libbpf's linker (`glob_sym_btf_matches`, src/linker.c): typedefs and
//! qualifiers do not count, nor do names of parameters, lengths of arrays, encodings of integers
//! and values of enumerations. Structures have to be the same member by member, but behind a
//! pointer only of the same name.

use std::collections::HashSet;

use skep_btf::{Btf, Kind, KindTag, Linkage, Type, TypeId};

use crate::error::MapProblem;
use crate::maps::map_of_type;
use crate::spec::MapSpec;

/// Pairs of types that are compared at most; those of real files are thousands.
const MAX_PAIRS: usize = 1 << 20;

/// What was compared, and fits.
#[derive(Debug, Default)]
pub(super) struct Compared(HashSet<((usize, usize), Pair)>);

/// A type of a file: the file's number, its types, the type.
pub(super) type Of<'b> = (usize, &'b Btf, TypeId);

/// Two types to compare, and whether only their names count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pair {
    first: TypeId,
    second: TypeId,
    /// Behind a pointer.
    by_name: bool,
}

impl Compared {
    /// What differs between two types, first against second; nothing when they fit. Then what they
    /// are made of is not compared again.
    pub(super) fn mismatch(&mut self, first: Of<'_>, second: Of<'_>) -> Option<String> {
        let files = (first.0, second.0);
        let mut open = vec![Pair { first: first.2, second: second.2, by_name: false }];
        while let Some(pair) = open.pop() {
            if !self.0.insert((files, pair)) {
                continue;
            }
            if self.0.len() > MAX_PAIRS {
                return Some(format!("the files share more than {MAX_PAIRS} types"));
            }
            if let Some(problem) = one(first.1, second.1, pair, &mut open) {
                return Some(problem);
            }
        }
        None
    }
}

/// Compares two types themselves; what they are made of goes to `open`.
fn one(first: &Btf, second: &Btf, pair: Pair, open: &mut Vec<Pair>) -> Option<String> {
    let whole = |btf: &Btf, id| btf.skip_mods(id).ok();
    let (Some(a), Some(b)) = (whole(first, pair.first), whole(second, pair.second)) else {
        return Some("a type without end".to_owned());
    };
    let (a, b) = first.get(a).zip(second.get(b))?;
    let by_name = pair.by_name;
    let mut also = |first, second, by_name| open.push(Pair { first, second, by_name });
    if by_name && (tag(&a) == KindTag::Fwd) != (tag(&b) == KindTag::Fwd) {
        let same = a.name == b.name && declared(&a.kind) == declared(&b.kind);
        return (!same).then(|| format!("{} against {}", text(&a), text(&b)));
    }
    if tag(&a) != tag(&b) {
        return Some(format!("{} against {}", text(&a), text(&b)));
    }
    let named = !matches!(a.kind, Kind::Int(_) | Kind::Float { .. });
    if named && a.name != b.name {
        return Some(format!("{} against {}", text(&a), text(&b)));
    }
    match (a.kind, b.kind) {
        (Kind::Ptr(x), Kind::Ptr(y)) => also(x, y, true),
        (Kind::Array(x), Kind::Array(y)) => also(x.element, y.element, by_name),
        (Kind::Var(x), Kind::Var(y)) => also(x.ty, y.ty, by_name),
        (Kind::Func(x), Kind::Func(y)) => {
            if (x.linkage == Linkage::STATIC) != (y.linkage == Linkage::STATIC) {
                return Some("a static function against one that is not".to_owned());
            }
            also(x.proto, y.proto, by_name);
        }
        (Kind::FuncProto(x), Kind::FuncProto(y)) => {
            let (n, m) = (x.params.len(), y.params.len());
            if n != m {
                return Some(format!("{n} parameters against {m}"));
            }
            also(x.ret, y.ret, by_name);
            x.params.iter().zip(y.params.iter()).for_each(|(p, q)| also(p.ty, q.ty, by_name));
        }
        (Kind::Struct(x), Kind::Struct(y)) | (Kind::Union(x), Kind::Union(y)) if !by_name => {
            let (n, m) = (x.members.len(), y.members.len());
            if n != m {
                return Some(format!("{} with {n} members against {m}", text(&a)));
            }
            for (p, q) in x.members.iter().zip(y.members.iter()) {
                if p.name != q.name || p.bit_offset != q.bit_offset {
                    let member = |m: skep_btf::Member<'_>| {
                        let name = if m.name.is_empty() { "(unnamed)" } else { m.name };
                        format!("{name} at bit {}", m.bit_offset)
                    };
                    return Some(format!("{} with {} against {}", text(&a), member(p), member(q)));
                }
                also(p.ty, q.ty, by_name);
            }
        }
        (x, y) => {
            let (x, y) = (size(&x), size(&y));
            if x != y {
                return Some(format!("{} of {x} bytes against {y}", text(&a)));
            }
        }
    }
    None
}

fn tag(ty: &Type<'_>) -> KindTag {
    ty.kind.tag()
}

/// Which kind a forward declaration, or what it declares, is.
fn declared(kind: &Kind<'_>) -> Option<bool> {
    match kind {
        Kind::Fwd { union } => Some(*union),
        Kind::Struct(_) => Some(false),
        Kind::Union(_) => Some(true),
        _ => None,
    }
}

/// Sizes that have to agree.
fn size(kind: &Kind<'_>) -> u32 {
    match kind {
        Kind::Int(int) => int.size,
        Kind::Float { size } => *size,
        Kind::Enum(e) | Kind::Enum64(e) => e.size,
        _ => 0,
    }
}

fn text(ty: &Type<'_>) -> String {
    let kind = match ty.kind {
        Kind::Void => "void",
        Kind::Int(_) | Kind::Float { .. } => "",
        Kind::Ptr(_) => "a pointer",
        Kind::Array(_) => "an array",
        Kind::Struct(_) => "struct",
        Kind::Union(_) => "union",
        Kind::Enum(_) | Kind::Enum64(_) => "enum",
        Kind::Fwd { union: false } => "declared struct",
        Kind::Fwd { union: true } => "declared union",
        Kind::Func(_) | Kind::FuncProto(_) => "function",
        Kind::Var(_) => "variable",
        kind => kind.tag().name(),
    };
    match (kind, ty.name) {
        (kind, "") => kind.to_owned(),
        ("", name) => name.to_owned(),
        (kind, name) => format!("{kind} {name}"),
    }
}

/// The map that the variable with this number defines or declares.
pub(super) fn map(btf: &Btf, name: &str, id: TypeId) -> Result<MapSpec, MapProblem> {
    match btf.get(id).map(|t| t.kind) {
        Some(Kind::Var(var)) => map_of_type(btf, name, var.ty),
        _ => Err(MapProblem::Variable("its type is not a variable")),
    }
}

/// A definition of a map: the file's number, its types, the map.
pub(super) type Defined<'b> = (usize, &'b Btf, &'b MapSpec);

impl Compared {
    /// What differs between two definitions of a map. A declaration has to say all that the
    /// definition says.
    pub(super) fn map_mismatch(
        &mut self,
        first: Defined<'_>,
        second: Defined<'_>,
    ) -> Option<String> {
        let ((file, btf, a), (other_file, other_btf, b)) = (first, second);
        let (x, y) = (&a.def, &b.def);
        if x.map_type != y.map_type {
            return Some(format!("type {} against {}", x.map_type, y.map_type));
        }
        let numbers = [
            ("key_size", u64::from(x.key_size), u64::from(y.key_size)),
            ("value_size", u64::from(x.value_size), u64::from(y.value_size)),
            ("max_entries", u64::from(x.max_entries), u64::from(y.max_entries)),
            ("map_flags", u64::from(x.flags.0), u64::from(y.flags.0)),
            ("numa_node", u64::from(x.numa_node), u64::from(y.numa_node)),
            ("map_extra", x.extra, y.extra),
        ];
        if let Some((what, x, y)) = numbers.into_iter().find(|(_, x, y)| x != y) {
            return Some(format!("{what} {x} against {y}"));
        }
        if a.pinning != b.pinning {
            return Some(format!("pinning {:?} against {:?}", a.pinning, b.pinning));
        }
        let sides = [("key", a.key_type, b.key_type), ("value", a.value_type, b.value_type)];
        for (what, x, y) in sides {
            match (x, y) {
                (Some(x), Some(y)) => {
                    let problem = self.mismatch((file, btf, x), (other_file, other_btf, y));
                    if let Some(problem) = problem {
                        return Some(format!("its {what} is {problem}"));
                    }
                }
                (None, None) => {}
                _ => return Some(format!("only one of them says the type of its {what}")),
            }
        }
        match (&a.inner, &b.inner) {
            (Some(x), Some(y)) => self
                .map_mismatch((file, btf, x), (other_file, other_btf, y))
                .map(|problem| format!("inner map: {problem}")),
            (None, None) => None,
            _ => Some("only one of them says what its inner maps look like".to_owned()),
        }
    }
}
