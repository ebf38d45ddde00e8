//! Copies of a live interface's packets, from an `AF_PACKET` socket.
//!
//! Observes only: the packets go their way whatever a program says. Needs `CAP_NET_RAW`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::sys;

/// A socket that gets every packet of one interface, in both directions.
#[derive(Debug)]
pub struct AfPacket {
    socket: OwnedFd,
    ifindex: u32,
    buf: Vec<u8>,
}

/// A packet from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivePacket<'a> {
    /// Bytes from the Ethernet header on, at most 64 KiB.
    pub data: &'a [u8],
    /// Length on the wire.
    pub original_len: usize,
    /// Was the packet sent by this machine?
    pub outgoing: bool,
}

impl AfPacket {
    /// Opens the interface of this name.
    ///
    /// # Errors
    ///
    /// `NotFound` for a name that is no interface; `PermissionDenied` without `CAP_NET_RAW`.
    pub fn open(interface: &str) -> io::Result<Self> {
        let name = CString::new(interface).map_err(|_| io::ErrorKind::InvalidInput)?;
        let ifindex = sys::interface_index(&name)?;
        let socket = sys::packet_socket(ifindex)?;
        Ok(Self { socket, ifindex, buf: vec![0; 1 << 16] })
    }

    /// Index of the interface.
    pub const fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The next packet; `None` when none came within `timeout`, or a signal came.
    ///
    /// # Errors
    ///
    /// What the socket says, `ENETDOWN` for one when the interface went away.
    pub fn next_packet(&mut self, timeout: Duration) -> io::Result<Option<LivePacket<'_>>> {
        if !sys::readable(self.socket.as_fd(), timeout)? {
            return Ok(None);
        }
        let Some((original_len, outgoing)) = sys::receive(self.socket.as_fd(), &mut self.buf)?
        else {
            return Ok(None);
        };
        let data = self.buf.get(..original_len).unwrap_or(&self.buf);
        Ok(Some(LivePacket { data, original_len, outgoing }))
    }

    /// Packets seen and packets lost for lack of room since the last call.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub fn statistics(&self) -> io::Result<(u32, u32)> {
        sys::packet_statistics(self.socket.as_fd())
    }
}

impl AsFd for AfPacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
