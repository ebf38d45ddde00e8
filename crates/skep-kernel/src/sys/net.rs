//! Sockets: packet sockets, programs on sockets, netlink messages.

use std::{
    ffi::CString,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use super::{Call, SysError, from_obj_name, issue, issue_fd};

/// Gives the calling thread a network namespace of its own, with a loopback interface that is down.
pub(crate) fn leave_network() -> Result<(), SysError> {
    // SAFETY: passes no address.
    unsafe { issue(&mut Call::Unshare { flags: libc::CLONE_NEWNET }) }.map(drop)
}

/// Attaches a socket filter.
pub(crate) fn socket_attach(socket: BorrowedFd<'_>, prog: BorrowedFd<'_>) -> Result<(), SysError> {
    set_option(socket, libc::SO_ATTACH_BPF, prog.as_raw_fd(), "SO_ATTACH_BPF")
}

/// Removes the filter of a socket.
pub(crate) fn socket_detach(socket: BorrowedFd<'_>) -> Result<(), SysError> {
    set_option(socket, libc::SO_DETACH_FILTER, 0, "SO_DETACH_FILTER")
}

/// A UDP socket that is a reuseport group of its own.
pub(crate) fn reuseport_socket() -> Result<OwnedFd, SysError> {
    let group = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let on: libc::c_int = 1;
    set(group.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, &on, "SO_REUSEPORT")?;
    Ok(group)
}

/// Attaches a program to the reuseport group of a socket.
pub(crate) fn reuseport_attach(
    socket: BorrowedFd<'_>,
    prog: BorrowedFd<'_>,
) -> Result<(), SysError> {
    const SO_ATTACH_REUSEPORT_EBPF: libc::c_int = 52;
    set_option(socket, SO_ATTACH_REUSEPORT_EBPF, prog.as_raw_fd(), "SO_ATTACH_REUSEPORT_EBPF")
}

/// Removes the program of a socket's reuseport group (Linux 5.3).
pub(crate) fn reuseport_detach(socket: BorrowedFd<'_>) -> Result<(), SysError> {
    const SO_DETACH_REUSEPORT_BPF: libc::c_int = 68;
    set_option(socket, SO_DETACH_REUSEPORT_BPF, 0, "SO_DETACH_REUSEPORT_BPF")
}

fn set_option(
    socket: BorrowedFd<'_>,
    option: libc::c_int,
    value: libc::c_int,
    command: &'static str,
) -> Result<(), SysError> {
    set(socket, libc::SOL_SOCKET, option, &value, command)
}

/// A C structure or number that a socket option takes.
///
/// # Safety
///
/// The type must be plain data without padding.
unsafe trait OptionValue {}
// SAFETY: a number.
unsafe impl OptionValue for libc::c_int {}
// SAFETY: two numbers of 64 bits on the targets of this crate.
unsafe impl OptionValue for libc::timeval {}

fn set<T: OptionValue>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
    command: &'static str,
) -> Result<(), SysError> {
    let (at, len) = (std::ptr::from_ref(value).cast(), size_of::<T>());
    // SAFETY: `T: OptionValue` has no padding, so that all its bytes are initialised.
    let value = unsafe { std::slice::from_raw_parts(at, len) };
    // SAFETY: passes no address but the value's.
    unsafe { issue(&mut Call::SetSockOpt { name: command, fd: socket, level, option, value }) }
        .map(drop)
}

fn socket(
    domain: libc::c_int,
    kind: libc::c_int,
    protocol: libc::c_int,
) -> Result<OwnedFd, SysError> {
    // SAFETY: passes no address, and returns a new descriptor.
    unsafe { issue_fd(&mut Call::Socket { domain, kind, protocol }) }
}

/// A raw packet socket bound to an interface of the current network namespace.
pub(crate) fn packet_socket(ifindex: u32) -> Result<OwnedFd, SysError> {
    /// `ETH_P_ALL`.
    const ALL: u16 = 3;
    let family = u16::try_from(libc::AF_PACKET).expect("address families are small");
    // Protocol 0 receives nothing until `bind` names the interface: no frame of another one.
    let packet = socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: ALL.to_be(),
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: passes no address but that of `address`.
    unsafe { issue(&mut Call::Bind { fd: packet.as_fd(), address: &address }) }?;
    Ok(packet)
}

/// Sends one frame or message.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), SysError> {
    // SAFETY: passes no address but that of `bytes`.
    unsafe { issue(&mut Call::Send { fd: socket, bytes }) }.map(drop)
}

/// Receives one frame or message into `buffer`: its length, which is larger than the buffer's
/// when it did not fit; `None` when there is none in the time that the socket waits.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    flags: libc::c_int,
) -> Result<Option<usize>, SysError> {
    let flags = flags | libc::MSG_TRUNC;
    // SAFETY: passes no address but the buffer's.
    match unsafe { issue(&mut Call::Recv { fd: socket, buffer, flags }) } {
        Ok(len) => Ok(usize::try_from(len).ok()),
        Err(e) if e.errno() == libc::EAGAIN => Ok(None),
        Err(e) => Err(e),
    }
}

/// A routing netlink socket of the current network namespace, whose answers come within a second.
pub(crate) fn netlink_socket() -> Result<OwnedFd, SysError> {
    let netlink = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let patience = Duration::from_secs(1);
    let time = libc::timeval {
        tv_sec: libc::time_t::try_from(patience.as_secs()).unwrap_or(1),
        tv_usec: 0,
    };
    set(netlink.as_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, &time, "SO_RCVTIMEO")?;
    // Errors in words, where the kernel has them.
    let on: libc::c_int = 1;
    set(netlink.as_fd(), libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &on, "NETLINK_EXT_ACK").ok();
    Ok(netlink)
}

/// The name of an interface of the current network namespace.
pub(crate) fn interface_name(index: u32) -> Result<String, SysError> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: passes no address but that of `name`.
    unsafe { issue(&mut Call::InterfaceName { index, into: &mut name }) }?;
    Ok(from_obj_name(&name))
}

/// Index of a network interface of the current namespace.
pub(crate) fn interface_index(name: &str) -> Result<u32, SysError> {
    let unusable = |_| SysError::errno_of("if_nametoindex", libc::EINVAL, "the name has a NUL");
    let name = CString::new(name).map_err(unusable)?;
    // SAFETY: passes no address but the name's.
    let index = unsafe { issue(&mut Call::InterfaceIndex { name: &name }) }?;
    u32::try_from(index).map_err(|_| {
        let hint = "the kernel's number is none of an interface";
        SysError::errno_of("if_nametoindex", libc::EPROTO, hint)
    })
}
