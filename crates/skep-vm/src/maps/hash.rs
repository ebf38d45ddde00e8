//! Hashes: plain, per-CPU, and with eviction (LRU).
//!
//! Layout: counters, then the buckets (a version word and a link), then the elements
//! (link, hash, state, mark, key, values). Look-ups take no lock: a bucket's version says whether
//! its chain changed meanwhile. An update of a present key puts a new element in the old one's
//! place, as the kernel does, so that a reader never sees half of a value; per-CPU values are
//! written in place.
//!
//! A full LRU hash evicts by second chance: a hand goes round the elements, takes the mark of those
//! that programs looked up since, and removes the first one without a mark.

use std::{
    hash::{BuildHasher as _, RandomState},
    ops::ControlFlow,
    ptr::NonNull,
    sync::atomic::{
        AtomicU32,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

use skep_abi::{MapDef, MapType};

use super::{
    MapError, Span, flag,
    lock::{SeqLock, Version, Writing, relax},
    pool::{Index, Pool},
    storage::{Storage, padded, round8},
};

/// Offsets of the counters, a cache line each.
const COUNT: usize = 0;
const POOL: usize = 64;
const HAND: usize = 128;
const BUCKETS: usize = 192;

/// Bytes of a bucket: version word, link.
const BUCKET: usize = 8;
/// Most buckets that the kernel makes.
const MAX_BUCKETS: usize = 1 << 27;

/// Offsets in an element, before its key.
const LINK: usize = 0;
const HASH: usize = 4;
const LIVE: usize = 8;
const MARK: usize = 12;
const KEY: usize = 16;

/// Elements beyond `max_entries`, for values being replaced.
const SPARE: u32 = 64;

/// Keys and values in buckets.
#[derive(Debug)]
pub(super) struct Hash {
    storage: Storage,
    pool: Pool,
    seed: u64,
    /// Number of buckets less one.
    mask: usize,
    max_entries: u32,
    key_size: usize,
    value_size: usize,
    /// Offset of the values in an element.
    values: usize,
    /// Bytes from one CPU's value to the next.
    slot: usize,
    /// Values of one entry: CPUs, or 1.
    ncpus: usize,
    lru: bool,
    percpu: bool,
}

/// Whose value an update brings.
#[derive(Clone, Copy, Debug)]
pub(super) enum Values<'a> {
    /// All CPUs', each in a slot of whole words.
    All(&'a [u8]),
    /// One CPU's; a new entry is zero for the others.
    Of(usize, &'a [u8]),
}

/// An element in its chain.
#[derive(Clone, Copy, Debug)]
struct Found {
    index: Index,
    /// Offset of the link that leads to it.
    from: usize,
}

impl Hash {
    pub(super) fn new(def: &MapDef, ncpus: u32) -> Result<Self, MapError> {
        let percpu = def.map_type.is_percpu();
        let ncpus = if percpu { ncpus as usize } else { 1 };
        let (key_size, value_size) = (def.key_size as usize, def.value_size as usize);
        let buckets = (def.max_entries as usize).next_power_of_two();
        if buckets > MAX_BUCKETS {
            return Err(MapError::Definition {
                map_type: def.map_type,
                field: "max_entries",
                found: def.max_entries.into(),
                expected: "at most 2^27".into(),
                errno: libc::E2BIG,
            });
        }
        let count = def.max_entries + SPARE;
        let slot = round8(value_size);
        let values = KEY + round8(key_size);
        let first = BUCKETS + buckets * BUCKET;
        let stride = slot.checked_mul(ncpus).and_then(|n| n.checked_add(values));
        let len = stride.and_then(|s| s.checked_mul(count as usize)?.checked_add(first));
        Ok(Self {
            storage: Storage::new(len)?,
            pool: Pool { state: POOL, first, stride: stride.unwrap_or(0), count },
            seed: RandomState::new().hash_one(def.key_size),
            mask: buckets - 1,
            max_entries: def.max_entries,
            key_size,
            value_size,
            values,
            slot,
            ncpus,
            lru: matches!(def.map_type, MapType::LRU_HASH | MapType::LRU_PERCPU_HASH),
            percpu,
        })
    }

    pub(super) const fn storage(&self) -> &Storage {
        &self.storage
    }

    fn hash(&self, key: &[u8]) -> u32 {
        hash_bytes(self.seed, key)
    }

    const fn bucket(&self, hash: u32) -> usize {
        BUCKETS + (hash as usize & self.mask) * BUCKET
    }

    fn lock_of(&self, bucket: usize) -> SeqLock<'_> {
        SeqLock(self.storage.u32(bucket))
    }

    fn field(&self, index: Index, field: usize) -> &AtomicU32 {
        self.storage.u32(self.pool.at(index) + field)
    }

    fn link_at(&self, off: usize) -> Option<Index> {
        Index::from_link(self.storage.u32(off).load(Acquire))
    }

    /// Walks the chain of `bucket` to the first element that `is` it.
    fn walk(
        &self,
        bucket: usize,
        version: Version<'_>,
        is: impl Fn(Index) -> bool,
    ) -> Option<Found> {
        let mut from = bucket + 4;
        while let Some(index) = self.link_at(from) {
            if is(index) {
                return Some(Found { index, from });
            }
            if !version.holds() {
                return None; // the reader starts over
            }
            from = self.pool.at(index) + LINK;
        }
        None
    }

    fn find(&self, hash: u32, key: &[u8], version: Version<'_>) -> Option<Found> {
        self.walk(self.bucket(hash), version, |index| {
            self.field(index, HASH).load(Relaxed) == hash
                && self.storage.equals(self.pool.at(index) + KEY, key)
        })
    }

    fn value_at(&self, index: Index, cpu: usize) -> usize {
        self.pool.at(index) + self.values + cpu * self.slot
    }

    pub(super) fn lookup_ptr(&self, key: &[u8], cpu: usize) -> Option<NonNull<u8>> {
        let cpu = if self.percpu { cpu } else { 0 };
        if cpu >= self.ncpus {
            return None;
        }
        let hash = self.hash(key);
        let found = self.lock_of(self.bucket(hash)).read(|v| self.find(hash, key, v))?;
        if self.lru {
            self.mark(found.index);
        }
        Some(self.storage.ptr(self.value_at(found.index, cpu)))
    }

    /// Notes that the element is in use. Writing only when needed keeps its cache line shared.
    fn mark(&self, index: Index) {
        let mark = self.field(index, MARK);
        if mark.load(Relaxed) == 0 {
            mark.store(1, Relaxed);
        }
    }

    pub(super) fn lookup(&self, key: &[u8], out: &mut [u8]) -> Result<(), MapError> {
        let hash = self.hash(key);
        let found = self.lock_of(self.bucket(hash)).read(|v| {
            let found = self.find(hash, key, v)?;
            self.load_values(found.index, out);
            Some(())
        });
        found.ok_or(MapError::NoEntry)
    }

    fn load_values(&self, index: Index, out: &mut [u8]) {
        for (cpu, out) in out.chunks_mut(self.slot).enumerate() {
            self.storage.load(self.value_at(index, cpu), out);
        }
    }

    pub(super) fn update(
        &self,
        key: &[u8],
        values: Values<'_>,
        flags: u64,
    ) -> Result<(), MapError> {
        if flags > flag::EXIST {
            return Err(MapError::Flags { flags });
        }
        let hash = self.hash(key);
        let mut evicted = None;
        let result = loop {
            let done = self.try_update(hash, key, values, flags, &mut evicted);
            match done {
                Err(MapError::Full { .. }) if self.lru => evicted = self.evict(),
                done => break done,
            }
        };
        if let Some(index) = evicted {
            self.release(index);
        }
        result
    }

    /// One attempt. Uses up `evicted`, an element that is already counted, when it needs one.
    fn try_update(
        &self,
        hash: u32,
        key: &[u8],
        values: Values<'_>,
        flags: u64,
        evicted: &mut Option<Index>,
    ) -> Result<(), MapError> {
        let writing = self.lock_of(self.bucket(hash)).lock();
        match self.find(hash, key, writing.version()) {
            Some(_) if flags == flag::NOEXIST => Err(MapError::Exists),
            None if flags == flag::EXIST => Err(MapError::NoEntry),
            Some(found) if self.percpu => {
                self.store_values(found.index, values);
                if self.lru {
                    self.mark(found.index);
                }
                Ok(())
            }
            Some(old) => {
                let new = self.take();
                self.fill(new, hash, key, values);
                self.field(new, MARK).store(1, Relaxed);
                let behind = self.field(old.index, LINK).load(Relaxed);
                self.link(old.from, new, behind);
                self.retire(old.index);
                self.pool.give(&self.storage, old.index);
                Ok(())
            }
            None => {
                let new = match evicted.take() {
                    Some(index) => index,
                    None => {
                        self.count_one()?;
                        self.take()
                    }
                };
                self.fill(new, hash, key, values);
                let from = self.bucket(hash) + 4;
                let first = self.storage.u32(from).load(Relaxed);
                self.link(from, new, first);
                Ok(())
            }
        }
    }

    /// Counts one more entry if there is room.
    fn count_one(&self) -> Result<(), MapError> {
        let more = |n: u32| (n < self.max_entries).then_some(n + 1);
        let full = MapError::Full { max_entries: self.max_entries, errno: libc::E2BIG };
        self.storage.u32(COUNT).fetch_update(AcqRel, Relaxed, more).map_err(|_| full).map(drop)
    }

    /// An element for an entry that is counted or about to be replaced. There are enough of them
    /// but for more than [`SPARE`] threads at this very place, which then wait for each other.
    fn take(&self) -> Index {
        for round in 0.. {
            if let Some(index) = self.pool.take(&self.storage) {
                return index;
            }
            relax(round);
        }
        unreachable!("the loop above has no end");
    }

    /// Writes everything but the link.
    fn fill(&self, index: Index, hash: u32, key: &[u8], values: Values<'_>) {
        let at = self.pool.at(index);
        self.storage.store(at + KEY, key);
        if self.percpu && matches!(values, Values::Of(..)) {
            self.storage.zero(at + self.values, self.slot * self.ncpus);
        }
        self.store_values(index, values);
        self.field(index, HASH).store(hash, Relaxed);
        self.field(index, MARK).store(0, Relaxed);
        self.field(index, LIVE).store(1, Release);
    }

    fn store_values(&self, index: Index, values: Values<'_>) {
        match values {
            Values::All(bytes) => {
                for (cpu, bytes) in bytes.chunks(self.slot).enumerate().take(self.ncpus) {
                    self.storage.store(self.value_at(index, cpu), bytes);
                }
            }
            Values::Of(cpu, bytes) => {
                let cpu = if self.percpu { cpu % self.ncpus } else { 0 };
                self.storage.store(self.value_at(index, cpu), bytes);
            }
        }
    }

    fn link(&self, from: usize, new: Index, behind: u32) {
        self.field(new, LINK).store(behind, Relaxed);
        self.storage.u32(from).store(new.link(), Release);
    }

    fn retire(&self, index: Index) {
        self.field(index, LIVE).store(0, Relaxed);
    }

    fn unlink(&self, found: Found, _writing: &Writing<'_>) {
        let behind = self.field(found.index, LINK).load(Relaxed);
        self.storage.u32(found.from).store(behind, Release);
        self.retire(found.index);
    }

    /// Gives an element back that is in no chain but still counted.
    fn release(&self, index: Index) {
        self.pool.give(&self.storage, index);
        self.storage.u32(COUNT).fetch_sub(1, AcqRel);
    }

    /// Takes an entry out of its chain and leaves it counted. `None` when the hand went round twice
    /// in vain: other threads hold what there is, or have deleted it.
    fn evict(&self) -> Option<Index> {
        let used = self.pool.used(&self.storage);
        for _ in 0..used.saturating_mul(2).saturating_add(1) {
            let index = Index(self.storage.u32(HAND).fetch_add(1, Relaxed) % used.max(1));
            if self.field(index, LIVE).load(Acquire) == 0 {
                continue;
            }
            let mark = self.field(index, MARK);
            if mark.load(Relaxed) != 0 {
                mark.store(0, Relaxed);
                continue;
            }
            let bucket = self.bucket(self.field(index, HASH).load(Relaxed));
            let writing = self.lock_of(bucket).lock();
            if let Some(found) = self.walk(bucket, writing.version(), |i| i == index) {
                self.unlink(found, &writing);
                return Some(index);
            }
        }
        relax(32);
        None
    }

    pub(super) fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.remove(key, |_| ())
    }

    pub(super) fn lookup_and_delete(&self, key: &[u8], out: &mut [u8]) -> Result<(), MapError> {
        self.remove(key, |index| self.load_values(index, out))
    }

    fn remove(&self, key: &[u8], last_look: impl FnOnce(Index)) -> Result<(), MapError> {
        let hash = self.hash(key);
        let writing = self.lock_of(self.bucket(hash)).lock();
        let found = self.find(hash, key, writing.version()).ok_or(MapError::NoEntry)?;
        last_look(found.index);
        self.unlink(found, &writing);
        self.release(found.index);
        Ok(())
    }

    pub(super) fn next_key(&self, key: Option<&[u8]>, out: &mut [u8]) -> Result<(), MapError> {
        let first_of = |bucket: usize, out: &mut [u8]| {
            self.storage.u32(bucket + 4).load(Relaxed) != 0
                && self.lock_of(bucket).read(|_| self.key_behind(bucket + 4, out))
        };
        let mut bucket = BUCKETS;
        if let Some(key) = key {
            let hash = self.hash(key);
            let at = self.bucket(hash);
            // None: the key is not there; otherwise whether another one follows in its chain
            let next = self.lock_of(at).read(|v| {
                let found = self.find(hash, key, v)?;
                Some(self.key_behind(self.pool.at(found.index) + LINK, out))
            });
            match next {
                Some(true) => return Ok(()),
                Some(false) => bucket = at + BUCKET,
                None => {}
            }
        }
        let end = BUCKETS + (self.mask + 1) * BUCKET;
        let mut rest = (bucket..end).step_by(BUCKET);
        if rest.any(|b| first_of(b, out)) { Ok(()) } else { Err(MapError::NoEntry) }
    }

    /// Copies out the key of the element that the link at `from` leads to, if there is one.
    fn key_behind(&self, from: usize, out: &mut [u8]) -> bool {
        self.link_at(from).map(|index| self.storage.load(self.pool.at(index) + KEY, out)).is_some()
    }

    pub(super) fn for_each(
        &self,
        cpu: usize,
        call: &mut dyn FnMut(&[u8], NonNull<u8>) -> ControlFlow<()>,
    ) -> u64 {
        let cpu = if self.percpu { cpu % self.ncpus } else { 0 };
        let mut calls = 0;
        for bucket in (0..=self.mask).map(|n| BUCKETS + n * BUCKET) {
            if self.storage.u32(bucket + 4).load(Relaxed) == 0 {
                continue;
            }
            // The callback may change the chain: look at a copy, and leave out what is gone.
            for (index, key) in self.lock_of(bucket).read(|v| self.chain(bucket, v)) {
                let hash = self.hash(&key);
                let now = self.lock_of(bucket).read(|v| self.find(hash, &key, v));
                if now.is_none_or(|found| found.index != index) {
                    continue;
                }
                calls += 1;
                if call(&key, self.storage.ptr(self.value_at(index, cpu))).is_break() {
                    return calls;
                }
            }
        }
        calls
    }

    fn chain(&self, bucket: usize, version: Version<'_>) -> Vec<(Index, Vec<u8>)> {
        let mut chain = Vec::new();
        let mut next = self.link_at(bucket + 4);
        while let Some(index) = next
            && version.holds()
        {
            let mut key = vec![0; self.key_size];
            self.storage.load(self.pool.at(index) + KEY, &mut key);
            chain.push((index, key));
            next = self.link_at(self.pool.at(index) + LINK);
        }
        chain
    }

    pub(super) fn value_span(&self, addr: usize, writable: bool) -> Option<Span> {
        let off = addr.checked_sub(self.storage.addr())?;
        let (_, at) = self.pool.containing(&self.storage, off)?;
        let at = at.checked_sub(self.values)? % self.slot;
        (at < self.value_size).then(|| Span { start: addr - at, len: self.value_size, writable })
    }
}

/// Hash of a key. The seed is secret, so that nobody can choose keys that collide.
pub(super) fn hash_bytes(seed: u64, bytes: &[u8]) -> u32 {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut h = seed;
    for word in words {
        h = fold(h ^ u64::from_ne_bytes(*word));
    }
    if !tail.is_empty() {
        h = fold(h ^ padded(tail));
    }
    (fold(h) >> 32) as u32
}

/// Spreads every bit of `x` over the result: both halves of a product with an odd constant.
fn fold(x: u64) -> u64 {
    let (x, odd) = (x ^ 0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93_u64);
    let high = (u128::from(x) * u128::from(odd)) >> 64;
    high as u64 ^ x.wrapping_mul(odd)
}
