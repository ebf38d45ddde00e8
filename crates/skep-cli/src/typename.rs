//! Short C names of types, for tables: `struct counter`, `char[16]`, `struct task_struct *`.

use skep::btf::{Btf, Kind, TypeId};

/// How deep a chain of pointers and arrays is followed; BTF may be cyclic.
const DEPTH: usize = 16;

/// The C name of a type; `struct {…}` when it has none, `?` when there is no such type.
pub fn type_name(btf: &Btf, id: TypeId) -> String {
    name_to(btf, id, DEPTH)
}

fn name_to(btf: &Btf, id: TypeId, depth: usize) -> String {
    let Some(depth) = depth.checked_sub(1) else { return "…".into() };
    let Some(ty) = btf.get(id) else { return "?".into() };
    let or_braces = |keyword: &str| match ty.name {
        "" => format!("{keyword} {{…}}"),
        name => format!("{keyword} {name}"),
    };
    match ty.kind {
        Kind::Void => "void".into(),
        Kind::Ptr(to) if is_function(btf, to) => "function *".into(),
        Kind::Ptr(to) => {
            let name = name_to(btf, to, depth);
            if name.ends_with('*') { format!("{name}*") } else { format!("{name} *") }
        }
        Kind::Array(array) => {
            // The dimensions of `int a[2][3]` read from the outside in.
            let name = name_to(btf, array.element, depth);
            let at = name.find('[').unwrap_or(name.len());
            let (element, rest) = name.split_at(at);
            format!("{element}[{}]{rest}", array.len)
        }
        Kind::Struct(_) => or_braces("struct"),
        Kind::Union(_) => or_braces("union"),
        Kind::Fwd { union } => or_braces(if union { "union" } else { "struct" }),
        Kind::Enum(_) | Kind::Enum64(_) => or_braces("enum"),
        Kind::Volatile(to) => format!("volatile {}", name_to(btf, to, depth)),
        Kind::Const(to) => format!("const {}", name_to(btf, to, depth)),
        Kind::Restrict(to) => name_to(btf, to, depth),
        Kind::TypeTag(tag) => name_to(btf, tag.ty, depth),
        Kind::Var(var) => name_to(btf, var.ty, depth),
        _ if ty.name.is_empty() => ty.kind.tag().name().to_lowercase(),
        _ => ty.name.into(),
    }
}

fn is_function(btf: &Btf, id: TypeId) -> bool {
    matches!(btf.get(id).map(|t| t.kind), Some(Kind::FuncProto(_)))
}

#[cfg(test)]
mod tests {
    use skep::btf::{Builder, Encoding};

    use super::*;

    #[test]
    fn a_pointer_that_points_to_itself_has_a_name() {
        let mut types = Builder::new();
        let int = types.int("int", 4, Encoding::SIGNED);
        let btf = Btf::parse(&types.to_bytes()).unwrap();
        assert_eq!(type_name(&btf, int), "int");
        assert_eq!(type_name(&btf, TypeId(0)), "void");
        assert_eq!(type_name(&btf, TypeId(99)), "?");
    }
}
