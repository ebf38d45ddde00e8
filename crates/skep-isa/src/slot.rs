//! Slots: 8 bytes split into fields, nothing interpreted.

use std::fmt;

/// Where an instruction sits: slot index from the start of its program.
///
/// A slot is 8 bytes; `lddw` takes two. Not a byte offset, not an instruction count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pc(pub u32);

impl Pc {
    /// As an index into a slice of slots.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Pc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "insn {}", self.0)
    }
}

/// A register `r0`..=`r10`. Out-of-range numbers cannot be constructed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(u8);

impl Reg {
    /// Number of registers.
    pub const COUNT: usize = 11;
    /// Return value.
    pub const R0: Self = Self(0);
    /// First argument; the context at entry.
    pub const R1: Self = Self(1);
    /// Second argument.
    pub const R2: Self = Self(2);
    /// Third argument.
    pub const R3: Self = Self(3);
    /// Fourth argument.
    pub const R4: Self = Self(4);
    /// Fifth argument.
    pub const R5: Self = Self(5);
    /// Callee-saved.
    pub const R6: Self = Self(6);
    /// Callee-saved.
    pub const R7: Self = Self(7);
    /// Callee-saved.
    pub const R8: Self = Self(8);
    /// Callee-saved.
    pub const R9: Self = Self(9);
    /// Frame pointer, read-only.
    pub const R10: Self = Self(10);

    /// `None` when `n > 10`.
    pub const fn new(n: u8) -> Option<Self> {
        if (n as usize) < Self::COUNT { Some(Self(n)) } else { None }
    }

    /// Position of this register in a per-register array.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The register's number, as a slot stores it.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// One 8-byte slot: fields split out, nothing interpreted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Opcode byte.
    pub code: u8,
    /// Raw destination nibble; may name a register that does not exist.
    pub dst: u8,
    /// Raw source nibble; may name a register that does not exist.
    pub src: u8,
    /// Signed offset: slots for jumps, bytes for memory, selector for some ALU ops.
    pub off: i16,
    /// Signed immediate.
    pub imm: i32,
}

impl Slot {
    /// Size in bytes.
    pub const SIZE: usize = 8;

    /// Splits a little-endian slot. Total: every 8 bytes are a slot.
    pub const fn from_le_bytes(b: [u8; 8]) -> Self {
        Self {
            code: b[0],
            dst: b[1] & 0x0f,
            src: b[1] >> 4,
            off: i16::from_le_bytes([b[2], b[3]]),
            imm: i32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        }
    }

    /// Joins the fields; the high nibbles of `dst` and `src` are dropped.
    pub const fn to_le_bytes(self) -> [u8; 8] {
        let off = self.off.to_le_bytes();
        let imm = self.imm.to_le_bytes();
        [self.code, self.dst & 0x0f | self.src << 4, off[0], off[1], imm[0], imm[1], imm[2], imm[3]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_two_bytes_round_trip() {
        for code in 0..=u8::MAX {
            for regs in 0..=u8::MAX {
                let bytes = [code, regs, 0x34, 0x92, 0x78, 0x56, 0x34, 0xf2];
                assert_eq!(Slot::from_le_bytes(bytes).to_le_bytes(), bytes);
            }
        }
    }
}
