//! Maps: from `.maps`, from legacy `maps` sections, from sections of variables.

mod btf;
mod data;
mod legacy;

pub(crate) use btf::{btf_maps, initial_values};
pub(crate) use data::data_maps;
pub(crate) use legacy::{fill_prog_arrays, legacy_maps};

use crate::spec::MapSpec;

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
