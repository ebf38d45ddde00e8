//! BTF and BTF.ext: parse, write, print as C, match for CO-RE.
#![forbid(unsafe_code)]

/// Number of a type within its BTF; 0 is `void`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

/// Parsed BTF. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Btf {}
