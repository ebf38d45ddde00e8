//! The Linux eBPF interface as tables: program, attach and map types, section names, helper
//! prototypes, context layouts.
//!
//! Numbers are those of `include/uapi/linux/bpf.h`. A number without a name still prints and
//! round-trips: a newer kernel than this table is not an error here.
#![forbid(unsafe_code)]

pub mod context;
pub mod helper;
mod map;
mod map_rules;
mod prog;
pub mod section;

pub use map::{MapDef, MapFlags, MapType, UpdateMode};
pub use map_rules::{BrokenRule, Expected, MapNeeds, MapRule, Size};
pub use prog::{AttachType, LinkType, ProgType, Release};
