//! BTF-defined maps: a structure whose member types say what the map is.
//!
//! `__uint(max_entries, 16)` makes `int (*max_entries)[16]`: the number is an array length.
//! `__type(key, T)` makes `T *key`. `__array(values, T)` makes `T *values[]`.
//! `__ulong(map_extra, N)` makes an enumeration with one value.

use std::collections::{BTreeMap, HashSet};

use skep_abi::{MapDef, MapFlags, MapType};
use skep_btf::{Btf, Composite, Kind, Member, TypeId};

use super::{BTF_MAPS, Placed, Programs};
use crate::datasec::{Layout, Variable};
use crate::elf::{Elf, Place, Rel};
use crate::error::{MapProblem, ObjectError, RelocProblem};
use crate::reference::{R_BPF_64_64, R_BPF_64_ABS64};
use crate::spec::{InitialEntry, InitialValue, MapOrigin, MapSpec, Pinning};

/// Inner definitions may not have inner definitions.
const MAX_INNER: u32 = 1;

/// The maps of `.maps`, by offset.
pub(crate) fn btf_maps(
    elf: &Elf<'_>,
    btf: &Btf,
    layout: &Layout,
) -> Result<Vec<Placed>, ObjectError> {
    let Some(section) = elf.section_named(BTF_MAPS) else { return Ok(Vec::new()) };
    let datasec = layout
        .of_section(section.index)
        .ok_or(ObjectError::Missing { part: "DATASEC .maps in .BTF" })?;
    if section.data.len() as u64 != section.size {
        let (found, size) = (section.data.len(), section.size);
        let problem = format!("the file has {found} of its {size} bytes");
        return Err(ObjectError::Data { section: BTF_MAPS.to_owned(), problem });
    }
    let mut maps = Vec::with_capacity(datasec.vars.len());
    for var in &datasec.vars {
        let wrong = |problem| ObjectError::Map { map: var.name.clone(), problem };
        if var.name.is_empty() {
            return Err(wrong(MapProblem::Variable("it has no name")));
        }
        if var.is_static {
            return Err(wrong(MapProblem::Variable("it is static, maps are global variables")));
        }
        let (map, values) = map_of(btf, var).map_err(wrong)?;
        maps.push(Placed {
            map,
            values,
            section: section.index,
            offset: u64::from(var.offset),
            size: u64::from(var.size),
        });
    }
    Ok(maps)
}

/// The map, and where its field `values` starts.
fn map_of(btf: &Btf, var: &Variable) -> Result<(MapSpec, Option<u64>), MapProblem> {
    let def = definition(btf, var.type_id)?;
    if def.size > var.size {
        return Err(MapProblem::Variable("its type is larger than the variable"));
    }
    let mut fields = Fields::default();
    fields.read(btf, def, 0)?;
    let values = def.members.iter().find(|m| m.name == "values");
    let values = values.map(|m| u64::from(m.bit_offset / 8));
    Ok((fields.into_map(var.name.clone()), values))
}

/// The map that a variable of this type defines.
pub(crate) fn map_of_type(btf: &Btf, name: &str, id: TypeId) -> Result<MapSpec, MapProblem> {
    let mut fields = Fields::default();
    fields.read(btf, definition(btf, id)?, 0)?;
    Ok(fields.into_map(name.to_owned()))
}

/// The structure that a map variable is.
fn definition(btf: &Btf, id: TypeId) -> Result<Composite<'_>, MapProblem> {
    let id = btf.skip_mods(id).map_err(|_| MapProblem::Variable("its type is not complete"))?;
    match btf.get(id).map(|t| t.kind) {
        Some(Kind::Struct(def)) => Ok(def),
        _ => Err(MapProblem::Variable("its type is not a structure")),
    }
}

/// What a definition's members say.
#[derive(Debug)]
struct Fields {
    def: MapDef,
    key_type: Option<TypeId>,
    value_type: Option<TypeId>,
    pinning: Pinning,
    inner: Option<Box<Self>>,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            def: MapDef {
                map_type: MapType::UNSPEC,
                key_size: 0,
                value_size: 0,
                max_entries: 0,
                flags: MapFlags::default(),
                extra: 0,
                numa_node: 0,
            },
            key_type: None,
            value_type: None,
            pinning: Pinning::None,
            inner: None,
        }
    }
}

impl Fields {
    fn read(&mut self, btf: &Btf, def: Composite<'_>, depth: u32) -> Result<(), MapProblem> {
        let last = def.members.len().saturating_sub(1);
        let mut seen = HashSet::new();
        for (n, member) in def.members.iter().enumerate() {
            // No C structure has it, and many maps may share one definition.
            if !seen.insert(member.name) {
                return Err(MapProblem::RepeatedField(member.name.to_owned()));
            }
            match member.name {
                "type" => self.def.map_type = MapType(uint(btf, &member)?),
                "max_entries" => self.def.max_entries = uint(btf, &member)?,
                "map_flags" => self.def.flags = MapFlags(uint(btf, &member)?),
                // As libbpf does: without `BPF_F_NUMA_NODE` in the flags the kernel ignores it.
                "numa_node" => self.def.numa_node = uint(btf, &member)?,
                "key_size" => set_size("key", &mut self.def.key_size, uint(btf, &member)?)?,
                "value_size" => set_size("value", &mut self.def.value_size, uint(btf, &member)?)?,
                "key" => {
                    let (id, size) = typed(btf, &member, "key")?;
                    set_size("key", &mut self.def.key_size, size)?;
                    self.key_type = Some(id);
                }
                "value" => {
                    let (id, size) = typed(btf, &member, "value")?;
                    set_size("value", &mut self.def.value_size, size)?;
                    self.value_type = Some(id);
                }
                "pinning" if depth > 0 => {
                    return Err(MapProblem::Values("an inner map cannot be pinned"));
                }
                "pinning" => self.pinning = pinning(uint(btf, &member)?)?,
                "map_extra" => self.def.extra = ulong(btf, &member)?,
                "values" if n != last => {
                    return Err(MapProblem::Values("it must be the last field"));
                }
                "values" => self.read_values(btf, &member, depth)?,
                other => return Err(MapProblem::UnknownField(other.to_owned())),
            }
        }
        match self.def.map_type {
            MapType::UNSPEC => Err(MapProblem::NoType),
            _ => Ok(()),
        }
    }

    fn read_values(
        &mut self,
        btf: &Btf,
        member: &Member<'_>,
        depth: u32,
    ) -> Result<(), MapProblem> {
        if depth >= MAX_INNER {
            return Err(MapProblem::Values("an inner map cannot have inner maps"));
        }
        let prog_array = self.def.map_type == MapType::PROG_ARRAY;
        if !prog_array && !self.def.map_type.is_map_in_map() {
            return Err(MapProblem::Values("the map is no prog array and no map of maps"));
        }
        set_size("value", &mut self.def.value_size, 4)?;

        let not_pointers = MapProblem::Values("it is not an array of pointers without length");
        let pointee = || {
            let Kind::Array(array) = btf.get(member.ty)?.kind else { return None };
            let Kind::Ptr(to) = btf.get(btf.skip_mods(array.element).ok()?)?.kind else {
                return None;
            };
            (array.len == 0).then_some(btf.get(btf.skip_mods(to).ok()?)?.kind)
        };
        match (pointee().ok_or(not_pointers)?, prog_array) {
            (Kind::FuncProto(_), true) => Ok(()),
            (_, true) => Err(MapProblem::Values("its elements do not point to functions")),
            (Kind::Struct(def), false) => {
                let mut inner = Self::default();
                inner.read(btf, def, depth + 1)?;
                self.inner = Some(Box::new(inner));
                Ok(())
            }
            (_, false) => Err(MapProblem::Values("its elements do not point to map definitions")),
        }
    }

    fn into_map(self, name: String) -> MapSpec {
        MapSpec {
            inner: self.inner.map(|inner| Box::new(inner.into_map(format!("{name}.inner")))),
            name,
            def: self.def,
            origin: MapOrigin::Btf,
            key_type: self.key_type,
            value_type: self.value_type,
            pinning: self.pinning,
            autocreate: true,
            initial: Vec::new(),
            data: None,
            variables: Vec::new(),
        }
    }
}

fn set_size(what: &'static str, size: &mut u32, new: u32) -> Result<(), MapProblem> {
    if *size != 0 && *size != new {
        return Err(MapProblem::Conflict { what, first: *size, second: new });
    }
    *size = new;
    Ok(())
}

fn pinning(value: u32) -> Result<Pinning, MapProblem> {
    match value {
        0 => Ok(Pinning::None),
        1 => Ok(Pinning::ByName),
        other => Err(MapProblem::Value {
            field: "pinning",
            found: u64::from(other),
            expected: "0 (LIBBPF_PIN_NONE) or 1 (LIBBPF_PIN_BY_NAME)",
        }),
    }
}

/// Reads what `__uint` made.
fn uint(btf: &Btf, member: &Member<'_>) -> Result<u32, MapProblem> {
    let wrong = || MapProblem::FieldType { field: member.name.to_owned(), expected: "__uint" };
    let id = btf.skip_mods(member.ty).map_err(|_| wrong())?;
    let Some(Kind::Ptr(to)) = btf.get(id).map(|t| t.kind) else { return Err(wrong()) };
    match btf.get(to).map(|t| t.kind) {
        Some(Kind::Array(array)) => Ok(array.len),
        _ => Err(wrong()),
    }
}

/// Reads what `__ulong` or `__uint` made.
fn ulong(btf: &Btf, member: &Member<'_>) -> Result<u64, MapProblem> {
    let id = btf.skip_mods(member.ty).unwrap_or(member.ty);
    match btf.get(id).map(|t| t.kind) {
        Some(Kind::Enum(e) | Kind::Enum64(e)) if e.values.len() == 1 => {
            Ok(e.values.get(0).map_or(0, |v| v.value))
        }
        Some(Kind::Ptr(_)) => uint(btf, member).map(u64::from),
        _ => Err(MapProblem::FieldType { field: member.name.to_owned(), expected: "__ulong" }),
    }
}

/// Reads what `__type` made: the type and its size.
fn typed(btf: &Btf, member: &Member<'_>, what: &'static str) -> Result<(TypeId, u32), MapProblem> {
    let Some(Kind::Ptr(to)) = btf.get(member.ty).map(|t| t.kind) else {
        return Err(MapProblem::FieldType { field: member.name.to_owned(), expected: "__type" });
    };
    let size = btf.size_of(to).map_err(|_| MapProblem::NoSize { what, type_id: to.0 })?;
    Ok((to, size))
}

/// Fills [`MapSpec::initial`] from the relocations of `.maps`.
///
/// `maps` are those of [`btf_maps`], by offset; the object's list has `before` maps before them.
pub(crate) fn initial_values(
    elf: &Elf<'_>,
    programs: &Programs<'_, '_>,
    before: usize,
    maps: &mut [Placed],
) -> Result<(), ObjectError> {
    let Some(section) = elf.section_named(BTF_MAPS) else { return Ok(()) };
    let mut values: BTreeMap<(usize, u32), InitialValue> = BTreeMap::new();
    for rel in elf.relocations(section.index)? {
        let problem = |text: &str| ObjectError::Reloc {
            section: BTF_MAPS.to_owned(),
            index: rel.index,
            offset: rel.offset,
            problem: RelocProblem::Place(text.to_owned()),
        };
        if !matches!(rel.kind, R_BPF_64_64 | R_BPF_64_ABS64) {
            return Err(problem("its kind is not R_BPF_64_ABS64"));
        }
        let (at, place) = maps
            .partition_point(|p| p.offset <= rel.offset)
            .checked_sub(1)
            .and_then(|at| Some((at, maps.get(at)?)))
            .filter(|(_, p)| rel.offset.saturating_add(8) <= p.offset.saturating_add(p.size))
            .ok_or_else(|| problem("no map is there"))?;
        let index = values_index(place, &rel)
            .ok_or_else(|| problem("the place is not an element of the map's field values"))?;
        let target = Target { elf, programs, maps, before };
        // A place written twice keeps the last value, as memory would.
        values.insert((at, index), target.find(place, &rel).map_err(problem)?);
    }
    for ((at, index), value) in values {
        let map = &mut maps.get_mut(at).expect("position of an element").map;
        map.initial.push(InitialEntry { index, value });
    }
    Ok(())
}

/// Which element of `values` a relocation fills.
fn values_index(place: &Placed, rel: &Rel) -> Option<u32> {
    let within = rel.offset.checked_sub(place.offset)?.checked_sub(place.values?)?;
    within.is_multiple_of(8).then(|| u32::try_from(within / 8).ok())?
}

/// Where relocations of `.maps` may lead.
struct Target<'a, 'd> {
    elf: &'a Elf<'d>,
    programs: &'a Programs<'a, 'd>,
    maps: &'a [Placed],
    before: usize,
}

impl Target<'_, '_> {
    fn find(&self, place: &Placed, rel: &Rel) -> Result<InitialValue, &'static str> {
        let symbol = self.elf.symbols.get(rel.symbol).ok_or("its symbol does not exist")?;
        let Place::Section(section) = symbol.place else {
            return Err("its symbol is not in this file");
        };
        let def = &place.map.def;
        if def.map_type == MapType::PROG_ARRAY {
            return self
                .programs
                .at(section, symbol.value)
                .ok_or("its symbol is not an entry program");
        }
        if !def.map_type.is_map_in_map() {
            return Err("the map has no initial values");
        }
        if def.map_type == MapType::HASH_OF_MAPS && def.key_size != 4 {
            return Err("initial values of a hash of maps need keys of 4 bytes");
        }
        self.maps
            .binary_search_by_key(&symbol.value, |p| p.offset)
            .ok()
            .filter(|&at| self.maps.get(at).is_some_and(|p| p.section == section))
            .map(|at| InitialValue::Map(self.before + at))
            .ok_or("its symbol is not a map")
    }
}
