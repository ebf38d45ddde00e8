//! Links of kinds that say more than where, and attaching from before links.

use std::{
    ffi::{CStr, c_char},
    os::fd::{BorrowedFd, OwnedFd},
};

use super::{LinkTarget, SysError, attr, bpf, bpf_fd, len32, raw};

/// What a link of some kind is told beside program and target.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinkExtra<'a> {
    /// Nothing.
    None,
    /// BTF id of the function in the target program.
    Function(u32),
    /// Which of the things an iterator walks over; `union bpf_iter_link_info`.
    Iter(&'a [u8]),
    /// Functions of the kernel by name.
    KprobeMulti { symbols: &'a [&'a CStr], flags: u32 },
    /// Places in a binary; `reference_counters` is empty, or has as many.
    UprobeMulti {
        path: &'a CStr,
        offsets: &'a [u64],
        reference_counters: &'a [u64],
        flags: u32,
        pid: u32,
    },
    /// A netfilter hook.
    Netfilter { family: u32, hook: u32, priority: i32, flags: u32 },
}

/// Two numbers in the order of memory as the attribute block has them.
fn pair(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    let (low, high) = bytes.split_at_mut(4);
    low.copy_from_slice(&first.to_ne_bytes());
    high.copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// Address of numbers or pointers; 0 for none.
fn address<T>(items: &[T]) -> u64 {
    if items.is_empty() { 0 } else { items.as_ptr().addr() as u64 }
}

/// Attaches a program by a link, with what its kind needs.
pub(crate) fn link_create_with(
    prog: BorrowedFd<'_>,
    target: LinkTarget<'_>,
    attach_type: u32,
    extra: LinkExtra<'_>,
) -> Result<OwnedFd, SysError> {
    let target = match target {
        LinkTarget::Fd(fd) => raw(fd),
        LinkTarget::Ifindex(index) => index,
    };
    // The kernel reads this array of pointers: it must live past the call.
    let symbols: Vec<*const c_char> = match extra {
        LinkExtra::KprobeMulti { symbols, .. } => symbols.iter().map(|s| s.as_ptr()).collect(),
        _ => Vec::new(),
    };
    let words = match extra {
        LinkExtra::None => [0; 6],
        LinkExtra::Function(id) => [pair(id, 0), 0, 0, 0, 0, 0],
        LinkExtra::Iter(info) => [address(info), pair(len32(info.len()), 0), 0, 0, 0, 0],
        LinkExtra::KprobeMulti { flags, .. } => {
            [pair(flags, len32(symbols.len())), address(&symbols), 0, 0, 0, 0]
        }
        LinkExtra::UprobeMulti { path, offsets, reference_counters, flags, pid } => {
            let counters = if reference_counters.len() == offsets.len() {
                address(reference_counters)
            } else {
                0
            };
            [
                path.as_ptr().addr() as u64,
                address(offsets),
                counters,
                0,
                pair(len32(offsets.len()), flags),
                pair(pid, 0),
            ]
        }
        LinkExtra::Netfilter { family, hook, priority, flags } => {
            [pair(family, hook), pair(priority.cast_unsigned(), flags), 0, 0, 0, 0]
        }
    };
    let mut attr = attr::LinkCreate(attr::LinkCreateAttr {
        prog_fd: raw(prog),
        target,
        attach_type,
        flags: 0,
        extra: words,
    });
    // SAFETY: every address in `words` is null or that of a NUL-terminated string or of an array
    // with as many elements as the count beside it says, borrowed (or `symbols`, local) past the
    // call; the kernel only reads them. The command returns a new descriptor.
    unsafe { bpf_fd(&mut attr) }
}

/// Attaches a program to a cgroup, the way before links.
pub(crate) fn prog_attach(
    target: BorrowedFd<'_>,
    prog: BorrowedFd<'_>,
    attach_type: u32,
    attach_flags: u32,
) -> Result<(), SysError> {
    let (target_fd, attach_bpf_fd) = (raw(target), raw(prog));
    let block = attr::ProgAttachAttr { target_fd, attach_bpf_fd, attach_type, attach_flags };
    // SAFETY: this command takes numbers only.
    unsafe { bpf(&mut attr::ProgAttach(block)) }.map(drop)
}

/// Takes back [`prog_attach`].
pub(crate) fn prog_detach(
    target: BorrowedFd<'_>,
    prog: BorrowedFd<'_>,
    attach_type: u32,
) -> Result<(), SysError> {
    let (target_fd, attach_bpf_fd) = (raw(target), raw(prog));
    let block = attr::ProgAttachAttr { target_fd, attach_bpf_fd, attach_type, attach_flags: 0 };
    // SAFETY: this command takes numbers only.
    unsafe { bpf(&mut attr::ProgDetach(block)) }.map(drop)
}

/// A descriptor from which an iterator's output is read, once.
pub(crate) fn iter_create(link: BorrowedFd<'_>) -> Result<OwnedFd, SysError> {
    let mut attr = attr::IterCreate(attr::IterCreateAttr { link_fd: raw(link), flags: 0 });
    // SAFETY: this command takes numbers only, and returns a new descriptor.
    unsafe { bpf_fd(&mut attr) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_lie_in_the_order_of_memory() {
        let bytes = pair(0x0102_0304, 7).to_ne_bytes();
        assert_eq!(bytes[..4], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(bytes[4..], 7_u32.to_ne_bytes());
    }
}
