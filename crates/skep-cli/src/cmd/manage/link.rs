//! `skep link`: attached programs.

use std::{fmt, io::Write};

use serde::Serialize;
use skep::kernel::inspect::{self, Kind, LinkInfo};

use super::{Holder, Holders, prog::pin, rights, select, tail};
use crate::{
    exit::DONE,
    output::{Format, Out},
};

/// Links: what holds programs at their hooks.
#[derive(Debug, clap::Subcommand)]
pub enum Link {
    #[command(visible_alias = "list")]
    Show(Show),
    Detach(Detach),
    Pin(Pin),
}

/// List all links, or the one that is selected.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// `id N` or `pinned PATH`; all without.
    #[arg(value_name = "LINK")]
    words: Vec<String>,
    /// Print JSON, one object per link.
    #[arg(long)]
    json: bool,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    prog_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tp_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_obj_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_btf_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns_ino: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ifindex: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    func_cnt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pf: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hook: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prio: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pinned: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pids: Vec<Holder>,
}

impl Row {
    fn new(info: LinkInfo, holders: &Holders) -> Self {
        let kind = info.kind().to_string();
        let tracepoint = kind == "raw_tracepoint" || info.event == Some("tracepoint");
        let (tp_name, target_name) =
            if tracepoint { (info.target_name, None) } else { (None, info.target_name) };
        // bpftool says the program's type for tracing links, whose own type says less.
        let program = (kind == "tracing").then(|| inspect::program(info.prog_id).ok().flatten());
        Self {
            id: info.id,
            link_type: kind,
            prog_id: info.prog_id,
            prog_type: program.flatten().map(|p| p.prog_type.to_string()),
            event: info.event,
            tp_name,
            target_name,
            offset: info.offset,
            attach_type: info.attach_type.map(|t| t.to_string()),
            target_obj_id: info.target_obj_id,
            target_btf_id: info.target_btf_id,
            cgroup_id: info.cgroup_id,
            netns_ino: info.netns_ino,
            ifindex: info.ifindex,
            map_id: info.map_id,
            func_cnt: info.func_count,
            pid: info.pid,
            pf: info.netfilter.map(|n| n.0),
            hook: info.netfilter.map(|n| n.1),
            prio: info.netfilter.map(|n| n.2),
            cookie: info.cookie,
            pinned: holders.pinned(Kind::Link, info.id),
            pids: holders.pids(Kind::Link, info.id),
        }
    }

    /// What depends on the type, in the order of the fields.
    fn details(&self) -> String {
        fn named<T: fmt::Display>(name: &str, value: Option<&T>) -> Option<String> {
            value.map(|v| format!("{name} {v}"))
        }
        let all = [
            named("prog_type", self.prog_type.as_ref()),
            named("event", self.event.as_ref()),
            self.tp_name.as_ref().map(|n| format!("tp '{n}'")),
            named("target_name", self.target_name.as_ref()),
            named("offset", self.offset.as_ref()),
            named("cgroup_id", self.cgroup_id.as_ref()),
            named("netns_ino", self.netns_ino.as_ref()),
            named("ifindex", self.ifindex.as_ref()),
            named("map_id", self.map_id.as_ref()),
            named("attach_type", self.attach_type.as_ref()),
            named("target_obj_id", self.target_obj_id.as_ref()),
            named("target_btf_id", self.target_btf_id.as_ref()),
            named("func_cnt", self.func_cnt.as_ref()),
            named("pid", self.pid.as_ref()),
            named("pf", self.pf.as_ref()),
            named("hook", self.hook.as_ref()),
            named("prio", self.prio.as_ref()),
            named("cookie", self.cookie.as_ref()),
        ];
        all.into_iter().flatten().collect::<Vec<_>>().join("  ")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}  prog {}", self.id, self.link_type, self.prog_id)?;
        let details = self.details();
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
                let mut out = Out::new(out, Format::json_if(c.json));
                for id in ids {
                    if let Some(info) = rights("reading a link", inspect::link(id))? {
                        out.emit(&Row::new(info, &holders))?;
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
        }
        Ok(DONE)
    }
}
