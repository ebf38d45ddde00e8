//! The kernel engine: maps, programs, links and ring buffers of the running Linux, over `bpf(2)`.
//!
//! What a file says arrives as data from `skep-object`; this crate turns it into live kernel
//! objects. Nothing is decided by a version number: what a kernel can is found by doing it
//! ([`probe`]).

mod btf;
pub mod error;
pub mod fuzz;
pub mod inspect;
pub mod leftover;
pub mod link;
mod map;
#[doc(hidden)]
pub mod near;
mod netlink;
mod object;
mod patch;
pub mod perf;
pub mod plan;
pub mod probe;
mod program;
pub mod rights;
pub mod ringbuf;
#[cfg(test)]
mod sweep;
mod sys;
pub mod target;
mod token;
pub mod user_ringbuf;

pub use btf::{Btf, SectionLayout};
pub use error::{
    HereError, LoadError, MapError, Place, SourceLine, StructOpsProblem, TargetError, VerifierLog,
};
pub use link::{AttachError, Link, Target, attach, attach_with};
pub use map::{Keys, Map, MapBtf, Memory};
pub use object::{Device, LoadOptions, Object, StructOps};
pub use program::{FunctionError, Program, ProgramLoad, ProgramTarget};
pub use sys::{
    ENOTSUPP, ProgInfo, SysError, TestRun, TestRunOptions, page_bytes, pidfd, possible_cpus,
};
pub use token::Token;
