//! Several ring buffers, waited for with one descriptor.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use super::RingConsumer;
use crate::{
    error::MapError,
    map::Map,
    sys::{self, SysError},
};

/// Most records of one ring that one [`RingSet::poll`] hands out, so that a busy ring does not
/// keep the others waiting.
const AT_ONCE: usize = 1024;

/// Takes records out of several ring buffers.
#[derive(Debug)]
pub struct RingSet {
    rings: Vec<RingConsumer>,
    epoll: OwnedFd,
}

impl RingSet {
    /// Starts to read all of these.
    ///
    /// # Errors
    ///
    /// As for [`RingConsumer::new`], with the map's name.
    pub fn new(maps: impl IntoIterator<Item = Arc<Map>>) -> Result<Self, MapError> {
        let unnamed = |source| MapError { map: "ring buffers".to_owned(), source };
        let mut set = Self { rings: Vec::new(), epoll: sys::epoll_create().map_err(unnamed)? };
        maps.into_iter().try_for_each(|map| set.add(map))?;
        Ok(set)
    }

    /// Starts to read one more.
    ///
    /// # Errors
    ///
    /// As for [`RingConsumer::new`]; `EEXIST` when it is in the set already.
    pub fn add(&mut self, map: Arc<Map>) -> Result<(), MapError> {
        let ring = RingConsumer::new(map)?;
        let fail = |source: SysError| MapError { map: ring.map().name().to_owned(), source };
        sys::epoll_add(self.epoll.as_fd(), ring.as_fd()).map_err(fail)?;
        self.rings.push(ring);
        Ok(())
    }

    /// The rings, in the order in which they were added.
    pub fn rings(&self) -> &[RingConsumer] {
        &self.rings
    }

    /// Hands out records, with the number of their ring; at most 1024 of each. Waits up to
    /// `timeout` when there are none. Returns how many there were.
    pub fn poll(&mut self, timeout: Duration, mut take: impl FnMut(usize, &[u8])) -> usize {
        let count = self.consume(&mut take);
        if count > 0 || timeout.is_zero() {
            return count;
        }
        // A failed wait (a signal) is an early end of the wait.
        sys::wait_readable(&[self.epoll.as_fd()], timeout).ok();
        self.consume(&mut take)
    }

    fn consume(&mut self, take: &mut impl FnMut(usize, &[u8])) -> usize {
        let mut count = 0;
        for (number, ring) in self.rings.iter_mut().enumerate() {
            for _ in 0..AT_ONCE {
                let Some(record) = ring.next() else { break };
                take(number, record);
                count += 1;
            }
        }
        count
    }
}

impl AsFd for RingSet {
    /// Readable when one of the rings has records: for `poll`, `epoll`.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
