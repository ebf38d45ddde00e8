//! The values of an array as memory of this process.

use crate::sys::Mapping;

/// The values of an array, shared with the kernel: entry after entry, each rounded up to 8 bytes.
///
/// 2, 4 or 8 bytes at a multiple of their number are read and written as one word, which a
/// program never sees half done; anything else byte by byte.
#[derive(Debug)]
pub struct Memory {
    pub(super) mapping: Mapping,
    pub(super) len: usize,
}

impl Memory {
    /// Length in bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Arrays have at least one entry.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes at `offset` into `to`; false when they are not all inside.
    #[must_use]
    pub fn read(&self, offset: usize, to: &mut [u8]) -> bool {
        let inside = self.inside(offset, to.len());
        if inside {
            self.mapping.read_shared(offset, to);
        }
        inside
    }

    /// Stores bytes at `offset`; false when they are not all inside.
    #[must_use]
    pub fn write(&self, offset: usize, from: &[u8]) -> bool {
        let inside = self.inside(offset, from.len());
        if inside {
            self.mapping.write_shared(offset, from);
        }
        inside
    }

    fn inside(&self, offset: usize, len: usize) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }
}
