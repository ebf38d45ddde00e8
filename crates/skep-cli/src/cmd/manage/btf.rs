//! `skep btf list`: type information that is loaded.

use std::{fmt, io::Write};

use serde::Serialize;
use skep::kernel::inspect::{self, BtfInfo, Kind};

use super::{Holder, Holders, commas, rights, select, tail};
use crate::{
    exit::DONE,
    output::{Out, Print},
};

/// List the BTF objects that are loaded on this machine, or those that are selected.
#[derive(Debug, clap::Args)]
pub struct List {
    /// `id N` or `name NAME`; all without.
    #[arg(value_name = "BTF")]
    words: Vec<String>,
    #[command(flatten)]
    print: Print,
}

/// One BTF object of the list; fields named as bpftool's.
#[derive(Debug, Serialize)]
struct Row {
    id: u32,
    size: u32,
    prog_ids: Vec<u32>,
    map_ids: Vec<u32>,
    kernel: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pids: Vec<Holder>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.id)?;
        match (self.kernel, self.name.as_str()) {
            (_, "") => {}
            (true, name) => write!(f, "name [{name}]  ")?,
            (false, name) => write!(f, "name {name}  ")?,
        }
        write!(f, "size {}B", self.size)?;
        for (what, ids) in [("prog_ids", &self.prog_ids), ("map_ids", &self.map_ids)] {
            if !ids.is_empty() {
                write!(f, "  {what} {}", commas(ids))?;
            }
        }
        f.write_str(&tail(&[], &self.pids))
    }
}

impl List {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let ids = select::all_or(Kind::Btf, &self.words)?;
        let holders = Holders::now();
        let programs =
            used_by(Kind::Program, |id| Ok(inspect::program(id)?.and_then(|p| p.btf_id)));
        let maps = used_by(Kind::Map, |id| Ok(inspect::map(id)?.and_then(|m| m.btf_id)));
        let mut out = Out::new(out, self.print.format());
        for id in ids {
            let Some(BtfInfo { id, name, kernel, size }) = rights("reading BTF", inspect::btf(id))?
            else {
                continue;
            };
            let of = |all: &[(u32, u32)]| -> Vec<u32> {
                all.iter().filter(|(btf, _)| *btf == id).map(|(_, user)| *user).collect()
            };
            let pids = holders.pids(Kind::Btf, id);
            let (prog_ids, map_ids) = (of(&programs), of(&maps));
            out.emit(&Row { id, size, prog_ids, map_ids, kernel, name, pids })?;
        }
        Ok(DONE)
    }
}

/// BTF and user, for all objects of a kind; what cannot be asked is left out.
fn used_by(
    kind: Kind,
    btf_of: impl Fn(u32) -> Result<Option<u32>, skep::kernel::SysError>,
) -> Vec<(u32, u32)> {
    let ids = inspect::ids(kind).unwrap_or_default();
    ids.into_iter().filter_map(|id| Some((btf_of(id).ok().flatten()?, id))).collect()
}
