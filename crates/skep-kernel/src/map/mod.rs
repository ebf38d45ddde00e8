//! A live kernel map.

mod memory;
mod owned;
mod percpu;
mod redirect;
mod walk;

use std::{
    fmt,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex},
};

use skep_abi::{MapDef, MapFlags, MapNeeds, MapRule, MapType, UpdateMode};

use crate::{
    error::MapError,
    sys::{self, KernelValue, MapFd, Mapping, SysError},
};

pub use self::{memory::Memory, walk::Keys};

/// A kernel map. Dropping it closes the descriptor; the map itself lives on while a program, a
/// pin or another map holds it.
///
/// Values are as the system call sees them: of a per-CPU map all CPUs' values one after the other,
/// each rounded up to 8 bytes ([`Map::value_bytes`]).
pub struct Map {
    fd: MapFd,
    name: String,
    def: MapDef,
    /// Where an arena is in this process, once it is.
    arena: Mutex<Option<Arc<Mapping>>>,
}

/// How a map is made, where that is not as for others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Making<'a> {
    /// The interface whose hardware it lies in; 0 for none.
    pub(crate) ifindex: u32,
    /// The rights it is made by; `None` for those of the process.
    pub(crate) token: Option<BorrowedFd<'a>>,
}

/// BTF for a map: the descriptor and the ids of its key and value types.
#[derive(Clone, Copy, Debug)]
pub struct MapBtf<'a> {
    /// Loaded BTF.
    pub btf: BorrowedFd<'a>,
    /// Type of the key; 0 for none.
    pub key: u32,
    /// Type of the value; 0 for none.
    pub value: u32,
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Map");
        out.field("name", &self.name).field("def", &self.def).finish_non_exhaustive()
    }
}

/// Map types whose keys and values have no BTF in the kernel.
const WITHOUT_BTF: &[MapType] = &[
    MapType::PERF_EVENT_ARRAY,
    MapType::CGROUP_ARRAY,
    MapType::STACK_TRACE,
    MapType::ARRAY_OF_MAPS,
    MapType::HASH_OF_MAPS,
    MapType::DEVMAP,
    MapType::DEVMAP_HASH,
    MapType::CPUMAP,
    MapType::XSKMAP,
    MapType::SOCKMAP,
    MapType::SOCKHASH,
    MapType::QUEUE,
    MapType::STACK,
    MapType::ARENA,
    MapType::RINGBUF,
    MapType::USER_RINGBUF,
    MapType::PROG_ARRAY,
    MapType::BLOOM_FILTER,
];

impl Map {
    /// Makes a map. `inner` is the template of a map-in-map.
    ///
    /// What depends on the machine is filled in: a perf event array of 0 entries gets one per
    /// possible CPU, a ring buffer's size becomes a power of two of whole pages. A kernel that
    /// refuses the BTF gets the map without it, unless it is one of those that have to have it
    /// ([`MapNeeds::Types`]). An arena is mapped into this process, at the address of its
    /// definition or, where that names none, at one that the kernel chooses: programs that use it
    /// can be loaded then.
    ///
    /// # Errors
    ///
    /// The kernel's, with the map's name.
    #[doc(alias = "BPF_MAP_CREATE")]
    pub fn create(
        name: &str,
        def: MapDef,
        inner: Option<&Self>,
        btf: Option<MapBtf<'_>>,
    ) -> Result<Self, MapError> {
        Self::create_on(name, def, inner, btf, Making::default())
    }

    /// As [`Map::create`], with what only few maps need.
    pub(crate) fn create_on(
        name: &str,
        def: MapDef,
        inner: Option<&Self>,
        btf: Option<MapBtf<'_>>,
        making: Making<'_>,
    ) -> Result<Self, MapError> {
        let fail = |source| MapError { map: name.to_owned(), source };
        let def = adjust(def).map_err(fail)?;
        let btf = btf
            .filter(|b| b.value != 0 && !WITHOUT_BTF.contains(&def.map_type))
            .map(|b| (b.btf, b.key, b.value));
        let inner = inner.map(Self::as_fd);
        let Making { ifindex, token } = making;
        let kernel_value = None;
        let mut new = sys::MapCreate { name, def, inner, btf, kernel_value, token, ifindex };
        let fd = match MapFd::create(&new) {
            Err(e) if refused_types(&e, &new) => {
                new.btf = None;
                MapFd::create(&new)
            }
            other => other,
        };
        let fd = fd.map_err(fail)?;
        let map = Self { fd, name: name.to_owned(), def, arena: Mutex::default() };
        if def.map_type == MapType::ARENA {
            map.map_arena().map_err(fail)?;
        }
        Ok(map)
    }

    /// Makes a map of `struct_ops`, whose value is of a type of the kernel. `btf` is the object's.
    ///
    /// # Errors
    ///
    /// As for [`Map::create`].
    pub(crate) fn create_struct_ops(
        name: &str,
        def: MapDef,
        btf: BorrowedFd<'_>,
        value: KernelValue<'_>,
        token: Option<BorrowedFd<'_>>,
    ) -> Result<Self, MapError> {
        let (btf, kernel_value) = (Some((btf, 0, 0)), Some(value));
        let new = sys::MapCreate { name, def, inner: None, btf, kernel_value, token, ifindex: 0 };
        let fail = |source| MapError { map: name.to_owned(), source };
        let fd = MapFd::create(&new).map_err(fail)?;
        Ok(Self { fd, name: name.to_owned(), def, arena: Mutex::default() })
    }

    /// Opens a pinned map.
    ///
    /// # Errors
    ///
    /// `ENOENT` when nothing is pinned there; `EINVAL` when it is not a map.
    #[doc(alias = "BPF_OBJ_GET")]
    pub fn open_pinned(path: &Path) -> Result<Self, MapError> {
        let fail = |source| MapError { map: path.display().to_string(), source };
        Self::adopt(sys::obj_get(path).map_err(fail)?).map_err(fail)
    }

    /// Takes over a descriptor of a map.
    pub(crate) fn adopt(fd: OwnedFd) -> Result<Self, SysError> {
        let (fd, info) = MapFd::adopt(fd)?;
        let def = MapDef {
            map_type: MapType(info.map_type),
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
            flags: MapFlags(info.map_flags),
            extra: info.map_extra,
            numa_node: 0,
        };
        Ok(Self { fd, name: info.name(), def, arena: Mutex::default() })
    }

    /// Pins the map at a path of a bpf file system.
    ///
    /// # Errors
    ///
    /// `EEXIST`, `EPERM` (not bpffs), `ENOENT` (no such directory).
    #[doc(alias = "BPF_OBJ_PIN")]
    pub fn pin(&self, path: &Path) -> Result<(), MapError> {
        sys::obj_pin(self.as_fd(), path).map_err(|e| self.fail(e))
    }

    /// Under the name the object uses; the kernel keeps 15 bytes of it.
    pub(crate) fn renamed(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The map's name, as the object or the kernel gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Shape, with what creation filled in.
    pub fn def(&self) -> &MapDef {
        &self.def
    }

    /// The kernel's id of this map.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn id(&self) -> Result<u32, MapError> {
        self.fd.info().map(|info| info.id).map_err(|e| self.fail(e))
    }

    /// Length of a value as the system call sees it.
    pub fn value_bytes(&self) -> usize {
        self.fd.value_bytes()
    }

    /// Copies the value of `key` into `value`, which is [`Map::value_bytes`] long.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is none; `EINVAL` when a length is wrong; `ENOTSUPP` or `EOPNOTSUPP`
    /// when this type has no look-up.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<(), MapError> {
        self.fd.lookup(key, value, 0).map_err(|e| self.fail(e))
    }

    /// The value of `key`; `None` when there is none.
    ///
    /// # Errors
    ///
    /// As for [`Map::lookup`].
    pub fn lookup_vec(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        let mut value = vec![0; self.value_bytes()];
        self.found(self.fd.lookup(key, &mut value, 0)).map(|found| found.then_some(value))
    }

    /// Stores an entry.
    ///
    /// # Errors
    ///
    /// `E2BIG` when full, `EEXIST`, `ENOENT` by `mode`, `EPERM` when frozen.
    pub fn update(&self, key: &[u8], value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        self.fd.update(key, value, flags(mode)).map_err(|e| self.fail(e))
    }

    /// Removes an entry.
    ///
    /// # Errors
    ///
    /// `ENOENT` when there is none; `EINVAL` in arrays.
    pub fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.fd.delete(key).map_err(|e| self.fail(e))
    }

    /// Copies the key behind `key` into `next`; false at the end. `None` gives the first key, and
    /// so does a key that is not in a hash.
    ///
    /// # Errors
    ///
    /// The kernel's, except `ENOENT`.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<bool, MapError> {
        self.found(self.fd.next_key(key, next))
    }

    /// Takes an entry out; `None` when there is none.
    ///
    /// # Errors
    ///
    /// `ENOTSUPP` where the type, or before Linux 5.14 a hash, has no such operation.
    #[doc(alias = "BPF_MAP_LOOKUP_AND_DELETE_ELEM")]
    pub fn lookup_and_delete(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        let mut value = vec![0; self.value_bytes()];
        self.found(self.fd.lookup_delete(key, &mut value)).map(|found| found.then_some(value))
    }

    /// Adds a value to a queue, stack or bloom filter.
    ///
    /// # Errors
    ///
    /// `E2BIG` when full.
    pub fn push(&self, value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        self.update(&[], value, mode)
    }

    /// Takes the next value of a queue or stack; `None` when empty.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn pop(&self) -> Result<Option<Vec<u8>>, MapError> {
        self.lookup_and_delete(&[])
    }

    /// The next value of a queue or stack without taking it; `None` when empty.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn peek(&self) -> Result<Option<Vec<u8>>, MapError> {
        self.lookup_vec(&[])
    }

    /// May this value be in a bloom filter?
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn may_contain(&self, value: &[u8]) -> Result<bool, MapError> {
        let mut value = value.to_vec();
        self.found(self.fd.lookup(&[], &mut value, 0))
    }

    /// Stores a map, program, perf event, cgroup or socket in a map that holds descriptors
    /// (map-in-map, prog array, perf event array, cgroup array, sockmap, array of reuseport
    /// sockets, map of AF_XDP sockets).
    ///
    /// # Errors
    ///
    /// `EINVAL` when the object does not fit the map.
    pub fn set_fd(&self, key: &[u8], fd: BorrowedFd<'_>) -> Result<(), MapError> {
        // A sockmap may have values of 8 bytes; the descriptor is then the whole 64-bit number.
        let value = match self.value_bytes() {
            8 => i64::from(fd.as_raw_fd()).to_ne_bytes().to_vec(),
            _ => fd.as_raw_fd().to_ne_bytes().to_vec(),
        };
        self.update(key, &value, UpdateMode::Any)
    }

    /// The inner map stored at `key` of a map-in-map.
    ///
    /// # Errors
    ///
    /// The kernel's; opening by id needs `CAP_SYS_ADMIN`.
    pub fn inner_map(&self, key: &[u8]) -> Result<Option<Self>, MapError> {
        let Some(value) = self.lookup_vec(key)? else { return Ok(None) };
        let id = <[u8; 4]>::try_from(value.as_slice()).map(u32::from_ne_bytes).unwrap_or(0);
        let fd = sys::map_by_id(id).map_err(|e| self.fail(e))?;
        Self::adopt(fd).map(Some).map_err(|e| self.fail(e))
    }

    /// Makes the map read-only for system calls, for good; programs are not affected.
    ///
    /// # Errors
    ///
    /// `EBUSY` while it is mapped writable.
    #[doc(alias = "BPF_MAP_FREEZE")]
    pub fn freeze(&self) -> Result<(), MapError> {
        self.fd.freeze().map_err(|e| self.fail(e))
    }

    fn fail(&self, source: SysError) -> MapError {
        MapError { map: self.name.clone(), source }
    }

    fn found(&self, result: Result<(), SysError>) -> Result<bool, MapError> {
        match result {
            Ok(()) => Ok(true),
            Err(e) if e.errno() == libc::ENOENT => Ok(false),
            Err(e) => Err(self.fail(e)),
        }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.fd()
    }
}

fn flags(mode: UpdateMode) -> u64 {
    match mode {
        UpdateMode::Any => 0,
        UpdateMode::NoExist => 1,
        UpdateMode::Exist => 2,
    }
}

/// Does the kernel make such maps only with types of keys and values?
fn needs_types(map_type: MapType) -> bool {
    MapRule::of(map_type).is_some_and(|rule| rule.needs == MapNeeds::Types)
}

/// Might the kernel make the map without its types?
fn refused_types(e: &SysError, new: &sys::MapCreate<'_>) -> bool {
    e.command == "BPF_MAP_CREATE" && new.btf.is_some() && !needs_types(new.def.map_type)
}

/// Fills in what depends on the machine.
fn adjust(def: MapDef) -> Result<MapDef, SysError> {
    let cpus = sys::cpu_numbers().map_err(|e| SysError::new("counting possible CPUs", e))?;
    Ok(def.for_machine(cpus, sys::page_bytes()))
}

/// As [`adjust`]; unchanged where that fails.
pub(crate) fn adjusted(def: MapDef) -> MapDef {
    adjust(def).unwrap_or(def)
}

#[cfg(test)]
mod each_type;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod tests;
