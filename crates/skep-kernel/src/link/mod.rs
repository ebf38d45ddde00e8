//! Attaching programs, and what holds them attached.
//!
//! [`attach`] goes by the program's section name; the other functions name the hook. Where an
//! older kernel has no link for a hook, the older way is used and [`Link::method`] says so.

mod attachment;
mod cgroup;
mod clsact;
mod elf;
mod event;
mod event_name;
mod hooks;
mod infrared;
mod iter;
mod kprobe;
mod lasting;
mod netns;
mod order;
mod query;
mod route;
mod section;
mod socket;
mod sockmap;
mod struct_ops;
mod symbol;
mod tc;
mod trace;
pub(crate) mod tracefs;
mod tracing;
mod tracing_multi;
mod update;
mod uprobe;
pub mod usdt;
mod xdp;

use std::{
    fmt,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use skep_abi::{AttachType, ProgType};

pub use cgroup::{Sharing, attach_cgroup, attach_cgroup_ordered, attach_cgroup_without_link};
pub use clsact::{FilterPlace, attach_tc_clsact, attach_tc_clsact_at};
pub(crate) use elf::entry_of;
pub use elf::{ElfError, find_binary};
pub use event::{Access, Breakpoint, PerfEvent, Rate, attach_perf_event, attach_perf_event_in};
pub use event_name::EventNameError;
pub use hooks::{Hook, Needs, Target, attach, attach_with, hook};
pub use infrared::attach_infrared;
pub use iter::{CgroupOrder, IterReader, IterTarget, attach_iter, iter_targets};
pub use kprobe::{
    Kprobe, KprobeMulti, attach_kprobe, attach_kprobe_by_tracefs, attach_kprobe_multi,
    attach_ksyscall,
};
pub use lasting::{Keeper, attach_lasting, detach_lasting};
pub use netns::{Netfilter, attach_netfilter, attach_netns};
pub use order::{Neighbour, Order, Position};
pub use query::{Attached, AttachedProgram, Owner, attached, effective};
pub use route::{Route, attach_route};
pub use socket::{PacketSocket, attach_reuseport, attach_socket_filter};
pub use sockmap::{attach_sockmap, attach_sockmap_without_link};
pub use tc::{Direction, NetkitEnd, attach_netkit, attach_tc, attach_tcx, ifindex, ifname};
pub use trace::{attach_raw_tracepoint, attach_tp_btf, attach_tracepoint, tracepoint_id};
pub use tracing::{attach_freplace, attach_lsm, attach_tracing};
pub use tracing_multi::{TracingMulti, attach_tracing_multi};
pub use uprobe::{
    Place, Spot, Uprobe, attach_uprobe, attach_uprobe_by_tracefs, attach_uprobe_multi,
};
pub use usdt::{Usdt, attach_usdt};
pub use xdp::{XdpMode, attach_xdp, attach_xdp_netlink};

use attachment::Attachment;
use clsact::ClsactFilter;
use route::ProgramRoute;
use socket::OnSocket;
use xdp::XdpByNetlink;

use crate::{
    map::Map,
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
    notices: Vec<String>,
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
    /// XDP set on an interface.
    Xdp(XdpByNetlink),
    /// A route through a program.
    Route(ProgramRoute),
    /// A socket with a program.
    Socket(OwnedFd, OnSocket),
    /// A cgroup or map that was told the program, by `BPF_PROG_ATTACH`.
    Attachment(Attachment),
    /// An event of a probe that tracefs defines; the event is closed before the probe goes.
    Traced { event: Box<Self>, probe: tracefs::Probe },
    /// Several events with one program.
    Many(Vec<Self>),
    /// Uprobes of a static probe, and what its program was told about them.
    Usdt { probes: Box<Self>, claim: usdt::Claim },
    /// A `struct_ops` map whose value is stored.
    StructOps(Arc<Map>),
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
    /// `BPF_PROG_ATTACH` on a socket map: Linux before 6.10.
    SocketMap,
    /// A route over netlink.
    Route,
    /// `BPF_PROG_ATTACH` on an infrared receiver.
    Infrared,
    /// A probe defined in tracefs: Linux before 4.17.
    Tracefs,
    /// A value stored in a `struct_ops` map without link.
    MapValue,
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
            Self::SocketMap => "socket map",
            Self::Route => "route",
            Self::Infrared => "infrared receiver",
            Self::Tracefs => "tracefs",
            Self::MapValue => "map value",
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
    #[error("no tracepoint {category}/{name}{}{}", note(*reachable), near_text(near))]
    NoTracepoint {
        /// First part of the name.
        category: String,
        /// Second part.
        name: String,
        /// Could tracefs be read at all?
        reachable: bool,
        /// Names near it in its category; without such a category, categories.
        near: Vec<String>,
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
    /// Another program has the place.
    #[error("program '{program}' not attached to {hook}, which has {by}")]
    Occupied {
        /// The program.
        program: String,
        /// The hook.
        hook: String,
        /// Who is there: name, id, mode; and what to do when it is known to share.
        by: Box<str>,
        /// What failed.
        #[source]
        source: SysError,
    },
    /// A structure of functions was refused.
    #[error("struct_ops map '{map}' not attached{}", struct_ops::hint(source))]
    StructOps {
        /// The map.
        map: String,
        /// What failed.
        #[source]
        source: SysError,
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

fn near_text(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!(" (there is {})", near.join(", ")) }
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

/// Where a program goes whose section names no attach type.
const USUAL: &[(ProgType, AttachType)] = &[
    (ProgType::CGROUP_SOCK, AttachType::CGROUP_INET_SOCK_CREATE),
    (ProgType::CGROUP_DEVICE, AttachType::CGROUP_DEVICE),
    (ProgType::CGROUP_SYSCTL, AttachType::CGROUP_SYSCTL),
    (ProgType::SOCK_OPS, AttachType::CGROUP_SOCK_OPS),
    (ProgType::LSM, AttachType::LSM_CGROUP),
    (ProgType::SK_MSG, AttachType::SK_MSG_VERDICT),
];

/// The program's own attach type, or the only one of its kind.
fn attach_type(program: &Program, hook: &str) -> Result<AttachType, AttachError> {
    let usual = || USUAL.iter().find(|row| row.0 == program.prog_type()).map(|row| row.1);
    program.attach_type().or_else(usual).ok_or_else(|| {
        let hint = "the program does not say at which hook: load it with an attach type";
        refused(program, hook, SysError::errno_of("BPF_LINK_CREATE", libc::EINVAL, hint))
    })
}

/// A descriptor of our own for the same thing.
fn owned(fd: BorrowedFd<'_>) -> Result<OwnedFd, SysError> {
    fd.try_clone_to_owned().map_err(|e| SysError::new("F_DUPFD_CLOEXEC", e))
}

impl Link {
    fn new(held: Held, hook: impl Into<String>) -> Self {
        Self { held, hook: hook.into(), notices: Vec::new() }
    }

    fn with_notices(mut self, notices: Vec<String>) -> Self {
        self.notices = notices;
        self
    }

    /// What is less than was asked for, one sentence each.
    pub fn notices(&self) -> &[String] {
        &self.notices
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
            Held::Xdp(_) => Method::XdpNetlink,
            Held::Socket(..) => Method::SocketOption,
            Held::Attachment(attachment) => attachment.method,
            Held::Route(_) => Method::Route,
            Held::Traced { .. } => Method::Tracefs,
            Held::Usdt { probes, .. } => Self::method_of(probes),
            Held::Many(events) => match events.as_slice() {
                [first, ..] => Self::method_of(first),
                [] => Method::Detached,
            },
            Held::StructOps(_) => Method::MapValue,
            Held::Nothing => Method::Detached,
        }
    }

    /// The descriptor of the BPF link; `None` where something else holds the program.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.held {
            Held::Fd(fd) | Held::LinkedEvent { link: fd, .. } => Some(fd.as_fd()),
            _ => None,
        }
    }

    /// The kernel's id of the link; `None` where something else holds the program.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn id(&self) -> Result<Option<u32>, SysError> {
        self.fd().map(|fd| sys::link_raw(fd).map(|link| link.id)).transpose()
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

    /// Reads what an iterator gives: it walks once, from the beginning, while it is read.
    ///
    /// # Errors
    ///
    /// `EINVAL` when this is not the link of an iterator.
    #[doc(alias = "BPF_ITER_CREATE")]
    pub fn read_iter(&self) -> Result<IterReader, SysError> {
        match &self.held {
            Held::Fd(link) => IterReader::new(link.as_fd(), &self.hook),
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
            Held::Xdp(xdp) => xdp.remove(),
            Held::Socket(socket, place) => place.remove(socket.as_fd()),
            Held::Attachment(attachment) => attachment.remove(),
            Held::Route(route) => route.remove(),
            Held::Traced { event, probe } => {
                drop(event);
                probe.remove()
            }
            Held::StructOps(map) => struct_ops::unregister(&map),
            Held::Many(events) => {
                drop(events);
                Ok(())
            }
            Held::Usdt { probes, claim } => {
                drop(probes);
                drop(claim);
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
