//! Arrays: every entry exists from the start, the key is its index.
//!
//! Layout: the value of entry `i` stands at `i * stride`; per-CPU arrays have one value for each
//! CPU in it. A program's look-up is one comparison and one multiplication.

use std::{ops::ControlFlow, ptr::NonNull};

use skep_abi::MapDef;

use super::{
    MapError, Span, flag,
    storage::{Storage, round8},
};

/// Values in index order.
#[derive(Debug)]
pub(super) struct Array {
    storage: Storage,
    max_entries: u32,
    /// Bytes of one value as programs see it.
    value_size: usize,
    /// Bytes from one CPU's value to the next.
    slot: usize,
    /// Values of one entry: CPUs, or 1.
    ncpus: usize,
}

impl Array {
    pub(super) fn new(def: &MapDef, ncpus: u32) -> Result<Self, MapError> {
        let ncpus = if def.map_type.is_percpu() { ncpus as usize } else { 1 };
        let value_size = def.value_size as usize;
        let slot = round8(value_size);
        let len = slot.checked_mul(ncpus).and_then(|n| n.checked_mul(def.max_entries as usize));
        Ok(Self {
            storage: Storage::new(len)?,
            max_entries: def.max_entries,
            value_size,
            slot,
            ncpus,
        })
    }

    pub(super) const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Offset of entry `index`, if there is one.
    fn entry(&self, index: u32) -> Option<usize> {
        (index < self.max_entries).then(|| index as usize * self.slot * self.ncpus)
    }

    fn index(&self, index: u32) -> Result<usize, MapError> {
        self.entry(index).ok_or(MapError::Index { index, max_entries: self.max_entries })
    }

    pub(super) fn lookup_ptr(&self, index: u32, cpu: usize) -> Option<NonNull<u8>> {
        let cpu = if self.ncpus == 1 { 0 } else { cpu };
        if cpu >= self.ncpus {
            return None;
        }
        Some(self.storage.ptr(self.entry(index)? + cpu * self.slot))
    }

    /// Copies out as `bpf(2)` does: each CPU's value in a slot of whole words.
    pub(super) fn lookup(&self, index: u32, out: &mut [u8]) -> Result<(), MapError> {
        let entry = self.entry(index).ok_or(MapError::NoEntry)?;
        for (cpu, out) in out.chunks_mut(self.slot).enumerate().take(self.ncpus) {
            self.storage.load(entry + cpu * self.slot, out);
        }
        Ok(())
    }

    pub(super) fn update(&self, index: u32, value: &[u8], flags: u64) -> Result<(), MapError> {
        let entry = self.check_update(index, flags)?;
        for (cpu, value) in value.chunks(self.slot).enumerate().take(self.ncpus) {
            self.storage.store(entry + cpu * self.slot, value);
        }
        Ok(())
    }

    /// Changes a part of the value, which has only one CPU's.
    pub(super) fn patch(&self, index: u32, offset: usize, bytes: &[u8]) -> Result<(), MapError> {
        let (entry, expected) = (self.index(index)?, self.value_size);
        let end = offset.saturating_add(bytes.len());
        if end > expected {
            return Err(MapError::ValueSize { found: end, expected });
        }
        self.storage.patch(entry + offset, bytes);
        Ok(())
    }

    /// A program's update: its own CPU's value only.
    pub(super) fn prog_update(
        &self,
        index: u32,
        value: &[u8],
        flags: u64,
        cpu: usize,
    ) -> Result<(), MapError> {
        let entry = self.check_update(index, flags)?;
        let cpu = if self.ncpus == 1 { 0 } else { cpu % self.ncpus };
        self.storage.store(entry + cpu * self.slot, value);
        Ok(())
    }

    fn check_update(&self, index: u32, flags: u64) -> Result<usize, MapError> {
        if flags > flag::EXIST {
            return Err(MapError::Flags { flags });
        }
        let entry = self.index(index)?;
        if flags == flag::NOEXIST { Err(MapError::Exists) } else { Ok(entry) }
    }

    pub(super) fn for_each(
        &self,
        cpu: usize,
        call: &mut dyn FnMut(&[u8], NonNull<u8>) -> ControlFlow<()>,
    ) -> u64 {
        let mut calls = 0;
        for index in 0..self.max_entries {
            let Some(value) = self.lookup_ptr(index, cpu) else { break };
            calls += 1;
            if call(&index.to_ne_bytes(), value).is_break() {
                break;
            }
        }
        calls
    }

    pub(super) fn value_span(&self, addr: usize, writable: bool) -> Option<Span> {
        let off = addr.checked_sub(self.storage.addr())?;
        let at = off % self.slot;
        let values = self.max_entries as usize * self.ncpus;
        (off / self.slot < values && at < self.value_size).then(|| Span {
            start: addr - at,
            len: self.value_size,
            writable,
        })
    }
}

/// The kernel's order of an array's keys: a missing key starts over.
pub(super) fn next_index(key: Option<u32>, max_entries: u32) -> Result<u32, MapError> {
    match key {
        Some(last) if last == max_entries - 1 => Err(MapError::NoEntry),
        Some(index) if index < max_entries => Ok(index + 1),
        _ => Ok(0),
    }
}
