//! Following the object's access through a candidate of the target, by names.

use super::{
    Basis, Budget, CoreError, CoreKind,
    compat::{Ref, fields_are_compat, types_are_compat},
    matches::types_match,
    spec::{self, MAX_LEN, Spec, Step},
};
use crate::{Btf, Kind, TypeId, essential_name};

/// The access as it is in the candidate; `None` when the candidate does not have it.
pub(super) fn follow(
    local: (&Btf, &Spec),
    candidate: Ref<'_>,
    budget: &mut Budget,
) -> Result<Option<Spec>, CoreError> {
    let (local_btf, local_spec) = local;
    let mut found = Spec::new(candidate.id, local_spec.kind);
    let root = Ref { btf: local_btf, id: local_spec.root };
    let matched = match local_spec.kind.basis() {
        Basis::Type if local_spec.kind == CoreKind::TypeMatches => {
            types_match(root, candidate, budget)?
        }
        Basis::Type => types_are_compat(root, candidate, budget)?,
        Basis::Enumval => follow_enumerator(local, candidate, &mut found, budget)?,
        Basis::Field => follow_field(local, candidate, &mut found, budget)?,
    };
    Ok(matched.then_some(found))
}

/// The enumerator of the same name, whatever its value and place.
fn follow_enumerator(
    (local_btf, local_spec): (&Btf, &Spec),
    candidate: Ref<'_>,
    found: &mut Spec,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    let target = candidate.stripped()?;
    let (Kind::Enum(e) | Kind::Enum64(e)) = target.get()?.kind else { return Ok(false) };
    let step = local_spec.path.first().copied();
    let wanted = step.and_then(|step| spec::enumerator(local_btf, step));
    let Some(wanted) = wanted.map(|value| essential_name(value.name)) else { return Ok(false) };
    for (index, value) in (0u32..).zip(e.values.iter()) {
        budget.step()?;
        if value.name.starts_with(wanted) && essential_name(value.name) == wanted {
            found.path.push(Step { ty: target.id, index, named: true });
            found.raw.push(index);
            return Ok(true);
        }
    }
    Ok(false)
}

fn follow_field(
    (local_btf, local_spec): (&Btf, &Spec),
    candidate: Ref<'_>,
    found: &mut Spec,
    budget: &mut Budget,
) -> Result<bool, CoreError> {
    let mut at = candidate;
    for (position, step) in local_spec.path.iter().enumerate() {
        at = at.stripped()?;
        if step.named {
            let Some(member) = spec::member(local_btf, *step) else { return Ok(false) };
            let wanted = Wanted { name: member.name, ty: Ref { btf: local_btf, id: member.ty } };
            match find_member(wanted, at, found, budget)? {
                Some(next) => at = at.with(next),
                None => return Ok(false),
            }
            continue;
        }
        // The first index is into an array of the root type itself.
        if position > 0 {
            let Kind::Array(array) = at.get()?.kind else { return Ok(false) };
            if !found.ends_flexible(at.btf, array) && step.index >= array.len {
                return Ok(false);
            }
            at = at.with(array.element).stripped()?;
        }
        descend(found, step.index)?;
        found.path.push(Step { ty: at.id, index: step.index, named: false });
        let bits = spec::element_bits(at.btf, at.id, step.index)?;
        found.bit_offset = found.bit_offset.checked_add(bits).ok_or(CoreError::TooLarge)?;
    }
    Ok(true)
}

/// Adds a raw step.
fn descend(found: &mut Spec, index: u32) -> Result<(), CoreError> {
    if found.raw.len() == MAX_LEN {
        return Err(CoreError::TooDeep);
    }
    found.raw.push(index);
    Ok(())
}

/// A member to look for.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    name: &'a str,
    ty: Ref<'a>,
}

/// Looks for a member of this name and a compatible type, through anonymous structures and unions.
///
/// Adds its steps to `found` and returns its type. The depth is bounded by the length of an access.
fn find_member(
    wanted: Wanted<'_>,
    target: Ref<'_>,
    found: &mut Spec,
    budget: &mut Budget,
) -> Result<Option<TypeId>, CoreError> {
    let target = target.stripped()?;
    let (Kind::Struct(c) | Kind::Union(c)) = target.get()?.kind else { return Ok(None) };
    for (index, member) in (0u32..).zip(c.members.iter()) {
        budget.step()?;
        if member.name != wanted.name && !member.name.is_empty() {
            continue;
        }
        let before = found.bit_offset;
        descend(found, index)?;
        found.bit_offset = before.checked_add(member.bit_offset).ok_or(CoreError::TooLarge)?;
        if member.name.is_empty() {
            let inside = find_member(wanted, target.with(member.ty), found, budget)?;
            if inside.is_some() {
                return Ok(inside);
            }
        } else {
            if fields_are_compat(wanted.ty, target.with(member.ty), budget)? {
                found.path.push(Step { ty: target.id, index, named: true });
                return Ok(Some(member.ty));
            }
            // The only member of this name, and it is something else.
            found.raw.pop();
            found.bit_offset = before;
            return Ok(None);
        }
        found.raw.pop();
        found.bit_offset = before;
    }
    Ok(None)
}
