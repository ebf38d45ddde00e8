//! The few commands of `bpf(2)` that the comparison needs. Independent of the kernel engine on
//! purpose: the reference must not share code with what it checks.
#![expect(clippy::disallowed_methods, reason = "test-only system calls, see above")]

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use skep_abi::MapDef;

const MAP_CREATE: libc::c_long = 0;
const LOOKUP: libc::c_long = 1;
const UPDATE: libc::c_long = 2;
const DELETE: libc::c_long = 3;
const NEXT_KEY: libc::c_long = 4;
const LOOKUP_AND_DELETE: libc::c_long = 21;
const FREEZE: libc::c_long = 22;

/// `union bpf_attr` for map creation, up to `map_extra`.
#[repr(C)]
#[derive(Default)]
struct Create {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
    ifindex: u32,
    btf: [u32; 4],
    map_extra: u64,
}

/// `union bpf_attr` for operations on elements.
#[repr(C)]
#[derive(Default)]
struct Elem {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> Result<libc::c_long, i32> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` of the size given; the addresses in it point to
    // buffers that the callers below size as the map's definition says.
    let r = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>()) };
    if r < 0 { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(r) }
}

/// A map of the kernel.
#[derive(Debug)]
pub(crate) struct KernelMap {
    fd: OwnedFd,
    key_size: usize,
    value_bytes: usize,
}

/// A result with its errno.
pub(crate) type Answer<T> = Result<T, i32>;

fn address(bytes: Option<&[u8]>) -> u64 {
    bytes.filter(|b| !b.is_empty()).map_or(0, |b| b.as_ptr().addr() as u64)
}

impl KernelMap {
    /// `value_bytes` is the size of a value as user space sees it.
    pub(crate) fn new(def: &MapDef, inner: Option<&Self>, value_bytes: usize) -> Answer<Self> {
        let mut attr = Create {
            map_type: def.map_type.0,
            key_size: def.key_size,
            value_size: def.value_size,
            max_entries: def.max_entries,
            map_flags: def.flags.0,
            inner_map_fd: inner.map_or(0, |i| u32::try_from(i.raw()).expect("descriptors fit")),
            numa_node: def.numa_node,
            map_extra: def.extra,
            ..Create::default()
        };
        let fd = RawFd::try_from(bpf(MAP_CREATE, &mut attr)?).expect("descriptors fit");
        // SAFETY: the system call just returned this descriptor and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, key_size: def.key_size as usize, value_bytes })
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn elem(&self, key: Option<&[u8]>, value: u64, flags: u64) -> Elem {
        assert!(key.is_none_or(|k| k.len() == self.key_size), "the kernel reads a whole key");
        let map_fd = u32::try_from(self.raw()).expect("descriptors fit");
        Elem { map_fd, pad: 0, key: address(key), value, flags }
    }

    pub(crate) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Answer<()> {
        assert_eq!(value.len(), self.value_bytes, "the kernel reads a whole value");
        bpf(UPDATE, &mut self.elem(Some(key), address(Some(value)), flags)).map(drop)
    }

    /// `out` is read too, by bloom filters.
    pub(crate) fn lookup(&self, key: &[u8], out: &mut [u8]) -> Answer<()> {
        assert_eq!(out.len(), self.value_bytes, "the kernel writes a whole value");
        bpf(LOOKUP, &mut self.elem(Some(key), out.as_mut_ptr().addr() as u64, 0)).map(drop)
    }

    pub(crate) fn lookup_and_delete(&self, key: &[u8], out: &mut [u8]) -> Answer<()> {
        assert_eq!(out.len(), self.value_bytes, "the kernel writes a whole value");
        let value = out.as_mut_ptr().addr() as u64;
        bpf(LOOKUP_AND_DELETE, &mut self.elem(Some(key), value, 0)).map(drop)
    }

    pub(crate) fn delete(&self, key: &[u8]) -> Answer<()> {
        bpf(DELETE, &mut self.elem(Some(key), 0, 0)).map(drop)
    }

    pub(crate) fn next_key(&self, key: Option<&[u8]>, out: &mut [u8]) -> Answer<()> {
        assert_eq!(out.len(), self.key_size, "the kernel writes a whole key");
        bpf(NEXT_KEY, &mut self.elem(key, out.as_mut_ptr().addr() as u64, 0)).map(drop)
    }

    pub(crate) fn freeze(&self) -> Answer<()> {
        bpf(FREEZE, &mut self.elem(None, 0, 0)).map(drop)
    }
}
