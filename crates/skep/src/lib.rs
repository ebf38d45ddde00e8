//! Load and run eBPF objects on the Linux kernel or in user space.
#![forbid(unsafe_code)]

pub mod bare;
mod blame;
mod engine;
mod events;
mod link;
mod loaded;
mod map;
mod near;
mod object;
pub mod packets;
mod plain;
mod program;
mod target;
pub mod verdict;

pub use blame::Blame;
pub use engine::{Engine, EngineError, Features};
pub use events::{Events, Record};
pub use link::{Attach, AttachError, Direction, Link, XdpMode, ifindex};
pub use loaded::{LoadError, Loaded, VariableError};
pub use map::{Map, MapError};
pub use object::{ChangeError, NoSuch, Object, OpenError, PrintSink};
pub use plain::Plain;
pub use program::{Program, RunError, TestInput, TestRun};
pub use skep_abi as abi;
pub use skep_btf as btf;
pub use skep_isa as isa;
pub use skep_object as spec;
pub use target::TargetError;
