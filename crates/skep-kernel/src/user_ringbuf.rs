//! Producer of a user ring buffer: records for programs, the other way round than in a ring buffer.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use skep_abi::MapType;

use crate::{
    error::MapError,
    map::Map,
    sys::{self, Mapping, SysError},
};

/// The record is reserved and not submitted yet.
const BUSY: u32 = 1 << 31;
/// The producer changed its mind.
const DISCARDED: u32 = 1 << 30;
/// Bytes of a record's header: its length with the two bits above, and a word that is zero.
const HEADER: u64 = 8;

/// Writes records into a user ring buffer, which programs take out with
/// `bpf_user_ringbuf_drain` (Linux 6.1). One per map: two that reserve at the same time would
/// write over each other.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let map: std::sync::Arc<skep_kernel::Map> = todo!();
/// use skep_kernel::user_ringbuf::UserRing;
///
/// let mut ring = UserRing::new(map)?;
/// let mut record = ring.reserve(16)?;
/// record.write(0, b"sixteen bytes...");
/// record.submit();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct UserRing {
    map: Arc<Map>,
    /// The page with the kernel's position.
    consumer: Mapping,
    /// The page with our position, then the data twice in a row, so that every record is
    /// contiguous.
    producer: Mapping,
    page: usize,
    size: u64,
    submitted: u64,
}

/// Room for one record. Dropping it without [`submit`](Reservation::submit) discards it: programs
/// never see it.
#[derive(Debug)]
#[must_use = "a reservation that is dropped is discarded"]
pub struct Reservation<'a> {
    ring: &'a mut UserRing,
    /// Place of its header in the mapping.
    at: usize,
    len: u32,
    submitted: bool,
}

impl UserRing {
    /// Maps `map` and writes on from where its last producer stopped.
    ///
    /// # Errors
    ///
    /// `EINVAL` when `map` is not a user ring buffer.
    pub fn new(map: Arc<Map>) -> Result<Self, MapError> {
        let fail = |source| MapError { map: map.name().to_owned(), source };
        if map.def().map_type != MapType::USER_RINGBUF {
            let hint = "only user ring buffers take records from user space";
            return Err(fail(SysError::errno_of("mmap", libc::EINVAL, hint)));
        }
        let page = sys::page_bytes() as usize;
        let size = map.def().max_entries;
        let consumer = Mapping::new(map.as_fd(), 0, page, false).map_err(fail)?;
        let len = page + 2 * size as usize;
        let producer = Mapping::new(map.as_fd(), page, len, true).map_err(fail)?;
        Ok(Self { map, consumer, producer, page, size: u64::from(size), submitted: 0 })
    }

    /// The map.
    pub const fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// Makes room for a record of `len` bytes, zeroed.
    ///
    /// # Errors
    ///
    /// `ENOSPC` when the ring is full for now, `E2BIG` when it could never hold the record.
    pub fn reserve(&mut self, len: u32) -> Result<Reservation<'_>, MapError> {
        let taken = (u64::from(len) + HEADER).next_multiple_of(8);
        if taken > self.size || len & (BUSY | DISCARDED) != 0 {
            return Err(self.refuse(libc::E2BIG, "the record is larger than the ring"));
        }
        let (at, read) = (self.producer.load_u64(0), self.consumer.load_u64(0));
        let room = at.checked_sub(read).and_then(|used| self.size.checked_sub(used));
        let place = usize::try_from(at % self.size).ok().filter(|place| place.is_multiple_of(8));
        // Every process that has the map may write our position.
        let Some((room, place)) = room.zip(place) else {
            return Err(self.refuse(libc::EINVAL, "another process spoiled the ring's position"));
        };
        if room < taken {
            return Err(self.refuse(libc::ENOSPC, "programs have not made room yet"));
        }
        let at_header = self.page + place;
        self.producer.store_u32(at_header + 4, 0);
        self.producer.store_u32(at_header, len | BUSY);
        self.producer.paste(at_header + 8, &vec![0; len as usize]);
        self.producer.store_u64(0, at + taken);
        Ok(Reservation { ring: self, at: at_header, len, submitted: false })
    }

    /// As [`UserRing::reserve`], waiting up to `timeout` for programs to make room.
    ///
    /// # Errors
    ///
    /// As for [`UserRing::reserve`], `ENOSPC` at the end of the time.
    pub fn reserve_within(
        &mut self,
        len: u32,
        timeout: Duration,
    ) -> Result<Reservation<'_>, MapError> {
        // A time that no clock reaches is no limit worth having.
        let end = Instant::now().checked_add(timeout);
        loop {
            let full = match self.fits(len) {
                Ok(()) => return self.reserve(len),
                Err(e) => e,
            };
            let left = end.map_or(timeout, |end| end.saturating_duration_since(Instant::now()));
            if full.errno() != libc::ENOSPC || left.is_zero() {
                return Err(full);
            }
            // Programs that drain tell only now and then that there is room; a failed wait (a
            // signal) is an early look.
            sys::wait_writable(self.map.as_fd(), left.min(Duration::from_millis(20))).ok();
            std::thread::sleep(Duration::from_micros(100).min(left));
        }
    }

    fn fits(&self, len: u32) -> Result<(), MapError> {
        let taken = (u64::from(len) + HEADER).next_multiple_of(8);
        match self.pending_bytes().saturating_add(taken) <= self.size {
            true => Ok(()),
            false if taken > self.size => {
                Err(self.refuse(libc::E2BIG, "the record is larger than the ring"))
            }
            false => Err(self.refuse(libc::ENOSPC, "programs have not made room yet")),
        }
    }

    /// Writes one record.
    ///
    /// # Errors
    ///
    /// As for [`UserRing::reserve`].
    pub fn send(&mut self, record: &[u8]) -> Result<(), MapError> {
        let len = u32::try_from(record.len());
        let len =
            len.map_err(|_| self.refuse(libc::E2BIG, "the record is larger than the ring"))?;
        let mut place = self.reserve(len)?;
        place.write(0, record);
        place.submit();
        Ok(())
    }

    /// Records submitted since this producer was made.
    pub const fn submitted(&self) -> u64 {
        self.submitted
    }

    /// Bytes that are reserved or submitted and that no program has taken out.
    pub fn pending_bytes(&self) -> u64 {
        self.producer.load_u64(0).saturating_sub(self.consumer.load_u64(0))
    }

    fn refuse(&self, errno: i32, hint: &'static str) -> MapError {
        let source = SysError::errno_of("user ring buffer", errno, hint);
        MapError { map: self.map.name().to_owned(), source }
    }
}

impl AsFd for UserRing {
    /// Writable when there may be room: for `poll`, `epoll`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl Reservation<'_> {
    /// Bytes of the record.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Has it no bytes?
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Stores bytes at `offset` of the record.
    ///
    /// # Panics
    ///
    /// When they are not all inside.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let inside = offset.checked_add(bytes.len()).is_some_and(|end| end <= self.len());
        assert!(inside, "{} bytes at {offset} of a record of {}", bytes.len(), self.len);
        self.ring.producer.paste(self.at + 8 + offset, bytes);
    }

    /// Hands the record over to programs.
    pub fn submit(mut self) {
        self.submitted = true;
        self.ring.submitted += 1;
        self.ring.producer.store_u32(self.at, self.len);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if !self.submitted {
            self.ring.producer.store_u32(self.at, self.len | DISCARDED);
        }
    }
}
