//! The Linux eBPF interface as tables: program, attach and map types, section names, helper
//! prototypes, context layouts.
//!
//! Numbers are those of `include/uapi/linux/bpf.h`. A number without a name still prints and
//! round-trips: a newer kernel than this table is not an error here.
#![forbid(unsafe_code)]

mod map;

pub use map::{MapDef, MapFlags, MapType, UpdateMode};

/// Kind of a program, `enum bpf_prog_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgType(pub u32);

/// Where a program attaches, `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachType(pub u32);
