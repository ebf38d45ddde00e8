//! Where a variable, or a member of one, lies in an object that is not loaded yet.

use skep_btf::{Btf, Kind, SizeError, TypeId};
use skep_object::{ObjectSpec, spec::VarSpec};

use crate::NoSuch;

/// A variable, or a member of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the map it lies in.
    pub(crate) map: usize,
    /// Byte offset in the map's value.
    pub(crate) offset: usize,
    /// Bytes.
    pub(crate) size: usize,
    /// Its type, where the object has types.
    pub(crate) type_id: Option<TypeId>,
}

/// Finds `variable` or `variable.member.member`.
pub(crate) fn find(spec: &ObjectSpec, path: &str) -> Result<Place, NoSuch> {
    let (name, members) = match path.split_once('.') {
        Some((name, members)) => (name, Some(members)),
        None => (path, None),
    };
    let all = || spec.maps.iter().enumerate().filter(|(_, m)| m.data.is_some());
    let (map, var): (usize, &VarSpec) = all()
        .flat_map(|(i, m)| m.variables.iter().map(move |v| (i, v)))
        .find(|(_, v)| v.name == name)
        .ok_or_else(|| {
            let names = all().flat_map(|(_, m)| m.variables.iter().map(|v| v.name.as_str()));
            NoSuch::new("variable", name, names)
        })?;
    let (offset, size) = (var.offset as usize, var.size as usize);
    let mut place = Place { map, offset, size, type_id: var.type_id };
    for name in members.into_iter().flat_map(|members| members.split('.')) {
        let typed = spec.btf.as_ref().zip(place.type_id);
        let found = typed.and_then(|(btf, id)| member(btf, id, name, MAX_DEPTH));
        let (at, type_id) = found.ok_or_else(|| {
            let names = typed.map_or_else(Vec::new, |(btf, id)| names(btf, id));
            NoSuch::new("member", name, names)
        })?;
        let size = spec.btf.as_ref().and_then(|btf| btf.size_of(type_id).ok());
        let size = size.ok_or_else(|| NoSuch::new("member", name, []))? as usize;
        let inside = at.checked_add(size).is_some_and(|end| end <= place.size);
        if !inside {
            return Err(NoSuch::new("member", name, []));
        }
        place = Place { map, offset: place.offset + at, size, type_id: Some(type_id) };
    }
    Ok(place)
}

/// Anonymous structures inside each other that are looked into.
const MAX_DEPTH: u32 = 8;

/// A structure's or union's own members, by the type of a variable or member.
fn composite(btf: &Btf, id: TypeId) -> Result<Option<skep_btf::Composite<'_>>, SizeError> {
    let mut at = btf.skip_mods(id)?;
    if let Some(Kind::Var(var)) = btf.get(at).map(|t| t.kind) {
        at = btf.skip_mods(var.ty)?;
    }
    Ok(match btf.get(at).map(|t| t.kind) {
        Some(Kind::Struct(composite) | Kind::Union(composite)) => Some(composite),
        _ => None,
    })
}

/// Byte offset and type of a member, also of an anonymous structure inside; no bitfield has either.
fn member(btf: &Btf, id: TypeId, name: &str, depth: u32) -> Option<(usize, TypeId)> {
    let depth = depth.checked_sub(1)?;
    let composite = composite(btf, id).ok()??;
    composite.members.iter().find_map(|m| {
        let at = m.bit_offset as usize / 8;
        match m.name {
            "" => member(btf, m.ty, name, depth).map(|(inner, ty)| (at + inner, ty)),
            found => (found == name && m.bitfield_size == 0).then_some((at, m.ty)),
        }
    })
}

fn names(btf: &Btf, id: TypeId) -> Vec<&str> {
    let composite = composite(btf, id).ok().flatten();
    composite.into_iter().flat_map(|c| c.members.iter().map(|m| m.name)).collect()
}
