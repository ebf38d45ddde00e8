//! Elements of equal size in a [`Storage`]: taken, given back, taken again, never unmapped.
//!
//! Fresh elements are handed out in order, so that a map of a billion entries touches only the
//! memory it uses. Elements that came back form a stack through their first half word; its top
//! carries a count, so that a slow thread cannot confuse an old top with a new one.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::storage::Storage;

/// Number of an element. Not an offset: see [`Pool::at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Index(pub(super) u32);

impl Index {
    /// As a link: one more than the number, so that zeroed memory links to nothing.
    pub(super) const fn link(self) -> u32 {
        self.0 + 1
    }

    /// The element that a link leads to.
    pub(super) fn from_link(link: u32) -> Option<Self> {
        link.checked_sub(1).map(Self)
    }
}

/// Where a pool stands in its storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    /// Offset of the state, zeros at first: top of the stack (count and link), number of fresh elements used.
    pub(super) state: usize,
    /// Offset of element 0.
    pub(super) first: usize,
    /// Bytes of an element, whole words.
    pub(super) stride: usize,
    /// Number of elements.
    pub(super) count: u32,
}

impl Pool {
    /// Offset of an element.
    #[inline]
    pub(super) const fn at(self, index: Index) -> usize {
        self.first + index.0 as usize * self.stride
    }

    /// An element that nobody uses, with whatever its last user left in it; `None` when all are in
    /// use.
    #[inline]
    pub(super) fn take(self, storage: &Storage) -> Option<Index> {
        let top = storage.u64(self.state);
        let mut seen = top.load(Acquire);
        while let Some(index) = Index::from_link(low(seen)) {
            // Another thread may have taken it meanwhile; then the count has moved on and the
            // exchange fails, whatever was read here.
            let below = storage.u32(self.at(index)).load(Relaxed);
            let next = bumped(seen, below);
            match top.compare_exchange_weak(seen, next, AcqRel, Acquire) {
                Ok(_) => return Some(index),
                Err(now) => seen = now,
            }
        }
        let fresh = storage.u32(self.state + 8);
        let more = |used: u32| (used < self.count).then_some(used + 1);
        fresh.fetch_update(Relaxed, Relaxed, more).ok().map(Index)
    }

    /// Gives an element back.
    #[inline]
    pub(super) fn give(self, storage: &Storage, index: Index) {
        let top = storage.u64(self.state);
        let mut seen = top.load(Relaxed);
        loop {
            storage.u32(self.at(index)).store(low(seen), Relaxed);
            match top.compare_exchange_weak(seen, bumped(seen, index.link()), Release, Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Number of elements that were ever handed out; all of them have smaller numbers.
    pub(super) fn used(self, storage: &Storage) -> u32 {
        storage.u32(self.state + 8).load(Relaxed)
    }

    /// The element that contains byte `off` of the storage, and the byte's place in it.
    pub(super) fn containing(self, storage: &Storage, off: usize) -> Option<(Index, usize)> {
        let off = off.checked_sub(self.first)?;
        let index = u32::try_from(off / self.stride).ok()?;
        (index < self.used(storage)).then_some((Index(index), off % self.stride))
    }
}

const fn low(word: u64) -> u32 {
    (word & 0xffff_ffff) as u32
}

/// The next state of the stack's top: count in the high half, link in the low one.
fn bumped(seen: u64, link: u32) -> u64 {
    ((seen >> 32).wrapping_add(1) << 32) | u64::from(link)
}
