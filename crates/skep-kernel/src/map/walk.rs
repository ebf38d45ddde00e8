//! Many entries at once: walks over keys, batches.

use skep_abi::UpdateMode;

use super::{Map, flags};
use crate::{
    error::MapError,
    sys::{Batch, BatchEnd, ENOTSUPP, SysError},
};

impl Map {
    /// Walks the keys. Concurrent changes may repeat or skip keys, as the kernel does it; the walk
    /// ends after at most twice the map's capacity.
    pub fn keys(&self) -> Keys<'_> {
        let left = u64::from(self.def.max_entries).saturating_mul(2);
        Keys { map: self, last: None, left }
    }

    /// All entries, by batches where the kernel has them for this type, else one by one.
    ///
    /// # Errors
    ///
    /// The kernel's. Entries that vanish meanwhile are left out.
    pub fn entries(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, MapError> {
        match self.entries_by_batch() {
            Ok(entries) => Ok(entries),
            Err(_) => self.entries_by_key(),
        }
    }

    pub(super) fn entries_by_key(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, MapError> {
        let mut out = Vec::new();
        for key in self.keys() {
            let key = key?;
            if let Some(value) = self.lookup_vec(&key)? {
                out.push((key, value));
            }
        }
        Ok(out)
    }

    pub(super) fn entries_by_batch(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, MapError> {
        let (key, value) = (self.def.key_size as usize, self.value_bytes());
        let mut entries = Vec::new();
        let mut at = Batch::default();
        let most = self.def.max_entries as usize;
        let mut room = self.batch_room();
        loop {
            let (mut keys, mut values) = (vec![0; room * key], vec![0; room * value]);
            let mut next = at.clone();
            let end = match self.fd.lookup_batch(&mut next, &mut keys, &mut values, false) {
                // One bucket of the hash holds more than the room: the kernel gave nothing.
                Err(e) if e.errno() == libc::ENOSPC && room < most => {
                    room = room.saturating_mul(4).min(most);
                    continue;
                }
                other => other.map_err(|e| self.fail(e))?,
            };
            at = next;
            let (BatchEnd::More(count) | BatchEnd::Done(count)) = end;
            let pairs = keys.chunks_exact(key).zip(values.chunks_exact(value)).take(count);
            entries.extend(pairs.map(|(k, v)| (k.to_vec(), v.to_vec())));
            // Twice the capacity, as for a walk over keys, is an end whatever the kernel says.
            let enough = entries.len() >= most.saturating_mul(2);
            if matches!(end, BatchEnd::Done(_)) || count == 0 || enough {
                return Ok(entries);
            }
        }
    }

    /// Entries to ask for at once: about a MiB, and no more than there can be.
    pub(super) fn batch_room(&self) -> usize {
        let entry = (self.def.key_size as usize).saturating_add(self.value_bytes()).max(1);
        let most = 256.min(self.def.max_entries as usize);
        ((1 << 20) / entry).min(most).max(1)
    }

    /// Takes up to `count` entries out of a hash at once.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when one bucket holds more than `count`; `ENOTSUPP` where the type has no batches.
    pub fn drain_batch(&self, count: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>, MapError> {
        let (key, value) = (self.def.key_size as usize, self.value_bytes());
        let count = count.min(self.def.max_entries as usize);
        let (mut keys, mut values) = (vec![0; count * key], vec![0; count * value]);
        let end = self.fd.lookup_batch(&mut Batch::default(), &mut keys, &mut values, true);
        let (BatchEnd::More(count) | BatchEnd::Done(count)) = end.map_err(|e| self.fail(e))?;
        let pairs = keys.chunks_exact(key).zip(values.chunks_exact(value)).take(count);
        Ok(pairs.map(|(k, v)| (k.to_vec(), v.to_vec())).collect())
    }

    /// Takes all entries out: by batches where the kernel has them for this type, else one by one.
    ///
    /// # Errors
    ///
    /// The kernel's; what was taken out until then is lost.
    pub fn drain(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, MapError> {
        let most = self.def.max_entries as usize;
        let mut room = self.batch_room();
        let mut out = Vec::new();
        // What programs add meanwhile may be taken out too, but not for ever.
        while out.len() < most.saturating_mul(2).max(1) {
            match self.drain_batch(room) {
                Ok(taken) if taken.is_empty() => return Ok(out),
                Ok(taken) => out.extend(taken),
                Err(e) if e.errno() == libc::ENOSPC && room < most => {
                    room = room.saturating_mul(4).min(most);
                }
                Err(e) if lacks_batches(&e.source) && out.is_empty() => return self.drain_by_key(),
                Err(e) => return Err(e),
            }
        }
        Ok(out)
    }

    pub(super) fn drain_by_key(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, MapError> {
        let keys: Vec<_> = self.keys().collect::<Result<_, _>>()?;
        let mut out = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(value) = self.lookup_vec(&key)? else { continue };
            match self.fd.delete(&key) {
                Ok(()) => out.push((key, value)),
                Err(e) if e.errno() == libc::ENOENT => {}
                Err(e) => return Err(self.fail(e)),
            }
        }
        Ok(out)
    }

    /// Stores many entries: `keys` and `values` one after the other, at once where the kernel has
    /// batches for this type, else one by one. The number is how many were stored, also beside an
    /// error.
    ///
    /// # Errors
    ///
    /// As for [`Map::update`], of the first entry that failed.
    #[doc(alias = "BPF_MAP_UPDATE_BATCH")]
    pub fn update_batch(
        &self,
        keys: &[u8],
        values: &[u8],
        mode: UpdateMode,
    ) -> (usize, Result<(), MapError>) {
        let (done, result) = self.fd.update_batch(keys, values, flags(mode));
        match result {
            Err(e) if done == 0 && lacks_batches(&e) => {
                let (key, value) = (self.def.key_size as usize, self.value_bytes());
                let pairs = keys.chunks_exact(key).zip(values.chunks_exact(value));
                one_by_one(pairs, |(key, value)| self.update(key, value, mode))
            }
            result => (done, result.map_err(|e| self.fail(e))),
        }
    }

    /// Removes many entries, at once where the kernel has batches for this type, else one by one.
    /// The number is how many were removed, also beside an error.
    ///
    /// # Errors
    ///
    /// As for [`Map::delete`], of the first key that failed.
    #[doc(alias = "BPF_MAP_DELETE_BATCH")]
    pub fn delete_batch(&self, keys: &[u8]) -> (usize, Result<(), MapError>) {
        let (done, result) = self.fd.delete_batch(keys);
        match result {
            Err(e) if done == 0 && lacks_batches(&e) => {
                one_by_one(keys.chunks_exact(self.def.key_size as usize), |key| self.delete(key))
            }
            result => (done, result.map_err(|e| self.fail(e))),
        }
    }
}

/// Is this how a kernel says that it has no batches, or none for this type? What our own checks
/// found wrong has a hint, and no kernel was asked.
fn lacks_batches(e: &SysError) -> bool {
    let by_kernel = matches!(e.errno(), libc::EINVAL | libc::EOPNOTSUPP) && e.hint.is_none();
    by_kernel || e.errno() == ENOTSUPP
}

/// Does what a batch would: up to the first that fails.
fn one_by_one<T>(
    all: impl Iterator<Item = T>,
    act: impl Fn(T) -> Result<(), MapError>,
) -> (usize, Result<(), MapError>) {
    let mut done = 0;
    for one in all {
        if let Err(e) = act(one) {
            return (done, Err(e));
        }
        done += 1;
    }
    (done, Ok(()))
}

/// Keys of a map, from [`Map::keys`].
#[derive(Debug)]
pub struct Keys<'a> {
    map: &'a Map,
    last: Option<Vec<u8>>,
    left: u64,
}

impl Iterator for Keys<'_> {
    type Item = Result<Vec<u8>, MapError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut next = vec![0; self.map.def.key_size as usize];
        match self.map.next_key(self.last.as_deref(), &mut next) {
            Ok(true) => {
                self.last = Some(next.clone());
                Some(Ok(next))
            }
            Ok(false) => None,
            Err(e) => {
                self.left = 0;
                Some(Err(e))
            }
        }
    }
}
