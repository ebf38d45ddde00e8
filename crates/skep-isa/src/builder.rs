//! Writing programs in Rust: instructions one after the other, jumps to labels.

use std::collections::HashMap;

use crate::{
    AluOp, CallTarget, CmpOp, EncodeError, Imm64, Insn, Operand, Pc, Reg, Size, Slot, Width,
};

/// A place in a program under construction, made by [`Builder::label`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Label(u32);

/// Why a program could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A jump or call goes to a label that was never bound.
    #[error("{at}: its label is not bound to a place")]
    Unbound {
        /// The jump.
        at: Pc,
        /// The label.
        label: Label,
    },
    /// [`Builder::bind`] was called twice with one label.
    #[error("{at}: label is already bound to {first}")]
    BoundTwice {
        /// Second place.
        at: Pc,
        /// First place.
        first: Pc,
        /// The label.
        label: Label,
    },
    /// The target is too far away for the offset field.
    #[error("{at}: its target is {distance} slots away, expected {min} to {max}")]
    TooFar {
        /// The jump.
        at: Pc,
        /// Slots from the next instruction to the target.
        distance: i64,
        /// Smallest distance that fits.
        min: i64,
        /// Largest distance that fits.
        max: i64,
    },
    /// An instruction has no encoding.
    #[error("{at}: {reason}")]
    Encode {
        /// The instruction.
        at: Pc,
        /// Why not.
        reason: EncodeError,
    },
}

impl BuildError {
    /// Slot of the instruction at fault.
    pub const fn at(&self) -> Pc {
        match *self {
            Self::Unbound { at, .. }
            | Self::BoundTwice { at, .. }
            | Self::TooFar { at, .. }
            | Self::Encode { at, .. } => at,
        }
    }
}

/// A program under construction.
///
/// ```
/// use skep_isa::{Builder, CmpOp, Insn, Reg};
///
/// let mut b = Builder::new();
/// let out = b.label();
/// b.mov(Reg::R0, 0).jump_if(CmpOp::Eq, Reg::R1, 0, out).mov(Reg::R0, 1).bind(out).exit();
/// let slots = b.build()?;
/// assert_eq!(slots.len(), 4);
/// # Ok::<(), skep_isa::BuildError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Builder {
    /// Instructions with the label their offset is to be computed from.
    insns: Vec<(Insn, Option<Label>)>,
    /// Slots so far.
    len: u32,
    labels: u32,
    bound: HashMap<Label, Pc>,
    /// First misuse; reported by [`Builder::build`] so that calls can be chained.
    error: Option<BuildError>,
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(imm: i32) -> Self {
        Self::Imm(imm)
    }
}

impl Builder {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// Position of the next instruction.
    pub const fn here(&self) -> Pc {
        Pc(self.len)
    }

    /// A new label, not yet bound to a place.
    pub const fn label(&mut self) -> Label {
        let label = Label(self.labels);
        self.labels += 1;
        label
    }

    /// Binds `label` to the next instruction.
    pub fn bind(&mut self, label: Label) -> &mut Self {
        let at = self.here();
        if let Some(first) = self.bound.insert(label, at) {
            self.error.get_or_insert(BuildError::BoundTwice { at, first, label });
        }
        self
    }

    /// Adds an instruction as it is.
    pub fn push(&mut self, insn: Insn) -> &mut Self {
        self.add(insn, None)
    }

    /// Adds an instruction whose code offset will be that of `label`: a jump, a local call, or
    /// `lddw` of a subprogram's address. Others are left as they are.
    pub fn push_to(&mut self, insn: Insn, label: Label) -> &mut Self {
        self.add(insn, Some(label))
    }

    fn add(&mut self, insn: Insn, label: Option<Label>) -> &mut Self {
        self.insns.push((insn, label));
        self.len = self.len.saturating_add(insn.slots());
        self
    }

    /// 64-bit arithmetic: `dst op= src`.
    pub fn alu(&mut self, op: AluOp, dst: Reg, src: impl Into<Operand>) -> &mut Self {
        self.push(Insn::Alu { width: Width::W64, op, dst, src: src.into() })
    }

    /// 32-bit arithmetic: `dst op= src`.
    pub fn alu32(&mut self, op: AluOp, dst: Reg, src: impl Into<Operand>) -> &mut Self {
        self.push(Insn::Alu { width: Width::W32, op, dst, src: src.into() })
    }

    /// `dst = src`, 64 bit.
    pub fn mov(&mut self, dst: Reg, src: impl Into<Operand>) -> &mut Self {
        self.alu(AluOp::Mov, dst, src)
    }

    /// `dst += src`, 64 bit.
    pub fn add_to(&mut self, dst: Reg, src: impl Into<Operand>) -> &mut Self {
        self.alu(AluOp::Add, dst, src)
    }

    /// `lddw`: two slots.
    pub fn load_imm64(&mut self, dst: Reg, imm: Imm64) -> &mut Self {
        self.push(Insn::LoadImm64 { dst, imm })
    }

    /// `dst = *(size *)(base + off)`
    pub fn load(&mut self, size: Size, dst: Reg, base: Reg, off: i16) -> &mut Self {
        self.push(Insn::Load { size, signed: false, dst, base, off })
    }

    /// `*(size *)(base + off) = src`
    pub fn store(&mut self, size: Size, base: Reg, off: i16, src: impl Into<Operand>) -> &mut Self {
        self.push(Insn::Store { size, base, off, src: src.into() })
    }

    /// `goto label`; becomes `gotol` (ISA v4) when the target is too far for 16 bits.
    pub fn jump(&mut self, label: Label) -> &mut Self {
        self.push_to(Insn::Jump { off: 0, long: false }, label)
    }

    /// `if dst op src goto label`, 64 bit.
    pub fn jump_if(
        &mut self,
        op: CmpOp,
        dst: Reg,
        src: impl Into<Operand>,
        label: Label,
    ) -> &mut Self {
        self.push_to(Insn::JumpIf { width: Width::W64, op, dst, src: src.into(), off: 0 }, label)
    }

    /// `if dst op src goto label`, 32 bit (ISA v3).
    pub fn jump_if32(
        &mut self,
        op: CmpOp,
        dst: Reg,
        src: impl Into<Operand>,
        label: Label,
    ) -> &mut Self {
        self.push_to(Insn::JumpIf { width: Width::W32, op, dst, src: src.into(), off: 0 }, label)
    }

    /// `call` of a helper.
    pub fn call(&mut self, helper: i32) -> &mut Self {
        self.push(Insn::Call(CallTarget::Helper(helper)))
    }

    /// `call` of the subprogram at `label`.
    pub fn call_local(&mut self, label: Label) -> &mut Self {
        self.push_to(Insn::Call(CallTarget::Local(0)), label)
    }

    /// `dst = ` address of the subprogram at `label`.
    pub fn load_func(&mut self, dst: Reg, label: Label) -> &mut Self {
        self.push_to(Insn::LoadImm64 { dst, imm: Imm64::Func(0) }, label)
    }

    /// `exit`
    pub fn exit(&mut self) -> &mut Self {
        self.push(Insn::Exit)
    }

    /// The slots, with every label resolved.
    ///
    /// # Errors
    ///
    /// [`BuildError`] at the first instruction that cannot be built.
    pub fn build(&self) -> Result<Vec<Slot>, BuildError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let mut out = Vec::with_capacity(self.insns.len());
        let mut at = Pc(0);
        for (insn, label) in &self.insns {
            let mut insn = *insn;
            if let Some(label) = *label {
                let to = self.bound.get(&label).ok_or(BuildError::Unbound { at, label })?;
                insn = retarget(insn, at, *to, true)?;
            }
            let encoded = insn.encode().map_err(|reason| BuildError::Encode { at, reason })?;
            out.extend_from_slice(&encoded);
            at = Pc(at.0.saturating_add(insn.slots()));
        }
        Ok(out)
    }
}

/// `insn` at `at`, going to `to`; `lengthen` lets `goto` become `gotol`. The only error is
/// [`BuildError::TooFar`].
pub(crate) fn retarget(insn: Insn, at: Pc, to: Pc, lengthen: bool) -> Result<Insn, BuildError> {
    let distance = i64::from(to.0) - i64::from(at.0) - 1;
    let too_far = |min, max| BuildError::TooFar { at, distance, min, max };
    let long =
        || i32::try_from(distance).map_err(|_| too_far(i64::from(i32::MIN), i64::from(i32::MAX)));
    let short =
        || i16::try_from(distance).map_err(|_| too_far(i64::from(i16::MIN), i64::from(i16::MAX)));
    Ok(match insn {
        Insn::Jump { long: true, .. } => Insn::Jump { off: long()?, long: true },
        Insn::Jump { long: false, .. } => match short() {
            Ok(off) => Insn::Jump { off: off.into(), long: false },
            Err(_) if lengthen => Insn::Jump { off: long()?, long: true },
            Err(error) => return Err(error),
        },
        Insn::JumpIf { width, op, dst, src, .. } => {
            Insn::JumpIf { width, op, dst, src, off: short()? }
        }
        Insn::MayGoto { .. } => Insn::MayGoto { off: short()? },
        Insn::Call(CallTarget::Local(_)) => Insn::Call(CallTarget::Local(long()?)),
        Insn::LoadImm64 { dst, imm: Imm64::Func(_) } => {
            Insn::LoadImm64 { dst, imm: Imm64::Func(long()?) }
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disasm::Listing;

    #[test]
    fn labels_count_slots_forwards_and_backwards() {
        let mut b = Builder::new();
        let (head, out, sub) = (b.label(), b.label(), b.label());
        b.bind(head).load_imm64(Reg::R1, Imm64::Const(1)).jump_if(CmpOp::Gt, Reg::R1, Reg::R2, out);
        b.jump(head).bind(out).call_local(sub).load_func(Reg::R2, sub).exit();
        b.bind(sub).exit();
        let text = Listing::new(&b.build().unwrap()).pc(true).to_string();
        let want = "   0: r1 = 0x1 ll\n   2: if r1 > r2 goto +1\n   3: goto -4\n   4: call pc+3\n   \
                    5: r2 = subprog[+2]\n   7: exit\n   8: exit\n";
        assert_eq!(text, want);
    }

    #[test]
    fn a_far_jump_becomes_long_and_a_far_branch_is_an_error() {
        let mut b = Builder::new();
        let out = b.label();
        b.jump(out);
        for _ in 0..0x8000 {
            b.mov(Reg::R0, 0);
        }
        let mut branch = b.clone();
        b.bind(out).exit();
        let first = b.build().unwrap()[0];
        assert_eq!(Insn::decode(first, None), Ok(Insn::Jump { off: 0x8000, long: true }));
        let back = branch.label();
        branch.bind(out).exit().bind(back);
        branch.insns.insert(0, (Insn::MayGoto { off: 0 }, Some(back)));
        let error = branch.build().unwrap_err().to_string();
        assert_eq!(error, "insn 0: its target is 32769 slots away, expected -32768 to 32767");
    }

    #[test]
    fn misuse_of_labels_is_an_error() {
        let mut b = Builder::new();
        let label = b.label();
        b.jump(label);
        assert_eq!(b.build(), Err(BuildError::Unbound { at: Pc(0), label }));
        b.bind(label).exit().bind(label);
        assert_eq!(b.build(), Err(BuildError::BoundTwice { at: Pc(2), first: Pc(1), label }));
    }
}
