//! One type as C writes it, for messages: `int (*)(struct sock *, unsigned int)`.

use super::declare::{declarator, is_union};
use crate::{Btf, Kind, TypeId};

/// Types that are written in one text; messages are for people.
const MOST_TYPES: u32 = 32;

/// The type as C writes it, structures and enumerations by their names. What is too long or does
/// not end is `...`.
pub fn type_text(btf: &Btf, id: TypeId) -> String {
    let mut left = MOST_TYPES;
    text(btf, id, &mut left).unwrap_or_else(|| "...".to_owned())
}

fn text(btf: &Btf, id: TypeId, left: &mut u32) -> Option<String> {
    *left = left.checked_sub(1)?;
    let (base, rest) = declarator(btf, id, "", &mut |id, _| text(btf, id, left))?;
    let ty = btf.get(base.id)?;
    let name = if ty.name.is_empty() { "<anonymous>" } else { ty.name };
    let word = match ty.kind {
        Kind::Void => "void".to_owned(),
        Kind::Struct(_) | Kind::Union(_) | Kind::Fwd { .. } => {
            format!("{} {name}", if is_union(btf, base.id) { "union" } else { "struct" })
        }
        Kind::Enum(_) | Kind::Enum64(_) => format!("enum {name}"),
        _ => name.to_owned(),
    };
    let gap = if rest.is_empty() { "" } else { " " };
    Some(format!("{}{word}{gap}{rest}", base.qualifiers.prefix()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, Encoding, Param};

    #[test]
    fn types_read_as_in_c() {
        let mut types = Builder::new();
        let int = types.int("int", 4, Encoding::SIGNED);
        let sock = types.structure("sock", 0, &[]);
        let pointer = types.ptr(sock);
        let params = [Param { name: "sk", ty: pointer }, Param { name: "", ty: int }];
        let proto = types.func_proto(int, &params);
        let function = types.ptr(proto);
        let constant = types.constant(sock);
        let array = types.array(crate::Array { element: constant, index: int, len: 3 });
        let btf = Btf::parse(&types.to_bytes()).unwrap();
        for (id, want) in [
            (TypeId::VOID, "void"),
            (int, "int"),
            (pointer, "struct sock *"),
            (function, "int (*)(struct sock *, int)"),
            (array, "const struct sock [3]"),
            (TypeId(99), "..."),
        ] {
            assert_eq!(type_text(&btf, id), want);
        }
    }
}
