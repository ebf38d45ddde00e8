//! What is loaded on this machine: programs, maps, links and BTF objects by their ids, whoever
//! loaded them.
//!
//! Objects come and go while they are being listed: what is gone when it is asked for is left out,
//! and is no error.

mod btf;
mod cgroup;
mod events;
mod link;
mod map;
mod net;
mod owners;
mod pins;
mod program;
mod watch;

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

pub use btf::{BtfInfo, btf, types};
pub use cgroup::{CGROUP_HOOKS, cgroup_root, cgroups};
pub use events::{EventProgram, event_programs};
pub use link::{LinkInfo, LinkType, Probed, detach, link};
pub use map::{MapInfo, map, open_map};
pub use net::{
    InterfaceHook, NetPlace, NetProgram, interface_of, on_cgroup, on_interfaces, on_netns,
};
pub(crate) use owners::processes;
pub use owners::{Owner, owners};
pub use pins::pins;
pub use program::{Code, LineInfo, ProgramInfo, code, open_program, program};
pub use watch::{RingPositions, RunStatistics, Stream, TracePipe, read_stream, ring_positions};

use crate::sys::{self, ObjectKind, SysError};

/// What has ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Programs.
    Program,
    /// Maps.
    Map,
    /// Links.
    Link,
    /// Type information.
    Btf,
}

impl Kind {
    const fn raw(self) -> ObjectKind {
        match self {
            Self::Program => ObjectKind::Program,
            Self::Map => ObjectKind::Map,
            Self::Link => ObjectKind::Link,
            Self::Btf => ObjectKind::Btf,
        }
    }

    /// What `/proc/PID/fd` calls a descriptor of this kind, and the key of its id in `fdinfo`.
    const fn in_proc(self) -> (&'static str, &'static str) {
        match self {
            Self::Program => ("bpf-prog", "prog_id"),
            Self::Map => ("bpf-map", "map_id"),
            Self::Link => ("bpf_link", "link_id"),
            Self::Btf => ("btf", "btf_id"),
        }
    }

    const ALL: [Self; 4] = [Self::Program, Self::Map, Self::Link, Self::Btf];

    /// By what a descriptor's link in `/proc` says.
    fn of_link(link: &Path) -> Option<Self> {
        let name = link.to_str()?.strip_prefix("anon_inode:")?;
        // Old kernels put brackets around some names; a link that was opened by its id or pin is
        // called otherwise than one that was just made.
        let name = name.trim_matches(|c| c == '[' || c == ']').replace('_', "-");
        let fits = |k: &Self| k.in_proc().0.replace('_', "-") == name;
        Self::ALL.into_iter().find(fits)
    }
}

/// The ids of all objects of a kind, ascending.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`; `EINVAL` on kernels without ids for this kind.
#[doc(alias = "BPF_PROG_GET_NEXT_ID")]
pub fn ids(kind: Kind) -> Result<Vec<u32>, SysError> {
    let (mut found, mut last) = (Vec::new(), 0);
    while let Some(id) = sys::next_id(kind.raw(), last)? {
        // Ids only ascend; this ends the walk whatever the kernel says.
        if id <= last {
            break;
        }
        found.push(id);
        last = id;
    }
    Ok(found)
}

/// Opens an object by its id; none when it is gone, or not yet there.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`.
#[doc(alias = "BPF_PROG_GET_FD_BY_ID")]
pub fn open(kind: Kind, id: u32) -> Result<Option<OwnedFd>, SysError> {
    match sys::open_id(kind.raw(), id) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if e.errno() == libc::ENOENT => Ok(None),
        // A link that is being made has a number before it is there (`bpf_link_by_id`,
        // kernel/bpf/syscall.c).
        Err(e) if kind == Kind::Link && e.errno() == libc::EAGAIN => Ok(None),
        Err(e) => Err(e),
    }
}

/// Pins an object at a path of a bpf file system.
///
/// # Errors
///
/// `EEXIST`, `EPERM` (not bpffs), `ENOENT` (no such directory).
#[doc(alias = "BPF_OBJ_PIN")]
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> Result<(), SysError> {
    sys::obj_pin(fd, path)
}

/// What is pinned at a path: its kind and id.
///
/// # Errors
///
/// `ENOENT` when there is nothing; `EINVAL` when it is none of the four kinds.
pub fn pinned(path: &Path) -> Result<(Kind, u32), SysError> {
    let fd = sys::obj_get(path)?;
    let unknown = || {
        SysError::errno_of("BPF_OBJ_GET", libc::EINVAL, "what is pinned there has no known kind")
    };
    identify(fd.as_fd()).ok_or_else(unknown)
}

/// Kind and id of a descriptor of this process.
fn identify(fd: BorrowedFd<'_>) -> Option<(Kind, u32)> {
    use std::os::fd::AsRawFd as _;
    let number = fd.as_raw_fd();
    let kind = Kind::of_link(&sys::read_link(format!("/proc/thread-self/fd/{number}")).ok()?)?;
    Some((kind, own_field(fd, kind.in_proc().1)?.parse().ok()?))
}

/// A field of `fdinfo` of a descriptor of this process.
fn own_field(fd: BorrowedFd<'_>, key: &str) -> Option<String> {
    use std::os::fd::AsRawFd as _;
    let text = sys::read_text(format!("/proc/thread-self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    field(&text, key).map(str::to_owned)
}

/// The value of `key:` in the text of `fdinfo`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim())
}

/// 0 is the kernel's "none".
const fn some(id: u32) -> Option<u32> {
    if id == 0 { None } else { Some(id) }
}

#[cfg(test)]
mod tests;
