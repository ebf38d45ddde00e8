//! A packet: linear bytes with room in front and behind.

use std::sync::Arc;

use crate::mem::{Area, Space};

/// Bytes in front of a fresh packet, `XDP_PACKET_HEADROOM` in the kernel.
pub(crate) const HEADROOM: usize = 256;
/// Bytes that the kernel keeps behind an XDP packet for `struct skb_shared_info`.
const TAIL_RESERVED: usize = 320;
const PAGE: usize = 4096;

/// Packet bytes; `meta <= data <= end`, as offsets in the area.
#[derive(Debug)]
pub(crate) struct Packet {
    area: Arc<Area>,
    pub(crate) meta: usize,
    pub(crate) data: usize,
    pub(crate) end: usize,
    /// Offset behind the last byte that the packet can grow to. The area may be larger.
    limit: usize,
}

impl Packet {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut packet = Self { area: Arc::new(Area::new(0)), meta: 0, data: 0, end: 0, limit: 0 };
        packet.load(bytes);
        packet
    }

    /// Starts again with other bytes.
    pub(crate) fn load(&mut self, bytes: &[u8]) {
        let room = (HEADROOM + bytes.len()).max(PAGE - TAIL_RESERVED);
        if self.area.len() < room {
            self.area = Arc::new(Area::new(room));
        }
        self.limit = room;
        self.meta = HEADROOM;
        self.data = HEADROOM;
        self.end = HEADROOM + bytes.len();
        let fits = self.area.write(self.data, bytes);
        debug_assert!(fits, "room was made above");
    }

    pub(crate) fn grant(&self, space: &mut Space, writable: bool) {
        space.set_packet(&self.area, self.meta, self.end - self.meta, writable);
    }

    pub(crate) fn data_addr(&self) -> u64 {
        self.area.addr() + self.data as u64
    }

    pub(crate) fn end_addr(&self) -> u64 {
        self.area.addr() + self.end as u64
    }

    pub(crate) fn meta_addr(&self) -> u64 {
        self.area.addr() + self.meta as u64
    }

    /// Bytes between `data` and `end`.
    pub(crate) fn len(&self) -> usize {
        self.end - self.data
    }

    /// Offset behind the last byte that the packet can grow to.
    pub(crate) fn capacity(&self) -> usize {
        self.limit
    }

    /// Copies packet bytes out; false when they are not all there.
    #[must_use]
    pub(crate) fn read(&self, off: usize, out: &mut [u8]) -> bool {
        let inside = off.checked_add(out.len()).is_some_and(|end| end <= self.len());
        inside && self.area.read(self.data + off, out)
    }

    /// Copies into the packet; false when the range is not all there.
    #[must_use]
    pub(crate) fn write(&mut self, off: usize, bytes: &[u8]) -> bool {
        let inside = off.checked_add(bytes.len()).is_some_and(|end| end <= self.len());
        inside && self.area.write(self.data + off, bytes)
    }

    /// The packet's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; self.len()];
        let whole = self.read(0, &mut out);
        debug_assert!(whole, "data..end lies in the area");
        out
    }

    /// The packet's bytes with the metadata in front.
    pub(crate) fn with_metadata(&self) -> Vec<u8> {
        let mut out = vec![0; self.end - self.meta];
        let whole = self.area.read(self.meta, &mut out);
        debug_assert!(whole, "meta..end lies in the area");
        out
    }

    /// Clears bytes of the area, for a packet that grew over what was there before.
    pub(crate) fn clear(&mut self, from: usize, to: usize) {
        let zeros = vec![0; to.saturating_sub(from)];
        let inside = self.area.write(from, &zeros);
        debug_assert!(inside, "callers stay within the capacity");
    }

    /// Replaces `remove` bytes at `at` by `insert` zeros, moving what is shorter in general: the
    /// front. Grows the area when there is no room.
    pub(crate) fn splice(&mut self, at: usize, remove: usize, insert: usize) -> bool {
        let mut bytes = self.bytes();
        let Some(end) = at.checked_add(remove).filter(|&end| end <= bytes.len()) else {
            return false;
        };
        bytes.splice(at..end, std::iter::repeat_n(0, insert));
        self.replace(&bytes);
        true
    }

    /// Moves the first byte; metadata moves along. The caller checked that both stay inside.
    pub(crate) fn move_start(&mut self, data: usize) {
        let mut meta = vec![0; self.data - self.meta];
        let to = data - meta.len();
        let moved = self.area.read(self.meta, &mut meta) && self.area.write(to, &meta);
        debug_assert!(moved, "metadata lies in the area before and after");
        self.meta = to;
        self.data = data;
    }

    /// Other bytes in place of the packet; metadata is dropped.
    pub(crate) fn replace(&mut self, bytes: &[u8]) {
        // A new area, so that addresses from before are not valid by accident.
        self.area = Arc::new(Area::new(0));
        self.load(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_behind_a_packet_does_not_depend_on_the_one_before() {
        let mut packet = Packet::new(&[0; 9000]);
        assert_eq!(packet.capacity(), HEADROOM + 9000);
        packet.load(&[0; 60]);
        assert_eq!(packet.capacity(), PAGE - TAIL_RESERVED);
    }
}
