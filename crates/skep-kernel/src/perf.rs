//! Consumer of a perf event array.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use skep_abi::MapType;

use crate::{
    error::MapError,
    map::Map,
    sys::{self, Mapping, SysError},
};

/// Where `struct perf_event_mmap_page` keeps the kernel's position, and ours.
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;
/// Bytes of `struct perf_event_header`.
const HEADER: usize = 8;
const RECORD_LOST: u32 = 2;
const RECORD_SAMPLE: u32 = 9;

/// What a perf event array's reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerfEvent<'a> {
    /// A sample.
    Sample {
        /// CPU of the program run.
        cpu: u32,
        /// Bytes given to `bpf_perf_event_output`, and up to 7 bytes of padding.
        data: &'a [u8],
    },
    /// Samples that found no room.
    Lost {
        /// CPU of the program runs.
        cpu: u32,
        /// How many since the last such event.
        count: u64,
    },
}

/// The buffer of one CPU.
#[derive(Debug)]
struct Buffer {
    cpu: u32,
    event: OwnedFd,
    mapping: Mapping,
    page: usize,
    /// Bytes of data: a power of two.
    size: usize,
    /// Lost samples that records told of; `None` when the event counts them itself.
    lost: Option<u64>,
}

/// What was found in a buffer.
enum Found {
    Nothing,
    Sample,
    Lost(u64),
}

impl Buffer {
    fn open(cpu: u32, page: usize, size: usize) -> Result<Self, SysError> {
        let (event, counts) = sys::bpf_output_event(cpu)?;
        let mapping = Mapping::new(event.as_fd(), 0, page + size, true)?;
        let lost = if counts { None } else { Some(0) };
        Ok(Self { cpu, event, mapping, page, size, lost })
    }

    /// Appends `len` bytes at a position, around the end where needed.
    fn copy(&self, at: u64, len: usize, to: &mut Vec<u8>) {
        let offset = usize::try_from(at).unwrap_or(0) & (self.size - 1);
        let first = len.min(self.size - offset);
        self.mapping.copy(self.page + offset, first, to);
        self.mapping.copy(self.page, len - first, to);
    }

    /// Takes the next record, leaving a sample's bytes in `data`.
    fn take(&self, data: &mut Vec<u8>) -> Found {
        loop {
            let tail = self.mapping.load_u64(DATA_TAIL);
            let head = self.mapping.load_u64(DATA_HEAD);
            if tail >= head {
                return Found::Nothing;
            }
            data.clear();
            self.copy(tail, HEADER, data);
            let Some(&[k0, k1, k2, k3, _, _, l0, l1]) = data.first_chunk() else {
                return Found::Nothing;
            };
            let (kind, len) =
                (u32::from_ne_bytes([k0, k1, k2, k3]), u16::from_ne_bytes([l0, l1]) as usize);
            let whole = (HEADER..=self.size).contains(&len);
            data.clear();
            if whole {
                self.copy(tail + HEADER as u64, len - HEADER, data);
            }
            // A record that cannot be is the end of what can be understood: skip to the head.
            let next = if whole { tail + len as u64 } else { head };
            self.mapping.store_u64(DATA_TAIL, next);
            match kind {
                RECORD_SAMPLE => {
                    let size = data.first_chunk().map_or(0, |&size| u32::from_ne_bytes(size));
                    data.drain(..data.len().min(4));
                    data.truncate(size as usize);
                    return Found::Sample;
                }
                RECORD_LOST => {
                    let count = data.get(8..).and_then(|rest| rest.first_chunk());
                    return Found::Lost(count.map_or(0, |&count| u64::from_ne_bytes(count)));
                }
                _ => {}
            }
        }
    }
}

/// Reads a perf event array: one buffer for each online CPU.
#[derive(Debug)]
pub struct PerfConsumer {
    map: Arc<Map>,
    buffers: Vec<Buffer>,
    data: Vec<u8>,
    /// Buffer to look at first, so that a busy CPU does not starve the others.
    turn: usize,
}

impl PerfConsumer {
    /// Makes a buffer of at least `bytes_per_cpu` (rounded up to a power of two of pages) for each
    /// online CPU, and stores it in the map. CPUs that come online later have none: programs
    /// there get `-ENOENT` from the helper.
    ///
    /// # Errors
    ///
    /// `EINVAL` when `map` is not a perf event array; `EPERM` or `EACCES` without `CAP_PERFMON`.
    pub fn new(map: Arc<Map>, bytes_per_cpu: usize) -> Result<Self, MapError> {
        let fail = |source| MapError { map: map.name().to_owned(), source };
        if map.def().map_type != MapType::PERF_EVENT_ARRAY {
            let hint = "only perf event arrays have events to consume";
            return Err(fail(SysError::errno_of("perf_event_open", libc::EINVAL, hint)));
        }
        let page = sys::page_bytes() as usize;
        let size = bytes_per_cpu.max(page).checked_next_power_of_two();
        // Kernels keep the number of pages in an int: 6.12 makes an empty buffer of 2^34 pages.
        let size = size.filter(|size| i32::try_from(size / page).is_ok()).ok_or_else(|| {
            fail(SysError::errno_of("mmap", libc::ENOMEM, "more pages than a perf buffer can have"))
        })?;
        let possible =
            sys::cpu_numbers().map_err(|e| fail(SysError::new("counting possible CPUs", e)))?;
        let mut buffers = Vec::new();
        for cpu in 0..possible.min(map.def().max_entries) {
            match Buffer::open(cpu, page, size) {
                Ok(buffer) => buffers.push(buffer),
                // Possible, not online.
                Err(e) if e.errno() == libc::ENODEV => {}
                Err(e) => return Err(fail(e)),
            }
        }
        // From here on dropping takes the events out of the map again, also after an error.
        let this = Self { map: Arc::clone(&map), buffers, data: Vec::new(), turn: 0 };
        for buffer in &this.buffers {
            map.set_fd(&buffer.cpu.to_ne_bytes(), buffer.event.as_fd())?;
            sys::perf_enable(buffer.event.as_fd()).map_err(fail)?;
        }
        Ok(this)
    }

    /// The map.
    pub const fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// The next event of any CPU if there is one; in order for each CPU.
    #[expect(clippy::should_implement_trait, reason = "samples are borrowed: a lending iterator")]
    pub fn next(&mut self) -> Option<PerfEvent<'_>> {
        let count = self.buffers.len();
        for n in 0..count {
            let index = (self.turn + n) % count;
            let buffer = self.buffers.get_mut(index)?;
            let cpu = buffer.cpu;
            match buffer.take(&mut self.data) {
                Found::Nothing => {}
                Found::Sample => {
                    self.turn = index + 1;
                    return Some(PerfEvent::Sample { cpu, data: &self.data });
                }
                Found::Lost(count) => {
                    buffer.lost = buffer.lost.map(|lost| lost.saturating_add(count));
                    return Some(PerfEvent::Lost { cpu, count });
                }
            }
        }
        None
    }

    /// The next event; waits for one up to `timeout`.
    pub fn poll(&mut self, timeout: Duration) -> Option<PerfEvent<'_>> {
        let news = |b: &Buffer| b.mapping.load_u64(DATA_TAIL) < b.mapping.load_u64(DATA_HEAD);
        if !self.buffers.iter().any(news) {
            let fds: Vec<BorrowedFd<'_>> = self.fds().collect();
            // A failed wait (a signal) is an early end of the wait.
            sys::wait_readable(&fds, timeout).ok();
        }
        self.next()
    }

    /// One descriptor per CPU, readable when there are events: for `poll`, `epoll`.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.buffers.iter().map(|buffer| buffer.event.as_fd())
    }

    /// Samples that found no room since this reader was made. Before Linux 6.0 only as far as it
    /// has read, and a loss shows when the next sample finds room again.
    pub fn lost(&self) -> u64 {
        let lost = |b: &Buffer| b.lost.unwrap_or_else(|| sys::lost_samples(b.event.as_fd()));
        self.buffers.iter().map(lost).sum()
    }
}

impl Drop for PerfConsumer {
    fn drop(&mut self) {
        // The map may outlive us; programs must not fill buffers that nobody reads.
        for buffer in &self.buffers {
            self.map.delete(&buffer.cpu.to_ne_bytes()).ok();
        }
    }
}
