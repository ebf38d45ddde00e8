//! The bytes as they are on disk: headers, and the words of one type.
//!
//! The type section consists of 32-bit words only. They are kept as the bytes of a file in the byte
//! order of this machine, so that a mapped file need not be copied; a file of the other byte order is
//! swapped once when it is read.

/// First two bytes of `.BTF` and `.BTF.ext`.
pub(crate) const MAGIC: u16 = 0xeb9f;

/// The only format version there is.
pub(crate) const VERSION: u8 = 1;

/// Bytes of the `.BTF` header up to and including the string section's length.
pub(crate) const HEADER_LEN: u32 = 24;

/// Words of `struct btf_type` before what its kind adds.
pub(crate) const TYPE_WORDS: usize = 3;

/// The longest name a type, member or parameter may have, in bytes.
///
/// Longer than any compiler emits; it keeps work per type bounded, because names overlap freely
/// within the string section.
pub(crate) const MAX_NAME: usize = 4096;

/// A word of the type section, in this machine's byte order; [`value`] reads it.
pub(crate) type Bytes4 = [u8; 4];

/// The number that a word holds.
pub(crate) const fn value(word: Bytes4) -> u32 {
    u32::from_ne_bytes(word)
}

/// Byte order of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    /// This machine's.
    pub(crate) const NATIVE: Self =
        if cfg!(target_endian = "big") { Self::Big } else { Self::Little };

    /// The order in which the first two bytes are the magic number.
    pub(crate) fn of_magic(bytes: [u8; 2]) -> Option<Self> {
        match (u16::from_le_bytes(bytes), u16::from_be_bytes(bytes)) {
            (MAGIC, _) => Some(Self::Little),
            (_, MAGIC) => Some(Self::Big),
            _ => None,
        }
    }

    /// A word of this order.
    pub(crate) fn word(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// The bytes of a word.
    pub(crate) fn bytes(self, word: u32) -> [u8; 4] {
        match self {
            Self::Little => word.to_le_bytes(),
            Self::Big => word.to_be_bytes(),
        }
    }

    /// The bytes of a half word.
    pub(crate) fn half_bytes(self, half: u16) -> [u8; 2] {
        match self {
            Self::Little => half.to_le_bytes(),
            Self::Big => half.to_be_bytes(),
        }
    }

    /// The word at byte `at`, `None` past the end.
    pub(crate) fn word_at(self, bytes: &[u8], at: usize) -> Option<u32> {
        Some(self.word(*bytes.get(at..)?.first_chunk()?))
    }
}

/// One type, not interpreted: the three common words and what follows them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawType<'a> {
    pub(crate) name_off: u32,
    pub(crate) info: u32,
    /// A size in bytes or a type number, by kind.
    pub(crate) size_or_type: u32,
    /// The words that the kind adds.
    pub(crate) rest: &'a [Bytes4],
}

impl RawType<'_> {
    /// `void`, which no file stores.
    pub(crate) const VOID: Self = Self { name_off: 0, info: 0, size_or_type: 0, rest: &[] };

    /// Number of the kind.
    pub(crate) const fn kind(self) -> u32 {
        info_kind(self.info)
    }

    /// The meaning of this bit depends on the kind: bitfields, union, signed, attribute.
    pub(crate) const fn kind_flag(self) -> bool {
        self.info >> 31 != 0
    }
}

/// Kind number in an info word.
pub(crate) const fn info_kind(info: u32) -> u32 {
    (info >> 24) & 0x7f
}

/// Number of members, parameters, enumerators or variables in an info word.
///
/// 16 bits wide at first; bits 16 to 23, once always zero, belong to it since Linux 7.
pub(crate) const fn info_vlen(info: u32) -> u32 {
    info & 0x00ff_ffff
}

/// A whole `.BTF` section: header, types, strings.
pub(crate) fn section(
    words: impl ExactSizeIterator<Item = u32>,
    strings: &[u8],
    order: Order,
) -> Vec<u8> {
    let types_len = u32::try_from(words.len() * 4).expect("offsets are 32 bits wide");
    let strings_len = u32::try_from(strings.len()).expect("offsets are 32 bits wide");
    let mut out = Vec::with_capacity(HEADER_LEN as usize + words.len() * 4 + strings.len());
    out.extend(order.half_bytes(MAGIC));
    out.extend([VERSION, 0]);
    for field in [HEADER_LEN, 0, types_len, types_len, strings_len] {
        out.extend(order.bytes(field));
    }
    out.extend(words.flat_map(|word| order.bytes(word)));
    out.extend(strings);
    out
}
