//! When two types, one of the object and one of the target, may stand for each other.

use super::{Budget, CoreError};
use crate::{Btf, Kind, KindTag, TypeId, essential_name};

/// Pointers, arrays and prototypes inside each other that are followed.
const MAX_DEPTH: u32 = 32;

/// A type of one BTF.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ref<'a> {
    pub(super) btf: &'a Btf,
    pub(super) id: TypeId,
}

impl<'a> Ref<'a> {
    /// Another type of the same BTF.
    pub(super) const fn with(self, id: TypeId) -> Self {
        Self { btf: self.btf, id }
    }

    /// Without typedefs and modifiers.
    pub(super) fn stripped(self) -> Result<Self, CoreError> {
        Ok(self.with(self.btf.skip_mods(self.id)?))
    }

    pub(super) fn get(self) -> Result<crate::Type<'a>, CoreError> {
        self.btf.get(self.id).ok_or(CoreError::NoSuchType(self.id))
    }

    fn tag(self) -> Result<KindTag, CoreError> {
        self.btf.kind_tag(self.id).ok_or(CoreError::NoSuchType(self.id))
    }
}

/// The same kind, where both kinds of enumerations count as one.
pub(super) fn same_kind(a: KindTag, b: KindTag) -> bool {
    let is_enum = |tag| matches!(tag, KindTag::Enum | KindTag::Enum64);
    a == b || is_enum(a) && is_enum(b)
}

/// May a declaration of `local`'s stand for what `target` has? Its name is the caller's to compare:
/// structures of any content agree, integers of any size, pointers and arrays and prototypes where
/// what they are made of agrees.
///
/// # Errors
///
/// Types that are not there or never end.
pub fn compatible(local: (&Btf, TypeId), target: (&Btf, TypeId)) -> Result<bool, CoreError> {
    let ((a, local), (b, target)) = (local, target);
    let (local, target) = (Ref { btf: a, id: local }, Ref { btf: b, id: target });
    types_are_compat(local, target, &mut Budget::new())
}

/// Does a type with the right name exist? Structures agree by name alone, pointers, arrays and
/// prototypes by what they are made of.
pub(super) fn types_are_compat(
    local: Ref<'_>,
    target: Ref<'_>,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    types_within(local, target, MAX_DEPTH, budget)
}

fn types_within(
    mut local: Ref<'_>,
    mut target: Ref<'_>,
    level: u32,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    if !same_kind(local.tag()?, target.tag()?) {
        return Ok(false);
    }
    for _ in 0..MAX_DEPTH {
        budget.step()?;
        (local, target) = (local.stripped()?, target.stripped()?);
        let (a, b) = (local.get()?.kind, target.get()?.kind);
        if !same_kind(a.tag(), b.tag()) {
            return Ok(false);
        }
        match (a, b) {
            // Integers of any size, unless they are bitfields in the way of old compilers.
            (Kind::Int(a), Kind::Int(b)) => return Ok(a.bit_offset == 0 && b.bit_offset == 0),
            (Kind::Ptr(a), Kind::Ptr(b)) => (local, target) = (local.with(a), target.with(b)),
            (Kind::Array(a), Kind::Array(b)) => {
                (local, target) = (local.with(a.element), target.with(b.element));
            }
            (Kind::FuncProto(a), Kind::FuncProto(b)) => {
                if a.params.len() != b.params.len() {
                    return Ok(false);
                }
                for (a, b) in a.params.iter().zip(b.params.iter()) {
                    let level = level.checked_sub(1).ok_or(CoreError::TooDeep)?;
                    let (a, b) = (local.with(a.ty).stripped()?, target.with(b.ty).stripped()?);
                    if !types_within(a, b, level, budget)? {
                        return Ok(false);
                    }
                }
                (local, target) = (local.with(a.ret), target.with(b.ret));
            }
            _ => {
                return Ok(matches!(
                    a.tag(),
                    KindTag::Void
                        | KindTag::Struct
                        | KindTag::Union
                        | KindTag::Enum
                        | KindTag::Enum64
                        | KindTag::Fwd
                ));
            }
        }
    }
    Err(CoreError::TooDeep)
}

/// May a field of one type be read as the other?
///
/// Structures and unions mix, pointers and floats always agree, integers of any size agree,
/// enumerations and forward declarations by name, arrays by their elements.
pub(super) fn fields_are_compat(
    mut local: Ref<'_>,
    mut target: Ref<'_>,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    loop {
        // Arrays of arrays of ... itself end here.
        budget.step()?;
        (local, target) = (local.stripped()?, target.stripped()?);
        let (a, b) = (local.get()?, target.get()?);
        return Ok(match (a.kind, b.kind) {
            (Kind::Struct(_) | Kind::Union(_), Kind::Struct(_) | Kind::Union(_))
            | (Kind::Ptr(_), Kind::Ptr(_))
            | (Kind::Float { .. }, Kind::Float { .. }) => true,
            (Kind::Enum(_) | Kind::Enum64(_), Kind::Enum(_) | Kind::Enum64(_))
            | (Kind::Fwd { .. }, Kind::Fwd { .. }) => {
                let (a, b) = (essential_name(a.name), essential_name(b.name));
                a.is_empty() || b.is_empty() || a == b
            }
            (Kind::Int(a), Kind::Int(b)) => a.bit_offset == 0 && b.bit_offset == 0,
            (Kind::Array(a), Kind::Array(b)) => {
                (local, target) = (local.with(a.element), target.with(b.element));
                continue;
            }
            _ => false,
        });
    }
}
