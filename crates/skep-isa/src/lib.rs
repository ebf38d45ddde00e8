//! The eBPF instruction set of RFC 9669: slots, decoded instructions, text.
#![forbid(unsafe_code)]

mod insn;
mod slot;

pub use insn::{AluOp, AtomicOp, CallTarget, CmpOp, Imm64, Insn, Operand, Size, SwapOp, Width};
pub use slot::{Pc, Reg, Slot};
