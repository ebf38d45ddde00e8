//! Copies of a live interface's packets, from an `AF_PACKET` socket.
//!
//! The packets are what is on the wire: a VLAN tag, which the kernel takes out before packet
//! sockets, is put back. Observes only: the packets go their way whatever a program says. Needs `CAP_NET_RAW`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::sys;

/// Longest packet; a longer one is cut.
const MAX_LEN: usize = 1 << 16;
/// Bytes of a VLAN tag.
const TAG_LEN: usize = 4;
/// Where it stands: behind the two addresses.
const TAG_AT: usize = 12;

/// Puts the tag back that the kernel took out of the packet `buf[..len]`; false when the packet is
/// too short for one or the buffer has no room.
fn put_tag(buf: &mut [u8], len: usize, (protocol, tci): (u16, u16)) -> bool {
    if len < TAG_AT || len + TAG_LEN > buf.len() {
        return false;
    }
    buf.copy_within(TAG_AT..len, TAG_AT + TAG_LEN);
    let bytes = protocol.to_be_bytes().into_iter().chain(tci.to_be_bytes());
    buf.iter_mut().skip(TAG_AT).zip(bytes).for_each(|(to, from)| *to = from);
    true
}

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
    /// Bytes from the Ethernet header on, at most 64 KiB and a tag.
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
        Ok(Self { socket, ifindex, buf: vec![0; MAX_LEN + TAG_LEN] })
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
        let room = self.buf.get_mut(..MAX_LEN).unwrap_or_default();
        let Some(received) = sys::receive(self.socket.as_fd(), room)? else { return Ok(None) };
        let mut original_len = received.len;
        let mut len = received.len.min(MAX_LEN);
        if let Some(tag) = received.tag
            && put_tag(&mut self.buf, len, tag)
        {
            len += TAG_LEN;
            original_len += TAG_LEN;
        }
        let data = self.buf.get(..len).unwrap_or_default();
        Ok(Some(LivePacket { data, original_len, outgoing: received.outgoing }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_goes_behind_the_addresses() {
        let mut buf: Vec<u8> = (0..20).collect();
        assert!(put_tag(&mut buf, 16, (0x8100, 0x2005)));
        let addresses: Vec<u8> = (0..12).collect();
        assert_eq!(buf, [&addresses[..], &[0x81, 0, 0x20, 5], &[12, 13, 14, 15]].concat());
        assert!(!put_tag(&mut buf, 17, (0x8100, 5)), "no room");
        assert!(!put_tag(&mut buf, 11, (0x8100, 5)), "no place");
    }
}
