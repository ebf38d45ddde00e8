//! Load and run eBPF objects on the Linux kernel or in user space.
//!
//! An [`Object`] is what a file says, and can still be changed; [`Object::load`] makes it live on an
//! [`Engine`]: in the running kernel, or in this process without any rights. What comes back is
//! [`Loaded`]: programs, maps, variables, events, the same on both. Only [`Engine::features`] tells
//! which one it is.
//!
//! Packets through an XDP program, in a test, without root:
//!
//! ```
//! use skep::{Engine, Object, verdict};
//!
//! # const BYTES: &[u8] = include_bytes!("../../../examples/classify.bpf.o");
//! let mut object = Object::parse("classify.bpf.o", BYTES)?; // or Object::open(path)
//! object.set_variable("drop_udp_port", 53u16)?;
//! let loaded = object.load(&Engine::embedded())?;
//!
//! let program = loaded.program("classify")?;
//! let run = program.run_on_frame(&[0; 60])?;
//! assert_eq!(verdict::name(program.prog_type(), run.retval), "XDP_PASS");
//! assert_eq!(loaded.variable::<u64>("dropped")?, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Events of the whole system, as root; dropping the links detaches:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use skep::{Attach, Engine, Object};
//!
//! let loaded = Object::open("examples/execsnoop.bpf.o")?.load(&Engine::kernel()?)?;
//! let mut links = Vec::new();
//! for program in loaded.programs() {
//!     links.push(program.attach(Attach::Section)?);
//! }
//! let mut events = loaded.map("events")?.events()?;
//! for record in events.poll(Duration::from_secs(1)) {
//!     println!("{} bytes", record.data.len());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod bare;
mod blame;
mod engine;
mod events;
mod link;
mod loaded;
mod map;
mod object;
mod on_program;
pub mod packets;
mod place;
mod plain;
mod program;
mod struct_ops;
mod target;
pub mod verdict;

pub use blame::Blame;
pub use engine::{Engine, EngineError, Features};
pub use events::{Events, Record};
pub use link::{Attach, AttachError, Direction, Link, Target, XdpMode, ifindex};
pub use loaded::{LoadError, Loaded, VariableError};
pub use map::{Map, MapError};
pub use object::{ChangeError, NoSuch, Object, OpenError, PrintSink};
pub use on_program::{TargetProgram, TargetProgramError};
pub use plain::Plain;
pub use program::{Program, RunError, TestInput, TestRun};
pub use skep_abi as abi;
pub use skep_btf as btf;
pub use skep_isa as isa;
pub use skep_kernel as kernel;
pub use skep_kernel::plan;
pub use skep_object as spec;
pub use struct_ops::StructOps;
pub use target::TargetError;
