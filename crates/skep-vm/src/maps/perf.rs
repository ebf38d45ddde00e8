//! Perf event arrays: a buffer of samples for each CPU.
//!
//! As with the kernel the buffers belong to the reader: without one, output fails with `ENOENT`.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Map, MapError, wake::Wake};

/// Bytes before each sample: its length.
const HEADER: usize = 4;

/// Buffers by CPU.
#[derive(Debug)]
pub(super) struct Perf {
    max_entries: u32,
    cpus: Vec<Mutex<Buffer>>,
    wake: Wake,
}

#[derive(Debug, Default)]
struct Buffer {
    bytes: VecDeque<u8>,
    /// Most bytes; 0 while nobody reads.
    capacity: usize,
    /// Samples that did not fit since the reader last heard of it.
    lost: u64,
}

impl Buffer {
    fn push(&mut self, cpu: u32, data: &[u8]) -> Result<(), MapError> {
        if self.capacity == 0 {
            return Err(MapError::NoReader { cpu });
        }
        let len = u32::try_from(data.len()).ok();
        let fits = data.len() + HEADER <= self.capacity - self.bytes.len();
        let Some(len) = len.filter(|_| fits) else {
            self.lost += 1;
            return Err(MapError::NoRoom { bytes: data.len() as u64, errno: libc::ENOSPC });
        };
        self.bytes.extend(len.to_ne_bytes());
        self.bytes.extend(data);
        Ok(())
    }

    fn pop(&mut self, out: &mut Vec<u8>) -> bool {
        let mut len = [0; HEADER];
        if self.bytes.len() < HEADER {
            return false;
        }
        len.iter_mut().zip(self.bytes.drain(..HEADER)).for_each(|(d, s)| *d = s);
        out.clear();
        out.extend(self.bytes.drain(..u32::from_ne_bytes(len) as usize));
        true
    }
}

impl Perf {
    pub(super) fn new(max_entries: u32, ncpus: u32) -> Self {
        let cpus = (0..max_entries.min(ncpus)).map(|_| Mutex::default()).collect();
        Self { max_entries, cpus, wake: Wake::default() }
    }

    fn buffer(&self, cpu: u32) -> Option<MutexGuard<'_, Buffer>> {
        let buffer = self.cpus.get(cpu as usize)?;
        Some(buffer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn buffers(&self) -> impl Iterator<Item = (u32, MutexGuard<'_, Buffer>)> {
        (0..).zip(&self.cpus).map(|(n, b)| (n, b.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    pub(super) fn output(&self, cpu: u32, data: &[u8]) -> Result<(), MapError> {
        let (index, max_entries) = (cpu, self.max_entries);
        if index >= max_entries {
            return Err(MapError::Index { index, max_entries });
        }
        let done = self.buffer(cpu).ok_or(MapError::NoReader { cpu })?.push(cpu, data);
        // The buffer is free again here; a loss is news for the reader too.
        if !matches!(done, Err(MapError::NoReader { .. })) {
            self.wake.ring();
        }
        done
    }
}

/// What a perf event array's reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerfEvent<'a> {
    /// A sample.
    Sample {
        /// CPU of the program run.
        cpu: u32,
        /// Bytes given to `bpf_perf_event_output`, without padding.
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

/// The reader of a perf event array; there can be one at a time.
#[derive(Debug)]
pub struct PerfConsumer {
    map: Arc<Map>,
    data: Vec<u8>,
    /// CPU to look at first, so that a busy one does not starve the others.
    turn: u32,
    lost: u64,
}

impl PerfConsumer {
    /// Makes a buffer of `bytes_per_cpu` for each CPU, and starts to read.
    ///
    /// # Errors
    ///
    /// [`MapError::Exists`] when there is a reader; [`MapError::Unsupported`] when `map` is not a
    /// perf event array.
    pub fn new(map: Arc<Map>, bytes_per_cpu: usize) -> Result<Self, MapError> {
        let perf = map.perf()?;
        let mut buffers: Vec<_> = perf.buffers().map(|(_, buffer)| buffer).collect();
        if buffers.iter().any(|b| b.capacity != 0) {
            return Err(MapError::Exists);
        }
        for buffer in &mut buffers {
            **buffer = Buffer { capacity: bytes_per_cpu.max(1), ..Buffer::default() };
        }
        drop(buffers);
        Ok(Self { map, data: Vec::new(), turn: 0, lost: 0 })
    }

    /// The map.
    pub const fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// The next event of any CPU if there is one; in order for each CPU.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot lend its items")]
    pub fn next(&mut self) -> Option<PerfEvent<'_>> {
        let perf = self.map.perf().ok()?;
        let cpus = u32::try_from(perf.cpus.len()).unwrap_or(u32::MAX);
        for cpu in (self.turn..cpus).chain(0..self.turn) {
            let mut buffer = perf.buffer(cpu)?;
            if buffer.pop(&mut self.data) {
                self.turn = cpu + 1;
                return Some(PerfEvent::Sample { cpu, data: &self.data });
            }
            if buffer.lost != 0 {
                let count = std::mem::take(&mut buffer.lost);
                self.lost += count;
                return Some(PerfEvent::Lost { cpu, count });
            }
        }
        None
    }

    /// The next event; waits for one up to `timeout`.
    pub fn poll(&mut self, timeout: Duration) -> Option<PerfEvent<'_>> {
        let perf = self.map.perf().ok()?;
        let news = || perf.buffers().any(|(_, b)| !b.bytes.is_empty() || b.lost != 0);
        perf.wake.wait(timeout, news);
        self.next()
    }

    /// Samples that found no room since this reader was made, as far as it has read.
    pub const fn lost(&self) -> u64 {
        self.lost
    }
}

impl Drop for PerfConsumer {
    fn drop(&mut self) {
        if let Ok(perf) = self.map.perf() {
            perf.buffers().for_each(|(_, mut buffer)| *buffer = Buffer::default());
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_abi::{MapDef, MapFlags, MapType};

    use super::*;

    #[test]
    fn samples_are_kept_by_cpu_and_losses_are_told() {
        let def = MapDef {
            map_type: MapType::PERF_EVENT_ARRAY,
            key_size: 4,
            value_size: 4,
            max_entries: 2,
            flags: MapFlags::default(),
            extra: 0,
            numa_node: 0,
        };
        let m = Map::with_cpus("events", def, None, 4).unwrap();
        assert_eq!(m.perf_output(0, b"early").unwrap_err().errno(), libc::ENOENT);
        let mut consumer = PerfConsumer::new(Arc::clone(&m), 24).unwrap();
        let second = PerfConsumer::new(Arc::clone(&m), 24);
        assert_eq!(second.map(drop).unwrap_err().errno(), libc::EEXIST);
        m.perf_output(0, b"one").unwrap();
        m.perf_output(1, b"two").unwrap();
        m.perf_output(0, b"three").unwrap();
        assert_eq!(m.perf_output(0, b"too much").unwrap_err().errno(), libc::ENOSPC);
        assert_eq!(m.perf_output(2, b"x").unwrap_err().errno(), libc::E2BIG);
        let mut seen = Vec::new();
        while let Some(event) = consumer.poll(Duration::from_millis(1)) {
            seen.push(match event {
                PerfEvent::Sample { cpu, data } => (cpu, data.to_vec()),
                PerfEvent::Lost { cpu, count } => (cpu, format!("lost {count}").into_bytes()),
            });
        }
        let want: &[(u32, &[u8])] = &[(0, b"one"), (1, b"two"), (0, b"three"), (0, b"lost 1")];
        assert!(seen.iter().map(|(cpu, data)| (*cpu, data.as_slice())).eq(want.iter().copied()));
        assert_eq!(consumer.lost(), 1);
        drop(consumer);
        assert_eq!(m.perf_output(0, b"late").unwrap_err().errno(), libc::ENOENT);
    }
}
