//! Errors of the embedded engine, one type per phase.

use skep_isa::Pc;

/// Why a program could not be lowered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("program {program}: {at}: {reason}")] // the reason is part of the sentence, not a cause
pub struct LowerError {
    /// Name of the program.
    pub program: String,
    /// The offending instruction.
    pub at: Pc,
    /// The rule it breaks.
    pub reason: LowerReason,
}

/// The structural rule that a program breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LowerReason {
    /// Nothing to execute.
    #[error("the program is empty")]
    Empty,
    /// The bytes are not instructions.
    #[error("not an instruction: {text}")]
    Undecodable {
        /// What the decoder says.
        text: String,
    },
    /// More instructions than the engine takes.
    #[error("{found} instructions, at most {max} are possible")]
    TooLong {
        /// Instructions in the program.
        found: usize,
        /// Limit.
        max: usize,
    },
    /// A jump or call leaves the program or goes into the middle of an `lddw`.
    #[error("jumps to {target}, which is not an instruction of the program")]
    BadTarget {
        /// Slot index, signed because it may lie before the program.
        target: i64,
    },
    /// Execution can run past the last instruction.
    #[error("execution falls off the end of the program")]
    FallsOff,
    /// `r10` is written.
    #[error("r10, the frame pointer, is read-only")]
    FramePointer,
    /// No helper has this number.
    #[error("no helper has number {id}")]
    UnknownHelper {
        /// The number.
        id: i32,
    },
    /// A reference that nothing resolves.
    #[error("{what} is not bound to anything")]
    Unbound {
        /// The reference, in words.
        what: String,
    },
    /// An instruction that the engine does not have.
    #[error("{what} is not in the embedded engine")]
    Unsupported {
        /// The instruction, in words.
        what: &'static str,
    },
}

/// A run that ended in an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("program {program}: {pc}: {insn}: {reason}")] // as above
pub struct RunError {
    /// Name of the program; after a tail call, the program that was called.
    pub program: String,
    /// The instruction.
    pub pc: Pc,
    /// The instruction's text.
    pub insn: String,
    /// What went wrong.
    pub reason: Reason,
}

/// What a program did that it must not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// An access outside everything the program was given.
    #[error("{access} of {size} bytes at {place}")]
    OutOfBounds {
        /// Read or write.
        access: Access,
        /// Bytes.
        size: u64,
        /// Where, relative to the nearest known memory.
        place: String,
    },
    /// A write to memory that may only be read.
    #[error("write of {size} bytes at {place}, which is read-only")]
    ReadOnly {
        /// Bytes.
        size: u64,
        /// Where.
        place: String,
    },
    /// An atomic access that is not aligned to its size.
    #[error("atomic access of {size} bytes at {addr:#x} is not aligned")]
    Misaligned {
        /// Address.
        addr: u64,
        /// Bytes.
        size: u64,
    },
    /// An access to the context that the program type does not allow.
    #[error("{access} of {size} bytes at offset {off} of the context: {why}")]
    Context {
        /// Read or write.
        access: Access,
        /// Byte offset.
        off: u64,
        /// Bytes.
        size: u64,
        /// The rule.
        why: &'static str,
    },
    /// The instruction budget is used up.
    #[error("the budget of {budget} instructions is used up")]
    Budget {
        /// The budget at the start of the run.
        budget: u64,
    },
    /// More nested calls than frames.
    #[error("calls are nested more than {max} deep")]
    CallDepth {
        /// Frames of a run.
        max: usize,
    },
    /// A call through a register that holds neither a helper number nor a function address.
    #[error("{value:#x} is neither a helper number nor the address of a function")]
    NotCallable {
        /// The register's value.
        value: u64,
    },
    /// A helper got an argument it cannot take.
    #[error("argument {arg} of {helper}: {why}")]
    Argument {
        /// Helper name.
        helper: &'static str,
        /// Argument, from 1.
        arg: usize,
        /// What is wrong.
        why: String,
    },
    /// The helper does not go with this program type.
    #[error("{helper} does not work in this kind of program")]
    WrongProgramType {
        /// Helper name.
        helper: &'static str,
    },
    /// A call of a helper or kernel function that the kernel has and this engine has not.
    #[error("{what} is not in the embedded engine")]
    Missing {
        /// "helper NAME (number N)" or "kernel function NAME".
        what: String,
    },
    /// An access that CO-RE found impossible, or a reference nothing provides.
    #[error("{text}")]
    Poisoned {
        /// What could not be resolved.
        text: String,
    },
    /// A legacy packet load in a program without a packet.
    #[error("a packet load in a program that has no packet")]
    NoPacket,
    /// A fault of the engine itself; please report it.
    #[error("internal fault of the engine, please report it: {what}")]
    Internal {
        /// The broken invariant.
        what: &'static str,
    },
}

/// Direction of a memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Load.
    Read,
    /// Store or atomic.
    Write,
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}
