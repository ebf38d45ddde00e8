//! Why a relocation cannot be resolved, as opposed to: resolves to "not there".

use crate::{SizeError, TypeId};

use super::CoreKind;

/// Why a relocation cannot be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// A kind of relocation that is not known.
    #[error("CO-RE relocation kind {0} is not known, known are 0 to 12")]
    UnknownKind(u32),
    /// The root type does not exist.
    #[error("root type {0} does not exist")]
    NoSuchType(TypeId),
    /// The access does not fit the type.
    #[error("access \"{access}\" of {root}: {reason}")]
    BadAccess {
        /// The root type.
        root: String,
        /// The access as written.
        access: String,
        /// What is wrong with it.
        reason: AccessError,
    },
    /// Candidates are found by name, and the type has none.
    #[error("{kind} of an anonymous type ({root}) cannot be resolved")]
    Anonymous {
        /// What was wanted.
        kind: CoreKind,
        /// The root type.
        root: String,
    },
    /// Two types of the target give different answers.
    #[error("{local} is ambiguous: {first} gives {first_value}, {second} gives {second_value}")]
    Ambiguous {
        /// What was asked for.
        local: String,
        /// One candidate.
        first: String,
        /// Its value.
        first_value: u64,
        /// Another candidate.
        second: String,
        /// Its value.
        second_value: u64,
    },
    /// The kind makes no sense for an array element.
    #[error("{kind} of an array element ({text}) does not exist")]
    NotForElements {
        /// What was wanted.
        kind: CoreKind,
        /// The access.
        text: String,
    },
    /// No load of up to 8 bytes holds all bits of a bitfield.
    #[error("bitfield {0} does not fit into any aligned word of up to 8 bytes")]
    BitfieldTooWide(String),
    /// A type has no size, or never ends.
    #[error("{text} has no size")]
    Size {
        /// The access or type.
        text: String,
        /// Why.
        #[source]
        source: SizeError,
    },
    /// Accesses through more structures, arrays and prototypes inside each other than libbpf follows.
    #[error("types are nested too deeply")]
    TooDeep,
    /// An offset that does not fit in 32 bits.
    #[error("offset does not fit in 32 bits")]
    TooLarge,
    /// Comparing the types takes more steps than any real type needs.
    #[error("types are too large to compare")]
    TooMuchWork,
}

/// What is wrong with an access string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// Not numbers with colons between them.
    #[error("not numbers separated by colons")]
    Syntax,
    /// More numbers than libbpf takes.
    #[error("more than 64 numbers")]
    TooLong,
    /// Types as a whole are accessed by `0`.
    #[error("a type as a whole is accessed by \"0\"")]
    NotZero,
    /// The root is no enumeration, or there are several numbers.
    #[error("not one number and an enumeration")]
    NotEnumeration,
    /// An index past the last member, enumerator or element.
    #[error("index {index} at position {position}, there are {count}")]
    OutOfRange {
        /// Position in the access, from 0.
        position: usize,
        /// The index there.
        index: u32,
        /// How many there are.
        count: u64,
    },
    /// Only structures, unions and arrays have something inside.
    #[error("position {position} goes into {kind}")]
    NotInside {
        /// Position in the access, from 0.
        position: usize,
        /// What is there.
        kind: crate::KindTag,
    },
}

impl From<SizeError> for CoreError {
    fn from(source: SizeError) -> Self {
        Self::Size { text: "type".to_owned(), source }
    }
}
