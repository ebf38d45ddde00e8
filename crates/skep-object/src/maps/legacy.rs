//! Legacy maps: an array of C structures in section `maps`, one symbol for each. Sections
//! `maps/name` are read the same way: some loaders of that time had one for each map.
//!
//! Two formats share the section. libbpf before 1.0 has `struct bpf_map_def` with at least type,
//! key size, value size, entries and flags; objects append members of their own, which must be
//! zero. iproute2 has `struct bpf_elf_map` with four more words known to it: id, pinning, inner id and
//! inner index. Which one it is:
//!
//! 1. the type of the variable in BTF, by its members' names;
//! 2. else the distance between the definitions: 20 bytes are libbpf's, 36 are iproute2's;
//! 3. else, if every byte behind the first 20 is zero, libbpf's (both read the same then);
//! 4. else, below 36 bytes, iproute2's older and shorter form;
//! 5. else it is an error.

use std::collections::{HashMap, HashSet};

use skep_abi::{MapDef, MapFlags, MapType, section};
use skep_btf::{Btf, Kind, TypeId};

use super::{LEGACY_MAPS, Placed};
use crate::elf::{Bind, Elf, Place, SHT_PROGBITS, Section, Symbol, SymbolKind};
use crate::error::{MapProblem, ObjectError};
use crate::spec::{InitialEntry, InitialValue, MapOrigin, MapSpec, Pinning, ProgramSpec};

/// Bytes of the words that both formats have.
const COMMON: usize = 20;
/// Bytes of iproute2's structure.
const IPROUTE2: usize = 36;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Libbpf,
    Iproute2,
}

/// Is this a section of legacy maps?
pub(crate) fn is_legacy(section: &Section<'_>) -> bool {
    let rest = section.name.strip_prefix(LEGACY_MAPS);
    section.kind == SHT_PROGBITS && rest.is_some_and(|r| r.is_empty() || r.starts_with('/'))
}

/// The maps of all legacy sections, by section and offset.
pub(crate) fn legacy_maps(elf: &Elf<'_>, btf: Option<&Btf>) -> Result<Vec<Placed>, ObjectError> {
    let mut definitions = definitions(elf);
    let types = Types::new(btf.filter(|_| !definitions.is_empty()));
    let mut maps = Vec::new();
    for section in elf.sections.iter().filter(|s| is_legacy(s) && !s.data.is_empty()) {
        let symbols = definitions.remove(&section.index).unwrap_or_default();
        maps.append(&mut section_maps(section, &symbols, &types)?);
    }
    join_inner(&mut maps)?;
    Ok(maps)
}

fn section_maps(
    section: &Section<'_>,
    symbols: &[&Symbol<'_>],
    types: &Types<'_>,
) -> Result<Vec<Placed>, ObjectError> {
    if symbols.is_empty() {
        return Err(wrong(section, format!("its {} bytes have no symbol", section.size)));
    }
    let stride = stride(section, symbols)?;
    let format = format(section, types, symbols, stride)?;
    let mut maps = Vec::with_capacity(symbols.len());
    for (symbol, bytes) in symbols.iter().zip(section.data.chunks_exact(stride)) {
        let wrong = |problem| ObjectError::Map { map: symbol.name.to_owned(), problem };
        let mut map = read(symbol.name, bytes, format).map_err(wrong)?;
        if let Some(&(key, value)) = types.annotations.get(symbol.name) {
            (map.key_type, map.value_type) = (Some(key), Some(value));
        }
        maps.push(Placed {
            map,
            section: section.index,
            offset: symbol.value,
            size: stride as u64,
            values: None,
        });
    }
    Ok(maps)
}

/// The symbols of the definitions of each section, by offset.
fn definitions<'e, 'd>(elf: &'e Elf<'d>) -> HashMap<usize, Vec<&'e Symbol<'d>>> {
    let mut by_section: HashMap<usize, Vec<&Symbol<'_>>> = HashMap::new();
    for symbol in &elf.symbols {
        let Place::Section(index) = symbol.place else { continue };
        let global = matches!(symbol.bind, Bind::Global | Bind::Weak);
        let labelled = symbol.kind == SymbolKind::None && global;
        let is_map = symbol.kind == SymbolKind::Object || labelled;
        if is_map && elf.sections.get(index).is_some_and(is_legacy) {
            by_section.entry(index).or_default().push(symbol);
        }
    }
    for symbols in by_section.values_mut() {
        symbols.sort_by_key(|s| s.value);
    }
    by_section
}

/// What an object's types say of its legacy maps, by name. Read once: looking names up one by one
/// takes as many steps as there are types of that name.
#[derive(Debug, Default)]
struct Types<'b> {
    /// Format of the structure that a variable is, where its members tell.
    formats: HashMap<&'b str, Format>,
    /// Key and value type from `struct ____btf_map_NAME`, which the macros of that time made.
    annotations: HashMap<&'b str, (TypeId, TypeId)>,
}

impl<'b> Types<'b> {
    fn new(btf: Option<&'b Btf>) -> Self {
        let mut types = Self::default();
        let Some(btf) = btf else { return types };
        // Several variables may be of one structure.
        let mut known: HashMap<TypeId, Option<Format>> = HashMap::new();
        for ty in btf.ids().filter_map(|id| btf.get(id)) {
            match ty.kind {
                Kind::Var(var) => {
                    let Ok(id) = btf.skip_mods(var.ty) else { continue };
                    let format = *known.entry(id).or_insert_with(|| format_of(btf, id));
                    if let Some(format) = format {
                        types.formats.entry(ty.name).or_insert(format);
                    }
                }
                Kind::Struct(pair) => {
                    let Some(name) = ty.name.strip_prefix("____btf_map_") else { continue };
                    let member =
                        |name: &str| pair.members.iter().find(|m| m.name == name).map(|m| m.ty);
                    if let Some(pair) = member("key").zip(member("value")) {
                        types.annotations.entry(name).or_insert(pair);
                    }
                }
                _ => {}
            }
        }
        types
    }
}

/// Whose structure of a map definition this is, by the names of its members.
fn format_of(btf: &Btf, id: TypeId) -> Option<Format> {
    let Kind::Struct(def) = btf.get(id)?.kind else { return None };
    def.members.iter().find_map(|member| match member.name {
        "size_key" | "size_value" | "max_elem" => Some(Format::Iproute2),
        "key_size" | "value_size" | "max_entries" => Some(Format::Libbpf),
        _ => None,
    })
}

/// Bytes from one definition to the next.
fn stride(section: &Section<'_>, symbols: &[&Symbol<'_>]) -> Result<usize, ObjectError> {
    let (size, count) = (section.data.len(), symbols.len());
    let stride = size / count;
    if !size.is_multiple_of(count) || stride < COMMON || !stride.is_multiple_of(4) {
        return Err(wrong(
            section,
            format!(
                "{size} bytes for {count} symbols, expected at least {COMMON} each, all the same"
            ),
        ));
    }
    for (n, symbol) in symbols.iter().enumerate() {
        let expected = (n * stride) as u64;
        if symbol.value != expected {
            return Err(wrong(
                section,
                format!("symbol {} is at {:#x}, expected {expected:#x}", symbol.name, symbol.value),
            ));
        }
    }
    Ok(stride)
}

fn format(
    section: &Section<'_>,
    types: &Types<'_>,
    symbols: &[&Symbol<'_>],
    stride: usize,
) -> Result<Format, ObjectError> {
    // The first variable that has a type decides for all.
    if let Some(&format) = symbols.iter().find_map(|s| types.formats.get(s.name)) {
        return Ok(format);
    }
    let mut entries = section.data.chunks_exact(stride);
    let plain = entries.all(|e| e.iter().skip(COMMON).all(|&b| b == 0));
    match stride {
        COMMON => Ok(Format::Libbpf),
        IPROUTE2 => Ok(Format::Iproute2),
        _ if plain => Ok(Format::Libbpf),
        _ if stride < IPROUTE2 => Ok(Format::Iproute2),
        _ => Err(wrong(
            section,
            format!(
                "definitions of {stride} bytes with values behind the first {COMMON} are not known"
            ),
        )),
    }
}

fn read(name: &str, bytes: &[u8], format: Format) -> Result<MapSpec, MapProblem> {
    let (words, _) = bytes.as_chunks::<4>();
    // Older structures are shorter; what they lack is zero.
    let word = |n: usize| words.get(n).map_or(0, |w| u32::from_le_bytes(*w));
    let def = MapDef {
        map_type: MapType(word(0)),
        key_size: word(1),
        value_size: word(2),
        max_entries: word(3),
        flags: MapFlags(word(4)),
        extra: 0,
        numa_node: 0,
    };
    if def.map_type == MapType::UNSPEC {
        return Err(MapProblem::NoType);
    }
    let (origin, pinning) = match format {
        Format::Libbpf => {
            if let Some(at) = words.iter().skip(COMMON / 4).position(|w| *w != [0; 4]) {
                return Err(MapProblem::Value {
                    field: "a word behind map_flags",
                    found: u64::from(word(at + COMMON / 4)),
                    expected: "0",
                });
            }
            (MapOrigin::Legacy, Pinning::None)
        }
        Format::Iproute2 => {
            let origin = MapOrigin::Iproute2 {
                id: word(5),
                inner_id: word(7),
                inner_idx: word(8).cast_signed(),
            };
            (origin, pinning(word(6))?)
        }
    };
    Ok(MapSpec {
        name: name.to_owned(),
        def,
        origin,
        key_type: None,
        value_type: None,
        pinning,
        inner: None,
        autocreate: true,
        initial: Vec::new(),
        data: None,
        variables: Vec::new(),
    })
}

fn pinning(value: u32) -> Result<Pinning, MapProblem> {
    match value {
        0 => Ok(Pinning::None),
        1 => Ok(Pinning::ObjectNs),
        2 => Ok(Pinning::GlobalNs),
        other => Err(MapProblem::Value {
            field: "pinning",
            found: u64::from(other),
            expected: "0 (PIN_NONE), 1 (PIN_OBJECT_NS) or 2 (PIN_GLOBAL_NS)",
        }),
    }
}

/// Gives maps of maps their template and their initial entries, by id.
fn join_inner(maps: &mut [Placed]) -> Result<(), ObjectError> {
    let mut by_id: HashMap<u32, usize> = HashMap::new();
    for (at, placed) in maps.iter().enumerate() {
        let MapOrigin::Iproute2 { id, .. } = placed.map.origin else { continue };
        if id != 0 && by_id.insert(id, at).is_some() {
            return Err(ObjectError::Map {
                map: placed.map.name.clone(),
                problem: MapProblem::SameId(id),
            });
        }
    }
    let parts: Vec<MapSpec> = maps.iter().map(|p| p.map.clone()).collect();
    let mut entries: HashMap<u32, Vec<InitialEntry>> = HashMap::new();
    for (at, part) in parts.iter().enumerate() {
        let MapOrigin::Iproute2 { id, inner_id, inner_idx } = part.origin else { continue };
        if let (true, 0, Ok(index)) = (id != 0, inner_id, u32::try_from(inner_idx)) {
            let entry = InitialEntry { index, value: InitialValue::Map(at) };
            entries.entry(id).or_default().push(entry);
        }
    }
    for placed in maps.iter_mut().filter(|p| p.map.def.map_type.is_map_in_map()) {
        let MapOrigin::Iproute2 { inner_id, .. } = placed.map.origin else { continue };
        let inner = by_id.get(&inner_id).and_then(|&at| parts.get(at));
        let inner = inner.filter(|m| !m.def.map_type.is_map_in_map()).ok_or_else(|| {
            let problem = MapProblem::NoInner(inner_id);
            ObjectError::Map { map: placed.map.name.clone(), problem }
        })?;
        placed.map.inner = Some(Box::new(inner.clone()));
        placed.map.initial = entries.get(&inner_id).cloned().unwrap_or_default();
    }
    Ok(())
}

/// Stores programs of sections `id/slot` in the prog arrays with that id, as iproute2 does.
///
/// Such a section says nothing of the program's type: it is that of the object's other programs,
/// where they agree.
pub(crate) fn fill_prog_arrays(maps: &mut [MapSpec], programs: &mut [ProgramSpec]) {
    let mut types = programs.iter().filter_map(|p| p.prog_type);
    let common = types.next().filter(|&first| types.all(|t| t == first));
    let mut by_id: HashMap<u32, &mut MapSpec> = HashMap::new();
    let mut filled: HashSet<(u32, u32)> = HashSet::new();
    for map in maps.iter_mut().filter(|m| m.def.map_type == MapType::PROG_ARRAY) {
        if let MapOrigin::Iproute2 { id, .. } = map.origin
            && id != 0
        {
            by_id.insert(id, map);
        }
    }
    for (n, program) in programs.iter_mut().enumerate() {
        let (section, _) = section::split_autoload(&program.section);
        let Some((id, index)) = section.split_once('/') else { continue };
        let Some((id, index)) = number(id).zip(number(index)) else { continue };
        if let Some(map) = by_id.get_mut(&id)
            && filled.insert((id, index))
        {
            map.initial.push(InitialEntry { index, value: InitialValue::Program(n) });
            program.prog_type = program.prog_type.or(common);
        }
    }
}

/// A number as C writes it: decimal, `0x…` or octal `0…`.
fn number(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(hex), _) => u32::from_str_radix(hex, 16).ok(),
        (None, Some(octal)) if !octal.is_empty() => u32::from_str_radix(octal, 8).ok(),
        _ => lower.parse().ok(),
    }
}

fn wrong(section: &Section<'_>, problem: String) -> ObjectError {
    ObjectError::LegacyMaps { section: section.name.to_owned(), problem }
}
