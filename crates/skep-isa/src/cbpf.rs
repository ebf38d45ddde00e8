//! Classic BPF: the packet filters of `tcpdump` and `SO_ATTACH_FILTER`.
//!
//! A machine of its own: accumulator A, index X, 16 words of scratch memory M[], forward jumps only.
//! [`decode`] reads instructions, [`listing`] prints them as `tcpdump -d` does, [`Filter`] is a
//! program that passed the kernel's checks. A filter can be run ([`Filter::run`]) or converted to
//! eBPF ([`Filter::to_ebpf`]).
//!
//! ```
//! use skep_isa::cbpf::{self, Filter, Packet};
//!
//! // tcpdump -ddd 'ether proto 0x0806'
//! let filter = Filter::new(&cbpf::parse("4\n40 0 0 12\n21 0 1 2054\n6 0 0 262144\n6 0 0 0")?)?;
//! assert_eq!(filter.run(&Packet::new(&[0; 60])), 0);
//! assert_eq!(filter.to_string().lines().nth(1), Some("(001) jeq      #0x806           jt 2\tjf 3"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::ops::{AluOp, CmpOp, Size};

mod convert;
mod filter;
mod run;
mod text;

pub use convert::ConvertError;
pub use filter::{Fault, Filter, FilterError, MAX_LEN};
pub use run::{Extensions, Packet};
pub use text::{ParseError, listing, parse};

/// Words of scratch memory.
pub const MEMORY: usize = 16;

/// One instruction as the kernel's `struct sock_filter` holds it; nothing interpreted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "sock_filter")]
pub struct Raw {
    /// Opcode.
    pub code: u16,
    /// Instructions to skip when the condition holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Right operand of arithmetic and comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Src {
    /// The instruction's operand.
    K,
    /// The index register.
    X,
}

/// What an instruction does. `k` is its operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `A = packet[k]`, big endian; from [`EXTENSIONS_AT`] on, something about the packet.
    LoadAbs(Size),
    /// `A = packet[X + k]`, big endian.
    LoadInd(Size),
    /// `A = k`
    LoadImm,
    /// `A = M[k]`
    LoadMem,
    /// `A = ` length of the packet.
    LoadLen,
    /// `X = k`
    LoadXImm,
    /// `X = M[k]`
    LoadXMem,
    /// `X = ` length of the packet.
    LoadXLen,
    /// `X = 4 * (packet[k] & 0xf)`: the length of an IPv4 header.
    LoadXHeader,
    /// `M[k] = A`
    Store,
    /// `M[k] = X`
    StoreX,
    /// `A op= src`
    Alu(AluOp, Src),
    /// `A = -A`
    Neg,
    /// Skip `k` instructions.
    Jump,
    /// Skip `jt` or `jf` instructions.
    JumpIf(CmpOp, Src),
    /// Return `k`.
    RetK,
    /// Return A.
    RetA,
    /// `X = A`
    Tax,
    /// `A = X`
    Txa,
}

/// How `tcpdump` writes the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    None,
    X,
    Decimal,
    Hex,
    Absolute,
    Indirect,
    Memory,
    Header,
    Length,
    Target,
}

/// One row of the opcode table.
#[derive(Clone, Copy, Debug)]
struct Row {
    code: u16,
    op: Op,
    mnemonic: &'static str,
    style: Style,
}

const fn row(code: u16, op: Op, mnemonic: &'static str, style: Style) -> Row {
    Row { code, op, mnemonic, style }
}

/// The opcodes Linux accepts, in order.
const ROWS: &[Row] = &[
    row(0x00, Op::LoadImm, "ld", Style::Hex),
    row(0x01, Op::LoadXImm, "ldx", Style::Hex),
    row(0x02, Op::Store, "st", Style::Memory),
    row(0x03, Op::StoreX, "stx", Style::Memory),
    row(0x04, Op::Alu(AluOp::Add, Src::K), "add", Style::Decimal),
    row(0x05, Op::Jump, "ja", Style::Target),
    row(0x06, Op::RetK, "ret", Style::Decimal),
    row(0x07, Op::Tax, "tax", Style::None),
    row(0x0c, Op::Alu(AluOp::Add, Src::X), "add", Style::X),
    row(0x14, Op::Alu(AluOp::Sub, Src::K), "sub", Style::Decimal),
    row(0x15, Op::JumpIf(CmpOp::Eq, Src::K), "jeq", Style::Hex),
    row(0x16, Op::RetA, "ret", Style::None),
    row(0x1c, Op::Alu(AluOp::Sub, Src::X), "sub", Style::X),
    row(0x1d, Op::JumpIf(CmpOp::Eq, Src::X), "jeq", Style::X),
    row(0x20, Op::LoadAbs(Size::W), "ld", Style::Absolute),
    row(0x24, Op::Alu(AluOp::Mul, Src::K), "mul", Style::Decimal),
    row(0x25, Op::JumpIf(CmpOp::Gt, Src::K), "jgt", Style::Hex),
    row(0x28, Op::LoadAbs(Size::H), "ldh", Style::Absolute),
    row(0x2c, Op::Alu(AluOp::Mul, Src::X), "mul", Style::X),
    row(0x2d, Op::JumpIf(CmpOp::Gt, Src::X), "jgt", Style::X),
    row(0x30, Op::LoadAbs(Size::B), "ldb", Style::Absolute),
    row(0x34, Op::Alu(AluOp::Div, Src::K), "div", Style::Decimal),
    row(0x35, Op::JumpIf(CmpOp::Ge, Src::K), "jge", Style::Hex),
    row(0x3c, Op::Alu(AluOp::Div, Src::X), "div", Style::X),
    row(0x3d, Op::JumpIf(CmpOp::Ge, Src::X), "jge", Style::X),
    row(0x40, Op::LoadInd(Size::W), "ld", Style::Indirect),
    row(0x44, Op::Alu(AluOp::Or, Src::K), "or", Style::Hex),
    row(0x45, Op::JumpIf(CmpOp::Set, Src::K), "jset", Style::Hex),
    row(0x48, Op::LoadInd(Size::H), "ldh", Style::Indirect),
    row(0x4c, Op::Alu(AluOp::Or, Src::X), "or", Style::X),
    row(0x4d, Op::JumpIf(CmpOp::Set, Src::X), "jset", Style::X),
    row(0x50, Op::LoadInd(Size::B), "ldb", Style::Indirect),
    row(0x54, Op::Alu(AluOp::And, Src::K), "and", Style::Hex),
    row(0x5c, Op::Alu(AluOp::And, Src::X), "and", Style::X),
    row(0x60, Op::LoadMem, "ld", Style::Memory),
    row(0x61, Op::LoadXMem, "ldx", Style::Memory),
    row(0x64, Op::Alu(AluOp::Lsh, Src::K), "lsh", Style::Decimal),
    row(0x6c, Op::Alu(AluOp::Lsh, Src::X), "lsh", Style::X),
    row(0x74, Op::Alu(AluOp::Rsh, Src::K), "rsh", Style::Decimal),
    row(0x7c, Op::Alu(AluOp::Rsh, Src::X), "rsh", Style::X),
    row(0x80, Op::LoadLen, "ld", Style::Length),
    row(0x81, Op::LoadXLen, "ldx", Style::Length), // tcpdump prints this one as unimp
    row(0x84, Op::Neg, "neg", Style::None),
    row(0x87, Op::Txa, "txa", Style::None),
    row(0x94, Op::Alu(AluOp::Mod, Src::K), "mod", Style::Decimal),
    row(0x9c, Op::Alu(AluOp::Mod, Src::X), "mod", Style::X),
    row(0xa4, Op::Alu(AluOp::Xor, Src::K), "xor", Style::Hex),
    row(0xac, Op::Alu(AluOp::Xor, Src::X), "xor", Style::X),
    row(0xb1, Op::LoadXHeader, "ldxb", Style::Header),
];

impl Row {
    fn find(code: u16) -> Option<&'static Self> {
        ROWS.binary_search_by_key(&code, |row| row.code).ok().and_then(|at| ROWS.get(at))
    }
}

/// A decoded instruction. Fields its operation does not use are kept as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Insn {
    /// What it does.
    pub op: Op,
    /// Instructions to skip when the condition holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Insn {
    /// Decodes one instruction; `None` when Linux does not know the opcode.
    pub fn decode(raw: Raw) -> Option<Self> {
        let Raw { code, jt, jf, k } = raw;
        Row::find(code).map(|row| Self { op: row.op, jt, jf, k })
    }

    /// The instruction as the kernel takes it. `None` when the operation does not exist, for
    /// example a signed comparison.
    pub fn encode(&self) -> Option<Raw> {
        let row = ROWS.iter().find(|row| row.op == self.op)?;
        Some(Raw { code: row.code, jt: self.jt, jf: self.jf, k: self.k })
    }

    /// What an absolute load from the extension area reads, if this is one.
    pub fn extension(&self) -> Option<Extension> {
        match self.op {
            Op::LoadAbs(_) => Extension::at(self.k),
            _ => None,
        }
    }
}

/// Decodes a program.
///
/// # Errors
///
/// [`FilterError`] at the first unknown opcode.
pub fn decode(program: &[Raw]) -> Result<Vec<Insn>, FilterError> {
    let each = program.iter().zip(0u32..).map(|(raw, at)| {
        let reason = Fault::UnknownOpcode { code: raw.code };
        Insn::decode(*raw).ok_or(FilterError { at, reason })
    });
    each.collect()
}

/// Offset of an absolute load from which on Linux gives it another meaning (`SKF_AD_OFF`).
#[doc(alias = "SKF_AD_OFF")]
pub const EXTENSIONS_AT: u32 = 0xffff_f000;
/// Offset of the network header as a negative base (`SKF_NET_OFF`).
#[doc(alias = "SKF_NET_OFF")]
pub const NETWORK_AT: u32 = 0xfff0_0000;
/// Offset of the link-layer header as a negative base (`SKF_LL_OFF`).
#[doc(alias = "SKF_LL_OFF")]
pub const LINK_AT: u32 = 0xffe0_0000;

/// What the table says of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionRow {
    /// Offset from [`EXTENSIONS_AT`].
    pub off: u32,
    /// Name, as `tcpdump -d` prints it.
    pub name: &'static str,
}

const fn extension(off: u32, name: &'static str) -> ExtensionRow {
    ExtensionRow { off, name }
}

crate::ops::rows! {
    /// Something Linux knows about a packet and lets a filter load (`SKF_AD_*`).
    pub enum Extension: ExtensionRow {
        /// Protocol of the link layer, for example 0x0800.
        Protocol = extension(0, "proto");
        /// Direction: 0 to this host, 1 broadcast, 2 multicast, 3 to others, 4 outgoing.
        PacketType = extension(4, "type");
        /// Interface number.
        IfIndex = extension(8, "ifidx");
        /// Offset of the netlink attribute of type X, searched from offset A.
        Nlattr = extension(12, "nla");
        /// The same inside the attribute at offset A.
        NlattrNested = extension(16, "nlan");
        /// The mark set by netfilter or a socket.
        Mark = extension(20, "mark");
        /// Queue.
        Queue = extension(24, "queue");
        /// Hardware type of the interface.
        HardwareType = extension(28, "hatype");
        /// Flow hash.
        RxHash = extension(32, "rxhash");
        /// Processor that runs the filter.
        Cpu = extension(36, "cpu");
        /// `A ^ X`; from before there was an instruction for it.
        XorX = extension(40, "xor_x");
        /// VLAN tag that the card took out of the packet.
        VlanTci = extension(44, "vlan_tci");
        /// Is there such a tag?
        VlanPresent = extension(48, "vlanp");
        /// Offset of the payload behind the headers Linux knows.
        PayloadOffset = extension(52, "poff");
        /// A random number.
        Random = extension(56, "random");
        /// VLAN protocol of the tag.
        VlanTpid = extension(60, "vlan_tpid");
    }
}

impl Extension {
    /// The extension that an absolute load from `k` reads.
    pub fn at(k: u32) -> Option<Self> {
        let off = k.checked_sub(EXTENSIONS_AT)?;
        Self::ALL.iter().copied().find(|extension| extension.row().off == off)
    }
}

#[cfg(test)]
mod tests;
