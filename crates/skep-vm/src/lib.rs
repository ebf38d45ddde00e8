//! The embedded engine: interpreter, maps, helpers and hooks in user space.

pub mod maps;
