//! Maps of the embedded engine, with the kernel's meaning: same results, same error numbers.
//!
//! A [`Map`] has two sides. *User space* (`user`) sees what `bpf(2)` shows: bytes are copied,
//! per-CPU values come as one run of all CPUs, each rounded up to 8 bytes. *Programs* (`prog`) get
//! addresses of values, which stay valid (though not necessarily theirs: a deleted entry's memory is
//! used again, as in the kernel) for as long as the map lives.
//!
//! All operations may be called from any thread. The bytes of a map stand in one mapping
//! (`storage`) that refers to itself by offsets only; maps of maps and prog arrays, which hold
//! references of this process, are the exception.

mod array;
mod bloom;
mod error;
mod hash;
mod lock;
mod lpm;
mod map_in_map;
mod perf;
mod pool;
mod prog;
mod prog_array;
mod queue;
mod redirect;
mod ring;
mod rules;
mod storage;
mod user;
mod wake;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
};

use skep_abi::{MapDef, MapType};

use self::{
    array::Array, bloom::Bloom, hash::Hash, lpm::Lpm, map_in_map::MapInMap, perf::Perf,
    prog_array::ProgArray, queue::Queue, redirect::Redirect, ring::Ring, storage::Storage,
};
pub use self::{
    error::{ENOTSUPP, MapError},
    perf::{PerfConsumer, PerfEvent},
    ring::RingConsumer,
};

/// The `flags` of updates.
mod flag {
    /// `BPF_NOEXIST`.
    pub(super) const NOEXIST: u64 = 1;
    /// `BPF_EXIST`.
    pub(super) const EXIST: u64 = 2;
    /// `BPF_F_LOCK`.
    pub(super) const LOCK: u64 = 4;
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

/// One variant per implementation, not per type: several types share one.
#[derive(Debug)]
enum Kind {
    Array(Array),
    Hash(Hash),
    Lpm(Lpm),
    Queue(Queue),
    Bloom(Bloom),
    Ring(Ring),
    Perf(Perf),
    Programs(ProgArray),
    Maps(MapInMap),
    Redirect(Redirect),
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

impl Kind {
    fn new(def: &MapDef, inner: Option<MapDef>, ncpus: u32) -> Result<Self, MapError> {
        use MapType as T;
        Ok(match def.map_type {
            T::ARRAY | T::PERCPU_ARRAY => Self::Array(Array::new(def, ncpus)?),
            T::HASH | T::PERCPU_HASH | T::LRU_HASH | T::LRU_PERCPU_HASH => {
                Self::Hash(Hash::new(def, ncpus)?)
            }
            T::LPM_TRIE => Self::Lpm(Lpm::new(def)?),
            T::QUEUE | T::STACK => Self::Queue(Queue::new(def)?),
            T::BLOOM_FILTER => Self::Bloom(Bloom::new(def)?),
            T::RINGBUF => Self::Ring(Ring::new(def)?),
            T::PERF_EVENT_ARRAY => Self::Perf(Perf::new(def.max_entries, ncpus)),
            T::PROG_ARRAY => Self::Programs(ProgArray::new(def.max_entries)),
            T::ARRAY_OF_MAPS | T::HASH_OF_MAPS => Self::Maps(MapInMap::new(def, inner)?),
            T::DEVMAP | T::DEVMAP_HASH | T::CPUMAP | T::XSKMAP => {
                Self::Redirect(Redirect::new(def)?)
            }
            map_type => return Err(MapError::NotInEngine { map_type }),
        })
    }

    const fn storage(&self) -> Option<&Storage> {
        match self {
            Self::Array(m) => Some(m.storage()),
            Self::Hash(m) => Some(m.storage()),
            Self::Lpm(m) => Some(m.storage()),
            Self::Queue(m) => Some(m.storage()),
            Self::Bloom(m) => Some(m.storage()),
            Self::Ring(m) => Some(m.storage()),
            Self::Redirect(m) => Some(m.storage()),
            Self::Perf(_) | Self::Programs(_) | Self::Maps(_) => None,
        }
    }
}

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
        let inner = inner.map(|inner| rules::check(inner, ncpus)).transpose()?;
        let kind = Kind::new(&def, inner, ncpus)?;
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

    fn ring(&self) -> Result<&Ring, MapError> {
        match &self.kind {
            Kind::Ring(ring) => Ok(ring),
            _ => Err(self.unsupported("records", libc::EINVAL)),
        }
    }

    fn perf(&self) -> Result<&Perf, MapError> {
        match &self.kind {
            Kind::Perf(perf) => Ok(perf),
            _ => Err(self.unsupported("samples", libc::EINVAL)),
        }
    }

    fn unsupported(&self, operation: &'static str, errno: i32) -> MapError {
        MapError::Unsupported { map_type: self.def.map_type, operation, errno }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), MapError> {
        let (found, expected) = (key.len(), self.def.key_size as usize);
        if found == expected { Ok(()) } else { Err(MapError::KeySize { found, expected }) }
    }
}

/// The key of an array.
fn index(key: &[u8]) -> Result<u32, MapError> {
    let key = key.try_into().map_err(|_| MapError::KeySize { found: key.len(), expected: 4 })?;
    Ok(u32::from_ne_bytes(key))
}

#[cfg(test)]
mod tests;
