//! `skep map event_pipe`: records of a perf event array or ring buffer, as they come.

use std::{fmt, io::Write, sync::Arc, time::Duration};

use serde::Serialize;
use skep::{
    abi::MapType,
    kernel::{
        perf::{PerfConsumer, PerfEvent},
        ringbuf::RingConsumer,
    },
};

use super::entry::Open;
use crate::{
    cmd::manage::{Until, map_rights, select},
    exit::{DONE, INTERRUPTED, usage},
    output::{Out, Print},
    show::hex,
};

/// Print the records that programs send to a perf event array or ring buffer, as they come.
///
/// They come here and no longer to whoever read the buffer before: a perf event array keeps one
/// reader per CPU, the last one, and each record of a ring buffer is read once.
#[derive(Debug, clap::Args)]
pub struct EventPipe {
    /// `id N`, `name NAME` or `pinned PATH`.
    #[arg(value_name = "MAP", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    until: Until,
    #[command(flatten)]
    print: Print,
}

/// Room for the records of one CPU.
const BYTES_PER_CPU: usize = 1 << 18;

/// How long a wait is, before signals and the time are looked at.
const WAIT: Duration = Duration::from_millis(200);

/// A record, or how many there was no room for; fields named as bpftool's.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Event {
    Sample {
        #[serde(skip_serializing_if = "Option::is_none")]
        cpu: Option<u32>,
        size: usize,
        data: String,
    },
    Lost {
        cpu: u32,
        count: u64,
    },
}

impl Event {
    fn sample(cpu: Option<u32>, data: &[u8]) -> Self {
        Self::Sample { cpu, size: data.len(), data: hex(data) }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sample { cpu: Some(cpu), size, data } => {
                write!(f, "== event  cpu {cpu}  size {size}\n{data}")
            }
            Self::Sample { cpu: None, size, data } => write!(f, "== event  size {size}\n{data}"),
            Self::Lost { cpu, count } => write!(f, "== lost {count} events on cpu {cpu}"),
        }
    }
}

enum Reader {
    Perf(PerfConsumer),
    Ring(RingConsumer),
}

impl Reader {
    fn poll(&mut self, wait: Duration) -> Option<Event> {
        match self {
            Self::Perf(reader) => Some(match reader.poll(wait)? {
                PerfEvent::Sample { cpu, data } => Event::sample(Some(cpu), data),
                PerfEvent::Lost { cpu, count } => Event::Lost { cpu, count },
            }),
            Self::Ring(reader) => Some(Event::sample(None, reader.poll(wait)?)),
        }
    }
}

impl EventPipe {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = Open::take(&mut words)?;
        select::done(words)?;
        let (name, map_type) = (open.name().to_owned(), open.map.def().map_type);
        let map = Arc::new(open.map);
        let mut reader = match map_type {
            MapType::PERF_EVENT_ARRAY => Reader::Perf(map_rights(
                "reading a perf event array",
                PerfConsumer::new(map, BYTES_PER_CPU),
            )?),
            MapType::RINGBUF => {
                Reader::Ring(map_rights("reading a ring buffer", RingConsumer::new(map))?)
            }
            _ => {
                let why = format!("{name} is a {map_type}: no perf event array and no ring buffer");
                return Err(usage(why));
            }
        };
        let mut watch = self.until.watch()?;
        let mut out = Out::new(out, self.print.format());
        while watch.goes_on() {
            if let Some(event) = reader.poll(watch.wait(WAIT)) {
                out.emit(&event)?;
                watch.line();
                out.flush()?;
            }
        }
        Ok(if watch.interrupted() { INTERRUPTED } else { DONE })
    }
}
