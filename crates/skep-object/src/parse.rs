//! From bytes to [`ObjectSpec`]: the order in which the parts are read.

use std::collections::{BTreeMap, HashMap};

use skep_btf::Btf;
use skep_btf::ext::BtfExt;

use crate::datasec::Layout;
use crate::elf::{Elf, Rel};
use crate::error::{ObjectError, RelocProblem};
use crate::externs::Externs;
use crate::functions::Functions;
use crate::maps::{self, BTF_MAPS, Programs};
use crate::programs::Linker;
use crate::reference::Names;
use crate::spec::{MapSpec, ObjectSpec};

impl ObjectSpec {
    /// Reads a BPF object as clang (or gcc, or a linker) writes it.
    ///
    /// Time and memory are in proportion to the file's size, whatever the bytes: programs, which
    /// repeat the subprograms they share, take at most 32 MiB and 64 bytes for each of the file.
    /// Zeros of `.bss` come on top, at most 256 MiB.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] for files that are not little-endian 64-bit BPF objects, or whose parts
    /// contradict each other.
    pub fn parse(file: &[u8]) -> Result<Self, ObjectError> {
        let elf = Elf::parse(file)?;
        let section = |name| elf.section_named(name).filter(|s| !s.data.is_empty());
        let btf = section(".BTF").map(|s| Btf::parse(s.data)).transpose();
        let btf = btf.map_err(ObjectError::Btf)?;
        let ext = match (&btf, section(".BTF.ext")) {
            (Some(btf), Some(s)) => Some(BtfExt::parse(s.data, btf).map_err(ObjectError::BtfExt)?),
            _ => None,
        };

        let functions = Functions::collect(&elf)?;
        let (layout, externs) = match &btf {
            Some(btf) => (Layout::new(&elf, btf)?, Externs::collect(&elf, btf)?),
            None => (Layout::default(), Externs::default()),
        };
        let (mut maps, names) = collect_maps(&elf, btf.as_ref(), &layout, &functions, &externs)?;

        let mut linker = Linker {
            elf: &elf,
            functions: &functions,
            names: &names,
            rels: HashMap::new(),
            info: HashMap::new(),
        };
        for section in functions.sections(&elf) {
            linker.rels.insert(section.index, code_relocations(&elf, section.index)?);
        }
        if let (Some(btf), Some(ext)) = (&btf, &ext) {
            linker.info = crate::info::by_section(&elf, ext, btf)?;
        }
        drop(ext);
        let mut programs = linker.programs()?;
        maps::fill_prog_arrays(&mut maps, &mut programs);
        let btf = match &btf {
            Some(btf) => Some(layout.fill(&elf, btf, externs.kconfig_layout.as_ref())?),
            None => None,
        };

        Ok(Self {
            license: license(&elf),
            version: version(&elf)?,
            programs,
            maps,
            externs: externs.list,
            btf,
        })
    }
}

/// Every map in libbpf's order (legacy, BTF-defined, variables, kconfig, struct_ops), and what symbols mean.
fn collect_maps(
    elf: &Elf<'_>,
    btf: Option<&Btf>,
    layout: &Layout,
    functions: &Functions<'_>,
    externs: &Externs,
) -> Result<(Vec<MapSpec>, Names), ObjectError> {
    let mut names = Names::default();
    names.map_sections.extend(elf.section_named(BTF_MAPS).map(|s| s.index));
    let legacy = elf.sections.iter().filter(|s| maps::is_legacy(s));
    names.map_sections.extend(legacy.map(|s| s.index));
    let programs = Programs::new(functions);
    let mut placed = maps::legacy_maps(elf, btf)?;
    if let Some(btf) = btf {
        let mut defined = maps::btf_maps(elf, btf, layout)?;
        maps::initial_values(elf, &programs, placed.len(), &mut defined)?;
        placed.append(&mut defined);
    } else if elf.section_named(BTF_MAPS).is_some_and(|s| s.size > 0) {
        return Err(ObjectError::Missing { part: "section .BTF, which describes the maps" });
    }
    let mut list = Vec::with_capacity(placed.len());
    for p in placed {
        names.maps.insert((p.section, p.offset), list.len());
        list.push(p.map);
    }
    for (section, map) in maps::data_maps(elf, layout)? {
        names.data.insert(section, (list.len(), u64::from(map.def.value_size)));
        list.push(map);
    }
    if let Some((section, map)) = maps::arena_data(elf, layout, &mut list)? {
        names.data.insert(section, map);
    }
    names.externs = externs.targets(list.len());
    list.extend(externs.kconfig.clone());
    if let Some(btf) = btf {
        list.extend(maps::struct_ops_maps(elf, btf, layout, &programs)?);
    }
    Ok((list, names))
}

/// The relocations of a code section by slot.
fn code_relocations(elf: &Elf<'_>, section: usize) -> Result<BTreeMap<usize, Rel>, ObjectError> {
    let size = elf.sections.get(section).map_or(0, |s| s.size);
    let mut rels = BTreeMap::new();
    for rel in elf.relocations(section)? {
        let error = |problem| ObjectError::Reloc {
            section: elf.place_name(crate::elf::Place::Section(section)),
            index: rel.index,
            offset: rel.offset,
            problem,
        };
        let slot = usize::try_from(rel.offset / 8).unwrap_or(usize::MAX);
        if !rel.offset.is_multiple_of(8) || rel.offset >= size {
            return Err(error(RelocProblem::NoInsn));
        }
        if rels.insert(slot, rel).is_some() {
            return Err(error(RelocProblem::Twice));
        }
    }
    Ok(rels)
}

fn license(elf: &Elf<'_>) -> String {
    let bytes = elf.section_named("license").map_or(&[][..], |s| s.data);
    let text = bytes.split(|&b| b == 0).next().unwrap_or(&[]);
    String::from_utf8_lossy(text).into_owned()
}

fn version(elf: &Elf<'_>) -> Result<Option<u32>, ObjectError> {
    let Some(section) = elf.section_named("version") else { return Ok(None) };
    match section.data.try_into() {
        Ok(bytes) => Ok(Some(u32::from_le_bytes(bytes))),
        Err(_) => Err(ObjectError::Note {
            section: "version",
            size: section.data.len(),
            expected: "4 bytes",
        }),
    }
}
