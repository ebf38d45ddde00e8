//! Between slots and instructions, in both directions, by way of the opcode table.

use std::fmt;

use crate::{
    CallTarget, Imm64, Insn, Operand, Pc, Reg, Slot,
    opcode::{Field, FieldName, Form, Row},
};

/// Why a slot is not an instruction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// The opcode byte is not defined.
    #[error("opcode {code:#04x} is not defined")]
    UnknownOpcode {
        /// Opcode byte.
        code: u8,
    },
    /// A field that selects the operation, or is reserved, has another value.
    #[error("opcode {code:#04x}: {field} is {}", FoundExpected(*found, expected))]
    Field {
        /// Opcode byte.
        code: u8,
        /// Which field.
        field: FieldName,
        /// Its value.
        found: i32,
        /// The values with a meaning.
        expected: Vec<i32>,
    },
    /// A register number above 10.
    #[error("opcode {code:#04x}: {field} is register {found}, expected 0 to 10")]
    NoSuchRegister {
        /// Opcode byte.
        code: u8,
        /// Destination or source.
        field: FieldName,
        /// The number.
        found: u8,
    },
    /// The program ends after the first slot of `lddw`.
    #[error("second slot of lddw is missing")]
    MissingSecondSlot,
    /// The second slot of `lddw` has a field that must be 0.
    #[error("second slot of lddw: {field} is {found}, expected 0")]
    SecondSlot {
        /// Which field.
        field: FieldName,
        /// Its value.
        found: i32,
    },
}

/// `3, expected 0, 1 or 8`; in hexadecimal where the values are bit patterns.
struct FoundExpected<'a>(i32, &'a [i32]);

impl fmt::Display for FoundExpected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.1.iter().any(|value| *value > 64);
        let number = |f: &mut fmt::Formatter<'_>, value: i32| {
            if hex { write!(f, "{value:#x}") } else { write!(f, "{value}") }
        };
        number(f, self.0)?;
        f.write_str(", expected ")?;
        let last = self.1.len().saturating_sub(1);
        for (i, value) in self.1.iter().enumerate() {
            match i {
                0 => {}
                _ if i == last => f.write_str(" or ")?,
                _ => f.write_str(", ")?,
            }
            number(f, *value)?;
        }
        Ok(())
    }
}

/// A program that does not decode: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pc}: {reason}")]
pub struct DecodeError {
    /// First slot of the instruction.
    pub pc: Pc,
    /// What is wrong with it.
    pub reason: SlotError,
}

/// Why an [`Insn`] has no encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The combination of operation, size and operands does not exist.
    #[error("no encoding for {form:?}")]
    NoSuchForm {
        /// What was asked for.
        form: Form,
    },
    /// An operand does not fit its field.
    #[error("{field} is {found}, expected {min} to {max}")]
    OutOfRange {
        /// Which field.
        field: FieldName,
        /// The value.
        found: i64,
        /// Smallest value that fits.
        min: i64,
        /// Largest value that fits.
        max: i64,
    },
}

/// One encoded instruction: one slot, or two for `lddw`. Dereferences to a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    slots: [Slot; 2],
    two: bool,
}

impl std::ops::Deref for Encoded {
    type Target = [Slot];

    fn deref(&self) -> &[Slot] {
        if self.two { &self.slots } else { self.slots.first_chunk::<1>().expect("two slots") }
    }
}

/// Splits bytes into slots.
///
/// # Errors
///
/// The number of bytes left over, when it is not a multiple of 8.
pub fn slots_from_bytes(bytes: &[u8]) -> Result<Vec<Slot>, TrailingBytes> {
    let (chunks, rest) = bytes.as_chunks::<{ Slot::SIZE }>();
    if rest.is_empty() {
        Ok(chunks.iter().map(|chunk| Slot::from_le_bytes(*chunk)).collect())
    } else {
        Err(TrailingBytes { len: bytes.len(), rest: rest.len() })
    }
}

/// Code that is not a whole number of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("code is {len} bytes, expected a multiple of 8 ({rest} left over)")]
pub struct TrailingBytes {
    /// Length of the code in bytes.
    pub len: usize,
    /// Bytes after the last whole slot.
    pub rest: usize,
}

/// Decodes a whole program.
///
/// # Errors
///
/// [`DecodeError`] at the first slot that is not an instruction.
pub fn decode(slots: &[Slot]) -> Result<Vec<(Pc, Insn)>, DecodeError> {
    let mut out = Vec::with_capacity(slots.len());
    let mut rest = slots.iter().zip(0u32..);
    while let Some((slot, at)) = rest.next() {
        let next = rest.clone().next().map(|(slot, _)| *slot);
        let insn =
            Insn::decode(*slot, next).map_err(|reason| DecodeError { pc: Pc(at), reason })?;
        if insn.slots() == 2 {
            rest.next();
        }
        out.push((Pc(at), insn));
    }
    Ok(out)
}

/// Encodes a sequence of instructions.
///
/// # Errors
///
/// [`EncodeError`] with the index of the first instruction that has no encoding.
pub fn encode(insns: &[Insn]) -> Result<Vec<Slot>, (usize, EncodeError)> {
    let mut out = Vec::new();
    for (i, insn) in insns.iter().enumerate() {
        out.extend_from_slice(&insn.encode().map_err(|e| (i, e))?);
    }
    Ok(out)
}

impl Insn {
    /// Decodes one instruction; `next` is the slot after it, which only `lddw` reads.
    ///
    /// # Errors
    ///
    /// [`SlotError`] when the slot is not in the opcode table, a reserved field is not 0, or a
    /// register does not exist.
    pub fn decode(slot: Slot, next: Option<Slot>) -> Result<Self, SlotError> {
        let row = select(slot)?;
        let reg = |field, n: u8| {
            let error = SlotError::NoSuchRegister { code: slot.code, field, found: n };
            Reg::new(n).ok_or(error)
        };
        // An unused nibble was checked to be 0, so both registers exist in every row.
        let dst = reg(FieldName::Dst, slot.dst)?;
        let src = reg(FieldName::Src, if row.src == Field::Reg { slot.src } else { 0 })?;
        let Slot { off, imm, .. } = slot;
        let operand = |is_reg| if is_reg { Operand::Reg(src) } else { Operand::Imm(imm) };
        Ok(match row.form {
            Form::Alu { width, op, reg } => Self::Alu { width, op, dst, src: operand(reg) },
            Form::Swap { op, bits } => Self::Swap { op, bits, dst },
            Form::AddrSpaceCast => {
                let [a, b, c, d] = imm.to_le_bytes();
                let (src_as, dst_as) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
                Self::AddrSpaceCast { dst, src, dst_as, src_as }
            }
            Form::LoadImm64 { source } => {
                Self::LoadImm64 { dst, imm: imm64(source, imm, next.map(second_imm).transpose()?)? }
            }
            Form::LoadPacket { size, indirect } => {
                Self::LoadPacket { size, index: indirect.then_some(src), imm }
            }
            Form::Load { size, signed } => Self::Load { size, signed, dst, base: src, off },
            Form::Store { size, reg } => Self::Store { size, base: dst, off, src: operand(reg) },
            Form::Atomic { op, fetch, size } => {
                Self::Atomic { op, fetch, size, base: dst, off, src }
            }
            Form::LoadAcquire { size } => Self::LoadAcquire { size, dst, base: src, off },
            Form::StoreRelease { size } => Self::StoreRelease { size, base: dst, off, src },
            Form::Jump { long } => Self::Jump { off: if long { imm } else { off.into() }, long },
            Form::JumpIf { width, op, reg } => {
                Self::JumpIf { width, op, dst, src: operand(reg), off }
            }
            Form::MayGoto => Self::MayGoto { off },
            Form::Call { source: 0 } => Self::Call(CallTarget::Helper(imm)),
            Form::Call { source: 1 } => Self::Call(CallTarget::Local(imm)),
            Form::Call { .. } => Self::Call(CallTarget::Kfunc { id: imm, fd_idx: off }),
            Form::CallReg => Self::CallReg(dst),
            Form::Exit => Self::Exit,
        })
    }

    /// The slots of this instruction.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] when such an instruction does not exist (a 2-byte atomic add) or an operand
    /// does not fit its field (a short jump of 40,000 slots).
    pub fn encode(&self) -> Result<Encoded, EncodeError> {
        let form = self.form();
        let row = Row::of(form).ok_or(EncodeError::NoSuchForm { form })?;
        let given = self.operands();
        let dst = nibble(FieldName::Dst, row.dst, given.dst)?;
        let src = nibble(FieldName::Src, row.src, given.src)?;
        let off = fit(FieldName::Off, row.off, given.off, i16::MIN.into(), i16::MAX.into())?;
        let off = i16::try_from(off).expect("fit checked the range");
        let imm = fit(FieldName::Imm, row.imm, given.imm, i32::MIN.into(), i32::MAX.into())?;
        let imm = i32::try_from(imm).expect("fit checked the range");
        let first = Slot { code: row.code, dst, src, off, imm };
        let second = Slot { imm: given.second, ..Slot::default() };
        Ok(Encoded { slots: [first, second], two: self.slots() == 2 })
    }

    /// The instruction without its operands.
    pub const fn form(&self) -> Form {
        match *self {
            Self::Alu { width, op, src, .. } => Form::Alu { width, op, reg: src.is_reg() },
            Self::Swap { op, bits, .. } => Form::Swap { op, bits },
            Self::AddrSpaceCast { .. } => Form::AddrSpaceCast,
            Self::LoadImm64 { imm, .. } => Form::LoadImm64 { source: imm.source() },
            Self::LoadPacket { size, index, .. } => {
                Form::LoadPacket { size, indirect: index.is_some() }
            }
            Self::Load { size, signed, .. } => Form::Load { size, signed },
            Self::Store { size, src, .. } => Form::Store { size, reg: src.is_reg() },
            Self::Atomic { op, fetch, size, .. } => Form::Atomic { op, fetch, size },
            Self::LoadAcquire { size, .. } => Form::LoadAcquire { size },
            Self::StoreRelease { size, .. } => Form::StoreRelease { size },
            Self::Jump { long, .. } => Form::Jump { long },
            Self::JumpIf { width, op, src, .. } => Form::JumpIf { width, op, reg: src.is_reg() },
            Self::MayGoto { .. } => Form::MayGoto,
            Self::Call(target) => Form::Call { source: target.source() },
            Self::CallReg(_) => Form::CallReg,
            Self::Exit => Form::Exit,
        }
    }

    /// The operands by the field they go into; what is not used is 0.
    fn operands(&self) -> Operands {
        let none = Operands::default();
        let reg = |r: Reg| i64::from(r.number());
        match *self {
            Self::Alu { dst, src, .. } => Operands { dst: reg(dst), ..none.right(src) },
            Self::Swap { dst, .. } | Self::CallReg(dst) => Operands { dst: reg(dst), ..none },
            Self::AddrSpaceCast { dst, src, dst_as, src_as } => {
                let ([a, b], [c, d]) = (src_as.to_le_bytes(), dst_as.to_le_bytes());
                let imm = i32::from_le_bytes([a, b, c, d]).into();
                Operands { dst: reg(dst), src: reg(src), imm, ..none }
            }
            Self::LoadImm64 { dst, imm } => {
                let (low, second) = imm.halves();
                Operands { dst: reg(dst), imm: low.into(), second, ..none }
            }
            Self::LoadPacket { index, imm, .. } => {
                Operands { src: index.map_or(0, reg), imm: imm.into(), ..none }
            }
            Self::Load { dst, base, off, .. } | Self::LoadAcquire { dst, base, off, .. } => {
                Operands { dst: reg(dst), src: reg(base), off: off.into(), ..none }
            }
            Self::Store { base, off, src, .. } => {
                Operands { dst: reg(base), off: off.into(), ..none.right(src) }
            }
            Self::Atomic { base, off, src, .. } | Self::StoreRelease { base, off, src, .. } => {
                Operands { dst: reg(base), src: reg(src), off: off.into(), ..none }
            }
            Self::Jump { off, long: true } => Operands { imm: off.into(), ..none },
            Self::Jump { off, long: false } => Operands { off: off.into(), ..none },
            Self::JumpIf { dst, src, off, .. } => {
                Operands { dst: reg(dst), off: off.into(), ..none.right(src) }
            }
            Self::MayGoto { off } => Operands { off: off.into(), ..none },
            Self::Call(CallTarget::Helper(imm) | CallTarget::Local(imm)) => {
                Operands { imm: imm.into(), ..none }
            }
            Self::Call(CallTarget::Kfunc { id, fd_idx }) => {
                Operands { imm: id.into(), off: fd_idx.into(), ..none }
            }
            Self::Exit => none,
        }
    }
}

/// Operand values on their way into a slot, before their range is checked.
#[derive(Clone, Copy, Debug, Default)]
struct Operands {
    dst: i64,
    src: i64,
    off: i64,
    imm: i64,
    /// Immediate of the second slot.
    second: i32,
}

impl Operands {
    fn right(self, operand: Operand) -> Self {
        match operand {
            Operand::Reg(reg) => Self { src: reg.number().into(), ..self },
            Operand::Imm(imm) => Self { imm: imm.into(), ..self },
        }
    }
}

impl Operand {
    const fn is_reg(self) -> bool {
        matches!(self, Self::Reg(_))
    }
}

impl Imm64 {
    /// The source number, as in `BPF_PSEUDO_*`.
    pub const fn source(self) -> u8 {
        match self {
            Self::Const(_) => 0,
            Self::MapFd(_) => 1,
            Self::MapValue { .. } => 2,
            Self::BtfId { .. } => 3,
            Self::Func(_) => 4,
            Self::MapIdx(_) => 5,
            Self::MapIdxValue { .. } => 6,
        }
    }

    /// The immediates of the two slots.
    pub const fn halves(self) -> (i32, i32) {
        match self {
            Self::Const(value) => {
                let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
                (i32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]))
            }
            Self::MapFd(n) | Self::Func(n) | Self::MapIdx(n) => (n, 0),
            Self::MapValue { fd: n, off: second }
            | Self::BtfId { id: n, btf_fd: second }
            | Self::MapIdxValue { idx: n, off: second } => (n, second.cast_signed()),
        }
    }
}

impl CallTarget {
    /// The source number: 0 helper, 1 local, 2 kernel function.
    pub const fn source(self) -> u8 {
        match self {
            Self::Helper(_) => 0,
            Self::Local(_) => 1,
            Self::Kfunc { .. } => 2,
        }
    }
}

/// The row that describes this slot, with all fixed and reserved fields checked.
fn select(slot: Slot) -> Result<&'static Row, SlotError> {
    let code = slot.code;
    let rows = Row::with_code(code);
    let value = |name| match name {
        FieldName::Code => i32::from(slot.code),
        FieldName::Dst => slot.dst.into(),
        FieldName::Src => slot.src.into(),
        FieldName::Off => slot.off.into(),
        FieldName::Imm => slot.imm,
    };
    let selects = |(name, field)| match field {
        Field::Is(want) => Some((name, want)),
        Field::Zero | Field::Reg | Field::Any => None,
    };
    // All rows of one opcode byte select by the same field; a test holds the table to that.
    let chosen = |row: &&Row| {
        row.fields().into_iter().filter_map(selects).all(|(name, want)| value(name) == want)
    };
    let Some(row) = rows.iter().find(chosen) else {
        let mut all = rows.iter().flat_map(Row::fields).filter_map(selects);
        let Some((field, first)) = all.next() else {
            return Err(SlotError::UnknownOpcode { code });
        };
        let expected = std::iter::once(first).chain(all.map(|(_, want)| want)).collect();
        return Err(SlotError::Field { code, field, found: value(field), expected });
    };
    for (field, rule) in row.fields() {
        let found = value(field);
        if rule == Field::Zero && found != 0 {
            return Err(SlotError::Field { code, field, found, expected: vec![0] });
        }
    }
    Ok(row)
}

/// The immediate of the second slot of `lddw`, whose other fields must be 0.
fn second_imm(slot: Slot) -> Result<i32, SlotError> {
    let fields = [
        (FieldName::Code, i32::from(slot.code)),
        (FieldName::Dst, slot.dst.into()),
        (FieldName::Src, slot.src.into()),
        (FieldName::Off, slot.off.into()),
    ];
    match fields.into_iter().find(|(_, found)| *found != 0) {
        Some((field, found)) => Err(SlotError::SecondSlot { field, found }),
        None => Ok(slot.imm),
    }
}

/// The meaning of the two immediates of `lddw` with this source number.
fn imm64(source: u8, low: i32, second: Option<i32>) -> Result<Imm64, SlotError> {
    let second = second.ok_or(SlotError::MissingSecondSlot)?;
    let off = second.cast_unsigned();
    let alone = |imm| match second {
        0 => Ok(imm),
        found => Err(SlotError::SecondSlot { field: FieldName::Imm, found }),
    };
    match source {
        0 => Ok(Imm64::Const(u64::from(off) << 32 | u64::from(low.cast_unsigned()))),
        1 => alone(Imm64::MapFd(low)),
        2 => Ok(Imm64::MapValue { fd: low, off }),
        3 => Ok(Imm64::BtfId { id: low, btf_fd: off }),
        4 => alone(Imm64::Func(low)),
        5 => alone(Imm64::MapIdx(low)),
        _ => Ok(Imm64::MapIdxValue { idx: low, off }),
    }
}

/// The value of a field: the table's when it is fixed, else the operand, which must fit.
fn fit(field: FieldName, rule: Field, found: i64, min: i64, max: i64) -> Result<i64, EncodeError> {
    let (min, max) = match rule {
        Field::Is(value) => return Ok(value.into()),
        Field::Zero => (0, 0),
        Field::Reg => (0, 10),
        Field::Any => (min, max),
    };
    if (min..=max).contains(&found) {
        Ok(found)
    } else {
        Err(EncodeError::OutOfRange { field, found, min, max })
    }
}

fn nibble(field: FieldName, rule: Field, found: i64) -> Result<u8, EncodeError> {
    fit(field, rule, found, 0, 10).map(|n| u8::try_from(n).expect("fit checked the range"))
}

#[cfg(test)]
mod tests;
