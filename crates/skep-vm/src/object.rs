//! From a resolved object to live maps and programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_abi::{MapDef, ProgType};
use skep_isa::Pc;
use skep_object::Resolved;
use skep_object::spec::{
    InitialValue, MapOrigin, MapSpec, ObjectSpec, ProgramSpec, Reloc, RelocTarget,
};

use crate::error::LowerError;
use crate::lower::Binding;
use crate::maps::{Map, MapError, possible_cpus};
use crate::mem::MAP_BASE;
use crate::program::{Parts, Program, Settings};

/// How an object is loaded.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// What all its programs have in common.
    pub settings: Settings,
    /// Load these programs, by name, whatever the object says; `None` loads those without `?` in
    /// their section name.
    pub programs: Option<Vec<String>>,
    /// CPUs that per-CPU values are kept for; runs use CPU numbers below.
    pub ncpus: u32,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { settings: Settings::default(), programs: None, ncpus: possible_cpus() }
    }
}

/// Why an object cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A map that a program uses cannot be made.
    #[error("map {map}")]
    Map {
        /// Its name.
        map: String,
        /// Why.
        #[source]
        source: MapError,
    },
    /// The initial contents of a map do not go in.
    #[error("initial contents of map {map}")]
    Contents {
        /// Its name.
        map: String,
        /// Why.
        #[source]
        source: MapError,
    },
    /// A map starts with a program or map that is not loaded.
    #[error("entry {index} of map {map} names a {what} that is not loaded")]
    NotLoaded {
        /// The map's name.
        map: String,
        /// Index in it.
        index: u32,
        /// "program" or "map".
        what: &'static str,
    },
    /// No rule says what kind of program this is.
    #[error("program {program}: section {section} names no program type")]
    NoType {
        /// Its name.
        program: String,
        /// Its section.
        section: String,
    },
    /// The program needs a variable of the kernel.
    #[error("program {program}: {at}: {name}, a kernel symbol, is not in the embedded engine")]
    Extern {
        /// The program's name.
        program: String,
        /// The reference.
        at: Pc,
        /// Name of the symbol.
        name: String,
    },
    /// A reference that points nowhere: the spec is inconsistent.
    #[error("program {program}: {at}: the reference points to no map or symbol of the object")]
    Dangling {
        /// The program's name.
        program: String,
        /// The reference.
        at: Pc,
    },
    /// A program is malformed or asks for something the engine does not have.
    #[error(transparent)]
    Lower(#[from] LowerError),
}

/// A loaded object: its maps and programs, alive.
#[derive(Debug)]
pub struct Object {
    maps: Vec<Arc<Map>>,
    programs: Vec<Arc<Program>>,
}

impl Object {
    /// Makes the maps and programs of an object. Programs that do not load by themselves are left
    /// out.
    ///
    /// # Errors
    ///
    /// [`LoadError`]. Maps that the engine cannot make are an error only when a program uses them.
    pub fn load(object: &Resolved, options: &LoadOptions) -> Result<Self, LoadError> {
        Self::load_spec(object.spec(), options)
    }

    /// As [`Object::load`], for an object that needs no resolving: CO-RE relocations and
    /// `__kconfig` externs that are still open stay as the compiler left them.
    ///
    /// # Errors
    ///
    /// As [`Object::load`].
    pub fn load_spec(spec: &ObjectSpec, options: &LoadOptions) -> Result<Self, LoadError> {
        let maps = Maps::create(spec, options)?;
        let settings = Arc::new(options.settings.clone());
        let mut programs = Vec::new();
        for program in &spec.programs {
            let wanted = match &options.programs {
                Some(names) => names.contains(&program.name),
                None => program.autoload,
            };
            let live =
                if wanted { Some(load_program(spec, program, &maps, &settings)?) } else { None };
            programs.push(live);
        }
        maps.fill(spec, &programs)?;
        Ok(Self {
            maps: maps.table.iter().cloned().collect(),
            programs: programs.into_iter().flatten().collect(),
        })
    }

    /// The map of this name.
    pub fn map(&self, name: &str) -> Option<&Arc<Map>> {
        self.maps.iter().find(|m| m.name() == name)
    }

    /// All maps, in the object's order.
    pub fn maps(&self) -> &[Arc<Map>] {
        &self.maps
    }

    /// The program of this name.
    pub fn program(&self, name: &str) -> Option<&Arc<Program>> {
        self.programs.iter().find(|p| p.name() == name)
    }

    /// All programs, in the object's order.
    pub fn programs(&self) -> &[Arc<Program>] {
        &self.programs
    }
}

/// The live maps, and what became of each map of the spec.
#[derive(Debug)]
struct Maps {
    /// What programs hold: handles are positions in here.
    table: Arc<[Arc<Map>]>,
    /// For each map of the spec its position, or why there is none.
    position: Vec<Result<usize, MapError>>,
}

impl Maps {
    fn create(spec: &ObjectSpec, options: &LoadOptions) -> Result<Self, LoadError> {
        let mut table = Vec::new();
        let mut position = Vec::new();
        for map in &spec.maps {
            position.push(create_map(map, options).map(|live| {
                table.push(live);
                table.len() - 1
            }));
        }
        let maps = Self { table: table.into(), position };
        for (index, map) in spec.maps.iter().enumerate() {
            if let (Some(live), Some(data)) = (maps.get(index), &map.data) {
                let failed = |source| LoadError::Contents { map: map.name.clone(), source };
                let mut value = data.clone();
                value.resize(live.value_bytes(), 0);
                live.update(&0_u32.to_ne_bytes(), &value, Default::default()).map_err(failed)?;
                if matches!(map.origin, MapOrigin::Rodata | MapOrigin::Kconfig) {
                    live.freeze().map_err(failed)?;
                }
            }
        }
        Ok(maps)
    }

    fn get(&self, index: usize) -> Option<&Arc<Map>> {
        self.table.get(*self.position.get(index)?.as_ref().ok()?)
    }

    /// Initial entries that are maps or programs.
    fn fill(&self, spec: &ObjectSpec, programs: &[Option<Arc<Program>>]) -> Result<(), LoadError> {
        for (index, map) in spec.maps.iter().enumerate() {
            let Some(live) = self.get(index) else { continue };
            for entry in &map.initial {
                let missing =
                    |what| LoadError::NotLoaded { map: map.name.clone(), index: entry.index, what };
                let done = match entry.value {
                    InitialValue::Map(inner) => {
                        let inner = self.get(inner).ok_or_else(|| missing("map"))?;
                        live.update_map(&entry.index.to_ne_bytes(), inner)
                    }
                    InitialValue::Program(program) => {
                        let program = programs.get(program).and_then(Option::as_ref);
                        let program = program.ok_or_else(|| missing("program"))?;
                        live.set_program(entry.index, program)
                    }
                };
                done.map_err(|source| LoadError::Contents { map: map.name.clone(), source })?;
            }
        }
        Ok(())
    }

    /// What a reference of a program stands for.
    fn bind(
        &self,
        spec: &ObjectSpec,
        program: &ProgramSpec,
        reloc: &Reloc,
    ) -> Result<Binding, LoadError> {
        let at = reloc.at;
        let dangling = || LoadError::Dangling { program: program.name.clone(), at };
        let position = |index: usize| match self.position.get(index) {
            Some(Ok(position)) => Ok(*position),
            Some(Err(source)) => {
                let map = spec.maps.get(index).map_or_else(String::new, |m| m.name.clone());
                Err(LoadError::Map { map, source: *source })
            }
            None => Err(dangling()),
        };
        let symbol = |index: usize| spec.externs.get(index).map(|e| &e.name).ok_or_else(dangling);
        match reloc.target {
            RelocTarget::Map(map) => Ok(Binding::Value(MAP_BASE + position(map)? as u64)),
            RelocTarget::MapValue { map, offset } => {
                let live = self.table.get(position(map)?).ok_or_else(dangling)?;
                let value = live.lookup_ptr(&0_u32.to_ne_bytes(), 0).ok_or_else(dangling)?;
                Ok(Binding::Value((value.addr().get() as u64).wrapping_add(offset.into())))
            }
            RelocTarget::Ksym(index) => Err(LoadError::Extern {
                program: program.name.clone(),
                at,
                name: symbol(index)?.clone(),
            }),
            RelocTarget::Kfunc(index) => {
                Ok(Binding::Missing(format!("kernel function {}", symbol(index)?)))
            }
        }
    }
}

/// What ring buffers' sizes are multiples of, as on the kernels this engine is compared with.
const PAGE_BYTES: u32 = 4096;

fn create_map(spec: &MapSpec, options: &LoadOptions) -> Result<Arc<Map>, MapError> {
    let for_machine = |def: MapDef| def.for_machine(options.ncpus, PAGE_BYTES);
    let def = for_machine(spec.def);
    let inner = spec.inner.as_ref().map(|inner| for_machine(inner.def));
    Map::with_cpus(spec.name.as_str(), def, inner, options.ncpus)
}

fn load_program(
    spec: &ObjectSpec,
    program: &ProgramSpec,
    maps: &Maps,
    settings: &Arc<Settings>,
) -> Result<Arc<Program>, LoadError> {
    let mut bindings = BTreeMap::new();
    for reloc in &program.relocs {
        bindings.insert(reloc.at, maps.bind(spec, program, reloc)?);
    }
    for poison in &program.poisoned {
        bindings.insert(poison.at, Binding::Poison(poison.reason.clone()));
    }
    let parts = Parts {
        name: &program.name,
        section: &program.section,
        prog_type: prog_type(spec, program)?,
        slots: &program.insns,
        bindings,
    };
    Ok(Program::new(parts, Arc::clone(&maps.table), settings)?)
}

/// The program's type. iproute2 names tail-called programs `id/slot`; they have the type of the
/// program that calls them.
fn prog_type(spec: &ObjectSpec, program: &ProgramSpec) -> Result<ProgType, LoadError> {
    let called = |map: &MapSpec| {
        map.initial.iter().any(|entry| match entry.value {
            InitialValue::Program(index) => {
                spec.programs.get(index).is_some_and(|p| std::ptr::eq(p, program))
            }
            InitialValue::Map(_) => false,
        })
    };
    let caller = || {
        let by_slot = spec.maps.iter().any(called);
        spec.programs.iter().filter(|_| by_slot).find_map(|p| p.prog_type)
    };
    program.prog_type.or_else(caller).ok_or_else(|| LoadError::NoType {
        program: program.name.clone(),
        section: program.section.clone(),
    })
}
