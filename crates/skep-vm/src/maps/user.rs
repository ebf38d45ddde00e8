//! The side of user space, as `bpf(2)` shows it.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use skep_abi::{MapFlags, UpdateMode};

use super::{
    ENOTSUPP, Kind, Map, MapError, Redirect, array::next_index, flag, hash::Values, index, storage,
};

impl Map {
    /// Bytes of a value as user space sees it: of all CPUs together for per-CPU maps.
    pub const fn value_bytes(&self) -> usize {
        let one = self.def.value_size as usize;
        if self.def.map_type.is_percpu() { storage::round8(one) * self.ncpus as usize } else { one }
    }

    /// Copies the value of `key` out; `out` is [`Map::value_bytes`] long. Inner maps show as their
    /// [`Map::id`].
    ///
    /// # Errors
    ///
    /// [`MapError::NoEntry`]; sizes; rights.
    pub fn lookup(&self, key: &[u8], out: &mut [u8]) -> Result<(), MapError> {
        self.user_may_read()?;
        self.check_key(key)?;
        self.check_value(out.len())?;
        match &self.kind {
            Kind::Array(m) => m.lookup(index(key)?, out),
            Kind::Hash(m) => m.lookup(key, out),
            Kind::Lpm(m) => m.lookup(key, out),
            Kind::Queue(m) => m.peek(out),
            Kind::Bloom(m) => m.peek(out),
            Kind::Redirect(m) => m.lookup(key, out),
            Kind::Maps(m) => {
                let inner = m.lookup(key).ok_or(MapError::NoEntry)?;
                out.copy_from_slice(&inner.id.to_ne_bytes());
                Ok(())
            }
            Kind::Programs(m) if !m.has(index(key)?) => Err(MapError::NoEntry),
            Kind::Ring(_) | Kind::Perf(_) | Kind::Programs(_) => {
                Err(self.unsupported("values to look up", ENOTSUPP))
            }
        }
    }

    /// As [`Map::lookup`], into a new vector.
    ///
    /// # Errors
    ///
    /// As [`Map::lookup`].
    pub fn lookup_vec(&self, key: &[u8]) -> Result<Vec<u8>, MapError> {
        let mut out = vec![0; self.value_bytes()];
        self.lookup(key, &mut out)?;
        Ok(out)
    }

    /// Creates or replaces the value of `key`.
    ///
    /// # Errors
    ///
    /// [`MapError::Exists`], [`MapError::NoEntry`], [`MapError::Full`], [`MapError::Index`]; sizes;
    /// rights.
    pub fn update(&self, key: &[u8], value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        self.update_flags(key, value, mode.flags())
    }

    /// As [`Map::update`], with the flags as `bpf(2)` takes them.
    ///
    /// # Errors
    ///
    /// As [`Map::update`], and [`MapError::Flags`].
    pub fn update_flags(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        self.user_may_write()?;
        if flags & flag::LOCK != 0 {
            return Err(MapError::Flags { flags }); // no value here has a spin lock
        }
        self.check_key(key)?;
        self.check_value(value.len())?;
        match &self.kind {
            Kind::Array(m) => m.update(index(key)?, value, flags),
            Kind::Hash(m) => m.update(key, Values::All(value), flags),
            Kind::Lpm(m) => m.update(key, value, flags),
            Kind::Queue(m) => m.push(value, flags),
            Kind::Bloom(m) => m.push(value, flags),
            Kind::Redirect(m) => m.update(key, value, flags),
            Kind::Ring(_) => Err(self.unsupported("values to update", ENOTSUPP)),
            Kind::Perf(_) | Kind::Programs(_) | Kind::Maps(_) => {
                Err(self.unsupported("values made of bytes", libc::EINVAL))
            }
        }
    }

    /// Changes the bytes at `offset` of an array's value. Its other bytes stay as programs change
    /// them meanwhile; up to 8 bytes that do not cross a multiple of 8 change at once.
    ///
    /// # Errors
    ///
    /// [`MapError::Index`]; [`MapError::ValueSize`] when the value ends before; rights;
    /// [`MapError::Unsupported`] for other types than arrays without per-CPU values.
    pub fn update_part(&self, index: u32, offset: usize, bytes: &[u8]) -> Result<(), MapError> {
        self.user_may_write()?;
        match &self.kind {
            Kind::Array(m) if !self.def.map_type.is_percpu() => m.patch(index, offset, bytes),
            _ => Err(self.unsupported("values to change in part", libc::EINVAL)),
        }
    }

    /// Removes `key`.
    ///
    /// # Errors
    ///
    /// [`MapError::NoEntry`]; [`MapError::Unsupported`] for arrays; sizes; rights.
    pub fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.user_may_write()?;
        self.check_key(key)?;
        self.remove(key)
    }

    /// The key after `key` in the map's own order; the first one without `key` and when `key` is
    /// not there.
    ///
    /// # Errors
    ///
    /// [`MapError::NoEntry`] at the end; sizes; rights.
    pub fn next_key(&self, key: Option<&[u8]>, out: &mut [u8]) -> Result<(), MapError> {
        self.user_may_read()?;
        key.map_or(Ok(()), |k| self.check_key(k))?;
        self.check_key(out)?;
        match &self.kind {
            Kind::Hash(m) | Kind::Redirect(Redirect::Hash(m)) => m.next_key(key, out),
            Kind::Lpm(m) => m.next_key(key, out),
            Kind::Maps(m) => m.next_key(key, out),
            Kind::Array(_) | Kind::Perf(_) | Kind::Programs(_) | Kind::Redirect(_) => {
                let next = next_index(key.map(index).transpose()?, self.def.max_entries)?;
                out.copy_from_slice(&next.to_ne_bytes());
                Ok(())
            }
            Kind::Queue(_) => Err(self.unsupported("keys", libc::EINVAL)),
            Kind::Bloom(_) => Err(self.unsupported("keys", libc::EOPNOTSUPP)),
            Kind::Ring(_) => Err(self.unsupported("keys", ENOTSUPP)),
        }
    }

    /// All keys, in the map's own order. Entries that come or go meanwhile may be missed, and keys
    /// may come twice; at most twice as many as the map may hold.
    ///
    /// # Errors
    ///
    /// Where [`Map::next_key`] is not supported or not allowed.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>, MapError> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let limit = (self.def.max_entries as usize).saturating_mul(2);
        while keys.len() < limit {
            let mut next = vec![0; self.def.key_size as usize];
            match self.next_key(keys.last().map(Vec::as_slice), &mut next) {
                Ok(()) => keys.push(next),
                Err(MapError::NoEntry) => break,
                Err(e) => return Err(e),
            }
        }
        Ok(keys)
    }

    /// Copies the value of `key` out and removes it, in one step.
    ///
    /// # Errors
    ///
    /// As [`Map::lookup`] and [`Map::delete`].
    pub fn lookup_and_delete(&self, key: &[u8], out: &mut [u8]) -> Result<(), MapError> {
        self.user_may_read()?;
        self.user_may_write()?;
        self.check_key(key)?;
        self.check_value(out.len())?;
        match &self.kind {
            Kind::Queue(m) => m.pop(out),
            Kind::Hash(m) => m.lookup_and_delete(key, out),
            _ => Err(self.unsupported("lookup_and_delete", ENOTSUPP)),
        }
    }

    /// Appends to a queue or stack, adds to a bloom filter.
    ///
    /// # Errors
    ///
    /// [`MapError::Full`] unless `mode` is [`UpdateMode::Exist`], which drops the oldest; sizes;
    /// rights.
    pub fn push(&self, value: &[u8], mode: UpdateMode) -> Result<(), MapError> {
        self.update_flags(&[], value, mode.flags())
    }

    /// Takes the next value of a queue or stack.
    ///
    /// # Errors
    ///
    /// [`MapError::NoEntry`] when empty; sizes; rights.
    pub fn pop(&self, out: &mut [u8]) -> Result<(), MapError> {
        self.lookup_and_delete(&[], out)
    }

    /// The next value of a queue or stack without taking it; whether `out` may be in a bloom
    /// filter.
    ///
    /// # Errors
    ///
    /// [`MapError::NoEntry`] when empty, or not in the filter; sizes; rights.
    pub fn peek(&self, out: &mut [u8]) -> Result<(), MapError> {
        self.lookup(&[], out)
    }

    /// Puts `inner` at `key` of a map of maps.
    ///
    /// # Errors
    ///
    /// [`MapError::InnerMap`] when its shape differs; as [`Map::update`].
    pub fn update_map(&self, key: &[u8], inner: &Arc<Self>) -> Result<(), MapError> {
        self.update_map_flags(key, inner, 0)
    }

    /// As [`Map::update_map`], with the flags as `bpf(2)` takes them.
    ///
    /// # Errors
    ///
    /// As [`Map::update_map`], and [`MapError::Flags`].
    pub fn update_map_flags(
        &self,
        key: &[u8],
        inner: &Arc<Self>,
        flags: u64,
    ) -> Result<(), MapError> {
        self.user_may_write()?;
        self.check_key(key)?;
        match &self.kind {
            Kind::Maps(m) => m.update(key, inner, flags),
            _ => Err(self.unsupported("inner maps", libc::EINVAL)),
        }
    }

    /// Takes the right to write away from user space, for ever.
    ///
    /// # Errors
    ///
    /// [`MapError::UserMayNot`] when it has none any more.
    pub fn freeze(&self) -> Result<(), MapError> {
        self.user_may_write()?;
        self.frozen.store(true, Relaxed);
        Ok(())
    }

    /// Has [`Map::freeze`] been called?
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Relaxed)
    }

    /// Records of a ring buffer that found no room since it was made.
    pub fn ring_lost(&self) -> u64 {
        self.ring().map_or(0, super::Ring::lost)
    }

    fn check_value(&self, found: usize) -> Result<(), MapError> {
        let expected = self.value_bytes();
        if found == expected { Ok(()) } else { Err(MapError::ValueSize { found, expected }) }
    }

    fn user_may_read(&self) -> Result<(), MapError> {
        let denied = self.def.flags.contains(MapFlags::WRONLY);
        if denied { Err(MapError::UserMayNot { what: "read" }) } else { Ok(()) }
    }

    fn user_may_write(&self) -> Result<(), MapError> {
        let denied = self.is_frozen() || self.def.flags.contains(MapFlags::RDONLY);
        if denied { Err(MapError::UserMayNot { what: "write" }) } else { Ok(()) }
    }
}
