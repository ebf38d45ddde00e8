//! `bpf_core_type_matches`: is everything that the object's type has also in the target's?

use super::{Budget, CoreError, compat::Ref};
use crate::{Composite, Enum, Kind, essential_name};

/// Levels of structures and prototypes, and of pointers and arrays on each level, that are followed.
const MAX_DEPTH: u32 = 32;

/// Does the target's type have at least what the object's type has?
///
/// Names are compared without typedefs and flavors. Integers agree in size and sign, arrays in
/// length; members are looked up by name and compared themselves, behind a pointer only by name
/// and kind; enumerations agree in size and have all names, whatever the values.
pub(super) fn types_match(
    local: Ref<'_>,
    target: Ref<'_>,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    matches_within(local, target, false, MAX_DEPTH, budget)
}

fn matches_within(
    mut local: Ref<'_>,
    mut target: Ref<'_>,
    mut behind_ptr: bool,
    level: u32,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    if level == 0 {
        return Err(CoreError::TooDeep);
    }
    for _ in 0..MAX_DEPTH {
        budget.step()?;
        (local, target) = (local.stripped()?, target.stripped()?);
        let (a, b) = (local.get()?, target.get()?);
        if !names_match(a.name, b.name) {
            return Ok(false);
        }
        match (a.kind, b.kind) {
            (Kind::Ptr(a), Kind::Ptr(b)) => {
                behind_ptr = true;
                (local, target) = (local.with(a), target.with(b));
            }
            (Kind::Array(a), Kind::Array(b)) => {
                if a.len != b.len {
                    return Ok(false);
                }
                (local, target) = (local.with(a.element), target.with(b.element));
            }
            (Kind::FuncProto(a), Kind::FuncProto(b)) => {
                if a.params.len() != b.params.len() {
                    return Ok(false);
                }
                for (a, b) in a.params.iter().zip(b.params.iter()) {
                    let (a, b) = (local.with(a.ty), target.with(b.ty));
                    if !matches_within(a, b, behind_ptr, level - 1, budget)? {
                        return Ok(false);
                    }
                }
                (local, target) = (local.with(a.ret), target.with(b.ret));
            }
            (Kind::Struct(_), Kind::Struct(_)) | (Kind::Union(_), Kind::Union(_)) if behind_ptr => {
                return Ok(true);
            }
            (Kind::Struct(a), Kind::Struct(b)) | (Kind::Union(a), Kind::Union(b)) => {
                return members_match((local, a), (target, b), level, budget);
            }
            (Kind::Enum(a) | Kind::Enum64(a), Kind::Enum(b) | Kind::Enum64(b)) => {
                return enums_match(a, b, budget);
            }
            (Kind::Int(a), Kind::Int(b)) => {
                let sign = |int: crate::Int| int.encoding.is_signed();
                return Ok(a.size == b.size && sign(a) == sign(b));
            }
            (Kind::Void, Kind::Void) => return Ok(true),
            (Kind::Fwd { union: a }, Kind::Fwd { union: b }) => return Ok(a == b),
            // Behind a pointer a declaration is as good as the structure.
            (Kind::Fwd { union }, other) | (other, Kind::Fwd { union }) => {
                return Ok(behind_ptr
                    && match other {
                        Kind::Struct(_) => !union,
                        Kind::Union(_) => union,
                        _ => false,
                    });
            }
            _ => return Ok(false),
        }
    }
    Err(CoreError::TooDeep)
}

/// Has the target a matching member for each of the object's?
fn members_match(
    (local, a): (Ref<'_>, Composite<'_>),
    (target, b): (Ref<'_>, Composite<'_>),
    level: u32,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    if a.members.len() > b.members.len() {
        return Ok(false);
    }
    for mine in a.members.iter() {
        let mut matched = false;
        for theirs in b.members.iter() {
            budget.step()?;
            if !names_match(mine.name, theirs.name) {
                continue;
            }
            let (mine, theirs) = (local.with(mine.ty), target.with(theirs.ty));
            // Directly inside a structure, so not behind a pointer.
            if matches_within(mine, theirs, false, level - 1, budget)? {
                matched = true;
                break;
            }
        }
        if !matched {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Has the target all names, in a type of the same size?
fn enums_match(a: Enum<'_>, b: Enum<'_>, budget: &mut Budget) -> Result<bool, CoreError> {
    if a.size != b.size || a.values.len() > b.values.len() {
        return Ok(false);
    }
    for mine in a.values.iter() {
        let mut matched = false;
        for theirs in b.values.iter() {
            budget.step()?;
            if names_match(mine.name, theirs.name) {
                matched = true;
                break;
            }
        }
        if !matched {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The same name, flavors aside.
fn names_match(local: &str, target: &str) -> bool {
    let local = essential_name(local);
    target.starts_with(local) && essential_name(target) == local
}
