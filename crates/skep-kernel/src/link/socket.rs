//! Programs on sockets, and the packet socket to put one on.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use super::{AttachError, Held, Link, owned, refused};
use crate::{
    program::Program,
    sys::{self, SysError},
};

/// Attaches a socket filter: its return value is how many bytes of a packet the socket keeps.
/// The socket's filter is removed when the link is dropped.
///
/// # Errors
///
/// `EPERM` when the socket's filter is locked; `EINVAL` when the program is of another type.
#[doc(alias = "SO_ATTACH_BPF")]
pub fn attach_socket_filter(
    program: &Program,
    socket: BorrowedFd<'_>,
) -> Result<Link, AttachError> {
    on_socket(program, socket, OnSocket::Filter, "socket filter")
}

/// Attaches a program to the reuseport group of a socket (`SO_REUSEPORT`, and bound): it chooses
/// which of the group's sockets gets a connection or datagram. `sk_reuseport` programs choose from
/// a map of sockets, socket filters return a number. Without it the kernel chooses by a hash.
///
/// # Errors
///
/// `EINVAL` when the socket has no `SO_REUSEPORT`, or the program is of another type.
#[doc(alias = "SO_ATTACH_REUSEPORT_EBPF")]
pub fn attach_reuseport(program: &Program, socket: BorrowedFd<'_>) -> Result<Link, AttachError> {
    on_socket(program, socket, OnSocket::Reuseport, "a reuseport group")
}

fn on_socket(
    program: &Program,
    socket: BorrowedFd<'_>,
    place: OnSocket,
    hook: &str,
) -> Result<Link, AttachError> {
    let held = owned(socket).and_then(|held| {
        place.set(socket, program.as_fd())?;
        Ok(Held::Socket(held, place))
    });
    Ok(Link::new(held.map_err(|e| refused(program, hook, e))?, hook))
}

/// Which of a socket's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnSocket {
    /// The one that cuts packets.
    Filter,
    /// The one that chooses for the whole group.
    Reuseport,
}

impl OnSocket {
    /// Puts a program there, in the place of the one there is.
    pub(super) fn set(
        self,
        socket: BorrowedFd<'_>,
        program: BorrowedFd<'_>,
    ) -> Result<(), SysError> {
        match self {
            Self::Filter => sys::socket_attach(socket, program),
            Self::Reuseport => sys::reuseport_attach(socket, program),
        }
    }

    pub(super) fn remove(self, socket: BorrowedFd<'_>) -> Result<(), SysError> {
        match self {
            Self::Filter => sys::socket_detach(socket),
            Self::Reuseport => sys::reuseport_detach(socket),
        }
    }
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
