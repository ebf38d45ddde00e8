//! The system-call boundary: the only module with unsafe code, and the only one that issues
//! `bpf(2)`, `perf_event_open(2)` and their companions.
//!
//! Everything it hands out is safe to use: descriptors are owned from the line they exist, and a
//! buffer whose length the kernel derives from somewhere else (a map's shape) is checked against
//! that length here.
#![expect(clippy::disallowed_methods, reason = "this is the module that issues system calls")]

mod attr;
mod btf;
mod call;
mod error;
#[cfg(test)]
pub(crate) mod fake;
mod fs;
mod hook;
mod ids;
mod link;
mod map;
mod mem;
mod net;
mod obj;
mod perf;
mod prog;
mod query;
mod watch;

use std::{
    io,
    ops::Range,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    sync::Once,
};

use attr::Attr;
pub(crate) use btf::{btf_load, token_create};
pub(crate) use call::Call;
use call::{issue, issue_fd};
pub use error::{ENOTSUPP, SysError};
pub use fs::pidfd;
pub(crate) use fs::{
    append_file, detached_mount, epoll_add, epoll_create, map_file, read, read_file, read_link,
    read_text, wait_readable, wait_writable,
};
pub(crate) use hook::{
    LinkExtra, ProgAttach, iter_create, link_create_with, link_update, prog_attach, prog_bind_map,
    prog_detach,
};
pub(crate) use ids::{
    ObjectKind, RawLink, btf_bytes, link_detach, link_raw, next_id, open_id, prog_raw,
};
pub(crate) use link::{LinkTarget, link_create, raw_tracepoint_open};
pub(crate) use map::{Batch, BatchEnd, KernelValue, MapCreate, MapFd};
pub(crate) use mem::Mapping;
pub(crate) use net::{
    interface_index, interface_name, leave_network, netlink_socket, packet_socket, receive,
    reuseport_attach, reuseport_detach, reuseport_socket, send, socket_attach, socket_detach,
};
pub(crate) use obj::{MapInfo, map_by_id, map_info, obj_get, obj_pin};
pub(crate) use perf::{
    Sampled, Whom, bpf_output_event, lost_samples, perf_enable, perf_set_bpf, probe_event,
    sampled_event, tracepoint_event,
};
pub use prog::{ProgInfo, TestRun, TestRunOptions};
pub(crate) use prog::{ProgLoad, prog_get, prog_info, prog_load, test_run};
pub(crate) use query::prog_query;
pub(crate) use watch::{TaskFd, enable_stats, stream_read, task_fd_query};

/// Issues one command; returns what the kernel returned, never negative.
///
/// # Safety
///
/// Every address stored in `attr` must be valid, for the direction and length the command
/// documents, until this returns.
unsafe fn bpf<A: Attr>(attr: &mut A) -> Result<libc::c_long, SysError> {
    raise_memlock();
    // SAFETY: the caller vouches for the addresses in `attr`.
    unsafe { issue(&mut command(attr)) }
}

/// Issues one command whose success value is a new descriptor.
///
/// # Safety
///
/// As for [`bpf`], and `A::CMD` must be a command that returns a new descriptor.
unsafe fn bpf_fd<A: Attr>(attr: &mut A) -> Result<OwnedFd, SysError> {
    raise_memlock();
    // SAFETY: the caller vouches for the addresses, and for the command.
    unsafe { issue_fd(&mut command(attr)) }
}

fn command<A: Attr>(attr: &mut A) -> Call<'_> {
    let at = std::ptr::from_mut(attr).cast();
    // SAFETY: `A: Attr` has no padding and is made of integers, so that all its bytes are
    // initialised and may become any others; it is exclusively borrowed for as long.
    let attr = unsafe { std::slice::from_raw_parts_mut(at, size_of::<A>()) };
    Call::Bpf { name: A::NAME, command: A::CMD, attr }
}

/// A descriptor as attribute blocks carry it.
fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// The address of a buffer as attribute blocks carry it; 0 for an empty one, which the kernel
/// takes as "none" (a dangling address it would refuse).
fn addr(buffer: &[u8]) -> u64 {
    if buffer.is_empty() { 0 } else { buffer.as_ptr().addr() as u64 }
}

/// As [`addr`], for a buffer that the kernel writes.
fn addr_mut(buffer: &mut [u8]) -> u64 {
    if buffer.is_empty() { 0 } else { buffer.as_mut_ptr().expose_provenance() as u64 }
}

/// A length as attribute blocks carry it; what does not fit is refused by the kernel.
fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// An object name: the first 15 bytes, with what the kernel does not allow replaced by `_`.
fn obj_name(name: &str) -> [u8; 16] {
    let mut out = [0; 16];
    for (to, from) in out.iter_mut().take(15).zip(name.bytes()) {
        *to = if from.is_ascii_alphanumeric() || from == b'.' { from } else { b'_' };
    }
    out
}

/// The text up to the first NUL.
fn from_obj_name(name: &[u8]) -> String {
    let text = name.split(|&b| b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Lifts `RLIMIT_MEMLOCK`, once per process: kernels before 5.11 charge maps and programs to it.
///
/// Failing is no error. Newer kernels charge the memory cgroup, and a process that may not raise
/// the limit learns from `EPERM` of the command itself when it was too small.
fn raise_memlock() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: reads one `rlimit` that lives past the call.
        unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    });
}

/// Number of possible CPUs: how many values a per-CPU entry has.
///
/// # Errors
///
/// When `/sys/devices/system/cpu/possible` cannot be read; nothing else tells this number.
pub fn possible_cpus() -> io::Result<usize> {
    cpu_list().map(|list| list.count)
}

/// The highest number of a possible CPU plus one: how long an array by CPU number is. More than
/// [`possible_cpus`] where the numbers have gaps.
pub(crate) fn cpu_numbers() -> io::Result<u32> {
    cpu_list().map(|list| list.end)
}

fn cpu_list() -> io::Result<CpuList> {
    let list = read_text("/sys/devices/system/cpu/possible")?;
    CpuList::parse(&list)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "cpu list is not a cpu list"))
}

/// `uname(2)`: release (`6.1.0-56-amd64`) and version (`#1 SMP …`).
pub(crate) fn uname() -> (String, String) {
    let mut name = std::mem::MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: writes one `utsname` into storage of that type.
    unsafe { libc::uname(name.as_mut_ptr()) };
    // SAFETY: all-zero is a valid `utsname`, and the call fills it with valid ones.
    let name = unsafe { name.assume_init() };
    let text = |field: &[libc::c_char]| {
        let bytes: Vec<u8> = field.iter().map(|c| c.to_ne_bytes()[0]).collect();
        from_obj_name(&bytes)
    };
    (text(&name.release), text(&name.version))
}

/// Size of a page in bytes.
pub fn page_bytes() -> u32 {
    // SAFETY: asks for a constant; touches no memory of ours.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(bytes).unwrap_or(4096)
}

/// What a CPU list (`0-3`, `0,2-5`, ascending) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuList {
    count: usize,
    /// Highest number plus one.
    end: u32,
}

impl CpuList {
    fn parse(list: &str) -> Option<Self> {
        let mut out = Self { count: 0, end: 0 };
        for range in cpu_ranges(list)? {
            out.count += range.len();
            out.end = range.end;
        }
        Some(out)
    }
}

/// The ranges of a CPU list, ascending and apart; `None` when it is no such list.
pub(crate) fn cpu_ranges(list: &str) -> Option<impl Iterator<Item = Range<u32>>> {
    /// Far more than a kernel can be built for (`CONFIG_NR_CPUS`): values and buffers are sized by
    /// these numbers.
    const MOST: u32 = 1 << 16;
    let mut ranges = Vec::new();
    let mut end = 0;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first < end || last < first || last >= MOST {
            return None;
        }
        end = last + 1;
        ranges.push(first..end);
    }
    Some(ranges.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel copies a per-CPU entry's values without leaving gaps.
    #[test]
    fn cpu_lists_have_a_count_and_an_end() {
        for (list, want) in [
            ("0\n", Some((1, 1))),
            ("0-3\n", Some((4, 4))),
            ("0,2-5", Some((5, 6))),
            ("0-1,7", Some((3, 8))),
            ("", None),
            ("x", None),
            ("3-1", None),
            ("0-4294967295", None),
            ("0-3,2-5", None),
            ("0-65535", Some((65536, 65536))),
            ("0-65536", None),
        ] {
            let want = want.map(|(count, end)| CpuList { count, end });
            assert_eq!(CpuList::parse(list), want, "{list:?}");
        }
    }

    #[test]
    fn names_are_cut_and_cleaned() {
        assert_eq!(from_obj_name(&obj_name("a-b/c")), "a_b_c");
        assert_eq!(from_obj_name(&obj_name("0123456789abcdef")), "0123456789abcde");
    }
}
