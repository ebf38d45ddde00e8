//! ELF objects as clang writes them, to [`ObjectSpec`].
//!
//! Pure: the same bytes give the same spec on every machine. What depends on the running system
//! (CO-RE against a target BTF, externs, kconfig) is resolved later, from
//! data the caller gives.
#![forbid(unsafe_code)]

pub mod spec;

pub use spec::ObjectSpec;
