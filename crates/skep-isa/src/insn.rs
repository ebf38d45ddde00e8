//! Decoded instructions: what a slot (or two) means.

use crate::{
    Pc, Reg,
    ops::{AluOp, AtomicOp, CmpOp, Size, SwapOp, Width},
};

/// Right-hand operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// An immediate, sign-extended to the operation width.
    Imm(i32),
}

/// What the two slots of `lddw` load. Names after `BPF_PSEUDO_*` in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Imm64 {
    /// Source 0: a number.
    Const(u64),
    /// Source 1, `BPF_PSEUDO_MAP_FD`: a map by file descriptor.
    MapFd(i32),
    /// Source 2, `BPF_PSEUDO_MAP_VALUE`: byte `off` of the value area of the map at `fd`.
    MapValue {
        /// File descriptor.
        fd: i32,
        /// Byte offset.
        off: u32,
    },
    /// Source 3, `BPF_PSEUDO_BTF_ID`: a kernel variable.
    BtfId {
        /// BTF id of the variable.
        id: i32,
        /// BTF object of a module, 0 for vmlinux.
        btf_fd: u32,
    },
    /// Source 4, `BPF_PSEUDO_FUNC`: address of a subprogram, slots relative to the next
    /// *first-slot + 1*, as the kernel counts (`insn_idx + imm + 1`).
    Func(i32),
    /// Source 5, `BPF_PSEUDO_MAP_IDX`: a map by index into the load's fd array.
    MapIdx(i32),
    /// Source 6, `BPF_PSEUDO_MAP_IDX_VALUE`.
    MapIdxValue {
        /// Index into the fd array.
        idx: i32,
        /// Byte offset.
        off: u32,
    },
}

/// What a `call` calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallTarget {
    /// Source 0: a helper by number.
    Helper(i32),
    /// Source 1: a subprogram, slots relative to the next instruction.
    Local(i32),
    /// Source 2: a kernel function by BTF id.
    Kfunc {
        /// BTF id of the function.
        id: i32,
        /// Index into the fd array, 0 for vmlinux.
        fd_idx: i16,
    },
}

/// One decoded instruction. `lddw` is one instruction of two slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Insn {
    /// Arithmetic.
    Alu {
        /// 32 or 64 bit.
        width: Width,
        /// Operation.
        op: AluOp,
        /// Destination and left operand.
        dst: Reg,
        /// Right operand.
        src: Operand,
    },
    /// Byte order.
    Swap {
        /// Operation.
        op: SwapOp,
        /// Low bits concerned: 16, 32 or 64. The rest becomes 0.
        bits: u8,
        /// Destination.
        dst: Reg,
    },
    /// `dst = addr_space_cast(src, dst_as, src_as)`: arena pointers.
    AddrSpaceCast {
        /// Destination.
        dst: Reg,
        /// Source.
        src: Reg,
        /// Destination address space.
        dst_as: u16,
        /// Source address space.
        src_as: u16,
    },
    /// `lddw`: a 64-bit constant or a symbolic address.
    LoadImm64 {
        /// Destination.
        dst: Reg,
        /// What is loaded.
        imm: Imm64,
    },
    /// Legacy packet load into `r0`: `*(size *)skb[imm + index]`.
    LoadPacket {
        /// Access size: B, H or W.
        size: Size,
        /// Index register of the indirect form.
        index: Option<Reg>,
        /// Byte offset.
        imm: i32,
    },
    /// `dst = *(size *)(base + off)`.
    Load {
        /// Access size.
        size: Size,
        /// Sign-extending (ISA v4; B, H, W only).
        signed: bool,
        /// Destination.
        dst: Reg,
        /// Base address.
        base: Reg,
        /// Byte offset.
        off: i16,
    },
    /// `*(size *)(base + off) = src`.
    Store {
        /// Access size.
        size: Size,
        /// Base address.
        base: Reg,
        /// Byte offset.
        off: i16,
        /// Value; an immediate is sign-extended.
        src: Operand,
    },
    /// Atomic read-modify-write; 4 or 8 bytes.
    Atomic {
        /// Operation.
        op: AtomicOp,
        /// Is the old value written to `src` (to `r0` for `CmpXchg`)?
        fetch: bool,
        /// W or Dw.
        size: Size,
        /// Base address.
        base: Reg,
        /// Byte offset.
        off: i16,
        /// Operand.
        src: Reg,
    },
    /// `dst = load_acquire((size *)(base + off))`.
    LoadAcquire {
        /// Access size.
        size: Size,
        /// Destination.
        dst: Reg,
        /// Base address.
        base: Reg,
        /// Byte offset.
        off: i16,
    },
    /// `store_release((size *)(base + off), src)`.
    StoreRelease {
        /// Access size.
        size: Size,
        /// Base address.
        base: Reg,
        /// Byte offset.
        off: i16,
        /// Value.
        src: Reg,
    },
    /// Unconditional jump.
    Jump {
        /// Slots relative to the next instruction.
        off: i32,
        /// `ja32` (`gotol`): the offset sits in `imm`.
        long: bool,
    },
    /// Conditional jump.
    JumpIf {
        /// 32 or 64 bit comparison.
        width: Width,
        /// Comparison.
        op: CmpOp,
        /// Left operand.
        dst: Reg,
        /// Right operand.
        src: Operand,
        /// Slots relative to the next instruction.
        off: i16,
    },
    /// `may_goto`: jump when the loop budget is used up.
    MayGoto {
        /// Slots relative to the next instruction.
        off: i16,
    },
    /// Call.
    Call(CallTarget),
    /// `callx`: call the address in a register. Reserved in RFC 9669, emitted by compilers;
    /// only the checked interpreter runs it. The register number sits in the destination field.
    CallReg(Reg),
    /// Return from the program or subprogram.
    Exit,
}

impl Insn {
    /// Number of slots: 2 for `lddw`, else 1.
    pub const fn slots(&self) -> u32 {
        match self {
            Self::LoadImm64 { .. } => 2,
            _ => 1,
        }
    }

    /// Where a jump at `at` goes, when this is a jump and the target is not negative.
    pub fn jump_target(&self, at: Pc) -> Option<Pc> {
        let off = match *self {
            Self::Jump { off, .. } => off,
            Self::JumpIf { off, .. } | Self::MayGoto { off } => off.into(),
            _ => return None,
        };
        at.0.checked_add(1)?.checked_add_signed(off).map(Pc)
    }
}
