//! pcapng: blocks of sections. Only what packets need is looked at; other blocks are skipped.

use std::io::Read;

use super::pcap::{
    Found, Order, PcapError, PcapProblem, Stream, block_len, check_link_type, packet_len,
};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Interfaces of a section that are remembered; no machine has more.
const MAX_INTERFACES: usize = 65_536;

/// What a section has said so far.
#[derive(Debug)]
pub(super) struct Section {
    order: Order,
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link_type: u32,
    snaplen: u32,
    resolution: Resolution,
    /// Seconds to add to every time.
    time_offset: i64,
}

/// Unit of an interface's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolution {
    /// 10 to the power of minus this, seconds.
    Decimal(u32),
    /// 2 to the power of minus this, seconds.
    Binary(u32),
}

impl Resolution {
    fn nanoseconds(self, ticks: u64) -> u64 {
        let (ticks, billion) = (u128::from(ticks), 1_000_000_000_u128);
        let ns = match self {
            Self::Decimal(digits) => {
                10_u128.checked_pow(digits).map_or(0, |unit| ticks * billion / unit)
            }
            Self::Binary(bits) => (ticks * billion).checked_shr(bits).unwrap_or(0),
        };
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

impl Section {
    /// Reads the rest of a section header whose type is already in `buf`.
    pub(super) fn begin<R: Read>(
        stream: &mut Stream<R>,
        buf: &mut Vec<u8>,
    ) -> Result<Self, PcapError> {
        let offset = stream.offset.saturating_sub(4);
        stream.fill_rest(buf, 4, 12, "a section header")?;
        let magic = Order::Big.u32(buf, 8).unwrap_or_default();
        let order = match magic {
            0x1a2b_3c4d => Order::Big,
            0x4d3c_2b1a => Order::Little,
            found => {
                return Err(PcapError {
                    offset: offset + 8,
                    problem: PcapProblem::Magic { found },
                });
            }
        };
        let total = block_len(order.u32(buf, 4).unwrap_or_default(), offset)?;
        finish_block(stream, buf, 12, total, order, offset)?;
        Ok(Self { order, interfaces: Vec::new() })
    }

    /// The next packet of this section or a following one.
    pub(super) fn next<R: Read>(
        &mut self,
        stream: &mut Stream<R>,
        buf: &mut Vec<u8>,
    ) -> Result<Option<Found>, PcapError> {
        loop {
            let offset = stream.offset;
            if !stream.fill(buf, 0, 4, "a block")? {
                return Ok(None);
            }
            // The type of a section header reads the same in both orders.
            let kind = self.order.u32(buf, 0).unwrap_or_default();
            if kind == SECTION_HEADER {
                *self = Self::begin(stream, buf)?;
                continue;
            }
            stream.fill_rest(buf, 4, 8, "a block")?;
            let total = block_len(self.order.u32(buf, 4).unwrap_or_default(), offset)?;
            finish_block(stream, buf, 8, total, self.order, offset)?;
            match kind {
                INTERFACE => self.interface(buf, total, offset)?,
                ENHANCED_PACKET | OLD_PACKET => {
                    return self.packet(buf, kind, total, offset).map(Some);
                }
                SIMPLE_PACKET => return self.simple(buf, total, offset).map(Some),
                _ => {}
            }
        }
    }

    fn field(&self, buf: &[u8], off: usize, offset: u64) -> Result<u32, PcapError> {
        self.order.u32(buf, off).ok_or(PcapError {
            offset,
            problem: PcapProblem::Truncated {
                what: "a block",
                found: buf.len(),
                expected: off + 4,
            },
        })
    }

    fn interface(&mut self, buf: &[u8], total: usize, offset: u64) -> Result<(), PcapError> {
        let link_type = self.field(buf, 8, offset)?;
        let link_type = match self.order {
            Order::Little => link_type & 0xffff,
            Order::Big => link_type >> 16,
        };
        let snaplen = self.field(buf, 12, offset)?;
        let mut interface =
            Interface { link_type, snaplen, resolution: Resolution::Decimal(6), time_offset: 0 };
        let mut at = 16;
        let end = total.saturating_sub(4);
        while let (Some(code), Some(len)) = (self.order.u16(buf, at), self.order.u16(buf, at + 2)) {
            let len = usize::from(len);
            let value = buf.get(at + 4..at + 4 + len).filter(|_| at + 4 + len <= end);
            match (code, value) {
                (0, _) | (_, None) => break,
                (9, Some(&[r])) => {
                    let exponent = u32::from(r & 0x7f);
                    interface.resolution = match r & 0x80 {
                        0 => Resolution::Decimal(exponent),
                        _ => Resolution::Binary(exponent),
                    };
                }
                (14, Some(value)) => {
                    if let (Ok(bytes), order) = (<[u8; 8]>::try_from(value), self.order) {
                        interface.time_offset = match order {
                            Order::Little => i64::from_le_bytes(bytes),
                            Order::Big => i64::from_be_bytes(bytes),
                        };
                    }
                }
                _ => {}
            }
            at += 4 + len.next_multiple_of(4);
        }
        if self.interfaces.len() < MAX_INTERFACES {
            self.interfaces.push(interface);
        }
        Ok(())
    }

    /// The interface of a packet, when its packets are Ethernet.
    fn ethernet(&self, number: u32, offset: u64) -> Result<Interface, PcapError> {
        let found = usize::try_from(number).ok().and_then(|n| self.interfaces.get(n));
        let problem = PcapProblem::Interface { found: number };
        let interface = *found.ok_or(PcapError { offset, problem })?;
        check_link_type(interface.link_type, offset)?;
        Ok(interface)
    }

    fn packet(&self, buf: &[u8], kind: u32, total: usize, offset: u64) -> Result<Found, PcapError> {
        let number = if kind == OLD_PACKET {
            self.order.u16(buf, 8).unwrap_or_default().into()
        } else {
            self.field(buf, 8, offset)?
        };
        let interface = self.ethernet(number, offset)?;
        let (high, low) = (self.field(buf, 12, offset)?, self.field(buf, 16, offset)?);
        let ticks = u64::from(high) << 32 | u64::from(low);
        let len = packet_len(self.field(buf, 20, offset)?, offset)?;
        let original_len = self.field(buf, 24, offset)?;
        let range = inside(28, len, total, offset)?;
        let seconds = interface.time_offset.saturating_mul(1_000_000_000);
        let time_ns = interface.resolution.nanoseconds(ticks).saturating_add_signed(seconds);
        Ok(Found { range, original_len, time_ns })
    }

    fn simple(&self, buf: &[u8], total: usize, offset: u64) -> Result<Found, PcapError> {
        let interface = self.ethernet(0, offset)?;
        let original_len = self.field(buf, 8, offset)?;
        let cut = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        let len = packet_len(original_len.min(cut), offset)?;
        let range = inside(12, len, total, offset)?;
        Ok(Found { range, original_len, time_ns: 0 })
    }
}

/// A packet's bytes, if its block holds them.
fn inside(
    start: usize,
    len: usize,
    total: usize,
    offset: u64,
) -> Result<std::ops::Range<usize>, PcapError> {
    let room = total.saturating_sub(start + 4);
    if len <= room {
        return Ok(start..start + len);
    }
    let problem = PcapProblem::Truncated { what: "a packet", found: room, expected: len };
    Err(PcapError { offset, problem })
}

/// Reads the rest of a block of which `have` bytes are there, and compares its two lengths.
fn finish_block<R: Read>(
    stream: &mut Stream<R>,
    buf: &mut Vec<u8>,
    have: usize,
    total: usize,
    order: Order,
    offset: u64,
) -> Result<(), PcapError> {
    let total = total.max(have);
    if total > have {
        stream.fill_rest(buf, have, total, "a block")?;
    }
    let again = order.u32(buf, total - 4).unwrap_or_default();
    if again as usize == total {
        return Ok(());
    }
    let problem = PcapProblem::Length {
        what: "a block, by its second length,",
        found: again.into(),
        expected: "the first length",
    };
    Err(PcapError { offset, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_converted_exactly() {
        assert_eq!(Resolution::Decimal(6).nanoseconds(1_500_000), 1_500_000_000);
        assert_eq!(Resolution::Decimal(9).nanoseconds(7), 7);
        assert_eq!(Resolution::Binary(1).nanoseconds(3), 1_500_000_000);
        assert_eq!(Resolution::Decimal(127).nanoseconds(u64::MAX), 0);
        assert_eq!(Resolution::Binary(127).nanoseconds(u64::MAX), 0);
    }
}
