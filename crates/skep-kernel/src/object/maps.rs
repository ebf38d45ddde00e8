//! Making an object's maps.

use std::{
    fs,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use skep_abi::{MapDef, MapFlags, MapType, UpdateMode};
use skep_object::{
    ObjectSpec,
    spec::{InitialValue, MapOrigin, MapSpec, Pinning},
};

use super::LoadOptions;
use crate::{
    btf::{Btf, SectionLayout},
    error::{LoadError, MapError},
    map::{Map, MapBtf},
    program::Program,
    sys::SysError,
};

/// Where the variables of global data lie, for the object's BTF.
pub(super) fn layouts(spec: &ObjectSpec) -> Vec<SectionLayout> {
    let global = |map: &&MapSpec| map.data.is_some();
    let layout = |map: &MapSpec| {
        let variables = map.variables.iter().map(|v| (v.name.clone(), (v.offset, v.size)));
        Some(SectionLayout {
            datasec: map.value_type?,
            size: map.def.value_size,
            variables: variables.collect(),
        })
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

/// Makes all maps, in order, with the initial values of global data.
pub(super) fn create_all(
    spec: &ObjectSpec,
    btf: Option<&Btf>,
    options: &LoadOptions,
    pins: &mut Pins,
    notices: &mut Vec<String>,
) -> Result<Vec<Arc<Map>>, LoadError> {
    let mut maps = Vec::with_capacity(spec.maps.len());
    for map in &spec.maps {
        if map.pinning == Pinning::ObjectNs {
            notices.push(format!(
                "map '{}' asks for a pin of this object's own (PIN_OBJECT_NS): not pinned, its \
                 programs share it all the same",
                map.name
            ));
        }
        maps.push(Arc::new(one(map, btf, options, pins)?));
    }
    Ok(maps)
}

fn one(
    spec: &MapSpec,
    btf: Option<&Btf>,
    options: &LoadOptions,
    pins: &mut Pins,
) -> Result<Map, LoadError> {
    if spec.origin == MapOrigin::StructOps {
        return Err(LoadError::MapDefinition {
            map: spec.name.clone(),
            reason: "struct_ops is not supported yet".into(),
        });
    }
    let pin = pin_path(spec, options);
    if let Some(path) = &pin
        && let Some(map) = reuse(spec, path)?
    {
        return Ok(map);
    }
    let map = create(spec, btf)?;
    if let Some(data) = &spec.data {
        fill_data(spec, &map, data)?;
    }
    if let Some(path) = pin {
        pin_map(spec, &map, &path)?;
        pins.0.push(path);
    }
    Ok(map)
}

fn create(spec: &MapSpec, btf: Option<&Btf>) -> Result<Map, LoadError> {
    if spec.def.map_type.is_map_in_map() && spec.inner.is_none() {
        return Err(LoadError::MapDefinition {
            map: spec.name.clone(),
            reason: format!("{} without a definition of its inner maps", spec.def.map_type),
        });
    }
    // The template only gives the shape: it is closed when the outer map exists.
    let inner = spec.inner.as_deref().map(|inner| create(inner, None)).transpose()?;
    let id = |t: Option<skep_btf::TypeId>| t.map_or(0, |t| t.0);
    let map_btf = btf.map(|btf| MapBtf {
        btf: btf.as_fd(),
        key: id(spec.key_type),
        value: id(spec.value_type),
    });
    Map::create(&spec.name, spec.def, inner.as_ref(), map_btf).map_err(map_failed)
}

fn map_failed(e: MapError) -> LoadError {
    LoadError::Map { map: e.map, source: e.source }
}

/// Stores the initial value of global data, and freezes what the program may not change.
fn fill_data(spec: &MapSpec, map: &Map, data: &[u8]) -> Result<(), LoadError> {
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

/// What must agree for a pinned map to be reused, as text for the error too.
fn shape(def: &MapDef) -> String {
    let MapDef { map_type, key_size, value_size, max_entries, flags, extra, .. } =
        crate::map::adjusted(*def);
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
    maps: &[Arc<Map>],
    programs: &[Option<Arc<Program>>],
) -> Result<(), LoadError> {
    for (map_spec, map) in spec.maps.iter().zip(maps) {
        for entry in &map_spec.initial {
            let key = entry.index.to_ne_bytes();
            let missing = |what| LoadError::MapDefinition {
                map: map_spec.name.clone(),
                reason: format!("entry {} names {what} that is not in the object", entry.index),
            };
            let fd = match entry.value {
                InitialValue::Map(index) => {
                    maps.get(index).ok_or_else(|| missing("a map"))?.as_fd()
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
