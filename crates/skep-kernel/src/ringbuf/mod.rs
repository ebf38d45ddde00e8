//! Consumers of BPF ring buffers: of one, and of several at once.

mod set;

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use skep_abi::{MapFlags, MapType};

pub use self::set::RingSet;

use crate::{
    error::MapError,
    map::Map,
    sys::{self, Mapping, SysError},
};

/// The record is reserved and not submitted yet.
const BUSY: u32 = 1 << 31;
/// The program changed its mind.
const DISCARDED: u32 = 1 << 30;
/// Bytes of a record's header: length with the two bits above, and the kernel's own word.
const HEADER: usize = 8;

/// Takes records out of a ring buffer map, in the order in which programs reserved them.
///
/// What is lost is not visible here: a program whose reservation fails learns it from the helper,
/// nobody else does. Programs that care count it in a map.
#[derive(Debug)]
pub struct RingConsumer {
    map: Arc<Map>,
    /// The page with our position.
    consumer: Mapping,
    /// The page with the kernel's position, then the data twice in a row, so that every record is
    /// contiguous.
    producer: Mapping,
    page: usize,
    size: u64,
    /// The kernel's position as last seen. Looking is dear while programs write: every CPU moves it.
    end: u64,
    record: Vec<u8>,
    taken: u64,
}

impl RingConsumer {
    /// Maps `map` and reads on from where its last consumer stopped.
    ///
    /// # Errors
    ///
    /// `EINVAL` when `map` is not a ring buffer, or one that overwrites its oldest records: those
    /// cannot be read while programs write. `EPERM` when it is frozen.
    pub fn new(map: Arc<Map>) -> Result<Self, MapError> {
        let fail = |source| MapError { map: map.name().to_owned(), source };
        if map.def().map_type != MapType::RINGBUF {
            let hint = "only ring buffers have records to consume";
            return Err(fail(SysError::errno_of("mmap", libc::EINVAL, hint)));
        }
        if map.def().flags.contains(MapFlags::RB_OVERWRITE) {
            let hint = "a ring buffer that overwrites (BPF_F_RB_OVERWRITE) has no consumer";
            return Err(fail(SysError::errno_of("mmap", libc::EINVAL, hint)));
        }
        let page = sys::page_bytes() as usize;
        let size = map.def().max_entries;
        let consumer = Mapping::new(map.as_fd(), 0, page, true).map_err(fail)?;
        let len = page + 2 * size as usize;
        let producer = Mapping::new(map.as_fd(), page, len, false).map_err(fail)?;
        let size = u64::from(size);
        Ok(Self { map, consumer, producer, page, size, end: 0, record: Vec::new(), taken: 0 })
    }

    /// The map.
    pub const fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// The next record if there is one. A reserved record that is not submitted yet holds up all
    /// after it.
    #[expect(clippy::should_implement_trait, reason = "records are borrowed: a lending iterator")]
    pub fn next(&mut self) -> Option<&[u8]> {
        loop {
            let at = self.consumer.load_u64(0);
            if at >= self.end {
                self.end = self.producer.load_u64(0);
            }
            if at >= self.end {
                return None;
            }
            let offset = self.record_at(at)?;
            let header = self.producer.load_u32(offset);
            if header & BUSY != 0 {
                return None;
            }
            let len = (header & !(BUSY | DISCARDED)) as usize;
            // The kernel reserves no more than the ring holds; a length that says otherwise is not
            // a record.
            if offset + HEADER + len > self.producer.len() {
                return None;
            }
            self.record.clear();
            if header & DISCARDED == 0 {
                self.producer.copy(offset + HEADER, len, &mut self.record);
            }
            let next = at + (len + HEADER).next_multiple_of(8) as u64;
            self.consumer.store_u64(0, next);
            if header & DISCARDED == 0 {
                self.taken += 1;
                return Some(&self.record);
            }
        }
    }

    /// The next record; waits for one up to `timeout`.
    pub fn poll(&mut self, timeout: Duration) -> Option<&[u8]> {
        if !self.has_next() {
            // A failed wait (a signal) is an early end of the wait.
            sys::wait_readable(&[self.map.as_fd()], timeout).ok();
        }
        self.next()
    }

    /// Is there something at our position that is not busy?
    fn has_next(&self) -> bool {
        let at = self.consumer.load_u64(0);
        let committed = |offset| self.producer.load_u32(offset) & BUSY == 0;
        at < self.producer.load_u64(0) && self.record_at(at).is_some_and(committed)
    }

    /// Where in the mapping the record of a position starts; `None` where none can: every process
    /// that has the map may write the position.
    fn record_at(&self, position: u64) -> Option<usize> {
        let place = usize::try_from(position.checked_rem(self.size)?).ok()?;
        place.is_multiple_of(8).then_some(self.page + place)
    }

    /// Records taken since this consumer was made.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Bytes that programs have reserved and nobody has consumed.
    pub fn pending_bytes(&self) -> u64 {
        self.producer.load_u64(0).saturating_sub(self.consumer.load_u64(0))
    }
}

impl AsFd for RingConsumer {
    /// Readable when there are records: for `poll`, `epoll`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use skep_abi::MapDef;
    use skep_testing::require_kernel;

    use super::*;
    use crate::probe;

    #[test]
    fn a_position_that_others_spoiled_is_no_record() {
        require_kernel!(probe::can_load().into_result());
        let def = MapDef {
            map_type: MapType::RINGBUF,
            key_size: 0,
            value_size: 0,
            max_entries: 4096,
            flags: MapFlags(0),
            extra: 0,
            numa_node: 0,
        };
        let map = Arc::new(Map::create("ring", def, None, None).unwrap());
        let mut consumer = RingConsumer::new(map).unwrap();
        // None of these is before the end of what was produced: nothing.
        for position in [8, u64::MAX, u64::MAX - 7] {
            consumer.consumer.store_u64(0, position);
            assert_eq!(consumer.poll(Duration::ZERO), None);
        }
        for (position, place) in [(0, 0), (4096 + 8, 8), (4096 + 4088, 4088)] {
            assert_eq!(consumer.record_at(position), Some(consumer.page + place));
        }
        for place in [1, 4, 4095] {
            assert_eq!(consumer.record_at(place), None);
        }
    }
}
