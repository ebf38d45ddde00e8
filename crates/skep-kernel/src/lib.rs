//! The kernel engine: maps, programs, links and ring buffers of the running Linux, over `bpf(2)`.
//!
//! What a file says arrives as data from `skep-object`; this crate turns it into live kernel
//! objects. Nothing is decided by a version number: what a kernel can is found by doing it
//! ([`probe`]).

pub mod error;
mod map;
pub mod probe;
mod program;
mod sys;

pub use error::{LoadError, MapError};
pub use map::{Keys, Map, MapBtf};
pub use program::{Program, ProgramLoad};
pub use sys::{ENOTSUPP, ProgInfo, SysError, TestRun, TestRunOptions, possible_cpus};
