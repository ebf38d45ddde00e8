//! XDP, TC, socket filters.

use std::{
    collections::BTreeSet,
    fmt, fs,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    sync::Mutex,
    time::Duration,
};

use skep_abi::AttachType;

use super::{AttachError, Held, Link, refused, trace::no_such_link};
use crate::{
    netlink::{CLSACT_EGRESS, CLSACT_INGRESS, Filter, Socket},
    program::Program,
    sys::{self, LinkTarget, SysError},
};

/// Where in the receive path an XDP program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver where it can, else generic.
    #[default]
    Auto,
    /// In the driver, before the kernel makes an `sk_buff`.
    #[doc(alias = "XDP_FLAGS_DRV_MODE")]
    Native,
    /// In the stack: slower, on every device.
    #[doc(alias = "XDP_FLAGS_SKB_MODE")]
    Generic,
}

impl XdpMode {
    const fn flags(self) -> u32 {
        match self {
            Self::Auto => 0,
            Self::Generic => 1 << 1,
            Self::Native => 1 << 2,
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// Which packets of an interface a TC program sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// What arrives.
    #[default]
    Ingress,
    /// What leaves.
    Egress,
}

impl Direction {
    const fn attach_type(self) -> AttachType {
        match self {
            Self::Ingress => AttachType::TCX_INGRESS,
            Self::Egress => AttachType::TCX_EGRESS,
        }
    }

    const fn parent(self) -> u32 {
        match self {
            Self::Ingress => CLSACT_INGRESS,
            Self::Egress => CLSACT_EGRESS,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// Index of a network interface of the current namespace.
///
/// # Errors
///
/// `ENODEV` when there is none of this name.
pub fn ifindex(name: &str) -> Result<u32, SysError> {
    sys::interface_index(name)
}

/// Attaches an XDP program to an interface.
///
/// With [`XdpMode::Auto`], a driver that has XDP but refuses this program (packet size, offloads)
/// is passed over for generic mode.
///
/// # Errors
///
/// `EBUSY` or `EEXIST` when there is one already; `EOPNOTSUPP` when the driver has no native mode.
pub fn attach_xdp(program: &Program, ifindex: u32, mode: XdpMode) -> Result<Link, AttachError> {
    let first = match xdp(program, ifindex, mode) {
        Ok(link) => return Ok(link),
        Err(e) => e,
    };
    let driver_refused = |e: &SysError| {
        matches!(e.errno(), libc::EOPNOTSUPP | libc::ERANGE | libc::EINVAL | libc::ENOMEM)
    };
    if mode == XdpMode::Auto
        && driver_refused(&first)
        && let Ok(link) = xdp(program, ifindex, XdpMode::Generic)
    {
        return Ok(link);
    }
    Err(refused(program, &xdp_hook(ifindex, mode), first))
}

fn xdp_hook(ifindex: u32, mode: XdpMode) -> String {
    format!("XDP ({mode}) on interface {ifindex}")
}

fn xdp(program: &Program, ifindex: u32, mode: XdpMode) -> Result<Link, SysError> {
    let hook = xdp_hook(ifindex, mode);
    let (target, flags) = (LinkTarget::Ifindex(ifindex), mode.flags());
    match sys::link_create(program.as_fd(), target, AttachType::XDP.0, flags) {
        Ok(link) => Ok(Link::new(Held::Fd(link), hook)),
        Err(e) if no_such_link(&e) => xdp_by_netlink(program, ifindex, mode).map_err(|_| e),
        Err(e) => Err(e),
    }
}

fn xdp_by_netlink(program: &Program, ifindex: u32, mode: XdpMode) -> Result<Link, SysError> {
    // Only if nothing is there: replacing another's program is not attaching.
    const UPDATE_IF_NOEXIST: u32 = 1 << 0;
    let flags = mode.flags();
    let prog = program.as_fd().as_raw_fd();
    let mut socket = Socket::open()?;
    socket.set_xdp(ifindex, prog, flags | UPDATE_IF_NOEXIST)?;
    Ok(Link::new(Held::Xdp { socket, ifindex, flags }, xdp_hook(ifindex, mode)))
}

/// Attaches an XDP program over netlink, also where the kernel has links for it. The program stays
/// attached when this process is killed.
///
/// # Errors
///
/// As for [`attach_xdp`].
pub fn attach_xdp_netlink(
    program: &Program,
    ifindex: u32,
    mode: XdpMode,
) -> Result<Link, AttachError> {
    xdp_by_netlink(program, ifindex, mode)
        .map_err(|e| refused(program, &xdp_hook(ifindex, mode), e))
}

/// Attaches a TC program to an interface: by a tcx link, or where the kernel has none as a filter
/// of the clsact qdisc, whose return value is the verdict.
///
/// # Errors
///
/// `ENODEV`; `EINVAL` when the program is of another type.
pub fn attach_tc(
    program: &Program,
    ifindex: u32,
    direction: Direction,
) -> Result<Link, AttachError> {
    let hook = format!("tc {direction} of interface {ifindex}");
    let target = LinkTarget::Ifindex(ifindex);
    match sys::link_create(program.as_fd(), target, direction.attach_type().0, 0) {
        Ok(link) => Ok(Link::new(Held::Fd(link), hook)),
        Err(e) if no_such_link(&e) => attach_tc_clsact(program, ifindex, direction),
        Err(e) => Err(refused(program, &hook, e)),
    }
}

/// Attaches a TC program as a filter of the clsact qdisc, also where the kernel has tcx.
///
/// # Errors
///
/// As for [`attach_tc`]; `ENOENT` when the kernel has no clsact or no `cls_bpf`.
pub fn attach_tc_clsact(
    program: &Program,
    ifindex: u32,
    direction: Direction,
) -> Result<Link, AttachError> {
    let hook = format!("tc {direction} of interface {ifindex}");
    let held = clsact(program, ifindex, direction).map_err(|e| refused(program, &hook, e))?;
    Ok(Link::new(held, hook))
}

/// An interface: inode of its network namespace, and its number there.
type Interface = (u64, u32);

/// The clsact qdiscs this process made: each goes with the last filter on it. One that was there
/// before stays.
static MADE: Mutex<BTreeSet<Interface>> = Mutex::new(BTreeSet::new());

/// A filter of the clsact qdisc, with a socket of its network namespace.
#[derive(Debug)]
pub(super) struct ClsactFilter {
    socket: Socket,
    interface: Interface,
    filter: Filter,
}

fn clsact(program: &Program, ifindex: u32, direction: Direction) -> Result<Held, SysError> {
    let mut socket = Socket::open()?;
    let namespace = fs::metadata("/proc/thread-self/ns/net").map_or(0, |meta| meta.ino());
    let interface = (namespace, ifindex);
    let mut made = MADE.lock().expect("nobody panics while holding it");
    if socket.add_clsact(ifindex)? {
        made.insert(interface);
    }
    let prog = program.as_fd().as_raw_fd();
    match socket.add_filter(ifindex, direction.parent(), prog, program.name()) {
        Ok(filter) => Ok(Held::Filter(ClsactFilter { socket, interface, filter })),
        Err(e) => {
            // The filter's error is the one to report.
            remove_unused_clsact(&mut socket, &mut made, interface).ok();
            Err(e)
        }
    }
}

impl ClsactFilter {
    /// Removes the filter, and the qdisc when it was made here and nothing else hangs on it.
    pub(super) fn remove(mut self) -> Result<(), SysError> {
        let mut made = MADE.lock().expect("nobody panics while holding it");
        // When somebody else has removed the filter, the qdisc still has to go.
        let removed = self.socket.delete_filter(self.filter);
        let tidied = remove_unused_clsact(&mut self.socket, &mut made, self.interface);
        removed.and(tidied)
    }
}

fn remove_unused_clsact(
    socket: &mut Socket,
    made: &mut BTreeSet<Interface>,
    interface: Interface,
) -> Result<(), SysError> {
    if !made.contains(&interface) {
        return Ok(());
    }
    let (_, ifindex) = interface;
    for parent in [CLSACT_INGRESS, CLSACT_EGRESS] {
        if !socket.filters(ifindex, parent)?.is_empty() {
            return Ok(());
        }
    }
    made.remove(&interface);
    socket.delete_clsact(ifindex)
}

/// Attaches a socket filter: its return value is how many bytes of a packet the socket keeps.
/// The socket's filter is removed when the link is dropped.
///
/// # Errors
///
/// `EPERM` when the socket's filter is locked; `EINVAL` when the program is of another type.
pub fn attach_socket_filter(
    program: &Program,
    socket: BorrowedFd<'_>,
) -> Result<Link, AttachError> {
    let hook = "socket filter";
    let fail = |e| refused(program, hook, e);
    let held = socket.try_clone_to_owned().map_err(|e| fail(SysError::new("dup", e)))?;
    sys::socket_attach(socket, program.as_fd()).map_err(fail)?;
    Ok(Link::new(Held::Socket(held), hook))
}

/// A raw packet socket on one interface: whole frames, both directions.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens one on an interface of the current network namespace. Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    ///
    /// `EPERM`; `ENODEV`.
    pub fn open(ifindex: u32) -> Result<Self, SysError> {
        Ok(Self { fd: sys::packet_socket(ifindex)? })
    }

    /// Sends one frame out of the interface.
    ///
    /// # Errors
    ///
    /// `EMSGSIZE` above the MTU; `ENETDOWN`; `ENOBUFS` when the queue is full.
    pub fn send(&self, frame: &[u8]) -> Result<(), SysError> {
        sys::send(self.fd.as_fd(), frame)
    }

    /// Receives one frame into `buffer`; waits up to `timeout`. The result is the frame's length,
    /// larger than the buffer's when it was cut.
    ///
    /// # Errors
    ///
    /// `ENETDOWN` when the interface goes down.
    pub fn receive(&self, buffer: &mut [u8], timeout: Duration) -> Result<Option<usize>, SysError> {
        if !sys::wait_readable(&[self.fd.as_fd()], timeout)? {
            return Ok(None);
        }
        sys::receive(self.fd.as_fd(), buffer, libc::MSG_DONTWAIT)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
