//! `skep net clean`: what dead skep processes left attached.

use std::{fmt, io::Write};

use serde::Serialize;
use skep::kernel::{
    inspect::{self, Kind},
    leftover::{Leftover, Life, leftovers},
};

use super::super::rights;
use crate::{
    exit::{DONE, INPUT},
    output::{Out, Print},
};

/// Remove what skep processes that are gone left attached.
///
/// Links end with their process. What older kernels have instead stays when a process is killed:
/// filters of the clsact qdisc, XDP set over netlink, routes through programs, programs on cgroups,
/// structures of functions (struct_ops) without a link, probes in tracefs. Each says which process attached it; only those of processes that are gone
/// are removed. Interfaces and routes are those of the current network namespace. `skep run` does the same when it starts.
#[derive(Debug, clap::Args)]
pub struct Clean {
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    print: Print,
}

/// One thing that was left.
#[derive(Debug, Serialize)]
struct Row {
    place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    prog_id: Option<u32>,
    /// Who attached it.
    pid: u32,
    /// Null when the process cannot be seen from here.
    alive: Option<bool>,
    removed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip)]
    dry: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = match (&self.error, self.alive, self.dry) {
            (Some(_), ..) => "not removed",
            (None, None, _) => "kept, as its process cannot be seen from here",
            (None, Some(_), true) => "would be removed",
            (None, Some(_), false) => "removed",
        };
        write!(f, "{}", self.place)?;
        if let Some(id) = self.prog_id {
            write!(f, ", prog_id {id}")?;
        }
        write!(f, ", of process {}: {done}", self.pid)?;
        self.error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}

impl Row {
    fn new(leftover: &Leftover, dry: bool) -> Self {
        let remove = leftover.life == Life::Dead && !dry;
        let done = if remove { leftover.remove() } else { Ok(()) };
        Self {
            place: leftover.place.to_string(),
            prog_id: leftover.program,
            pid: leftover.process.pid,
            alive: (leftover.life == Life::Dead).then_some(false),
            removed: remove && done.is_ok(),
            error: done.err().map(|e| crate::exit::message(&e.into())),
            dry,
        }
    }
}

impl Clean {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        // Who may not ask for programs finds nothing, which would look like there being nothing.
        rights("looking for what was left", inspect::ids(Kind::Program))?;
        let mut out = Out::new(out, self.print.format());
        let mut code = DONE;
        for leftover in leftovers().iter().filter(|l| l.life != Life::Alive) {
            let row = Row::new(leftover, self.dry_run);
            if row.error.is_some() {
                code = INPUT;
            }
            out.emit(&row)?;
        }
        Ok(code)
    }
}

/// Removes what was left, and says so. What cannot be removed is for `skep net clean` to explain.
pub fn at_start() {
    for leftover in leftovers().iter().filter(|l| l.life == Life::Dead) {
        if leftover.remove().is_ok() {
            let (place, pid) = (&leftover.place, leftover.process.pid);
            say!("note: removed what process {pid} left behind: {place}");
        }
    }
}
