//! The kernel's checks of a filter.

use super::{EXTENSIONS_AT, Insn, MEMORY, Op, Raw, Src, decode};
use crate::AluOp;

/// Most instructions Linux takes (`BPF_MAXINSNS`).
#[doc(alias = "BPF_MAXINSNS")]
pub const MAX_LEN: usize = 4096;

/// A program that is no filter: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("insn {at}: {reason}")]
pub struct FilterError {
    /// Index of the instruction.
    pub at: u32,
    /// What is wrong with it.
    pub reason: Fault,
}

/// What the kernel would refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The program has no instruction, or too many.
    #[error("program has {len} instructions, expected 1 to {MAX_LEN}")]
    Length {
        /// Number of instructions.
        len: usize,
    },
    /// The opcode does not exist.
    #[error("opcode {code:#06x} is not defined")]
    UnknownOpcode {
        /// Opcode.
        code: u16,
    },
    /// A jump leaves the program.
    #[error("jump to {target}, expected a target below {len}")]
    Jump {
        /// Target index.
        target: u64,
        /// Number of instructions.
        len: usize,
    },
    /// The last instruction is not a return.
    #[error("program ends without ret")]
    NoReturn,
    /// A word of scratch memory that does not exist.
    #[error("M[{index}] does not exist, expected M[0] to M[15]")]
    Memory {
        /// Index.
        index: u32,
    },
    /// A word of scratch memory is read that not every path has written.
    #[error("M[{index}] is read before it is written")]
    Unwritten {
        /// Index.
        index: u32,
    },
    /// Division or remainder by the constant 0.
    #[error("division by constant 0")]
    ZeroDivisor,
    /// Shift by a constant of 32 or more.
    #[error("shift by {distance}, expected 0 to 31")]
    Shift {
        /// Distance.
        distance: u32,
    },
    /// A load from the extension area that means nothing.
    #[error("extension at offset {offset:#x} is not defined")]
    Extension {
        /// Offset from [`EXTENSIONS_AT`].
        offset: u32,
    },
}

/// A program that passed the kernel's checks: jumps go forward and stay inside, every path ends in
/// a return, scratch memory is written before it is read, no constant divides by 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Vec<Insn>);

impl Filter {
    /// Checks a program as `SO_ATTACH_FILTER` does.
    ///
    /// # Errors
    ///
    /// [`FilterError`] with the first instruction the kernel would refuse.
    pub fn new(program: &[Raw]) -> Result<Self, FilterError> {
        let len = program.len();
        if len == 0 || len > MAX_LEN {
            return Err(FilterError { at: 0, reason: Fault::Length { len } });
        }
        let insns = decode(program)?;
        for (insn, at) in insns.iter().zip(0u32..) {
            check(insn, at, len).map_err(|reason| FilterError { at, reason })?;
        }
        if !matches!(insns.last().map(|insn| insn.op), Some(Op::RetK | Op::RetA)) {
            let at = u32::try_from(len - 1).expect("the length was checked");
            return Err(FilterError { at, reason: Fault::NoReturn });
        }
        check_memory(&insns)?;
        Ok(Self(insns))
    }

    /// The instructions.
    pub fn insns(&self) -> &[Insn] {
        &self.0
    }

    /// The instructions as the kernel takes them.
    pub fn to_raw(&self) -> Vec<Raw> {
        self.0.iter().filter_map(Insn::encode).collect()
    }
}

/// The checks that look at one instruction.
fn check(insn: &Insn, at: u32, len: usize) -> Result<(), Fault> {
    let next = u64::from(at) + 1;
    let inside = |distance: u32| {
        let target = next + u64::from(distance);
        let ok = usize::try_from(target).is_ok_and(|target| target < len);
        if ok { Ok(()) } else { Err(Fault::Jump { target, len }) }
    };
    match insn.op {
        Op::Alu(AluOp::Div | AluOp::Mod, Src::K) if insn.k == 0 => Err(Fault::ZeroDivisor),
        Op::Alu(AluOp::Lsh | AluOp::Rsh, Src::K) if insn.k >= u32::BITS => {
            Err(Fault::Shift { distance: insn.k })
        }
        Op::LoadMem | Op::LoadXMem | Op::Store | Op::StoreX if insn.k >= 16 => {
            Err(Fault::Memory { index: insn.k })
        }
        Op::Jump => inside(insn.k),
        Op::JumpIf(..) => inside(insn.jt.into()).and_then(|()| inside(insn.jf.into())),
        Op::LoadAbs(_) if insn.k >= EXTENSIONS_AT && insn.extension().is_none() => {
            Err(Fault::Extension { offset: insn.k.wrapping_sub(EXTENSIONS_AT) })
        }
        _ => Ok(()),
    }
}

/// Every word of scratch memory that is read was written on every path there. Jumps go forward
/// only, so one pass sees every path to an instruction before the instruction.
fn check_memory(insns: &[Insn]) -> Result<(), FilterError> {
    const ALL: u16 = u16::MAX;
    // Per instruction: the words written on every path that jumps to it.
    let mut on_jump = vec![ALL; insns.len()];
    let mut written: u16 = 0;
    for (at, insn) in insns.iter().enumerate() {
        written &= on_jump.get(at).copied().unwrap_or(ALL);
        let bit = 1u16.checked_shl(insn.k).unwrap_or(0);
        let mut jump = |distance: u32, written: u16| {
            let target = usize::try_from(distance).ok().and_then(|d| at.checked_add(d + 1));
            if let Some(words) = target.and_then(|target| on_jump.get_mut(target)) {
                *words &= written;
            }
        };
        match insn.op {
            Op::Store | Op::StoreX => written |= bit,
            Op::LoadMem | Op::LoadXMem if written & bit == 0 => {
                let at = u32::try_from(at).expect("the length was checked");
                return Err(FilterError { at, reason: Fault::Unwritten { index: insn.k } });
            }
            Op::Jump => {
                jump(insn.k, written);
                written = ALL; // what follows is reached by jumps only
            }
            Op::JumpIf(..) => {
                jump(insn.jt.into(), written);
                jump(insn.jf.into(), written);
                written = ALL;
            }
            // What follows a return is reached by jumps only, but Linux does not look at that.
            _ => {}
        }
    }
    Ok(())
}

const _: () = assert!(MEMORY == 16, "one bit per word of scratch memory");
