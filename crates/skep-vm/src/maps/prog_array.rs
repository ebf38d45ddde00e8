//! Prog arrays: programs to go on with (`bpf_tail_call`).
//!
//! Unlike other maps this one holds references of this process, so there is no storage. A program
//! and the array it jumps through usually hold each other; the array's hold is the weak one.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock, Weak},
};

use super::MapError;

type Slots = BTreeMap<u32, Weak<dyn Any + Send + Sync>>;

/// Programs by index.
pub(super) struct ProgArray {
    max_entries: u32,
    slots: RwLock<Slots>,
}

impl fmt::Debug for ProgArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgArray").field("max_entries", &self.max_entries).finish_non_exhaustive()
    }
}

impl ProgArray {
    pub(super) const fn new(max_entries: u32) -> Self {
        Self { max_entries, slots: RwLock::new(Slots::new()) }
    }

    fn check(&self, index: u32) -> Result<(), MapError> {
        let max_entries = self.max_entries;
        if index < max_entries { Ok(()) } else { Err(MapError::Index { index, max_entries }) }
    }

    pub(super) fn set<P: Any + Send + Sync>(
        &self,
        index: u32,
        program: &Arc<P>,
    ) -> Result<(), MapError> {
        self.check(index)?;
        let program: Weak<P> = Arc::downgrade(program);
        self.slots.write().unwrap_or_else(PoisonError::into_inner).insert(index, program);
        Ok(())
    }

    pub(super) fn get<P: Any + Send + Sync>(&self, index: u32) -> Option<Arc<P>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(&index)?.upgrade()?.downcast().ok()
    }

    pub(super) fn has(&self, index: u32) -> bool {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).contains_key(&index)
    }

    pub(super) fn delete(&self, index: u32) -> Result<(), MapError> {
        self.check(index)?;
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.remove(&index).map(drop).ok_or(MapError::NoEntry)
    }
}
