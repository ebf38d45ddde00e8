//! CO-RE: what a relocation against the layout of one BTF means in another.
//!
//! A relocation names a type of the object (*local*), an access such as `0:1:2`, and which fact about
//! it is wanted. [`Resolver`] finds the types of the *target* (the kernel) with the same name up to a
//! `___flavor`, follows the access by member names, and says which value to put into the instruction.
//! It does not patch instructions. The rules are libbpf's, so that an object means the same here as
//! there.
//!
//! Values are as an instruction holds them: byte offsets, sizes in bytes, shift counts, 0 or 1, type
//! numbers, enumerators.

mod calc;
mod compat;
mod error;
mod follow;
mod matches;
mod resolver;
mod spec;

pub use compat::compatible;
pub use error::CoreError;
pub use resolver::{Resolver, Target, resolve};

use crate::TypeId;

/// One row per kind of relocation: number, what it is about, libbpf's short name.
macro_rules! kinds {
    ($( $(#[$doc:meta])* $name:ident = $number:literal, $basis:ident, $text:literal; )+) => {
        /// What a relocation wants to know.
        #[doc(alias = "bpf_core_relo_kind")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum CoreKind { $( $(#[$doc])* $name = $number, )+ }

        impl CoreKind {
            /// Every kind, by number.
            pub const ALL: &[Self] = &[$( Self::$name, )+];

            /// The kind with this number in BTF.ext.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $( $number => Some(Self::$name), )+ _ => None }
            }

            /// Its number in BTF.ext.
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// Its short name, as in libbpf's messages.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }

            /// Is it about a field, a type, or an enumerator?
            pub const fn basis(self) -> Basis {
                match self { $( Self::$name => Basis::$basis, )+ }
            }
        }
    };
}

kinds! {
    /// Byte offset of a field; of the word to load for a bitfield.
    FieldByteOffset = 0, Field, "byte_off";
    /// Size of a field in bytes.
    FieldByteSize = 1, Field, "byte_sz";
    /// Does the field exist?
    FieldExists = 2, Field, "field_exists";
    /// Is the field signed?
    FieldSigned = 3, Field, "signed";
    /// Left shift that moves a bitfield to the top of 64 bits.
    FieldLshiftU64 = 4, Field, "lshift_u64";
    /// Right shift that moves it down again.
    FieldRshiftU64 = 5, Field, "rshift_u64";
    /// Number of the type in the object's BTF.
    TypeIdLocal = 6, Type, "local_type_id";
    /// Number of the type in the target's BTF.
    TypeIdTarget = 7, Type, "target_type_id";
    /// Does the type exist?
    TypeExists = 8, Type, "type_exists";
    /// Size of the type in bytes.
    TypeSize = 9, Type, "type_size";
    /// Does the enumerator exist?
    EnumvalExists = 10, Enumval, "enumval_exists";
    /// Value of the enumerator.
    EnumvalValue = 11, Enumval, "enumval_value";
    /// Does the type exist with at least the members and values that the local one has?
    TypeMatches = 12, Type, "type_matches";
}

impl std::fmt::Display for CoreKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a relocation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// A member or array element.
    Field,
    /// A type as a whole.
    Type,
    /// One value of an enumeration.
    Enumval,
}

/// A relocation, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// What the relocation names in the object, in C-like text:
    /// `struct task_struct.thread_info.flags (0:0:1 @ offset 0)`.
    pub local: String,
    /// What was found in the target, in the same form.
    pub found: Option<Found>,
    /// What to do with the instruction.
    pub value: CoreValue,
}

/// What was found in the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// In C-like text.
    pub text: String,
    /// The type that matched the root of the access.
    pub type_id: TypeId,
    /// Which of [`Target::modules`] it is from; `None` for the kernel itself.
    pub module: Option<usize>,
}

/// What to do with a relocated instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreValue {
    /// Nothing in the target matches: the instruction must never be reached.
    Poison,
    /// Replace a value.
    Patch(Patch),
}

/// A value to replace in an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    /// What the compiler put there, by the object's BTF.
    pub orig: u64,
    /// What belongs there.
    pub new: u64,
    /// Must the instruction hold [`Patch::orig`]? Not where compiler and BTF may rightly differ.
    pub validate: bool,
    /// What this means for the width of a load or store.
    pub width: Width,
}

/// How wide a load or store of the field is in the target. Other instructions do not care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// As the compiler made it.
    Same,
    /// Another width reads the same value: pointers, unsigned integers. Sizes in bytes.
    Change {
        /// Width that the instruction has.
        from: u32,
        /// Width that it needs.
        to: u32,
    },
    /// The value would be wrong: a load or store must be poisoned.
    Unsafe {
        /// Size of the field in the object.
        from: u32,
        /// Size of the field in the target.
        to: u32,
    },
}

/// Steps, one per type or name compared, that one relocation may take; the largest kernel
/// structures need a hundredth of it.
const STEPS_EACH: u32 = 1 << 23;

/// Steps that all relocations of a [`Resolver`] may take together.
const STEPS_TOTAL: u32 = 1 << 26;

/// What is left of the work that relocations may cause.
#[derive(Debug)]
struct Budget {
    total: u32,
    each: u32,
}

impl Budget {
    const fn new() -> Self {
        Self { total: STEPS_TOTAL, each: STEPS_EACH }
    }

    /// Begins another relocation.
    const fn renew(&mut self) {
        self.each = STEPS_EACH;
    }

    /// Takes as many steps as a candidate is worth, for the memory that remembering it takes.
    fn candidate(&mut self) -> Result<(), CoreError> {
        self.take(512)
    }

    /// Takes one step.
    fn step(&mut self) -> Result<(), CoreError> {
        self.take(1)
    }

    fn take(&mut self, steps: u32) -> Result<(), CoreError> {
        let left = self.total.checked_sub(steps).zip(self.each.checked_sub(steps));
        (self.total, self.each) = left.ok_or(CoreError::TooMuchWork)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
