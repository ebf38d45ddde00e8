//! Running a filter on a packet: small, slow and without surprises.

use super::{EXTENSIONS_AT, Extension, Filter, LINK_AT, MEMORY, NETWORK_AT, Op, Src};
use crate::ops::{AluOp, CmpOp, Size};

/// What a filter sees.
#[derive(Clone, Debug)]
pub struct Packet<'a> {
    /// Bytes from the link-layer header on.
    pub data: &'a [u8],
    /// Length on the wire, which may be more than was captured.
    pub len: u32,
    /// Offset of the network header in `data`.
    pub network: u32,
    /// What Linux knows about the packet beside its bytes.
    pub extensions: Extensions,
}

impl<'a> Packet<'a> {
    /// An Ethernet packet, captured whole, of which nothing else is known.
    pub fn new(data: &'a [u8]) -> Self {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        Self { data, len, network: 14, extensions: Extensions::default() }
    }
}

/// Values of the extensions; 0 where none was given.
#[derive(Clone, Debug, Default)]
pub struct Extensions(Vec<(Extension, u32)>);

impl Extensions {
    /// With this value. [`Extension::XorX`] and the two that search netlink attributes are
    /// computed and need none.
    #[must_use]
    pub fn with(mut self, extension: Extension, value: u32) -> Self {
        self.0.push((extension, value));
        self
    }

    fn get(&self, extension: Extension) -> u32 {
        self.0.iter().rev().find(|(known, _)| *known == extension).map_or(0, |(_, value)| *value)
    }
}

impl Filter {
    /// The filter's answer: how many bytes of the packet to keep, 0 for none. A load outside the
    /// packet and a division by 0 end the filter with 0.
    ///
    /// Ends always: jumps go forward only.
    pub fn run(&self, packet: &Packet<'_>) -> u32 {
        self.answer(packet).unwrap_or(0)
    }

    /// `None` where the filter is ended by the machine.
    fn answer(&self, packet: &Packet<'_>) -> Option<u32> {
        let (mut a, mut x) = (0u32, 0u32);
        let mut memory = [0u32; MEMORY];
        let mut rest = self.insns();
        loop {
            let (insn, tail) = rest.split_first()?;
            rest = tail;
            let k = insn.k;
            let word = usize::try_from(k).ok()?;
            let operand = |src| if src == Src::K { k } else { x };
            match insn.op {
                Op::LoadAbs(_) if k >= EXTENSIONS_AT => {
                    a = extension(packet, insn.extension()?, a, x);
                }
                Op::LoadAbs(size) => a = load(packet, k, size)?,
                Op::LoadInd(size) => a = load(packet, x.wrapping_add(k), size)?,
                Op::LoadImm => a = k,
                Op::LoadMem => a = *memory.get(word)?,
                Op::LoadLen => a = packet.len,
                Op::LoadXImm => x = k,
                Op::LoadXMem => x = *memory.get(word)?,
                Op::LoadXLen => x = packet.len,
                Op::LoadXHeader => x = (load(packet, k, Size::B)? & 0xf) * 4,
                Op::Store => *memory.get_mut(word)? = a,
                Op::StoreX => *memory.get_mut(word)? = x,
                Op::Alu(op, src) => a = alu(op, a, operand(src))?,
                Op::Neg => a = a.wrapping_neg(),
                Op::Jump => rest = rest.get(word..)?,
                Op::JumpIf(op, src) => {
                    let skip = if holds(op, a, operand(src))? { insn.jt } else { insn.jf };
                    rest = rest.get(usize::from(skip)..)?;
                }
                Op::RetK => return Some(k),
                Op::RetA => return Some(a),
                Op::Tax => x = a,
                Op::Txa => a = x,
            }
        }
    }
}

/// `None` for division by 0 and what classic BPF does not have.
fn alu(op: AluOp, a: u32, b: u32) -> Option<u32> {
    Some(match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Div => a.checked_div(b)?,
        AluOp::Mod => a.checked_rem(b)?,
        AluOp::Or => a | b,
        AluOp::And => a & b,
        AluOp::Xor => a ^ b,
        // As Linux, which converts to eBPF: the distance counts modulo 32.
        AluOp::Lsh => a.wrapping_shl(b),
        AluOp::Rsh => a.wrapping_shr(b),
        _ => return None,
    })
}

fn holds(op: CmpOp, a: u32, b: u32) -> Option<bool> {
    Some(match op {
        CmpOp::Eq => a == b,
        CmpOp::Gt => a > b,
        CmpOp::Ge => a >= b,
        CmpOp::Set => a & b != 0,
        _ => return None,
    })
}

/// A big-endian load. Offsets with the top bit set count from the link-layer or network header.
fn load(packet: &Packet<'_>, offset: u32, size: Size) -> Option<u32> {
    let start = match offset {
        0..0x8000_0000 => u64::from(offset),
        NETWORK_AT.. => u64::from(packet.network) + u64::from(offset - NETWORK_AT),
        LINK_AT.. => u64::from(offset - LINK_AT),
        _ => return None,
    };
    let bytes = packet.data.get(usize::try_from(start).ok()?..)?;
    let bytes = bytes.get(..usize::from(size.bytes()))?;
    Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
}

fn extension(packet: &Packet<'_>, extension: Extension, a: u32, x: u32) -> u32 {
    match extension {
        Extension::XorX => a ^ x,
        Extension::Nlattr => find_attribute(packet.data, a, x, false).unwrap_or(0),
        Extension::NlattrNested => find_attribute(packet.data, a, x, true).unwrap_or(0),
        other => packet.extensions.get(other),
    }
}

/// Size of the header of a netlink attribute: length, type.
const ATTRIBUTE: u32 = 4;

/// Length and type of the netlink attribute at `at`, when its header and content are inside `end`.
fn attribute(data: &[u8], at: u32, end: u32) -> Option<(u32, u32)> {
    let header = data.get(usize::try_from(at).ok()?..)?.first_chunk::<4>()?;
    let [l0, l1, t0, t1] = *header;
    let len = u32::from(u16::from_ne_bytes([l0, l1]));
    // The two top bits of the type are flags.
    let kind = u32::from(u16::from_ne_bytes([t0, t1]) & 0x3fff);
    (len >= ATTRIBUTE && len <= end.checked_sub(at)?).then_some((len, kind))
}

/// Offset of the attribute of type `kind`, searched from `at`, or inside the attribute at `at`.
fn find_attribute(data: &[u8], at: u32, kind: u32, nested: bool) -> Option<u32> {
    let mut end = u32::try_from(data.len()).ok()?;
    let mut at = at;
    if nested {
        let (len, _) = attribute(data, at, end)?;
        end = at.checked_add(len)?;
        at = at.checked_add(ATTRIBUTE)?;
    }
    while at < end {
        let (len, found) = attribute(data, at, end)?;
        if found == kind {
            return Some(at);
        }
        at = at.checked_add(len.next_multiple_of(ATTRIBUTE))?;
    }
    None
}
