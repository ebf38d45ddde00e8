//! A live object: its programs and maps.

use std::{path::PathBuf, sync::Arc};

use skep_abi::UpdateMode;
use skep_object::ObjectSpec;

use crate::{
    Engine, Map, MapError, NoSuch, Object, Plain, Program, map, object::ChangeError, program,
};

/// Why an object cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The kernel refused a map or a program.
    #[error(transparent)]
    Kernel(#[from] skep_kernel::LoadError),
}

/// A live object. Dropping it closes its programs and maps; what is pinned stays.
#[derive(Debug)]
pub struct Loaded {
    engine: Engine,
    spec: ObjectSpec,
    programs: Vec<Program>,
    maps: Vec<Map>,
    notices: Vec<String>,
    live: Live,
}

#[derive(Debug)]
pub(crate) enum Live {
    Kernel(skep_kernel::Object),
}

impl Object {
    /// Makes the maps and loads the programs.
    ///
    /// # Errors
    ///
    /// [`LoadError`] says which map or program the engine refused, and why.
    pub fn load(self, engine: &Engine) -> Result<Loaded, LoadError> {
        let options = skep_kernel::LoadOptions {
            programs: None,
            log_level: 0,
            pin_root: Some(self.pin_root.clone().unwrap_or_else(|| PathBuf::from("/sys/fs/bpf"))),
        };
        let spec = self.into_spec();
        let live = skep_kernel::Object::load_spec(&spec, &options)?;
        let section = |name: &str| spec.programs.iter().find(|p| p.name == name);
        let programs = live.programs().iter().map(|p| Program {
            section: section(p.name()).map_or(String::new(), |s| s.section.clone()),
            prog_type: p.prog_type(),
            live: program::Live::Kernel(Arc::clone(p)),
        });
        let programs = programs.collect();
        let maps = live.maps().iter().zip(&spec.maps).map(|(m, s)| Map {
            live: map::Live::Kernel(Arc::clone(m)),
            key_type: s.key_type,
            value_type: s.value_type,
        });
        let maps = maps.collect();
        let notices = live.notices().to_vec();
        Ok(Loaded {
            engine: engine.clone(),
            spec,
            programs,
            maps,
            notices,
            live: Live::Kernel(live),
        })
    }
}

impl Loaded {
    /// The engine it lives on.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What was loaded.
    pub const fn spec(&self) -> &ObjectSpec {
        &self.spec
    }

    /// What the engine did differently from what the object asks for, one sentence each.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The loaded programs, in file order.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// A loaded program.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] with the names that are near.
    pub fn program(&self, name: &str) -> Result<&Program, NoSuch> {
        let found = self.programs.iter().find(|p| p.name() == name);
        found.ok_or_else(|| {
            NoSuch::new("loaded program", name, self.programs.iter().map(Program::name))
        })
    }

    /// All maps, in the order of [`ObjectSpec::maps`].
    pub fn maps(&self) -> &[Map] {
        &self.maps
    }

    /// A map, by its name in the file.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] with the names that are near.
    pub fn map(&self, name: &str) -> Result<&Map, NoSuch> {
        let names = || self.spec.maps.iter().map(|m| m.name.as_str());
        let found = self.maps.iter().zip(names()).find(|(_, n)| *n == name);
        found.map(|(map, _)| map).ok_or_else(|| NoSuch::new("map", name, names()))
    }

    /// The present value of a variable of `.data`, `.rodata` or `.bss`.
    ///
    /// # Errors
    ///
    /// [`VariableError`] when there is no such variable, its size is another, or the map cannot be
    /// read.
    pub fn variable<T: Plain>(&self, name: &str) -> Result<T, VariableError> {
        let (map, offset, want) = self.place(name)?;
        let whole = map.lookup(&0u32.to_ne_bytes())?.unwrap_or_default();
        let bytes = whole.get(offset..).and_then(|b| b.get(..want)).unwrap_or(&[]);
        let wrong = || ChangeError::Size { name: name.into(), want, got: T::SIZE };
        Ok(T::from_bytes(bytes).ok_or_else(wrong)?)
    }

    /// Changes a variable while programs run. The whole section is read and written back: what a
    /// program changes in it meanwhile may be lost.
    ///
    /// # Errors
    ///
    /// As [`Loaded::variable`]; `.rodata` is frozen and refuses.
    pub fn set_variable<T: Plain>(&self, name: &str, value: T) -> Result<(), VariableError> {
        let (map, offset, want) = self.place(name)?;
        let bytes = value.to_bytes();
        if bytes.len() != want {
            let name = name.into();
            return Err(ChangeError::Size { name, want, got: bytes.len() }.into());
        }
        let key = 0u32.to_ne_bytes();
        let mut whole = map.lookup(&key)?.unwrap_or_default();
        if let Some(place) = whole.get_mut(offset..).and_then(|w| w.get_mut(..want)) {
            place.copy_from_slice(&bytes);
        }
        Ok(map.update(&key, &whole, UpdateMode::Any)?)
    }

    fn place(&self, name: &str) -> Result<(&Map, usize, usize), NoSuch> {
        let all = || {
            self.maps
                .iter()
                .zip(&self.spec.maps)
                .flat_map(|(map, spec)| spec.variables.iter().map(move |v| (map, v)))
        };
        all()
            .find(|(_, v)| v.name == name)
            .map(|(map, v)| (map, v.offset as usize, v.size as usize))
            .ok_or_else(|| NoSuch::new("variable", name, all().map(|(_, v)| v.name.as_str())))
    }
}

/// Why a variable of a live object cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VariableError {
    /// There is none of this name, or its size is another.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The map it lies in refused.
    #[error(transparent)]
    Map(#[from] MapError),
}

impl From<NoSuch> for VariableError {
    fn from(e: NoSuch) -> Self {
        Self::Change(e.into())
    }
}
