//! `struct_ops`: structures of function pointers that the kernel calls, one map for each variable
//! of `.struct_ops` and `.struct_ops.link`.
//!
//! The value's layout in the kernel is the engine's to find; here it is the object's: the bytes
//! of the variable, and which program belongs to which pointer.

use skep_abi::{MapDef, MapFlags, MapType, section::split_autoload};
use skep_btf::{Btf, Kind};

use super::{Placed, Programs};
use crate::datasec::{Layout, Variable};
use crate::elf::{Elf, Place, Section};
use crate::error::{MapProblem, ObjectError, RelocProblem};
use crate::reference::{R_BPF_64_64, R_BPF_64_ABS64};
use crate::spec::{InitialEntry, MapOrigin, MapSpec, Pinning, VarSpec};

/// Name without `?`, flags.
const SECTIONS: &[(&str, MapFlags)] =
    &[(".struct_ops", MapFlags(0)), (".struct_ops.link", MapFlags::LINK)];

/// The maps of all `struct_ops` sections, in file order.
pub(crate) fn struct_ops_maps(
    elf: &Elf<'_>,
    btf: &Btf,
    layout: &Layout,
    programs: &Programs<'_, '_>,
) -> Result<Vec<MapSpec>, ObjectError> {
    let mut maps = Vec::new();
    for section in &elf.sections {
        let (name, autocreate) = split_autoload(section.name);
        let Some(&(_, flags)) = SECTIONS.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        if section.data.is_empty() {
            continue;
        }
        let Some(datasec) = layout.of_section(section.index) else {
            let problem = "no DATASEC in .BTF describes it".to_owned();
            return Err(ObjectError::Data { section: section.name.to_owned(), problem });
        };
        let mut placed = Vec::with_capacity(datasec.vars.len());
        let total: u64 = datasec.vars.iter().map(|v| u64::from(v.size)).sum();
        if total > section.size {
            let problem = format!("its variables have {total} bytes, it has {}", section.size);
            return Err(ObjectError::Data { section: section.name.to_owned(), problem });
        }
        for var in &datasec.vars {
            placed.push(map(btf, section, var, flags, autocreate)?);
        }
        fill(elf, section, &mut placed, programs)?;
        maps.extend(placed.into_iter().map(|p| p.map));
    }
    Ok(maps)
}

fn map(
    btf: &Btf,
    section: &Section<'_>,
    var: &Variable,
    flags: MapFlags,
    autocreate: bool,
) -> Result<Placed, ObjectError> {
    let wrong = |problem| ObjectError::Map { map: var.name.clone(), problem };
    let type_id = btf.skip_mods(var.type_id).unwrap_or(var.type_id);
    if !matches!(btf.get(type_id).map(|t| t.kind), Some(Kind::Struct(_))) {
        return Err(wrong(MapProblem::Variable("its type is not a structure")));
    }
    let range = var.offset as usize..(var.offset as usize).saturating_add(var.size as usize);
    let data = section.data.get(range);
    let data = data.ok_or_else(|| wrong(MapProblem::Variable("it is outside of its section")))?;
    let map = MapSpec {
        name: var.name.clone(),
        def: MapDef {
            map_type: MapType::STRUCT_OPS,
            key_size: 4,
            value_size: var.size,
            max_entries: 1,
            flags,
            extra: 0,
            numa_node: 0,
        },
        origin: MapOrigin::StructOps,
        key_type: None,
        value_type: Some(type_id),
        pinning: Pinning::None,
        inner: None,
        autocreate,
        initial: Vec::new(),
        data: Some(data.to_vec()),
        variables: vec![VarSpec {
            name: var.name.clone(),
            offset: 0,
            size: var.size,
            type_id: Some(type_id),
        }],
    };
    Ok(Placed {
        map,
        section: section.index,
        offset: u64::from(var.offset),
        size: u64::from(var.size),
        values: None,
    })
}

/// Stores the programs that relocations put into function pointers.
fn fill(
    elf: &Elf<'_>,
    section: &Section<'_>,
    maps: &mut [Placed],
    programs: &Programs<'_, '_>,
) -> Result<(), ObjectError> {
    for rel in elf.relocations(section.index)? {
        let problem = |text: &str| ObjectError::Reloc {
            section: section.name.to_owned(),
            index: rel.index,
            offset: rel.offset,
            problem: RelocProblem::Place(text.to_owned()),
        };
        if !matches!(rel.kind, R_BPF_64_64 | R_BPF_64_ABS64) {
            return Err(problem("its kind is not R_BPF_64_ABS64"));
        }
        let placed = maps
            .partition_point(|p| p.offset <= rel.offset)
            .checked_sub(1)
            .and_then(|at| maps.get_mut(at))
            .filter(|p| rel.offset.saturating_add(8) <= p.offset.saturating_add(p.size))
            .ok_or_else(|| problem("no variable is there"))?;
        let symbol = elf.symbols.get(rel.symbol);
        let place = symbol.and_then(|s| match s.place {
            Place::Section(index) => Some((index, s.value)),
            _ => None,
        });
        let value = place
            .and_then(|(section, value)| programs.at(section, value))
            .ok_or_else(|| problem("its symbol is not an entry program"))?;
        let index = u32::try_from(rel.offset - placed.offset).unwrap_or(u32::MAX);
        placed.map.initial.push(InitialEntry { index, value });
    }
    for placed in maps {
        let initial = &mut placed.map.initial;
        initial.sort_by_key(|e| e.index);
        initial.dedup_by_key(|e| e.index);
    }
    Ok(())
}
