//! An access, followed through the types: of the object as the relocation says, of the target as found.

use std::fmt::Write as _;

use super::{Basis, CoreError, CoreKind, error::AccessError};
use crate::{Array, Btf, Kind, KindTag, TypeId};

/// Most numbers in an access.
pub(super) const MAX_LEN: usize = 64;

/// Bytes of an access as text, about: every relocation of a program has such a text, and the names
/// in it can be long in a file that repeats them.
const MAX_TEXT: usize = 400;

/// An access through types of one BTF.
///
/// `raw` has every step, `path` only those that mean something by themselves: indexes into arrays
/// and named members. Anonymous structures in between may differ in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spec {
    pub(super) root: TypeId,
    pub(super) kind: CoreKind,
    pub(super) raw: Vec<u32>,
    pub(super) path: Vec<Step>,
    pub(super) bit_offset: u32,
}

/// One step that means something by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// For a named member the structure, for an index the element, for an enumerator the enumeration.
    pub(super) ty: TypeId,
    /// Which member, element or enumerator.
    pub(super) index: u32,
    /// Is it a member or enumerator?
    pub(super) named: bool,
}

impl Spec {
    /// Nothing accessed yet.
    pub(super) const fn new(root: TypeId, kind: CoreKind) -> Self {
        Self { root, kind, raw: Vec::new(), path: Vec::new(), bit_offset: 0 }
    }

    /// Follows an access string through the object's own types.
    pub(super) fn parse(
        btf: &Btf,
        root: TypeId,
        access: &str,
        kind: CoreKind,
    ) -> Result<Self, CoreError> {
        let bad = |reason| CoreError::BadAccess {
            root: type_text(btf, root),
            access: access.to_owned(),
            reason,
        };
        let mut spec = Self::new(root, kind);
        if kind.basis() == Basis::Type {
            return if access == "0" { Ok(spec) } else { Err(bad(AccessError::NotZero)) };
        }
        spec.raw = numbers(access).map_err(bad)?;
        let mut at = btf.skip_mods(root)?;
        let (&first, inner) = spec.raw.split_first().ok_or_else(|| bad(AccessError::Syntax))?;
        if kind.basis() == Basis::Enumval {
            let count = match btf.get(at).map(|t| t.kind) {
                Some(Kind::Enum(e) | Kind::Enum64(e)) if inner.is_empty() => e.values.len(),
                _ => return Err(bad(AccessError::NotEnumeration)),
            };
            if first as usize >= count {
                let count = count as u64;
                return Err(bad(AccessError::OutOfRange { position: 0, index: first, count }));
            }
            spec.path.push(Step { ty: at, index: first, named: true });
            return Ok(spec);
        }
        spec.path.push(Step { ty: at, index: first, named: false });
        let mut bits = element_bits(btf, at, first)?;
        for (position, &index) in (1..).zip(inner) {
            at = btf.skip_mods(at)?;
            let out_of_range =
                |count| bad(AccessError::OutOfRange { position, index, count: count as u64 });
            match btf.get(at).ok_or(CoreError::NoSuchType(at))?.kind {
                Kind::Struct(c) | Kind::Union(c) => {
                    let member = c.members.get(index as usize);
                    let member = member.ok_or_else(|| out_of_range(c.members.len()))?;
                    bits = bits.checked_add(member.bit_offset).ok_or(CoreError::TooLarge)?;
                    if !member.name.is_empty() {
                        spec.path.push(Step { ty: at, index, named: true });
                    }
                    at = member.ty;
                }
                Kind::Array(array) => {
                    at = btf.skip_mods(array.element)?;
                    if !spec.ends_flexible(btf, array) && index >= array.len {
                        return Err(out_of_range(array.len as usize));
                    }
                    spec.path.push(Step { ty: at, index, named: false });
                    let inside = element_bits(btf, at, index)?;
                    bits = bits.checked_add(inside).ok_or(CoreError::TooLarge)?;
                }
                other => {
                    return Err(bad(AccessError::NotInside { position, kind: other.tag() }));
                }
            }
        }
        spec.bit_offset = bits;
        Ok(spec)
    }

    /// Is this array, reached by the last step, one without a bound: the last member of a structure,
    /// with no elements?
    pub(super) fn ends_flexible(&self, btf: &Btf, array: Array) -> bool {
        let Some(step) = self.path.last().filter(|step| step.named && array.len == 0) else {
            return false;
        };
        match btf.get(step.ty).map(|t| t.kind) {
            Some(Kind::Struct(c) | Kind::Union(c)) => step.index as usize + 1 == c.members.len(),
            _ => false,
        }
    }

    /// In C-like text, with the steps and the offset.
    pub(super) fn text(&self, btf: &Btf) -> String {
        let mut out = type_text(btf, self.root);
        // Writing to a string cannot fail.
        let _infallible = self.write_access(btf, &mut out);
        out
    }

    /// Real accesses are far shorter than [`MAX_TEXT`]; what is longer ends in an ellipsis.
    fn write_access(&self, btf: &Btf, out: &mut String) -> std::fmt::Result {
        match self.kind.basis() {
            Basis::Type => return Ok(()),
            Basis::Enumval => {
                if let Some(value) = self.path.first().and_then(|step| enumerator(btf, *step)) {
                    write!(out, "::{} = {}", short(value.name), value.number())?;
                }
                return Ok(());
            }
            Basis::Field => {}
        }
        for (position, step) in self.path.iter().enumerate() {
            if out.len() > MAX_TEXT {
                out.push_str("...");
                break;
            }
            if step.named {
                write!(out, ".{}", member(btf, *step).map_or("?", |m| short(m.name)))?;
            } else if position > 0 || step.index > 0 {
                write!(out, "[{}]", step.index)?;
            }
        }
        out.push_str(" (");
        for (position, index) in self.raw.iter().enumerate() {
            if out.len() > MAX_TEXT {
                out.push_str("...");
                break;
            }
            write!(out, "{}{index}", if position == 0 { "" } else { ":" })?;
        }
        write!(out, " @ offset {}", self.bit_offset / 8)?;
        match self.bit_offset % 8 {
            0 => write!(out, ")"),
            bits => write!(out, ".{bits})"),
        }
    }
}

/// The numbers of an access string.
fn numbers(access: &str) -> Result<Vec<u32>, AccessError> {
    let mut raw = Vec::new();
    for part in access.split(':') {
        // Digits only: no sign, no blank. Above `i32::MAX` libbpf sees a negative number.
        let number =
            part.parse::<i32>().ok().filter(|_| part.starts_with(|c: char| c.is_ascii_digit()));
        let number = number.and_then(|n| u32::try_from(n).ok()).ok_or(AccessError::Syntax)?;
        if raw.len() == MAX_LEN {
            return Err(AccessError::TooLong);
        }
        raw.push(number);
    }
    Ok(raw)
}

/// Distance of element `index` from the first, in bits.
pub(super) fn element_bits(btf: &Btf, element: TypeId, index: u32) -> Result<u32, CoreError> {
    let size = btf
        .size_of(element)
        .map_err(|source| CoreError::Size { text: type_text(btf, element), source })?;
    let bits = u64::from(size) * u64::from(index);
    bits.checked_mul(8).and_then(|bits| u32::try_from(bits).ok()).ok_or(CoreError::TooLarge)
}

/// The member that a named step selects.
pub(super) fn member(btf: &Btf, step: Step) -> Option<crate::Member<'_>> {
    match btf.get(step.ty)?.kind {
        Kind::Struct(c) | Kind::Union(c) => c.members.get(step.index as usize),
        _ => None,
    }
}

/// The enumerator that a step selects.
pub(super) fn enumerator(btf: &Btf, step: Step) -> Option<crate::Enumerator<'_>> {
    match btf.get(step.ty)?.kind {
        Kind::Enum(e) | Kind::Enum64(e) => e.values.get(step.index as usize),
        _ => None,
    }
}

/// The start of a name that is longer than names are.
fn short(name: &str) -> &str {
    name.char_indices().nth(MAX_TEXT / 2).and_then(|(end, _)| name.get(..end)).unwrap_or(name)
}

/// `struct task_struct`, `u64`, `enum <anonymous>`.
pub(super) fn type_text(btf: &Btf, id: TypeId) -> String {
    let Some(ty) = btf.get(id) else { return format!("type {id}") };
    let name = if ty.name.is_empty() { "<anonymous>" } else { short(ty.name) };
    match ty.kind.tag() {
        KindTag::Void => "void".to_owned(),
        KindTag::Struct => format!("struct {name}"),
        KindTag::Union => format!("union {name}"),
        KindTag::Enum | KindTag::Enum64 => format!("enum {name}"),
        KindTag::Int | KindTag::Float | KindTag::Typedef => name.to_owned(),
        tag => format!("{} {name}", tag.name().to_ascii_lowercase()),
    }
}
