//! What the interpreter executes: fixed-size operations with everything resolved that can be.
//!
//! One operation per instruction (`lddw` included). Jump targets are indices of operations,
//! immediates are already extended to the width they are used at.

use skep_isa::{AluOp, CmpOp, Size, Width};

/// Writes the enum of operation codes and the functions from instruction to code, so that both
/// read the same rows.
macro_rules! codes {
    (
        alu { $( $alu:ident = $a64r:ident $a64i:ident $a32r:ident $a32i:ident; )+ }
        jump { $( $cmp:ident = $j64r:ident $j64i:ident $j32r:ident $j32i:ident; )+ }
        other { $( $(#[$doc:meta])* $other:ident; )+ }
    ) => {
        /// Operation code. Suffix `R`: the right operand is a register, `I`: an immediate.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Code {
            $( $a64r, $a64i, $a32r, $a32i, )+
            $( $j64r, $j64i, $j32r, $j32i, )+
            $( $(#[$doc])* $other, )+
        }

        impl Code {
            /// The code of an ALU instruction.
            pub(crate) const fn alu(op: AluOp, width: Width, register: bool) -> Self {
                match (op, width, register) {
                    $(
                        (AluOp::$alu, Width::W64, true) => Self::$a64r,
                        (AluOp::$alu, Width::W64, false) => Self::$a64i,
                        (AluOp::$alu, Width::W32, true) => Self::$a32r,
                        (AluOp::$alu, Width::W32, false) => Self::$a32i,
                    )+
                }
            }

            /// The code of a conditional jump.
            pub(crate) const fn jump(op: CmpOp, width: Width, register: bool) -> Self {
                match (op, width, register) {
                    $(
                        (CmpOp::$cmp, Width::W64, true) => Self::$j64r,
                        (CmpOp::$cmp, Width::W64, false) => Self::$j64i,
                        (CmpOp::$cmp, Width::W32, true) => Self::$j32r,
                        (CmpOp::$cmp, Width::W32, false) => Self::$j32i,
                    )+
                }
            }
        }
    };
}

codes! {
    alu {
        Add = Add64R Add64I Add32R Add32I;
        Sub = Sub64R Sub64I Sub32R Sub32I;
        Mul = Mul64R Mul64I Mul32R Mul32I;
        Div = Div64R Div64I Div32R Div32I;
        SDiv = SDiv64R SDiv64I SDiv32R SDiv32I;
        Or = Or64R Or64I Or32R Or32I;
        And = And64R And64I And32R And32I;
        Lsh = Lsh64R Lsh64I Lsh32R Lsh32I;
        Rsh = Rsh64R Rsh64I Rsh32R Rsh32I;
        Neg = Neg64R Neg64I Neg32R Neg32I;
        Mod = Mod64R Mod64I Mod32R Mod32I;
        SMod = SMod64R SMod64I SMod32R SMod32I;
        Xor = Xor64R Xor64I Xor32R Xor32I;
        Mov = Mov64R Mov64I Mov32R Mov32I;
        MovSx8 = MovSx8W64R MovSx8W64I MovSx8W32R MovSx8W32I;
        MovSx16 = MovSx16W64R MovSx16W64I MovSx16W32R MovSx16W32I;
        MovSx32 = MovSx32W64R MovSx32W64I MovSx32W32R MovSx32W32I;
        Arsh = Arsh64R Arsh64I Arsh32R Arsh32I;
    }
    jump {
        Eq = Jeq64R Jeq64I Jeq32R Jeq32I;
        Gt = Jgt64R Jgt64I Jgt32R Jgt32I;
        Ge = Jge64R Jge64I Jge32R Jge32I;
        Set = Jset64R Jset64I Jset32R Jset32I;
        Ne = Jne64R Jne64I Jne32R Jne32I;
        SGt = Jsgt64R Jsgt64I Jsgt32R Jsgt32I;
        SGe = Jsge64R Jsge64I Jsge32R Jsge32I;
        Lt = Jlt64R Jlt64I Jlt32R Jlt32I;
        Le = Jle64R Jle64I Jle32R Jle32I;
        SLt = Jslt64R Jslt64I Jslt32R Jslt32I;
        SLe = Jsle64R Jsle64I Jsle32R Jsle32I;
    }
    other {
        /// Loads, zero-extending: `dst = *(src + off)`.
        LdB; LdH; LdW; LdDw;
        /// Loads, sign-extending.
        LdSB; LdSH; LdSW;
        /// Stores of a register: `*(dst + off) = src`.
        StBR; StHR; StWR; StDwR;
        /// Stores of an immediate.
        StBI; StHI; StWI; StDwI;
        /// Atomic read-modify-write; `imm` is an [`AtomicImm`].
        Atomic;
        /// Load with acquire ordering; `imm` is the size in bytes.
        LoadAcquire;
        /// Store with release ordering; `imm` is the size in bytes.
        StoreRelease;
        /// Legacy packet load at `imm`; `off` is the size in bytes.
        LdAbs;
        /// Legacy packet load at `imm + src`.
        LdInd;
        /// Keep the low 16 or 32 bits.
        Le16; Le32;
        /// Swap the low 16, 32 or all 64 bits.
        Be16; Be32; Be64;
        /// Nothing (`le64`).
        Nop;
        /// `dst = imm`: constants, addresses, map handles, function addresses.
        LoadImm;
        /// Jump to `target`.
        Jump;
        /// Jump to `target` when the loop budget is used up.
        MayGoto;
        /// Call of the helper at position `imm` of the helper table.
        CallHelper;
        /// `bpf_tail_call`.
        TailCall;
        /// `bpf_map_lookup_elem`, the one helper worth its own code.
        MapLookup;
        /// Call of the function that starts at `target`; `imm` is its length in operations.
        CallLocal;
        /// Call of a helper number or function address in `dst`.
        CallReg;
        /// Return.
        Exit;
        /// An error when reached: `imm` is the position of its reason.
        Poison;
    }
}

impl Code {
    /// The code of a load.
    pub(crate) const fn load(size: Size, signed: bool) -> Self {
        match (size, signed) {
            (Size::B, false) => Self::LdB,
            (Size::H, false) => Self::LdH,
            (Size::W, false) => Self::LdW,
            (Size::B, true) => Self::LdSB,
            (Size::H, true) => Self::LdSH,
            (Size::W, true) => Self::LdSW,
            (Size::Dw, _) => Self::LdDw,
        }
    }

    /// The code of a store.
    pub(crate) const fn store(size: Size, register: bool) -> Self {
        match (size, register) {
            (Size::B, true) => Self::StBR,
            (Size::H, true) => Self::StHR,
            (Size::W, true) => Self::StWR,
            (Size::Dw, true) => Self::StDwR,
            (Size::B, false) => Self::StBI,
            (Size::H, false) => Self::StHI,
            (Size::W, false) => Self::StWI,
            (Size::Dw, false) => Self::StDwI,
        }
    }
}

/// One operation.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Op {
    /// What to do.
    pub(crate) code: Code,
    /// Destination register, 0..=10.
    pub(crate) dst: u8,
    /// Source register, 0..=10.
    pub(crate) src: u8,
    /// Byte offset of a memory access, or the operation a jump goes to.
    pub(crate) off: i32,
    /// Immediate, extended to 64 bits.
    pub(crate) imm: u64,
}

const _: () = assert!(size_of::<Op>() == 16);

impl Op {
    /// An operation without operands.
    pub(crate) const fn new(code: Code) -> Self {
        Self { code, dst: 0, src: 0, off: 0, imm: 0 }
    }

    /// The jump target. Lowering checked that it is not negative.
    #[expect(clippy::cast_sign_loss, reason = "targets are stored by `with_target` only")]
    pub(crate) const fn target(self) -> usize {
        self.off as usize
    }
}

/// The operand of [`Code::Atomic`]: operation, size, fetch packed into `imm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtomicImm {
    /// Operation.
    pub(crate) op: skep_isa::AtomicOp,
    /// 8 bytes (else 4).
    pub(crate) wide: bool,
    /// Store the old value in the source register.
    pub(crate) fetch: bool,
}

const ATOMIC_OPS: [skep_isa::AtomicOp; 6] = {
    use skep_isa::AtomicOp::{Add, And, CmpXchg, Or, Xchg, Xor};
    [Add, Or, And, Xor, Xchg, CmpXchg]
};

impl AtomicImm {
    /// As an immediate.
    pub(crate) fn pack(self) -> u64 {
        let op = ATOMIC_OPS.iter().position(|&op| op == self.op).unwrap_or_default() as u64;
        op << 2 | u64::from(self.wide) << 1 | u64::from(self.fetch)
    }

    /// From an immediate made by [`Self::pack`].
    pub(crate) fn unpack(imm: u64) -> Option<Self> {
        let op = *ATOMIC_OPS.get(usize::try_from(imm >> 2).ok()?)?;
        Some(Self { op, wide: imm & 2 != 0, fetch: imm & 1 != 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomic_operands_round_trip() {
        for op in ATOMIC_OPS {
            for bits in 0..4 {
                let a = AtomicImm { op, wide: bits & 2 != 0, fetch: bits & 1 != 0 };
                assert_eq!(AtomicImm::unpack(a.pack()), Some(a));
            }
        }
        assert_eq!(AtomicImm::unpack(u64::MAX), None);
    }
}
