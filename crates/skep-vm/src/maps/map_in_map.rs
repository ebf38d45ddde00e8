//! Arrays and hashes of maps.
//!
//! Like prog arrays these hold references of this process; a hash of maps lists its keys in byte
//! order.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use skep_abi::{MapDef, MapFlags, MapType};

use super::{Map, MapError, array::next_index, error::ENOTSUPP, flag};

type Inner = BTreeMap<Box<[u8]>, Arc<Map>>;

/// Maps by key.
#[derive(Debug)]
pub(super) struct MapInMap {
    array: bool,
    max_entries: u32,
    shape: MapDef,
    maps: RwLock<Inner>,
}

/// Types that the kernel does not take as inner maps.
const NEVER_INNER: &[(MapType, i32)] = &[
    (MapType::ARRAY_OF_MAPS, libc::EINVAL),
    (MapType::HASH_OF_MAPS, libc::EINVAL),
    (MapType::PROG_ARRAY, ENOTSUPP),
];

impl MapInMap {
    pub(super) fn new(def: &MapDef, inner: Option<MapDef>) -> Result<Self, MapError> {
        let bad = |found, errno| MapError::Definition {
            map_type: def.map_type,
            field: "inner map",
            found,
            expected: "a map that may be one".into(),
            errno,
        };
        let shape = inner.ok_or_else(|| bad(0, libc::EBADF))?;
        if let Some((t, errno)) = NEVER_INNER.iter().find(|(t, _)| *t == shape.map_type) {
            return Err(bad(t.0.into(), *errno));
        }
        let array = def.map_type == MapType::ARRAY_OF_MAPS;
        Ok(Self { array, max_entries: def.max_entries, shape, maps: RwLock::default() })
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.maps.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks an array's index; every key is good for a hash.
    fn check(&self, key: &[u8]) -> Result<(), MapError> {
        let (max_entries, index) = (self.max_entries, index(key));
        if self.array && index >= max_entries {
            return Err(MapError::Index { index, max_entries });
        }
        Ok(())
    }

    pub(super) fn lookup(&self, key: &[u8]) -> Option<Arc<Map>> {
        self.read().get(key).map(Arc::clone)
    }

    pub(super) fn update(&self, key: &[u8], map: &Arc<Map>, flags: u64) -> Result<(), MapError> {
        if flags > flag::EXIST || (self.array && flags != 0) {
            return Err(MapError::Flags { flags });
        }
        self.check(key)?;
        self.same_shape(map.def())?;
        let mut maps = self.write();
        let there = maps.contains_key(key);
        let max_entries = self.max_entries;
        match flags {
            flag::NOEXIST if there => return Err(MapError::Exists),
            flag::EXIST if !there => return Err(MapError::NoEntry),
            _ if !there && maps.len() >= max_entries as usize => {
                return Err(MapError::Full { max_entries, errno: libc::E2BIG });
            }
            _ => maps.insert(key.into(), Arc::clone(map)),
        };
        Ok(())
    }

    /// What the kernel asks: all but the size, and for arrays the size too unless they say
    /// otherwise.
    fn same_shape(&self, def: &MapDef) -> Result<(), MapError> {
        let any_size =
            self.shape.map_type != MapType::ARRAY || self.shape.flags.contains(MapFlags::INNER_MAP);
        let entries = if any_size { def.max_entries } else { self.shape.max_entries };
        let fields = [
            ("map_type", def.map_type.0, self.shape.map_type.0),
            ("key_size", def.key_size, self.shape.key_size),
            ("value_size", def.value_size, self.shape.value_size),
            ("map_flags", def.flags.0, self.shape.flags.0),
            ("max_entries", def.max_entries, entries),
        ];
        match fields.into_iter().find(|(_, found, expected)| found != expected) {
            Some((field, found, expected)) => {
                Err(MapError::InnerMap { field, found: found.into(), expected: expected.into() })
            }
            None => Ok(()),
        }
    }

    pub(super) fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.check(key)?;
        self.write().remove(key).map(drop).ok_or(MapError::NoEntry)
    }

    pub(super) fn next_key(&self, key: Option<&[u8]>, out: &mut [u8]) -> Result<(), MapError> {
        if self.array {
            let next = next_index(key.map(index), self.max_entries)?;
            out.copy_from_slice(&next.to_ne_bytes());
            return Ok(());
        }
        let maps = self.read();
        let after = key.filter(|k| maps.contains_key(*k)).map_or(Unbounded, Excluded);
        let (next, _) =
            maps.range::<[u8], _>((after, Unbounded)).next().ok_or(MapError::NoEntry)?;
        out.copy_from_slice(next);
        Ok(())
    }
}

/// Keys of arrays are 4 bytes, which the caller has checked.
fn index(key: &[u8]) -> u32 {
    key.first_chunk().map_or(u32::MAX, |k| u32::from_ne_bytes(*k))
}
