//! Declarations: how C writes "x is a pointer to an array of functions".

use crate::{Btf, Kind, TypeId};

/// Pointers, arrays, prototypes and qualifiers inside each other in one declaration.
const MAX_DEPTH: usize = 64;

/// What stands at the left of a declaration: a type with a name, or one to be printed in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) id: TypeId,
    pub(super) qualifiers: Qualifiers,
}

/// `const`, `volatile`, `restrict`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Qualifiers {
    constant: bool,
    volatile: bool,
    restrict: bool,
}

impl Qualifiers {
    /// As they stand before a type; `restrict` is for pointers only.
    pub(super) fn prefix(self) -> String {
        let words = [(self.constant, "const "), (self.volatile, "volatile ")];
        words.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect()
    }

    /// As they stand after a `*`.
    fn suffix(self) -> String {
        let words =
            [(self.constant, " const"), (self.volatile, " volatile"), (self.restrict, " restrict")];
        words.into_iter().filter(|(on, _)| *on).map(|(_, word)| word).collect()
    }
}

/// Splits a declaration of `name` into the type at its left and the declarator at its right.
///
/// `parameter` prints the types of parameters. `None` when the types never end.
pub(super) fn declarator(
    btf: &Btf,
    id: TypeId,
    name: &str,
    parameter: &mut dyn FnMut(TypeId, &str) -> Option<String>,
) -> Option<(Base, String)> {
    let mut at = id;
    let mut text = name.to_owned();
    let mut qualifiers = Qualifiers::default();
    // A `*` binds less than what may follow it.
    let mut after_pointer = false;
    for _ in 0..MAX_DEPTH {
        match btf.get(at)?.kind {
            Kind::Ptr(to) => {
                let suffix = std::mem::take(&mut qualifiers).suffix();
                let gap = if suffix.is_empty() || text.is_empty() { "" } else { " " };
                text = format!("*{}{gap}{text}", suffix.trim_start());
                after_pointer = true;
                at = to;
            }
            Kind::Array(array) => {
                if std::mem::take(&mut after_pointer) {
                    text = format!("({text})");
                }
                text = format!("{text}[{}]", array.len);
                at = array.element;
            }
            Kind::FuncProto(proto) => {
                if std::mem::take(&mut after_pointer) {
                    text = format!("({text})");
                }
                let mut params = Vec::with_capacity(proto.params.len());
                for (position, param) in proto.params.iter().enumerate() {
                    // An unnamed void at the end is how BTF writes `...`.
                    let last = position + 1 == proto.params.len();
                    params.push(if last && param.ty == TypeId::VOID && param.name.is_empty() {
                        "...".to_owned()
                    } else {
                        parameter(param.ty, "")?
                    });
                }
                let params = if params.is_empty() { "void".to_owned() } else { params.join(", ") };
                text = format!("{text}({params})");
                qualifiers = Qualifiers::default();
                at = proto.ret;
            }
            Kind::Const(of) => {
                qualifiers.constant = true;
                at = of;
            }
            Kind::Volatile(of) => {
                qualifiers.volatile = true;
                at = of;
            }
            Kind::Restrict(of) => {
                qualifiers.restrict = true;
                at = of;
            }
            Kind::TypeTag(tag) => at = tag.ty,
            _ => return Some((Base { id: at, qualifiers }, text)),
        }
    }
    None
}

/// The C words for an integer type: its own name where C has it, else one of its size.
pub(super) fn int_words(name: &str, int: crate::Int) -> String {
    let known = |word: &str| {
        matches!(
            word,
            "char" | "short" | "int" | "long" | "signed" | "unsigned" | "_Bool" | "__int128"
        )
    };
    if !name.is_empty() && name.split(' ').all(known) {
        return name.to_owned();
    }
    let words = match int.size {
        1 if int.encoding.is_bool() => return "_Bool".to_owned(),
        1 => "char",
        2 => "short",
        4 => "int",
        8 => "long long",
        _ => "__int128",
    };
    format!("{} {words}", if int.encoding.is_signed() { "signed" } else { "unsigned" })
}

/// The C words for a floating point type.
pub(super) fn float_words(name: &str, size: u32) -> &str {
    match (name, size) {
        ("float" | "double" | "long double" | "_Float16" | "__float128" | "__bf16", _) => name,
        (_, 2) => "_Float16",
        (_, 4) => "float",
        (_, 8) => "double",
        _ => "long double",
    }
}

/// `struct` or `union`, also of a forward declaration.
pub(super) fn is_union(btf: &Btf, id: TypeId) -> bool {
    matches!(btf.get(id).map(|t| t.kind), Some(Kind::Union(_) | Kind::Fwd { union: true }))
}
