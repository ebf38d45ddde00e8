//! From text to slots.
//!
//! One assembler reads two notations, line by line, and they may be mixed:
//!
//! - what [`crate::disasm`] prints, `llvm-objdump` and the kernel's verifier log:
//!   `if r1 s< 5 goto +3`, `*(u32 *)(r10 -4) = r2`;
//! - the prefix notation of the public conformance suite: `jslt %r1, 5, +3`,
//!   `stxw [%r10-4], %r2`.
//!
//! A whole listing can be read back: a position (`12:`), raw bytes, the opcode in parentheses of a
//! verifier log and the `<name+0x10>` behind a jump are skipped. Labels are `name:` on their own or
//! before an instruction. A comment begins with `#`, `;` or `//`. Hexadecimal immediates may be
//! written unsigned (`0xffffffff` is -1); decimal ones must fit 32 bits with sign.
//!
//! `.slot 0x…` is a raw slot, for what is not an instruction.

use std::collections::HashMap;

use crate::{BuildError, EncodeError, Insn, Pc, Slot, builder};

mod cursor;
mod infix;
mod prefix;

use cursor::Cursor;

/// Text that is not a program: where, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {reason}")]
pub struct AsmError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong there.
    pub reason: AsmReason,
}

/// What is wrong with a piece of assembly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AsmReason {
    /// Something else should stand here.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What could stand here.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A register number above 10.
    #[error("register {number} does not exist, expected 0 to 10")]
    NoSuchRegister {
        /// The number.
        number: u64,
    },
    /// A number that does not fit.
    #[error("{what} is {found}, expected {min} to {max}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// Its value.
        found: i128,
        /// Smallest that fits.
        min: i128,
        /// Largest that fits.
        max: i128,
    },
    /// A label that stands nowhere.
    #[error("label {name:?} is not defined")]
    UnknownLabel {
        /// The label.
        name: String,
    },
    /// A label that stands at two places.
    #[error("label {name:?} is already defined at slot {first}")]
    DuplicateLabel {
        /// The label.
        name: String,
        /// Slot of the first definition.
        first: u32,
    },
    /// The instruction does not exist in this combination.
    #[error("{0}")]
    Encode(EncodeError),
    /// The target of a jump is too far away.
    #[error("target is {distance} slots away, expected {min} to {max}")]
    TooFar {
        /// Slots from the next instruction.
        distance: i64,
        /// Smallest distance that fits.
        min: i64,
        /// Largest distance that fits.
        max: i64,
    },
}

/// An instruction as written; its code offset may still be a name.
#[derive(Clone, Copy, Debug)]
struct Parsed<'a> {
    insn: Insn,
    /// Label in place of the offset.
    label: Option<&'a str>,
    /// Column where the offset, or else the instruction, is written.
    column: u32,
}

/// Assembles a program.
///
/// ```
/// let a = skep_isa::asm::assemble("r0 = 1\nif r1 != 0 goto done\nr0 = 2\ndone: exit")?;
/// let b = skep_isa::asm::assemble("mov r0, 1\njne r1, 0, done\nmov r0, 2\ndone: exit")?;
/// assert_eq!(a, b);
/// # Ok::<(), skep_isa::asm::AsmError>(())
/// ```
///
/// # Errors
///
/// [`AsmError`] at the first place that cannot be read or encoded.
pub fn assemble(text: &str) -> Result<Vec<Slot>, AsmError> {
    let mut out = Assembly::default();
    for (text, line) in text.lines().zip(1u32..) {
        out.line(text, line).map_err(|Fail { column, reason }| AsmError {
            line,
            column,
            reason,
        })?;
    }
    out.finish()
}

/// What is wrong in the current line.
#[derive(Debug)]
struct Fail {
    column: u32,
    reason: AsmReason,
}

/// A program being read.
#[derive(Debug, Default)]
struct Assembly<'a> {
    items: Vec<(u32, Item<'a>)>,
    /// Slots so far.
    here: u32,
    labels: HashMap<&'a str, Pc>,
    /// The first `exit`, which the conformance suite's programs may name without defining it.
    first_exit: Option<Pc>,
}

/// What one line gives.
#[derive(Debug)]
enum Item<'a> {
    Insn(Parsed<'a>),
    Raw(Slot),
}

impl<'a> Assembly<'a> {
    fn line(&mut self, text: &'a str, line: u32) -> Result<(), Fail> {
        let mut at = Cursor::new(text);
        let listed = at.listing();
        while let Some((name, column)) = at.label() {
            if let Some(first) = self.labels.insert(name, Pc(self.here)) {
                let name = name.to_owned();
                let reason = AsmReason::DuplicateLabel { name, first: first.0 };
                return Err(Fail { column, reason });
            }
        }
        if at.at_end() {
            return Ok(());
        }
        let item = if at.word_is(".slot") {
            let bits = at.number("a 64-bit number", "slot", 0, u64::MAX.into())?;
            let bits = u64::try_from(bits).expect("the range was checked");
            Item::Raw(Slot::from_le_bytes(bits.to_le_bytes()))
        } else {
            let parsed = match prefix::parse(&mut at)? {
                Some(parsed) => parsed,
                None => infix::parse(&mut at, listed)?,
            };
            Item::Insn(parsed)
        };
        if !at.at_end() {
            return Err(at.expected("end of line"));
        }
        let slots = match &item {
            Item::Insn(parsed) => {
                if parsed.insn == Insn::Exit {
                    self.first_exit.get_or_insert(Pc(self.here));
                }
                parsed.insn.slots()
            }
            Item::Raw(_) => 1,
        };
        self.here = self.here.saturating_add(slots);
        self.items.push((line, item));
        Ok(())
    }

    /// Second pass: labels become offsets, instructions slots.
    fn finish(self) -> Result<Vec<Slot>, AsmError> {
        let mut out = Vec::with_capacity(self.items.len());
        let mut at = Pc(0);
        for (line, item) in &self.items {
            match item {
                Item::Raw(slot) => {
                    out.push(*slot);
                    at = Pc(at.0.saturating_add(1));
                }
                Item::Insn(Parsed { insn, label, column }) => {
                    let fail = |reason| AsmError { line: *line, column: *column, reason };
                    let mut insn = *insn;
                    if let Some(name) = label {
                        let to = self.find(name).map_err(fail)?;
                        insn = retarget(insn, at, to).map_err(fail)?;
                    }
                    out.extend_from_slice(&insn.encode().map_err(|e| fail(AsmReason::Encode(e)))?);
                    at = Pc(at.0.saturating_add(insn.slots()));
                }
            }
        }
        Ok(out)
    }

    fn find(&self, name: &str) -> Result<Pc, AsmReason> {
        let fallback = self.first_exit.filter(|_| name == "exit");
        let found = self.labels.get(name).copied().or(fallback);
        found.ok_or_else(|| AsmReason::UnknownLabel { name: name.to_owned() })
    }
}

/// `insn` at `at`, going to `to`.
fn retarget(insn: Insn, at: Pc, to: Pc) -> Result<Insn, AsmReason> {
    builder::retarget(insn, at, to, false).map_err(|error| match error {
        BuildError::TooFar { distance, min, max, .. } => AsmReason::TooFar { distance, min, max },
        BuildError::Encode { reason, .. } => AsmReason::Encode(reason),
        BuildError::Unbound { .. } | BuildError::BoundTwice { .. } => {
            unreachable!("labels were resolved before")
        }
    })
}

#[cfg(test)]
mod tests;
