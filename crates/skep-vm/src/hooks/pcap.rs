//! Packet files: reading pcap and pcapng, writing pcap.
//!
//! Reads from any byte stream, one packet at a time, in bounded memory. Only Ethernet packets are
//! packets here. Times are nanoseconds since 1970.

use std::io::{self, Read, Write};

use super::pcapng::Section;

/// Longest packet that a file may hold, `MAXIMUM_SNAPLEN` of other tools.
pub const MAX_PACKET: usize = 262_144;
/// Longest block of a pcapng file; blocks hold packets, names and statistics.
const MAX_BLOCK: usize = 16 << 20;
/// Link type of Ethernet.
const ETHERNET: u32 = 1;

/// Why a packet file cannot be read further.
#[derive(Debug, thiserror::Error)]
#[error("packet file, offset {offset:#x}")]
pub struct PcapError {
    /// Byte offset of the structure at fault.
    pub offset: u64,
    /// What is wrong with it.
    #[source]
    pub problem: PcapProblem,
}

/// What is wrong with a packet file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PcapProblem {
    /// Not a packet file.
    #[error("{found:#010x} is the magic number of neither pcap nor pcapng")]
    Magic {
        /// First four bytes, big-endian.
        found: u32,
    },
    /// The file ends in the middle of a structure.
    #[error("{what} has {found} bytes, expected {expected}")]
    Truncated {
        /// The structure.
        what: &'static str,
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// A length that cannot be.
    #[error("{what} is {found} bytes long, expected {expected}")]
    Length {
        /// The structure.
        what: &'static str,
        /// The length given.
        found: u64,
        /// What would be possible.
        expected: &'static str,
    },
    /// Packets that are not Ethernet frames.
    #[error("link type {found}, expected 1 (Ethernet)")]
    LinkType {
        /// The link type.
        found: u32,
    },
    /// A packet of an interface that was not described.
    #[error("interface {found} is not described")]
    Interface {
        /// Its number.
        found: u32,
    },
    /// The stream cannot be read.
    #[error("reading failed")]
    Io(#[from] io::Error),
}

/// A packet as it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapturedPacket<'a> {
    /// Captured bytes, from the Ethernet header on.
    pub data: &'a [u8],
    /// Length on the wire; more than `data` has when the capture cut it.
    pub original_len: u32,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
}

/// Position of a packet in the reader's buffer.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) range: std::ops::Range<usize>,
    pub(super) original_len: u32,
    pub(super) time_ns: u64,
}

/// Byte order of the machine that wrote a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) fn u32(self, bytes: &[u8], off: usize) -> Option<u32> {
        let word = off.checked_add(4).and_then(|end| bytes.get(off..end)?.try_into().ok())?;
        Some(match self {
            Self::Little => u32::from_le_bytes(word),
            Self::Big => u32::from_be_bytes(word),
        })
    }

    pub(super) fn u16(self, bytes: &[u8], off: usize) -> Option<u16> {
        let word = off.checked_add(2).and_then(|end| bytes.get(off..end)?.try_into().ok())?;
        Some(match self {
            Self::Little => u16::from_le_bytes(word),
            Self::Big => u16::from_be_bytes(word),
        })
    }
}

/// A stream with its position.
#[derive(Debug)]
pub(super) struct Stream<R> {
    reader: R,
    pub(super) offset: u64,
}

impl<R: Read> Stream<R> {
    /// Fills `buf` from `from` to `to`; false at the end of the stream when nothing was read.
    pub(super) fn fill(
        &mut self,
        buf: &mut Vec<u8>,
        from: usize,
        to: usize,
        what: &'static str,
    ) -> Result<bool, PcapError> {
        buf.truncate(from);
        let start = self.offset;
        let fail = |problem| PcapError { offset: start, problem };
        // `take` grows the buffer by what is there, not by what a length field claims.
        let expected = to - from;
        let found = (&mut self.reader)
            .take(expected as u64)
            .read_to_end(buf)
            .map_err(|e| fail(e.into()))?;
        self.offset += found as u64;
        match found {
            0 if expected > 0 => Ok(false),
            n if n == expected => Ok(true),
            found => Err(fail(PcapProblem::Truncated { what, found, expected })),
        }
    }

    /// As [`Self::fill`], where the end of the stream is an error.
    pub(super) fn fill_rest(
        &mut self,
        buf: &mut Vec<u8>,
        from: usize,
        to: usize,
        what: &'static str,
    ) -> Result<(), PcapError> {
        let offset = self.offset;
        if self.fill(buf, from, to, what)? {
            return Ok(());
        }
        let problem = PcapProblem::Truncated { what, found: 0, expected: to - from };
        Err(PcapError { offset, problem })
    }
}

/// What kind of file is being read.
#[derive(Debug)]
enum Format {
    Pcap { order: Order, nanoseconds: bool },
    Pcapng(Section),
}

/// Reads packets from a pcap or pcapng stream.
#[derive(Debug)]
pub struct PcapReader<R> {
    stream: Stream<R>,
    format: Format,
    buf: Vec<u8>,
}

impl<R: Read> PcapReader<R> {
    /// Reads the file's header. Give it a buffered reader.
    ///
    /// # Errors
    ///
    /// [`PcapError`] when this is no packet file or not one of Ethernet packets.
    pub fn new(reader: R) -> Result<Self, PcapError> {
        let mut stream = Stream { reader, offset: 0 };
        let mut buf = Vec::new();
        stream.fill_rest(&mut buf, 0, 4, "the file")?;
        let magic = Order::Big.u32(&buf, 0).unwrap_or_default();
        let format = match magic {
            0x0a0d_0d0a => Format::Pcapng(Section::begin(&mut stream, &mut buf)?),
            0xa1b2_c3d4 => Format::Pcap { order: Order::Big, nanoseconds: false },
            0xd4c3_b2a1 => Format::Pcap { order: Order::Little, nanoseconds: false },
            0xa1b2_3c4d => Format::Pcap { order: Order::Big, nanoseconds: true },
            0x4d3c_b2a1 => Format::Pcap { order: Order::Little, nanoseconds: true },
            found => return Err(PcapError { offset: 0, problem: PcapProblem::Magic { found } }),
        };
        if let Format::Pcap { order, .. } = format {
            stream.fill_rest(&mut buf, 4, 24, "the file header")?;
            // The upper bits say how long the frame check sequence is.
            let found = order.u32(&buf, 20).unwrap_or_default() & 0xffff;
            check_link_type(found, 20)?;
        }
        Ok(Self { stream, format, buf })
    }

    /// The next packet, `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// [`PcapError`] with the offset of what is malformed. Reading on after an error makes no
    /// sense.
    pub fn next_packet(&mut self) -> Result<Option<CapturedPacket<'_>>, PcapError> {
        let found = match &mut self.format {
            Format::Pcapng(section) => section.next(&mut self.stream, &mut self.buf)?,
            Format::Pcap { order, nanoseconds } => {
                record(&mut self.stream, &mut self.buf, *order, *nanoseconds)?
            }
        };
        Ok(found.map(|found| CapturedPacket {
            data: self.buf.get(found.range).unwrap_or_default(),
            original_len: found.original_len,
            time_ns: found.time_ns,
        }))
    }
}

/// Only Ethernet.
pub(super) fn check_link_type(found: u32, offset: u64) -> Result<(), PcapError> {
    if found == ETHERNET {
        Ok(())
    } else {
        Err(PcapError { offset, problem: PcapProblem::LinkType { found } })
    }
}

/// A length of captured bytes, if a packet can be that long.
pub(super) fn packet_len(len: u32, offset: u64) -> Result<usize, PcapError> {
    let possible = usize::try_from(len).ok().filter(|&len| len <= MAX_PACKET);
    possible.ok_or(PcapError {
        offset,
        problem: PcapProblem::Length {
            what: "a packet",
            found: len.into(),
            expected: "at most 262144",
        },
    })
}

/// The length of a block's remainder, if a block can be that long.
pub(super) fn block_len(total: u32, offset: u64) -> Result<usize, PcapError> {
    let possible = usize::try_from(total)
        .ok()
        .filter(|total| (12..=MAX_BLOCK).contains(total) && total.is_multiple_of(4));
    possible.ok_or(PcapError {
        offset,
        problem: PcapProblem::Length {
            what: "a block",
            found: total.into(),
            expected: "a multiple of 4 from 12 to 16 MiB",
        },
    })
}

/// The next record of a pcap file.
fn record<R: Read>(
    stream: &mut Stream<R>,
    buf: &mut Vec<u8>,
    order: Order,
    nanoseconds: bool,
) -> Result<Option<Found>, PcapError> {
    let offset = stream.offset;
    if !stream.fill(buf, 0, 16, "a packet header")? {
        return Ok(None);
    }
    let field = |off| order.u32(buf, off).unwrap_or_default();
    let (seconds, fraction, len, original_len) = (field(0), field(4), field(8), field(12));
    let len = packet_len(len, offset)?;
    stream.fill_rest(buf, 16, 16 + len, "a packet")?;
    let fraction = u64::from(fraction) * if nanoseconds { 1 } else { 1000 };
    let time_ns = u64::from(seconds) * 1_000_000_000 + fraction;
    Ok(Some(Found { range: 16..16 + len, original_len, time_ns }))
}

/// Writes a pcap file of Ethernet packets with times in nanoseconds.
#[derive(Debug)]
pub struct PcapWriter<W> {
    writer: W,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file's header. Give it a buffered writer.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub fn new(mut writer: W) -> io::Result<Self> {
        let snaplen = u32::try_from(MAX_PACKET).unwrap_or(u32::MAX);
        let words = [0xa1b2_3c4d, 2 | 4 << 16, 0, 0, snaplen, ETHERNET];
        for word in words {
            writer.write_all(&u32::to_le_bytes(word))?;
        }
        Ok(Self { writer })
    }

    /// Writes one packet; `original_len` is its length on the wire.
    ///
    /// # Errors
    ///
    /// What the writer says; `InvalidInput` for packets longer than [`MAX_PACKET`].
    pub fn write(&mut self, packet: &CapturedPacket<'_>) -> io::Result<()> {
        let len = u32::try_from(packet.data.len()).ok().filter(|_| packet.data.len() <= MAX_PACKET);
        let len = len.ok_or(io::ErrorKind::InvalidInput)?;
        let seconds = u32::try_from(packet.time_ns / 1_000_000_000).unwrap_or(u32::MAX);
        let fraction = u32::try_from(packet.time_ns % 1_000_000_000).unwrap_or_default();
        for word in [seconds, fraction, len, packet.original_len.max(len)] {
            self.writer.write_all(&word.to_le_bytes())?;
        }
        self.writer.write_all(packet.data)
    }

    /// Gives the writer back, flushed.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub fn finish(mut self) -> io::Result<W> {
        self.writer.flush()?;
        Ok(self.writer)
    }
}

#[cfg(test)]
mod tests;
