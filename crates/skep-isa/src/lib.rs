//! The eBPF instruction set of RFC 9669: slots, decoded instructions, text.
#![forbid(unsafe_code)]

pub mod asm;
mod builder;
pub mod cbpf;
mod codec;
pub mod conformance;
pub mod disasm;
pub mod doc;
pub mod fuzz;
mod insn;
pub mod opcode;
pub mod ops;
mod slot;

pub use builder::{BuildError, Builder, Label};
pub use codec::{
    DecodeError, EncodeError, Encoded, SlotError, TrailingBytes, decode, encode, slots_from_bytes,
};
pub use insn::{CallTarget, Imm64, Insn, Operand};
pub use ops::{AluOp, AtomicOp, CmpOp, Size, SwapOp, Width};
pub use slot::{Pc, Reg, Slot};
