//! Lowering: from a program as the ABI describes it to what the engine executes.
//!
//! Checks the structure (targets, end, `r10`, known helpers) and resolves whatever can be
//! resolved before the first run. It proves nothing about memory or termination; the type of the
//! result remembers whether somebody else did.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::sync::Arc;

use skep_isa::{AtomicOp, CallTarget, Imm64, Insn, Operand, Pc, Reg, Size, SwapOp, Width};

use crate::error::{LowerError, LowerReason, Reason};
use crate::helpers::{self, Helper};
use crate::op::{AtomicImm, Code, Op};

/// Most instructions of a program, as in the kernel.
pub const MAX_INSNS: usize = 1_000_000;
/// Function addresses as programs see them: this plus 8 times the operation's index. No
/// user-space memory lies there.
pub(crate) const FUNC_BASE: u64 = 0xfffe_0000_0000_0000;

/// Marker: nobody proved the program; it runs with every access checked.
#[derive(Clone, Copy, Debug)]
pub struct Checked(());

/// A helper that the host brings: five arguments to `r0`. It has no access to the program's
/// memory.
pub type HostHelper = fn([u64; 5]) -> u64;

/// What a reference in a program stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// A number or address to load.
    Value(u64),
    /// Nothing: an error with this text when the instruction is reached.
    Poison(String),
    /// Something of the kernel's, in these words: an error as above.
    Missing(String),
}

/// A program to lower.
#[derive(Debug)]
pub struct Source<'a> {
    /// Name, for errors.
    pub name: &'a str,
    /// Decoded instructions with their positions, in order and without gaps.
    pub insns: &'a [(Pc, Insn)],
    /// What the references at these positions stand for.
    pub bindings: BTreeMap<Pc, Binding>,
    /// Helpers that replace or extend the engine's own.
    pub host_helpers: &'a BTreeMap<i32, HostHelper>,
}

/// A helper as a program calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Callee {
    /// The engine's own.
    Engine(&'static Helper),
    /// The host's.
    Host(HostHelper),
}

/// A program the engine can execute. `P` tells whether it was proved.
#[derive(Clone, Debug)]
pub struct Lowered<P = Checked> {
    pub(crate) name: Arc<str>,
    pub(crate) ops: Vec<Op>,
    /// The instruction that each operation came from.
    pub(crate) insns: Vec<(Pc, Insn)>,
    /// Operations at which a function starts.
    pub(crate) functions: BTreeMap<usize, usize>,
    pub(crate) callees: Vec<Callee>,
    /// Why instructions must not be reached.
    pub(crate) poison: Vec<Reason>,
    /// The host's helpers, for calls through a register.
    pub(crate) host_helpers: BTreeMap<i32, HostHelper>,
    proof: PhantomData<P>,
}

/// Lowers a program that nobody proved.
///
/// # Errors
///
/// [`LowerError`] at the first instruction that breaks a structural rule.
pub fn lower(source: &Source<'_>) -> Result<Lowered<Checked>, LowerError> {
    let fail = |at, reason| LowerError { program: source.name.to_owned(), at, reason };
    if source.insns.is_empty() {
        return Err(fail(Pc(0), LowerReason::Empty));
    }
    if source.insns.len() > MAX_INSNS {
        let reason = LowerReason::TooLong { found: source.insns.len(), max: MAX_INSNS };
        return Err(fail(Pc(0), reason));
    }
    let mut lowering = Lowering::new(source);
    lowering.find_functions().map_err(|(at, reason)| fail(at, reason))?;
    for (index, &(at, insn)) in source.insns.iter().enumerate() {
        let op = lowering.op(index, at, &insn).map_err(|reason| fail(at, reason))?;
        lowering.ops.push(op);
    }
    lowering.check_ends().map_err(|(at, reason)| fail(at, reason))?;
    let Lowering { ops, functions, callees, poison, .. } = lowering;
    Ok(Lowered {
        name: source.name.into(),
        ops,
        insns: source.insns.to_vec(),
        functions,
        callees,
        poison,
        host_helpers: source.host_helpers.clone(),
        proof: PhantomData,
    })
}

struct Lowering<'a> {
    source: &'a Source<'a>,
    /// Slot to operation.
    index_of: BTreeMap<u32, usize>,
    ops: Vec<Op>,
    /// Start to length, in operations.
    functions: BTreeMap<usize, usize>,
    callees: Vec<Callee>,
    poison: Vec<Reason>,
}

impl<'a> Lowering<'a> {
    fn new(source: &'a Source<'a>) -> Self {
        let index_of = source.insns.iter().enumerate().map(|(i, (at, _))| (at.0, i)).collect();
        Self {
            source,
            index_of,
            ops: Vec::with_capacity(source.insns.len()),
            functions: BTreeMap::new(),
            callees: Vec::new(),
            poison: Vec::new(),
        }
    }

    /// The operation `off` slots behind the slot after `at`.
    fn target(&self, at: Pc, off: i32) -> Result<usize, LowerReason> {
        let target = i64::from(at.0) + 1 + i64::from(off);
        u32::try_from(target)
            .ok()
            .and_then(|slot| self.index_of.get(&slot).copied())
            .ok_or(LowerReason::BadTarget { target })
    }

    /// Collects the starts of functions: the program, call targets, loaded addresses.
    fn find_functions(&mut self) -> Result<(), (Pc, LowerReason)> {
        let mut starts = BTreeSet::from([0]);
        for &(at, insn) in self.source.insns {
            let off = match insn {
                Insn::Call(CallTarget::Local(off)) => off,
                Insn::LoadImm64 { imm: Imm64::Func(off), .. }
                    if !self.source.bindings.contains_key(&at) =>
                {
                    off
                }
                _ => continue,
            };
            starts.insert(self.target(at, off).map_err(|reason| (at, reason))?);
        }
        let ends = starts.iter().skip(1).copied().chain([self.source.insns.len()]);
        self.functions = starts.iter().copied().zip(ends).map(|(s, e)| (s, e - s)).collect();
        Ok(())
    }

    /// Execution must not run from one function into the next or past the end.
    fn check_ends(&self) -> Result<(), (Pc, LowerReason)> {
        for (&start, &len) in &self.functions {
            let last = start + len - 1;
            let Some(&(at, insn)) = self.source.insns.get(last) else { continue };
            let past_the_end = last + 1 == self.source.insns.len();
            let ends = matches!(insn, Insn::Exit | Insn::Jump { .. });
            // Falling into the next function is strange and harmless; leaving the program is not.
            if past_the_end && !ends {
                return Err((at, LowerReason::FallsOff));
            }
        }
        Ok(())
    }

    fn poison(&mut self, reason: Reason) -> Op {
        self.poison.push(reason);
        Op { imm: self.poison.len() as u64 - 1, ..Op::new(Code::Poison) }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        reason = "MAX_INSNS fits"
    )]
    fn jump(&self, at: Pc, off: i32, code: Code) -> Result<Op, LowerReason> {
        Ok(Op { off: self.target(at, off)? as i32, ..Op::new(code) })
    }

    fn op(&mut self, index: usize, at: Pc, insn: &Insn) -> Result<Op, LowerReason> {
        match self.source.bindings.get(&at) {
            Some(Binding::Poison(text)) => {
                return Ok(self.poison(Reason::Poisoned { text: text.clone() }));
            }
            Some(Binding::Missing(what)) => {
                return Ok(self.poison(Reason::Missing { what: what.clone() }));
            }
            Some(Binding::Value(value)) => {
                if let Insn::LoadImm64 { dst, .. } = insn {
                    let dst = writable(*dst)?;
                    return Ok(Op { dst, imm: *value, ..Op::new(Code::LoadImm) });
                }
            }
            None => {}
        }
        Ok(match *insn {
            Insn::Alu { width, op, dst, src } => {
                let dst = writable(dst)?;
                match src {
                    Operand::Reg(src) => {
                        Op { dst, src: src.number(), ..Op::new(Code::alu(op, width, true)) }
                    }
                    Operand::Imm(imm) => {
                        Op { dst, imm: extend(imm, width), ..Op::new(Code::alu(op, width, false)) }
                    }
                }
            }
            Insn::Swap { op, bits, dst } => {
                let code = match (op, bits) {
                    (SwapOp::ToLe, 16) => Code::Le16,
                    (SwapOp::ToLe, 32) => Code::Le32,
                    (SwapOp::ToLe, _) => Code::Nop,
                    (_, 16) => Code::Be16,
                    (_, 32) => Code::Be32,
                    _ => Code::Be64,
                };
                Op { dst: writable(dst)?, ..Op::new(code) }
            }
            Insn::AddrSpaceCast { .. } => {
                return Err(LowerReason::Unsupported { what: "addr_space_cast (arena pointers)" });
            }
            Insn::LoadImm64 { dst, imm } => {
                let imm = self.imm64(at, imm)?;
                Op { dst: writable(dst)?, imm, ..Op::new(Code::LoadImm) }
            }
            Insn::LoadPacket { size, index, imm } => Op {
                code: if index.is_some() { Code::LdInd } else { Code::LdAbs },
                src: index.map_or(0, Reg::number),
                off: size.bytes().into(),
                imm: extend(imm, Width::W64),
                dst: 0,
            },
            Insn::Load { size, signed, dst, base, off } => Op {
                dst: writable(dst)?,
                src: base.number(),
                off: off.into(),
                ..Op::new(Code::load(size, signed))
            },
            Insn::Store { size, base, off, src } => {
                let (dst, off) = (base.number(), off.into());
                match src {
                    Operand::Reg(src) => {
                        Op { dst, src: src.number(), off, ..Op::new(Code::store(size, true)) }
                    }
                    Operand::Imm(imm) => {
                        let imm = extend(imm, Width::W64);
                        Op { dst, off, imm, ..Op::new(Code::store(size, false)) }
                    }
                }
            }
            Insn::Atomic { op, fetch, size, base, off, src } => {
                let fetches = fetch || matches!(op, AtomicOp::Xchg);
                if fetches && op != AtomicOp::CmpXchg {
                    writable(src)?;
                }
                let imm = AtomicImm { op, wide: size == Size::Dw, fetch: fetches }.pack();
                let (dst, src) = (base.number(), src.number());
                Op { code: Code::Atomic, dst, src, off: off.into(), imm }
            }
            Insn::LoadAcquire { size, dst, base, off } => Op {
                code: Code::LoadAcquire,
                dst: writable(dst)?,
                src: base.number(),
                off: off.into(),
                imm: size.bytes().into(),
            },
            Insn::StoreRelease { size, base, off, src } => Op {
                code: Code::StoreRelease,
                dst: base.number(),
                src: src.number(),
                off: off.into(),
                imm: size.bytes().into(),
            },
            Insn::Jump { off, .. } => self.jump(at, off, Code::Jump)?,
            Insn::JumpIf { width, op, dst, src, off } => {
                let code = Code::jump(op, width, matches!(src, Operand::Reg(_)));
                let op = Op { dst: dst.number(), ..self.jump(at, off.into(), code)? };
                match src {
                    Operand::Reg(src) => Op { src: src.number(), ..op },
                    Operand::Imm(imm) => Op { imm: extend(imm, width), ..op },
                }
            }
            Insn::MayGoto { off } => self.jump(at, off.into(), Code::MayGoto)?,
            Insn::Call(CallTarget::Helper(id)) => self.helper(id)?,
            Insn::Call(CallTarget::Local(off)) => {
                let op = self.jump(at, off, Code::CallLocal)?;
                let len = self.functions.get(&op.target()).copied().unwrap_or(1);
                Op { imm: len as u64, ..op }
            }
            Insn::Call(CallTarget::Kfunc { id, .. }) => {
                self.poison(Reason::Missing { what: format!("kernel function with BTF id {id}") })
            }
            Insn::CallReg(dst) => Op { dst: dst.number(), ..Op::new(Code::CallReg) },
            Insn::Exit => Op::new(Code::Exit),
        })
        .inspect(|_| debug_assert_eq!(index, self.ops.len(), "one operation per instruction"))
    }

    fn helper(&mut self, id: i32) -> Result<Op, LowerReason> {
        let callee = match (self.source.host_helpers.get(&id), helpers::find(id)) {
            (Some(&f), _) => Callee::Host(f),
            (None, Some(helper)) => Callee::Engine(helper),
            (None, None) => {
                let reason = helpers::missing(id).ok_or(LowerReason::UnknownHelper { id })?;
                return Ok(self.poison(reason));
            }
        };
        let code = match (id, callee) {
            (1, Callee::Engine(_)) => Code::MapLookup,
            (12, Callee::Engine(_)) => Code::TailCall,
            _ => Code::CallHelper,
        };
        self.callees.push(callee);
        Ok(Op { imm: self.callees.len() as u64 - 1, ..Op::new(code) })
    }

    fn imm64(&self, at: Pc, imm: Imm64) -> Result<u64, LowerReason> {
        let unbound = |what| Err(LowerReason::Unbound { what });
        match imm {
            Imm64::Const(v) => Ok(v),
            Imm64::Func(off) => Ok(FUNC_BASE + 8 * self.target(at, off)? as u64),
            Imm64::MapFd(fd) => unbound(format!("map file descriptor {fd}")),
            Imm64::MapValue { fd, .. } => unbound(format!("map file descriptor {fd}")),
            Imm64::MapIdx(idx) | Imm64::MapIdxValue { idx, .. } => {
                unbound(format!("map index {idx}"))
            }
            Imm64::BtfId { id, .. } => unbound(format!("the kernel variable with BTF id {id}")),
        }
    }
}

/// An immediate, extended to the width it is used at.
#[expect(clippy::cast_sign_loss, reason = "two's complement is meant")]
fn extend(imm: i32, width: Width) -> u64 {
    match width {
        Width::W64 => i64::from(imm) as u64,
        Width::W32 => u64::from(imm as u32),
    }
}

fn writable(reg: Reg) -> Result<u8, LowerReason> {
    if reg == Reg::R10 { Err(LowerReason::FramePointer) } else { Ok(reg.number()) }
}

impl<P> Lowered<P> {
    /// Name of the program.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of instructions.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Always false: lowering refuses empty programs.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Instructions that need what only the kernel has, and what that is.
    pub fn missing(&self) -> impl Iterator<Item = (Pc, &str)> {
        self.insns.iter().zip(&self.ops).filter_map(|((at, _), op)| {
            let position = usize::try_from(op.imm).ok().filter(|_| op.code == Code::Poison)?;
            match self.poison.get(position)? {
                Reason::Missing { what } => Some((*at, what.as_str())),
                _ => None,
            }
        })
    }

    /// The function at an address a program computed with, as operation and length.
    pub(crate) fn function_at(&self, addr: u64) -> Option<(usize, usize)> {
        let off = addr.checked_sub(FUNC_BASE)?;
        let index = usize::try_from(off / 8).ok().filter(|_| off.is_multiple_of(8))?;
        self.functions.get_key_value(&index).map(|(&start, &len)| (start, len))
    }
}
