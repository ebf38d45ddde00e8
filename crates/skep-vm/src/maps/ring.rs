//! Ring buffers: records of many producers in one order.
//!
//! Layout as the kernel's: a page of the engine's own, a page with the consumer's position, a page
//! with the producers', then the data, mapped twice in a row so that no record is cut. A record is
//! a header (length with busy and discard bits, page offset), the bytes, and padding to 8. Behind
//! all that stands a bit for each place where a record may start: set while a program fills it.
//! With it an address can be checked without trusting anything that programs can write.

use std::{
    ptr::NonNull,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
            fence,
        },
    },
    time::{Duration, Instant},
};

use skep_abi::MapDef;

use super::{
    Map, MapError, Span,
    lock::SeqLock,
    storage::{PAGE, Storage},
    wake::Wake,
};

/// `BPF_RB_NO_WAKEUP`.
const NO_WAKEUP: u64 = 1;
/// `BPF_RB_FORCE_WAKEUP`.
const FORCE_WAKEUP: u64 = 2;

/// Bit of a header's length: not committed yet.
const BUSY: u32 = 1 << 31;
/// Bit of a header's length: to be left out.
const DISCARD: u32 = 1 << 30;
/// Bytes of a header.
const HEADER: usize = 8;
/// Longest record, `RINGBUF_MAX_RECORD_SZ`.
const MAX_RECORD: u64 = u32::MAX as u64 / 4;

const LOCK: usize = 0;
const LOST: usize = 64;
const CONSUMER: usize = PAGE;
const PRODUCER: usize = 2 * PAGE;
const DATA: usize = 3 * PAGE;

/// Records in order of reservation.
#[derive(Debug)]
pub(super) struct Ring {
    storage: Storage,
    /// Bytes of data, a power of two.
    size: usize,
    wake: Wake,
    /// Held while a record is taken out.
    taking: Mutex<()>,
}

impl Ring {
    pub(super) fn new(def: &MapDef) -> Result<Self, MapError> {
        let size = def.max_entries as usize;
        let bits = (size / 64).next_multiple_of(PAGE);
        let storage = Storage::mirrored(DATA, size, bits)?;
        Ok(Self { storage, size, wake: Wake::default(), taking: Mutex::new(()) })
    }

    pub(super) const fn storage(&self) -> &Storage {
        &self.storage
    }

    fn position(&self, at: usize) -> &AtomicU64 {
        self.storage.u64(at)
    }

    /// Place of a position in the data.
    fn place(&self, position: u64) -> usize {
        usize::try_from(position & (self.size as u64 - 1)).expect("below size, which is a usize")
    }

    /// The word and the bit that say whether a reserved record starts at this place.
    fn start_bit(&self, place: usize) -> (&AtomicU64, u64) {
        let word = self.storage.u64(DATA + 2 * self.size + place / 64 / 8 * 8);
        (word, 1 << (place / 8 % 64))
    }

    /// Records that did not fit since the map was made.
    pub(super) fn lost(&self) -> u64 {
        self.position(LOST).load(Relaxed)
    }

    pub(super) fn reserve(&self, size: u64) -> Option<NonNull<u8>> {
        let place = self.reserve_place(size);
        if place.is_none() {
            self.position(LOST).fetch_add(1, Relaxed);
        }
        place.map(|p| self.storage.ptr(DATA + p + HEADER))
    }

    fn reserve_place(&self, size: u64) -> Option<usize> {
        if size > MAX_RECORD {
            return None;
        }
        let len = (size + HEADER as u64).next_multiple_of(8);
        let _writing = SeqLock(self.storage.u32(LOCK)).lock();
        let consumed = self.position(CONSUMER).load(Acquire);
        let produced = self.position(PRODUCER).load(Relaxed);
        let next = produced.checked_add(len)?;
        // The kernel keeps one byte free, so that full and empty differ in every position.
        if next - consumed > self.size as u64 - 1 {
            return None;
        }
        let place = self.place(produced);
        let header = DATA + place;
        let page = u32::try_from(header / PAGE).unwrap_or(0);
        self.storage.u32(header).store(u32::try_from(size).unwrap_or(0) | BUSY, Relaxed);
        self.storage.u32(header + 4).store(page, Relaxed);
        let (word, bit) = self.start_bit(place);
        word.fetch_or(bit, Release);
        self.position(PRODUCER).store(next, Release);
        Some(place)
    }

    /// Publishes the record whose bytes start at `addr`.
    pub(super) fn commit(&self, addr: usize, flags: u64, discard: bool) -> Result<(), MapError> {
        let not_reserved = MapError::NotReserved { addr: addr as u64 };
        let data = self.storage.addr() + DATA;
        let place = addr.checked_sub(data + HEADER).filter(|p| *p < self.size && p % 8 == 0);
        let place = place.ok_or(not_reserved)?;
        let (word, bit) = self.start_bit(place);
        // Of two threads that submit the same record one takes the bit away.
        if word.fetch_and(!bit, AcqRel) & bit == 0 {
            return Err(not_reserved);
        }
        let change = if discard { BUSY | DISCARD } else { BUSY };
        self.storage.u32(DATA + place).fetch_xor(change, SeqCst);
        fence(SeqCst); // with the one in `wait`: it sees the record, or we see how far it is
        let consumed = self.place(self.position(CONSUMER).load(Acquire));
        if flags & FORCE_WAKEUP != 0 || (consumed == place && flags & NO_WAKEUP == 0) {
            self.wake.ring();
        }
        Ok(())
    }

    pub(super) fn output(&self, data: &[u8], flags: u64) -> Result<(), MapError> {
        if flags & !(NO_WAKEUP | FORCE_WAKEUP) != 0 {
            return Err(MapError::Flags { flags });
        }
        let bytes = data.len() as u64;
        let record = self.reserve(bytes).ok_or(MapError::NoRoom { bytes, errno: libc::EAGAIN })?;
        let addr = record.as_ptr().addr();
        self.storage.store(addr - self.storage.addr(), data);
        self.commit(addr, flags, false)
    }

    pub(super) fn query(&self, selector: u64) -> u64 {
        let consumed = self.position(CONSUMER).load(Acquire);
        let produced = self.position(PRODUCER).load(Acquire);
        match selector {
            0 => produced - consumed.min(produced),
            1 => self.size as u64,
            2 => consumed,
            3 => produced,
            _ => 0,
        }
    }

    /// The header of the next record, if it is committed.
    fn ready(&self) -> Option<(u64, u32)> {
        let consumed = self.position(CONSUMER).load(Acquire);
        if consumed == self.position(PRODUCER).load(Acquire) {
            return None;
        }
        let header = self.storage.u32(DATA + self.place(consumed)).load(Acquire);
        (header & BUSY == 0).then_some((consumed, header))
    }

    /// Moves the next record out to `out`, leaving out discarded ones.
    fn take(&self, out: &mut Vec<u8>) -> bool {
        let _taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((consumed, header)) = self.ready() {
            let len = (header & !DISCARD) as usize;
            let wanted = header & DISCARD == 0;
            if wanted {
                out.resize(len, 0);
                self.storage.load(DATA + self.place(consumed) + HEADER, out);
            }
            let next = consumed + (len + HEADER).next_multiple_of(8) as u64;
            self.position(CONSUMER).store(next, Release);
            if wanted {
                return true;
            }
        }
        false
    }

    fn wait(&self, timeout: Duration) -> bool {
        self.wake.wait(timeout, || {
            fence(SeqCst);
            self.ready().is_some()
        })
    }

    /// The reserved record that contains this address.
    pub(super) fn value_span(&self, addr: usize) -> Option<Span> {
        let data = self.storage.addr() + DATA;
        let place = addr.checked_sub(data).filter(|p| *p < 2 * self.size)? % self.size;
        let start = self.last_start(place)?;
        let into = (place.wrapping_sub(start) & (self.size - 1)).checked_sub(HEADER)?;
        let header = self.storage.u32(DATA + start).load(Relaxed);
        let len = (header & !(BUSY | DISCARD)) as usize;
        (header & BUSY != 0 && into < len).then(|| Span { start: addr - into, len, writable: true })
    }

    /// The last place at or before `place`, round the end too, where a reserved record starts.
    fn last_start(&self, place: usize) -> Option<usize> {
        let words = self.storage.words(DATA + 2 * self.size, self.size / 512);
        let at = place / 512;
        let upto = u64::MAX >> (63 - place / 8 % 64);
        let last_in = |(n, word): (usize, &AtomicU64), mask: u64| {
            let bits = word.load(Acquire) & mask;
            (bits != 0).then(|| n * 512 + (63 - bits.leading_zeros() as usize) * 8)
        };
        let here = words.get(at).and_then(|w| last_in((at, w), upto));
        let (before, after) = words.split_at_checked(at)?;
        let before = before.iter().enumerate();
        let after = after.iter().enumerate().map(|(n, w)| (n + at, w));
        here.or_else(|| before.rev().find_map(|w| last_in(w, u64::MAX)))
            .or_else(|| after.rev().find_map(|w| last_in(w, u64::MAX)))
    }
}

/// Takes records out of a ring buffer map, in order. Several consumers share the records.
#[derive(Debug)]
pub struct RingConsumer {
    map: Arc<Map>,
    record: Vec<u8>,
    lost_before: u64,
}

impl RingConsumer {
    /// Reads `map` from its current position.
    ///
    /// # Errors
    ///
    /// [`MapError::Unsupported`] when `map` is not a ring buffer.
    pub fn new(map: Arc<Map>) -> Result<Self, MapError> {
        let lost_before = map.ring()?.lost();
        Ok(Self { map, record: Vec::new(), lost_before })
    }

    /// The map.
    pub const fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// The next record if there is one. A reserved record that is not submitted yet holds up all
    /// after it.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its items")]
    pub fn next(&mut self) -> Option<&[u8]> {
        let ring = self.map.ring().ok()?;
        ring.take(&mut self.record).then_some(self.record.as_slice())
    }

    /// The next record; waits for one up to `timeout`.
    pub fn poll(&mut self, timeout: Duration) -> Option<&[u8]> {
        let ring = self.map.ring().ok()?;
        let end = Instant::now().checked_add(timeout);
        while !ring.take(&mut self.record) {
            // A discarded record ends the wait too early: wait again.
            let left = end.map_or(timeout, |e| e.saturating_duration_since(Instant::now()));
            if !ring.wait(left) {
                return None;
            }
        }
        Some(&self.record)
    }

    /// Records that found no room since this consumer was made.
    pub fn lost(&self) -> u64 {
        self.map.ring().map_or(0, |ring| ring.lost() - self.lost_before)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use skep_abi::{MapFlags, MapType};

    use super::*;

    fn ring(size: u32) -> Arc<Map> {
        let def = MapDef {
            map_type: MapType::RINGBUF,
            key_size: 0,
            value_size: 0,
            max_entries: size,
            flags: MapFlags::default(),
            extra: 0,
            numa_node: 0,
        };
        Map::new("ring", def, None).unwrap()
    }

    #[test]
    fn records_come_in_order_of_reservation_and_busy_ones_hold_up() {
        let m = ring(4096);
        let mut consumer = RingConsumer::new(Arc::clone(&m)).unwrap();
        let [a, b, c] = [4, 5, 6].map(|n| m.ring_reserve(n, 0).unwrap().as_ptr().addr());
        m.ring_submit(c, 0).unwrap();
        m.ring_discard(b, 0).unwrap();
        assert_eq!(consumer.next(), None);
        m.ring_submit(a, 0).unwrap();
        assert_eq!(consumer.next().map(<[u8]>::len), Some(4));
        assert_eq!(consumer.next().map(<[u8]>::len), Some(6));
        assert_eq!(consumer.next(), None);
        for addr in [a, b, c, a + 8, 0, usize::MAX] {
            assert_eq!(m.ring_submit(addr, 0).unwrap_err().errno(), libc::EINVAL);
        }
    }

    #[test]
    fn headers_are_the_kernels() {
        let m = ring(8192);
        for _ in 0..3 {
            m.ring_output(&[0; 2000], 0).unwrap();
        }
        let addr = m.ring_reserve(100, 0).unwrap().as_ptr().addr();
        let r = m.ring().unwrap();
        let header = addr - r.storage.addr() - HEADER;
        assert_eq!(header, DATA + 3 * 2008);
        assert_eq!(r.storage.u32(header).load(Relaxed), 100 | 1 << 31);
        assert_eq!(r.storage.u32(header + 4).load(Relaxed), 4, "second page of the data");
        m.ring_discard(addr, 0).unwrap();
        assert_eq!(r.storage.u32(header).load(Relaxed), 100 | 1 << 30);
        let want = [3 * 2008 + 112, 8192, 0, 3 * 2008 + 112, 0];
        assert_eq!([0, 1, 2, 3, 4].map(|q| m.ring_query(q)), want);
    }

    #[test]
    fn a_full_ring_counts_what_it_loses() {
        let m = ring(4096);
        let mut consumer = RingConsumer::new(Arc::clone(&m)).unwrap();
        assert!(m.ring_reserve(4096 - 8, 0).is_none(), "one byte stays free");
        assert!(m.ring_reserve(u64::MAX, 0).is_none());
        let mut sent = 0;
        while m.ring_output(&[7; 92], 0).is_ok() {
            sent += 1;
        }
        assert_eq!(m.ring_output(&[7; 92], 0).unwrap_err().errno(), libc::EAGAIN);
        assert_eq!((sent, consumer.lost()), (39, 4));
        while consumer.next().is_some() {
            sent -= 1;
        }
        assert_eq!(sent, 0);
        assert!(m.ring_reserve(4000, 0).is_some(), "over the end, in one piece");
    }

    #[test]
    fn only_reserved_records_may_be_accessed() {
        let m = ring(4096);
        let mut consumer = RingConsumer::new(Arc::clone(&m)).unwrap();
        let granted = || m.addr_range().filter_map(|a| m.value_span(a)).collect::<Vec<_>>();
        assert_eq!(granted(), []);
        for _ in 0..20 {
            let [a, b] = [100, 300].map(|n| m.ring_reserve(n, 0).unwrap().as_ptr().addr());
            let mut spans = granted();
            assert_eq!(spans.len(), 2 * 400, "each byte twice, as it is mapped");
            spans.dedup();
            let starts: Vec<_> = spans.iter().filter(|s| [a, b].contains(&s.start)).collect();
            assert!(starts.len() >= 2, "{spans:?}");
            m.ring_submit(a, 0).unwrap();
            m.ring_submit(b, 0).unwrap();
            assert_eq!(granted(), []);
            assert!(consumer.next().is_some() && consumer.next().is_some());
        }
    }

    #[test]
    fn producers_on_threads_lose_nothing_uncounted() {
        const EACH: u64 = 20_000;
        let m = ring(16384);
        let mut consumer = RingConsumer::new(Arc::clone(&m)).unwrap();
        let mut last = [0_u64; 4];
        let mut got = 0;
        thread::scope(|scope| {
            for id in 0..4_u64 {
                let m = &m;
                scope.spawn(move || {
                    for n in 1..=EACH {
                        let record: Vec<u8> =
                            [id, n].iter().flat_map(|w| w.to_ne_bytes()).collect();
                        let pad = usize::try_from(n % 40).unwrap();
                        let _lost =
                            m.ring_output(&[record, vec![(id & 0xff) as u8; pad]].concat(), 0);
                    }
                });
            }
            while let Some(record) = consumer.poll(Duration::from_millis(300)) {
                let word = |n: usize| u64::from_ne_bytes(record[n * 8..][..8].try_into().unwrap());
                let (id, n) = (usize::try_from(word(0)).unwrap(), word(1));
                assert!(n > last[id], "in order for each producer");
                assert_eq!(record.len() as u64, 16 + n % 40);
                assert!(record[16..].iter().all(|b| usize::from(*b) == id));
                last[id] = n;
                got += 1;
            }
        });
        while consumer.next().is_some() {
            got += 1;
        }
        assert_eq!(got + consumer.lost(), 4 * EACH);
    }

    #[test]
    fn waiting_ends_with_a_record_or_with_time() {
        let m = ring(4096);
        let mut consumer = RingConsumer::new(Arc::clone(&m)).unwrap();
        assert_eq!(consumer.poll(Duration::from_millis(10)), None);
        let start = Instant::now();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(30));
                m.ring_output(b"hello", 0).unwrap();
            });
            assert_eq!(consumer.poll(Duration::from_secs(20)), Some(&b"hello"[..]));
        });
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
