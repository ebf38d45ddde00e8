//! Where `bpf_redirect_map` may send packets: devmap, cpumap, xskmap.
//!
//! The embedded engine has no devices: it keeps the values, and a program's redirect is a verdict
//! that names one. An entry whose value starts with a zero word (interface 0, queue of size 0) is
//! not there. The hash of devices is a plain hash.

use std::ptr::NonNull;

use skep_abi::{MapDef, MapType};

use super::{MapError, Span, array::Array, storage::Storage};

/// Targets by index.
#[derive(Debug)]
pub(super) struct Redirect {
    array: Array,
    map_type: MapType,
    max_entries: u32,
    value_size: usize,
}

impl Redirect {
    pub(super) fn new(def: &MapDef) -> Result<Self, MapError> {
        Ok(Self {
            array: Array::new(def, 1)?,
            map_type: def.map_type,
            max_entries: def.max_entries,
            value_size: def.value_size as usize,
        })
    }

    pub(super) const fn storage(&self) -> &Storage {
        self.array.storage()
    }

    pub(super) fn lookup(&self, index: u32, out: &mut [u8]) -> Result<(), MapError> {
        self.array.lookup(index, out)?;
        if out.first_chunk() == Some(&[0; 4]) { Err(MapError::NoEntry) } else { Ok(()) }
    }

    pub(super) fn lookup_ptr(&self, index: u32) -> Option<NonNull<u8>> {
        let mut value = [0; 8];
        self.lookup(index, value.get_mut(..self.value_size)?).ok()?;
        self.array.lookup_ptr(index, 0)
    }

    pub(super) fn update(&self, index: u32, value: &[u8], flags: u64) -> Result<(), MapError> {
        self.array.update(index, value, flags)
    }

    pub(super) fn delete(&self, index: u32) -> Result<(), MapError> {
        if index >= self.max_entries {
            return Err(MapError::Unsupported {
                map_type: self.map_type,
                operation: "entries past the end to delete",
                errno: libc::EINVAL,
            });
        }
        let nothing = [0; 8];
        self.array.update(index, nothing.get(..self.value_size).unwrap_or(&nothing), 0)
    }

    pub(super) fn value_span(&self, addr: usize) -> Option<Span> {
        self.array.value_span(addr, false)
    }
}
