//! The BTF of BTF-defined maps, as libbpf's macros would have made it.

use skep_abi::{MapFlags, MapType};
use skep_btf::{
    Array, Builder, Encoding, Enumerator, Kind, KindTag, Linkage, Member, SecVar, TypeId, Var,
};

use super::WriteError;
use crate::maps::BTF_MAPS;
use crate::spec::{MapSpec, ObjectSpec, Pinning};

/// Initial entries of one map that are written at most: places before the last take room too.
const MAX_VALUES: u32 = 1 << 20;

/// Where a map's variable lies in `.maps`, and where its field `values` starts in the section.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapPlace {
    pub(super) offset: u32,
    pub(super) size: u32,
    pub(super) values: u32,
}

/// Finds or makes the definitions of `maps` (BTF-defined ones) and returns their places.
pub(super) fn map_definitions(
    spec: &ObjectSpec,
    maps: &[&MapSpec],
    types: &mut Builder,
) -> Result<Vec<MapPlace>, WriteError> {
    if maps.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(known) = existing(spec, maps) {
        return Ok(known);
    }
    // Definitions of other maps than these describe nothing any more.
    if let Some(btf) = &spec.btf {
        for id in btf.find(KindTag::DataSec, BTF_MAPS) {
            types.set_name(id, ".maps.before");
        }
    }
    let mut make = Definitions { int: types.int("int", 4, Encoding::SIGNED), types };
    let mut places = Vec::with_capacity(maps.len());
    let mut vars = Vec::with_capacity(maps.len());
    let mut end: u32 = 0;
    for map in maps {
        let too_large = || WriteError::TooLarge { what: "a map's values", limit: 1 << 20 };
        let slots = map.initial.iter().map(|e| e.index.saturating_add(1)).max().unwrap_or(0);
        let (type_id, fixed) = make.map(map, true)?;
        let size = slots.checked_mul(8).filter(|_| slots <= MAX_VALUES).ok_or_else(too_large)?;
        let size = fixed + size;
        let after = end.checked_add(size).ok_or_else(too_large)?;
        let var = make.types.var(&map.name, Var { ty: type_id, linkage: Linkage::GLOBAL });
        vars.push(SecVar { var, offset: end, size });
        places.push(MapPlace { offset: end, size, values: end + fixed });
        end = after;
    }
    make.types.data_sec(BTF_MAPS, end, &vars);
    Ok(places)
}

/// The places of maps whose definitions the object's types have already.
fn existing(spec: &ObjectSpec, maps: &[&MapSpec]) -> Option<Vec<MapPlace>> {
    let btf = spec.btf.as_ref()?;
    let datasec = btf.find(KindTag::DataSec, BTF_MAPS).next()?;
    let Kind::DataSec(datasec) = btf.get(datasec)?.kind else { return None };
    if datasec.vars.len() != maps.len() {
        return None;
    }
    let place = |map: &&MapSpec| {
        let entry = datasec.vars.iter().find(|v| btf.name(v.var) == Some(map.name.as_str()))?;
        let Kind::Var(var) = btf.get(entry.var)?.kind else { return None };
        let Kind::Struct(def) = btf.get(btf.skip_mods(var.ty).ok()?)?.kind else { return None };
        let values = def.members.iter().find(|m| m.name == "values");
        let values = values.map_or(entry.size, |m| m.bit_offset / 8);
        Some(MapPlace { offset: entry.offset, size: entry.size, values: entry.offset + values })
    };
    maps.iter().map(place).collect()
}

struct Definitions<'a> {
    types: &'a mut Builder,
    int: TypeId,
}

impl Definitions<'_> {
    /// The structure of a definition and its size without `values`.
    fn map(&mut self, map: &MapSpec, outer: bool) -> Result<(TypeId, u32), WriteError> {
        let def = &map.def;
        let mut fields: Vec<(&str, TypeId)> = vec![("type", self.uint(def.map_type.0))];
        let mut number = |this: &mut Self, name, value| {
            if value != 0 {
                fields.push((name, this.uint(value)));
            }
        };
        number(self, "max_entries", def.max_entries);
        number(self, "map_flags", def.flags.0);
        if def.flags.contains(MapFlags::NUMA_NODE) || def.numa_node != 0 {
            // An array of no elements means 0.
            fields.push(("numa_node", self.uint(def.numa_node)));
        }
        let values = outer
            && (map.inner.is_some()
                || (def.map_type == MapType::PROG_ARRAY && !map.initial.is_empty()));
        let sides = [
            ("key", "key_size", map.key_type, def.key_size, false),
            ("value", "value_size", map.value_type, def.value_size, values),
        ];
        for (name, size_name, type_id, size, implied) in sides {
            match type_id {
                Some(id) => fields.push((name, self.types.ptr(id))),
                None if size != 0 && !implied => fields.push((size_name, self.uint(size))),
                None => {}
            }
        }
        if def.extra != 0 {
            // Older loaders know only the small form.
            let extra = match u32::try_from(def.extra) {
                Ok(small) => self.uint(small),
                Err(_) => self.ulong(def.extra),
            };
            fields.push(("map_extra", extra));
        }
        match (&map.pinning, outer) {
            (Pinning::None, _) => {}
            (Pinning::ByName, true) => fields.push(("pinning", self.uint(1))),
            _ => return Err(WriteError::Map { map: map.name.clone(), problem: "pinning" }),
        }
        let size = 8 * u32::try_from(fields.len()).expect("a dozen fields");
        if values {
            let element = match &map.inner {
                Some(inner) => self.map(inner, false)?.0,
                None => self.types.func_proto(self.int, &[]),
            };
            let element = self.types.ptr(element);
            let array = Array { element, index: self.int, len: 0 };
            fields.push(("values", self.types.array(array)));
        }
        let members: Vec<Member<'_>> = (0..)
            .step_by(64)
            .zip(&fields)
            .map(|(bit_offset, &(name, ty))| Member { name, ty, bit_offset, bitfield_size: 0 })
            .collect();
        Ok((self.types.structure("", size, &members), size))
    }

    /// `int (*)[value]`
    fn uint(&mut self, value: u32) -> TypeId {
        let array = self.types.array(Array { element: self.int, index: self.int, len: value });
        self.types.ptr(array)
    }

    /// `enum { name = value }`
    fn ulong(&mut self, value: u64) -> TypeId {
        let one = [Enumerator { name: "map_extra_value", value, signed: false }];
        self.types.enumeration("", 8, &one)
    }
}
