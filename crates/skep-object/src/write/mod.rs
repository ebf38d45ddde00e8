//! Writing objects: the file that reads back as a given spec, and that libbpf loads.
//!
//! Types and their numbers stay as they are; what BTF-defined maps need is added behind them.
//! Not kept are what a spec does not have: unused functions, symbols and sections nothing refers
//! to.

mod code;
pub(crate) mod elf;
mod types;

use std::collections::{BTreeMap, HashMap};

use skep_abi::MapFlags;
use skep_btf::ext::{BtfExt, ExtSection};
use skep_btf::{Btf, Builder, Kind, KindTag, Linkage};

use self::code::{Code, Target};
use self::elf::{ALLOC, Bind, Kind as SymbolKind, SectionId, Symbol, SymbolId, WRITE, Writer};
use self::types::MapPlace;
use crate::maps::{BTF_MAPS, LEGACY_MAPS};
use crate::reference::R_BPF_64_ABS64;
use crate::spec::{
    ExternKind, ExternSpec, InitialValue, MapOrigin, MapSpec, ObjectSpec, Pinning, RelocTarget,
};

/// Why a spec has no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// An instruction refers to something that the spec does not have.
    #[error("program {program}: the reference at insn {slot} leads nowhere")]
    Reference {
        /// Program.
        program: String,
        /// Slot within the function.
        slot: usize,
    },
    /// A map is something that its section cannot say.
    #[error("map {map}: its {problem} cannot be written")]
    Map {
        /// Name.
        map: String,
        /// Which part.
        problem: &'static str,
    },
    /// More of something than fits.
    #[error("{what} is larger than {limit}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How much fits.
        limit: usize,
    },
    /// The types with those of the maps added are not valid BTF.
    #[error("types of the object")]
    Btf(#[source] skep_btf::BtfError),
}

/// Writes a spec as an ELF object.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let bytes = include_bytes!("../../../../examples/classify.bpf.o");
/// use skep_object::{ObjectSpec, write::ObjectWriter};
///
/// let spec = ObjectSpec::parse(bytes)?;
/// let again = ObjectSpec::parse(&ObjectWriter::new(&spec).to_bytes()?)?;
/// assert_eq!(spec.programs.len(), again.programs.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ObjectWriter<'a> {
    spec: &'a ObjectSpec,
}

impl<'a> ObjectWriter<'a> {
    /// Writes this spec. References to live things are open in it: before it is resolved.
    pub fn new(spec: &'a ObjectSpec) -> Self {
        Self { spec }
    }

    /// The file.
    ///
    /// # Errors
    ///
    /// [`WriteError`] for specs that contradict themselves or do not fit the format.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let mut file = File {
            spec: self.spec,
            elf: Writer::default(),
            types: self.spec.btf.as_ref().map_or_else(Builder::new, Builder::from_btf),
            maps: HashMap::new(),
            data: HashMap::new(),
            externs: HashMap::new(),
            sections: BTreeMap::new(),
            values: Vec::new(),
        };
        file.write()?;
        Ok(file.elf.finish())
    }
}

/// A pointer in a section of maps that a program or map belongs to.
struct Pointer {
    section: SectionId,
    offset: u64,
    value: InitialValue,
}

/// A file in the making.
struct File<'a> {
    spec: &'a ObjectSpec,
    elf: Writer,
    types: Builder,
    /// What a `lddw` of each map refers to.
    maps: HashMap<usize, SymbolId>,
    /// What a `lddw` of an address in each map of variables, or arena, refers to.
    data: HashMap<usize, SymbolId>,
    /// Symbols of externs.
    externs: HashMap<usize, SymbolId>,
    /// Sections with variables, by name.
    sections: BTreeMap<String, SectionId>,
    /// Initial values of maps.
    values: Vec<Pointer>,
}

impl File<'_> {
    fn write(&mut self) -> Result<(), WriteError> {
        let mut code = Code::default();
        for program in &self.spec.programs {
            code.add(program, &mut self.types)?;
        }
        self.legacy_maps()?;
        self.btf_maps()?;
        self.data_maps()?;
        self.struct_ops()?;
        self.notes()?;
        self.externs();

        let (maps, data, externs) = (&self.maps, &self.data, &self.externs);
        let spec = self.spec;
        let target = |live: RelocTarget| target(spec, (maps, data), externs, live);
        let (programs, info) = code.write(&mut self.elf, &target)?;
        for pointer in &self.values {
            let symbol = match pointer.value {
                InitialValue::Map(at) => self.maps.get(&at),
                InitialValue::Program(at) => programs.get(at),
            };
            let missing = || WriteError::Map { map: BTF_MAPS.to_owned(), problem: "initial value" };
            let symbol = *symbol.ok_or_else(missing)?;
            self.elf.relocate(pointer.section, pointer.offset, symbol, R_BPF_64_ABS64);
        }
        self.types(info)
    }

    /// The bytes of legacy definitions, in iproute2's form if any map has it.
    fn legacy_maps(&mut self) -> Result<(), WriteError> {
        let legacy: Vec<(usize, &MapSpec)> = numbered(self.spec, |origin| {
            matches!(origin, MapOrigin::Legacy | MapOrigin::Iproute2 { .. })
        });
        if legacy.is_empty() {
            return Ok(());
        }
        let iproute2 = legacy.iter().any(|(_, m)| m.origin != MapOrigin::Legacy);
        let described = described_size(self.spec, legacy.len());
        let mut data = Vec::new();
        let mut places = Vec::new();
        for &(at, map) in &legacy {
            let mut words = vec![
                map.def.map_type.0,
                map.def.key_size,
                map.def.value_size,
                map.def.max_entries,
                map.def.flags.0,
            ];
            let pinning = match map.pinning {
                Pinning::None => 0,
                Pinning::ObjectNs if iproute2 => 1,
                Pinning::GlobalNs if iproute2 => 2,
                _ => return Err(WriteError::Map { map: map.name.clone(), problem: "pinning" }),
            };
            match map.origin {
                MapOrigin::Iproute2 { id, inner_id, inner_idx } => {
                    words.extend([id, pinning, inner_id, inner_idx.cast_unsigned()]);
                }
                _ if iproute2 => words.extend([0, 0, 0, u32::MAX]),
                _ => {}
            }
            words.resize(words.len().max(described), 0);
            places.push((at, data.len() as u64, words.len() as u64 * 4));
            data.extend(words.into_iter().flat_map(u32::to_le_bytes));
        }
        let section = self.elf.section(LEGACY_MAPS, ALLOC | WRITE, data)?;
        self.sections.insert(LEGACY_MAPS.to_owned(), section);
        for ((at, offset, size), (_, map)) in places.into_iter().zip(legacy) {
            let symbol = self.object(&map.name, section, offset, size);
            self.maps.insert(at, symbol);
        }
        Ok(())
    }

    fn btf_maps(&mut self) -> Result<(), WriteError> {
        let defined = numbered(self.spec, |origin| origin == MapOrigin::Btf);
        let list: Vec<&MapSpec> = defined.iter().map(|(_, map)| *map).collect();
        let places = types::map_definitions(self.spec, &list, &mut self.types)?;
        let end = places.iter().map(|p| p.offset.saturating_add(p.size)).max().unwrap_or(0);
        if defined.is_empty() {
            return Ok(());
        }
        let section = self.elf.section(BTF_MAPS, ALLOC | WRITE, vec![0; end as usize])?;
        for (&(at, map), MapPlace { offset, size, values }) in defined.iter().zip(places) {
            let symbol = self.object(&map.name, section, u64::from(offset), u64::from(size));
            self.maps.insert(at, symbol);
            for entry in &map.initial {
                let offset = u64::from(values) + u64::from(entry.index) * 8;
                self.values.push(Pointer { section, offset, value: entry.value });
            }
        }
        Ok(())
    }

    /// Sections of variables. Their symbols are made with all others that types describe.
    fn data_maps(&mut self) -> Result<(), WriteError> {
        for (at, map) in self.spec.maps.iter().enumerate() {
            let data = map.data.clone().unwrap_or_default();
            let (section, flags) = match map.origin {
                MapOrigin::Data => (map.name.as_str(), ALLOC | WRITE),
                MapOrigin::Rodata => (map.name.as_str(), ALLOC),
                MapOrigin::Bss => (map.name.as_str(), ALLOC | WRITE),
                // Variables in an arena.
                MapOrigin::Btf if !data.is_empty() => (".addr_space.1", ALLOC | WRITE),
                _ => continue,
            };
            let id = match map.origin {
                MapOrigin::Bss => self.elf.zeros(section, u64::from(map.def.value_size))?,
                _ => self.elf.section(section, flags, data)?,
            };
            self.sections.insert(section.to_owned(), id);
            let symbol = self.elf.section_symbol(id);
            self.data.insert(at, symbol);
        }
        Ok(())
    }

    fn struct_ops(&mut self) -> Result<(), WriteError> {
        let Some(btf) = &self.spec.btf else { return Ok(()) };
        let all = || self.spec.maps.iter().filter(|m| m.origin == MapOrigin::StructOps);
        let section = |m: &MapSpec| match (m.def.flags.contains(MapFlags::LINK), m.autocreate) {
            (false, true) => ".struct_ops",
            (false, false) => "?.struct_ops",
            (true, true) => ".struct_ops.link",
            (true, false) => "?.struct_ops.link",
        };
        // In the order of their first maps, which is then that of the maps.
        let mut names = Vec::new();
        for name in all().map(section) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for name in names {
            let own: Vec<&MapSpec> = all().filter(|m| section(m) == name).collect();
            let datasec = btf.find(KindTag::DataSec, name).next().and_then(|id| btf.get(id));
            let Some(Kind::DataSec(datasec)) = datasec.map(|t| t.kind) else {
                continue;
            };
            let mut data = vec![0; datasec.size as usize];
            let mut places = Vec::new();
            for map in own {
                let entry = datasec.vars.iter().find(|v| btf.name(v.var) == Some(&map.name));
                let bytes = map.data.as_deref().unwrap_or(&[]);
                let place = entry.and_then(|entry| {
                    let room = data.get_mut(entry.offset as usize..)?.get_mut(..bytes.len())?;
                    room.copy_from_slice(bytes);
                    Some(u64::from(entry.offset))
                });
                let problem = "variable in its section";
                let missing = || WriteError::Map { map: map.name.clone(), problem };
                places.push((place.ok_or_else(missing)?, map));
            }
            let section = self.elf.section(name, ALLOC | WRITE, data)?;
            self.sections.insert(name.to_owned(), section);
            for (start, map) in places {
                for entry in &map.initial {
                    let offset = start + u64::from(entry.index);
                    self.values.push(Pointer { section, offset, value: entry.value });
                }
            }
        }
        Ok(())
    }

    /// License and version.
    fn notes(&mut self) -> Result<(), WriteError> {
        if !self.spec.license.is_empty() {
            let mut text = self.spec.license.clone().into_bytes();
            text.push(0);
            let id = self.elf.section("license", ALLOC | WRITE, text)?;
            self.sections.insert("license".to_owned(), id);
        }
        if let Some(version) = self.spec.version {
            let id = self.elf.section("version", ALLOC | WRITE, version.to_le_bytes().to_vec())?;
            self.sections.insert("version".to_owned(), id);
        }
        Ok(())
    }

    fn externs(&mut self) {
        for (at, ExternSpec { name, weak, .. }) in self.spec.externs.iter().enumerate() {
            let symbol = self.elf.symbol(Symbol {
                name: name.clone(),
                kind: SymbolKind::None,
                bind: if *weak { Bind::Weak } else { Bind::Global },
                section: None,
                value: 0,
                size: 0,
                hidden: false,
            });
            self.externs.insert(at, symbol);
        }
    }

    /// `.BTF` and `.BTF.ext`, and the symbols of the variables that types describe.
    fn types(&mut self, info: Vec<ExtSection>) -> Result<(), WriteError> {
        if let Some(btf) = self.spec.btf.clone() {
            self.variables(&btf);
        }
        let has_records = |s: &ExtSection| {
            !(s.func_info.is_empty() && s.line_info.is_empty() && s.core_relos.is_empty())
        };
        let records = info.iter().any(has_records);
        let ext = records.then(|| BtfExt { sections: info }.to_bytes(&mut self.types));
        let btf = self.types.finish().map_err(WriteError::Btf)?;
        if btf.len() > 1 {
            self.elf.section(".BTF", 0, btf.to_bytes())?;
            if let Some(ext) = ext {
                self.elf.section(".BTF.ext", 0, ext)?;
            }
        }
        Ok(())
    }

    fn variables(&mut self, btf: &Btf) {
        for id in btf.ids() {
            let Some((name, Kind::DataSec(datasec))) = btf.get(id).map(|t| (t.name, t.kind)) else {
                continue;
            };
            if matches!(name, BTF_MAPS | ".kconfig" | ".ksyms") {
                continue;
            }
            let section = self.sections.get(name).copied();
            for entry in datasec.vars.iter() {
                let Some((var_name, Kind::Var(var))) = btf.get(entry.var).map(|t| (t.name, t.kind))
                else {
                    continue;
                };
                match section {
                    // The symbols of legacy maps exist already.
                    Some(_) if name == LEGACY_MAPS => {}
                    Some(section) if var.linkage != Linkage::STATIC => {
                        let (offset, size) = (u64::from(entry.offset), u64::from(entry.size));
                        self.object(var_name, section, offset, size);
                    }
                    Some(_) => {}
                    // Loaders look for the symbols of what is global.
                    None => self.types.set_linkage(entry.var, Linkage::STATIC),
                }
            }
        }
    }

    fn object(&mut self, name: &str, section: SectionId, value: u64, size: u64) -> SymbolId {
        self.elf.symbol(Symbol {
            name: name.to_owned(),
            kind: SymbolKind::Object,
            bind: Bind::Global,
            section: Some(section),
            value,
            size,
            hidden: false,
        })
    }
}

/// Words of one legacy definition by the object's types: objects append members of their own.
fn described_size(spec: &ObjectSpec, maps: usize) -> usize {
    let words = || {
        let btf = spec.btf.as_ref()?;
        let Kind::DataSec(datasec) = btf.get(btf.find(KindTag::DataSec, LEGACY_MAPS).next()?)?.kind
        else {
            return None;
        };
        let all = usize::try_from(datasec.size / 4).ok()?;
        (datasec.vars.len() == maps).then(|| all.checked_div(maps))?
    };
    // As much as a definition may sensibly have.
    words().filter(|&w| w <= 256).unwrap_or(0)
}

fn numbered(spec: &ObjectSpec, wanted: impl Fn(MapOrigin) -> bool) -> Vec<(usize, &MapSpec)> {
    spec.maps.iter().enumerate().filter(|(_, m)| wanted(m.origin)).collect()
}

/// What an engine's reference is in the file.
fn target(
    spec: &ObjectSpec,
    (maps, data): (&HashMap<usize, SymbolId>, &HashMap<usize, SymbolId>),
    externs: &HashMap<usize, SymbolId>,
    live: RelocTarget,
) -> Option<Target> {
    match live {
        RelocTarget::Map(at) => {
            Some(Target { symbol: *maps.get(&at).or(data.get(&at))?, addend: 0 })
        }
        RelocTarget::Ksym(at) => Some(Target { symbol: *externs.get(&at)?, addend: 0 }),
        RelocTarget::Kfunc(at) => Some(Target { symbol: *externs.get(&at)?, addend: -1 }),
        RelocTarget::MapValue { map, offset } => {
            if spec.maps.get(map)?.origin != MapOrigin::Kconfig {
                let symbol = *data.get(&map).or(maps.get(&map))?;
                return Some(Target { symbol, addend: offset.cast_signed() });
            }
            // The value that contains the place.
            let mut values = spec.externs.iter().enumerate();
            values.find_map(|(at, e)| match e.kind {
                ExternKind::Kconfig { offset: start, size } => {
                    let addend = offset.checked_sub(start).filter(|&within| within < size)?;
                    Some(Target { symbol: *externs.get(&at)?, addend: addend.cast_signed() })
                }
                _ => None,
            })
        }
    }
}
