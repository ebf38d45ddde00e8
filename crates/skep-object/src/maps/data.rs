//! Maps made of sections of variables: one element whose value is the section.

use skep_abi::{MapDef, MapFlags, MapType};

use crate::datasec::{DataSection, Layout};
use crate::elf::{Elf, SHT_NOBITS, SHT_PROGBITS, Section};
use crate::error::ObjectError;
use crate::spec::{MapOrigin, MapSpec, Pinning, VarSpec};

/// Most bytes of all such maps together; a file can claim any size for `.bss`.
const MAX_DATA: u64 = 256 << 20;

/// Section name without suffix, kind of section, what it becomes.
const ROWS: &[(&str, u32, MapOrigin)] = &[
    (".data", SHT_PROGBITS, MapOrigin::Data),
    (".rodata", SHT_PROGBITS, MapOrigin::Rodata),
    (".bss", SHT_NOBITS, MapOrigin::Bss),
];

/// What a section of variables becomes; `None` for any other section.
///
/// `.data.anything` counts as `.data`, and so for the others.
fn origin(section: &Section<'_>) -> Option<MapOrigin> {
    ROWS.iter().find_map(|&(name, kind, origin)| {
        let suffix = section.name.strip_prefix(name)?;
        let fits = suffix.is_empty() || suffix.starts_with('.');
        (fits && section.kind == kind && section.size > 0 && !section.is_code()).then_some(origin)
    })
}

/// The maps of `.data*`, `.rodata*` and `.bss*`, in file order, with their sections.
pub(crate) fn data_maps(
    elf: &Elf<'_>,
    layout: &Layout,
) -> Result<Vec<(usize, MapSpec)>, ObjectError> {
    let mut maps = Vec::new();
    let mut total: u64 = 0;
    for section in &elf.sections {
        let Some(origin) = origin(section) else { continue };
        total = total.saturating_add(section.size);
        let size = u32::try_from(section.size).ok().filter(|_| total <= MAX_DATA);
        let size = size.ok_or_else(|| ObjectError::Data {
            section: section.name.to_owned(),
            problem: format!("sections of variables have {total} bytes, at most {MAX_DATA} work"),
        })?;
        let data = match origin {
            MapOrigin::Bss => vec![0; size as usize],
            _ => section.data.to_vec(),
        };
        maps.push((section.index, map(section.name, origin, data, size, layout, section.index)));
    }
    Ok(maps)
}

fn map(
    name: &str,
    origin: MapOrigin,
    data: Vec<u8>,
    size: u32,
    layout: &Layout,
    section: usize,
) -> MapSpec {
    let datasec = layout.of_section(section);
    let shared = datasec.is_some_and(|d| d.vars.iter().any(|v| !v.is_static));
    let mut flags = MapFlags::default();
    if origin == MapOrigin::Rodata {
        flags = flags.with(MapFlags::RDONLY_PROG);
    }
    if shared {
        flags = flags.with(MapFlags::MMAPABLE);
    }
    MapSpec {
        name: name.to_owned(),
        def: MapDef {
            map_type: MapType::ARRAY,
            key_size: 4,
            value_size: size,
            max_entries: 1,
            flags,
            extra: 0,
            numa_node: 0,
        },
        origin,
        key_type: None,
        value_type: datasec.map(|d| d.type_id),
        pinning: Pinning::None,
        inner: None,
        autocreate: true,
        initial: Vec::new(),
        data: Some(data),
        variables: datasec.map_or_else(Vec::new, variable_specs),
    }
}

fn variable_specs(datasec: &DataSection) -> Vec<VarSpec> {
    datasec
        .vars
        .iter()
        .map(|v| VarSpec {
            name: v.name.clone(),
            offset: v.offset,
            size: v.size,
            type_id: Some(v.type_id),
        })
        .collect()
}

/// Section of variables that lie in the arena.
const ARENA: &str = ".addr_space.1";

/// Gives the object's arena its variables. Returns their section, the map and their size.
pub(crate) fn arena_data(
    elf: &Elf<'_>,
    layout: &Layout,
    maps: &mut [MapSpec],
) -> Result<Option<(usize, (usize, u64))>, ObjectError> {
    let Some(section) = elf.section_named(ARENA).filter(|s| !s.data.is_empty()) else {
        return Ok(None);
    };
    let arena = maps.iter_mut().enumerate().find(|(_, m)| m.def.map_type == MapType::ARENA);
    let Some((at, map)) = arena else {
        let problem = "there is no arena map for its variables".to_owned();
        return Err(ObjectError::Data { section: ARENA.to_owned(), problem });
    };
    map.data = Some(section.data.to_vec());
    map.variables = layout.of_section(section.index).map_or_else(Vec::new, variable_specs);
    Ok(Some((section.index, (at, section.size))))
}
