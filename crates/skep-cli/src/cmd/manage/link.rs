//! `skep link`: attached programs.

use std::{fmt, io::Write};

use serde::Serialize;
use skep::kernel::inspect::{self, Kind, LinkInfo};

use super::{
    super::generate::Objects, Holder, Holders, details::Details, pin, rights, select, tail,
};
use crate::{
    exit::DONE,
    output::{Out, Print},
};

/// Links: what holds programs at their hooks.
#[derive(Debug, clap::Subcommand)]
pub enum Link {
    #[command(visible_alias = "list")]
    Show(Show),
    Detach(Detach),
    Pin(Pin),
    Objects(Objects),
}

/// List all links, or the one that is selected.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// `id N` or `pinned PATH`; all without.
    #[arg(value_name = "LINK")]
    words: Vec<String>,
    #[command(flatten)]
    print: Print,
}

/// Take a link off its hook, whoever holds it.
///
/// Kinds that the kernel cannot take off (raw tracepoints, tracing, perf events) end when their
/// last holder ends: `skep link show` names it.
#[derive(Debug, clap::Args)]
pub struct Detach {
    /// `id N` or `pinned PATH`.
    #[arg(value_name = "LINK", required = true)]
    words: Vec<String>,
}

/// Pin a link at a path of a bpf file system, so that it outlives its holder.
#[derive(Debug, clap::Args)]
pub struct Pin {
    /// `id N` or `pinned PATH`, and the path of the new pin.
    #[arg(value_name = "LINK PATH", required = true, num_args = 3..)]
    words: Vec<String>,
}

/// One link of the list; fields named as bpftool's.
#[derive(Debug, Serialize)]
struct Row {
    id: u32,
    #[serde(rename = "type")]
    link_type: String,
    prog_id: u32,
    #[serde(flatten)]
    details: Details,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pinned: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pids: Vec<Holder>,
}

impl Row {
    fn new(info: &LinkInfo, holders: &Holders) -> Self {
        Self {
            id: info.id,
            link_type: info.kind().to_string(),
            prog_id: info.prog_id,
            details: Details::new(info),
            pinned: holders.pinned(Kind::Link, info.id),
            pids: holders.pids(Kind::Link, info.id),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}  prog {}", self.id, self.link_type, self.prog_id)?;
        let details = self.details.text();
        if !details.is_empty() {
            write!(f, "\n\t{details}")?;
        }
        f.write_str(&tail(&self.pinned, &self.pids))
    }
}

impl Link {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        match self {
            Self::Show(c) => {
                let ids = select::all_or(Kind::Link, &c.words)?;
                let holders = Holders::now();
                let mut out = Out::new(out, c.print.format());
                for id in ids {
                    if let Some(info) = rights("reading a link", inspect::link(id))? {
                        out.emit(&Row::new(&info, &holders))?;
                    }
                }
            }
            Self::Detach(c) => {
                let mut words = c.words.as_slice();
                let id = select::take_one(Kind::Link, &mut words)?;
                select::done(words)?;
                if !rights("detaching a link", inspect::detach(id))? {
                    return Err(select::gone(Kind::Link, id));
                }
            }
            Self::Pin(c) => pin(Kind::Link, &c.words)?,
            Self::Objects(c) => return c.run(out),
        }
        Ok(DONE)
    }
}
