//! Types as values: what [`Btf::get`] returns.
//!
//! Sizes are in bytes, bit offsets and bit sizes in bits.

use std::fmt;

use crate::{
    Btf, TypeId,
    raw::{Bytes4, RawType, value},
};

/// What a word of a type holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// An offset in the strings.
    Name,
    /// The number of a type.
    Ref,
    /// Anything else.
    Plain,
}

use Word::{Name as N, Plain as P, Ref as R};

/// One row per kind: number, role of the third word (a size or a type), words after the common
/// three for the type itself and for each of its `vlen` elements, name.
macro_rules! kinds {
    ($( $(#[$doc:meta])* $name:ident = $number:literal, $third:expr, $own:expr, $each:expr, $text:literal; )+) => {
        /// Which kind a type is, without its fields.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum KindTag { $( $(#[$doc])* $name = $number, )+ }

        impl KindTag {
            /// Every kind, `void` first.
            pub const ALL: &[Self] = &[$( Self::$name, )+];

            /// The kind with this number in the format.
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $( $number => Some(Self::$name), )+ _ => None }
            }

            /// Its number in the format.
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// Its name as in the kernel's headers, without `BTF_KIND_`.
            pub const fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )+ }
            }

            /// Does a value of this kind look like one of the type it refers to?
            ///
            /// Typedefs, `const`, `volatile`, `restrict`, type tags.
            pub const fn is_mod(self) -> bool {
                matches!(
                    self,
                    Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag
                )
            }

            /// Role of the third of the common words.
            pub(crate) const fn third(self) -> Word {
                match self { $( Self::$name => $third, )+ }
            }

            /// Roles of the words after the common three: once, and for each element.
            pub(crate) const fn payload(self) -> (&'static [Word], &'static [Word]) {
                match self { $( Self::$name => (&$own, &$each), )+ }
            }

            /// Number of words after the common three: once, and for each element.
            pub const fn payload_words(self) -> (usize, usize) {
                let (own, each) = self.payload();
                (own.len(), each.len())
            }
        }
    };
}

kinds! {
    /// `void`; never stored.
    Void = 0, P, [], [], "VOID";
    /// An integer.
    Int = 1, P, [P], [], "INT";
    /// A pointer.
    Ptr = 2, R, [], [], "PTR";
    /// An array.
    Array = 3, P, [R, R, P], [], "ARRAY";
    /// A structure.
    Struct = 4, P, [], [N, R, P], "STRUCT";
    /// A union.
    Union = 5, P, [], [N, R, P], "UNION";
    /// An enumeration of up to 32 bits.
    Enum = 6, P, [], [N, P], "ENUM";
    /// A forward declaration of a structure or union.
    Fwd = 7, P, [], [], "FWD";
    /// A typedef.
    Typedef = 8, R, [], [], "TYPEDEF";
    /// `volatile`.
    Volatile = 9, R, [], [], "VOLATILE";
    /// `const`.
    Const = 10, R, [], [], "CONST";
    /// `restrict`.
    Restrict = 11, R, [], [], "RESTRICT";
    /// A function: name and linkage; its type is a function prototype.
    Func = 12, R, [], [], "FUNC";
    /// A function prototype.
    FuncProto = 13, R, [], [N, R], "FUNC_PROTO";
    /// A variable.
    Var = 14, R, [P], [], "VAR";
    /// The variables of one ELF section.
    DataSec = 15, P, [], [R, P, P], "DATASEC";
    /// A floating point number.
    Float = 16, P, [], [], "FLOAT";
    /// A tag on a declaration, `__attribute__((btf_decl_tag("…")))`.
    DeclTag = 17, R, [P], [], "DECL_TAG";
    /// A tag on a type, `__attribute__((btf_type_tag("…")))`.
    TypeTag = 18, R, [], [], "TYPE_TAG";
    /// An enumeration of up to 64 bits.
    Enum64 = 19, P, [], [N, P, P], "ENUM64";
}

impl fmt::Display for KindTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One type.
#[derive(Clone, Copy, Debug)]
pub struct Type<'a> {
    /// Its name; empty when it has none. For tags, the tag's text.
    pub name: &'a str,
    /// What it is.
    pub kind: Kind<'a>,
}

/// What a type is, with its fields.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// `void`.
    Void,
    /// An integer.
    Int(Int),
    /// A pointer to this type.
    Ptr(TypeId),
    /// An array.
    Array(Array),
    /// A structure.
    Struct(Composite<'a>),
    /// A union.
    Union(Composite<'a>),
    /// An enumeration of up to 32 bits.
    Enum(Enum<'a>),
    /// An enumeration of up to 64 bits.
    Enum64(Enum<'a>),
    /// A forward declaration.
    Fwd {
        /// Of a union rather than of a structure.
        union: bool,
    },
    /// A typedef of this type.
    Typedef(TypeId),
    /// `volatile` of this type.
    Volatile(TypeId),
    /// `const` of this type.
    Const(TypeId),
    /// `restrict` of this type.
    Restrict(TypeId),
    /// A function.
    Func(Func),
    /// A function prototype.
    FuncProto(FuncProto<'a>),
    /// A variable.
    Var(Var),
    /// The variables of one ELF section.
    DataSec(DataSec<'a>),
    /// A floating point number.
    Float {
        /// Size in bytes.
        size: u32,
    },
    /// A tag on a declaration.
    DeclTag(DeclTag),
    /// A tag on a type.
    TypeTag(TypeTag),
}

impl Kind<'_> {
    /// The kind without its fields.
    pub const fn tag(&self) -> KindTag {
        match self {
            Self::Void => KindTag::Void,
            Self::Int(_) => KindTag::Int,
            Self::Ptr(_) => KindTag::Ptr,
            Self::Array(_) => KindTag::Array,
            Self::Struct(_) => KindTag::Struct,
            Self::Union(_) => KindTag::Union,
            Self::Enum(_) => KindTag::Enum,
            Self::Enum64(_) => KindTag::Enum64,
            Self::Fwd { .. } => KindTag::Fwd,
            Self::Typedef(_) => KindTag::Typedef,
            Self::Volatile(_) => KindTag::Volatile,
            Self::Const(_) => KindTag::Const,
            Self::Restrict(_) => KindTag::Restrict,
            Self::Func(_) => KindTag::Func,
            Self::FuncProto(_) => KindTag::FuncProto,
            Self::Var(_) => KindTag::Var,
            Self::DataSec(_) => KindTag::DataSec,
            Self::Float { .. } => KindTag::Float,
            Self::DeclTag(_) => KindTag::DeclTag,
            Self::TypeTag(_) => KindTag::TypeTag,
        }
    }
}

/// How the bits of an integer are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Encoding(pub u8);

impl Encoding {
    /// No flag: an unsigned number.
    pub const UNSIGNED: Self = Self(0);
    /// Signed.
    pub const SIGNED: Self = Self(1);
    /// A character.
    pub const CHAR: Self = Self(2);
    /// A boolean.
    pub const BOOL: Self = Self(4);

    /// Is the sign flag set?
    pub const fn is_signed(self) -> bool {
        self.0 & Self::SIGNED.0 != 0
    }

    /// Is the character flag set?
    pub const fn is_char(self) -> bool {
        self.0 & Self::CHAR.0 != 0
    }

    /// Is the boolean flag set?
    pub const fn is_bool(self) -> bool {
        self.0 & Self::BOOL.0 != 0
    }

    /// As `bpftool` prints it; combinations that no compiler emits are `UNKN`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UNSIGNED => "(none)",
            Self::SIGNED => "SIGNED",
            Self::CHAR => "CHAR",
            Self::BOOL => "BOOL",
            _ => "UNKN",
        }
    }
}

/// An integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int {
    /// Size in bytes.
    pub size: u32,
    /// How its bits are meant.
    pub encoding: Encoding,
    /// Where its bits start; other than 0 only in BTF of old compilers, for bitfields.
    pub bit_offset: u8,
    /// How many bits it has.
    pub bits: u8,
}

/// An array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Array {
    /// Type of its elements.
    pub element: TypeId,
    /// Type of its index.
    pub index: TypeId,
    /// Number of elements; 0 for a flexible array.
    pub len: u32,
}

/// A structure or union.
#[derive(Clone, Copy, Debug)]
pub struct Composite<'a> {
    /// Size in bytes.
    pub size: u32,
    /// Its members in order.
    pub members: List<'a, Member<'a>>,
}

/// A member of a structure or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name; empty for an anonymous structure or union.
    pub name: &'a str,
    /// Its type.
    pub ty: TypeId,
    /// Where it starts, in bits.
    pub bit_offset: u32,
    /// Width of a bitfield in bits; 0 when it is none.
    pub bitfield_size: u8,
}

/// An enumeration.
#[derive(Clone, Copy, Debug)]
pub struct Enum<'a> {
    /// Size in bytes; 0 when it is only declared.
    pub size: u32,
    /// Are the values signed?
    pub signed: bool,
    /// Its enumerators in order.
    pub values: List<'a, Enumerator<'a>>,
}

/// An enumerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enumerator<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value, extended to 64 bits as the enumeration's signedness says.
    pub value: u64,
    /// Is [`Enumerator::value`] to be read as signed?
    pub signed: bool,
}

impl Enumerator<'_> {
    /// The value as a number.
    pub fn number(&self) -> i128 {
        if self.signed { i128::from(self.value.cast_signed()) } else { i128::from(self.value) }
    }
}

/// Visibility of a function or variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Linkage(pub u32);

impl Linkage {
    /// `static`.
    pub const STATIC: Self = Self(0);
    /// Global.
    pub const GLOBAL: Self = Self(1);
    /// `extern`.
    pub const EXTERN: Self = Self(2);

    /// Its name, `None` for numbers without a meaning.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::STATIC => Some("static"),
            Self::GLOBAL => Some("global"),
            Self::EXTERN => Some("extern"),
            _ => None,
        }
    }
}

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Func {
    /// Its prototype.
    pub proto: TypeId,
    /// Its visibility.
    pub linkage: Linkage,
}

/// A function prototype.
#[derive(Clone, Copy, Debug)]
pub struct FuncProto<'a> {
    /// What it returns.
    pub ret: TypeId,
    /// Its parameters; a last one without name and type stands for `...`.
    pub params: List<'a, Param<'a>>,
}

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Its name; may be empty.
    pub name: &'a str,
    /// Its type.
    pub ty: TypeId,
}

/// A variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Var {
    /// Its type.
    pub ty: TypeId,
    /// Its visibility.
    pub linkage: Linkage,
}

/// The variables of one ELF section.
#[derive(Clone, Copy, Debug)]
pub struct DataSec<'a> {
    /// Size in bytes; 0 in objects as compiled, the loader fills it in.
    pub size: u32,
    /// Its variables.
    pub vars: List<'a, SecVar>,
}

/// Place of a variable in its section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecVar {
    /// The variable, or for `.ksyms` a function.
    pub var: TypeId,
    /// Where it starts, in bytes; 0 in objects as compiled.
    pub offset: u32,
    /// Its size in bytes.
    pub size: u32,
}

/// A tag on a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeclTag {
    /// The declaration.
    pub target: TypeId,
    /// Which member or parameter of it; `None` for the declaration itself.
    pub component: Option<u32>,
    /// The text is an attribute to be taken literally.
    pub attribute: bool,
}

/// A tag on a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeTag {
    /// The type.
    pub ty: TypeId,
    /// The text is an attribute to be taken literally.
    pub attribute: bool,
}

/// The elements that a type has several of: members, parameters, enumerators, variables.
#[derive(Clone, Copy)]
pub struct List<'a, T> {
    btf: &'a Btf,
    words: &'a [Bytes4],
    flags: Flags,
    read: fn(&'a Btf, &'a [Bytes4], Flags) -> T,
    /// Words per element.
    step: usize,
}

/// What an element needs to know of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags {
    kind_flag: bool,
}

impl<'a, T> List<'a, T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.words.len() / self.step
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The one at `index`.
    pub fn get(&self, index: usize) -> Option<T> {
        let start = index.checked_mul(self.step)?;
        let words = self.words.get(start..)?.get(..self.step)?;
        Some((self.read)(self.btf, words, self.flags))
    }

    /// All of them in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = T> + ExactSizeIterator + use<'a, T> {
        let (btf, flags, read) = (self.btf, self.flags, self.read);
        self.words.chunks_exact(self.step).map(move |words| read(btf, words, flags))
    }
}

impl<T: fmt::Debug> fmt::Debug for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Element `i` of a slice of words; callers pass slices of known length.
fn word(words: &[Bytes4], i: usize) -> u32 {
    words.get(i).map_or(0, |&word| value(word))
}

fn member<'a>(btf: &'a Btf, words: &'a [Bytes4], flags: Flags) -> Member<'a> {
    let offset = word(words, 2);
    // With the kind flag the top byte is the width of a bitfield.
    let [width, ..] = offset.to_be_bytes();
    let (bit_offset, bitfield_size) =
        if flags.kind_flag { (offset & 0x00ff_ffff, width) } else { (offset, 0) };
    Member {
        name: btf.name_at(word(words, 0)),
        ty: TypeId(word(words, 1)),
        bit_offset,
        bitfield_size,
    }
}

fn enumerator<'a>(btf: &'a Btf, words: &'a [Bytes4], flags: Flags) -> Enumerator<'a> {
    let low = word(words, 1);
    let value =
        if flags.kind_flag { i64::from(low.cast_signed()).cast_unsigned() } else { u64::from(low) };
    Enumerator { name: btf.name_at(word(words, 0)), value, signed: flags.kind_flag }
}

fn enumerator64<'a>(btf: &'a Btf, words: &'a [Bytes4], flags: Flags) -> Enumerator<'a> {
    let value = u64::from(word(words, 2)) << 32 | u64::from(word(words, 1));
    Enumerator { name: btf.name_at(word(words, 0)), value, signed: flags.kind_flag }
}

fn param<'a>(btf: &'a Btf, words: &'a [Bytes4], _: Flags) -> Param<'a> {
    Param { name: btf.name_at(word(words, 0)), ty: TypeId(word(words, 1)) }
}

fn sec_var(_: &Btf, words: &[Bytes4], _: Flags) -> SecVar {
    SecVar { var: TypeId(word(words, 0)), offset: word(words, 1), size: word(words, 2) }
}

/// Reads a validated type.
pub(crate) fn read<'a>(btf: &'a Btf, raw: RawType<'a>) -> Type<'a> {
    let tag = KindTag::from_number(raw.kind()).unwrap_or(KindTag::Void);
    let flags = Flags { kind_flag: raw.kind_flag() };
    let (size, ty) = (raw.size_or_type, TypeId(raw.size_or_type));
    let first = word(raw.rest, 0);
    let step = tag.payload().1.len();
    macro_rules! list {
        ($read:path) => {
            List { btf, words: raw.rest, flags, read: $read, step }
        };
    }
    let kind = match tag {
        KindTag::Void => Kind::Void,
        KindTag::Int => {
            let [encoding, bit_offset, _, bits] = first.to_be_bytes();
            Kind::Int(Int { size, encoding: Encoding(encoding & 0xf), bit_offset, bits })
        }
        KindTag::Ptr => Kind::Ptr(ty),
        KindTag::Array => Kind::Array(Array {
            element: TypeId(first),
            index: TypeId(word(raw.rest, 1)),
            len: word(raw.rest, 2),
        }),
        KindTag::Struct => Kind::Struct(Composite { size, members: list!(member) }),
        KindTag::Union => Kind::Union(Composite { size, members: list!(member) }),
        KindTag::Enum => {
            Kind::Enum(Enum { size, signed: flags.kind_flag, values: list!(enumerator) })
        }
        KindTag::Enum64 => {
            Kind::Enum64(Enum { size, signed: flags.kind_flag, values: list!(enumerator64) })
        }
        KindTag::Fwd => Kind::Fwd { union: flags.kind_flag },
        KindTag::Typedef => Kind::Typedef(ty),
        KindTag::Volatile => Kind::Volatile(ty),
        KindTag::Const => Kind::Const(ty),
        KindTag::Restrict => Kind::Restrict(ty),
        KindTag::Func => {
            Kind::Func(Func { proto: ty, linkage: Linkage(crate::raw::info_vlen(raw.info)) })
        }
        KindTag::FuncProto => Kind::FuncProto(FuncProto { ret: ty, params: list!(param) }),
        KindTag::Var => Kind::Var(Var { ty, linkage: Linkage(first) }),
        KindTag::DataSec => Kind::DataSec(DataSec { size, vars: list!(sec_var) }),
        KindTag::Float => Kind::Float { size },
        KindTag::DeclTag => Kind::DeclTag(DeclTag {
            target: ty,
            component: (first != u32::MAX).then_some(first),
            attribute: flags.kind_flag,
        }),
        KindTag::TypeTag => Kind::TypeTag(TypeTag { ty, attribute: flags.kind_flag }),
    };
    Type { name: btf.name_at(raw.name_off), kind }
}
