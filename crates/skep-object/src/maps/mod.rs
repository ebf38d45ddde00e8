//! Maps: from `.maps`, from legacy `maps` sections, from sections of variables.

mod btf;
mod data;
mod legacy;
mod struct_ops;

use std::collections::HashMap;

pub(crate) use btf::{btf_maps, initial_values, map_of_type};
pub(crate) use data::{arena_data, data_maps};
pub(crate) use legacy::{fill_prog_arrays, is_legacy, legacy_maps};
pub(crate) use struct_ops::struct_ops_maps;

use crate::functions::{FuncIndex, Functions};
use crate::spec::{InitialValue, MapSpec};

/// Section of BTF-defined maps.
pub(crate) const BTF_MAPS: &str = ".maps";
/// Section of legacy maps.
pub(crate) const LEGACY_MAPS: &str = "maps";

/// A map and where its definition is.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) map: MapSpec,
    /// Index of the section.
    pub(crate) section: usize,
    /// Offset in the section.
    pub(crate) offset: u64,
    /// Bytes of the definition.
    pub(crate) size: u64,
    /// Where the field `values` starts within the definition.
    pub(crate) values: Option<u64>,
}

/// Entry programs, found by where they start.
#[derive(Debug)]
pub(crate) struct Programs<'a, 'd> {
    functions: &'a Functions<'d>,
    /// Index into the object's programs.
    numbers: HashMap<FuncIndex, usize>,
}

impl<'a, 'd> Programs<'a, 'd> {
    pub(crate) fn new(functions: &'a Functions<'d>) -> Self {
        let entries = functions.entries().enumerate();
        Self { functions, numbers: entries.map(|(n, (index, _))| (index, n)).collect() }
    }

    /// The program at an offset of a section.
    fn at(&self, section: usize, offset: u64) -> Option<InitialValue> {
        let slot = i64::try_from(offset / 8).ok().filter(|_| offset.is_multiple_of(8))?;
        let function = self.functions.at(section, slot)?;
        self.numbers.get(&function).copied().map(InitialValue::Program)
    }
}
