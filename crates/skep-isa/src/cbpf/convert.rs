//! Classic BPF to eBPF, as Linux does it for socket filters.
//!
//! A is `r0`, X is `r7`, the context is kept in `r6` (which legacy packet loads use), scratch
//! memory is the top of the stack. The result is a program of type socket filter over
//! `struct __sk_buff` that the eBPF verifier accepts: Linux does not verify what it converts, but
//! ours goes the way of any program. Code that no path reaches is left out.

use super::{Extension, Filter, Insn as Classic, MEMORY, Op, Src};
use crate::{
    AluOp, BuildError, Builder, CmpOp, Insn, Operand, Reg, Size, Slot, SwapOp, Width,
    builder::Label,
};

const A: Reg = Reg::R0;
const X: Reg = Reg::R7;
/// Holds A while X is loaded from a header, and constants no immediate can hold.
const TMP: Reg = Reg::R8;
const CONTEXT: Reg = Reg::R6;

/// Why a filter has no eBPF form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// `struct __sk_buff` does not show what the extension reads.
    #[error("insn {at}: extension {:?} has no counterpart in __sk_buff", .extension.row().name)]
    Extension {
        /// Index of the instruction.
        at: u32,
        /// What it loads.
        extension: Extension,
    },
    /// The program cannot be built. A checked filter never gets here: this is a defect of skep.
    #[error("converted program does not build, please report this: {0}")]
    Build(#[from] BuildError),
}

impl Filter {
    /// The filter as an eBPF socket filter over `struct __sk_buff`.
    ///
    /// # Errors
    ///
    /// [`ConvertError::Extension`] for loads of what only the kernel's own structure has: netlink
    /// attributes, hardware type, payload offset.
    pub fn to_ebpf(&self) -> Result<Vec<Slot>, ConvertError> {
        let mut out = Builder::new();
        let labels: Vec<Label> = self.insns().iter().map(|_| out.label()).collect();
        // A and X are 0 at the start. A constant, not an xor: a verifier may look at the result.
        out.alu32(AluOp::Mov, A, 0).alu32(AluOp::Mov, X, 0).mov(CONTEXT, Reg::R1);
        let reachable = self.reachable();
        for (((insn, label), at), reachable) in
            self.insns().iter().zip(&labels).zip(0u32..).zip(reachable)
        {
            // Classic BPF allows dead code, the eBPF verifier does not.
            if !reachable {
                continue;
            }
            out.bind(*label);
            let target = |distance: u32| {
                let index = u64::from(at) + 1 + u64::from(distance);
                let label = usize::try_from(index).ok().and_then(|index| labels.get(index));
                *label.expect("a checked filter jumps inside itself")
            };
            convert(&mut out, insn, target)
                .map_err(|extension| ConvertError::Extension { at, extension })?;
        }
        Ok(out.build()?)
    }
}

impl Filter {
    /// For each instruction, whether a path leads there. Jumps go forward only: one pass.
    fn reachable(&self) -> Vec<bool> {
        let mut out = vec![false; self.insns().len()];
        if let Some(first) = out.first_mut() {
            *first = true;
        }
        for (at, insn) in self.insns().iter().enumerate() {
            if !out.get(at).is_some_and(|reached| *reached) {
                continue;
            }
            let distances = match insn.op {
                Op::RetK | Op::RetA => [None, None],
                Op::Jump => [Some(insn.k), None],
                Op::JumpIf(..) => [Some(insn.jt.into()), Some(insn.jf.into())],
                _ => [Some(0), None],
            };
            for distance in distances.into_iter().flatten() {
                let distance = usize::try_from(distance).expect("a checked filter is short");
                if let Some(reached) = out.get_mut(at + 1 + distance) {
                    *reached = true;
                }
            }
        }
        out
    }
}

/// One instruction; the error is the extension that cannot be converted.
fn convert(
    out: &mut Builder,
    insn: &Classic,
    target: impl Fn(u32) -> Label,
) -> Result<(), Extension> {
    let k = insn.k.cast_signed();
    let operand = |src| if src == Src::K { Operand::Imm(k) } else { Operand::Reg(X) };
    match insn.op {
        Op::LoadAbs(size) => match insn.extension() {
            Some(extension) => return load_extension(out, extension),
            None => out.push(Insn::LoadPacket { size, index: None, imm: k }),
        },
        Op::LoadInd(size) => out.push(Insn::LoadPacket { size, index: Some(X), imm: k }),
        Op::LoadImm => out.alu32(AluOp::Mov, A, k),
        Op::LoadXImm => out.alu32(AluOp::Mov, X, k),
        Op::LoadMem => out.load(Size::W, A, Reg::R10, memory(insn.k)),
        Op::LoadXMem => out.load(Size::W, X, Reg::R10, memory(insn.k)),
        Op::Store => out.store(Size::W, Reg::R10, memory(insn.k), A),
        Op::StoreX => out.store(Size::W, Reg::R10, memory(insn.k), X),
        Op::LoadLen => out.load(Size::W, A, CONTEXT, context::LEN),
        Op::LoadXLen => out.load(Size::W, X, CONTEXT, context::LEN),
        Op::LoadXHeader => {
            out.mov(TMP, A);
            out.push(Insn::LoadPacket { size: Size::B, index: None, imm: k });
            out.alu32(AluOp::And, A, 0xf).alu32(AluOp::Lsh, A, 2).mov(X, A).mov(A, TMP)
        }
        Op::Alu(op, src) => {
            if matches!((op, src), (AluOp::Div | AluOp::Mod, Src::X)) {
                // A classic filter ends with 0 where an eBPF division would go on.
                let divide = out.label();
                out.jump_if(CmpOp::Ne, X, 0, divide).alu32(AluOp::Xor, A, A).exit().bind(divide);
            }
            out.alu32(op, A, operand(src))
        }
        Op::Neg => out.alu32(AluOp::Neg, A, 0),
        Op::Jump => out.jump(target(insn.k)),
        Op::JumpIf(op, src) => {
            let right = match operand(src) {
                // Immediates are sign-extended to 64 bits, A is not.
                Operand::Imm(imm) if imm < 0 => {
                    out.alu32(AluOp::Mov, TMP, imm);
                    Operand::Reg(TMP)
                }
                right => right,
            };
            branch(out, op, right, insn, target)
        }
        Op::RetK => out.alu32(AluOp::Mov, A, k).exit(),
        Op::RetA => out.exit(),
        Op::Tax => out.mov(X, A),
        Op::Txa => out.mov(A, X),
    };
    Ok(())
}

/// A conditional jump with two targets, one of which often is the next instruction.
fn branch<'a>(
    out: &'a mut Builder,
    op: CmpOp,
    right: Operand,
    insn: &Classic,
    target: impl Fn(u32) -> Label,
) -> &'a mut Builder {
    let (jt, jf) = (target(insn.jt.into()), target(insn.jf.into()));
    let opposite = match op {
        CmpOp::Eq => Some(CmpOp::Ne),
        CmpOp::Gt => Some(CmpOp::Le),
        CmpOp::Ge => Some(CmpOp::Lt),
        _ => None,
    };
    match (insn.jt, insn.jf, opposite) {
        (_, 0, _) => out.jump_if(op, A, right, jt),
        (0, _, Some(opposite)) => out.jump_if(opposite, A, right, jf),
        _ => out.jump_if(op, A, right, jt).jump(jf),
    }
}

/// Offset from the frame pointer of `M[index]`, whose index was checked.
fn memory(index: u32) -> i16 {
    let words = MEMORY.saturating_sub(usize::try_from(index).unwrap_or_default());
    i16::try_from(words * 4).map_or(0, |bytes| -bytes)
}

/// Offsets in `struct __sk_buff`. The context tables stand above this crate, so these few are here.
mod context {
    pub(super) const LEN: i16 = 0;
    pub(super) const PKT_TYPE: i16 = 4;
    pub(super) const MARK: i16 = 8;
    pub(super) const QUEUE_MAPPING: i16 = 12;
    pub(super) const PROTOCOL: i16 = 16;
    pub(super) const VLAN_PRESENT: i16 = 20;
    pub(super) const VLAN_TCI: i16 = 24;
    pub(super) const VLAN_PROTO: i16 = 28;
    pub(super) const IFINDEX: i16 = 40;
    pub(super) const HASH: i16 = 68;
}

/// Helpers by number.
const GET_PRANDOM_U32: i32 = 7;
const GET_SMP_PROCESSOR_ID: i32 = 8;

fn load_extension(out: &mut Builder, extension: Extension) -> Result<(), Extension> {
    let from_network = Insn::Swap { op: SwapOp::ToBe, bits: 16, dst: A };
    match extension {
        Extension::Protocol => field(out, context::PROTOCOL).push(from_network),
        Extension::VlanTpid => field(out, context::VLAN_PROTO).push(from_network),
        Extension::PacketType => field(out, context::PKT_TYPE),
        Extension::IfIndex => field(out, context::IFINDEX),
        Extension::Mark => field(out, context::MARK),
        Extension::Queue => field(out, context::QUEUE_MAPPING),
        Extension::RxHash => field(out, context::HASH),
        Extension::VlanTci => field(out, context::VLAN_TCI),
        Extension::VlanPresent => field(out, context::VLAN_PRESENT),
        Extension::Cpu => out.call(GET_SMP_PROCESSOR_ID),
        Extension::Random => {
            let (width, src) = (Width::W32, Operand::Reg(A));
            // The helper's result is 64 bits wide; A is 32.
            out.call(GET_PRANDOM_U32).push(Insn::Alu { width, op: AluOp::Mov, dst: A, src })
        }
        Extension::XorX => out.alu32(AluOp::Xor, A, X),
        Extension::Nlattr
        | Extension::NlattrNested
        | Extension::HardwareType
        | Extension::PayloadOffset => return Err(extension),
    };
    Ok(())
}

fn field(out: &mut Builder, off: i16) -> &mut Builder {
    out.load(Size::W, A, CONTEXT, off)
}
