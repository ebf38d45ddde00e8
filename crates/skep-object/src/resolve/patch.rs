//! Writing a relocated value into an instruction.

use skep_btf::core::{Patch, Width};
use skep_isa::{Pc, Slot};

use crate::reference::{CALL, LDDW};
use crate::spec::{Poison, ProgramSpec};

/// Helper number of a poisoned instruction: no kernel has it, and its log names it.
pub const POISON_HELPER: i32 = 0x0bad_2310;

/// Low bits of the opcode: the class.
const CLASS: u8 = 0x07;
const LD: u8 = 0x00;
const LDX: u8 = 0x01;
const ST: u8 = 0x02;
const STX: u8 = 0x03;
const ALU: u8 = 0x04;
const ALU64: u8 = 0x07;
/// Bit of ALU opcodes: the right-hand side is a register.
const SRC_REG: u8 = 0x08;
/// Bits of load and store opcodes: the size.
const SIZE: u8 = 0x18;

/// Why a value does not go into an instruction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchProblem {
    /// There is no such instruction.
    #[error("the program has no such instruction")]
    NoInsn,
    /// The instruction has no field for the value.
    #[error("opcode {0:#04x} has no place for a value")]
    Opcode(u8),
    /// The instruction holds another value than the object's types say.
    #[error("the instruction has {found}, the types of the object say {expected}")]
    Unexpected {
        /// What the instruction holds.
        found: i64,
        /// What it should hold.
        expected: u64,
    },
    /// The offset of a load or store has 16 bits.
    #[error("{0} is too large for the offset of a load or store")]
    TooLarge(u64),
    /// The load or store is not as wide as the field was.
    #[error("the access has {found} bytes, the field {expected}")]
    Width {
        /// Bytes of the access.
        found: u32,
        /// Bytes of the field.
        expected: u32,
    },
}

/// What came of patching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// The value is in.
    Patched,
    /// The access would read a wrong value: poison it, for this reason.
    Unsafe(String),
}

/// Puts a value into the instruction at `at`: the immediate of ALU instructions and `lddw`, the
/// offset of loads and stores, whose width may change with the field's.
pub(super) fn apply(slots: &mut [Slot], at: Pc, patch: &Patch) -> Result<Done, PatchProblem> {
    let (slot, rest) = slots
        .get_mut(at.index()..)
        .and_then(<[Slot]>::split_first_mut)
        .ok_or(PatchProblem::NoInsn)?;
    let expect = |found: i64, same: bool| match same || !patch.validate {
        true => Ok(()),
        false => Err(PatchProblem::Unexpected { found, expected: patch.orig }),
    };
    match slot.code & CLASS {
        ALU | ALU64 if slot.code & SRC_REG == 0 => {
            let same = i64::from(slot.imm).cast_unsigned() == patch.orig;
            expect(i64::from(slot.imm), same)?;
            slot.imm = low(patch.new);
        }
        LDX | ST | STX => {
            let same = i64::from(slot.off).cast_unsigned() == patch.orig;
            expect(i64::from(slot.off), same)?;
            let off = i16::try_from(patch.new).map_err(|_| PatchProblem::TooLarge(patch.new))?;
            match patch.width {
                Width::Same => {}
                Width::Change { from, to } => slot.code = resize(slot.code, from, to)?,
                Width::Unsafe { from, to } => {
                    return Ok(Done::Unsafe(format!(
                        "the field has {from} bytes in the object and {to} in the target, and is \
                         neither a pointer nor an unsigned integer in both"
                    )));
                }
            }
            slot.off = off;
        }
        LD if slot.code == LDDW => {
            let second = rest.first_mut().ok_or(PatchProblem::NoInsn)?;
            let plain = slot.src == 0 && slot.off == 0 && *second == plain_second(second.imm);
            if !plain {
                return Err(PatchProblem::Opcode(slot.code));
            }
            let value =
                u64::from(slot.imm.cast_unsigned()) | u64::from(second.imm.cast_unsigned()) << 32;
            expect(value.cast_signed(), value == patch.orig)?;
            slot.imm = low(patch.new);
            second.imm = low(patch.new >> 32);
        }
        _ => return Err(PatchProblem::Opcode(slot.code)),
    }
    Ok(Done::Patched)
}

/// The low 32 bits.
fn low(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

/// The second slot of a `lddw`.
fn plain_second(imm: i32) -> Slot {
    Slot { imm, ..Slot::default() }
}

fn resize(code: u8, from: u32, to: u32) -> Result<u8, PatchProblem> {
    const SIZES: &[(u8, u32)] = &[(0x00, 4), (0x08, 2), (0x10, 1), (0x18, 8)];
    let found = SIZES.iter().find(|(bits, _)| *bits == code & SIZE).map_or(0, |s| s.1);
    if found != from {
        return Err(PatchProblem::Width { found, expected: from });
    }
    let (bits, _) = SIZES
        .iter()
        .find(|(_, bytes)| *bytes == to)
        .ok_or(PatchProblem::Width { found, expected: to })?;
    Ok(code & !SIZE | bits)
}

/// Replaces the instruction at `at` by one that no kernel accepts where it can be reached, and
/// remembers why. Of a `lddw` that is two: each of its slots becomes an instruction.
pub(super) fn poison(program: &mut ProgramSpec, at: Pc, reason: String) {
    let bad = Slot { code: CALL, imm: POISON_HELPER, ..Slot::default() };
    let wide = program.insns.get(at.index()).is_some_and(|s| s.code == LDDW);
    let slots = if wide { 2 } else { 1 };
    for (slot, at) in program.insns.iter_mut().skip(at.index()).zip((at.0..).map(Pc)).take(slots) {
        *slot = bad;
        program.poisoned.push(Poison { at, reason: reason.clone() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(code: u8, off: i16, imm: i32) -> Slot {
        Slot { code, dst: 1, src: 0, off, imm }
    }

    fn patch(orig: u64, new: u64, width: Width) -> Patch {
        Patch { orig, new, validate: true, width }
    }

    #[test]
    fn values_go_where_the_class_keeps_them() {
        let same = Width::Same;
        let cases: &[(Vec<Slot>, Patch, Result<Vec<Slot>, PatchProblem>)] = &[
            // r1 += 8
            (vec![slot(0x07, 0, 8)], patch(8, 24, same), Ok(vec![slot(0x07, 0, 24)])),
            // w1 = 8
            (vec![slot(0xb4, 0, 8)], patch(8, 24, same), Ok(vec![slot(0xb4, 0, 24)])),
            // r1 = *(u32 *)(r0 + 8) becomes u64
            (
                vec![slot(0x61, 8, 0)],
                patch(8, 40, Width::Change { from: 4, to: 8 }),
                Ok(vec![slot(0x79, 40, 0)]),
            ),
            // and back, u64 to u16
            (
                vec![slot(0x79, 8, 0)],
                patch(8, 40, Width::Change { from: 8, to: 2 }),
                Ok(vec![slot(0x69, 40, 0)]),
            ),
            // r1 = *(s32 *)(r0 + 8) keeps its mode
            (
                vec![slot(0x81, 8, 0)],
                patch(8, 40, Width::Change { from: 4, to: 2 }),
                Ok(vec![slot(0x89, 40, 0)]),
            ),
            // *(u64 *)(r1 + 8) = 1
            (vec![slot(0x7a, 8, 1)], patch(8, 16, same), Ok(vec![slot(0x7a, 16, 1)])),
            // r1 = 0x100000002 ll
            (
                vec![slot(0x18, 0, 2), plain_second(1)],
                patch(0x1_0000_0002, 0x3_0000_0004, same),
                Ok(vec![slot(0x18, 0, 4), plain_second(3)]),
            ),
            // r1 += r0
            (vec![slot(0x0f, 0, 0)], patch(8, 24, same), Err(PatchProblem::Opcode(0x0f))),
            // exit
            (vec![slot(0x95, 0, 0)], patch(0, 1, same), Err(PatchProblem::Opcode(0x95))),
            (vec![slot(0x18, 0, 2)], patch(2, 4, same), Err(PatchProblem::NoInsn)),
            (
                vec![slot(0x07, 0, 9)],
                patch(8, 24, same),
                Err(PatchProblem::Unexpected { found: 9, expected: 8 }),
            ),
            (vec![slot(0x61, 8, 0)], patch(8, 0x8000, same), Err(PatchProblem::TooLarge(0x8000))),
            (
                vec![slot(0x61, 8, 0)],
                patch(8, 8, Width::Change { from: 8, to: 4 }),
                Err(PatchProblem::Width { found: 4, expected: 8 }),
            ),
        ];
        for (before, patch, expected) in cases {
            let mut slots = before.clone();
            let result = apply(&mut slots, Pc(0), patch).map(|done| {
                assert_eq!(done, Done::Patched);
                slots
            });
            assert_eq!(&result, expected, "{before:?} {patch:?}");
        }
    }

    #[test]
    fn accesses_that_would_read_a_wrong_value_are_left_for_poison() {
        let mut slots = [slot(0x61, 8, 0)];
        let done = apply(&mut slots, Pc(0), &patch(8, 8, Width::Unsafe { from: 4, to: 8 }));
        assert!(matches!(done, Ok(Done::Unsafe(_))));
        assert_eq!(slots, [slot(0x61, 8, 0)]);
        assert_eq!(apply(&mut slots, Pc(1), &patch(8, 8, Width::Same)), Err(PatchProblem::NoInsn));
    }
}
