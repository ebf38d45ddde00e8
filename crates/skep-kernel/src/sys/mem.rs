//! Memory shared with the kernel: ring buffers, perf buffers, arrays, arenas.
//!
//! The kernel writes while we read. Positions and record headers are read and written atomically;
//! data is copied out, never borrowed.

use std::{
    os::fd::BorrowedFd,
    ptr::NonNull,
    sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering},
};

use super::{Call, SysError, issue};

const RELAXED: Ordering = Ordering::Relaxed;

/// A mapping of a descriptor's memory, unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    at: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: the memory belongs to the mapping for its whole life; access is atomic or a copy of
// bytes that the protocol of the buffer says are not being written.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; shared access only reads atomically or copies.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes from `offset` of what `fd` offers. `len` must not be 0.
    pub(crate) fn new(
        fd: BorrowedFd<'_>,
        offset: usize,
        len: usize,
        writable: bool,
    ) -> Result<Self, SysError> {
        let too_far = |_| SysError::errno_of("mmap", libc::EOVERFLOW, "offset beyond 63 bits");
        let offset = libc::off_t::try_from(offset).map_err(too_far)?;
        Self::map(0, fd, offset, len, writable)
    }

    /// Maps `len` bytes from the start of what `fd` offers, writable, at `address` where that is
    /// not 0. `len` must not be 0.
    ///
    /// # Errors
    ///
    /// `EEXIST` when something of this process is there already.
    pub(crate) fn at(fd: BorrowedFd<'_>, address: u64, len: usize) -> Result<Self, SysError> {
        let wanted = usize::try_from(address)
            .map_err(|_| SysError::errno_of("mmap", libc::ENOMEM, "no such address here"))?;
        let mapping = Self::map(wanted, fd, 0, len, true)?;
        if address != 0 && mapping.start() != address {
            let hint = "the kernel put it elsewhere";
            return Err(SysError::errno_of("mmap", libc::EEXIST, hint));
        }
        Ok(mapping)
    }

    fn map(
        at: usize,
        fd: BorrowedFd<'_>,
        offset: libc::off_t,
        len: usize,
        writable: bool,
    ) -> Result<Self, SysError> {
        let prot = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: passes no address of memory that is ours.
        let at = unsafe { issue(&mut Call::Mmap { at, fd, offset, len, prot }) }?;
        let at = usize::try_from(at.cast_unsigned()).expect("an address is as long as a pointer");
        let at = NonNull::new(std::ptr::with_exposed_provenance_mut(at))
            .expect("no mapping is at 0: nobody asks for it");
        Ok(Self { at, len, writable })
    }

    /// The address of the first byte.
    pub(crate) fn start(&self) -> u64 {
        self.at.as_ptr().addr() as u64
    }

    fn address(&self, offset: usize, len: usize, align: usize) -> *mut u8 {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        assert!(inside && offset.is_multiple_of(align), "access within the mapping, aligned");
        // SAFETY: `offset` is within the mapping, checked above.
        unsafe { self.at.as_ptr().add(offset) }
    }

    /// Reads a 64-bit position.
    pub(crate) fn load_u64(&self, offset: usize) -> u64 {
        let at = self.address(offset, 8, 8).cast::<u64>();
        // SAFETY: 8 aligned bytes inside the mapping (`address`); a page's start is aligned to
        // more than 8; the kernel writes them as one 64-bit word.
        unsafe { AtomicU64::from_ptr(at) }.load(Ordering::Acquire)
    }

    /// Writes a 64-bit position.
    pub(crate) fn store_u64(&self, offset: usize, value: u64) {
        assert!(self.writable, "only writable mappings are stored to");
        let at = self.address(offset, 8, 8).cast::<u64>();
        // SAFETY: as for `load_u64`, and the mapping is writable.
        unsafe { AtomicU64::from_ptr(at) }.store(value, Ordering::Release);
    }

    /// Reads a 32-bit word of a record header.
    pub(crate) fn load_u32(&self, offset: usize) -> u32 {
        let at = self.address(offset, 4, 4).cast::<u32>();
        // SAFETY: 4 aligned bytes inside the mapping; the kernel writes them as one word.
        unsafe { AtomicU32::from_ptr(at) }.load(Ordering::Acquire)
    }

    /// Writes a 32-bit word of a record header.
    pub(crate) fn store_u32(&self, offset: usize, value: u32) {
        assert!(self.writable, "only writable mappings are stored to");
        let at = self.address(offset, 4, 4).cast::<u32>();
        // SAFETY: as for `load_u32`, and the mapping is writable.
        unsafe { AtomicU32::from_ptr(at) }.store(value, Ordering::Release);
    }

    /// Copies bytes into the mapping, at a place that the kernel does not read yet.
    pub(crate) fn paste(&self, offset: usize, from: &[u8]) {
        assert!(self.writable, "only writable mappings are stored to");
        let to = self.address(offset, from.len(), 1);
        // SAFETY: `to` has room for all of `from` inside the writable mapping, which no slice of
        // ours overlaps. If the kernel did read meanwhile, it would get a mixture of plain bytes.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
    }

    /// Appends `len` bytes to `to`.
    pub(crate) fn copy(&self, offset: usize, len: usize, to: &mut Vec<u8>) {
        let from = self.address(offset, len, 1);
        to.reserve(len);
        let end = to.len();
        // SAFETY: `reserve` made room for `len` bytes behind the vector's end.
        let room = unsafe { to.as_mut_ptr().add(end) };
        // SAFETY: `from` has `len` bytes inside the mapping, `room` has `len` bytes of the
        // vector's own memory; the two do not overlap. The kernel does not write records between
        // their submission and the move of our position; if it did, the copy would hold some
        // mixture of plain bytes.
        unsafe { std::ptr::copy_nonoverlapping(from, room, len) };
        // SAFETY: capacity was reserved, and the copy initialised those bytes.
        unsafe { to.set_len(end + len) };
    }

    /// Reads bytes that programs may be writing: 2, 4 or 8 aligned bytes as one word, anything else
    /// byte by byte.
    pub(crate) fn read_shared(&self, offset: usize, to: &mut [u8]) {
        let at = self.address(offset, to.len(), 1);
        match (to.len(), offset % to.len().max(1)) {
            // SAFETY: 8 bytes inside the mapping (`address`), aligned as the pattern says.
            (8, 0) => to.copy_from_slice(
                &unsafe { AtomicU64::from_ptr(at.cast()) }.load(RELAXED).to_ne_bytes(),
            ),
            // SAFETY: as above, with 4 bytes.
            (4, 0) => to.copy_from_slice(
                &unsafe { AtomicU32::from_ptr(at.cast()) }.load(RELAXED).to_ne_bytes(),
            ),
            // SAFETY: as above, with 2 bytes.
            (2, 0) => to.copy_from_slice(
                &unsafe { AtomicU16::from_ptr(at.cast()) }.load(RELAXED).to_ne_bytes(),
            ),
            _ => {
                for (n, byte) in to.iter_mut().enumerate() {
                    // SAFETY: `n` is below the length that `address` checked.
                    let from = unsafe { at.add(n) };
                    // SAFETY: one byte inside the mapping.
                    *byte = unsafe { AtomicU8::from_ptr(from) }.load(RELAXED);
                }
            }
        }
    }

    /// Writes bytes that programs may be reading, in the same units as [`Mapping::read_shared`].
    pub(crate) fn write_shared(&self, offset: usize, from: &[u8]) {
        assert!(self.writable, "only writable mappings are stored to");
        let at = self.address(offset, from.len(), 1);
        let aligned = offset.is_multiple_of(from.len().max(1));
        if aligned && let Ok(bytes) = <[u8; 8]>::try_from(from) {
            // SAFETY: 8 aligned bytes inside the writable mapping.
            unsafe { AtomicU64::from_ptr(at.cast()) }.store(u64::from_ne_bytes(bytes), RELAXED);
        } else if aligned && let Ok(bytes) = <[u8; 4]>::try_from(from) {
            // SAFETY: 4 aligned bytes inside the writable mapping.
            unsafe { AtomicU32::from_ptr(at.cast()) }.store(u32::from_ne_bytes(bytes), RELAXED);
        } else if aligned && let Ok(bytes) = <[u8; 2]>::try_from(from) {
            // SAFETY: 2 aligned bytes inside the writable mapping.
            unsafe { AtomicU16::from_ptr(at.cast()) }.store(u16::from_ne_bytes(bytes), RELAXED);
        } else {
            for (n, &byte) in from.iter().enumerate() {
                // SAFETY: `n` is below the length that `address` checked.
                let to = unsafe { at.add(n) };
                // SAFETY: one byte inside the writable mapping.
                unsafe { AtomicU8::from_ptr(to) }.store(byte, RELAXED);
            }
        }
    }

    /// May it be written to?
    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives a method call.
        unsafe { issue(&mut Call::Munmap { at: self.at.as_ptr(), len: self.len }) }.ok();
    }
}
