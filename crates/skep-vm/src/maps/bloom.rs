//! Bloom filters: "was this value ever pushed?", answered no for sure and yes perhaps.
//!
//! Layout: the bits, nothing else. Setting a bit is one atomic operation, so there is no lock.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::Ordering::Relaxed,
};

use skep_abi::MapDef;

use super::{MapError, hash::hash_bytes, storage::Storage};

/// Hash functions when the definition names none.
const DEFAULT_HASHES: u32 = 5;

/// A set of values that forgets nothing.
#[derive(Debug)]
pub(super) struct Bloom {
    storage: Storage,
    seed: u64,
    hashes: u32,
    /// Number of bits less one.
    mask: u32,
}

impl Bloom {
    pub(super) fn new(def: &MapDef) -> Result<Self, MapError> {
        let hashes = u32::try_from(def.extra & 0xf).ok().filter(|n| *n > 0);
        let hashes = hashes.unwrap_or(DEFAULT_HASHES);
        // n * k / ln 2 bits make the fewest false answers; 7 / 5 is about 1 / ln 2.
        let bits = u64::from(def.max_entries) * u64::from(hashes) * 7 / 5;
        let bits = bits.clamp(64, 1 << 32).next_power_of_two();
        let mask = u32::try_from(bits - 1).unwrap_or(u32::MAX);
        let storage = Storage::new(usize::try_from(bits / 8).ok())?;
        Ok(Self { storage, seed: RandomState::new().hash_one(bits), hashes, mask })
    }

    pub(super) const fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Offset of the word and bit in it, for each hash function.
    fn places(&self, value: &[u8]) -> impl Iterator<Item = (usize, u64)> {
        let hash = move |n| hash_bytes(self.seed.wrapping_add(n), value) & self.mask;
        let mut hashes = [0; 15];
        hashes.iter_mut().zip(0..).for_each(|(h, n)| {
            if n < u64::from(self.hashes) {
                *h = hash(n);
            }
        });
        hashes.into_iter().take(self.hashes as usize).map(|h| (h as usize / 64 * 8, 1 << (h % 64)))
    }

    pub(super) fn push(&self, value: &[u8], flags: u64) -> Result<(), MapError> {
        if flags != 0 {
            return Err(MapError::Flags { flags });
        }
        for (at, bit) in self.places(value) {
            self.storage.u64(at).fetch_or(bit, Relaxed);
        }
        Ok(())
    }

    pub(super) fn peek(&self, value: &[u8]) -> Result<(), MapError> {
        let all = self.places(value).all(|(at, bit)| self.storage.u64(at).load(Relaxed) & bit != 0);
        if all { Ok(()) } else { Err(MapError::NoEntry) }
    }
}
