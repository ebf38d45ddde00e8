//! Instructions that not every kernel knows.

use std::os::fd::{AsFd as _, AsRawFd as _};

use skep_abi::{MapType, ProgType};
use skep_isa::Slot;

use super::{Answer, RETURN_0, Support, if_loading, map};
use crate::program::{Program, ProgramLoad};

/// Instructions that came together.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// The level of the compiler's `-mcpu` that has it; `None` for what stands outside the levels.
    pub level: Option<u8>,
    /// What it is, in words.
    pub name: &'static str,
    /// The first kernel that has it.
    pub since: skep_abi::Release,
    insns: &'static [Slot],
}

const fn slot(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Slot {
    Slot { code, dst, src, off, imm }
}

const ZERO: Slot = RETURN_0[0];
const EXIT: Slot = RETURN_0[1];
/// `*(u64 *)(r10 - 8) = 0`
const STORE: Slot = slot(0x7a, 10, 0, -8, 0);

macro_rules! instructions {
    ($( $level:expr, $name:literal, ($major:literal, $minor:literal), [$($slot:expr),+]; )+) => {
        /// Every row, by level.
        pub const INSTRUCTIONS: &[Instruction] = &[$(
            Instruction {
                level: $level,
                name: $name,
                since: skep_abi::Release($major, $minor),
                insns: &[$($slot),+],
            },
        )+];
    };
}

instructions! {
    Some(1), "64-bit and 32-bit arithmetic, jumps, loads, stores", (3, 18),
        [ZERO, slot(0x04, 0, 0, 0, 1), STORE, slot(0x79, 0, 10, -8, 0), EXIT];
    Some(1), "atomic add", (3, 18), [ZERO, STORE, slot(0xdb, 10, 0, -8, 0), EXIT];
    Some(2), "less-than jumps", (4, 14),
        [ZERO, slot(0xa5, 0, 0, 0, 1), slot(0xd5, 0, 0, 0, 1), EXIT];
    Some(3), "32-bit jumps", (5, 1), [ZERO, slot(0xa6, 0, 0, 0, 1), EXIT];
    Some(3), "atomic fetch, exchange, compare-and-exchange", (5, 12),
        [ZERO, STORE, slot(0xdb, 10, 0, -8, 0x01), slot(0xdb, 10, 0, -8, 0xe1),
            slot(0xdb, 10, 0, -8, 0xf1), ZERO, EXIT];
    Some(4), "moves with sign extension", (6, 6), [ZERO, slot(0xbf, 0, 0, 8, 0), EXIT];
    Some(4), "loads with sign extension", (6, 6),
        [STORE, slot(0x91, 0, 10, -8, 0), EXIT];
    Some(4), "signed division and remainder", (6, 6),
        [ZERO, slot(0x37, 0, 0, 1, 3), slot(0x97, 0, 0, 1, 3), EXIT];
    Some(4), "byte swaps", (6, 6), [ZERO, slot(0xd7, 0, 0, 0, 16), EXIT];
    Some(4), "long jumps", (6, 6), [ZERO, slot(0x06, 0, 0, 0, 0), EXIT];
    None, "may_goto", (6, 9), [ZERO, slot(0xe5, 0, 0, 1, 0), ZERO, EXIT];
    None, "addr_space_cast", (6, 9), [ZERO, slot(0xbf, 0, 0, 1, 1), EXIT];
    None, "load-acquire, store-release", (6, 15),
        [ZERO, STORE, slot(0xdb, 0, 10, -8, 0x100), slot(0xdb, 10, 0, -8, 0x110), ZERO, EXIT];
}

impl Instruction {
    /// Does the kernel take it, from this process?
    pub fn probe(&self) -> Support {
        if_loading(|| {
            if !self.insns.iter().any(is_cast) {
                Program::load(&ProgramLoad::new("probe", ProgType::SOCKET_FILTER, self.insns))?;
                return Ok(());
            }
            self.in_an_arena()
        })
    }

    /// Only programs with an arena may cast.
    fn in_an_arena(&self) -> Answer {
        let arena = map::make_smallest(MapType::ARENA)?;
        let mut insns = vec![slot(0x18, 1, 1, 0, arena.as_fd().as_raw_fd()), Slot::default()];
        insns.extend(self.insns);
        Program::load(&super::program::of_type(ProgType::SYSCALL, &insns)?)?;
        Ok(())
    }
}

const fn is_cast(slot: &Slot) -> bool {
    slot.code == 0xbf && slot.off == 1
}
