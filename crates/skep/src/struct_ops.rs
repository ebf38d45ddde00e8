//! `struct_ops`: structures of functions that the kernel calls.

use std::sync::Arc;

use skep_object::{
    ObjectSpec,
    spec::{InitialEntry, InitialValue, MapOrigin},
};

use crate::{AttachError, ChangeError, Link, NoSuch, Object, place};

/// A live structure of functions: a TCP congestion control, a scheduler. Clones are the same.
#[derive(Clone, Debug)]
pub struct StructOps {
    pub(crate) live: Arc<skep_kernel::StructOps>,
}

impl StructOps {
    /// Its variable in the object.
    pub fn name(&self) -> &str {
        self.live.name()
    }

    /// Is it attached by a link (`SEC(".struct_ops.link")`)? One that is not (`SEC(".struct_ops")`)
    /// stays registered when this process is killed.
    pub fn has_link(&self) -> bool {
        self.live.has_link()
    }

    /// Gives it to the kernel, which calls its programs from now on.
    ///
    /// # Errors
    ///
    /// [`AttachError`] when the kernel finds it incomplete, or something has its name or place.
    pub fn attach(&self) -> Result<Link, AttachError> {
        Ok(Link { live: self.live.attach()? })
    }
}

impl Link {
    /// Replaces the structure that the link has attached by another, without a moment in between.
    ///
    /// # Errors
    ///
    /// [`AttachError`] when the link is of something else, or the kernel does not take `new` in its
    /// place: for congestion control, one of another name.
    pub fn update_struct_ops(&self, new: &StructOps) -> Result<(), AttachError> {
        Ok(self.live.update_struct_ops(&new.live)?)
    }
}

impl Object {
    /// Whether a map is made at the load: those of `SEC("?.struct_ops")` are not, unless told so.
    /// Programs of `struct_ops` are loaded when a map that holds them is made.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] with the names that are near.
    pub fn create_map(&mut self, name: &str, create: bool) -> Result<&mut Self, NoSuch> {
        self.map(name)?;
        let named = self.spec_mut().maps.iter_mut().filter(|m| m.name == name);
        named.for_each(|map| map.autocreate = create);
        Ok(self)
    }

    /// Puts a program into a function pointer of a `struct_ops` structure, named as `map.member`;
    /// `None` leaves the function out.
    ///
    /// Members that hold numbers and text are set as variables are: [`Object::set_variable`].
    ///
    /// # Errors
    ///
    /// [`ChangeError`] when there is no such member or program.
    pub fn set_function(
        &mut self,
        path: &str,
        program: Option<&str>,
    ) -> Result<&mut Self, ChangeError> {
        let place = place::find(self.spec(), path)?;
        let all = &self.spec().programs;
        let find = |name: &str| {
            let names = all.iter().map(|program| program.name.as_str());
            let found = all.iter().position(|program| program.name == name);
            found.ok_or_else(|| NoSuch::new("program", name, names))
        };
        let program = program.map(find).transpose()?;
        let spec = self.spec_mut();
        let wanted = spec.maps.get_mut(place.map).filter(|m| m.origin == MapOrigin::StructOps);
        let map = wanted.ok_or_else(|| ChangeError::NoFunction { name: path.into() })?;
        let index = u32::try_from(place.offset).unwrap_or(u32::MAX);
        let before = map.initial.extract_if(.., |entry| entry.index == index).next();
        if let Some(program) = program {
            map.initial.push(InitialEntry { index, value: InitialValue::Program(program) });
            map.initial.sort_by_key(|entry| entry.index);
        }
        if let Some(InitialValue::Program(before)) = before.map(|entry| entry.value) {
            forget_unused(spec, before);
        }
        Ok(self)
    }
}

/// A program that no structure holds any more has no function to implement: it is not loaded.
fn forget_unused(spec: &mut ObjectSpec, program: usize) {
    let mut entries = spec.maps.iter().flat_map(|map| &map.initial);
    if !entries.any(|entry| entry.value == InitialValue::Program(program))
        && let Some(program) = spec.programs.get_mut(program)
    {
        program.autoload = false;
    }
}
