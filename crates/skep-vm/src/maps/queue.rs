//! Queues and stacks: values without keys.
//!
//! Layout: version word, position of the oldest value, count, then the values in a circle.

use std::sync::atomic::Ordering::Relaxed;

use skep_abi::{MapDef, MapType};

use super::{
    MapError, flag,
    lock::SeqLock,
    storage::{Storage, round8},
};

const LOCK: usize = 0;
const FIRST: usize = 8;
const COUNT: usize = 12;
const VALUES: usize = 64;

/// Values in order of arrival.
#[derive(Debug)]
pub(super) struct Queue {
    storage: Storage,
    max_entries: u32,
    slot: usize,
    /// Take the newest value first?
    stack: bool,
}

impl Queue {
    pub(super) fn new(def: &MapDef) -> Result<Self, MapError> {
        let slot = round8(def.value_size as usize);
        let len = slot.checked_mul(def.max_entries as usize).and_then(|n| n.checked_add(VALUES));
        let stack = def.map_type == MapType::STACK;
        Ok(Self { storage: Storage::new(len)?, max_entries: def.max_entries, slot, stack })
    }

    pub(super) const fn storage(&self) -> &Storage {
        &self.storage
    }

    fn lock(&self) -> SeqLock<'_> {
        SeqLock(self.storage.u32(LOCK))
    }

    /// Position of the oldest value, number of values.
    fn state(&self) -> (u32, u32) {
        (self.storage.u32(FIRST).load(Relaxed), self.storage.u32(COUNT).load(Relaxed))
    }

    fn set_state(&self, first: u32, count: u32) {
        self.storage.u32(FIRST).store(first, Relaxed);
        self.storage.u32(COUNT).store(count, Relaxed);
    }

    /// Position `n` places after `first` on the circle.
    fn position(&self, first: u32, n: u32) -> u32 {
        let max = u64::from(self.max_entries);
        u32::try_from((u64::from(first) + u64::from(n)) % max).unwrap_or(0)
    }

    const fn at(&self, position: u32) -> usize {
        VALUES + position as usize * self.slot
    }

    pub(super) fn push(&self, value: &[u8], flags: u64) -> Result<(), MapError> {
        let replace = flags == flag::EXIST;
        if flags != 0 && !replace {
            return Err(MapError::Flags { flags });
        }
        let _writing = self.lock().lock();
        let (mut first, mut count) = self.state();
        if count == self.max_entries {
            if !replace {
                let max_entries = self.max_entries;
                return Err(MapError::Full { max_entries, errno: libc::E2BIG });
            }
            first = self.position(first, 1);
            count -= 1;
        }
        self.storage.store(self.at(self.position(first, count)), value);
        self.set_state(first, count + 1);
        Ok(())
    }

    pub(super) fn pop(&self, out: &mut [u8]) -> Result<(), MapError> {
        let _writing = self.lock().lock();
        let (first, count) = self.state();
        let position = self.next(first, count).ok_or(MapError::NoEntry)?;
        self.storage.load(self.at(position), out);
        self.set_state(if self.stack { first } else { self.position(first, 1) }, count - 1);
        Ok(())
    }

    pub(super) fn peek(&self, out: &mut [u8]) -> Result<(), MapError> {
        let found = self.lock().read(|_| {
            let (first, count) = self.state();
            let position = self.next(first, count)?;
            self.storage.load(self.at(position), out);
            Some(())
        });
        found.ok_or(MapError::NoEntry)
    }

    /// Position of the value whose turn it is.
    fn next(&self, first: u32, count: u32) -> Option<u32> {
        let newest = count.checked_sub(1)?;
        Some(if self.stack { self.position(first, newest) } else { self.position(first, 0) })
    }
}
