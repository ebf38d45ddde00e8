//! Attaching programs, and what holds them attached.
//!
//! [`attach`] goes by the program's section name; the other functions name the hook. Where an
//! older kernel has no link for a hook, the older way is used and [`Link::method`] says so.

mod cgroup;
mod elf;
mod event;
mod hooks;
mod iter;
mod kprobe;
mod net;
mod netns;
mod section;
mod trace;
pub(crate) mod tracefs;
mod tracing;
mod uprobe;

use std::{
    fmt, fs,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

pub use cgroup::{attach_cgroup, attach_cgroup_without_link};
pub use elf::{ElfError, find_binary};
pub use event::{PerfEvent, Rate, attach_perf_event};
pub use hooks::{Hook, Target, attach, hook};
pub use iter::{IterTarget, attach_iter};
pub use kprobe::{
    Kprobe, attach_kprobe, attach_kprobe_by_tracefs, attach_kprobe_multi, attach_ksyscall,
};
pub use net::{
    Direction, PacketSocket, XdpMode, attach_socket_filter, attach_tc, attach_tc_clsact,
    attach_xdp, attach_xdp_netlink, ifindex,
};
pub use netns::{Netfilter, attach_netfilter, attach_netns};
pub use trace::{attach_raw_tracepoint, attach_tp_btf, attach_tracepoint};
pub use tracing::{attach_freplace, attach_lsm, attach_tracing};
pub use uprobe::{Place, Uprobe, attach_uprobe, attach_uprobe_multi};

use net::ClsactFilter;

use crate::{
    netlink::Socket,
    program::Program,
    sys::{self, SysError},
};

/// An attached program. Dropping it detaches, unless it was pinned.
///
/// It may be dropped in another network namespace than it was made in: what is attached over
/// netlink keeps a socket of its own namespace, which lives as long.
#[derive(Debug)]
pub struct Link {
    held: Held,
    hook: String,
}

/// What keeps a program attached.
#[derive(Debug)]
#[expect(dead_code, reason = "some descriptors are only held: closing them detaches")]
enum Held {
    /// The descriptor of a link, or of a raw tracepoint: closing it detaches.
    Fd(OwnedFd),
    /// A perf event with a link on it.
    LinkedEvent { link: OwnedFd, event: OwnedFd },
    /// A perf event that was told the program.
    Event(OwnedFd),
    /// A filter of the clsact qdisc.
    Filter(ClsactFilter),
    /// XDP set on an interface, and a socket of its network namespace.
    Xdp { socket: Socket, ifindex: u32, flags: u32 },
    /// A socket with a filter.
    Socket(OwnedFd),
    /// A cgroup that was told the program, by `BPF_PROG_ATTACH`.
    Cgroup { cgroup: OwnedFd, program: OwnedFd, attach_type: u32 },
    /// An event of a probe that tracefs defines; the event is closed before the probe goes.
    Traced { event: Box<Self>, probe: tracefs::Probe },
    /// Several events with one program.
    Many(Vec<Self>),
    /// Nothing: the link was detached.
    Nothing,
}

/// By which interface of the kernel a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Method {
    /// A BPF link, or the descriptor of a raw tracepoint.
    Link,
    /// A perf event, without a link: Linux before 5.15.
    PerfEvent,
    /// The clsact qdisc over netlink: Linux before 6.6.
    Clsact,
    /// XDP over netlink: Linux before 5.9.
    XdpNetlink,
    /// A socket option.
    SocketOption,
    /// `BPF_PROG_ATTACH` on a cgroup: Linux before 5.7.
    Cgroup,
    /// A probe defined in tracefs: Linux before 4.17.
    Tracefs,
    /// Not attached any more.
    Detached,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "link",
            Self::PerfEvent => "perf event",
            Self::Clsact => "clsact",
            Self::XdpNetlink => "netlink",
            Self::SocketOption => "socket option",
            Self::Cgroup => "cgroup",
            Self::Tracefs => "tracefs",
            Self::Detached => "detached",
        })
    }
}

/// Attaching failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The section name does not say where, and the caller did not.
    #[error("program '{program}' ({hook}) needs {needs} to be attached to")]
    NeedsTarget {
        /// The program.
        program: String,
        /// Its hook.
        hook: &'static str,
        /// What is missing.
        needs: &'static str,
    },
    /// This engine cannot attach this kind of program.
    #[error("program '{program}': attaching {hook} is not supported yet; nearest: {nearest}")]
    NotYet {
        /// The program.
        program: String,
        /// Its hook.
        hook: &'static str,
        /// What works instead.
        nearest: &'static str,
    },
    /// The kernel has no such tracepoint, or tracefs cannot be read.
    #[error("no tracepoint {category}/{name}{}", note(*reachable))]
    NoTracepoint {
        /// First part of the name.
        category: String,
        /// Second part.
        name: String,
        /// Could tracefs be read at all?
        reachable: bool,
        /// Why the tracepoint's number could not be read.
        #[source]
        source: std::io::Error,
    },
    /// What the section name says cannot be attached to.
    #[error("program '{program}' ({hook}): '{target}' is no {expected}")]
    Name {
        /// The program.
        program: String,
        /// Its hook.
        hook: &'static str,
        /// What the section name says.
        target: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A place in a binary was not found.
    #[error("program '{program}' not attached to a user function")]
    Binary {
        /// The program.
        program: String,
        /// Why not.
        #[source]
        source: ElfError,
    },
    /// The kernel refused.
    #[error("program '{program}' not attached to {hook}")]
    Refused {
        /// The program.
        program: String,
        /// The hook.
        hook: String,
        /// What failed.
        #[source]
        source: SysError,
    },
}

const fn note(reachable: bool) -> &'static str {
    if reachable {
        ""
    } else {
        " (tracefs is neither mounted at /sys/kernel/tracing nor can this process mount its own: \
         needs CAP_SYS_ADMIN)"
    }
}

/// A refusal of the kernel, in the words of an error.
fn refused(program: &Program, hook: &str, source: SysError) -> AttachError {
    AttachError::Refused { program: program.name().to_owned(), hook: hook.to_owned(), source }
}

impl Link {
    fn new(held: Held, hook: impl Into<String>) -> Self {
        Self { held, hook: hook.into() }
    }

    /// Where the program is attached, in words.
    pub fn hook(&self) -> &str {
        &self.hook
    }

    /// By which interface of the kernel.
    pub const fn method(&self) -> Method {
        Self::method_of(&self.held)
    }

    const fn method_of(held: &Held) -> Method {
        match held {
            Held::Fd(_) | Held::LinkedEvent { .. } => Method::Link,
            Held::Event(_) => Method::PerfEvent,
            Held::Filter(_) => Method::Clsact,
            Held::Xdp { .. } => Method::XdpNetlink,
            Held::Socket(_) => Method::SocketOption,
            Held::Cgroup { .. } => Method::Cgroup,
            Held::Traced { .. } => Method::Tracefs,
            Held::Many(events) => match events.as_slice() {
                [first, ..] => Self::method_of(first),
                [] => Method::Detached,
            },
            Held::Nothing => Method::Detached,
        }
    }

    /// Detaches, and says when that fails; dropping does the same silently.
    ///
    /// # Errors
    ///
    /// The kernel's, for what is not held by a descriptor.
    pub fn detach(mut self) -> Result<(), SysError> {
        self.end()
    }

    /// Pins the link, so that the program stays attached after this process.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is not held by a BPF link; else as for [`crate::Map::pin`].
    pub fn pin(&self, path: &Path) -> Result<(), SysError> {
        match &self.held {
            Held::Fd(fd) | Held::LinkedEvent { link: fd, .. } => sys::obj_pin(fd.as_fd(), path),
            _ => {
                let hint = "only what is held by a link can be pinned";
                Err(SysError::errno_of("BPF_OBJ_PIN", libc::EINVAL, hint))
            }
        }
    }

    /// Reads what an iterator gives: it walks once, from the beginning, while the file is read.
    ///
    /// # Errors
    ///
    /// `EINVAL` when this is not the link of an iterator.
    #[doc(alias = "BPF_ITER_CREATE")]
    pub fn read_iter(&self) -> Result<fs::File, SysError> {
        match &self.held {
            Held::Fd(link) => sys::iter_create(link.as_fd()).map(fs::File::from),
            _ => {
                let hint = "only an iterator's link can be read";
                Err(SysError::errno_of("BPF_ITER_CREATE", libc::EINVAL, hint))
            }
        }
    }

    fn end(&mut self) -> Result<(), SysError> {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Fd(_) | Held::LinkedEvent { .. } | Held::Event(_) | Held::Nothing => Ok(()),
            Held::Filter(filter) => filter.remove(),
            Held::Xdp { mut socket, ifindex, flags } => socket.set_xdp(ifindex, -1, flags),
            Held::Socket(socket) => sys::socket_detach(socket.as_fd()),
            Held::Cgroup { cgroup, program, attach_type } => {
                sys::prog_detach(cgroup.as_fd(), program.as_fd(), attach_type)
            }
            Held::Traced { event, probe } => {
                drop(event);
                probe.remove()
            }
            Held::Many(events) => {
                drop(events);
                Ok(())
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // An interface that is gone has taken its programs with it; nobody can be told anyway.
        self.end().ok();
    }
}
