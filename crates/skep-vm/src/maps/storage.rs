//! The memory of a map: one mapping that stays where it is until the map goes.
//!
//! Everything inside is named by byte offset, so that the same bytes could live in a file that
//! several processes map at different addresses. Pages are committed when first touched. Safe code
//! sees the bytes only as atomics, because programs write values at any moment through the
//! addresses they were given; metadata is written by this engine alone.

use std::{
    fs::File,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use super::MapError;

/// Most bytes one map may reserve: enough for every definition that the kernel would back with
/// memory on a large machine, and small enough that many maps fit the address space.
pub(crate) const LIMIT: usize = 1 << 38;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;

/// Rounds up to whole 64-bit words.
pub(crate) const fn round8(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

/// One mapping.
#[derive(Debug)]
pub(crate) struct Storage {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to no thread; `base` and `len` never change after construction.
unsafe impl Send for Storage {}
// SAFETY: shared access goes through atomics only, see `words` and `u32`.
unsafe impl Sync for Storage {}

impl Storage {
    /// Zeroed memory of at least `len` bytes; `None` means that the product overflowed.
    pub(crate) fn new(len: Option<usize>) -> Result<Self, MapError> {
        let no_memory = |bytes| MapError::NoMemory { bytes, limit: LIMIT as u64 };
        let len = len.ok_or_else(|| no_memory(u64::MAX))?.max(1).next_multiple_of(PAGE);
        if len > LIMIT {
            return Err(no_memory(len as u64));
        }
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that
        // exists yet.
        let p = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        match NonNull::new(p.cast::<u8>()) {
            Some(base) if p != libc::MAP_FAILED => Ok(Self { base, len }),
            _ => Err(no_memory(len as u64)),
        }
    }

    /// Zeroed memory in three parts, of which the second one appears twice in a row, so that what
    /// wraps at its end is still in one piece. All lengths are whole pages.
    pub(crate) fn mirrored(head: usize, twice: usize, tail: usize) -> Result<Self, MapError> {
        let file = head + twice + tail;
        let this = Self::new(Some(file + twice))?;
        let no_memory = || MapError::NoMemory { bytes: this.len as u64, limit: LIMIT as u64 };
        // SAFETY: the name is a constant C string; the call touches no other memory.
        let fd = unsafe { libc::memfd_create(c"skep-ring".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(no_memory());
        }
        // SAFETY: `memfd_create` just returned this descriptor and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        File::from(fd.try_clone().map_err(|_| no_memory())?)
            .set_len(file as u64)
            .map_err(|_| no_memory())?;
        // place in the mapping, place in the file, bytes
        let parts = [
            (0, 0, head + twice),
            (head + twice, head, twice),
            (head + 2 * twice, head + twice, tail),
        ];
        for (at, from, len) in parts.into_iter().filter(|p| p.2 > 0) {
            let from = libc::off_t::try_from(from).map_err(|_| no_memory())?;
            // SAFETY: `at + len` is inside of the mapping that `this` owns and nobody has a
            // reference into it yet, so replacing a part of it takes no memory from anyone.
            let p = unsafe {
                libc::mmap(
                    this.base.as_ptr().wrapping_add(at).cast(),
                    len,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED | libc::MAP_FIXED | libc::MAP_NORESERVE,
                    fd.as_raw_fd(),
                    from,
                )
            };
            if p == libc::MAP_FAILED {
                return Err(no_memory());
            }
        }
        Ok(this)
    }

    /// First address.
    pub(crate) fn addr(&self) -> usize {
        self.base.as_ptr().addr()
    }

    /// Bytes, a whole number of pages.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Address of `off`, for programs. Panics outside of the mapping: offsets are this engine's.
    #[inline]
    pub(crate) fn ptr(&self, off: usize) -> NonNull<u8> {
        assert!(off < self.len, "offset {off:#x} outside of a mapping of {:#x}", self.len);
        // SAFETY: just checked that `off` stays inside of the mapping that starts at `base`.
        unsafe { self.base.add(off) }
    }

    /// `count` 64-bit words at `off`. Panics outside of the mapping or when not aligned.
    #[inline]
    pub(crate) fn words(&self, off: usize, count: usize) -> &[AtomicU64] {
        let inside = off <= self.len && count <= (self.len - off) / 8;
        assert!(inside && off.is_multiple_of(8), "{count} words at {off:#x} of {:#x}", self.len);
        // SAFETY: `off + 8 * count` is inside of the mapping, which lives as long as `self`.
        let first = unsafe { self.base.add(off) };
        // SAFETY: the range was just checked, pages are aligned to more than 8 and `off` to 8, every
        // bit pattern is an `AtomicU64`, and safe code makes no other kind of reference to it.
        unsafe { std::slice::from_raw_parts(first.cast::<AtomicU64>().as_ptr(), count) }
    }

    /// The 64-bit word at `off`.
    #[inline]
    pub(crate) fn u64(&self, off: usize) -> &AtomicU64 {
        let inside = off < self.len && off.is_multiple_of(8); // a page ends on a word
        assert!(inside, "word at {off:#x} of {:#x}", self.len);
        // SAFETY: `off` is inside of the mapping, which lives as long as `self`.
        let at = unsafe { self.base.add(off) };
        // SAFETY: aligned as in `words`; eight bytes from an aligned offset stay in its page.
        unsafe { at.cast::<AtomicU64>().as_ref() }
    }

    /// The 32-bit half word at `off`; only for metadata that is never read as a word.
    #[inline]
    pub(crate) fn u32(&self, off: usize) -> &AtomicU32 {
        let inside = off < self.len && off.is_multiple_of(4); // a page ends on a half word
        assert!(inside, "half word at {off:#x} of {:#x}", self.len);
        // SAFETY: `off` is inside of the mapping, which lives as long as `self`.
        let at = unsafe { self.base.add(off) };
        // SAFETY: aligned to 4 as just checked; four bytes from there stay in its page.
        unsafe { at.cast::<AtomicU32>().as_ref() }
    }

    /// Copies out; each word is read whole.
    #[inline]
    pub(crate) fn load(&self, off: usize, out: &mut [u8]) {
        let words = self.words(off, out.len().div_ceil(8));
        for (dst, word) in out.chunks_mut(8).zip(words) {
            let bytes = word.load(Relaxed).to_ne_bytes();
            dst.iter_mut().zip(bytes).for_each(|(d, s)| *d = s);
        }
    }

    /// Copies in; each word is written whole, the last one padded with zeros.
    #[inline]
    pub(crate) fn store(&self, off: usize, src: &[u8]) {
        let (full, tail) = src.as_chunks::<8>();
        let words = self.words(off, src.len().div_ceil(8));
        for (word, bytes) in words.iter().zip(full) {
            word.store(u64::from_ne_bytes(*bytes), Relaxed);
        }
        if !tail.is_empty()
            && let Some(last) = words.last()
        {
            last.store(padded(tail), Relaxed);
        }
    }

    /// Copies in bytes from any offset on. Their neighbours in the first and the last word stay as
    /// others change them meanwhile, and what lies in one word changes at once.
    pub(crate) fn patch(&self, off: usize, src: &[u8]) {
        let (mut off, mut rest) = (off, src);
        while !rest.is_empty() {
            let into = off % 8;
            let (now, later) = rest.split_at(rest.len().min(8 - into));
            let (mut mask, mut bytes) = ([0; 8], [0; 8]);
            mask.iter_mut().skip(into).zip(now).for_each(|(mask, _)| *mask = 0xff);
            bytes.iter_mut().skip(into).zip(now).for_each(|(to, from)| *to = *from);
            let (mask, bytes) = (u64::from_ne_bytes(mask), u64::from_ne_bytes(bytes));
            let word = self.u64(off - into);
            word.fetch_update(Relaxed, Relaxed, |old| Some(old & !mask | bytes))
                .expect("the new value is always some");
            (off, rest) = (off + now.len(), later);
        }
    }

    /// Zeroes `len` bytes, rounded up to words.
    pub(crate) fn zero(&self, off: usize, len: usize) {
        self.words(off, len.div_ceil(8)).iter().for_each(|w| w.store(0, Relaxed));
    }

    /// Do the bytes at `off`, which `store` wrote, equal `other`?
    #[inline]
    pub(crate) fn equals(&self, off: usize, other: &[u8]) -> bool {
        let (full, tail) = other.as_chunks::<8>();
        let words = self.words(off, other.len().div_ceil(8));
        let whole = words.iter().zip(full).all(|(w, b)| w.load(Relaxed) == u64::from_ne_bytes(*b));
        whole && (tail.is_empty() || words.last().is_some_and(|w| w.load(Relaxed) == padded(tail)))
    }
}

/// Up to eight bytes as a word in memory order, zeros behind.
#[inline]
pub(crate) fn padded(tail: &[u8]) -> u64 {
    let half = |four: &[u8; 4]| u64::from(u32::from_le_bytes(*four));
    let little = match (tail.first_chunk(), tail.last_chunk()) {
        // two halves that may overlap: keys of 4 to 8 bytes are what most programs have
        (Some(low), Some(high)) => half(low) | half(high) << ((tail.len() - 4) * 8),
        _ => tail.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    u64::from_ne_bytes(little.to_le_bytes())
}

impl Drop for Storage {
    fn drop(&mut self) {
        // SAFETY: `base..base + len` came from `mmap` and is unmapped only here; programs hold an
        // `Arc` of each map whose addresses they may have.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tail_is_padded_in_memory_order() {
        for len in 0..=8 {
            let tail: Vec<u8> = (1..=len).collect();
            let mut want = [0; 8];
            want[..tail.len()].copy_from_slice(&tail);
            assert_eq!(padded(&tail).to_ne_bytes(), want);
        }
    }

    #[test]
    fn what_is_stored_is_loaded_and_nothing_beyond() {
        let storage = Storage::new(Some(64)).unwrap();
        for len in 0..=24 {
            storage.words(0, 8).iter().for_each(|w| w.store(u64::MAX, Relaxed));
            let bytes: Vec<u8> = (0..len).collect();
            storage.store(8, &bytes);
            let mut got = vec![0; bytes.len()];
            storage.load(8, &mut got);
            assert_eq!(got, bytes);
            assert!(storage.equals(8, &bytes));
            assert_eq!(storage.u64(0).load(Relaxed), u64::MAX);
            let after = 8 + round8(bytes.len());
            assert_eq!(storage.u64(after).load(Relaxed), u64::MAX);
        }
    }

    #[test]
    fn what_is_patched_leaves_its_neighbours() {
        let storage = Storage::new(Some(64)).unwrap();
        for (from, len) in (0..16).flat_map(|from| (0..=20).map(move |len| (from, len))) {
            storage.words(0, 8).iter().for_each(|w| w.store(u64::MAX, Relaxed));
            let bytes: Vec<u8> = (0..len).collect();
            storage.patch(8 + from, &bytes);
            let mut want = [0xff; 64];
            want[8 + from..][..bytes.len()].copy_from_slice(&bytes);
            let mut got = [0; 64];
            storage.load(0, &mut got);
            assert_eq!(got, want, "{len} bytes from {from} on");
        }
    }

    #[test]
    fn the_mirror_shows_the_same_bytes() {
        let storage = Storage::mirrored(PAGE, 2 * PAGE, PAGE).unwrap();
        assert_eq!(storage.len(), 6 * PAGE);
        storage.u64(PAGE + 16).store(7, Relaxed);
        storage.u64(5 * PAGE).store(8, Relaxed);
        assert_eq!(storage.u64(3 * PAGE + 16).load(Relaxed), 7);
        storage.u64(5 * PAGE - 8).store(9, Relaxed);
        assert_eq!(storage.u64(3 * PAGE - 8).load(Relaxed), 9);
        assert_eq!(storage.u64(5 * PAGE).load(Relaxed), 8);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for len in [None, Some(LIMIT + 1)] {
            assert_eq!(Storage::new(len).map(drop).unwrap_err().errno(), libc::ENOMEM);
        }
    }
}
