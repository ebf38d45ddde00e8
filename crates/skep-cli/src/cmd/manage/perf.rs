//! `skep perf show`: programs on the perf events and raw tracepoints of processes.

use std::{fmt, io::Write};

use serde::Serialize;
use skep::kernel::inspect::{self, EventProgram};

use super::rights;
use crate::{
    exit::DONE,
    output::{Out, Print},
};

/// Programs on perf events and raw tracepoints.
#[derive(Debug, clap::Subcommand)]
pub enum Perf {
    #[command(visible_alias = "list")]
    Show(Show),
}

/// List the programs that hang on perf events and raw tracepoints of processes.
///
/// Programs on events that are no probe and no tracepoint (clocks, counters) the kernel does not
/// tell.
#[derive(Debug, clap::Args)]
pub struct Show {
    #[command(flatten)]
    print: Print,
}

/// One program; fields named as bpftool's.
#[derive(Debug, Serialize)]
struct Row {
    pid: u32,
    fd: u32,
    prog_id: u32,
    fd_info: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracepoint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    func: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
}

impl From<EventProgram> for Row {
    fn from(e: EventProgram) -> Self {
        let (mut tracepoint, mut func, mut filename) = (None, None, None);
        let (mut addr, mut offset) = (None, None);
        match (e.kind, e.name.as_str()) {
            ("kprobe" | "kretprobe", "") => addr = Some(e.address),
            ("kprobe" | "kretprobe", _) => (func, offset) = (Some(e.name), Some(e.offset)),
            ("uprobe" | "uretprobe", _) => (filename, offset) = (Some(e.name), Some(e.offset)),
            _ => tracepoint = Some(e.name),
        }
        let (pid, fd, prog_id, fd_info) = (e.pid, e.fd, e.prog_id, e.kind);
        Self { pid, fd, prog_id, fd_info, tracepoint, func, filename, addr, offset }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, fd, prog_id, fd_info, .. } = self;
        write!(f, "pid {pid}  fd {fd}: prog_id {prog_id}  {fd_info}")?;
        let names = [("func", &self.func), ("filename", &self.filename), ("", &self.tracepoint)];
        for (what, name) in names {
            match (what, name) {
                (_, None) => {}
                ("", Some(name)) => write!(f, "  {name}")?,
                (what, Some(name)) => write!(f, "  {what} {name}")?,
            }
        }
        if let Some(addr) = self.addr {
            write!(f, "  addr {addr:#x}")?;
        }
        self.offset.map_or(Ok(()), |offset| write!(f, "  offset {offset}"))
    }
}

impl Perf {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let Self::Show(show) = self;
        let mut out = Out::new(out, show.print.format());
        // Who may not ask finds none, which would look like there being none.
        rights("asking for perf events", inspect::ids(inspect::Kind::Program))?;
        for event in rights("asking for perf events", inspect::event_programs())? {
            out.emit(&Row::from(event))?;
        }
        Ok(DONE)
    }
}
