//! Instructions as text, in the syntax of `llvm-objdump` and the kernel's verifier log.
//!
//! `Insn: Display` prints one instruction; [`Listing`] prints a program. Numbers are decimal, as
//! `llvm-objdump --no-print-imm-hex` prints them, except 64-bit constants. Where the two models
//! leave something ambiguous, the text says more: `call pc+3` is a call of a subprogram (the
//! verifier log's form), `call kfunc 7` one of a kernel function, and `lddw` of something symbolic
//! reads `r1 = map[fd:4]`, close to `bpftool prog dump xlated`. [`crate::asm::assemble`] reads all
//! of it back.

use std::{collections::BTreeSet, fmt};

use crate::{AluOp, CallTarget, Imm64, Insn, Operand, Pc, Reg, Size, Slot, Width};

impl fmt::Display for Size {
    /// The unsigned type of this size: `u8` to `u64`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().unsigned)
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reg(reg) => reg.fmt(f),
            Self::Imm(imm) => imm.fmt(f),
        }
    }
}

/// A register under the name of its width: `r1` or `w1`.
struct Wide(Width, Reg);

impl fmt::Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = if self.0 == Width::W64 { 'r' } else { 'w' };
        write!(f, "{letter}{}", self.1.number())
    }
}

/// A right operand under the name of its width.
struct Right(Width, Operand);

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Operand::Reg(reg) => Wide(self.0, reg).fmt(f),
            Operand::Imm(imm) => imm.fmt(f),
        }
    }
}

/// `r10 - 4`
struct Address(Reg, i16);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.1 < 0 { '-' } else { '+' };
        write!(f, "{} {sign} {}", self.0, self.1.unsigned_abs())
    }
}

impl fmt::Display for Imm64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Const(value) => write!(f, "{value:#x} ll"),
            Self::MapFd(fd) => write!(f, "map[fd:{fd}]"),
            Self::MapValue { fd, off } => write!(f, "map[fd:{fd}][0]+{off}"),
            Self::BtfId { id, btf_fd } => write!(f, "var[id:{id}][btf:{btf_fd}]"),
            Self::Func(off) => write!(f, "subprog[{off:+}]"),
            Self::MapIdx(idx) => write!(f, "map[idx:{idx}]"),
            Self::MapIdxValue { idx, off } => write!(f, "map[idx:{idx}][0]+{off}"),
        }
    }
}

impl fmt::Display for CallTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Helper(id) => write!(f, "{id}"),
            Self::Local(off) => write!(f, "pc{off:+}"),
            Self::Kfunc { id, fd_idx: 0 } => write!(f, "kfunc {id}"),
            Self::Kfunc { id, fd_idx } => write!(f, "kfunc {id} fd {fd_idx}"),
        }
    }
}

impl fmt::Display for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_insn(f, self, None)
    }
}

/// Prints `insn`; `target` is what stands in place of the jump or call offset.
fn write_insn(f: &mut fmt::Formatter<'_>, insn: &Insn, target: Option<&str>) -> fmt::Result {
    let goto = |f: &mut fmt::Formatter<'_>, off: i32| match target {
        Some(label) => f.write_str(label),
        None => write!(f, "{off:+}"),
    };
    match *insn {
        Insn::Alu { width, op: AluOp::Neg, dst, .. } => {
            write!(f, "{} = -{}", Wide(width, dst), Wide(width, dst))
        }
        Insn::Alu { width, op, dst, src } => {
            let gap = if op.is_movsx() { "" } else { " " };
            let symbol = op.row().symbol;
            write!(f, "{} {symbol}{gap}{}", Wide(width, dst), Right(width, src))
        }
        Insn::Swap { op, bits, dst } => write!(f, "{dst} = {}{bits} {dst}", op.row().mnemonic),
        Insn::AddrSpaceCast { dst, src, dst_as, src_as } => {
            write!(f, "{dst} = addr_space_cast({src}, {dst_as}, {src_as})")
        }
        Insn::LoadImm64 { dst, imm: Imm64::Func(off) } => match target {
            Some(label) => write!(f, "{dst} = subprog[{label}]"),
            None => write!(f, "{dst} = subprog[{off:+}]"),
        },
        Insn::LoadImm64 { dst, imm } => write!(f, "{dst} = {imm}"),
        Insn::LoadPacket { size, index: None, imm } => write!(f, "r0 = *({size} *)skb[{imm}]"),
        Insn::LoadPacket { size, index: Some(index), imm: 0 } => {
            write!(f, "r0 = *({size} *)skb[{index}]")
        }
        Insn::LoadPacket { size, index: Some(index), imm } => {
            let sign = if imm < 0 { '-' } else { '+' };
            write!(f, "r0 = *({size} *)skb[{index} {sign} {}]", imm.unsigned_abs())
        }
        Insn::Load { size, signed, dst, base, off } => {
            let ty = if signed { size.row().signed } else { size.row().unsigned };
            write!(f, "{dst} = *({ty} *)({})", Address(base, off))
        }
        Insn::Store { size, base, off, src } => {
            write!(f, "*({size} *)({}) = {src}", Address(base, off))
        }
        Insn::Atomic { op, fetch, size, base, off, src } => {
            let row = op.row();
            let at = Address(base, off);
            let (width, bits) =
                if size == Size::W { (Width::W32, "32_32") } else { (Width::W64, "_64") };
            let value = Wide(width, src);
            if !fetch {
                return write!(f, "lock *({size} *)({at}) {} {value}", row.symbol);
            }
            match op {
                crate::AtomicOp::Xchg => write!(f, "{value} = xchg{bits}({at}, {value})"),
                crate::AtomicOp::CmpXchg => {
                    let r0 = Wide(width, Reg::R0);
                    write!(f, "{r0} = cmpxchg{bits}({at}, {r0}, {value})")
                }
                _ => {
                    write!(f, "{value} = atomic_fetch_{}(({size} *)({at}), {value})", row.mnemonic)
                }
            }
        }
        Insn::LoadAcquire { size, dst, base, off } => {
            write!(f, "{dst} = load_acquire(({size} *)({}))", Address(base, off))
        }
        Insn::StoreRelease { size, base, off, src } => {
            write!(f, "store_release(({size} *)({}), {src})", Address(base, off))
        }
        Insn::Jump { off, long } => {
            f.write_str(if long { "gotol " } else { "goto " })?;
            goto(f, off)
        }
        Insn::JumpIf { width, op, dst, src, off } => {
            let (left, right) = (Wide(width, dst), Right(width, src));
            write!(f, "if {left} {} {right} goto ", op.row().symbol)?;
            goto(f, off.into())
        }
        Insn::MayGoto { off } => {
            f.write_str("may_goto ")?;
            goto(f, off.into())
        }
        Insn::Call(CallTarget::Local(_)) if target.is_some() => {
            f.write_str("call ")?;
            goto(f, 0)
        }
        Insn::Call(to) => write!(f, "call {to}"),
        Insn::CallReg(reg) => write!(f, "callx {reg}"),
        Insn::Exit => f.write_str("exit"),
    }
}

/// A program as text, one instruction per line.
///
/// Never fails: a slot that is not an instruction prints as `.slot` with its 64 bits and, as a
/// comment, the reason. Everything printed can be assembled again to the same slots.
///
/// ```
/// use skep_isa::{asm, disasm::Listing};
///
/// let slots = asm::assemble("if r1 == 0 goto out\nr1 += 1\nout: exit")?;
/// let text = Listing::new(&slots).labels(true).to_string();
/// assert_eq!(text, "if r1 == 0 goto l2\nr1 += 1\nl2:\nexit\n");
/// # Ok::<(), asm::AsmError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Listing<'a> {
    slots: &'a [Slot],
    pc: bool,
    bytes: bool,
    labels: bool,
}

impl<'a> Listing<'a> {
    /// Text only.
    pub const fn new(slots: &'a [Slot]) -> Self {
        Self { slots, pc: false, bytes: false, labels: false }
    }

    /// With the position in front.
    #[must_use]
    pub const fn pc(self, pc: bool) -> Self {
        Self { pc, ..self }
    }

    /// With the raw bytes in front of the text.
    #[must_use]
    pub const fn bytes(self, bytes: bool) -> Self {
        Self { bytes, ..self }
    }

    /// With a label `lN:` at each target of a jump or call, and the label in place of the offset.
    /// A target outside the program or inside `lddw` keeps its number.
    #[must_use]
    pub const fn labels(self, labels: bool) -> Self {
        Self { labels, ..self }
    }

    /// Each instruction with its position, or the slot that is none.
    fn items(&self) -> impl Iterator<Item = (Pc, &'a [Slot], Result<Insn, crate::SlotError>)> {
        let mut rest = self.slots;
        let mut at = 0u32;
        std::iter::from_fn(move || {
            let (first, tail) = rest.split_first()?;
            let insn = Insn::decode(*first, tail.first().copied());
            let len = insn.as_ref().map_or(1, Insn::slots);
            let (raw, tail) = rest.split_at_checked(if len == 2 { 2 } else { 1 })?;
            let pc = Pc(at);
            rest = tail;
            at = at.saturating_add(len);
            Some((pc, raw, insn))
        })
    }
}

/// Where the instruction refers to code: a jump, a local call, the address of a subprogram.
fn code_target(insn: &Insn, at: Pc) -> Option<Pc> {
    match *insn {
        Insn::Call(CallTarget::Local(off)) | Insn::LoadImm64 { imm: Imm64::Func(off), .. } => {
            at.0.checked_add(1)?.checked_add_signed(off).map(Pc)
        }
        _ => insn.jump_target(at),
    }
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut labels = BTreeSet::new();
        if self.labels {
            let starts: BTreeSet<Pc> = self.items().map(|(pc, ..)| pc).collect();
            let targets = self
                .items()
                .filter_map(|(pc, _, insn)| code_target(insn.as_ref().ok()?, pc))
                .filter(|target| starts.contains(target));
            labels.extend(targets);
        }
        for (pc, raw, insn) in self.items() {
            if labels.contains(&pc) {
                writeln!(f, "l{}:", pc.0)?;
            }
            if self.pc {
                write!(f, "{:>4}: ", pc.0)?;
            }
            if self.bytes {
                for byte in raw.iter().flat_map(|slot| slot.to_le_bytes()) {
                    write!(f, "{byte:02x} ")?;
                }
                f.write_str(" ")?;
            }
            match insn {
                Ok(insn) => {
                    let target = code_target(&insn, pc).filter(|target| labels.contains(target));
                    let label = target.map(|target| format!("l{}", target.0));
                    write_insn(f, &insn, label.as_deref())?;
                }
                Err(reason) => {
                    let bits = raw.first().map_or(0, |slot| u64::from_le_bytes(slot.to_le_bytes()));
                    write!(f, ".slot {bits:#018x} # {reason}")?;
                }
            }
            f.write_str("\n")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes and the text `llvm-objdump` or the verifier log has for them.
    #[test]
    fn text_table() {
        let cases: &[([u8; 8], &str)] = &[
            ([0x0f, 0x10, 0, 0, 0, 0, 0, 0], "r0 += r1"),
            ([0xb4, 0x01, 0, 0, 5, 0, 0, 0], "w1 = 5"),
            ([0x87, 0x01, 0, 0, 0, 0, 0, 0], "r1 = -r1"),
            ([0xbc, 0x12, 8, 0, 0, 0, 0, 0], "w2 = (s8)w1"),
            ([0x3c, 0x41, 1, 0, 0, 0, 0, 0], "w1 s/= w4"),
            ([0xc5, 0x01, 3, 0, 5, 0, 0, 0], "if r1 s< 5 goto +3"),
            ([0x63, 0x2a, 0xfc, 0xff, 0, 0, 0, 0], "*(u32 *)(r10 - 4) = r2"),
            ([0x7a, 0x04, 0xf0, 0xff, 0xfb, 0xff, 0xff, 0xff], "*(u64 *)(r4 - 16) = -5"),
            ([0x91, 0x10, 1, 0, 0, 0, 0, 0], "r0 = *(s8 *)(r1 + 1)"),
            ([0xdb, 0x21, 0, 0, 0, 0, 0, 0], "lock *(u64 *)(r1 + 0) += r2"),
            ([0xdb, 0x41, 0, 0, 0x41, 0, 0, 0], "r4 = atomic_fetch_or((u64 *)(r1 + 0), r4)"),
            ([0xc3, 0x52, 0, 0, 0xe1, 0, 0, 0], "w5 = xchg32_32(r2 + 0, w5)"),
            ([0xdb, 0x51, 8, 0, 0xf1, 0, 0, 0], "r0 = cmpxchg_64(r1 + 8, r0, r5)"),
            ([0xd3, 0x21, 0, 0, 0, 1, 0, 0], "r1 = load_acquire((u8 *)(r2 + 0))"),
            ([0xcb, 0x21, 0, 0, 0x10, 1, 0, 0], "store_release((u16 *)(r1 + 0), r2)"),
            ([0xdc, 0x01, 0, 0, 0x10, 0, 0, 0], "r1 = be16 r1"),
            ([0xd7, 0x02, 0, 0, 0x20, 0, 0, 0], "r2 = bswap32 r2"),
            ([0xbf, 0x21, 1, 0, 0, 0, 1, 0], "r1 = addr_space_cast(r2, 1, 0)"),
            ([0x30, 0, 0, 0, 23, 0, 0, 0], "r0 = *(u8 *)skb[23]"),
            ([0x48, 0x70, 0, 0, 14, 0, 0, 0], "r0 = *(u16 *)skb[r7 + 14]"),
            ([0x05, 0, 0xff, 0xff, 0, 0, 0, 0], "goto -1"),
            ([0x06, 0, 0, 0, 7, 0, 0, 0], "gotol +7"),
            ([0xe5, 0, 2, 0, 0, 0, 0, 0], "may_goto +2"),
            ([0x85, 0, 0, 0, 12, 0, 0, 0], "call 12"),
            ([0x85, 0x10, 0, 0, 0xff, 0xff, 0xff, 0xff], "call pc-1"),
            ([0x85, 0x20, 2, 0, 9, 0, 0, 0], "call kfunc 9 fd 2"),
            ([0x8d, 0x03, 0, 0, 0, 0, 0, 0], "callx r3"),
            ([0x95, 0, 0, 0, 0, 0, 0, 0], "exit"),
        ];
        for (bytes, want) in cases {
            let insn = Insn::decode(Slot::from_le_bytes(*bytes), None).unwrap();
            assert_eq!(insn.to_string(), *want);
        }
    }

    #[test]
    fn listing_shows_positions_bytes_and_what_is_no_instruction() {
        let slots = [
            Slot { code: 0x18, dst: 1, imm: 7, ..Slot::default() },
            Slot::default(),
            Slot { code: 0x05, off: -3, ..Slot::default() },
            Slot { code: 0xff, ..Slot::default() },
        ];
        let text = Listing::new(&slots).pc(true).bytes(true).labels(true).to_string();
        let want = "\
l0:
   0: 18 01 00 00 07 00 00 00 00 00 00 00 00 00 00 00  r1 = 0x7 ll
   2: 05 00 fd ff 00 00 00 00  goto l0
   3: ff 00 00 00 00 00 00 00  .slot 0x00000000000000ff # opcode 0xff is not defined
";
        assert_eq!(text, want);
    }
}
