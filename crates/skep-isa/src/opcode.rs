//! The opcode table: one row per encoding, read by decoder, encoder and documentation.
//!
//! A [`Row`] says for each field of a slot whether it is an operand, a fixed value that selects the
//! row, or reserved. What is not in the table is not an instruction.

use std::sync::LazyLock;

use crate::{
    Slot,
    ops::{AluOp, AluRow, AtomicOp, CmpOp, CmpRow, Size, SwapOp, Width},
};

/// An instruction without its operands: the unit of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Arithmetic.
    Alu {
        /// 32 or 64 bit.
        width: Width,
        /// Operation.
        op: AluOp,
        /// Is the right operand a register?
        reg: bool,
    },
    /// Byte order.
    Swap {
        /// Operation.
        op: SwapOp,
        /// Low bits concerned: 16, 32 or 64.
        bits: u8,
    },
    /// `addr_space_cast`.
    AddrSpaceCast,
    /// `lddw` with this source number (0 to 6).
    LoadImm64 {
        /// What the number means is [`crate::Imm64`].
        source: u8,
    },
    /// Legacy packet load.
    LoadPacket {
        /// Access size.
        size: Size,
        /// With an index register?
        indirect: bool,
    },
    /// Load from memory.
    Load {
        /// Access size.
        size: Size,
        /// Sign-extending?
        signed: bool,
    },
    /// Store to memory.
    Store {
        /// Access size.
        size: Size,
        /// Of a register, not an immediate?
        reg: bool,
    },
    /// Atomic read-modify-write.
    Atomic {
        /// Operation.
        op: AtomicOp,
        /// Returns the old value?
        fetch: bool,
        /// Access size.
        size: Size,
    },
    /// `load_acquire`.
    LoadAcquire {
        /// Access size.
        size: Size,
    },
    /// `store_release`.
    StoreRelease {
        /// Access size.
        size: Size,
    },
    /// Unconditional jump.
    Jump {
        /// Offset in the immediate (`gotol`)?
        long: bool,
    },
    /// Conditional jump.
    JumpIf {
        /// 32 or 64 bit comparison.
        width: Width,
        /// Comparison.
        op: CmpOp,
        /// Is the right operand a register?
        reg: bool,
    },
    /// `may_goto`.
    MayGoto,
    /// `call` with this source number: 0 helper, 1 local, 2 kernel function.
    Call {
        /// What the number means is [`crate::CallTarget`].
        source: u8,
    },
    /// `callx`.
    CallReg,
    /// `exit`.
    Exit,
}

/// What one field of a slot must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Reserved: 0.
    Zero,
    /// This value, which selects the row among those with the same opcode byte.
    Is(i32),
    /// A register number.
    Reg,
    /// An operand: any value.
    Any,
}

/// Name of a field of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldName {
    /// Opcode byte.
    Code,
    /// Destination nibble.
    Dst,
    /// Source nibble.
    Src,
    /// Offset.
    Off,
    /// Immediate.
    Imm,
}

impl std::fmt::Display for FieldName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Code => "opcode",
            Self::Dst => "destination",
            Self::Src => "source",
            Self::Off => "offset",
            Self::Imm => "immediate",
        })
    }
}

/// Conformance groups of RFC 9669 section 2.4; `Linux` is what the RFC does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Everything else of 32 bit.
    Base32,
    /// Everything else of 64 bit.
    Base64,
    /// 32-bit atomics.
    Atomic32,
    /// 64-bit atomics.
    Atomic64,
    /// 32-bit multiplication, division and remainder.
    Divmul32,
    /// 64-bit multiplication, division and remainder.
    Divmul64,
    /// Legacy packet loads.
    Packet,
    /// Indirect call; reserved in the RFC.
    Callx,
    /// Linux only.
    Linux,
}

impl Group {
    /// The RFC's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Base32 => "base32",
            Self::Base64 => "base64",
            Self::Atomic32 => "atomic32",
            Self::Atomic64 => "atomic64",
            Self::Divmul32 => "divmul32",
            Self::Divmul64 => "divmul64",
            Self::Packet => "packet",
            Self::Callx => "callx",
            Self::Linux => "linux",
        }
    }
}

/// One encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Opcode byte.
    pub code: u8,
    /// Destination nibble.
    pub dst: Field,
    /// Source nibble.
    pub src: Field,
    /// Offset field.
    pub off: Field,
    /// Immediate field.
    pub imm: Field,
    /// What it is.
    pub form: Form,
    /// Conformance group.
    pub group: Group,
    /// `-mcpu` version of the compilers that introduced it, 1 to 4.
    pub version: u8,
}

impl Row {
    /// Every row, by opcode byte.
    pub fn all() -> &'static [Self] {
        &TABLE.rows
    }

    /// The rows with this opcode byte; empty when it is not defined.
    pub fn with_code(code: u8) -> &'static [Self] {
        let (start, end) = TABLE.index.get(usize::from(code)).copied().unwrap_or_default();
        TABLE.rows.get(start..end).unwrap_or_default()
    }

    /// The row of a form, when the form is an instruction.
    pub fn of(form: Form) -> Option<&'static Self> {
        Self::with_code(form.layout().code).iter().find(|row| row.form == form)
    }

    /// A slot of this row with these operands where the row has operands.
    #[must_use]
    pub fn fill(&self, operands: Slot) -> Slot {
        let value = |rule, operand: i32| match rule {
            Field::Zero => 0,
            Field::Is(value) => value,
            Field::Reg | Field::Any => operand,
        };
        let nibble = |rule, operand: u8| {
            u8::try_from(value(rule, operand.into())).expect("source numbers are small")
        };
        let off = value(self.off, operands.off.into());
        Slot {
            code: self.code,
            dst: nibble(self.dst, operands.dst),
            src: nibble(self.src, operands.src),
            off: i16::try_from(off).expect("offset selectors are small"),
            imm: value(self.imm, operands.imm),
        }
    }

    /// The fields that decide or carry something, with their names.
    pub const fn fields(&self) -> [(FieldName, Field); 4] {
        [
            (FieldName::Dst, self.dst),
            (FieldName::Src, self.src),
            (FieldName::Off, self.off),
            (FieldName::Imm, self.imm),
        ]
    }
}

/// The table with, for each opcode byte, the range of its rows.
struct Table {
    rows: Vec<Row>,
    index: [(usize, usize); 256],
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut rows: Vec<Row> = forms().into_iter().map(Form::layout).collect();
    rows.sort_by_key(|row| row.code); // stable: selectors stay in table order
    let mut index = [(0, 0); 256];
    for (code, range) in (0..=u8::MAX).zip(index.iter_mut()) {
        *range = (
            rows.partition_point(|row| row.code < code),
            rows.partition_point(|row| row.code <= code),
        );
    }
    Table { rows, index }
});

const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_ST: u8 = 0x02;
const CLASS_STX: u8 = 0x03;
const CLASS_ALU: u8 = 0x04;
const CLASS_JMP: u8 = 0x05;
const CLASS_JMP32: u8 = 0x06;
const CLASS_ALU64: u8 = 0x07;
/// Source bit: the right operand is a register.
const SOURCE_REG: u8 = 0x08;
const MODE_ABS: u8 = 0x20;
const MODE_IND: u8 = 0x40;
const MODE_MEM: u8 = 0x60;
const MODE_MEMSX: u8 = 0x80;
const MODE_ATOMIC: u8 = 0xc0;
/// Bit of the immediate: the old value is returned.
const FETCH: i32 = 0x01;

impl Form {
    /// The encoding this form would have, were it defined; [`forms`] says which are.
    #[expect(clippy::too_many_lines, reason = "it is a table: one entry per kind of instruction")]
    fn layout(self) -> Row {
        use Field::{Any, Is, Reg, Zero};
        let row = |code, [dst, src, off, imm]: [Field; 4], group, version| Row {
            code,
            dst,
            src,
            off,
            imm,
            form: self,
            group,
            version,
        };
        let source = |reg| if reg { SOURCE_REG } else { 0 };
        let base = |size| if size == Size::Dw { Group::Base64 } else { Group::Base32 };
        match self {
            Self::Alu { width, op, reg } => {
                let class = if width == Width::W64 { CLASS_ALU64 } else { CLASS_ALU };
                let AluRow { code, off, .. } = op.row();
                let selects = match op {
                    AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod => true,
                    AluOp::Mov => reg,
                    _ => op.is_movsx(),
                };
                let off_field = if selects { Is(off.into()) } else { Zero };
                let (src, imm) = match (op, reg) {
                    (AluOp::Neg, _) => (Zero, Zero),
                    (_, true) => (Reg, Zero),
                    (_, false) => (Zero, Any),
                };
                let divmul = matches!(code, 0x20 | 0x30 | 0x90);
                let group = match (width, divmul) {
                    (Width::W32, true) => Group::Divmul32,
                    (Width::W64, true) => Group::Divmul64,
                    (Width::W32, false) => Group::Base32,
                    (Width::W64, false) => Group::Base64,
                };
                let version = if off == 0 { 1 } else { 4 };
                row(class | code | source(reg), [Reg, src, off_field, imm], group, version)
            }
            Self::Swap { op, bits } => {
                let group = if bits == 64 { Group::Base64 } else { Group::Base32 };
                let version = if op == SwapOp::Bswap { 4 } else { 1 };
                row(op.row().code, [Reg, Zero, Zero, Is(bits.into())], group, version)
            }
            Self::AddrSpaceCast => row(
                CLASS_ALU64 | AluOp::Mov.row().code | SOURCE_REG,
                [Reg, Reg, Is(1), Any],
                Group::Linux,
                1,
            ),
            Self::LoadImm64 { source } => row(
                CLASS_LD | Size::Dw.row().code,
                [Reg, Is(source.into()), Zero, Any],
                Group::Base64,
                1,
            ),
            Self::LoadPacket { size, indirect } => {
                let (mode, src) = if indirect { (MODE_IND, Reg) } else { (MODE_ABS, Zero) };
                let code = CLASS_LD | mode | size.row().code;
                row(code, [Zero, src, Zero, Any], Group::Packet, 1)
            }
            Self::Load { size, signed } => {
                let mode = if signed { MODE_MEMSX } else { MODE_MEM };
                let group = if signed && size == Size::W { Group::Base64 } else { base(size) };
                let code = CLASS_LDX | mode | size.row().code;
                row(code, [Reg, Reg, Any, Zero], group, if signed { 4 } else { 1 })
            }
            Self::Store { size, reg } => {
                let (class, src, imm) =
                    if reg { (CLASS_STX, Reg, Zero) } else { (CLASS_ST, Zero, Any) };
                row(class | MODE_MEM | size.row().code, [Reg, src, Any, imm], base(size), 1)
            }
            Self::Atomic { op, fetch, size } => {
                let imm = op.row().imm | if fetch { FETCH } else { 0 };
                let group = if size == Size::W { Group::Atomic32 } else { Group::Atomic64 };
                let version = if imm == 0 { 1 } else { 3 };
                let code = CLASS_STX | MODE_ATOMIC | size.row().code;
                row(code, [Reg, Reg, Any, Is(imm)], group, version)
            }
            Self::LoadAcquire { size } => {
                let code = CLASS_STX | MODE_ATOMIC | size.row().code;
                row(code, [Reg, Reg, Any, Is(0x100)], Group::Linux, 4)
            }
            Self::StoreRelease { size } => {
                let code = CLASS_STX | MODE_ATOMIC | size.row().code;
                row(code, [Reg, Reg, Any, Is(0x110)], Group::Linux, 4)
            }
            Self::Jump { long: false } => row(CLASS_JMP, [Zero, Zero, Any, Zero], Group::Base32, 1),
            Self::Jump { long: true } => {
                row(CLASS_JMP32, [Zero, Zero, Zero, Any], Group::Base32, 4)
            }
            Self::JumpIf { width, op, reg } => {
                let (class, group) = match width {
                    Width::W64 => (CLASS_JMP, Group::Base64),
                    Width::W32 => (CLASS_JMP32, Group::Base32),
                };
                let CmpRow { code, v2, .. } = op.row();
                let version = match (width, v2) {
                    (Width::W32, _) => 3,
                    (Width::W64, true) => 2,
                    (Width::W64, false) => 1,
                };
                let (src, imm) = if reg { (Reg, Zero) } else { (Zero, Any) };
                row(class | code | source(reg), [Reg, src, Any, imm], group, version)
            }
            Self::MayGoto => row(CLASS_JMP | 0xe0, [Zero, Zero, Any, Zero], Group::Linux, 1),
            Self::Call { source } => {
                let off = if source == 2 { Any } else { Zero };
                let code = CLASS_JMP | 0x80;
                row(code, [Zero, Is(source.into()), off, Any], Group::Base32, 1)
            }
            Self::CallReg => {
                row(CLASS_JMP | 0x80 | SOURCE_REG, [Reg, Zero, Zero, Zero], Group::Callx, 1)
            }
            Self::Exit => row(CLASS_JMP | 0x90, [Zero, Zero, Zero, Zero], Group::Base32, 1),
        }
    }
}

/// Every form that is an instruction. What is missing here does not exist.
fn forms() -> Vec<Form> {
    let mut out = Vec::new();
    for &width in Width::ALL {
        for &op in AluOp::ALL {
            // A 32-bit move already extends from 32 bit.
            if op == AluOp::MovSx32 && width == Width::W32 {
                continue;
            }
            if !op.is_movsx() {
                out.push(Form::Alu { width, op, reg: false });
            }
            if op != AluOp::Neg {
                out.push(Form::Alu { width, op, reg: true });
            }
        }
        for &op in CmpOp::ALL {
            out.extend([false, true].map(|reg| Form::JumpIf { width, op, reg }));
        }
    }
    for &op in SwapOp::ALL {
        out.extend([16, 32, 64].map(|bits| Form::Swap { op, bits }));
    }
    out.push(Form::AddrSpaceCast);
    out.extend((0..=6).map(|source| Form::LoadImm64 { source }));
    for &size in Size::ALL {
        if size != Size::Dw {
            out.extend([false, true].map(|indirect| Form::LoadPacket { size, indirect }));
            out.push(Form::Load { size, signed: true });
        }
        out.push(Form::Load { size, signed: false });
        out.extend([false, true].map(|reg| Form::Store { size, reg }));
        if matches!(size, Size::W | Size::Dw) {
            for &op in AtomicOp::ALL {
                if !op.row().always_fetch {
                    out.push(Form::Atomic { op, fetch: false, size });
                }
                out.push(Form::Atomic { op, fetch: true, size });
            }
        }
        out.extend([Form::LoadAcquire { size }, Form::StoreRelease { size }]);
    }
    out.extend([false, true].map(|long| Form::Jump { long }));
    out.push(Form::MayGoto);
    out.extend((0..=2).map(|source| Form::Call { source }));
    out.extend([Form::CallReg, Form::Exit]);
    out
}
