//! Longest prefix match: keys are prefixes of bit strings, a look-up finds the longest one.
//!
//! Layout: version word, root link, count, pool state, nodes (two child links, prefix length, mark
//! of inner nodes, data, value). A binary trie that skips bits without a choice; a node without
//! entry has two children and exists to part them. Look-ups take no lock, see [`super::lock`].

use std::{
    ptr::NonNull,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
};

use skep_abi::MapDef;

use super::{
    MapError, Span, flag,
    lock::{SeqLock, Version, relax},
    pool::{Index, Pool},
    storage::{Storage, padded, round8},
};

/// Offsets before the nodes.
const LOCK: usize = 0;
const ROOT: usize = 4;
const COUNT: usize = 8;
const POOL: usize = 64;
const NODES: usize = 128;

/// Offsets in a node. Its two child links come first.
const LENGTH: usize = 8;
const INNER: usize = 12;
const DATA: usize = 16;

/// Prefixes and their values.
#[derive(Debug)]
pub(super) struct Lpm {
    storage: Storage,
    pool: Pool,
    max_entries: u32,
    /// Bytes of the longest prefix.
    data_size: usize,
    value_size: usize,
    /// Offset of the value in a node.
    value: usize,
}

/// A key taken apart.
#[derive(Clone, Copy, Debug)]
struct Prefix<'a> {
    /// Length in bits.
    bits: u32,
    data: &'a [u8],
    /// The first eight bytes, which are all for most keys.
    first: u64,
}

impl<'a> Prefix<'a> {
    fn new(bits: u32, data: &'a [u8]) -> Self {
        Self { bits, data, first: padded(data.get(..8).unwrap_or(data)) }
    }

    /// Bit `n`, the first one being the highest of the first byte; 0 past the end.
    #[inline]
    fn bit(self, n: u32) -> usize {
        if n < 64 {
            return usize::from(self.first.to_be() >> (63 - n) & 1 == 1);
        }
        let byte = self.data.get(n as usize / 8).copied().unwrap_or(0);
        usize::from(byte >> (7 - n % 8) & 1)
    }
}

/// Where the way down ends.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Offset of the link that leads there.
    slot: usize,
    /// What the link leads to, and how many bits of it agree with the key.
    node: Option<(Index, u32)>,
    /// The node above, with the link that leads to it.
    parent: Option<(Index, usize)>,
}

impl Lpm {
    pub(super) fn new(def: &MapDef) -> Result<Self, MapError> {
        let data_size = (def.key_size as usize).saturating_sub(4);
        let value_size = def.value_size as usize;
        let value = DATA + round8(data_size);
        let stride = value + round8(value_size);
        // Every entry but one may need a node that parts it from the others; two are in work.
        let count = def.max_entries.checked_mul(2).and_then(|n| n.checked_add(2));
        let len = count.and_then(|n| stride.checked_mul(n as usize)?.checked_add(NODES));
        let pool = Pool { state: POOL, first: NODES, stride, count: count.unwrap_or(0) };
        let max_entries = def.max_entries;
        Ok(Self { storage: Storage::new(len)?, pool, max_entries, data_size, value_size, value })
    }

    pub(super) const fn storage(&self) -> &Storage {
        &self.storage
    }

    fn max_bits(&self) -> u32 {
        u32::try_from(self.data_size * 8).unwrap_or(u32::MAX)
    }

    fn lock(&self) -> SeqLock<'_> {
        SeqLock(self.storage.u32(LOCK))
    }

    fn prefix<'a>(&self, key: &'a [u8]) -> Result<Prefix<'a>, MapError> {
        let expected = self.data_size + 4;
        let (bits, data) =
            key.split_first_chunk().ok_or(MapError::KeySize { found: key.len(), expected })?;
        let bits = u32::from_ne_bytes(*bits);
        let max = self.max_bits();
        if bits > max {
            Err(MapError::Prefix { found: bits, max })
        } else {
            Ok(Prefix::new(bits, data))
        }
    }

    #[inline]
    fn get(&self, node: Index, field: usize) -> u32 {
        self.storage.u32(self.pool.at(node) + field).load(Acquire)
    }

    fn set(&self, node: Index, field: usize, to: u32) {
        self.storage.u32(self.pool.at(node) + field).store(to, Relaxed);
    }

    #[inline]
    fn follow(&self, slot: usize) -> Option<Index> {
        Index::from_link(self.storage.u32(slot).load(Acquire))
    }

    #[inline]
    fn slot(&self, node: Index, side: usize) -> usize {
        self.pool.at(node) + 4 * side
    }

    fn child(&self, node: Index, side: usize) -> Option<Index> {
        self.follow(self.slot(node, side))
    }

    fn point(&self, slot: usize, to: Option<Index>) {
        self.storage.u32(slot).store(to.map_or(0, Index::link), Release);
    }

    fn is_inner(&self, node: Index) -> bool {
        self.get(node, INNER) != 0
    }

    /// How many first bits `node` and `key` have in common.
    #[inline]
    fn common(&self, node: Index, key: Prefix<'_>) -> u32 {
        let limit = self.get(node, LENGTH).min(key.bits);
        let first = self.storage.u64(self.pool.at(node) + DATA).load(Relaxed);
        let bits = (first ^ key.first).to_be().leading_zeros();
        if bits < 64 || limit <= 64 {
            bits.min(limit)
        } else {
            self.common_behind(node, key, limit)
        }
    }

    /// The same for long keys, whose first words are known to be equal.
    fn common_behind(&self, node: Index, key: Prefix<'_>, limit: u32) -> u32 {
        let words = self.storage.words(self.pool.at(node) + DATA, self.data_size.div_ceil(8));
        let mut bits = 64;
        for (word, of_key) in words.iter().zip(key.data.chunks(8).map(padded)).skip(1) {
            let differ = (word.load(Relaxed) ^ of_key).to_be();
            bits += differ.leading_zeros();
            if differ != 0 || bits >= limit {
                break;
            }
        }
        bits.min(limit)
    }

    /// Goes down as far as nodes agree with the whole of themselves; calls `on_way` for each node.
    fn descend(
        &self,
        key: Prefix<'_>,
        version: Version<'_>,
        mut on_way: impl FnMut(Index),
    ) -> Place {
        let mut place = Place { slot: ROOT, node: None, parent: None };
        while let Some(node) = self.follow(place.slot)
            && version.holds()
        {
            on_way(node);
            let common = self.common(node, key);
            let length = self.get(node, LENGTH);
            if length != common || length == key.bits {
                place.node = Some((node, common));
                break;
            }
            place = Place {
                slot: self.slot(node, key.bit(length)),
                node: None,
                parent: Some((node, place.slot)),
            };
        }
        place
    }

    /// The entry with exactly this prefix.
    fn exact(&self, place: Place, key: Prefix<'_>) -> Option<Index> {
        let (node, common) = place.node?;
        let length = self.get(node, LENGTH);
        (length == key.bits && length == common && !self.is_inner(node)).then_some(node)
    }

    /// The entry with the longest prefix that covers `key`.
    fn longest(&self, key: Prefix<'_>, version: Version<'_>) -> Option<Index> {
        let mut best = None;
        let mut slot = ROOT;
        while let Some(node) = self.follow(slot)
            && version.holds()
        {
            let length = self.get(node, LENGTH);
            if self.common(node, key) < length {
                break;
            }
            if !self.is_inner(node) {
                best = Some(node);
            }
            if length >= self.max_bits() {
                break;
            }
            slot = self.slot(node, key.bit(length));
        }
        best
    }

    pub(super) fn lookup_ptr(&self, key: &[u8]) -> Option<NonNull<u8>> {
        let key = self.prefix(key).ok()?;
        let node = self.lock().read(|v| self.longest(key, v))?;
        Some(self.storage.ptr(self.pool.at(node) + self.value))
    }

    pub(super) fn lookup(&self, key: &[u8], out: &mut [u8]) -> Result<(), MapError> {
        let key = self.prefix(key).map_err(|_| MapError::NoEntry)?;
        let found = self.lock().read(|v| {
            let node = self.longest(key, v)?;
            self.storage.load(self.pool.at(node) + self.value, out);
            Some(())
        });
        found.ok_or(MapError::NoEntry)
    }

    pub(super) fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        if flags > flag::EXIST {
            return Err(MapError::Flags { flags });
        }
        let key = self.prefix(key)?;
        let writing = self.lock().lock();
        let place = self.descend(key, writing.version(), drop);
        let Some((node, common)) = place.node else {
            self.count_one(flags)?;
            self.point(place.slot, Some(self.entry(key, value, [None, None])));
            return Ok(());
        };
        if self.get(node, LENGTH) == common {
            // The same prefix: the new node takes the old one's place and children.
            if self.is_inner(node) {
                self.count_one(flags)?;
            } else if flags == flag::NOEXIST {
                return Err(MapError::Exists);
            }
            let children = [self.child(node, 0), self.child(node, 1)];
            self.point(place.slot, Some(self.entry(key, value, children)));
            self.pool.give(&self.storage, node);
            return Ok(());
        }
        self.count_one(flags)?;
        let side = |of_key| if of_key == 0 { 1 } else { 0 };
        let new = if common == key.bits {
            // The new prefix is shorter than the node's: it goes above.
            match self.bit_of(node, common) {
                0 => self.entry(key, value, [Some(node), None]),
                _ => self.entry(key, value, [None, Some(node)]),
            }
        } else {
            let entry = self.entry(key, value, [None, None]);
            let parting = self.entry(Prefix { bits: common, ..key }, &[], [None, None]);
            self.set(parting, INNER, 1);
            self.point(self.slot(parting, key.bit(common)), Some(entry));
            self.point(self.slot(parting, side(key.bit(common))), Some(node));
            parting
        };
        self.point(place.slot, Some(new));
        Ok(())
    }

    fn bit_of(&self, node: Index, n: u32) -> usize {
        let mut data = vec![0; self.data_size];
        self.storage.load(self.pool.at(node) + DATA, &mut data);
        Prefix::new(0, &data).bit(n)
    }

    /// Counts one more entry if the flags and the limit allow it. Under the lock.
    fn count_one(&self, flags: u64) -> Result<(), MapError> {
        if flags == flag::EXIST {
            return Err(MapError::NoEntry);
        }
        let count = self.storage.u32(COUNT);
        let n = count.load(Relaxed);
        if n >= self.max_entries {
            return Err(MapError::Full { max_entries: self.max_entries, errno: libc::ENOSPC });
        }
        count.store(n + 1, Relaxed);
        Ok(())
    }

    /// A new node that nothing leads to yet.
    fn entry(&self, key: Prefix<'_>, value: &[u8], children: [Option<Index>; 2]) -> Index {
        let node = self.take();
        let at = self.pool.at(node);
        self.storage.store(at + DATA, key.data);
        self.storage.store(at + self.value, value);
        self.set(node, LENGTH, key.bits);
        self.set(node, INNER, 0);
        for (side, child) in children.into_iter().enumerate() {
            self.point(self.slot(node, side), child);
        }
        node
    }

    fn take(&self) -> Index {
        for round in 0.. {
            if let Some(node) = self.pool.take(&self.storage) {
                return node;
            }
            relax(round); // not reached: there are enough nodes for `max_entries`
        }
        unreachable!("the loop above has no end");
    }

    pub(super) fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let key = self.prefix(key)?;
        let writing = self.lock().lock();
        let place = self.descend(key, writing.version(), drop);
        let node = self.exact(place, key).ok_or(MapError::NoEntry)?;
        self.storage.u32(COUNT).fetch_sub(1, Relaxed);
        match [self.child(node, 0), self.child(node, 1)] {
            [Some(_), Some(_)] => {
                self.set(node, INNER, 1);
                return Ok(());
            }
            [None, None] => match place.parent {
                // The parent parted this entry from its sibling: the sibling moves up.
                Some((parent, above)) if self.is_inner(parent) => {
                    let left = self.child(parent, 0);
                    let sibling = if left == Some(node) { self.child(parent, 1) } else { left };
                    self.point(above, sibling);
                    self.pool.give(&self.storage, parent);
                }
                _ => self.point(place.slot, None),
            },
            [left, right] => self.point(place.slot, left.or(right)),
        }
        self.pool.give(&self.storage, node);
        Ok(())
    }

    /// Longer prefixes before the shorter ones that cover them.
    pub(super) fn next_key(&self, key: Option<&[u8]>, out: &mut [u8]) -> Result<(), MapError> {
        let key = key.and_then(|k| self.prefix(k).ok());
        let found = self.lock().read(|v| {
            let next = match key {
                Some(key) => self.after(key, v),
                None => self.leftmost(self.follow(ROOT), v),
            }?;
            let (bits, data) = out.split_at_mut(4);
            bits.copy_from_slice(&self.get(next, LENGTH).to_ne_bytes());
            self.storage.load(self.pool.at(next) + DATA, data);
            Some(())
        });
        found.ok_or(MapError::NoEntry)
    }

    fn after(&self, key: Prefix<'_>, version: Version<'_>) -> Option<Index> {
        let mut way = Vec::new();
        let place = self.descend(key, version, |node| way.push(node));
        if self.exact(place, key).is_none() {
            return self.leftmost(self.follow(ROOT), version);
        }
        let mut node = way.pop()?;
        while let Some(parent) = way.pop() {
            let right = self.child(parent, 1);
            if right.is_some() && self.child(parent, 0) == Some(node) {
                return self.leftmost(right, version);
            }
            if !self.is_inner(parent) {
                return Some(parent);
            }
            node = parent;
        }
        None
    }

    /// The first entry in order from `root` on.
    fn leftmost(&self, root: Option<Index>, version: Version<'_>) -> Option<Index> {
        let mut last = root?;
        while let Some(node) = self.child(last, 0).or_else(|| self.child(last, 1))
            && version.holds()
        {
            last = node;
        }
        Some(last)
    }

    pub(super) fn value_span(&self, addr: usize, writable: bool) -> Option<Span> {
        let off = addr.checked_sub(self.storage.addr())?;
        let (_, at) = self.pool.containing(&self.storage, off)?;
        let at = at.checked_sub(self.value)?;
        (at < self.value_size).then(|| Span { start: addr - at, len: self.value_size, writable })
    }
}
