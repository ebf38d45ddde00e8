//! ELF objects as clang writes them, to [`ObjectSpec`].
//!
//! Pure: the same bytes give the same spec on every machine. What depends on the running system
//! (CO-RE against a target BTF, externs, kconfig) is resolved later, from
//! data the caller gives.
#![forbid(unsafe_code)]

mod datasec;
mod elf;
mod error;
mod externs;
mod functions;
pub mod fuzz;
mod info;
pub mod link;
mod maps;
mod needs;
mod parse;
mod programs;
mod reference;
pub mod resolve;
pub mod spec;
pub mod write;

pub use error::{MapProblem, ObjectError, RelocProblem};
pub use link::{LinkError, link};
pub use needs::Needs;
pub use resolve::{ResolveError, Resolved, Symbols, Target, resolve};
pub use spec::ObjectSpec;
