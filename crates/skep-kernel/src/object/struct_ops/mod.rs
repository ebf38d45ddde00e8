//! `struct_ops`: what an object's structures of functions become on this kernel.
//!
//! Before anything is loaded, each map that will be made gets its value in the kernel's layout,
//! and each program in it the member it implements. After the programs are loaded, the value gets
//! their descriptors; [`StructOps::attach`] gives it to the kernel.

mod layout;

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, AsRawFd as _},
    sync::Arc,
};

use skep_abi::{MapFlags, ProgType};
use skep_btf::KindTag;
use skep_object::{ObjectSpec, spec::MapSpec};

use self::layout::{Converted, KernelLayout, convert, structure_name};
use super::kernel::KernelTypes;
use crate::{
    error::{LoadError, StructOpsProblem as Problem},
    map::Map,
    program::Program,
    target::ModuleBtf,
};

/// What the maps and programs of `struct_ops` become.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// By index of the map; those that are made.
    pub(super) maps: HashMap<usize, Prepared<'a>>,
    /// By index of the program.
    pub(super) programs: HashMap<usize, Implements<'a>>,
}

/// A map in the kernel's layout.
#[derive(Debug)]
pub(super) struct Prepared<'a> {
    /// Number of the value's type.
    pub(super) value_type: u32,
    /// The module whose types that number counts in.
    pub(super) module: Option<&'a ModuleBtf>,
    value: Converted,
}

impl Prepared<'_> {
    /// Size of the map's value.
    pub(super) fn value_size(&self) -> u32 {
        u32::try_from(self.value.bytes.len()).unwrap_or(u32::MAX)
    }
}

/// Which member of which structure a program implements.
#[derive(Clone, Debug)]
pub(super) struct Implements<'a> {
    /// Number of the structure's type.
    pub(super) structure: u32,
    /// Number of the member.
    pub(super) member: u32,
    name: String,
    pub(super) module: Option<&'a ModuleBtf>,
}

impl<'a> Plan<'a> {
    /// Lays out the maps that `made` chooses.
    pub(super) fn new(
        spec: &ObjectSpec,
        kernel: &'a KernelTypes,
        made: impl Fn(&MapSpec) -> bool,
    ) -> Result<Self, LoadError> {
        let mut plan = Self::default();
        let maps = spec.maps.iter().enumerate();
        for (index, map) in maps.filter(|(_, map)| is_struct_ops(map) && made(map)) {
            plan.add(spec, index, map, kernel)?;
        }
        Ok(plan)
    }

    fn add(
        &mut self,
        spec: &ObjectSpec,
        index: usize,
        map: &MapSpec,
        kernel: &'a KernelTypes,
    ) -> Result<(), LoadError> {
        let wrong = |problem| LoadError::StructOps { map: map.name.clone(), problem };
        let local = spec.btf.as_ref().ok_or_else(|| wrong(Problem::Anonymous))?;
        let name = structure_name(local, map).map_err(wrong)?;
        let no_type = || wrong(Problem::NoType { name: name.to_owned() });
        let value = kernel.find(KindTag::Struct, &format!("bpf_struct_ops_{name}"))?;
        let value = value.ok_or_else(no_type)?;
        let structure = value.btf.find(KindTag::Struct, name).next().ok_or_else(no_type)?;
        let types = KernelLayout { btf: &value.btf, value: value.id, structure };
        let converted = convert(local, map, &types).map_err(wrong)?;
        for slot in &converted.slots {
            let program = spec.programs.get(slot.program);
            let program_name = || program.map_or_else(String::new, |p| p.name.clone());
            if program.and_then(|p| p.prog_type) != Some(ProgType::STRUCT_OPS) {
                let (member, program) = (slot.name.clone(), program_name());
                return Err(wrong(Problem::NotStructOps { member, program }));
            }
            let new = Implements {
                structure: structure.0,
                member: slot.member,
                name: slot.name.clone(),
                module: value.module,
            };
            let known = self.programs.entry(slot.program).or_insert_with(|| new.clone());
            if (known.structure, known.member) != (new.structure, new.member) {
                let (member, other) = (slot.name.clone(), known.name.clone());
                return Err(wrong(Problem::Reused { member, program: program_name(), other }));
            }
        }
        let (value_type, module) = (value.id.0, value.module);
        self.maps.insert(index, Prepared { value_type, module, value: converted });
        Ok(())
    }

    /// Puts the loaded programs into the values.
    pub(super) fn finish(
        self,
        maps: &[Option<Arc<Map>>],
        programs: &[Option<Arc<Program>>],
    ) -> Vec<StructOps> {
        let live = |(index, prepared): (usize, Prepared<'_>)| {
            let map = Arc::clone(maps.get(index)?.as_ref()?);
            let mut value = prepared.value.bytes;
            let mut held = Vec::new();
            for slot in &prepared.value.slots {
                let program = programs.get(slot.program).and_then(Option::as_ref)?;
                held.push(Arc::clone(program));
                let fd = u64::from(program.as_fd().as_raw_fd().cast_unsigned()).to_ne_bytes();
                value.get_mut(slot.offset..)?.first_chunk_mut::<8>().map(|place| *place = fd)?;
            }
            Some((index, StructOps { map, value: value.into(), programs: held.into() }))
        };
        let mut out: Vec<_> = self.maps.into_iter().filter_map(live).collect();
        out.sort_by_key(|&(index, _)| index);
        out.into_iter().map(|(_, ops)| ops).collect()
    }
}

/// Is this a map of `struct_ops`?
pub(super) fn is_struct_ops(map: &MapSpec) -> bool {
    map.def.map_type == skep_abi::MapType::STRUCT_OPS
}

/// A structure of functions, ready to be attached: its programs are loaded.
#[derive(Clone, Debug)]
pub struct StructOps {
    map: Arc<Map>,
    /// In the kernel's layout, with descriptors of programs.
    value: Arc<[u8]>,
    /// What these descriptors are of.
    programs: Arc<[Arc<Program>]>,
}

impl StructOps {
    /// The map's name.
    pub fn name(&self) -> &str {
        self.map.name()
    }

    /// The map that holds it.
    pub fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// Is it attached by a link (`.struct_ops.link`), or by storing its value (`.struct_ops`)?
    pub fn has_link(&self) -> bool {
        self.map.def().flags.contains(MapFlags::LINK)
    }

    /// The programs that it holds, by its members' order in the object.
    pub fn programs(&self) -> &[Arc<Program>] {
        &self.programs
    }

    /// What is stored in the map to attach it.
    pub(crate) fn value(&self) -> &[u8] {
        &self.value
    }
}

#[cfg(test)]
mod tests;
