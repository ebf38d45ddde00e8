//! Values by type: bytes of a map, an event or a variable to a tree, and text to bytes.
//!
//! Offsets and sizes are the type's; nothing is aligned or padded beyond what the type says.

mod decode;
mod encode;

pub use decode::{DecodeError, decode};
pub use encode::{EncodeError, encode};

use std::fmt;

/// A decoded value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// An integer, signed or not.
    Int(i128),
    /// A boolean.
    Bool(bool),
    /// A floating point number.
    Float(f64),
    /// A pointer.
    Ptr(u64),
    /// A value of an enumeration.
    Enum {
        /// Its enumerator; `None` when there is none for it.
        name: Option<String>,
        /// Its number.
        value: i128,
    },
    /// An array of characters, up to the first NUL.
    Text(String),
    /// What has no better form: characters that are not text, numbers of unusual size, arrays of
    /// more than four bytes.
    Bytes(Vec<u8>),
    /// An array.
    Array(Vec<Self>),
    /// Members of a structure, of anonymous ones inside it, of a union, or variables of a section.
    ///
    /// The members of a union are all there, each as it reads the same bytes.
    Struct(Vec<(String, Self)>),
}

impl Value {
    /// The member of this name.
    pub fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Struct(members) => members.iter().find(|(n, _)| n == name).map(|(_, v)| v),
            _ => None,
        }
    }
}

/// C-like: `{pid = 7, comm = "sh", addr = [127, 0, 0, 1]}`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(v) => write!(f, "{v}"),
            Self::Bool(v) => write!(f, "{v}"),
            Self::Float(v) => write!(f, "{v}"),
            Self::Ptr(v) => write!(f, "{v:#x}"),
            Self::Enum { name: Some(name), .. } => f.write_str(name),
            Self::Enum { name: None, value } => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bytes(bytes) => {
                f.write_str("hex:")?;
                bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
            Self::Array(items) => {
                f.write_str("[")?;
                for (at, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Struct(members) => {
                f.write_str("{")?;
                for (at, (name, value)) in members.iter().enumerate() {
                    write!(f, "{}{name} = {value}", if at == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
