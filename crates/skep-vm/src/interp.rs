//! The interpreter: one loop over operations, every memory access checked.

use std::sync::atomic::{Ordering, fence};

use skep_isa::Pc;

use crate::error::{Access, Reason, RunError};
use crate::helpers::Call;
use crate::lower::Lowered;
use crate::mem::{MAX_FRAMES, Word};
use crate::op::{AtomicImm, Code, Op};
use crate::program::Program;
use crate::run::{Run, Stop};

/// Registers; 16 so that a register number masked to 4 bits is always inside.
type Regs = [u64; 16];

/// Where a call returns to, and the registers it must give back.
#[derive(Clone, Copy, Debug)]
struct Frame {
    back: usize,
    saved: [u64; 4],
    fp: u64,
}

/// The interpreter's `match`, with the arms of the regular operations made from rows.
macro_rules! execute {
    (
        $op:ident, $r:ident, $jump:ident;
        alu { $( $a64r:ident $a64i:ident $a32r:ident $a32i:ident =
            |$a:ident, $b:ident| $e64:expr, $e32:expr; )+ }
        jump { $( $j64r:ident $j64i:ident $j32r:ident $j32i:ident =
            |$ja:ident, $jb:ident| $test:expr; )+ }
        signed { $( $s64r:ident $s64i:ident $s32r:ident $s32i:ident =
            |$sa:ident, $sb:ident| $stest:expr; )+ }
        other { $( $pat:pat => $body:expr )+ }
    ) => {
        match $op.code {
            $(
                Code::$a64r => {
                    let ($a, $b) = ($r[d($op)], $r[s($op)]);
                    $r[d($op)] = $e64;
                }
                Code::$a64i => {
                    let ($a, $b) = ($r[d($op)], $op.imm);
                    $r[d($op)] = $e64;
                }
                Code::$a32r => {
                    let ($a, $b) = (low($r[d($op)]), low($r[s($op)]));
                    $r[d($op)] = u64::from($e32);
                }
                Code::$a32i => {
                    let ($a, $b) = (low($r[d($op)]), low($op.imm));
                    $r[d($op)] = u64::from($e32);
                }
            )+
            $(
                Code::$j64r => {
                    let ($ja, $jb) = ($r[d($op)], $r[s($op)]);
                    if $test { $jump!($op) }
                }
                Code::$j64i => {
                    let ($ja, $jb) = ($r[d($op)], $op.imm);
                    if $test { $jump!($op) }
                }
                Code::$j32r => {
                    let ($ja, $jb) = (low($r[d($op)]), low($r[s($op)]));
                    if $test { $jump!($op) }
                }
                Code::$j32i => {
                    let ($ja, $jb) = (low($r[d($op)]), low($op.imm));
                    if $test { $jump!($op) }
                }
            )+
            $(
                Code::$s64r => {
                    let ($sa, $sb) = (i($r[d($op)]), i($r[s($op)]));
                    if $stest { $jump!($op) }
                }
                Code::$s64i => {
                    let ($sa, $sb) = (i($r[d($op)]), i($op.imm));
                    if $stest { $jump!($op) }
                }
                Code::$s32r => {
                    let ($sa, $sb) = (i32l($r[d($op)]), i32l($r[s($op)]));
                    if $stest { $jump!($op) }
                }
                Code::$s32i => {
                    let ($sa, $sb) = (i32l($r[d($op)]), i32l($op.imm));
                    if $stest { $jump!($op) }
                }
            )+
            $( $pat => { $body } )+
        }
    };
}

#[inline(always)]
fn d(op: Op) -> usize {
    usize::from(op.dst & 15)
}

#[inline(always)]
fn s(op: Op) -> usize {
    usize::from(op.src & 15)
}

/// The low 32 bits.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn low(v: u64) -> u32 {
    v as u32
}

/// As signed.
#[inline(always)]
const fn i(v: u64) -> i64 {
    v.cast_signed()
}

/// The low 32 bits as signed.
#[inline(always)]
const fn i32l(v: u64) -> i32 {
    low(v).cast_signed()
}

/// Sign-extends from 32 bits.
#[inline(always)]
const fn sx32(v: u64) -> u64 {
    (i32l(v) as i64).cast_unsigned()
}

/// Sign-extends from 16 bits.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
const fn sx16(v: u64) -> u64 {
    (i(v) as i16 as i64).cast_unsigned()
}

/// Sign-extends from 8 bits.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
const fn sx8(v: u64) -> u64 {
    (i(v) as i8 as i64).cast_unsigned()
}

/// Byte address of a memory operand.
#[inline(always)]
fn addr(base: u64, op: Op) -> u64 {
    base.wrapping_add_signed(op.off.into())
}

impl Run<'_> {
    /// Runs a program (or, with `start`, one of its functions) in a new frame.
    pub(crate) fn enter(
        &mut self,
        program: &Program,
        start: usize,
        args: [u64; 5],
    ) -> Result<u64, RunError> {
        let lowered = program.lowered();
        if self.depth >= MAX_FRAMES {
            let reason = Reason::CallDepth { max: MAX_FRAMES };
            return Err(error(lowered, start, reason));
        }
        self.depth += 1;
        let out = self.execute(program, start, args);
        self.depth -= 1;
        self.space.set_depth(self.depth);
        out
    }

    /// Runs from `start` until the function returns. The frame is already counted in `depth`.
    #[expect(clippy::indexing_slicing, reason = "register numbers are masked to 4 bits")]
    fn execute(
        &mut self,
        program: &Program,
        start: usize,
        args: [u64; 5],
    ) -> Result<u64, RunError> {
        let lowered = program.lowered();
        let ops = lowered.ops.as_slice();
        let base_depth = self.depth;
        let mut frames: Vec<Frame> = Vec::new();
        let mut r: Regs = [0; 16];
        r[1..6].copy_from_slice(&args);
        r[10] = self.space.enter_frame(self.depth);
        let mut pc = start;

        macro_rules! ok {
            ($e:expr) => {
                match $e {
                    Ok(v) => v,
                    Err(reason) => return Err(error(lowered, pc - 1, reason)),
                }
            };
        }
        macro_rules! charge {
            ($n:expr) => {
                match self.budget.checked_sub($n) {
                    Some(left) => self.budget = left,
                    None => return Err(error(lowered, pc - 1, self.out_of_budget())),
                }
            };
        }
        macro_rules! jump {
            ($op:expr) => {{
                let target = $op.target();
                if target < pc {
                    // Only going back can repeat: pay for what may now run again.
                    charge!((pc - target) as u64);
                }
                pc = target;
            }};
        }
        macro_rules! load {
            ($op:expr, $t:ty) => {
                ok!(self.load::<$t>(addr(r[s($op)], $op)))
            };
        }
        macro_rules! store {
            ($op:expr, $t:ty, $v:expr) => {
                ok!(self.store(addr(r[d($op)], $op), <$t as Word>::narrow($v)))
            };
        }
        macro_rules! callee {
            ($op:expr) => {{
                let callee = lowered.callee($op.imm);
                match self.call(&Call { program, callee, args: [r[1], r[2], r[3], r[4], r[5]] }) {
                    Ok(v) => v,
                    Err(Stop::Nested(e)) => return Err(*e),
                    Err(Stop::Reason(reason)) => return Err(error(lowered, pc - 1, reason)),
                }
            }};
        }
        macro_rules! call_local {
            ($target:expr, $len:expr) => {{
                if self.depth >= MAX_FRAMES {
                    return Err(error(lowered, pc - 1, Reason::CallDepth { max: MAX_FRAMES }));
                }
                charge!($len);
                frames.push(Frame { back: pc, saved: [r[6], r[7], r[8], r[9]], fp: r[10] });
                self.depth += 1;
                r[10] = self.space.enter_frame(self.depth);
                pc = $target;
            }};
        }
        macro_rules! leave {
            () => {
                match frames.pop() {
                    None => return Ok(r[0]),
                    Some(f) => {
                        pc = f.back;
                        r[6..10].copy_from_slice(&f.saved);
                        r[10] = f.fp;
                        self.depth -= 1;
                        self.space.set_depth(self.depth);
                    }
                }
            };
        }

        debug_assert!(base_depth >= 1, "`enter` counted the frame");
        loop {
            let Some(&op) = ops.get(pc) else {
                let reason = Reason::Internal { what: "execution left the program" };
                return Err(error(lowered, pc, reason));
            };
            pc += 1;
            execute! {
                op, r, jump;
                alu {
                    Add64R Add64I Add32R Add32I = |a, b| a.wrapping_add(b), a.wrapping_add(b);
                    Sub64R Sub64I Sub32R Sub32I = |a, b| a.wrapping_sub(b), a.wrapping_sub(b);
                    Mul64R Mul64I Mul32R Mul32I = |a, b| a.wrapping_mul(b), a.wrapping_mul(b);
                    Div64R Div64I Div32R Div32I = |a, b|
                        a.checked_div(b).unwrap_or(0), a.checked_div(b).unwrap_or(0);
                    SDiv64R SDiv64I SDiv32R SDiv32I = |a, b|
                        if b == 0 { 0 } else { i(a).wrapping_div(i(b)).cast_unsigned() },
                        if b == 0 { 0 } else {
                            a.cast_signed().wrapping_div(b.cast_signed()).cast_unsigned()
                        };
                    Or64R Or64I Or32R Or32I = |a, b| a | b, a | b;
                    And64R And64I And32R And32I = |a, b| a & b, a & b;
                    Lsh64R Lsh64I Lsh32R Lsh32I = |a, b|
                        a.wrapping_shl(low(b)), a.wrapping_shl(b);
                    Rsh64R Rsh64I Rsh32R Rsh32I = |a, b|
                        a.wrapping_shr(low(b)), a.wrapping_shr(b);
                    Neg64R Neg64I Neg32R Neg32I = |a, _b| a.wrapping_neg(), a.wrapping_neg();
                    Mod64R Mod64I Mod32R Mod32I = |a, b|
                        a.checked_rem(b).unwrap_or(a), a.checked_rem(b).unwrap_or(a);
                    SMod64R SMod64I SMod32R SMod32I = |a, b|
                        if b == 0 { a } else { i(a).wrapping_rem(i(b)).cast_unsigned() },
                        if b == 0 { a } else {
                            a.cast_signed().wrapping_rem(b.cast_signed()).cast_unsigned()
                        };
                    Xor64R Xor64I Xor32R Xor32I = |a, b| a ^ b, a ^ b;
                    Mov64R Mov64I Mov32R Mov32I = |_a, b| b, b;
                    MovSx8W64R MovSx8W64I MovSx8W32R MovSx8W32I = |_a, b|
                        sx8(b), low(sx8(b.into()));
                    MovSx16W64R MovSx16W64I MovSx16W32R MovSx16W32I = |_a, b|
                        sx16(b), low(sx16(b.into()));
                    MovSx32W64R MovSx32W64I MovSx32W32R MovSx32W32I = |_a, b| sx32(b), b;
                    Arsh64R Arsh64I Arsh32R Arsh32I = |a, b|
                        i(a).wrapping_shr(low(b)).cast_unsigned(),
                        a.cast_signed().wrapping_shr(b).cast_unsigned();
                }
                jump {
                    Jeq64R Jeq64I Jeq32R Jeq32I = |a, b| a == b;
                    Jgt64R Jgt64I Jgt32R Jgt32I = |a, b| a > b;
                    Jge64R Jge64I Jge32R Jge32I = |a, b| a >= b;
                    Jset64R Jset64I Jset32R Jset32I = |a, b| a & b != 0;
                    Jne64R Jne64I Jne32R Jne32I = |a, b| a != b;
                    Jlt64R Jlt64I Jlt32R Jlt32I = |a, b| a < b;
                    Jle64R Jle64I Jle32R Jle32I = |a, b| a <= b;
                }
                signed {
                    Jsgt64R Jsgt64I Jsgt32R Jsgt32I = |a, b| a > b;
                    Jsge64R Jsge64I Jsge32R Jsge32I = |a, b| a >= b;
                    Jslt64R Jslt64I Jslt32R Jslt32I = |a, b| a < b;
                    Jsle64R Jsle64I Jsle32R Jsle32I = |a, b| a <= b;
                }
                other {
                    Code::LdB => r[d(op)] = load!(op, u8).into()
                    Code::LdH => r[d(op)] = load!(op, u16).into()
                    Code::LdW => r[d(op)] = ok!(self.load_word(addr(r[s(op)], op)))
                    Code::LdDw => r[d(op)] = load!(op, u64)
                    Code::LdSB => r[d(op)] = sx8(load!(op, u8).into())
                    Code::LdSH => r[d(op)] = sx16(load!(op, u16).into())
                    Code::LdSW => r[d(op)] = sx32(load!(op, u32).into())
                    Code::StBR => store!(op, u8, r[s(op)])
                    Code::StHR => store!(op, u16, r[s(op)])
                    Code::StWR => store!(op, u32, r[s(op)])
                    Code::StDwR => store!(op, u64, r[s(op)])
                    Code::StBI => store!(op, u8, op.imm)
                    Code::StHI => store!(op, u16, op.imm)
                    Code::StWI => store!(op, u32, op.imm)
                    Code::StDwI => store!(op, u64, op.imm)
                    Code::Atomic => {
                        let Some(kind) = AtomicImm::unpack(op.imm) else {
                            let reason = Reason::Internal { what: "atomic operand" };
                            return Err(error(lowered, pc - 1, reason));
                        };
                        let old = ok!(self.atomic_word(addr(r[d(op)], op), kind, r[s(op)], r[0]));
                        if kind.op == skep_isa::AtomicOp::CmpXchg {
                            r[0] = old;
                        } else if kind.fetch {
                            r[s(op)] = old;
                        }
                    }
                    Code::LoadAcquire => {
                        let at = addr(r[s(op)], op);
                        ok!(self.aligned(at, op.imm));
                        r[d(op)] = ok!(self.load_sized(at, op.imm));
                        fence(Ordering::Acquire);
                    }
                    Code::StoreRelease => {
                        let at = addr(r[d(op)], op);
                        ok!(self.aligned(at, op.imm));
                        fence(Ordering::Release);
                        ok!(self.store_sized(at, op.imm, r[s(op)]));
                    }
                    Code::LdAbs | Code::LdInd => {
                        let index = if op.code == Code::LdInd { r[s(op)] } else { 0 };
                        // As the kernel: 32-bit sum, and outside of the packet returns 0.
                        let off = i32l(index.wrapping_add(op.imm));
                        match ok!(self.load_packet(off, op.off)) {
                            Some(v) => r[0] = v,
                            None => {
                                r[0] = 0;
                                leave!();
                            }
                        }
                    }
                    Code::Le16 => r[d(op)] &= 0xffff
                    Code::Le32 => r[d(op)] &= 0xffff_ffff
                    Code::Be16 => r[d(op)] = r[d(op)].swap_bytes() >> 48
                    Code::Be32 => r[d(op)] = r[d(op)].swap_bytes() >> 32 & 0xffff_ffff
                    Code::Be64 => r[d(op)] = r[d(op)].swap_bytes()
                    Code::Nop => {}
                    Code::LoadImm => r[d(op)] = op.imm
                    Code::Jump => jump!(op)
                    Code::MayGoto => {
                        if self.loops == 0 {
                            jump!(op);
                        } else {
                            self.loops -= 1;
                        }
                    }
                    Code::MapLookup => r[0] = ok!(self.map_lookup(program, r[1], r[2]))
                    Code::CallHelper => r[0] = callee!(op)
                    Code::TailCall => {
                        match ok!(self.tail_call(program, r[2], r[3])) {
                            // The called program takes this function's place and returns for it.
                            Some(next) => {
                                charge!(1);
                                r[0] = self.execute(&next, 0, [self.entry, 0, 0, 0, 0])?;
                                leave!();
                            }
                            None => r[0] = (-i64::from(libc::ENOENT)).cast_unsigned(),
                        }
                    }
                    Code::CallLocal => call_local!(op.target(), op.imm)
                    Code::CallReg => {
                        let value = r[d(op)];
                        match lowered.function_at(value) {
                            Some((target, len)) => call_local!(target, len as u64),
                            None => {
                                let callee = ok!(lowered.callee_by_number(value));
                                let args = [r[1], r[2], r[3], r[4], r[5]];
                                match self.call(&Call { program, callee, args }) {
                                    Ok(v) => r[0] = v,
                                    Err(Stop::Nested(e)) => return Err(*e),
                                    Err(Stop::Reason(reason)) => {
                                        return Err(error(lowered, pc - 1, reason));
                                    }
                                }
                            }
                        }
                    }
                    Code::Exit => leave!()
                    Code::Poison => {
                        return Err(error(lowered, pc - 1, lowered.poisoned(op.imm)));
                    }
                }
            }
        }
    }

    fn aligned(&self, addr: u64, size: u64) -> Result<(), Reason> {
        if addr.is_multiple_of(size) { Ok(()) } else { Err(Reason::Misaligned { addr, size }) }
    }

    /// Atomic read-modify-write of 4 or 8 bytes; returns the old value.
    pub(crate) fn atomic_word(
        &mut self,
        addr: u64,
        kind: AtomicImm,
        operand: u64,
        expected: u64,
    ) -> Result<u64, Reason> {
        let size = if kind.wide { 8 } else { 4 };
        self.aligned(addr, size)?;
        self.space
            .atomic(addr, kind, operand, expected)
            .map_err(|fault| self.refused(fault, Access::Write, addr, size))
    }
}

/// The error for the operation at `index`.
#[cold]
fn error(lowered: &Lowered, index: usize, reason: Reason) -> RunError {
    let (pc, insn) = match lowered.insns.get(index) {
        Some((pc, insn)) => (*pc, insn.to_string()),
        None => (Pc(0), String::new()),
    };
    RunError { program: lowered.name.to_string(), pc, insn, reason }
}
