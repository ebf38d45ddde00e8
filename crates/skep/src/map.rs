//! Live maps, on either engine.

use std::{
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::Arc,
};

use skep_abi::{MapDef, MapFlags, MapType, UpdateMode};
use skep_btf::TypeId;

use crate::Plain;

/// Why a map operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The embedded engine refused.
    #[error("map `{map}`")]
    Embedded {
        /// The map.
        map: String,
        /// Why.
        #[source]
        source: skep_vm::maps::MapError,
    },
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] skep_kernel::MapError),
    /// The Rust type has another size than the map's keys or values.
    #[error("map `{map}` has {what} of {want} bytes, the type has {got}")]
    Size {
        /// The map.
        map: String,
        /// "keys" or "values".
        what: &'static str,
        /// Bytes in the map.
        want: usize,
        /// Bytes of the type.
        got: usize,
    },
}

/// A live map. Clones are the same map.
///
/// Bytes in and out are as `bpf(2)` shows them: the value of a per-CPU map is those of all possible
/// CPUs, each rounded up to 8 bytes.
#[derive(Clone, Debug)]
pub struct Map {
    pub(crate) live: Live,
    pub(crate) key_type: Option<TypeId>,
    pub(crate) value_type: Option<TypeId>,
}

#[derive(Clone, Debug)]
pub(crate) enum Live {
    Embedded(Arc<skep_vm::maps::Map>),
    Kernel(Arc<skep_kernel::Map>),
}

/// Runs the same expression on the map of either engine, and names the map in the error.
macro_rules! on_both {
    ($self:ident, $map:ident => $call:expr) => {
        match &$self.live {
            Live::Embedded($map) => $call.map_err(|source| $self.embedded(source)),
            Live::Kernel($map) => Ok($call?),
        }
    };
}

impl Map {
    /// Name in the object file.
    pub fn name(&self) -> &str {
        match &self.live {
            Live::Embedded(m) => m.name(),
            Live::Kernel(m) => m.name(),
        }
    }

    /// The map of the running kernel; `None` on the embedded engine. For what only that has: the
    /// memory of an arena, user ring buffers, one CPU's value, batches, pins.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    ///
    /// use skep::{Engine, Object, kernel::user_ringbuf::UserRing};
    ///
    /// let loaded = Object::open("user_ring.bpf.o")?.load(&Engine::kernel()?)?;
    /// let requests = loaded.map("requests")?.kernel().expect("it is the kernel's");
    /// UserRing::new(Arc::clone(requests))?.send(&7_u64.to_ne_bytes())?;
    /// # Ok(())
    /// # }
    /// ```
    pub const fn kernel(&self) -> Option<&Arc<skep_kernel::Map>> {
        match &self.live {
            Live::Embedded(_) => None,
            Live::Kernel(map) => Some(map),
        }
    }

    /// Shape.
    pub fn def(&self) -> &MapDef {
        match &self.live {
            Live::Embedded(m) => m.def(),
            Live::Kernel(m) => m.def(),
        }
    }

    /// Type of the keys in the object's BTF.
    pub const fn key_type(&self) -> Option<TypeId> {
        self.key_type
    }

    /// Type of the values in the object's BTF.
    pub const fn value_type(&self) -> Option<TypeId> {
        self.value_type
    }

    /// Bytes of a value as this side sees it.
    pub fn value_bytes(&self) -> usize {
        match &self.live {
            Live::Embedded(m) => m.value_bytes(),
            Live::Kernel(m) => m.value_bytes(),
        }
    }

    /// The value of `key`; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// [`MapError`] when sizes differ or the engine refuses.
    pub fn get<K: Plain, V: Plain>(&self, key: &K) -> Result<Option<V>, MapError> {
        let size = self.def().value_size as usize;
        if V::SIZE != size {
            return Err(self.size_error("values", size, V::SIZE));
        }
        Ok(self.lookup(&key.to_bytes())?.as_deref().and_then(|v| V::from_bytes(v.get(..size)?)))
    }

    /// The value of `key` on each possible CPU; empty when it is not there.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn get_per_cpu<K: Plain, V: Plain>(&self, key: &K) -> Result<Vec<V>, MapError> {
        let size = self.def().value_size as usize;
        if V::SIZE != size {
            return Err(self.size_error("values", size, V::SIZE));
        }
        let value = self.lookup(&key.to_bytes())?.unwrap_or_default();
        Ok(self.split_cpus(&value).filter_map(V::from_bytes).collect())
    }

    /// Stores a value, creating the entry if need be.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn set<K: Plain, V: Plain>(&self, key: &K, value: &V) -> Result<(), MapError> {
        self.update(&key.to_bytes(), &value.to_bytes(), UpdateMode::Any)
    }

    /// What a storage map keeps beside `owner`: a socket, a file (for its inode), a pidfd
    /// ([`kernel::pidfd`](skep_kernel::pidfd), for its task) or the directory of a cgroup, as the
    /// map's type says. `None` when it has nothing.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn get_of<V: Plain>(&self, owner: BorrowedFd<'_>) -> Result<Option<V>, MapError> {
        self.get(&owner.as_raw_fd())
    }

    /// Stores what a storage map keeps beside `owner`.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn set_of<V: Plain>(&self, owner: BorrowedFd<'_>, value: &V) -> Result<(), MapError> {
        self.set(&owner.as_raw_fd(), value)
    }

    /// The bytes of the value of `key`; `None` when it is not there.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        match &self.live {
            Live::Embedded(m) => match m.lookup_vec(key) {
                Ok(value) => Ok(Some(value)),
                Err(skep_vm::maps::MapError::NoEntry) => Ok(None),
                Err(source) => Err(self.embedded(source)),
            },
            Live::Kernel(m) => Ok(m.lookup_vec(key)?),
        }
    }

    /// Stores bytes.
    ///
    /// # Errors
    ///
    /// As [`Map::get`]; and as `mode` asks.
    pub fn update(&self, key: &[u8], value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        on_both!(self, m => m.update(key, value, mode))
    }

    /// Changes the bytes at `offset` of the first value of an array. What programs change beside
    /// them meanwhile stays; 1, 2, 4 or 8 bytes at a multiple of their number change at once.
    ///
    /// In the kernel this takes an array that can be mapped: sections with variables of the object
    /// alone (`static`) are written as a whole.
    pub(crate) fn update_part(&self, offset: usize, bytes: &[u8]) -> Result<(), MapError> {
        let (want, got) = (self.def().value_size as usize, offset.saturating_add(bytes.len()));
        if got > want {
            return Err(self.size_error("values", want, got));
        }
        match &self.live {
            Live::Embedded(m) => {
                m.update_part(0, offset, bytes).map_err(|source| self.embedded(source))
            }
            Live::Kernel(m) if self.def().flags.contains(MapFlags::MMAPABLE) => {
                let inside = m.memory()?.write(offset, bytes);
                if inside { Ok(()) } else { Err(self.size_error("values", want, got)) }
            }
            Live::Kernel(m) => {
                let key = 0_u32.to_ne_bytes();
                let mut whole = m.lookup_vec(&key)?.unwrap_or_default();
                if let Some(place) = whole.get_mut(offset..got) {
                    place.copy_from_slice(bytes);
                }
                Ok(m.update(&key, &whole, UpdateMode::Any)?)
            }
        }
    }

    /// Removes an entry.
    ///
    /// # Errors
    ///
    /// As [`Map::get`]; and when there is none.
    pub fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        on_both!(self, m => m.delete(key))
    }

    /// All keys, in the map's own order.
    ///
    /// # Errors
    ///
    /// As [`Map::get`]; queues, stacks, bloom filters, ring buffers have no keys.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>, MapError> {
        match &self.live {
            Live::Embedded(m) => m.keys().map_err(|source| self.embedded(source)),
            Live::Kernel(m) => Ok(m.keys().collect::<Result<_, _>>()?),
        }
    }

    /// All entries, sorted by the bytes of their keys. Their types, where the object says them,
    /// decode both sides.
    ///
    /// ```
    /// use skep::{Engine, Object, btf::value};
    ///
    /// # const BYTES: &[u8] = include_bytes!("../../../examples/classify.bpf.o");
    /// let loaded = Object::parse("classify.bpf.o", BYTES)?.load(&Engine::embedded())?;
    /// loaded.program("classify")?.run_on_frame(&[0; 60])?;
    /// let map = loaded.map("protocols")?;
    /// let btf = loaded.spec().btf.as_ref().expect("it was built with -g");
    /// let (key, value) = (map.key_type().expect("typed"), map.value_type().expect("typed"));
    /// for (k, v) in map.entries()? {
    ///     println!("{:?} {:?}", value::decode(btf, key, &k)?, value::decode(btf, value, &v)?);
    /// }
    /// # assert_eq!(map.entries()?.len(), 17);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// An entry that goes away meanwhile is left
    /// out.
    ///
    /// # Errors
    ///
    /// As [`Map::keys`].
    pub fn entries(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, MapError> {
        let mut entries = match &self.live {
            Live::Embedded(_) => {
                let mut entries = Vec::new();
                for key in self.keys()? {
                    if let Some(value) = self.lookup(&key)? {
                        entries.push((key, value));
                    }
                }
                entries
            }
            Live::Kernel(m) => m.entries()?,
        };
        entries.sort();
        Ok(entries)
    }

    /// A value of a per-CPU map, one piece per possible CPU; of another map, the value.
    pub fn split_cpus<'a>(&self, value: &'a [u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let size = self.def().value_size as usize;
        let stride = if self.def().map_type.is_percpu() { size.next_multiple_of(8) } else { size };
        value.chunks(stride.max(1)).filter_map(move |chunk| chunk.get(..size))
    }

    /// Appends to a queue or stack, adds to a bloom filter.
    ///
    /// # Errors
    ///
    /// As [`Map::get`]; and when it is full.
    pub fn push(&self, value: &[u8]) -> Result<(), MapError> {
        on_both!(self, m => m.push(value, UpdateMode::Any))
    }

    /// Takes the next value of a queue or stack; `None` when it is empty.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn pop(&self) -> Result<Option<Vec<u8>>, MapError> {
        let mut out = vec![0; self.value_bytes()];
        match &self.live {
            Live::Embedded(m) => match m.pop(&mut out) {
                Ok(()) => Ok(Some(out)),
                Err(skep_vm::maps::MapError::NoEntry) => Ok(None),
                Err(source) => Err(self.embedded(source)),
            },
            Live::Kernel(m) => Ok(m.pop()?),
        }
    }

    /// Is this a map that programs write events to?
    pub fn is_event_buffer(&self) -> bool {
        matches!(self.def().map_type, MapType::RINGBUF | MapType::PERF_EVENT_ARRAY)
    }

    /// The inner map that a map of maps holds at `key`. It is there to be read: it has no types.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn inner(&self, key: &[u8]) -> Result<Option<Self>, MapError> {
        let live = match &self.live {
            Live::Embedded(m) => m.lookup_map(key).map(Live::Embedded),
            Live::Kernel(m) => m.inner_map(key)?.map(|m| Live::Kernel(Arc::new(m))),
        };
        Ok(live.map(|live| Self { live, key_type: None, value_type: None }))
    }

    /// Are both the same live map?
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.live, &other.live) {
            (Live::Embedded(a), Live::Embedded(b)) => Arc::ptr_eq(a, b),
            (Live::Kernel(a), Live::Kernel(b)) => {
                a.id().ok().is_some_and(|id| b.id().ok() == Some(id))
            }
            _ => false,
        }
    }

    fn embedded(&self, source: skep_vm::maps::MapError) -> MapError {
        MapError::Embedded { map: self.name().into(), source }
    }

    fn size_error(&self, what: &'static str, want: usize, got: usize) -> MapError {
        MapError::Size { map: self.name().into(), what, want, got }
    }
}
