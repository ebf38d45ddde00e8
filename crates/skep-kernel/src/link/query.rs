//! Which programs are attached at a hook that takes several, and in which order.

use std::os::fd::BorrowedFd;

use skep_abi::AttachType;

use crate::sys::{self, LinkTarget, SysError};

/// What has hooks.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'a> {
    /// A network interface of the current namespace, by its index: tcx, netkit.
    Interface(u32),
    /// A cgroup, an open directory.
    Cgroup(BorrowedFd<'a>),
    /// A network namespace, an open `/proc/PID/ns/net`.
    Netns(BorrowedFd<'a>),
    /// A socket map.
    Map(BorrowedFd<'a>),
}

/// The programs at a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// In the order in which they run.
    pub programs: Vec<AttachedProgram>,
    /// Grows with each change; 0 where the kernel does not count them.
    pub revision: u64,
    /// How the hook of a cgroup is shared: `BPF_F_ALLOW_OVERRIDE` (1), `BPF_F_ALLOW_MULTI` (2).
    pub flags: u32,
}

/// One program at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// The program's id.
    pub program: u32,
    /// The id of the link that holds it; `None` where there is none, or the kernel does not tell.
    pub link: Option<u32>,
}

/// The programs attached at a hook itself.
///
/// # Errors
///
/// `EINVAL` when the kernel has no such hook, or does not tell about it.
#[doc(alias = "BPF_PROG_QUERY")]
pub fn attached(owner: Owner<'_>, hook: AttachType) -> Result<Attached, SysError> {
    ask(owner, hook, 0)
}

/// The programs that run at a hook of a cgroup: its own and those of the cgroups above it.
///
/// # Errors
///
/// As for [`attached`].
#[doc(alias = "BPF_F_QUERY_EFFECTIVE")]
pub fn effective(cgroup: BorrowedFd<'_>, hook: AttachType) -> Result<Attached, SysError> {
    const BPF_F_QUERY_EFFECTIVE: u32 = 1 << 0;
    ask(Owner::Cgroup(cgroup), hook, BPF_F_QUERY_EFFECTIVE)
}

fn ask(owner: Owner<'_>, hook: AttachType, flags: u32) -> Result<Attached, SysError> {
    let (target, links) = match owner {
        Owner::Interface(index) => (LinkTarget::Ifindex(index), true),
        Owner::Cgroup(fd) | Owner::Netns(fd) | Owner::Map(fd) => (LinkTarget::Fd(fd), false),
    };
    let found = sys::prog_query(target, hook.0, flags, links)?;
    let mut links = found.link_ids.into_iter();
    let mut one = |program| AttachedProgram { program, link: links.next().filter(|&id| id != 0) };
    Ok(Attached {
        programs: found.prog_ids.into_iter().map(&mut one).collect(),
        revision: found.revision,
        flags: found.attach_flags,
    })
}
