//! `skep map show`: maps with what the kernel tells of them.

use std::{fmt, io::Write};

use serde::Serialize;
use skep::kernel::inspect::{self, Kind, MapInfo};

use crate::{
    cmd::manage::{Holder, Holders, rights, select, tail},
    exit::DONE,
    output::{Out, Print},
};

/// List all maps, or those that are selected.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// `id N`, `name NAME` or `pinned PATH`; all without.
    #[arg(value_name = "MAP")]
    words: Vec<String>,
    #[command(flatten)]
    print: Print,
}

/// One map of the list; fields named as bpftool's.
#[derive(Debug, Serialize)]
struct Row {
    id: u32,
    #[serde(rename = "type")]
    map_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    flags: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ifindex: Option<u32>,
    bytes_key: u32,
    bytes_value: u32,
    max_entries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_memlock: Option<u64>,
    frozen: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    btf_id: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pinned: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pids: Vec<Holder>,
}

impl Row {
    fn new(info: MapInfo, holders: &Holders) -> Self {
        Self {
            id: info.id,
            map_type: info.map_type.to_string(),
            name: info.name,
            flags: info.flags.0,
            ifindex: info.ifindex,
            bytes_key: info.key_size,
            bytes_value: info.value_size,
            max_entries: info.max_entries,
            bytes_memlock: info.memory_bytes,
            frozen: info.frozen.into(),
            btf_id: info.btf_id,
            pinned: holders.pinned(Kind::Map, info.id),
            pids: holders.pids(Kind::Map, info.id),
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}  ", self.id, self.map_type)?;
        if !self.name.is_empty() {
            write!(f, "name {}  ", self.name)?;
        }
        write!(f, "flags {:#x}", self.flags)?;
        let (key, value) = (self.bytes_key, self.bytes_value);
        write!(f, "\n\tkey {key}B  value {value}B  max_entries {}", self.max_entries)?;
        if let Some(bytes) = self.bytes_memlock {
            write!(f, "  memlock {bytes}B")?;
        }
        if let Some(id) = self.btf_id {
            write!(f, "\n\tbtf_id {id}")?;
        }
        if self.frozen != 0 {
            f.write_str("\n\tfrozen")?;
        }
        f.write_str(&tail(&self.pinned, &self.pids))
    }
}

impl Show {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let ids = select::all_or(Kind::Map, &self.words)?;
        let holders = Holders::now();
        let mut out = Out::new(out, self.print.format());
        for id in ids {
            if let Some(info) = rights("reading a map", inspect::map(id))? {
                out.emit(&Row::new(info, &holders))?;
            }
        }
        Ok(DONE)
    }
}
