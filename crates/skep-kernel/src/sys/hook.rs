//! Links of kinds that say more than where, and attaching from before links.

use std::{
    ffi::{CStr, c_char},
    os::fd::{BorrowedFd, OwnedFd},
};

use super::{LinkTarget, SysError, attr, bpf, bpf_fd, len32, raw};

/// What a link of some kind is told beside program and target.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinkExtra<'a> {
    /// BTF id of the function in the target program.
    Function(u32),
    /// Which of the things an iterator walks over; `union bpf_iter_link_info`.
    Iter(&'a [u8]),
    /// What programs on a perf event get as their cookie.
    EventCookie(u64),
    /// What a tracing program gets as its cookie.
    TracingCookie(u64),
    /// Functions of the kernel by name, else by address; `cookies` is empty, or has as many.
    KprobeMulti { symbols: &'a [&'a CStr], addresses: &'a [u64], cookies: &'a [u64], flags: u32 },
    /// Functions of the kernel by BTF id; `cookies` is empty, or has as many.
    TracingMulti { ids: &'a [u32], cookies: &'a [u64] },
    /// Places in a binary; `reference_counters` and `cookies` are empty, or have as many.
    UprobeMulti {
        path: &'a CStr,
        offsets: &'a [u64],
        reference_counters: &'a [u64],
        cookies: &'a [u64],
        flags: u32,
        pid: u32,
    },
    /// A place among several programs: a program or link and its revision; `BPF_F_*`.
    Ordered { relative: u32, revision: u64, flags: u32 },
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

/// Address of numbers that go with `count` others; 0 for none, and for a list of another length.
fn as_many(items: &[u64], count: usize) -> u64 {
    if items.len() == count { address(items) } else { 0 }
}

/// Attaches a program by a link, with what its kind needs.
pub(crate) fn link_create_with(
    prog: BorrowedFd<'_>,
    target: LinkTarget<'_>,
    attach_type: u32,
    extra: LinkExtra<'_>,
) -> Result<OwnedFd, SysError> {
    let flags = match extra {
        LinkExtra::Ordered { flags, .. } => flags,
        _ => 0,
    };
    // The kernel reads this array of pointers: it must live past the call.
    let symbols: Vec<*const c_char> = match extra {
        LinkExtra::KprobeMulti { symbols, .. } => symbols.iter().map(|s| s.as_ptr()).collect(),
        _ => Vec::new(),
    };
    let words = match extra {
        LinkExtra::Function(id) => [pair(id, 0), 0, 0, 0, 0, 0],
        LinkExtra::Iter(info) => [address(info), pair(len32(info.len()), 0), 0, 0, 0, 0],
        LinkExtra::EventCookie(cookie) => [cookie, 0, 0, 0, 0, 0],
        LinkExtra::TracingCookie(cookie) => [0, cookie, 0, 0, 0, 0],
        LinkExtra::KprobeMulti { addresses, cookies, flags, .. } => {
            let (names, count) = (address(&symbols), symbols.len());
            let (addresses, count) =
                if count == 0 { (address(addresses), addresses.len()) } else { (0, count) };
            let cookies = as_many(cookies, count);
            [pair(flags, len32(count)), names, addresses, cookies, 0, 0]
        }
        LinkExtra::Ordered { relative, revision, .. } => [pair(relative, 0), revision, 0, 0, 0, 0],
        LinkExtra::TracingMulti { ids, cookies } => {
            let cookies = as_many(cookies, ids.len());
            [address(ids), cookies, pair(len32(ids.len()), 0), 0, 0, 0]
        }
        LinkExtra::UprobeMulti { path, offsets, reference_counters, cookies, flags, pid } => [
            path.as_ptr().addr() as u64,
            address(offsets),
            as_many(reference_counters, offsets.len()),
            as_many(cookies, offsets.len()),
            pair(len32(offsets.len()), flags),
            pair(pid, 0),
        ],
        LinkExtra::Netfilter { family, hook, priority, flags } => {
            [pair(family, hook), pair(priority.cast_unsigned(), flags), 0, 0, 0, 0]
        }
    };
    let mut attr = attr::LinkCreate(attr::LinkCreateAttr {
        prog_fd: raw(prog),
        target: target.number(),
        attach_type,
        flags,
        extra: words,
    });
    // SAFETY: every address in `words` is null or that of a NUL-terminated string or of an array
    // with as many elements as the count beside it says, borrowed (or `symbols`, local) past the
    // call; the kernel only reads them. The command returns a new descriptor.
    unsafe { bpf_fd(&mut attr) }
}

/// A program for a hook, the way before links.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProgAttach<'a> {
    pub(crate) target: LinkTarget<'a>,
    pub(crate) attach_type: u32,
    /// `BPF_F_*`.
    pub(crate) flags: u32,
    /// The program in whose place the new one comes, with `BPF_F_REPLACE`.
    pub(crate) replace: Option<BorrowedFd<'a>>,
    /// A program or link to stand before or behind, and the hook's revision (0: any).
    pub(crate) relative: u32,
    pub(crate) revision: u64,
}

impl<'a> ProgAttach<'a> {
    /// At a hook, with these flags and nothing else.
    pub(crate) const fn new(target: LinkTarget<'a>, attach_type: u32, flags: u32) -> Self {
        Self { target, attach_type, flags, replace: None, relative: 0, revision: 0 }
    }

    fn block(&self, prog: Option<BorrowedFd<'_>>) -> attr::ProgAttachAttr {
        attr::ProgAttachAttr {
            target: self.target.number(),
            attach_bpf_fd: prog.map_or(0, raw),
            attach_type: self.attach_type,
            attach_flags: self.flags,
            replace_bpf_fd: self.replace.map_or(0, raw),
            relative: self.relative,
            expected_revision: self.revision,
        }
    }
}

/// Attaches a program to a cgroup, map or interface, the way before links.
pub(crate) fn prog_attach(at: &ProgAttach<'_>, prog: BorrowedFd<'_>) -> Result<(), SysError> {
    // SAFETY: this command takes numbers only.
    unsafe { bpf(&mut attr::ProgAttach(at.block(Some(prog)))) }.map(drop)
}

/// Takes back [`prog_attach`].
pub(crate) fn prog_detach(at: &ProgAttach<'_>, prog: BorrowedFd<'_>) -> Result<(), SysError> {
    // SAFETY: this command takes numbers only.
    unsafe { bpf(&mut attr::ProgDetach(at.block(Some(prog)))) }.map(drop)
}

/// Gives a link another program; with `expected` only if it has that one now.
pub(crate) fn link_update(
    link: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
    expected: Option<BorrowedFd<'_>>,
) -> Result<(), SysError> {
    const BPF_F_REPLACE: u32 = 1 << 2;
    let mut attr = attr::LinkUpdate(attr::LinkUpdateAttr {
        link_fd: raw(link),
        new_prog_fd: raw(new),
        flags: if expected.is_some() { BPF_F_REPLACE } else { 0 },
        old_prog_fd: expected.map_or(0, raw),
    });
    // SAFETY: this command takes numbers only.
    unsafe { bpf(&mut attr) }.map(drop)
}

/// Makes a program hold a map for as long as it lives: Linux 5.10.
pub(crate) fn prog_bind_map(prog: BorrowedFd<'_>, map: BorrowedFd<'_>) -> Result<(), SysError> {
    let block = attr::BindMapAttr { prog_fd: raw(prog), map_fd: raw(map), flags: 0 };
    // SAFETY: this command takes numbers only.
    unsafe { bpf(&mut attr::ProgBindMap(block)) }.map(drop)
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
