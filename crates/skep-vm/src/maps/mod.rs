//! Maps of the embedded engine, with the kernel's meaning: same results, same error numbers.
//!
//! A [`Map`] has two sides. *User space* sees what `bpf(2)` shows: bytes are copied, per-CPU values
//! come as one run of all CPUs, each rounded up to 8 bytes. *Programs* get addresses of values,
//! which stay valid (though not necessarily theirs: a deleted entry's memory is used again, as in
//! the kernel) for as long as the map lives.
//!
//! All operations may be called from any thread.

mod array;
mod error;
mod hash;
mod lock;
mod pool;
mod rules;
mod storage;

use std::{
    any::Any,
    ops::ControlFlow,
    ptr::NonNull,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
};

use skep_abi::{MapDef, MapFlags, MapType, UpdateMode};

pub use self::error::{ENOTSUPP, MapError};
use self::{
    array::Array,
    hash::{Hash, Values},
};

/// The `flags` of updates.
mod flag {
    /// `BPF_NOEXIST`.
    pub(super) const NOEXIST: u64 = 1;
    /// `BPF_EXIST`.
    pub(super) const EXIST: u64 = 2;
}

/// A piece of memory that a program may access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First address.
    pub start: usize,
    /// Bytes.
    pub len: usize,
    /// May programs write?
    pub writable: bool,
}

/// A live map. Always behind an [`Arc`]: programs keep the maps they use.
#[derive(Debug)]
pub struct Map {
    name: String,
    id: u32,
    def: MapDef,
    inner: Option<MapDef>,
    ncpus: u32,
    frozen: AtomicBool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Array(Array),
    Hash(Hash),
}

/// Number of possible CPUs of this machine: how many values a per-CPU entry has.
pub fn possible_cpus() -> u32 {
    static CPUS: OnceLock<u32> = OnceLock::new();
    *CPUS.get_or_init(|| {
        let list = std::fs::read_to_string("/sys/devices/system/cpu/possible").ok();
        let last = list.as_deref().and_then(|l| l.trim().rsplit([',', '-']).next()?.parse().ok());
        let here = || std::thread::available_parallelism().map_or(1, usize::from);
        last.map_or_else(|| u32::try_from(here()).unwrap_or(1), |n: u32| n.saturating_add(1))
    })
}

/// Making and describing.
impl Map {
    /// A new, empty map for the CPUs of this machine. `inner` is the shape of the inner maps and
    /// needed for maps of maps only.
    ///
    /// # Errors
    ///
    /// [`MapError::Definition`] where the kernel would refuse too, [`MapError::NotInEngine`],
    /// [`MapError::NoMemory`].
    pub fn new(
        name: impl Into<String>,
        def: MapDef,
        inner: Option<MapDef>,
    ) -> Result<Arc<Self>, MapError> {
        Self::with_cpus(name, def, inner, possible_cpus())
    }

    /// As [`Map::new`], with per-CPU values for `ncpus` CPUs.
    ///
    /// # Errors
    ///
    /// As [`Map::new`].
    pub fn with_cpus(
        name: impl Into<String>,
        def: MapDef,
        inner: Option<MapDef>,
        ncpus: u32,
    ) -> Result<Arc<Self>, MapError> {
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        let ncpus = ncpus.max(1);
        let def = rules::check(def, ncpus)?;
        let kind = match def.map_type {
            MapType::ARRAY | MapType::PERCPU_ARRAY => Kind::Array(Array::new(&def, ncpus)?),
            MapType::HASH | MapType::PERCPU_HASH | MapType::LRU_HASH | MapType::LRU_PERCPU_HASH => {
                Kind::Hash(Hash::new(&def, ncpus)?)
            }
            map_type => return Err(MapError::NotInEngine { map_type }),
        };
        let id = NEXT_ID.fetch_add(1, Relaxed);
        let frozen = AtomicBool::new(false);
        Ok(Arc::new(Self { name: name.into(), id, def, inner, ncpus, frozen, kind }))
    }

    /// Name as given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of this map, unique in the process and never 0.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Shape; `max_entries` may have been rounded as the kernel does.
    pub const fn def(&self) -> &MapDef {
        &self.def
    }

    /// Shape of the inner maps.
    pub const fn inner_def(&self) -> Option<&MapDef> {
        self.inner.as_ref()
    }

    /// CPUs that per-CPU entries have values for.
    pub const fn ncpus(&self) -> u32 {
        self.ncpus
    }

    /// Bytes of a value as user space sees it: of all CPUs together for per-CPU maps.
    pub const fn value_bytes(&self) -> usize {
        let one = self.def.value_size as usize;
        if self.def.map_type.is_percpu() { storage::round8(one) * self.ncpus as usize } else { one }
    }

    fn unsupported(&self, operation: &'static str, errno: i32) -> MapError {
        MapError::Unsupported { map_type: self.def.map_type, operation, errno }
    }

    fn key_size(&self, key: &[u8]) -> Result<(), MapError> {
        let expected = self.def.key_size as usize;
        if key.len() == expected {
            Ok(())
        } else {
            Err(MapError::KeySize { found: key.len(), expected })
        }
    }

    fn index(&self, key: &[u8]) -> Result<u32, MapError> {
        let bytes =
            key.try_into().map_err(|_| MapError::KeySize { found: key.len(), expected: 4 })?;
        Ok(u32::from_ne_bytes(bytes))
    }
}

/// The side of user space, as `bpf(2)` shows it.
impl Map {
    /// Copies the value of `key` out; `out` is [`Map::value_bytes`] long.
    ///
    /// # Errors
    ///
    /// [`MapError::NoEntry`]; sizes; rights.
    pub fn lookup(&self, key: &[u8], out: &mut [u8]) -> Result<(), MapError> {
        self.user_may_read()?;
        self.key_size(key)?;
        self.value_size(out.len())?;
        match &self.kind {
            Kind::Array(a) => a.lookup(self.index(key)?, out),
            Kind::Hash(h) => h.lookup(key, out),
        }
    }

    /// As [`Map::lookup`], into a new vector.
    ///
    /// # Errors
    ///
    /// As [`Map::lookup`].
    pub fn lookup_vec(&self, key: &[u8]) -> Result<Vec<u8>, MapError> {
        let mut out = vec![0; self.value_bytes()];
        self.lookup(key, &mut out)?;
        Ok(out)
    }

    /// Creates or replaces the value of `key`.
    ///
    /// # Errors
    ///
    /// [`MapError::Exists`], [`MapError::NoEntry`], [`MapError::Full`], [`MapError::Index`]; sizes;
    /// rights.
    pub fn update(&self, key: &[u8], value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        self.update_flags(key, value, mode.flags())
    }

    /// As [`Map::update`], with the flags as `bpf(2)` takes them.
    ///
    /// # Errors
    ///
    /// As [`Map::update`], and [`MapError::Flags`].
    pub fn update_flags(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        self.user_may_write()?;
        self.key_size(key)?;
        self.value_size(value.len())?;
        match &self.kind {
            Kind::Array(a) => a.update(self.index(key)?, value, flags),
            Kind::Hash(h) => h.update(key, Values::All(value), flags),
        }
    }

    /// Removes `key`.
    ///
    /// # Errors
    ///
    /// [`MapError::NoEntry`]; [`MapError::Unsupported`] for arrays; sizes; rights.
    pub fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.user_may_write()?;
        self.prog_delete_unchecked(key)
    }

    /// The key after `key` in the map's own order; the first one without `key`, and for most types
    /// also when `key` is not there.
    ///
    /// # Errors
    ///
    /// [`MapError::NoEntry`] at the end; sizes; rights.
    pub fn next_key(&self, key: Option<&[u8]>, out: &mut [u8]) -> Result<(), MapError> {
        self.user_may_read()?;
        key.map_or(Ok(()), |k| self.key_size(k))?;
        self.key_size(out)?;
        match &self.kind {
            Kind::Array(a) => {
                let next = a.next_key(key.map(|k| self.index(k)).transpose()?)?;
                out.copy_from_slice(&next.to_ne_bytes());
                Ok(())
            }
            Kind::Hash(h) => h.next_key(key, out),
        }
    }

    /// All keys, in the map's own order. Under concurrent changes a snapshot that is exact for
    /// every entry that was there all the time; at most twice as long as the map may be.
    ///
    /// # Errors
    ///
    /// Where [`Map::next_key`] is not supported or not allowed.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>, MapError> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let limit = (self.def.max_entries as usize).saturating_mul(2);
        while keys.len() < limit {
            let mut next = vec![0; self.def.key_size as usize];
            match self.next_key(keys.last().map(Vec::as_slice), &mut next) {
                Ok(()) => keys.push(next),
                Err(MapError::NoEntry) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(keys)
    }

    /// Copies the value of `key` out and removes it, in one step.
    ///
    /// # Errors
    ///
    /// As [`Map::lookup`] and [`Map::delete`].
    pub fn lookup_and_delete(&self, key: &[u8], out: &mut [u8]) -> Result<(), MapError> {
        self.user_may_read()?;
        self.user_may_write()?;
        self.key_size(key)?;
        self.value_size(out.len())?;
        match &self.kind {
            Kind::Hash(h) => h.lookup_and_delete(key, out),
            Kind::Array(_) => Err(self.unsupported("lookup_and_delete", ENOTSUPP)),
        }
    }

    /// Appends to a queue or stack, adds to a bloom filter.
    ///
    /// # Errors
    ///
    /// [`MapError::Full`] unless `mode` is [`UpdateMode::Exist`], which drops the oldest; sizes;
    /// rights.
    pub fn push(&self, value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        self.update_flags(&[], value, mode.flags())
    }

    /// Takes the next value of a queue or stack.
    ///
    /// # Errors
    ///
    /// [`MapError::NoEntry`] when empty; sizes; rights.
    pub fn pop(&self, out: &mut [u8]) -> Result<(), MapError> {
        self.lookup_and_delete(&[], out)
    }

    /// The next value of a queue or stack without taking it; whether `out` may be in a bloom
    /// filter.
    ///
    /// # Errors
    ///
    /// [`MapError::NoEntry`] when empty; sizes; rights.
    pub fn peek(&self, out: &mut [u8]) -> Result<(), MapError> {
        self.lookup(&[], out)
    }

    /// Takes the right to write away from user space, for ever.
    ///
    /// # Errors
    ///
    /// [`MapError::UserMayNot`] when it had none (as the kernel).
    pub fn freeze(&self) -> Result<(), MapError> {
        self.user_may_write_flags()?;
        self.frozen.store(true, Relaxed);
        Ok(())
    }

    /// Has [`Map::freeze`] been called?
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Relaxed)
    }

    fn value_size(&self, found: usize) -> Result<(), MapError> {
        let expected = self.value_bytes();
        if found == expected { Ok(()) } else { Err(MapError::ValueSize { found, expected }) }
    }

    fn user_may_read(&self) -> Result<(), MapError> {
        if self.def.flags.contains(MapFlags::WRONLY) {
            return Err(MapError::UserMayNot { what: "read" });
        }
        Ok(())
    }

    fn user_may_write(&self) -> Result<(), MapError> {
        if self.is_frozen() {
            return Err(MapError::UserMayNot { what: "write" });
        }
        self.user_may_write_flags()
    }

    fn user_may_write_flags(&self) -> Result<(), MapError> {
        if self.def.flags.contains(MapFlags::RDONLY) {
            return Err(MapError::UserMayNot { what: "write" });
        }
        Ok(())
    }
}

/// The side of programs: what helpers call.
impl Map {
    /// `bpf_map_lookup_elem` on CPU `cpu`: address of the value, valid while the map lives.
    pub fn lookup_ptr(&self, key: &[u8], cpu: u32) -> Option<NonNull<u8>> {
        match &self.kind {
            Kind::Array(a) => a.lookup_ptr(self.index(key).ok()?, cpu as usize),
            Kind::Hash(h) => h.lookup_ptr(key, cpu as usize),
        }
    }

    /// `bpf_map_update_elem` on CPU `cpu`; `value` is one CPU's.
    ///
    /// # Errors
    ///
    /// As [`Map::update_flags`].
    pub fn prog_update(
        &self,
        key: &[u8],
        value: &[u8],
        flags: u64,
        cpu: u32,
    ) -> Result<(), MapError> {
        self.prog_may_write()?;
        self.key_size(key)?;
        let expected = self.def.value_size as usize;
        if value.len() != expected {
            return Err(MapError::ValueSize { found: value.len(), expected });
        }
        match &self.kind {
            Kind::Array(a) => a.prog_update(self.index(key)?, value, flags, cpu as usize),
            Kind::Hash(h) => h.update(key, Values::Of(cpu as usize, value), flags),
        }
    }

    /// `bpf_map_delete_elem`.
    ///
    /// # Errors
    ///
    /// As [`Map::delete`].
    pub fn prog_delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.prog_may_write()?;
        self.prog_delete_unchecked(key)
    }

    fn prog_delete_unchecked(&self, key: &[u8]) -> Result<(), MapError> {
        self.key_size(key)?;
        match &self.kind {
            Kind::Array(_) => Err(self.unsupported("delete", libc::EINVAL)),
            Kind::Hash(h) => h.delete(key),
        }
    }

    /// `bpf_map_push_elem`.
    ///
    /// # Errors
    ///
    /// As [`Map::push`].
    pub fn prog_push(&self, _value: &[u8], _flags: u64) -> Result<(), MapError> {
        Err(self.unsupported("push", libc::EOPNOTSUPP))
    }

    /// `bpf_map_pop_elem`; `out` is zeroed when there is nothing.
    ///
    /// # Errors
    ///
    /// As [`Map::pop`].
    pub fn prog_pop(&self, _out: &mut [u8]) -> Result<(), MapError> {
        Err(self.unsupported("pop", libc::EOPNOTSUPP))
    }

    /// `bpf_map_peek_elem`; `out` is zeroed when there is nothing. For a bloom filter `out` is the
    /// value asked for.
    ///
    /// # Errors
    ///
    /// As [`Map::peek`].
    pub fn prog_peek(&self, _out: &mut [u8]) -> Result<(), MapError> {
        Err(self.unsupported("peek", libc::EOPNOTSUPP))
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
            Kind::Array(a) => Ok(a.for_each(cpu as usize, call)),
            Kind::Hash(h) => Ok(h.for_each(cpu as usize, call)),
        }
    }

    /// Addresses of the mapping that holds the values; [`Map::value_span`] answers inside of it.
    pub fn addr_range(&self) -> std::ops::Range<usize> {
        let storage = match &self.kind {
            Kind::Array(a) => a.storage(),
            Kind::Hash(h) => h.storage(),
        };
        storage.addr()..storage.addr() + storage.len()
    }

    /// The value (or reserved ring buffer record) that contains this address.
    pub fn value_span(&self, addr: usize) -> Option<Span> {
        let writable = !self.def.flags.contains(MapFlags::RDONLY_PROG);
        match &self.kind {
            Kind::Array(a) => a.value_span(addr, writable),
            Kind::Hash(h) => h.value_span(addr, writable),
        }
    }

    fn prog_may_write(&self) -> Result<(), MapError> {
        if self.def.flags.contains(MapFlags::RDONLY_PROG) {
            return Err(MapError::ProgramMayNot { what: "write" });
        }
        Ok(())
    }
}

/// Maps and programs as values.
impl Map {
    /// Puts `inner` at `key` of a map of maps.
    ///
    /// # Errors
    ///
    /// [`MapError::InnerMap`] when its shape differs; as [`Map::update`].
    pub fn update_map(&self, _key: &[u8], _inner: &Arc<Self>) -> Result<(), MapError> {
        Err(self.unsupported("inner maps", libc::EINVAL))
    }

    /// The inner map at `key`.
    pub fn lookup_map(&self, _key: &[u8]) -> Option<Arc<Self>> {
        None
    }

    /// Puts `program` at `index` of a prog array, which does not keep it alive.
    ///
    /// # Errors
    ///
    /// [`MapError::Index`]; [`MapError::Unsupported`] for other types.
    pub fn set_program<P: Any + Send + Sync>(
        &self,
        _index: u32,
        _program: &Arc<P>,
    ) -> Result<(), MapError> {
        Err(self.unsupported("programs", libc::EINVAL))
    }

    /// The program at `index`, if one was set that still lives and is a `P`.
    pub fn program_at<P: Any + Send + Sync>(&self, _index: u32) -> Option<Arc<P>> {
        None
    }
}

/// Ring buffers and perf event arrays.
impl Map {
    /// `bpf_ringbuf_reserve`: address of `size` bytes for the program to fill; the address is not
    /// valid any more after submit or discard. `None` (and counted) when there is no room.
    pub fn ring_reserve(&self, _size: u64, _flags: u64) -> Option<NonNull<u8>> {
        None
    }

    /// `bpf_ringbuf_submit` of the record at `addr`.
    ///
    /// # Errors
    ///
    /// [`MapError::NotReserved`].
    pub fn ring_submit(&self, addr: usize, _flags: u64) -> Result<(), MapError> {
        Err(MapError::NotReserved { addr: addr as u64 })
    }

    /// `bpf_ringbuf_discard` of the record at `addr`.
    ///
    /// # Errors
    ///
    /// [`MapError::NotReserved`].
    pub fn ring_discard(&self, addr: usize, _flags: u64) -> Result<(), MapError> {
        Err(MapError::NotReserved { addr: addr as u64 })
    }

    /// `bpf_ringbuf_output`: one record with a copy of `data`.
    ///
    /// # Errors
    ///
    /// [`MapError::NoRoom`] (counted), [`MapError::Flags`].
    pub fn ring_output(&self, _data: &[u8], _flags: u64) -> Result<(), MapError> {
        Err(self.unsupported("records", libc::EINVAL))
    }

    /// `bpf_ringbuf_query`; 0 for a selector that does not exist.
    pub fn ring_query(&self, _selector: u64) -> u64 {
        0
    }

    /// `bpf_perf_event_output` to the buffer of CPU `cpu`.
    ///
    /// # Errors
    ///
    /// [`MapError::NoReader`] when nobody listens, [`MapError::Index`], [`MapError::Full`] (counted).
    pub fn perf_output(&self, _cpu: u32, _data: &[u8]) -> Result<(), MapError> {
        Err(self.unsupported("events", libc::EINVAL))
    }
}

#[cfg(test)]
mod tests;
