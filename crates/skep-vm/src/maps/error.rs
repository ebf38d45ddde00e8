//! Why a map operation failed, with the kernel's error number.

use skep_abi::{Expected, MapType};

/// `ENOTSUPP`, the kernel's own "not supported": it is not in libc because it was never meant to
/// reach user space, but `bpf(2)` returns it.
pub const ENOTSUPP: i32 = 524;

/// Why a map could not be made, or an operation on it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// A field of the definition breaks a rule of its map type.
    #[error("{map_type} map: {field} is {found}, expected {expected}")]
    Definition {
        /// Kind of the map.
        map_type: MapType,
        /// Field of the definition.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What the type asks for.
        expected: Expected,
        /// What the kernel answers.
        errno: i32,
    },
    /// The kernel has this type, the embedded engine does not.
    #[error("{map_type} maps are not in the embedded engine")]
    NotInEngine {
        /// Kind of the map.
        map_type: MapType,
    },
    /// The map would not fit.
    #[error("map storage of {bytes} bytes cannot be mapped (limit {limit} bytes)")]
    NoMemory {
        /// Bytes the definition asks for; `u64::MAX` when the product does not fit 64 bits.
        bytes: u64,
        /// Most bytes one map may reserve.
        limit: u64,
    },
    /// The key has the wrong length.
    #[error("key has {found} bytes, expected {expected}")]
    KeySize {
        /// Bytes given.
        found: usize,
        /// Bytes of the map's keys.
        expected: usize,
    },
    /// The value has the wrong length.
    #[error("value has {found} bytes, expected {expected}")]
    ValueSize {
        /// Bytes given.
        found: usize,
        /// Bytes of the map's values, all CPUs together.
        expected: usize,
    },
    /// The update flags mean nothing here.
    #[error("update flags {flags:#x} are not valid for this map")]
    Flags {
        /// The flags given.
        flags: u64,
    },
    /// No entry has this key; at the end of an iteration: there are no more keys.
    #[error("no such entry")]
    NoEntry,
    /// The key is there and the update asked for a new one.
    #[error("entry exists already")]
    Exists,
    /// The index is outside of the array.
    #[error("index {index} is outside of the map's {max_entries} entries")]
    Index {
        /// Index given.
        index: u32,
        /// Number of entries.
        max_entries: u32,
    },
    /// The map holds as many entries as it may.
    #[error("map is full: {max_entries} entries")]
    Full {
        /// Number of entries.
        max_entries: u32,
        /// `E2BIG` or `ENOSPC`, as the map type has it.
        errno: i32,
    },
    /// The prefix is longer than the keys of the trie.
    #[error("prefix of {found} bits, the trie's keys have {max}")]
    Prefix {
        /// Bits given.
        found: u32,
        /// Bits of a whole key.
        max: u32,
    },
    /// The map is frozen, or its flags take this right from user space.
    #[error("user space may not {what} this map")]
    UserMayNot {
        /// "read" or "write".
        what: &'static str,
    },
    /// The flags of the map take this right from programs.
    #[error("programs may not {what} this map")]
    ProgramMayNot {
        /// "read" or "write".
        what: &'static str,
    },
    /// The map type does not have the operation.
    #[error("{map_type} maps do not have {operation}")]
    Unsupported {
        /// Kind of the map.
        map_type: MapType,
        /// Name of the operation.
        operation: &'static str,
        /// What the kernel answers.
        errno: i32,
    },
    /// The inner map differs from the one the outer map was made for.
    #[error("inner map: {field} is {found}, expected {expected}")]
    InnerMap {
        /// Field of the inner definition.
        field: &'static str,
        /// Its value.
        found: u64,
        /// The value the outer map asks for.
        expected: u64,
    },
    /// A ring buffer address that is not the start of a reserved record.
    #[error("address {addr:#x} is not a reserved ring buffer record")]
    NotReserved {
        /// The address given.
        addr: u64,
    },
    /// The ring has no room; the loss is counted.
    #[error("ring has no room for {bytes} bytes")]
    NoRoom {
        /// Bytes asked for, without header.
        bytes: u64,
        /// `EAGAIN` or `ENOSPC`, as the map type has it.
        errno: i32,
    },
    /// Nobody reads the events of this CPU.
    #[error("no reader on cpu {cpu}")]
    NoReader {
        /// CPU number.
        cpu: u32,
    },
}

impl MapError {
    /// The positive error number the kernel gives in this case.
    pub const fn errno(&self) -> i32 {
        match *self {
            Self::Definition { errno, .. }
            | Self::Full { errno, .. }
            | Self::NoRoom { errno, .. }
            | Self::Unsupported { errno, .. } => errno,
            Self::NotInEngine { .. }
            | Self::KeySize { .. }
            | Self::ValueSize { .. }
            | Self::Flags { .. }
            | Self::Prefix { .. }
            | Self::InnerMap { .. }
            | Self::NotReserved { .. } => libc::EINVAL,
            Self::NoMemory { .. } => libc::ENOMEM,
            Self::NoEntry | Self::NoReader { .. } => libc::ENOENT,
            Self::Exists => libc::EEXIST,
            Self::Index { .. } => libc::E2BIG,
            Self::UserMayNot { .. } => libc::EPERM,
            Self::ProgramMayNot { .. } => libc::EACCES,
        }
    }
}
