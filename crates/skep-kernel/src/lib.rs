//! The kernel engine: `bpf(2)`, links, ring buffers.
