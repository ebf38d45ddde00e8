//! Links: what attaching returns.

use std::{
    ffi::CStr,
    os::fd::{BorrowedFd, OwnedFd},
};

use super::{SysError, attr, bpf_fd, raw};

/// What a link is made on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LinkTarget<'a> {
    /// A descriptor: perf event, cgroup.
    Fd(BorrowedFd<'a>),
    /// A network interface of the current namespace.
    Ifindex(u32),
}

impl LinkTarget<'_> {
    /// As attribute blocks carry it.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Fd(fd) => raw(fd),
            Self::Ifindex(index) => index,
        }
    }
}

/// Attaches a program by a link. The attach types whose extra fields may be zero are all that
/// callers here use.
pub(crate) fn link_create(
    prog: BorrowedFd<'_>,
    target: LinkTarget<'_>,
    attach_type: u32,
    flags: u32,
) -> Result<OwnedFd, SysError> {
    let target = target.number();
    let prog_fd = raw(prog);
    let mut attr = attr::LinkCreate(attr::LinkCreateAttr {
        prog_fd,
        target,
        attach_type,
        flags,
        ..Default::default()
    });
    // SAFETY: the extra words are zero, so no address is passed; the command returns a new
    // descriptor.
    unsafe { bpf_fd(&mut attr) }
}

/// Attaches to a raw tracepoint; without a name to the BTF tracepoint the program was loaded for.
/// A kernel without cookies takes only 0.
pub(crate) fn raw_tracepoint_open(
    name: Option<&CStr>,
    prog: BorrowedFd<'_>,
    cookie: u64,
) -> Result<OwnedFd, SysError> {
    let mut attr = attr::RawTracepointOpen(attr::RawTracepointAttr {
        name: name.map_or(0, |name| name.as_ptr().addr() as u64),
        prog_fd: raw(prog),
        cookie,
        ..Default::default()
    });
    // SAFETY: `name` is null or a NUL-terminated string that lives past the call; the command
    // returns a new descriptor.
    unsafe { bpf_fd(&mut attr) }
}
