//! The values of an array, or an arena, as memory of this process.

use std::sync::Arc;

use skep_abi::{MapFlags, MapType};

use super::Map;
use crate::{
    error::MapError,
    sys::{self, Mapping, SysError},
};

/// The values of an array, entry after entry, each rounded up to 8 bytes; or the pages of an arena.
/// Shared with the kernel, and with whoever else has the map.
///
/// 2, 4 or 8 bytes at a multiple of their number are read and written as one word, which a
/// program never sees half done; anything else byte by byte.
#[derive(Clone, Debug)]
pub struct Memory {
    mapping: Arc<Mapping>,
    len: usize,
}

impl Memory {
    /// Length in bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Arrays have at least one entry, and arenas at least one page.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// May it be written to? Not that of a frozen map.
    pub fn is_writable(&self) -> bool {
        self.mapping.is_writable()
    }

    /// Where it starts in this process. Pointers that programs store in an arena are addresses
    /// from here on.
    pub fn address(&self) -> u64 {
        self.mapping.start()
    }

    /// The offset of what a pointer in an arena points to; `None` when that is elsewhere.
    pub fn offset_of(&self, pointer: u64) -> Option<usize> {
        let offset = usize::try_from(pointer.checked_sub(self.address())?).ok()?;
        (offset < self.len).then_some(offset)
    }

    /// Copies bytes at `offset` into `to`; false when they are not all inside.
    ///
    /// A page of an arena that was not allocated is allocated by this.
    #[must_use]
    pub fn read(&self, offset: usize, to: &mut [u8]) -> bool {
        let inside = self.inside(offset, to.len());
        if inside {
            self.mapping.read_shared(offset, to);
        }
        inside
    }

    /// Stores bytes at `offset`; false when they are not all inside, or nothing can be written.
    #[must_use]
    pub fn write(&self, offset: usize, from: &[u8]) -> bool {
        let inside = self.inside(offset, from.len()) && self.is_writable();
        if inside {
            self.mapping.write_shared(offset, from);
        }
        inside
    }

    fn inside(&self, offset: usize, len: usize) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }
}

impl Map {
    /// Maps the values of an array, or an arena, into this process, where programs see changes at
    /// once and one variable can be changed without writing the others back.
    ///
    /// An arena is mapped once, at the address that all of its pointers share, and stays so while
    /// this `Map` lives. Of a frozen map the memory can only be read.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is neither an arena nor an array with [`MapFlags::MMAPABLE`]. Of arenas
    /// also `EEXIST` when this process has something at its address, and `EINVAL` when reading a
    /// page could be a `SIGSEGV` ([`MapFlags::SEGV_ON_FAULT`]), or the arena has a place in another
    /// process that its definition does not name.
    pub fn memory(&self) -> Result<Memory, MapError> {
        let page = sys::page_bytes() as usize;
        if self.def.map_type == MapType::ARENA {
            if self.def.flags.contains(MapFlags::SEGV_ON_FAULT) {
                let hint = "pages of this arena (BPF_F_SEGV_ON_FAULT) cannot be read safely";
                return Err(self.fail(SysError::errno_of("mmap", libc::EINVAL, hint)));
            }
            let mapping = self.map_arena().map_err(|e| self.fail(e))?;
            let len = mapping.len();
            return Ok(Memory { mapping, len });
        }
        if self.def.map_type != MapType::ARRAY || !self.def.flags.contains(MapFlags::MMAPABLE) {
            let hint = "only arenas, and arrays made with BPF_F_MMAPABLE, can be mapped";
            return Err(self.fail(SysError::errno_of("mmap", libc::EINVAL, hint)));
        }
        let stride = (self.def.value_size as usize).next_multiple_of(8);
        let len = stride.saturating_mul(self.def.max_entries as usize);
        let map = |writable| Mapping::new(self.fd.fd(), 0, len.next_multiple_of(page), writable);
        let mapping = match map(true) {
            // Frozen, or a descriptor that may only read.
            Err(e) if matches!(e.errno(), libc::EPERM | libc::EACCES) => map(false),
            other => other,
        };
        let mapping = Arc::new(mapping.map_err(|e| self.fail(e))?);
        Ok(Memory { mapping, len })
    }

    /// Gives an arena its place in this process. Programs that use it load only then.
    pub(crate) fn map_arena(&self) -> Result<Arc<Mapping>, SysError> {
        let mut place = self.arena.lock().expect("nothing panics while it holds the lock");
        if let Some(mapping) = place.as_ref() {
            return Ok(Arc::clone(mapping));
        }
        let page = sys::page_bytes() as usize;
        let len = page.saturating_mul(self.def.max_entries as usize);
        let mapping = Arc::new(Mapping::at(self.fd.fd(), self.def.extra, len)?);
        *place = Some(Arc::clone(&mapping));
        Ok(mapping)
    }
}
