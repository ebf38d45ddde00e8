//! Records that programs write to ring and perf buffers.

use std::{sync::Arc, time::Duration};

use skep_abi::MapType;
use skep_vm::maps as vm;

use crate::{Map, MapError, map::Live as LiveMap};

/// Room for samples of a perf buffer, for each CPU.
const PERF_BYTES_PER_CPU: usize = 1 << 18;

/// Most records that one [`Events::poll`] returns, so that a busy buffer does not keep its reader
/// from everything else.
const BATCH: usize = 1024;

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// CPU of the program run; ring buffers do not tell.
    pub cpu: Option<u32>,
    /// The bytes that the program wrote; from a perf buffer of the kernel with up to 7 bytes of
    /// padding behind them.
    pub data: Vec<u8>,
}

/// Reads a ring buffer or perf event array.
#[derive(Debug)]
pub struct Events {
    live: Live,
}

#[derive(Debug)]
enum Live {
    EmbeddedRing(vm::RingConsumer),
    EmbeddedPerf(vm::PerfConsumer),
    KernelRing(skep_kernel::ringbuf::RingConsumer),
    KernelPerf(skep_kernel::perf::PerfConsumer),
}

impl Map {
    /// Starts to read what programs write to this ring buffer or perf event array.
    ///
    /// Records have a type only by agreement; its BTF decodes them:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use skep::{
    ///     Engine, Object,
    ///     btf::{KindTag, value},
    /// };
    ///
    /// # const BYTES: &[u8] = include_bytes!("../../../tests/data/objects/events.bpf.o");
    /// let loaded = Object::parse("events.bpf.o", BYTES)?.load(&Engine::embedded())?;
    /// let mut events = loaded.map("ring")?.events()?;
    /// loaded.program("tell")?.run_on_frame(&[0; 60])?;
    ///
    /// let btf = loaded.spec().btf.as_ref().expect("it was built with -g");
    /// let event = btf.find(KindTag::Struct, "event").next().expect("the program has this type");
    /// for record in events.poll(Duration::from_secs(1)) {
    ///     let fields = value::decode(btf, event, &record.data)?;
    ///     # assert!(format!("{fields:?}").contains("length"));
    ///     println!("{fields:?}");
    /// }
    /// # assert_eq!(events.lost(), Some(0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`MapError`] for other maps, and when the buffers cannot be made.
    pub fn events(&self) -> Result<Events, MapError> {
        let ring = self.def().map_type == MapType::RINGBUF;
        let embedded = |source| MapError::Embedded { map: self.name().into(), source };
        let live = match &self.live {
            LiveMap::Embedded(m) if ring => {
                Live::EmbeddedRing(vm::RingConsumer::new(Arc::clone(m)).map_err(embedded)?)
            }
            LiveMap::Embedded(m) => Live::EmbeddedPerf(
                vm::PerfConsumer::new(Arc::clone(m), PERF_BYTES_PER_CPU).map_err(embedded)?,
            ),
            LiveMap::Kernel(m) if ring => {
                Live::KernelRing(skep_kernel::ringbuf::RingConsumer::new(Arc::clone(m))?)
            }
            LiveMap::Kernel(m) => Live::KernelPerf(skep_kernel::perf::PerfConsumer::new(
                Arc::clone(m),
                PERF_BYTES_PER_CPU,
            )?),
        };
        Ok(Events { live })
    }
}

impl Events {
    /// The records that are there, at most 1024; waits up to `timeout` for the first.
    pub fn poll(&mut self, timeout: Duration) -> Vec<Record> {
        let mut found = Vec::new();
        while found.len() < BATCH {
            let wait = if found.is_empty() { timeout } else { Duration::ZERO };
            match self.next(wait) {
                Next::Record(record) => found.push(record),
                Next::Loss => {}
                Next::Nothing => break,
            }
        }
        found
    }

    fn next(&mut self, wait: Duration) -> Next {
        let ring = |data: Option<&[u8]>| match data {
            Some(data) => Next::Record(Record { cpu: None, data: data.to_vec() }),
            None => Next::Nothing,
        };
        match &mut self.live {
            Live::EmbeddedRing(c) => ring(c.poll(wait)),
            Live::EmbeddedPerf(c) => match c.poll(wait) {
                Some(vm::PerfEvent::Sample { cpu, data }) => {
                    Next::Record(Record { cpu: Some(cpu), data: data.to_vec() })
                }
                Some(vm::PerfEvent::Lost { .. }) => Next::Loss,
                None => Next::Nothing,
            },
            Live::KernelRing(c) => ring(c.poll(wait)),
            Live::KernelPerf(c) => match c.poll(wait) {
                Some(skep_kernel::perf::PerfEvent::Sample { cpu, data }) => {
                    Next::Record(Record { cpu: Some(cpu), data: data.to_vec() })
                }
                Some(skep_kernel::perf::PerfEvent::Lost { .. }) => Next::Loss,
                None => Next::Nothing,
            },
        }
    }

    /// Records that found no room so far. `None` where nobody counts: the kernel tells only the
    /// program that its ring buffer is full.
    pub fn lost(&self) -> Option<u64> {
        match &self.live {
            Live::EmbeddedRing(c) => Some(c.lost()),
            Live::EmbeddedPerf(c) => Some(c.lost()),
            Live::KernelRing(_) => None,
            Live::KernelPerf(c) => Some(c.lost()),
        }
    }
}

/// What a look into a buffer found.
enum Next {
    Record(Record),
    /// A count of lost records, which [`Events::lost`] tells.
    Loss,
    Nothing,
}
