//! The tables of operations: one row per operation, one macro that makes an enum of the rows.
//!
//! Decoder, encoder, printer, assembler and documentation read these rows and nothing else, so a
//! number, a symbol or a mnemonic stands in exactly one place.

/// Makes an enum whose variants each carry one constant row.
macro_rules! rows {
    (
        $(#[$enum_doc:meta])*
        pub enum $name:ident: $row:ty {
            $( $(#[$doc:meta])* $variant:ident = $value:expr; )+
        }
    ) => {
        $(#[$enum_doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$doc])* $variant, )+ }

        impl $name {
            /// Every variant, in table order.
            pub const ALL: &[Self] = &[$( Self::$variant, )+];

            /// The variant's row of the table.
            pub const fn row(self) -> $row {
                match self { $( Self::$variant => $value, )+ }
            }
        }
    };
}

pub(crate) use rows;

/// What the table says of an ALU operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AluRow {
    /// High opcode nibble.
    pub code: u8,
    /// Value of the offset field that selects this operation.
    pub off: i16,
    /// Operator between the operands, for example `+=`; for moves the cast goes on the right.
    pub symbol: &'static str,
    /// Mnemonic of the prefix syntax, without width suffix.
    pub mnemonic: &'static str,
}

const fn alu(code: u8, off: i16, symbol: &'static str, mnemonic: &'static str) -> AluRow {
    AluRow { code, off, symbol, mnemonic }
}

rows! {
    /// An ALU operation with two operands, or `Neg` which ignores its second.
    pub enum AluOp: AluRow {
        /// `dst += src`
        Add = alu(0x00, 0, "+=", "add");
        /// `dst -= src`
        Sub = alu(0x10, 0, "-=", "sub");
        /// `dst *= src`
        Mul = alu(0x20, 0, "*=", "mul");
        /// Unsigned division; by zero gives 0.
        Div = alu(0x30, 0, "/=", "div");
        /// Signed division; by zero gives 0, `MIN / -1` gives `MIN`.
        SDiv = alu(0x30, 1, "s/=", "sdiv");
        /// `dst |= src`
        Or = alu(0x40, 0, "|=", "or");
        /// `dst &= src`
        And = alu(0x50, 0, "&=", "and");
        /// Left shift by `src` modulo the width.
        Lsh = alu(0x60, 0, "<<=", "lsh");
        /// Logical right shift by `src` modulo the width.
        Rsh = alu(0x70, 0, ">>=", "rsh");
        /// `dst = -dst`; the operand is always `Operand::Imm(0)`.
        Neg = alu(0x80, 0, "= -", "neg");
        /// Unsigned remainder; by zero leaves `dst` (zero-extended in 32 bit).
        Mod = alu(0x90, 0, "%=", "mod");
        /// Signed remainder; by zero leaves `dst`, `MIN % -1` gives 0.
        SMod = alu(0x90, 1, "s%=", "smod");
        /// `dst ^= src`
        Xor = alu(0xa0, 0, "^=", "xor");
        /// `dst = src`
        Mov = alu(0xb0, 0, "=", "mov");
        /// `dst = sign_extend(src & 0xff)`
        MovSx8 = alu(0xb0, 8, "= (s8)", "movsx8");
        /// `dst = sign_extend(src & 0xffff)`
        MovSx16 = alu(0xb0, 16, "= (s16)", "movsx16");
        /// `dst = sign_extend(src & 0xffff_ffff)`, 64 bit only.
        MovSx32 = alu(0xb0, 32, "= (s32)", "movsx32");
        /// Arithmetic right shift by `src` modulo the width.
        Arsh = alu(0xc0, 0, "s>>=", "arsh");
    }
}

impl AluOp {
    /// Is this one of the sign-extending moves, which take only a register?
    pub const fn is_movsx(self) -> bool {
        matches!(self, Self::MovSx8 | Self::MovSx16 | Self::MovSx32)
    }
}

/// What the table says of a byte-order operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapRow {
    /// Opcode byte.
    pub code: u8,
    /// Name in front of the number of bits, in both syntaxes.
    pub mnemonic: &'static str,
}

const fn swap(code: u8, mnemonic: &'static str) -> SwapRow {
    SwapRow { code, mnemonic }
}

rows! {
    /// A byte-order operation on the low `bits` of a register.
    pub enum SwapOp: SwapRow {
        /// `dst = htole(dst)`: truncation on a little-endian machine.
        ToLe = swap(0xd4, "le");
        /// `dst = htobe(dst)`: swap on a little-endian machine.
        ToBe = swap(0xdc, "be");
        /// `dst = bswap(dst)` on every machine (ISA v4).
        Bswap = swap(0xd7, "bswap");
    }
}

/// What the table says of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CmpRow {
    /// High opcode nibble.
    pub code: u8,
    /// Operator between the operands.
    pub symbol: &'static str,
    /// Mnemonic of the prefix syntax, without width suffix.
    pub mnemonic: &'static str,
    /// Introduced with ISA v2 (the "less" comparisons).
    pub v2: bool,
}

const fn cmp(code: u8, symbol: &'static str, mnemonic: &'static str) -> CmpRow {
    CmpRow { code, symbol, mnemonic, v2: code > 0xa0 }
}

rows! {
    /// A comparison of a conditional jump.
    pub enum CmpOp: CmpRow {
        /// `==`
        Eq = cmp(0x10, "==", "jeq");
        /// Unsigned `>`
        Gt = cmp(0x20, ">", "jgt");
        /// Unsigned `>=`
        Ge = cmp(0x30, ">=", "jge");
        /// `dst & src != 0`
        Set = cmp(0x40, "&", "jset");
        /// `!=`
        Ne = cmp(0x50, "!=", "jne");
        /// Signed `>`
        SGt = cmp(0x60, "s>", "jsgt");
        /// Signed `>=`
        SGe = cmp(0x70, "s>=", "jsge");
        /// Unsigned `<`
        Lt = cmp(0xa0, "<", "jlt");
        /// Unsigned `<=`
        Le = cmp(0xb0, "<=", "jle");
        /// Signed `<`
        SLt = cmp(0xc0, "s<", "jslt");
        /// Signed `<=`
        SLe = cmp(0xd0, "s<=", "jsle");
    }
}

/// What the table says of an atomic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtomicRow {
    /// Immediate without the fetch bit.
    pub imm: i32,
    /// Must the fetch bit be set?
    pub always_fetch: bool,
    /// Operator of the form that does not fetch; empty when there is none.
    pub symbol: &'static str,
    /// Name in `atomic_fetch_…` and in the prefix syntax.
    pub mnemonic: &'static str,
}

const fn rmw(imm: i32, symbol: &'static str, mnemonic: &'static str) -> AtomicRow {
    AtomicRow { imm, always_fetch: symbol.is_empty(), symbol, mnemonic }
}

rows! {
    /// An atomic read-modify-write operation.
    pub enum AtomicOp: AtomicRow {
        /// Addition.
        Add = rmw(0x00, "+=", "add");
        /// Bitwise or.
        Or = rmw(0x40, "|=", "or");
        /// Bitwise and.
        And = rmw(0x50, "&=", "and");
        /// Bitwise exclusive or.
        Xor = rmw(0xa0, "^=", "xor");
        /// Exchange; always fetches.
        Xchg = rmw(0xe0, "", "xchg");
        /// Compare with `r0` and exchange; always fetches, into `r0`.
        CmpXchg = rmw(0xf0, "", "cmpxchg");
    }
}

/// What the table says of an access size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRow {
    /// Size bits of the opcode.
    pub code: u8,
    /// Size in bytes.
    pub bytes: u8,
    /// Type name of an unsigned access.
    pub unsigned: &'static str,
    /// Type name of a sign-extending access.
    pub signed: &'static str,
    /// Suffix of the prefix syntax.
    pub suffix: &'static str,
}

const fn size(
    code: u8,
    bytes: u8,
    unsigned: &'static str,
    signed: &'static str,
    suffix: &'static str,
) -> SizeRow {
    SizeRow { code, bytes, unsigned, signed, suffix }
}

rows! {
    /// Access size.
    pub enum Size: SizeRow {
        /// 1 byte.
        B = size(0x10, 1, "u8", "s8", "b");
        /// 2 bytes.
        H = size(0x08, 2, "u16", "s16", "h");
        /// 4 bytes.
        W = size(0x00, 4, "u32", "s32", "w");
        /// 8 bytes.
        Dw = size(0x18, 8, "u64", "s64", "dw");
    }
}

impl Size {
    /// Size in bytes.
    pub const fn bytes(self) -> u8 {
        self.row().bytes
    }
}

/// Operation width of ALU and jump instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 32 bit; an ALU result is zero-extended.
    W32,
    /// 64 bit.
    W64,
}

impl Width {
    /// Both widths.
    pub const ALL: &[Self] = &[Self::W32, Self::W64];
}
