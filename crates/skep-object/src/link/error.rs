//! Why objects cannot be linked.

use std::fmt;

use crate::error::{MapProblem, ObjectError};

/// Why objects cannot be linked: which files, which section or symbol, what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// There is nothing to link.
    #[error("there is no object to link")]
    Nothing,
    /// One of the files is no object.
    #[error("{file} is not an object that can be linked")]
    Object {
        /// The file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: ObjectError,
    },
    /// A section of a kind that has no place in the result, or that says something impossible.
    #[error("{file}: section {section}: {problem}")]
    Section {
        /// The file.
        file: String,
        /// The section.
        section: String,
        /// What is wrong.
        problem: String,
    },
    /// Sections of one name are of different kinds.
    #[error("section {section} has {what} {sides}")]
    Sections {
        /// The name.
        section: String,
        /// What differs.
        what: &'static str,
        /// What it is in both files.
        sides: Box<Sides>,
    },
    /// The licences or versions of the files differ.
    #[error("section {section} is {sides}: an object has one")]
    Notes {
        /// `license` or `version`.
        section: String,
        /// What both files say.
        sides: Box<Sides>,
    },
    /// Two files define the same thing, neither of them as weak.
    #[error("{symbol} is defined twice: {sides}")]
    Twice {
        /// What is defined.
        symbol: String,
        /// The sections of both files.
        sides: Box<Sides>,
    },
    /// What two files share has no type in one of them.
    #[error("{symbol} has no type in {file}, but one in {other}: compile both with -g")]
    NoType {
        /// What is shared.
        symbol: String,
        /// The file without the type.
        file: String,
        /// The other file.
        other: String,
    },
    /// What two files share has different types.
    #[error("{symbol} is one thing in {first} and another in {second}: {problem}")]
    Types {
        /// What is shared.
        symbol: String,
        /// The file whose type counts.
        first: String,
        /// The other file.
        second: String,
        /// What differs, first against second.
        problem: String,
    },
    /// What one file defines, or wants of the running system, the other expects elsewhere.
    #[error("{symbol} is expected in different sections: {sides}")]
    Place {
        /// What is shared.
        symbol: String,
        /// The sections of both files; the first counts.
        sides: Box<Sides>,
    },
    /// A map's definition cannot be read.
    #[error("{file}: map {map}: {problem}")]
    Map {
        /// The file.
        file: String,
        /// The map.
        map: String,
        /// What is wrong.
        problem: MapProblem,
    },
    /// A relocation makes no sense where it is.
    #[error("{file}: relocation {index} of {section} at offset {offset:#x}: {problem}")]
    Reloc {
        /// The file.
        file: String,
        /// Section that the relocation changes.
        section: String,
        /// Number of the relocation.
        index: usize,
        /// Offset in the section.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// More than fits.
    #[error("{what} is larger than {limit}")]
    TooLarge {
        /// What.
        what: String,
        /// How much fits.
        limit: u64,
    },
    /// The types of all files together are not valid BTF: a bug of the linker.
    #[error("the types of all files together are not BTF; please report this")]
    Btf(#[source] skep_btf::BtfError),
}

/// What two files say, in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sides {
    /// The first.
    pub first: Side,
    /// The second.
    pub second: Side,
}

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The file.
    pub file: String,
    /// What it says.
    pub says: String,
}

impl fmt::Display for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, second } = self;
        write!(f, "{} in {}, {} in {}", first.says, first.file, second.says, second.file)
    }
}
