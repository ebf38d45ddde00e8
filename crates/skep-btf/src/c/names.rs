//! Names that C accepts: identifiers, each once per name space.

use std::collections::HashMap;

use crate::{Btf, KindTag, TypeId};

/// Words that cannot be names: those of C11, and what compilers define themselves, each machine in
/// its own way. `bool` and the like may be.
const KEYWORDS: &[&str] = &[
    "asm",
    "auto",
    "break",
    "case",
    "char",
    "const",
    "continue",
    "default",
    "do",
    "double",
    "else",
    "enum",
    "extern",
    "float",
    "for",
    "goto",
    "if",
    "inline",
    "int",
    "long",
    "register",
    "restrict",
    "return",
    "short",
    "signed",
    "sizeof",
    "static",
    "struct",
    "switch",
    "typedef",
    "typeof",
    "union",
    "unsigned",
    "void",
    "volatile",
    "while",
    "_Alignas",
    "_Alignof",
    "_Atomic",
    "_Bool",
    "_Complex",
    "_Generic",
    "_Imaginary",
    "_Noreturn",
    "_Static_assert",
    "_Thread_local",
    "__builtin_va_list",
];

/// The name as an identifier: other characters become `_`.
pub(super) fn identifier(name: &str) -> String {
    let mut out: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    if KEYWORDS.contains(&out.as_str()) {
        out.push('_');
    }
    out
}

/// Names given so far in one name space.
#[derive(Debug, Default)]
pub(super) struct Space {
    taken: HashMap<String, u32>,
}

impl Space {
    /// The name, with `___2`, `___3` and so on when it is taken.
    pub(super) fn take(&mut self, name: &str) -> String {
        let name = identifier(name);
        let mut count = self.taken.get(&name).copied().unwrap_or(0);
        let mut unique = name.clone();
        // A suffixed name may itself be taken by a type that is called so.
        while count > 0 || self.taken.contains_key(&unique) {
            count = count.max(1) + 1;
            unique = format!("{name}___{count}");
            if !self.taken.contains_key(&unique) {
                break;
            }
        }
        self.taken.insert(unique.clone(), 1);
        self.taken.insert(name, count.max(1));
        unique
    }
}

/// The C name of each named type, given in the order of the types.
#[derive(Debug)]
pub(super) struct Names {
    by_id: HashMap<TypeId, String>,
    /// Typedefs and enumerators share it.
    pub(super) ordinary: Space,
}

impl Names {
    pub(super) fn new(btf: &Btf) -> Self {
        let mut names = Self { by_id: HashMap::new(), ordinary: Space::default() };
        let mut tags = Space::default();
        let mut defined: HashMap<(bool, &str), TypeId> = HashMap::new();
        let mut forwards = Vec::new();
        for id in btf.ids() {
            let Some(name) = btf.name(id).filter(|name| !name.is_empty()) else { continue };
            let tag = btf.kind_tag(id);
            let unique = match tag {
                Some(KindTag::Struct | KindTag::Union) => {
                    defined.entry((tag == Some(KindTag::Union), name)).or_insert(id);
                    tags.take(name)
                }
                Some(KindTag::Enum | KindTag::Enum64) => tags.take(name),
                Some(KindTag::Typedef) => names.ordinary.take(name),
                Some(KindTag::Fwd) => {
                    forwards.push((id, name));
                    continue;
                }
                _ => continue,
            };
            names.by_id.insert(id, unique);
        }
        // A forward declaration is of the type of its name, where that is here.
        for (id, name) in forwards {
            let key = (super::declare::is_union(btf, id), name);
            let unique = match defined.get(&key).and_then(|known| names.by_id.get(known)) {
                Some(known) => known.clone(),
                None => {
                    defined.insert(key, id);
                    tags.take(name)
                }
            };
            names.by_id.insert(id, unique);
        }
        names
    }

    /// The C name of a named structure, union, enumeration, typedef or forward declaration.
    pub(super) fn of(&self, id: TypeId) -> &str {
        self.by_id.get(&id).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers_and_unique() {
        let mut space = Space::default();
        let got: Vec<_> = ["a", "a", "a___2", "a", "core::fmt::Arguments<'_>", "int", "9p"]
            .map(|n| space.take(n))
            .into();
        let want = ["a", "a___2", "a___2___2", "a___3", "core__fmt__Arguments____", "int_", "_9p"];
        assert_eq!(got, want);
    }
}
