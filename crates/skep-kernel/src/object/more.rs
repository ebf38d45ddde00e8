//! One more program of an object that is live already.

use std::{os::fd::AsFd as _, sync::Arc};

use skep_abi::MapType;
use skep_object::{ObjectSpec, spec::InitialValue};

use super::{
    LoadOptions, Object,
    kernel::KernelTypes,
    programs::{self, Ground},
    struct_ops::Plan,
};
use crate::{error::LoadError, program::Program};

impl Object {
    /// Loads a program that was left out when the object was loaded, with the object's maps.
    /// `spec` is what the object was loaded from. A program that is loaded already is returned as
    /// it is.
    ///
    /// # Errors
    ///
    /// As for [`Object::load`], about this program; the object is as it was.
    pub fn load_program(
        &mut self,
        spec: &ObjectSpec,
        name: &str,
        options: &LoadOptions,
    ) -> Result<Arc<Program>, LoadError> {
        if let Some(loaded) = self.program(name) {
            return Ok(Arc::clone(loaded));
        }
        let only = LoadOptions { programs: Some(vec![name.to_owned()]), ..options.clone() };
        let kernel = KernelTypes::default();
        // Functions of structures are loaded with the structure, not alone.
        let none = Plan::new(spec, &kernel, |_| false)?;
        let ground = Ground {
            spec,
            maps: &self.maps,
            btf: self.btf.as_ref(),
            kernel: &kernel,
            struct_ops: &none,
            options: &only,
        };
        let loaded = programs::load_all(&ground, self.usdt.as_ref(), &mut self.notices)?;
        let at = |name: &str| spec.programs.iter().position(|program| program.name == name);
        let found = loaded.into_iter().enumerate().find_map(|(index, p)| Some((index, p?)));
        let Some((index, program)) = found else {
            let reason = "it belongs to a structure of functions, and is loaded with that".into();
            return Err(LoadError::Program { program: name.to_owned(), reason });
        };
        self.offer(spec, index, &program)?;
        self.programs.push(Arc::clone(&program));
        // File order, whenever they came.
        self.programs.sort_by_key(|program| at(program.name()));
        Ok(program)
    }

    /// Puts a program where prog arrays of the object have it.
    fn offer(&self, spec: &ObjectSpec, index: usize, program: &Program) -> Result<(), LoadError> {
        let maps = spec.maps.iter().zip(&self.maps);
        let maps = maps.filter_map(|(of, map)| Some((of, map.as_ref()?)));
        for (of, map) in maps.filter(|(of, _)| of.def.map_type == MapType::PROG_ARRAY) {
            let here = of.initial.iter().filter(|e| e.value == InitialValue::Program(index));
            for entry in here {
                map.set_fd(&entry.index.to_ne_bytes(), program.as_fd())
                    .map_err(|e| LoadError::Map { map: e.map, source: e.source })?;
            }
        }
        Ok(())
    }

    /// Closes the object's own hold of a program; links and pins keep it.
    pub fn unload_program(&mut self, name: &str) {
        self.programs.retain(|program| program.name() != name);
    }
}
