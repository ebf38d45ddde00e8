//! Contexts that are plain memory.

use std::sync::Arc;

use super::Entry;
use crate::mem::{Area, Name, Space, Span};

/// Memory that a program gets as its context.
#[derive(Debug)]
pub struct Plain {
    area: Arc<Area>,
    len: usize,
    writable: bool,
    name: Name,
    pass_length: bool,
}

impl Plain {
    fn new(bytes: &[u8], writable: bool, name: Name) -> Self {
        let area = Area::new(bytes.len());
        let fits = area.write(0, bytes);
        debug_assert!(fits, "the area has this length");
        let len = bytes.len();
        Self { area: Arc::new(area), len, writable, name, pass_length: false }
    }

    /// The arguments of a raw tracepoint (`struct bpf_raw_tracepoint_args`), also of fentry and
    /// BTF tracepoint programs.
    pub fn raw_tracepoint(args: &[u64]) -> Self {
        let bytes: Vec<u8> = args.iter().flat_map(|a| a.to_le_bytes()).collect();
        Self::new(&bytes, false, "the tracepoint's arguments")
    }

    /// A tracepoint's record, as its format file describes it.
    pub fn tracepoint(record: &[u8]) -> Self {
        Self::new(record, false, "the tracepoint's record")
    }

    /// The context of a syscall program.
    pub fn syscall(ctx: &[u8]) -> Self {
        Self::new(ctx, true, "the context")
    }

    /// Bare memory: address in `r1`, length in `r2`, both 0 when there is none.
    pub fn memory(bytes: &[u8]) -> Self {
        Self { pass_length: true, ..Self::new(bytes, true, "the memory") }
    }

    /// The bytes as they are now.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; self.len];
        let whole = self.area.read(0, &mut out);
        debug_assert!(whole, "the area has this length");
        out
    }

    pub(super) fn entry(&self, space: &mut Space) -> Entry {
        space.grant_area(&self.area, self.len, self.writable, self.name);
        let addr = if self.pass_length && self.len == 0 { 0 } else { self.area.addr() };
        Entry { addr, span: Span::default(), layout: None }
    }

    pub(super) fn second_argument(&self) -> u64 {
        if self.pass_length { self.len as u64 } else { 0 }
    }
}
