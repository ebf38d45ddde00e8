//! The side of programs: what helpers call, and which memory they get.
//!
//! `cpu` is the CPU that the program runs on, as far as this engine has one; keys and values are
//! copies or memory that the caller has checked.

use std::{
    any::Any,
    ops::{ControlFlow, Range},
    ptr::NonNull,
    sync::Arc,
};

use skep_abi::MapFlags;

use super::{Kind, Map, MapError, Span, hash::Values, index};

impl Map {
    /// `bpf_map_lookup_elem` on CPU `cpu`: address of the value, valid while the map lives. `None`
    /// too for maps whose values have no address; inner maps come from [`Map::lookup_map`].
    pub fn lookup_ptr(&self, key: &[u8], cpu: u32) -> Option<NonNull<u8>> {
        match &self.kind {
            Kind::Array(m) => m.lookup_ptr(index(key).ok()?, cpu as usize),
            Kind::Hash(m) => {
                self.check_key(key).ok()?;
                m.lookup_ptr(key, cpu as usize)
            }
            Kind::Lpm(m) => {
                self.check_key(key).ok()?;
                m.lookup_ptr(key)
            }
            Kind::Redirect(m) => {
                self.check_key(key).ok()?;
                m.lookup_ptr(key)
            }
            _ => None,
        }
    }

    /// `bpf_map_update_elem` on CPU `cpu`; `value` is one CPU's.
    ///
    /// # Errors
    ///
    /// As [`Map::update_flags`]; [`MapError::ProgramMayNot`].
    pub fn prog_update(
        &self,
        key: &[u8],
        value: &[u8],
        flags: u64,
        cpu: u32,
    ) -> Result<(), MapError> {
        self.prog_may_write()?;
        self.check_key(key)?;
        self.check_prog_value(value)?;
        match &self.kind {
            Kind::Array(m) => m.prog_update(index(key)?, value, flags, cpu as usize),
            Kind::Hash(m) => m.update(key, Values::Of(cpu as usize, value), flags),
            Kind::Lpm(m) => m.update(key, value, flags),
            _ => Err(self.unsupported("updates by programs", libc::EINVAL)),
        }
    }

    /// `bpf_map_delete_elem`.
    ///
    /// # Errors
    ///
    /// As [`Map::delete`]; [`MapError::ProgramMayNot`].
    pub fn prog_delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.prog_may_write()?;
        self.check_key(key)?;
        self.remove(key)
    }

    pub(super) fn remove(&self, key: &[u8]) -> Result<(), MapError> {
        match &self.kind {
            Kind::Hash(m) => m.delete(key),
            Kind::Lpm(m) => m.delete(key),
            Kind::Maps(m) => m.delete(key),
            Kind::Programs(m) => m.delete(index(key)?),
            Kind::Redirect(m) => m.delete(key),
            Kind::Array(_) | Kind::Queue(_) => Err(self.unsupported("deletion", libc::EINVAL)),
            Kind::Bloom(_) => Err(self.unsupported("deletion", libc::EOPNOTSUPP)),
            Kind::Ring(_) => Err(self.unsupported("deletion", super::ENOTSUPP)),
            Kind::Perf(_) => {
                let (index, max_entries) = (index(key)?, self.def.max_entries);
                let past_end = MapError::Index { index, max_entries };
                Err(if index < max_entries { MapError::NoEntry } else { past_end })
            }
        }
    }

    /// `bpf_map_push_elem`.
    ///
    /// # Errors
    ///
    /// As [`Map::push`]; [`MapError::ProgramMayNot`].
    pub fn prog_push(&self, value: &[u8], flags: u64) -> Result<(), MapError> {
        self.prog_may_write()?;
        self.check_prog_value(value)?;
        match &self.kind {
            Kind::Queue(m) => m.push(value, flags),
            Kind::Bloom(m) => m.push(value, flags),
            _ => Err(self.unsupported("push", libc::EOPNOTSUPP)),
        }
    }

    /// `bpf_map_pop_elem`; `out` is zeroed when there is nothing.
    ///
    /// # Errors
    ///
    /// As [`Map::pop`]; [`MapError::ProgramMayNot`].
    pub fn prog_pop(&self, out: &mut [u8]) -> Result<(), MapError> {
        self.prog_may_write()?;
        self.check_prog_value(out)?;
        match &self.kind {
            Kind::Queue(m) => m.pop(out).inspect_err(|_| out.fill(0)),
            _ => Err(self.unsupported("pop", libc::EOPNOTSUPP)),
        }
    }

    /// `bpf_map_peek_elem`; `out` is zeroed when there is nothing. For a bloom filter `out` is the
    /// value asked for.
    ///
    /// # Errors
    ///
    /// As [`Map::peek`].
    pub fn prog_peek(&self, out: &mut [u8]) -> Result<(), MapError> {
        self.check_prog_value(out)?;
        match &self.kind {
            Kind::Queue(m) => m.peek(out).inspect_err(|_| out.fill(0)),
            Kind::Bloom(m) => m.peek(out),
            _ => Err(self.unsupported("peek", libc::EOPNOTSUPP)),
        }
    }

    /// `bpf_for_each_map_elem`: calls back with each key (a copy) and the address of its value on
    /// CPU `cpu`, until the callback breaks. The callback may update and delete. Returns the number
    /// of calls.
    ///
    /// # Errors
    ///
    /// [`MapError::Unsupported`] for types other than arrays and hashes.
    pub fn for_each(
        &self,
        cpu: u32,
        call: &mut dyn FnMut(&[u8], NonNull<u8>) -> ControlFlow<()>,
    ) -> Result<u64, MapError> {
        match &self.kind {
            Kind::Array(m) => Ok(m.for_each(cpu as usize, call)),
            Kind::Hash(m) => Ok(m.for_each(cpu as usize, call)),
            _ => Err(self.unsupported("for_each", libc::EINVAL)),
        }
    }

    /// The inner map at `key` of a map of maps.
    pub fn lookup_map(&self, key: &[u8]) -> Option<Arc<Self>> {
        match &self.kind {
            Kind::Maps(m) => m.lookup(key),
            _ => None,
        }
    }

    /// Puts `program` at `index` of a prog array, which does not keep it alive.
    ///
    /// # Errors
    ///
    /// [`MapError::Index`]; [`MapError::Unsupported`] for other types.
    pub fn set_program<P: Any + Send + Sync>(
        &self,
        index: u32,
        program: &Arc<P>,
    ) -> Result<(), MapError> {
        match &self.kind {
            Kind::Programs(m) => m.set(index, program),
            _ => Err(self.unsupported("programs", libc::EINVAL)),
        }
    }

    /// The program at `index`, if one was set that still lives and is a `P`.
    pub fn program_at<P: Any + Send + Sync>(&self, index: u32) -> Option<Arc<P>> {
        match &self.kind {
            Kind::Programs(m) => m.get(index),
            _ => None,
        }
    }

    /// `bpf_ringbuf_reserve`: address of `size` bytes for the program to fill, its own until submit
    /// or discard. `None` (and counted) when there is no room; `None` when `flags` is not 0.
    pub fn ring_reserve(&self, size: u64, flags: u64) -> Option<NonNull<u8>> {
        self.ring().ok().filter(|_| flags == 0)?.reserve(size)
    }

    /// `bpf_ringbuf_submit` of the record at `addr`, with `BPF_RB_NO_WAKEUP` or
    /// `BPF_RB_FORCE_WAKEUP`.
    ///
    /// # Errors
    ///
    /// [`MapError::NotReserved`].
    pub fn ring_submit(&self, addr: usize, flags: u64) -> Result<(), MapError> {
        self.ring()?.commit(addr, flags, false)
    }

    /// `bpf_ringbuf_discard` of the record at `addr`.
    ///
    /// # Errors
    ///
    /// [`MapError::NotReserved`].
    pub fn ring_discard(&self, addr: usize, flags: u64) -> Result<(), MapError> {
        self.ring()?.commit(addr, flags, true)
    }

    /// `bpf_ringbuf_output`: one record with a copy of `data`.
    ///
    /// # Errors
    ///
    /// [`MapError::NoRoom`] (counted), [`MapError::Flags`].
    pub fn ring_output(&self, data: &[u8], flags: u64) -> Result<(), MapError> {
        self.ring()?.output(data, flags)
    }

    /// `bpf_ringbuf_query`; 0 for a selector that does not exist.
    pub fn ring_query(&self, selector: u64) -> u64 {
        self.ring().map_or(0, |ring| ring.query(selector))
    }

    /// `bpf_perf_event_output` to the buffer of CPU `cpu`.
    ///
    /// # Errors
    ///
    /// [`MapError::NoReader`] when nobody listens, [`MapError::Index`], [`MapError::NoRoom`]
    /// (counted).
    pub fn perf_output(&self, cpu: u32, data: &[u8]) -> Result<(), MapError> {
        self.perf()?.output(cpu, data)
    }

    /// Addresses of the mapping that holds the values; [`Map::value_span`] answers inside of it.
    /// Empty for maps whose values have no address.
    pub fn addr_range(&self) -> Range<usize> {
        self.kind.storage().map_or(0..0, |s| s.addr()..s.addr() + s.len())
    }

    /// The value, or reserved ring buffer record, that contains this address.
    pub fn value_span(&self, addr: usize) -> Option<Span> {
        let writable = !self.def.flags.contains(MapFlags::RDONLY_PROG);
        match &self.kind {
            Kind::Array(m) => m.value_span(addr, writable),
            Kind::Hash(m) => m.value_span(addr, writable),
            Kind::Lpm(m) => m.value_span(addr, writable),
            Kind::Ring(m) => m.value_span(addr),
            Kind::Redirect(m) => m.value_span(addr),
            Kind::Queue(_) | Kind::Bloom(_) | Kind::Perf(_) | Kind::Programs(_) | Kind::Maps(_) => {
                None
            }
        }
    }

    fn check_prog_value(&self, value: &[u8]) -> Result<(), MapError> {
        let (found, expected) = (value.len(), self.def.value_size as usize);
        if found == expected { Ok(()) } else { Err(MapError::ValueSize { found, expected }) }
    }

    fn prog_may_write(&self) -> Result<(), MapError> {
        let denied = self.def.flags.contains(MapFlags::RDONLY_PROG);
        if denied { Err(MapError::ProgramMayNot { what: "write" }) } else { Ok(()) }
    }
}
