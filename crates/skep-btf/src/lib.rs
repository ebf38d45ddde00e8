//! BTF, the type format of BPF objects and of the Linux kernel: parse, write, match for CO-RE, decode
//! values by type, print as C.
//!
//! Everything here is pure: callers pass bytes and get values back, nothing reads a file or asks the
//! running system. Bytes are untrusted: parsing validates them completely in one linear pass, and
//! every later walk over types is bounded, whatever cycles the types form.
//!
//! ```
//! use skep_btf::{Btf, Builder, Encoding, KindTag};
//!
//! let mut types = Builder::new();
//! types.int("int", 4, Encoding::SIGNED);
//! let btf = Btf::parse(&types.to_bytes())?;
//! let int = btf.find(KindTag::Int, "int").next().expect("just added");
//! assert_eq!(btf.size_of(int), Ok(4));
//! # Ok::<(), skep_btf::BtfError>(())
//! ```
#![forbid(unsafe_code)]

mod btf;
mod build;
pub mod c;
pub mod core;
mod dedup;
pub mod dump;
mod error;
pub mod ext;
mod file;
pub mod fuzz;
mod index;
mod kind;
mod parse;
mod raw;
mod size;
pub mod value;

pub use btf::Btf;
pub use build::{Builder, Remap};
pub use dedup::Dedup;
pub use error::{BtfError, SizeError};
pub use index::essential_name;
pub use kind::{
    Array, Composite, DataSec, DeclTag, Encoding, Enum, Enumerator, Func, FuncProto, Int, Kind,
    KindTag, Linkage, List, Member, Param, SecVar, Type, TypeTag, Var,
};

/// Number of a type within its BTF; 0 is `void`.
///
/// In a split BTF the numbers of the base come first and its own follow them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`.
    pub const VOID: Self = Self(0);
}

impl std::fmt::Display for TypeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}]", self.0)
    }
}
