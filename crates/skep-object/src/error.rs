//! Why a file is not an object.

/// What is wrong with an object file: which part, where, expected against found.
///
/// Every variant means *the input is wrong*, or uses something that no engine could run. What a
/// particular system lacks shows later, at resolve or load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The file ends before a part it announces.
    #[error("{part} at offset {offset:#x} needs {size} bytes, the file has {file_size}")]
    Truncated {
        /// Which part of the file.
        part: String,
        /// Where it starts, in bytes from the start of the file.
        offset: u64,
        /// Its size in bytes.
        size: u64,
        /// Size of the file in bytes.
        file_size: usize,
    },
    /// More sections than the file has bytes for: some are the same bytes.
    #[error("its sections have {total} bytes together, the file {file_size}: they overlap")]
    SectionsOverlap {
        /// Bytes of all sections.
        total: u64,
        /// Size of the file in bytes.
        file_size: usize,
    },
    /// The file is something else.
    #[error("it starts with {}, an ELF file with 7f 45 4c 46", hex(found))]
    NotElf {
        /// The first bytes of the file.
        found: [u8; 4],
    },
    /// A header field has a value that a BPF object never has.
    #[error("{field} of {part} is {found}, expected {expected}")]
    Field {
        /// Which part of the file.
        part: String,
        /// Which field.
        field: &'static str,
        /// What a BPF object has there.
        expected: &'static str,
        /// What the file has there.
        found: u64,
    },
    /// A name is outside its string table, not terminated or not UTF-8.
    #[error("name of {part} at offset {offset:#x} of its string table is not a string")]
    Name {
        /// What has the name.
        part: String,
        /// Offset in the string table.
        offset: u32,
    },
    /// A part that every object has is missing.
    #[error("there is no {part}")]
    Missing {
        /// Which part.
        part: &'static str,
    },
    /// A part that an object has once is there twice.
    #[error("there is a second {part}, section {section}")]
    Twice {
        /// Which part.
        part: &'static str,
        /// Index of the second section.
        section: usize,
    },
    /// A symbol points outside of its section or to no section.
    #[error("symbol {name} is at {value:#x}+{size} in {place}, which has {available} bytes")]
    SymbolOutside {
        /// Name of the symbol.
        name: String,
        /// Value: offset in the section.
        value: u64,
        /// Size in bytes.
        size: u64,
        /// Section.
        place: String,
        /// Size of the section.
        available: u64,
    },
    /// A function is not a whole number of instructions.
    #[error("function {name} is at {offset:#x}+{size} in {section}, not a multiple of 8")]
    FunctionUnaligned {
        /// Name of the function.
        name: String,
        /// Section.
        section: String,
        /// Offset in bytes.
        offset: u64,
        /// Size in bytes.
        size: u64,
    },
    /// Two functions share instructions without being the same.
    #[error("functions {first} and {second} overlap in {section}")]
    FunctionsOverlap {
        /// The one that starts first.
        first: String,
        /// The one that starts inside it.
        second: String,
        /// Section.
        section: String,
    },
    /// Programs with copies of their names, subprograms and records are out of proportion to the
    /// file.
    #[error("{what} takes more than {limit} bytes, as many as a file of {file_size} bytes may")]
    OutOfProportion {
        /// The object.
        what: &'static str,
        /// Most bytes that its programs may take.
        limit: usize,
        /// Size of the file in bytes.
        file_size: usize,
    },
    /// Programs with their subprograms are larger than any kernel takes.
    #[error("{what} has more than {limit} instruction slots")]
    TooLarge {
        /// Program or object.
        what: String,
        /// Most slots there may be.
        limit: usize,
    },
    /// A relocation makes no sense where it is.
    #[error("relocation {index} of {section} at offset {offset:#x}: {problem}")]
    Reloc {
        /// Section the relocation changes.
        section: String,
        /// Number of the relocation.
        index: usize,
        /// Offset in the section.
        offset: u64,
        /// What is wrong.
        problem: RelocProblem,
    },
    /// A call or subprogram address does not lead to the start of a function.
    #[error("insn {insn} of {section} refers to insn {target} of {to}, where no function starts")]
    CallTarget {
        /// Section of the instruction.
        section: String,
        /// Slot of the instruction in its section.
        insn: usize,
        /// Section of the target.
        to: String,
        /// Slot of the target in its section.
        target: i64,
    },
    /// A map definition cannot be used.
    #[error("map {map}: {problem}")]
    Map {
        /// Name of the map.
        map: String,
        /// What is wrong.
        problem: MapProblem,
    },
    /// The `maps` section is not an array of definitions.
    #[error("section {section}: {problem}")]
    LegacyMaps {
        /// Section.
        section: String,
        /// What is wrong.
        problem: String,
    },
    /// A variable section and its symbols or types disagree.
    #[error("section {section}: {problem}")]
    Data {
        /// Section.
        section: String,
        /// What is wrong.
        problem: String,
    },
    /// An extern cannot be used.
    #[error("extern {name}: {problem}")]
    Extern {
        /// Name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The license or version section is malformed.
    #[error("section {section} has {size} bytes, expected {expected}")]
    Note {
        /// Section.
        section: &'static str,
        /// Its size in bytes.
        size: usize,
        /// What it should be.
        expected: &'static str,
    },
    /// `.BTF` is malformed.
    #[error("section .BTF")]
    Btf(#[source] skep_btf::BtfError),
    /// `.BTF.ext` is malformed.
    #[error("section .BTF.ext")]
    BtfExt(#[source] skep_btf::BtfError),
    /// `.BTF.ext` names instructions that are not there.
    #[error("section .BTF.ext: {what} for {section} at offset {offset:#x}: {problem}")]
    BtfExtRecord {
        /// Kind of record.
        what: &'static str,
        /// The section it is about.
        section: String,
        /// Byte offset in that section.
        offset: u32,
        /// What is wrong.
        problem: &'static str,
    },
}

/// What is wrong with a relocation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelocProblem {
    /// The symbol number is outside the symbol table.
    #[error("symbol {symbol} does not exist, there are {count}")]
    NoSymbol {
        /// Number of the symbol.
        symbol: usize,
        /// Symbols in the table.
        count: usize,
    },
    /// The offset is not that of an instruction.
    #[error("no instruction is there")]
    NoInsn,
    /// Two relocations for one instruction.
    #[error("the instruction already has one")]
    Twice,
    /// The kind does not exist or does not fit the instruction.
    #[error("kind {kind} does not fit opcode {code:#04x}")]
    Kind {
        /// `R_BPF_*`.
        kind: u32,
        /// Opcode of the instruction.
        code: u8,
    },
    /// The symbol is in a section that nothing can refer to.
    #[error("symbol {symbol} is in {section}, which holds neither maps, data nor functions")]
    Section {
        /// Name of the symbol.
        symbol: String,
        /// Its section.
        section: String,
    },
    /// No map lies at the symbol's place.
    #[error("symbol {symbol} is at {value:#x} of {section}, where no map is")]
    NoMap {
        /// Name of the symbol.
        symbol: String,
        /// Section.
        section: String,
        /// Offset.
        value: u64,
    },
    /// The address is outside of the variable section.
    #[error("address {offset:#x} is outside of {section}, which has {size} bytes")]
    OutsideData {
        /// Section.
        section: String,
        /// Offset that results.
        offset: i64,
        /// Size of the section in bytes.
        size: u64,
    },
    /// An extern that no BTF describes.
    #[error("extern {0} is not known")]
    NoExtern(String),
    /// The place or target of a relocation in `.maps` or `.struct_ops`.
    #[error("{0}")]
    Place(String),
}

/// What is wrong with a map definition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapProblem {
    /// A field has another type than `__uint`, `__type`, `__array` or `__ulong` make.
    #[error("field {field} is not what {expected} makes")]
    FieldType {
        /// Field.
        field: String,
        /// Macro that makes it.
        expected: &'static str,
    },
    /// Two fields say different sizes.
    #[error("{what} is {first} and {second} bytes")]
    Conflict {
        /// Key or value.
        what: &'static str,
        /// First size.
        first: u32,
        /// Second size.
        second: u32,
    },
    /// A field that nothing knows.
    #[error("field {0} is not known")]
    UnknownField(String),
    /// A field that a definition has twice.
    #[error("field {0} is there twice")]
    RepeatedField(String),
    /// The type is missing.
    #[error("there is no type")]
    NoType,
    /// The value of a field is outside what it may be.
    #[error("{field} is {found}, expected {expected}")]
    Value {
        /// Field.
        field: &'static str,
        /// Value in the file.
        found: u64,
        /// What it may be.
        expected: &'static str,
    },
    /// The size of the key or value type is unknown.
    #[error("type {type_id} of {what} has no size")]
    NoSize {
        /// Key or value.
        what: &'static str,
        /// Type in the object's BTF.
        type_id: u32,
    },
    /// `values` where it cannot be.
    #[error("values: {0}")]
    Values(&'static str),
    /// The variable is not a map definition.
    #[error("{0}")]
    Variable(&'static str),
    /// A map with inner maps does not say what they look like.
    #[error("inner map with id {0} is not defined")]
    NoInner(u32),
    /// An id that two maps have.
    #[error("id {0} is also that of another map")]
    SameId(u32),
}

/// Bytes as `7f 45 4c 46`.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}
