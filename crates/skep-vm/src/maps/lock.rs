//! A lock that readers do not take.
//!
//! A 32-bit word inside the mapping: odd while a writer is at work, and never the same again after
//! one. Readers look at the data and then whether the word is still what it was. It needs no
//! address and no pointer, so it would work in memory shared between processes too.

use std::{
    hint,
    sync::atomic::{
        AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
        fence,
    },
    thread,
    time::Duration,
};

/// Reads that found a writer at work before a reader takes the lock itself.
const PATIENCE: u32 = 64;

/// A version word in the mapping.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeqLock<'a>(pub(super) &'a AtomicU32);

/// The right to write; given back when dropped.
#[derive(Debug)]
pub(super) struct Writing<'a> {
    word: &'a AtomicU32,
    odd: u32,
}

/// What a reader saw at the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version<'a> {
    word: &'a AtomicU32,
    seen: u32,
}

impl Version<'_> {
    /// Has nobody written since? Also to be asked inside of loops over data, which a writer could
    /// otherwise lead in circles.
    #[inline]
    pub(super) fn holds(self) -> bool {
        fence(Acquire);
        self.word.load(Relaxed) == self.seen
    }
}

impl<'a> SeqLock<'a> {
    /// Waits for all other writers.
    #[inline]
    pub(super) fn lock(self) -> Writing<'a> {
        for round in 0_u32.. {
            let seen = self.0.load(Relaxed);
            if seen.is_multiple_of(2)
                && self.0.compare_exchange_weak(seen, seen | 1, Acquire, Relaxed).is_ok()
            {
                fence(Release); // no write below may be seen before the word is odd
                return Writing { word: self.0, odd: seen | 1 };
            }
            relax(round);
        }
        unreachable!("the loop above has no end");
    }

    /// Runs `look` until no writer came between, and returns what it then saw. `look` must end even
    /// when the data changes under it, see [`Version::holds`].
    #[inline]
    pub(super) fn read<T>(self, mut look: impl FnMut(Version<'a>) -> T) -> T {
        for round in 0..PATIENCE {
            let seen = self.0.load(Acquire);
            if seen.is_multiple_of(2) {
                let version = Version { word: self.0, seen };
                let saw = look(version);
                if version.holds() {
                    return saw;
                }
            }
            relax(round);
        }
        let writing = self.lock();
        look(writing.version())
    }
}

impl<'a> Writing<'a> {
    /// A version that holds until the lock is given back, for look-ups by the writer itself.
    pub(super) const fn version(&self) -> Version<'a> {
        Version { word: self.word, seen: self.odd }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.word.store(self.odd.wrapping_add(1), Release);
    }
}

/// Waits a little, and longer with each round: the holder may have lost its CPU.
pub(super) fn relax(round: u32) {
    match round {
        0..16 => hint::spin_loop(),
        16..256 => thread::yield_now(),
        _ => thread::sleep(Duration::from_micros(50)),
    }
}
