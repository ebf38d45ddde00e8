//! Making an object's maps.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use skep_abi::{MapDef, MapFlags, MapType, UpdateMode};
use skep_object::{
    ObjectSpec,
    spec::{InitialValue, MapOrigin, MapSpec, Pinning},
};

use super::{
    Device, LoadOptions,
    struct_ops::{Plan, Prepared, is_struct_ops},
};
use crate::{
    btf::{Btf, SectionLayout},
    error::{LoadError, MapError},
    map::{Making, Map, MapBtf, adjusted},
    program::Program,
    sys::{self, KernelValue, SysError},
    token::Token,
};

/// Where the variables of global data lie, for the object's BTF.
pub(super) fn layouts(spec: &ObjectSpec) -> Vec<SectionLayout> {
    let global = |map: &&MapSpec| map.data.is_some();
    let layout = |map: &MapSpec| {
        let mut variables = HashMap::new();
        let mut several = HashSet::new();
        for v in &map.variables {
            let place = (v.offset, v.size);
            if variables.insert(v.name.clone(), place).is_some_and(|other| other != place) {
                several.insert(v.name.clone());
            }
        }
        // Static variables of several files, or functions, may have one name: the object's own
        // types say where each is.
        variables.retain(|name, _| !several.contains(name));
        Some(SectionLayout { datasec: map.value_type?, size: map.def.value_size, variables })
    };
    spec.maps.iter().filter(global).filter_map(layout).collect()
}

/// The pins made so far. They are removed again unless the whole object loads.
#[derive(Debug, Default)]
pub(super) struct Pins(Vec<PathBuf>);

impl Pins {
    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // The error that brought us here is the one to report.
        self.0.iter().for_each(|path| drop(fs::remove_file(path)));
    }
}

/// Is this map made? Those that programs implement only together with one of their programs.
pub(super) fn is_made(spec: &ObjectSpec, map: &MapSpec, options: &LoadOptions) -> bool {
    let chosen = |names: &Vec<String>| {
        let mut programs = map.initial.iter().filter_map(|entry| match entry.value {
            InitialValue::Program(index) => spec.programs.get(index),
            InitialValue::Map(_) => None,
        });
        programs.any(|program| names.contains(&program.name))
    };
    let restricted = options.programs.as_ref().filter(|_| is_struct_ops(map));
    map.autocreate && restricted.is_none_or(chosen)
}

/// Makes all maps, in order, with the initial values of global data. Those that are made only when
/// asked for are `None`.
pub(super) fn create_all(
    spec: &ObjectSpec,
    btf: Option<&Btf>,
    plan: &Plan<'_>,
    options: &LoadOptions,
    pins: &mut Pins,
    notices: &mut Vec<String>,
) -> Result<Vec<Option<Arc<Map>>>, LoadError> {
    let mut maps = Vec::with_capacity(spec.maps.len());
    for (index, map) in spec.maps.iter().enumerate() {
        if !is_made(spec, map, options) {
            maps.push(None);
            continue;
        }
        if map.pinning == Pinning::ObjectNs {
            notices.push(format!(
                "map '{}' asks for a pin of this object's own (PIN_OBJECT_NS): not pinned, its \
                 programs share it all the same",
                map.name
            ));
        }
        let made = match plan.maps.get(&index) {
            Some(prepared) => struct_ops(map, btf, prepared, options.token.as_deref())?,
            None => one(map, btf, options, pins)?,
        };
        maps.push(Some(Arc::new(made)));
    }
    Ok(maps)
}

fn one(
    spec: &MapSpec,
    btf: Option<&Btf>,
    options: &LoadOptions,
    pins: &mut Pins,
) -> Result<Map, LoadError> {
    if let Some((_, id)) = options.maps.iter().find(|(name, _)| *name == spec.name) {
        return given(spec, *id);
    }
    let pin = pin_path(spec, options);
    if let Some(path) = &pin
        && let Some(map) = reuse(spec, path)?
    {
        if spec.def.map_type == MapType::ARENA {
            let place = map.map_arena();
            place.map_err(|source| LoadError::Map { map: spec.name.clone(), source })?;
        }
        return Ok(map);
    }
    let token = options.token.as_deref().map(AsFd::as_fd);
    let making = Making { ifindex: Device::of_maps(options.device), token };
    let map = create(spec, btf, making)?;
    if let Some(data) = &spec.data {
        fill_data(spec, &map, data)?;
    }
    if let Some(path) = pin {
        pin_map(spec, &map, &path)?;
        pins.0.push(path);
    }
    Ok(map)
}

fn create(spec: &MapSpec, btf: Option<&Btf>, making: Making<'_>) -> Result<Map, LoadError> {
    if spec.def.map_type.is_map_in_map() && spec.inner.is_none() {
        return Err(LoadError::MapDefinition {
            map: spec.name.clone(),
            reason: format!("{} without a definition of its inner maps", spec.def.map_type),
        });
    }
    // The template only gives the shape: it is closed when the outer map exists.
    let inner = spec.inner.as_deref().map(|inner| create(inner, btf, making)).transpose()?;
    let id = |t: Option<skep_btf::TypeId>| t.map_or(0, |t| t.0);
    let map_btf = btf.map(|btf| MapBtf {
        btf: btf.as_fd(),
        key: id(spec.key_type),
        value: id(spec.value_type),
    });
    let create = |def| Map::create_on(&spec.name, def, inner.as_ref(), map_btf, making);
    match create(spec.def) {
        // Arrays are mapped into processes from Linux 5.5 on; variables work without.
        Err(e) if flags_refused(&e.source) && spec.data.is_some() => {
            let flags = MapFlags(spec.def.flags.0 & !MapFlags::MMAPABLE.0);
            match flags == spec.def.flags {
                true => Err(e),
                false => create(MapDef { flags, ..spec.def }),
            }
        }
        done => done,
    }
    .map_err(|e| by_rule(spec, e))
}

/// What the kernel says to a definition that breaks one of its rules does not name the rule.
fn by_rule(spec: &MapSpec, e: MapError) -> LoadError {
    let rule = adjusted(spec.def).check(sys::page_bytes()).err();
    match rule.filter(|rule| e.source.command == "BPF_MAP_CREATE" && rule.errno == e.errno()) {
        Some(rule) => LoadError::MapDefinition { map: e.map, reason: rule.to_string() },
        None => map_failed(e),
    }
}

/// Did the kernel, and nothing before it, say that a flag is unknown?
fn flags_refused(e: &SysError) -> bool {
    e.command == "BPF_MAP_CREATE" && e.errno() == libc::EINVAL
}

/// A map whose value is a structure of functions of the kernel.
fn struct_ops(
    spec: &MapSpec,
    btf: Option<&Btf>,
    prepared: &Prepared<'_>,
    token: Option<&Token>,
) -> Result<Map, LoadError> {
    let btf = btf.ok_or_else(|| LoadError::MapDefinition {
        map: spec.name.clone(),
        reason: "struct_ops needs the object's BTF, which this kernel did not take".into(),
    })?;
    let def = MapDef { value_size: prepared.value_size(), ..spec.def };
    let module = prepared.module.map(AsFd::as_fd);
    let value = KernelValue { type_id: prepared.value_type, module };
    let token = token.map(AsFd::as_fd);
    let create = |def| Map::create_struct_ops(&spec.name, def, btf.as_fd(), value, token);
    let error = match create(def) {
        Ok(map) => return Ok(map),
        Err(e) => e,
    };
    let without_link = MapDef { flags: MapFlags(def.flags.0 & !MapFlags::LINK.0), ..def };
    if without_link != def && flags_refused(&error.source) && create(without_link).is_ok() {
        return Err(LoadError::MapDefinition {
            map: spec.name.clone(),
            reason: "this kernel has no links for struct_ops: it takes the map only from section \
                     .struct_ops"
                .into(),
        });
    }
    Err(map_failed(error))
}

fn map_failed(e: MapError) -> LoadError {
    LoadError::Map { map: e.map, source: e.source }
}

/// Stores the initial value of global data, and freezes what the program may not change.
fn fill_data(spec: &MapSpec, map: &Map, data: &[u8]) -> Result<(), LoadError> {
    if spec.def.map_type == MapType::ARENA {
        return fill_arena(spec, map, data);
    }
    // A map is born zeroed.
    if data.iter().any(|&byte| byte != 0) {
        let key = vec![0; spec.def.key_size as usize];
        let mut value = data.to_vec();
        value.resize(map.value_bytes(), 0);
        map.update(&key, &value, UpdateMode::Any).map_err(map_failed)?;
    }
    if matches!(spec.origin, MapOrigin::Rodata | MapOrigin::Kconfig) {
        map.freeze().map_err(map_failed)?;
    }
    Ok(())
}

/// Stores the variables of an arena in its first pages, where the object's addresses point.
fn fill_arena(spec: &MapSpec, map: &Map, data: &[u8]) -> Result<(), LoadError> {
    let place = map.map_arena();
    let place = place.map_err(|source| LoadError::Map { map: spec.name.clone(), source })?;
    let wrong = |reason| Err(LoadError::MapDefinition { map: spec.name.clone(), reason });
    if data.len() > place.len() {
        let (size, room) = (data.len(), place.len());
        return wrong(format!("its variables have {size} bytes, the arena {room}"));
    }
    if spec.def.flags.contains(MapFlags::SEGV_ON_FAULT) {
        return wrong(
            "with BPF_F_SEGV_ON_FAULT nothing can give its variables their values".into(),
        );
    }
    place.paste(0, data);
    Ok(())
}

/// Where a map is pinned. `PIN_OBJECT_NS` shares maps between the programs of one object, which
/// loading the whole object does without a pin.
fn pin_path(spec: &MapSpec, options: &LoadOptions) -> Option<PathBuf> {
    let root = options.pin_root.as_ref()?;
    match spec.pinning {
        Pinning::None | Pinning::ObjectNs => None,
        Pinning::ByName => Some(root.join(&spec.name)),
        Pinning::GlobalNs => Some(root.join("tc/globals").join(&spec.name)),
    }
}

/// The map that is pinned at `path`, when there is one of the right shape.
fn reuse(spec: &MapSpec, path: &Path) -> Result<Option<Map>, LoadError> {
    let map = match Map::open_pinned(path) {
        Ok(map) => map,
        Err(e) if e.errno() == libc::ENOENT => return Ok(None),
        Err(e) => return Err(pin_failed(spec, path, e.source)),
    };
    let (found, expected) = (shape(map.def()), shape(&spec.def));
    if found != expected {
        let (map, path) = (spec.name.clone(), path.to_owned());
        return Err(LoadError::PinMismatch { map, path, found, expected });
    }
    Ok(Some(map.renamed(&spec.name)))
}

/// A map that is there already. Programs were written for its type and sizes; how many entries it
/// has is its own matter.
fn given(spec: &MapSpec, id: u32) -> Result<Map, LoadError> {
    let fail = |source| LoadError::Map { map: spec.name.clone(), source };
    let map = sys::map_by_id(id).and_then(Map::adopt).map_err(fail)?;
    let (found, wanted) = (map.def(), &spec.def);
    let shape = |def: &MapDef| (def.map_type, def.key_size, def.value_size);
    if shape(found) != shape(wanted) {
        let text = |def: &MapDef| {
            format!(
                "{} with keys of {} and values of {} bytes",
                def.map_type, def.key_size, def.value_size
            )
        };
        return Err(LoadError::MapDefinition {
            map: spec.name.clone(),
            reason: format!(
                "map {id} is of type {}, the object wants {}",
                text(found),
                text(wanted)
            ),
        });
    }
    Ok(map.renamed(&spec.name))
}

/// What must agree for a pinned map to be reused, as text for the error too.
fn shape(def: &MapDef) -> String {
    let MapDef { map_type, key_size, value_size, max_entries, flags, extra, .. } = adjusted(*def);
    // The kernel sets this flag on device maps by itself.
    let by_kernel = match map_type {
        MapType::DEVMAP | MapType::DEVMAP_HASH => MapFlags::RDONLY_PROG.0,
        _ => 0,
    };
    format!(
        "type {map_type}, key {key_size}, value {value_size} bytes, {max_entries} entries, flags \
         {:#x}, extra {extra:#x}",
        flags.0 & !by_kernel
    )
}

fn pin_map(spec: &MapSpec, map: &Map, path: &Path) -> Result<(), LoadError> {
    if let Some(parent) = path.parent() {
        let made = fs::create_dir_all(parent).map_err(|e| SysError::new("mkdir", e));
        made.map_err(|e| pin_failed(spec, path, e))?;
    }
    map.pin(path).map_err(|e| pin_failed(spec, path, e.source))
}

fn pin_failed(spec: &MapSpec, path: &Path, source: SysError) -> LoadError {
    LoadError::Pin { map: spec.name.clone(), path: path.to_owned(), source }
}

/// Stores the initial entries of maps-in-maps and prog arrays. Programs that were not loaded
/// leave their place empty.
pub(super) fn fill_initial(
    spec: &ObjectSpec,
    maps: &[Option<Arc<Map>>],
    programs: &[Option<Arc<Program>>],
) -> Result<(), LoadError> {
    let made = spec.maps.iter().zip(maps).filter_map(|(s, map)| Some((s, map.as_ref()?)));
    for (map_spec, map) in made.filter(|(map_spec, _)| !is_struct_ops(map_spec)) {
        for entry in &map_spec.initial {
            let key = entry.index.to_ne_bytes();
            let missing = |what| LoadError::MapDefinition {
                map: map_spec.name.clone(),
                reason: format!("entry {} names {what} that is not in the object", entry.index),
            };
            let fd = match entry.value {
                InitialValue::Map(index) => {
                    let inner = maps.get(index).and_then(Option::as_ref);
                    inner.ok_or_else(|| missing("a map"))?.as_fd()
                }
                InitialValue::Program(index) => {
                    match programs.get(index).ok_or_else(|| missing("a program"))? {
                        Some(program) => program.as_fd(),
                        None => continue,
                    }
                }
            };
            map.set_fd(&key, fd).map_err(map_failed)?;
        }
    }
    Ok(())
}
