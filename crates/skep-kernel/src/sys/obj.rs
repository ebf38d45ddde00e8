//! Commands that work on any BPF object: pins, ids, information.

use std::{
    ffi::CString,
    os::{
        fd::{AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use super::{SysError, attr, bpf, bpf_fd, from_obj_name, len32, raw, read_link};

/// Pins an object at a path of a bpf file system.
pub(crate) fn obj_pin(fd: BorrowedFd<'_>, path: &Path) -> Result<(), SysError> {
    let path = c_path("BPF_OBJ_PIN", path)?;
    let mut attr = attr::ObjPin(attr::ObjPath {
        pathname: path.as_ptr().addr() as u64,
        bpf_fd: raw(fd),
        ..Default::default()
    });
    // SAFETY: the kernel reads the NUL-terminated `path`, which lives past the call.
    unsafe { bpf(&mut attr) }.map(drop)
}

/// Opens a pinned object.
pub(crate) fn obj_get(path: &Path) -> Result<OwnedFd, SysError> {
    let path = c_path("BPF_OBJ_GET", path)?;
    let mut attr =
        attr::ObjGet(attr::ObjPath { pathname: path.as_ptr().addr() as u64, ..Default::default() });
    // SAFETY: the kernel reads the NUL-terminated `path`, which lives past the call; the command
    // returns a new descriptor.
    unsafe { bpf_fd(&mut attr) }
}

/// Is `fd` a BPF object of this kind (`bpf-map`, `bpf-prog`)? Asking the kernel for information does
/// not tell: it answers for any kind, in that kind's layout.
pub(super) fn expect_kind(fd: BorrowedFd<'_>, kind: &'static str) -> Result<(), SysError> {
    let path = format!("/proc/thread-self/fd/{}", fd.as_raw_fd());
    let link = read_link(&path).map_err(|e| e.within("finding out the kind of a descriptor"))?;
    let found = link.to_string_lossy();
    if found.strip_prefix("anon_inode:") == Some(kind) {
        return Ok(());
    }
    let hint = match kind {
        "bpf-map" => "what is pinned there is not a map",
        _ => "what is pinned there is not a program",
    };
    Err(SysError::errno_of("BPF_OBJ_GET", libc::EINVAL, hint))
}

/// Opens a map by its id.
pub(crate) fn map_by_id(id: u32) -> Result<OwnedFd, SysError> {
    let mut attr = attr::MapFdById(attr::GetId { id, ..Default::default() });
    // SAFETY: reads no memory besides `attr`; the command returns a new descriptor.
    unsafe { bpf_fd(&mut attr) }
}

fn c_path(command: &'static str, path: &Path) -> Result<CString, SysError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| SysError::errno_of(command, libc::EINVAL, "the path contains a NUL"))
}

/// What the kernel knows of a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MapInfo {
    pub(crate) map_type: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) map_flags: u32,
    name: [u8; 16],
    pub(crate) ifindex: u32,
    pub(crate) btf_vmlinux_value_type_id: u32,
    netns_dev: u64,
    netns_ino: u64,
    pub(crate) btf_id: u32,
    pub(crate) btf_key_type_id: u32,
    pub(crate) btf_value_type_id: u32,
    pub(crate) btf_vmlinux_id: u32,
    pub(crate) map_extra: u64,
}

const _: () = assert!(size_of::<MapInfo>() == 88);

impl MapInfo {
    /// The map's name, cut to 15 bytes by the kernel.
    pub(crate) fn name(&self) -> String {
        from_obj_name(&self.name)
    }
}

// SAFETY: `repr(C)`, all integers, 88 bytes without padding (asserted above: 14 words, the name,
// and three aligned 64-bit fields), in the order of `struct bpf_map_info`.
unsafe impl Info for MapInfo {}

/// Storage that `BPF_OBJ_GET_INFO_BY_FD` fills in.
///
/// # Safety
///
/// The type must be `#[repr(C)]` without padding, valid for every bit pattern, a prefix of the
/// kernel's structure, and every address in it must be null or valid for its count when passed.
pub(super) unsafe trait Info: Default {}

/// Asks the kernel about a map.
pub(crate) fn map_info(fd: BorrowedFd<'_>) -> Result<MapInfo, SysError> {
    info(fd)
}

/// Asks for information of kind `I`; `fd` must be an object of that kind or the result means
/// nothing (which is safe: every bit pattern is a valid `I`).
pub(super) fn info<I: Info>(fd: BorrowedFd<'_>) -> Result<I, SysError> {
    let mut out = I::default();
    // SAFETY: all addresses and counts inside are null by `Default`.
    unsafe { info_into(fd, &mut out) }?;
    Ok(out)
}

/// As [`info`], with room for variable parts: `out` holds their addresses and lengths.
///
/// # Safety
///
/// Every address in `out` must be valid for writing as many bytes as `out` says beside it, until
/// this returns.
pub(super) unsafe fn info_into<I: Info>(fd: BorrowedFd<'_>, out: &mut I) -> Result<(), SysError> {
    let mut attr = attr::ObjInfo(attr::InfoByFd {
        bpf_fd: raw(fd),
        info_len: len32(size_of::<I>()),
        info: std::ptr::from_mut(out).expose_provenance() as u64,
    });
    // SAFETY: the kernel reads and writes at most `info_len` bytes at `out`, which is live and
    // exclusively ours; the caller vouches for the addresses inside.
    unsafe { bpf(&mut attr) }.map(drop)
}
