//! The embedded engine: interpreter, maps, helpers and hooks in user space.
//!
//! A [`Program`] is lowered once and then run on a [`context::Context`]. Nobody proved it, so it
//! runs checked: every memory access is compared with what the run was granted, calls and repeated
//! code are paid for from a budget, and whatever goes wrong is a [`RunError`] with the instruction
//! and the reason.

#[cfg(not(all(target_pointer_width = "64", target_endian = "little")))]
compile_error!("the embedded engine is for 64-bit little-endian machines");

pub mod context;
mod error;
pub mod fuzz;
pub mod helpers;
pub mod hooks;
mod interp;
pub mod lower;
pub mod maps;
mod mem;
mod object;
mod op;
mod program;
mod run;
mod sys;
mod test_run;

pub use error::{Access, LowerError, LowerReason, Reason, RunError};
pub use object::{LoadError, LoadOptions, Object};
pub use program::{DEFAULT_BUDGET, PrintSink, Program, Settings};
pub use run::{Effects, MAX_CLONES, Redirect, RedirectTarget, RunOutput};
pub use test_run::{TestRun, TestRunError};
