//! The notation of the conformance suite: a mnemonic, then operands.

use crate::{AluOp, AtomicOp, CmpOp, Imm64, Insn, Operand, Reg, Size, SwapOp, Width};

use super::{
    Fail, Parsed,
    cursor::Cursor,
    infix::{Reach, jump, short},
};

/// What a mnemonic means.
#[derive(Clone, Copy, Debug)]
enum Mnemonic {
    Alu(Width, AluOp),
    Swap(SwapOp, u8),
    JumpIf(Width, CmpOp),
    Jump { long: bool },
    Load { size: Size, signed: bool },
    Store { size: Size, reg: bool },
    LoadImm64,
    Lock,
}

/// Looks a mnemonic up in the operation tables.
fn mnemonic(word: &str) -> Option<Mnemonic> {
    let (plain, width) = match word.strip_suffix("32") {
        Some(plain) => (plain, Width::W32),
        None => (word, Width::W64),
    };
    for &op in AluOp::ALL {
        let name = op.row().mnemonic;
        // Sign-extending moves name both widths: from 8, 16 or 32 to 32 or 64.
        let from_to = |bits| word.strip_prefix(name) == Some(bits);
        match (op.is_movsx(), width) {
            (true, _) if from_to("32") => return Some(Mnemonic::Alu(Width::W32, op)),
            (true, _) if from_to("64") => return Some(Mnemonic::Alu(Width::W64, op)),
            (false, _) if plain == name => return Some(Mnemonic::Alu(width, op)),
            _ => {}
        }
    }
    for &op in CmpOp::ALL {
        if plain == op.row().mnemonic {
            return Some(Mnemonic::JumpIf(width, op));
        }
    }
    for &op in SwapOp::ALL {
        // The suite has `swap16` beside `bswap16`.
        let name = op.row().mnemonic;
        let short = name.strip_prefix('b').filter(|_| op == SwapOp::Bswap);
        let bits = word.strip_prefix(name).or_else(|| word.strip_prefix(short?));
        match bits {
            Some("16") => return Some(Mnemonic::Swap(op, 16)),
            Some("32") => return Some(Mnemonic::Swap(op, 32)),
            Some("64") => return Some(Mnemonic::Swap(op, 64)),
            _ => {}
        }
    }
    for &size in Size::ALL {
        let suffix = size.row().suffix;
        for (prefix, found) in [
            ("ldx", Mnemonic::Load { size, signed: false }),
            ("ldxs", Mnemonic::Load { size, signed: true }),
            ("stx", Mnemonic::Store { size, reg: true }),
            ("st", Mnemonic::Store { size, reg: false }),
        ] {
            if word.strip_prefix(prefix) == Some(suffix) {
                return Some(found);
            }
        }
    }
    match word {
        "ja" => Some(Mnemonic::Jump { long: false }),
        "ja32" => Some(Mnemonic::Jump { long: true }),
        "lddw" => Some(Mnemonic::LoadImm64),
        "lock" => Some(Mnemonic::Lock),
        _ => None,
    }
}

/// Reads one instruction; `None`, and nothing eaten, when it does not begin with a mnemonic of
/// this notation.
pub(super) fn parse<'a>(at: &mut Cursor<'a>) -> Result<Option<Parsed<'a>>, Fail> {
    let column = at.column();
    let mut ahead = at.clone();
    let Some(found) = mnemonic(ahead.word()) else { return Ok(None) };
    if matches!(found, Mnemonic::Lock) && ahead.starts_with("*") {
        return Ok(None);
    }
    *at = ahead;
    let insn = match found {
        Mnemonic::Alu(width, op) => {
            let dst = reg(at)?;
            let src = if op == AluOp::Neg { Operand::Imm(0) } else { operand(at)? };
            Insn::Alu { width, op, dst, src }
        }
        Mnemonic::Swap(op, bits) => Insn::Swap { op, bits, dst: reg(at)? },
        Mnemonic::JumpIf(width, op) => {
            let (dst, src) = (reg(at)?, operand(at)?);
            let make = |off| Insn::JumpIf { width, op, dst, src, off: short(off) };
            return jump(at, Reach::Short, make).map(Some);
        }
        Mnemonic::Jump { long } => {
            let reach = if long { Reach::Long } else { Reach::Short };
            return jump(at, reach, |off| Insn::Jump { off, long }).map(Some);
        }
        Mnemonic::Load { size, signed } => {
            let dst = reg(at)?;
            let (base, off) = memory(at)?;
            Insn::Load { size, signed, dst, base, off }
        }
        Mnemonic::Store { size, reg: from_reg } => {
            let (base, off) = memory(at)?;
            let src = if from_reg { Operand::Reg(reg(at)?) } else { Operand::Imm(at.imm32()?) };
            Insn::Store { size, base, off, src }
        }
        Mnemonic::LoadImm64 => {
            let dst = reg(at)?;
            Insn::LoadImm64 { dst, imm: Imm64::Const(at.imm64()?) }
        }
        Mnemonic::Lock => lock(at)?,
    };
    Ok(Some(Parsed { insn, label: None, column }))
}

/// A register; a comma behind it is dropped.
fn reg(at: &mut Cursor<'_>) -> Result<Reg, Fail> {
    let reg = at.reg()?;
    at.eat(",");
    Ok(reg)
}

/// A register or an immediate; a comma behind it is dropped.
fn operand(at: &mut Cursor<'_>) -> Result<Operand, Fail> {
    if at.at_reg() {
        return reg(at).map(Operand::Reg);
    }
    if !at.at_number() {
        return Err(at.expected("a register or a number"));
    }
    let imm = at.imm32()?;
    at.eat(",");
    Ok(Operand::Imm(imm))
}

/// `[%r1+2]`; a comma behind it is dropped.
fn memory(at: &mut Cursor<'_>) -> Result<(Reg, i16), Fail> {
    at.expect("[", "`[`")?;
    let address = at.address()?;
    at.expect("]", "`]`")?;
    at.eat(",");
    Ok(address)
}

/// `lock fetch add32 [%r10-4], %r1`
fn lock(at: &mut Cursor<'_>) -> Result<Insn, Fail> {
    let fetch = at.word_is("fetch");
    let mut ahead = at.clone();
    let word = ahead.word();
    let (name, size) = match word.strip_suffix("32") {
        Some(name) => (name, Size::W),
        None => (word, Size::Dw),
    };
    let Some(op) = AtomicOp::ALL.iter().find(|op| op.row().mnemonic == name) else {
        return Err(at.expected("an atomic operation"));
    };
    *at = ahead;
    let (base, off) = memory(at)?;
    let src = reg(at)?;
    let fetch = fetch || op.row().always_fetch;
    Ok(Insn::Atomic { op: *op, fetch, size, base, off, src })
}
