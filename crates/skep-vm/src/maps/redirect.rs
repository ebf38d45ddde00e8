//! Where `bpf_redirect_map` may send packets: devmap, devmap_hash, cpumap, xskmap.
//!
//! The embedded engine has no devices: it keeps the values, and a program's redirect is a verdict
//! that names one. An entry of an array whose value starts with a zero word (interface 0, queue of
//! size 0) is not there. Programs read only.

use std::ptr::NonNull;

use skep_abi::{MapDef, MapType};

use super::{
    MapError, Span,
    array::Array,
    flag,
    hash::{Hash, Values},
    index,
    storage::Storage,
};

/// Targets by index, or by number in the hash of devices.
#[derive(Debug)]
pub(super) enum Redirect {
    Array { array: Array, value_size: usize, map_type: MapType },
    Hash(Hash),
}

impl Redirect {
    pub(super) fn new(def: &MapDef) -> Result<Self, MapError> {
        Ok(if def.map_type == MapType::DEVMAP_HASH {
            Self::Hash(Hash::new(def, 1)?)
        } else {
            let (value_size, map_type) = (def.value_size as usize, def.map_type);
            Self::Array { array: Array::new(def, 1)?, value_size, map_type }
        })
    }

    pub(super) const fn storage(&self) -> &Storage {
        match self {
            Self::Array { array, .. } => array.storage(),
            Self::Hash(hash) => hash.storage(),
        }
    }

    pub(super) fn lookup(&self, key: &[u8], out: &mut [u8]) -> Result<(), MapError> {
        match self {
            Self::Array { array, .. } => {
                array.lookup(index(key)?, out)?;
                if out.first_chunk() == Some(&[0; 4]) { Err(MapError::NoEntry) } else { Ok(()) }
            }
            Self::Hash(hash) => hash.lookup(key, out),
        }
    }

    pub(super) fn lookup_ptr(&self, key: &[u8]) -> Option<NonNull<u8>> {
        match self {
            Self::Array { array, value_size, .. } => {
                let mut value = [0; 8];
                self.lookup(key, value.get_mut(..*value_size)?).ok()?;
                array.lookup_ptr(index(key).ok()?, 0)
            }
            Self::Hash(hash) => hash.lookup_ptr(key, 0),
        }
    }

    pub(super) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        match self {
            Self::Array { array, .. } => array.update(index(key)?, value, flags),
            // The kernel does not ask here whether the entry is there.
            Self::Hash(hash) => {
                let flags = if flags == flag::EXIST { 0 } else { flags };
                hash.update(key, Values::All(value), flags)
            }
        }
    }

    pub(super) fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        match self {
            Self::Array { array, value_size, map_type } => {
                let nothing = [0; 8];
                let nothing = nothing.get(..*value_size).unwrap_or(&nothing);
                let past_end = MapError::Unsupported {
                    map_type: *map_type,
                    operation: "deletion past the end",
                    errno: libc::EINVAL,
                };
                array.update(index(key)?, nothing, 0).map_err(|_| past_end)
            }
            Self::Hash(hash) => hash.delete(key),
        }
    }

    pub(super) fn value_span(&self, addr: usize) -> Option<Span> {
        match self {
            Self::Array { array, .. } => array.value_span(addr, false),
            Self::Hash(hash) => hash.value_span(addr, false),
        }
    }
}
