//! Attaching programs, and what holds them attached.
//!
//! [`attach`] goes by the program's section name; the other functions name the hook. Where an
//! older kernel has no link for a hook, the older way is used and [`Link::method`] says so.

mod hooks;
mod net;
mod trace;

use std::{
    fmt,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

pub use hooks::{Hook, Target, attach, hook};
pub use net::{
    Direction, PacketSocket, XdpMode, attach_socket_filter, attach_tc, attach_tc_clsact,
    attach_xdp, attach_xdp_netlink, ifindex,
};
pub use trace::{attach_raw_tracepoint, attach_tp_btf, attach_tracepoint};

use net::ClsactFilter;

use crate::{
    netlink::Socket,
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
        match self.held {
            Held::Fd(_) | Held::LinkedEvent { .. } => Method::Link,
            Held::Event(_) => Method::PerfEvent,
            Held::Filter(_) => Method::Clsact,
            Held::Xdp { .. } => Method::XdpNetlink,
            Held::Socket(_) => Method::SocketOption,
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

    fn end(&mut self) -> Result<(), SysError> {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Fd(_) | Held::LinkedEvent { .. } | Held::Event(_) | Held::Nothing => Ok(()),
            Held::Filter(filter) => filter.remove(),
            Held::Xdp { mut socket, ifindex, flags } => socket.set_xdp(ifindex, -1, flags),
            Held::Socket(socket) => sys::socket_detach(socket.as_fd()),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // An interface that is gone has taken its programs with it; nobody can be told anyway.
        self.end().ok();
    }
}
