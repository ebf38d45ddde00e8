//! Map commands. [`MapFd`] knows the shape of its map, so that the buffers the kernel reads and
//! writes always have the length the kernel assumes.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use super::{
    SysError, addr, addr_mut,
    attr::{self, Attr},
    bpf, bpf_fd,
    btf::token,
    len32, obj, obj_name, possible_cpus, raw,
};
use skep_abi::{MapDef, MapFlags, MapType};

/// What a new map is made of.
#[derive(Debug)]
pub(crate) struct MapCreate<'a> {
    pub(crate) name: &'a str,
    pub(crate) def: MapDef,
    pub(crate) inner: Option<BorrowedFd<'a>>,
    /// BTF with the type ids of key and value.
    pub(crate) btf: Option<(BorrowedFd<'a>, u32, u32)>,
    /// Of `struct_ops`, the value's type in the kernel.
    pub(crate) kernel_value: Option<KernelValue<'a>>,
    pub(crate) token: Option<BorrowedFd<'a>>,
    /// The interface in whose hardware it lives; 0 for none.
    pub(crate) ifindex: u32,
}

/// A type of the kernel or, with its BTF, of a module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelValue<'a> {
    pub(crate) type_id: u32,
    pub(crate) module: Option<BorrowedFd<'a>>,
}

/// A map's descriptor with the sizes the kernel will assume for it.
#[derive(Debug)]
pub(crate) struct MapFd {
    fd: OwnedFd,
    key_size: usize,
    /// As the system call sees it: all CPUs' values, each rounded up to 8, for per-CPU maps.
    value_bytes: usize,
}

/// Where a batch stands; opaque to callers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch(Vec<u8>);

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BatchEnd {
    /// There may be more.
    More(usize),
    /// These were the last.
    Done(usize),
}

impl MapFd {
    /// Makes a map.
    pub(crate) fn create(new: &MapCreate<'_>) -> Result<Self, SysError> {
        let def = &new.def;
        let (btf_fd, key_type, value_type) =
            new.btf.map_or((0, 0, 0), |(fd, key, value)| (raw(fd), key, value));
        let module = new.kernel_value.and_then(|value| value.module);
        let flags = match module {
            Some(_) => def.flags.with(MapFlags::VTYPE_BTF_OBJ_FD),
            None => def.flags,
        };
        let (map_token_fd, by_token) = token(new.token);
        let mut attr = attr::MapCreate(attr::MapCreateAttr {
            map_type: def.map_type.0,
            key_size: def.key_size,
            value_size: def.value_size,
            max_entries: def.max_entries,
            map_flags: flags.0 | by_token,
            inner_map_fd: new.inner.map_or(0, raw),
            numa_node: if def.flags.contains(MapFlags::NUMA_NODE) { def.numa_node } else { 0 },
            map_name: obj_name(new.name),
            map_ifindex: new.ifindex,
            btf_fd,
            btf_key_type_id: key_type,
            btf_value_type_id: value_type,
            map_extra: def.extra,
            btf_vmlinux_value_type_id: new.kernel_value.map_or(0, |value| value.type_id),
            value_type_btf_obj_fd: module.map_or(0, |fd| fd.as_raw_fd()),
            map_token_fd,
        });
        // SAFETY: BPF_MAP_CREATE reads no memory besides `attr` and returns a new descriptor.
        let fd = unsafe { bpf_fd(&mut attr) }?;
        Self::with_shape(fd, def.map_type, def.key_size, def.value_size)
    }

    /// Takes a descriptor that came from elsewhere (a pin) and asks the kernel for its shape.
    pub(crate) fn adopt(fd: OwnedFd) -> Result<(Self, obj::MapInfo), SysError> {
        obj::expect_kind(fd.as_fd(), "bpf-map")?;
        let info = obj::map_info(fd.as_fd())?;
        let map = Self::with_shape(fd, MapType(info.map_type), info.key_size, info.value_size)?;
        Ok((map, info))
    }

    fn with_shape(fd: OwnedFd, map_type: MapType, key: u32, value: u32) -> Result<Self, SysError> {
        let cpus = if map_type.is_percpu() {
            possible_cpus().map_err(|e| SysError::new("counting possible CPUs", e))?
        } else {
            1
        };
        let one = value as usize;
        let one = if map_type.is_percpu() { one.next_multiple_of(8) } else { one };
        let value_bytes = one.saturating_mul(cpus);
        Ok(Self { fd, key_size: key as usize, value_bytes })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// What the kernel knows of this map.
    pub(crate) fn info(&self) -> Result<obj::MapInfo, SysError> {
        obj::map_info(self.fd())
    }

    fn check(
        &self,
        command: &'static str,
        key: Option<usize>,
        value: Option<usize>,
    ) -> Result<(), SysError> {
        if key.is_some_and(|len| len != self.key_size) {
            return Err(SysError::errno_of(command, libc::EINVAL, "the key's length is wrong"));
        }
        if value.is_some_and(|len| len != self.value_bytes) {
            return Err(SysError::errno_of(command, libc::EINVAL, "the value's length is wrong"));
        }
        Ok(())
    }

    fn elem(&self, key: u64, value: u64, flags: u64) -> attr::MapElem {
        attr::MapElem { map_fd: raw(self.fd()), pad: 0, key, value, flags }
    }

    /// Copies the value of `key` into `value`. A bloom filter reads `value` instead.
    pub(crate) fn lookup(&self, key: &[u8], value: &mut [u8], flags: u64) -> Result<(), SysError> {
        self.check("BPF_MAP_LOOKUP_ELEM", Some(key.len()), Some(value.len()))?;
        let mut attr = attr::MapLookup(self.elem(addr(key), addr_mut(value), flags));
        // SAFETY: `key` has the map's key size, and `value` the bytes the kernel writes (both
        // checked above); both are borrowed past the call.
        unsafe { bpf(&mut attr) }.map(drop)
    }

    /// Takes an entry out. Queues and stacks have no key: pass an empty one.
    pub(crate) fn lookup_delete(&self, key: &[u8], value: &mut [u8]) -> Result<(), SysError> {
        self.check("BPF_MAP_LOOKUP_AND_DELETE_ELEM", Some(key.len()), Some(value.len()))?;
        let mut attr = attr::MapLookupDelete(self.elem(addr(key), addr_mut(value), 0));
        // SAFETY: as for `lookup`: lengths checked against the map's shape, borrowed past the call.
        unsafe { bpf(&mut attr) }.map(drop)
    }

    /// Stores an entry; `flags` are `BPF_ANY`, `BPF_NOEXIST`, `BPF_EXIST`, `BPF_F_LOCK`.
    pub(crate) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), SysError> {
        self.check("BPF_MAP_UPDATE_ELEM", Some(key.len()), Some(value.len()))?;
        let mut attr = attr::MapUpdate(self.elem(addr(key), addr(value), flags));
        // SAFETY: the kernel only reads `key` and `value`, in the lengths checked above; both are
        // borrowed past the call.
        unsafe { bpf(&mut attr) }.map(drop)
    }

    /// Removes an entry.
    pub(crate) fn delete(&self, key: &[u8]) -> Result<(), SysError> {
        self.check("BPF_MAP_DELETE_ELEM", Some(key.len()), None)?;
        let mut attr = attr::MapDelete(self.elem(addr(key), 0, 0));
        // SAFETY: the kernel only reads `key`, in the length checked above.
        unsafe { bpf(&mut attr) }.map(drop)
    }

    /// Copies the key behind `key` (the first one for `None`) into `next`.
    pub(crate) fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<(), SysError> {
        self.check("BPF_MAP_GET_NEXT_KEY", Some(next.len()), None)?;
        self.check("BPF_MAP_GET_NEXT_KEY", key.map(<[u8]>::len), None)?;
        let mut attr = attr::MapNextKey(self.elem(key.map_or(0, addr), addr_mut(next), 0));
        // SAFETY: `key` is read and `next` written in the map's key size, checked above.
        unsafe { bpf(&mut attr) }.map(drop)
    }

    /// Makes the map read-only for system calls, for good.
    pub(crate) fn freeze(&self) -> Result<(), SysError> {
        let mut attr = attr::MapFreeze(self.elem(0, 0, 0));
        // SAFETY: BPF_MAP_FREEZE reads no memory besides `attr`.
        unsafe { bpf(&mut attr) }.map(drop)
    }

    /// Reads up to `keys.len() / key_size` entries behind `at`, and moves `at` on.
    ///
    /// With `delete` they are taken out.
    pub(crate) fn lookup_batch(
        &self,
        at: &mut Batch,
        keys: &mut [u8],
        values: &mut [u8],
        delete: bool,
    ) -> Result<BatchEnd, SysError> {
        let count = self.batch_count(keys.len(), values.len())?;
        let mut out = Batch(vec![0; self.key_size.max(4)]);
        let block = attr::MapBatch {
            in_batch: addr(&at.0),
            out_batch: addr_mut(&mut out.0),
            keys: addr_mut(keys),
            values: addr_mut(values),
            count,
            map_fd: raw(self.fd()),
            ..Default::default()
        };
        let (result, count) = if delete {
            // SAFETY: `count` entries fit `keys` and `values` (batch_count); a position is a key
            // or a 32-bit bucket number, and both position buffers hold the larger of the two.
            unsafe { batch(attr::MapLookupDeleteBatch(block), |a| a.0.count) }
        } else {
            // SAFETY: as above; the command reads and writes the same buffers.
            unsafe { batch(attr::MapLookupBatch(block), |a| a.0.count) }
        };
        *at = out;
        match result {
            Ok(()) => Ok(BatchEnd::More(count)),
            Err(e) if e.errno() == libc::ENOENT => Ok(BatchEnd::Done(count)),
            Err(e) => Err(e),
        }
    }

    /// Stores many entries; returns how many were stored, also beside an error.
    pub(crate) fn update_batch(
        &self,
        keys: &[u8],
        values: &[u8],
        flags: u64,
    ) -> (usize, Result<(), SysError>) {
        let count = match self.batch_count(keys.len(), values.len()) {
            Ok(count) => count,
            Err(e) => return (0, Err(e)),
        };
        let block = attr::MapBatch {
            keys: addr(keys),
            values: addr(values),
            count,
            map_fd: raw(self.fd()),
            elem_flags: flags,
            ..Default::default()
        };
        // SAFETY: the kernel only reads `count` keys and values, which is what the buffers hold.
        let (result, done) = unsafe { batch(attr::MapUpdateBatch(block), |a| a.0.count) };
        (done, result)
    }

    /// Removes many entries; returns how many were removed, also beside an error.
    pub(crate) fn delete_batch(&self, keys: &[u8]) -> (usize, Result<(), SysError>) {
        let whole = self.key_size != 0 && keys.len().is_multiple_of(self.key_size);
        if !whole {
            let hint = "the keys are not a whole number of keys";
            let e = SysError::errno_of("BPF_MAP_DELETE_BATCH", libc::EINVAL, hint);
            return (0, Err(e));
        }
        let block = attr::MapBatch {
            keys: addr(keys),
            count: len32(keys.len() / self.key_size),
            map_fd: raw(self.fd()),
            ..Default::default()
        };
        // SAFETY: the kernel only reads `count` keys, which is what `keys` holds.
        let (result, done) = unsafe { batch(attr::MapDeleteBatch(block), |a| a.0.count) };
        (done, result)
    }

    /// Number of entries both buffers hold.
    fn batch_count(&self, keys: usize, values: usize) -> Result<u32, SysError> {
        let bad = |hint| Err(SysError::errno_of("batch", libc::EINVAL, hint));
        if self.key_size == 0 || self.value_bytes == 0 {
            return bad("this type of map has no batches");
        }
        let count = keys / self.key_size;
        if count * self.key_size != keys || count.checked_mul(self.value_bytes) != Some(values) {
            return bad("keys and values are not the same whole number of entries");
        }
        Ok(len32(count))
    }
}

/// Issues a batch command; returns the count beside the result, since the kernel fills it in on
/// errors too.
///
/// # Safety
///
/// As for [`bpf`].
unsafe fn batch<A: Attr>(mut attr: A, count: impl Fn(&A) -> u32) -> (Result<(), SysError>, usize) {
    let asked = count(&attr);
    // SAFETY: the caller vouches for the addresses.
    let result = unsafe { bpf(&mut attr) }.map(drop);
    let done = count(&attr);
    // An error before the first entry (a kernel without batches, EFAULT) leaves the count as it
    // was asked for; the kernel zeroes it before it starts. ENOENT comes after that: with a count
    // it says that the entries read are the last ones, which may be as many as asked for.
    let untouched = result.as_ref().is_err_and(|e| e.errno() != libc::ENOENT && done == asked);
    (result, if untouched { 0 } else { done as usize })
}
