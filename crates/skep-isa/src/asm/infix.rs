//! The notation of the disassembler, `llvm-objdump` and the verifier log.

use crate::{AluOp, AtomicOp, CallTarget, CmpOp, Imm64, Insn, Operand, Reg, Size, SwapOp, Width};

use super::{
    AsmReason, Fail, Parsed,
    cursor::{Cursor, Target},
};

/// Reads one instruction; `wide` says that a plain number is a 64-bit constant.
pub(super) fn parse<'a>(at: &mut Cursor<'a>, wide: bool) -> Result<Parsed<'a>, Fail> {
    let column = at.column();
    let plain = |insn| Parsed { insn, label: None, column };
    match at.peek_word() {
        "if" => condition(at),
        "goto" | "gotol" => {
            let long = at.word() == "gotol";
            jump(at, if long { Reach::Long } else { Reach::Short }, |off| Insn::Jump { off, long })
        }
        "may_goto" => {
            at.word();
            jump(at, Reach::Short, |off| Insn::MayGoto { off: short(off) })
        }
        "call" | "callx" => call(at),
        "exit" => {
            at.word();
            Ok(plain(Insn::Exit))
        }
        "lock" => lock(at).map(plain),
        "store_release" => {
            at.word();
            at.expect("(", "`(`")?;
            let (size, base, off) = typed_address(at)?;
            at.expect(",", "`,`")?;
            let src = at.value_reg(size)?;
            at.expect(")", "`)`")?;
            Ok(plain(Insn::StoreRelease { size, base, off, src }))
        }
        _ if at.starts_with("*") => store(at).map(plain),
        _ if at.at_reg() => assignment(at, wide),
        _ => Err(at.expected("an instruction")),
    }
}

/// Bits of a code offset.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Short,
    Long,
}

/// An offset that [`jump`] has found to fit.
pub(super) fn short(off: i32) -> i16 {
    i16::try_from(off).unwrap_or_default()
}

/// Reads a target and makes the instruction that goes there.
pub(super) fn jump<'a>(
    at: &mut Cursor<'a>,
    reach: Reach,
    make: impl FnOnce(i32) -> Insn,
) -> Result<Parsed<'a>, Fail> {
    let column = at.column();
    match at.target()? {
        Target::Label(name) => Ok(Parsed { insn: make(0), label: Some(name), column }),
        Target::Offset(found) => {
            let (min, max) = match reach {
                Reach::Short => (i16::MIN.into(), i16::MAX.into()),
                Reach::Long => (i32::MIN, i32::MAX),
            };
            let off = i32::try_from(found).ok().filter(|off| (min..=max).contains(off));
            let (min, max) = (min.into(), max.into());
            let reason = AsmReason::OutOfRange { what: "offset", found, min, max };
            let off = off.ok_or(Fail { column, reason })?;
            Ok(Parsed { insn: make(off), label: None, column })
        }
    }
}

/// `if r1 s< 5 goto +3`
fn condition<'a>(at: &mut Cursor<'a>) -> Result<Parsed<'a>, Fail> {
    at.word();
    let (dst, width) = at.any_reg()?;
    let symbols = CmpOp::ALL.iter().map(|&op| (op, op.row().symbol));
    let op = operator(at, symbols).ok_or_else(|| at.expected("a comparison"))?;
    let src = operand(at, width)?;
    if !at.word_is("goto") {
        return Err(at.expected("`goto`"));
    }
    jump(at, Reach::Short, |off| Insn::JumpIf { width, op, dst, src, off: short(off) })
}

/// The operator that is next; of two that fit, the longer.
fn operator<T>(at: &mut Cursor<'_>, symbols: impl Iterator<Item = (T, &'static str)>) -> Option<T> {
    let fits = symbols.filter(|(_, symbol)| !symbol.is_empty() && at.starts_with(symbol));
    let (op, symbol) = fits.max_by_key(|(_, symbol)| symbol.len())?;
    at.eat(symbol);
    Some(op)
}

/// A register of this width, or an immediate.
fn operand(at: &mut Cursor<'_>, width: Width) -> Result<Operand, Fail> {
    if at.at_reg() {
        at.reg_of(width).map(Operand::Reg)
    } else if at.at_number() {
        at.imm32().map(Operand::Imm)
    } else {
        Err(at.expected("a register or a number"))
    }
}

/// `(u32 *)(r10 - 4)`, of an unsigned type.
fn typed_address(at: &mut Cursor<'_>) -> Result<(Size, Reg, i16), Fail> {
    let mut ahead = at.clone();
    let (size, signed) = access_type(&mut ahead)?;
    if signed {
        at.eat("(");
        return Err(at.expected("an unsigned type"));
    }
    *at = ahead;
    let (base, off) = in_parentheses(at)?;
    Ok((size, base, off))
}

/// `(u32 *)`
fn access_type(at: &mut Cursor<'_>) -> Result<(Size, bool), Fail> {
    at.expect("(", "`(`")?;
    let (size, signed) = at.size()?;
    at.expect("*", "`*`")?;
    at.expect(")", "`)`")?;
    Ok((size, signed))
}

/// `(r10 - 4)`
fn in_parentheses(at: &mut Cursor<'_>) -> Result<(Reg, i16), Fail> {
    at.expect("(", "`(`")?;
    let address = at.address()?;
    at.expect(")", "`)`")?;
    Ok(address)
}

/// `*(u32 *)(r10 - 4) = r2`
fn store(at: &mut Cursor<'_>) -> Result<Insn, Fail> {
    at.eat("*");
    let (size, base, off) = typed_address(at)?;
    at.expect("=", "`=`")?;
    let src =
        if at.at_reg() { Operand::Reg(at.value_reg(size)?) } else { Operand::Imm(at.imm32()?) };
    Ok(Insn::Store { size, base, off, src })
}

/// `lock *(u64 *)(r1 + 0) += r2`
fn lock(at: &mut Cursor<'_>) -> Result<Insn, Fail> {
    at.word();
    at.expect("*", "`*`")?;
    let (size, base, off) = typed_address(at)?;
    let symbols = AtomicOp::ALL.iter().map(|&op| (op, op.row().symbol));
    let op = operator(at, symbols).ok_or_else(|| at.expected("`+=`, `|=`, `&=` or `^=`"))?;
    let src = at.value_reg(size)?;
    Ok(Insn::Atomic { op, fetch: false, size, base, off, src })
}

/// Everything after `call`, in all notations.
fn call<'a>(at: &mut Cursor<'a>) -> Result<Parsed<'a>, Fail> {
    let column = at.column();
    let through_register = at.word() == "callx";
    let plain = |insn| Ok(Parsed { insn, label: None, column });
    if through_register || at.at_reg() {
        return plain(Insn::CallReg(at.reg()?));
    }
    if at.at_number() {
        return plain(Insn::Call(CallTarget::Helper(at.imm32()?)));
    }
    let local = |off| Insn::Call(CallTarget::Local(off));
    let mut ahead = at.clone();
    let word = ahead.word();
    match word {
        "helper" if ahead.at_number() => {
            *at = ahead;
            plain(Insn::Call(CallTarget::Helper(at.imm32()?)))
        }
        "runtime" | "kfunc" if ahead.at_number() => {
            *at = ahead;
            let id = at.imm32()?;
            let fd_idx = if at.word_is("fd") {
                let (min, max) = (i16::MIN.into(), i16::MAX.into());
                let index = at.number("an index", "index", min, max)?;
                i16::try_from(index).expect("the range was checked")
            } else {
                0
            };
            plain(Insn::Call(CallTarget::Kfunc { id, fd_idx }))
        }
        "local" if !ahead.at_end() => {
            *at = ahead;
            jump(at, Reach::Long, local)
        }
        "pc" if ahead.at_number() => {
            *at = ahead;
            jump(at, Reach::Long, local)
        }
        _ if ahead.eat("#") => {
            *at = ahead;
            plain(Insn::Call(CallTarget::Helper(at.imm32()?)))
        }
        "" => Err(at.expected("a helper number, a register or a label")),
        _ => jump(at, Reach::Long, local),
    }
}

/// Everything that begins with a register.
fn assignment<'a>(at: &mut Cursor<'a>, wide: bool) -> Result<Parsed<'a>, Fail> {
    let column = at.column();
    let plain = |insn| Parsed { insn, label: None, column };
    let (dst, width) = at.any_reg()?;
    // Moves and negation begin with a plain `=` and are told apart by what follows.
    let symbols = AluOp::ALL.iter().map(|&op| (op, op.row().symbol));
    let symbols = symbols.filter(|(_, symbol)| symbol.ends_with('=') && *symbol != "=");
    if let Some(op) = operator(at, symbols) {
        let src = operand(at, width)?;
        return Ok(plain(Insn::Alu { width, op, dst, src }));
    }
    at.expect("=", "`=` or another assignment")?;
    if at.starts_with("*") {
        return load(at, dst, width).map(plain);
    }
    if at.starts_with("(") {
        return sign_extension(at, dst, width).map(plain);
    }
    if at.at_number() {
        if width == Width::W64 {
            let mut ahead = at.clone();
            let value = ahead.imm64();
            if wide || ahead.word_is("ll") {
                let imm = Imm64::Const(value?);
                *at = ahead;
                return Ok(plain(Insn::LoadImm64 { dst, imm }));
            }
        }
        let src = Operand::Imm(at.imm32()?);
        return Ok(plain(Insn::Alu { width, op: AluOp::Mov, dst, src }));
    }
    if at.eat("-") {
        same_reg(at, dst, width)?;
        let src = Operand::Imm(0);
        return Ok(plain(Insn::Alu { width, op: AluOp::Neg, dst, src }));
    }
    if at.at_reg() {
        let src = Operand::Reg(at.reg_of(width)?);
        return Ok(plain(Insn::Alu { width, op: AluOp::Mov, dst, src }));
    }
    named(at, dst, width, column)
}

/// The register on the left, written again on the right.
fn same_reg(at: &mut Cursor<'_>, want: Reg, width: Width) -> Result<(), Fail> {
    let mut ahead = at.clone();
    if ahead.reg_of(width)? != want {
        return Err(at.expected("the register on the left of `=`"));
    }
    *at = ahead;
    Ok(())
}

/// `*(u32 *)(r1 + 4)` or `*(u8 *)skb[23]`
fn load(at: &mut Cursor<'_>, dst: Reg, width: Width) -> Result<Insn, Fail> {
    at.eat("*");
    let (size, signed) = access_type(at)?;
    if width == Width::W32 && (signed || size == Size::Dw) {
        return Err(at.expected("a 64-bit register on the left of this load"));
    }
    if !at.word_is("skb") {
        let (base, off) = in_parentheses(at)?;
        return Ok(Insn::Load { size, signed, dst, base, off });
    }
    if dst != Reg::R0 || signed {
        return Err(at.expected("an unsigned packet load into r0"));
    }
    at.expect("[", "`[`")?;
    let index = if at.at_reg() { Some(at.reg()?) } else { None };
    let imm = if index.is_none() || at.at_number() { at.imm32()? } else { 0 };
    at.expect("]", "`]`")?;
    Ok(Insn::LoadPacket { size, index, imm })
}

/// `(s8)r1`
fn sign_extension(at: &mut Cursor<'_>, dst: Reg, width: Width) -> Result<Insn, Fail> {
    at.eat("(");
    let mut ahead = at.clone();
    let op = match ahead.word() {
        "s8" => AluOp::MovSx8,
        "s16" => AluOp::MovSx16,
        "s32" => AluOp::MovSx32,
        _ => return Err(at.expected("`s8`, `s16` or `s32`")),
    };
    *at = ahead;
    at.expect(")", "`)`")?;
    let src = Operand::Reg(at.reg_of(width)?);
    Ok(Insn::Alu { width, op, dst, src })
}

/// The right-hand sides that begin with a name.
fn named<'a>(at: &mut Cursor<'a>, dst: Reg, width: Width, column: u32) -> Result<Parsed<'a>, Fail> {
    let plain = |insn| Parsed { insn, label: None, column };
    let start = at.clone();
    let word = at.word();
    for &op in SwapOp::ALL {
        let bits = word.strip_prefix(op.row().mnemonic).and_then(|bits| match bits {
            "16" => Some(16),
            "32" => Some(32),
            "64" => Some(64),
            _ => None,
        });
        if let Some(bits) = bits {
            same_reg(at, dst, width)?;
            return Ok(plain(Insn::Swap { op, bits, dst }));
        }
    }
    match word {
        "load_acquire" => {
            at.expect("(", "`(`")?;
            let (size, base, off) = typed_address(at)?;
            at.expect(")", "`)`")?;
            if width == Width::W32 && size == Size::Dw {
                return Err(start.expected("a 64-bit register on the left of this load"));
            }
            Ok(plain(Insn::LoadAcquire { size, dst, base, off }))
        }
        "addr_space_cast" => {
            at.expect("(", "`(`")?;
            let src = at.reg()?;
            let mut space = || {
                at.expect(",", "`,`")?;
                let number = at.number("a number", "address space", 0, u16::MAX.into())?;
                Ok(u16::try_from(number).expect("the range was checked"))
            };
            let (dst_as, src_as) = (space()?, space()?);
            at.expect(")", "`)`")?;
            Ok(plain(Insn::AddrSpaceCast { dst, src, dst_as, src_as }))
        }
        "map" | "var" | "subprog" if width == Width::W64 => symbolic(at, word, dst, column),
        _ => match atomic_name(word) {
            Some((op, size)) => atomic(at, op, size, dst, width).map(plain),
            None => Err(start.expected("a value")),
        },
    }
}

/// `[fd:4]`, `[fd:4][0]+8`, `[id:7][btf:0]`, `[+5]` behind `map`, `var` or `subprog`.
fn symbolic<'a>(
    at: &mut Cursor<'a>,
    kind: &str,
    dst: Reg,
    column: u32,
) -> Result<Parsed<'a>, Fail> {
    let load = |imm| Insn::LoadImm64 { dst, imm };
    let plain = |imm| Parsed { insn: load(imm), label: None, column };
    let half = |at: &mut Cursor<'_>| {
        let value = at.number("a number", "second immediate", 0, u32::MAX.into())?;
        Ok(u32::try_from(value).expect("the range was checked"))
    };
    at.expect("[", "`[`")?;
    if kind == "subprog" {
        let parsed = jump(at, Reach::Long, |off| load(Imm64::Func(off)))?;
        at.expect("]", "`]`")?;
        return Ok(parsed);
    }
    let mut ahead = at.clone();
    let tag = ahead.word();
    let known = matches!((kind, tag), ("map", "fd" | "idx") | ("var", "id"));
    if !known {
        return Err(at.expected(if kind == "map" { "`fd:` or `idx:`" } else { "`id:`" }));
    }
    *at = ahead;
    at.expect(":", "`:`")?;
    let number = at.i32("first immediate")?;
    at.expect("]", "`]`")?;
    if kind == "var" {
        let mut btf_fd = 0;
        if at.eat("[") {
            if !at.word_is("btf") {
                return Err(at.expected("`btf:`"));
            }
            at.expect(":", "`:`")?;
            btf_fd = half(at)?;
            at.expect("]", "`]`")?;
        }
        return Ok(plain(Imm64::BtfId { id: number, btf_fd }));
    }
    let value = if at.eat("[") {
        at.expect("0", "`0`")?;
        at.expect("]", "`]`")?;
        at.expect("+", "`+`")?;
        Some(half(at)?)
    } else {
        None
    };
    Ok(plain(match (tag, value) {
        ("fd", None) => Imm64::MapFd(number),
        ("fd", Some(off)) => Imm64::MapValue { fd: number, off },
        (_, None) => Imm64::MapIdx(number),
        (_, Some(off)) => Imm64::MapIdxValue { idx: number, off },
    }))
}

/// The operation and, where the name says it, the size of `atomic_fetch_add` (LLVM, kernel),
/// `atomic64_xchg` (kernel), `xchg_64` and `cmpxchg32_32` (LLVM).
fn atomic_name(word: &str) -> Option<(AtomicOp, Option<Size>)> {
    for &op in AtomicOp::ALL {
        let row = op.row();
        if row.always_fetch {
            match word.strip_prefix(row.mnemonic) {
                Some("_64") => return Some((op, Some(Size::Dw))),
                Some("32_32") => return Some((op, Some(Size::W))),
                _ => {}
            }
        }
        let kernel = word.strip_prefix("atomic64_").or_else(|| word.strip_prefix("atomic_"));
        let name = if row.always_fetch {
            kernel
        } else {
            kernel.and_then(|name| name.strip_prefix("fetch_"))
        };
        if name == Some(row.mnemonic) {
            return Some((op, None));
        }
    }
    None
}

/// `((u64 *)(r1 + 0), r2)` or `(r1 + 0, r0, r2)` behind the name of an atomic operation.
fn atomic(
    at: &mut Cursor<'_>,
    op: AtomicOp,
    size: Option<Size>,
    dst: Reg,
    width: Width,
) -> Result<Insn, Fail> {
    at.expect("(", "`(`")?;
    let (size, base, off) = match size {
        Some(size) => {
            let (base, off) = at.address()?;
            (size, base, off)
        }
        None => typed_address(at)?,
    };
    let value = |at: &mut Cursor<'_>| {
        at.expect(",", "`,`")?;
        at.value_reg(size)
    };
    if width == Width::W32 && size == Size::Dw {
        return Err(at.expected("a 64-bit register on the left of this operation"));
    }
    let first = at.clone();
    let written = value(at)?;
    if written != dst || (op == AtomicOp::CmpXchg && dst != Reg::R0) {
        return Err(first.expected(match op {
            AtomicOp::CmpXchg => "r0 on the left and here",
            _ => "the register on the left of `=`",
        }));
    }
    let src = if op == AtomicOp::CmpXchg { value(at)? } else { written };
    at.expect(")", "`)`")?;
    Ok(Insn::Atomic { op, fetch: true, size, base, off, src })
}
