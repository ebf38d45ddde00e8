//! What can be wrong with BTF bytes, and with asking for a size.

use crate::{KindTag, TypeId};

/// Why bytes are not BTF or BTF.ext. Offsets are in bytes from the start of the given slice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// Fewer bytes than a header has.
    #[error("{section} header needs {need} bytes, found {found}")]
    HeaderTruncated {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// Bytes that the header needs.
        need: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// The first two bytes are something else.
    #[error("{section} starts with {found:#06x}, not with the magic number 0xeb9f")]
    BadMagic {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// What is there, read as little-endian.
        found: u16,
    },
    /// A version that does not exist yet.
    #[error("{section} has format version {found}, expected 1")]
    BadVersion {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// What is there.
        found: u8,
    },
    /// The header's length field is impossible.
    #[error("{section} header says it is {found} bytes long, expected {min} to {max}")]
    BadHeaderLen {
        /// `.BTF` or `.BTF.ext`.
        section: &'static str,
        /// What is there.
        found: u32,
        /// Shortest known header.
        min: u32,
        /// Bytes that are there.
        max: usize,
    },
    /// A part named by the header is outside the bytes or misaligned.
    #[error("{part} is at bytes {start:#x}..{end:#x}, outside of the {len:#x} bytes there are")]
    PartOutside {
        /// Which part.
        part: &'static str,
        /// Where it should start.
        start: u64,
        /// Where it should end.
        end: u64,
        /// Bytes that are there.
        len: usize,
    },
    /// A part does not start or end at a multiple of four.
    #[error("{part} at offset {start:#x} with {len:#x} bytes is not aligned to 4 bytes")]
    PartMisaligned {
        /// Which part.
        part: &'static str,
        /// Where it starts.
        start: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// The string section does not start and end with a NUL byte.
    #[error("string section at offset {offset:#x} does not start and end with a NUL byte")]
    BadStrings {
        /// Where the section starts.
        offset: u64,
    },
    /// The type section ends within a type.
    #[error("type {id} at offset {offset:#x} needs {need} bytes, {found} are left")]
    TypeTruncated {
        /// Number of the type.
        id: TypeId,
        /// Where it starts.
        offset: u64,
        /// Bytes that it needs.
        need: u64,
        /// Bytes that are left.
        found: u64,
    },
    /// A kind that is not known.
    #[error("type {id} at offset {offset:#x} has kind {kind}, known are 1 to 19")]
    UnknownKind {
        /// Number of the type.
        id: TypeId,
        /// Where it starts.
        offset: u64,
        /// Number of the kind.
        kind: u32,
    },
    /// A name offset outside the strings, or a name that never ends.
    #[error("type {id} at offset {offset:#x} names string {name:#x}, which is no name")]
    BadName {
        /// Number of the type.
        id: TypeId,
        /// Where the type starts.
        offset: u64,
        /// Offset in the string section.
        name: u32,
    },
    /// A reference to a type that does not exist.
    #[error("type {id} at offset {offset:#x} refers to type [{target}], there are {count} types")]
    BadTypeRef {
        /// Number of the referring type.
        id: TypeId,
        /// Where it starts.
        offset: u64,
        /// Number it refers to.
        target: u32,
        /// Number of types, `void` included.
        count: u32,
    },
    /// A field with a value that its kind does not allow.
    #[error("type {id} at offset {offset:#x} is {kind} with {what} {found}")]
    BadField {
        /// Number of the type.
        id: TypeId,
        /// Where it starts.
        offset: u64,
        /// Its kind.
        kind: KindTag,
        /// Which field.
        what: &'static str,
        /// Its value.
        found: u32,
    },
    /// Too many types for 32-bit numbers.
    #[error("more types than fit in 32-bit numbers")]
    TooManyTypes,
    /// BTF of one byte order on a base of the other.
    #[error("split BTF and its base have different byte orders")]
    MixedByteOrder,
    /// A record size smaller than the record, or not a multiple of four.
    #[error("{part} at offset {offset:#x} has records of {found} bytes, expected at least {min}")]
    BadRecordSize {
        /// Which part of BTF.ext.
        part: &'static str,
        /// Where the size stands.
        offset: u64,
        /// Size found.
        found: u32,
        /// Size of the record as first defined.
        min: u32,
    },
    /// A part of BTF.ext ends within a header or record.
    #[error("{part} at offset {offset:#x} needs {need} bytes, {found} are left")]
    ExtTruncated {
        /// Which part of BTF.ext.
        part: &'static str,
        /// Where the bytes end too early.
        offset: u64,
        /// Bytes that are needed.
        need: u64,
        /// Bytes that are left.
        found: u64,
    },
    /// A section of BTF.ext without records.
    #[error("{part} at offset {offset:#x} has a section with no records")]
    ExtEmpty {
        /// Which part of BTF.ext.
        part: &'static str,
        /// Where the section's header is.
        offset: u64,
    },
    /// A record of BTF.ext that names a string that is not there.
    #[error("{part} at offset {offset:#x} names string {name:#x}, which is not there")]
    ExtBadString {
        /// Which part of BTF.ext.
        part: &'static str,
        /// Where the record is.
        offset: u64,
        /// Offset in the string section.
        name: u32,
    },
    /// A record of BTF.ext that names a type that is not there.
    #[error("{part} at offset {offset:#x} names type [{target}], there are {count} types")]
    ExtBadType {
        /// Which part of BTF.ext.
        part: &'static str,
        /// Where the record is.
        offset: u64,
        /// Type number.
        target: u32,
        /// Number of types, `void` included.
        count: u32,
    },
}

/// Why a type has no size, alignment or end of its modifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// No type has this number.
    #[error("type {0} does not exist")]
    NoSuchType(TypeId),
    /// A kind that has no size: `void`, functions, forward declarations.
    #[error("type {id} is {kind}, which has no size")]
    NoSize {
        /// Type that was reached.
        id: TypeId,
        /// Its kind.
        kind: KindTag,
    },
    /// More typedefs, modifiers or arrays inside each other than real code has; usually a cycle.
    #[error("type {0} is nested too deeply")]
    TooDeep(TypeId),
    /// The size does not fit in 32 bits.
    #[error("size of type {0} does not fit in 32 bits")]
    TooLarge(TypeId),
}
