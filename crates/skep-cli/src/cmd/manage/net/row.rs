//! One program that hangs somewhere, as a line.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use skep::kernel::{
    inspect::{self, InterfaceHook, Kind, NetPlace, NetProgram},
    leftover::{Leftover, Life, leftovers},
    link::{NetkitEnd, XdpMode},
};

use super::super::{Holder, Holders};

/// One program; fields named as bpftool's where it has them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Row {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    devname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ifindex: Option<u32>,
    /// `driver`, `generic` or `offload`.
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<&'static str>,
    /// `tcx/ingress`, `clsact/egress`, `netkit/peer`…
    #[serde(rename = "kind", skip_serializing_if = "Option::is_none")]
    hook: Option<String>,
    /// A filter's name, priority and number.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pref: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach_flags: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pf: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nf_hook: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prio: Option<i32>,
    prog_id: u32,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_id: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pids: Vec<Holder>,
    /// Who attached it, where skep did in a way that outlives a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    attached_by: Option<AttachedBy>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct AttachedBy {
    pid: u32,
    /// Null when it cannot be seen from here.
    alive: Option<bool>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let (Some(name), Some(index)) = (&self.devname, self.ifindex) {
            write!(f, " {name}({index})")?;
        }
        let words = [
            self.mode.map(str::to_owned),
            self.hook.clone(),
            self.cgroup.clone(),
            self.attach_type.clone(),
            self.attach_flags.map(str::to_owned),
            self.pf.map(|n| format!("pf {n}")),
            self.nf_hook.map(|n| format!("hook {n}")),
            self.prio.map(|n| format!("prio {n}")),
            self.filter.clone(),
            self.pref.map(|n| format!("pref {n}")),
            self.handle.map(|n| format!("handle {n:#x}")),
            Some(format!("prog_id {} name {}", self.prog_id, self.name)),
            self.link_id.map(|id| format!("link_id {id}")),
        ];
        for word in words.iter().flatten().filter(|word| !word.is_empty()) {
            write!(f, " {word}")?;
        }
        if !self.pids.is_empty() {
            let names: Vec<String> =
                self.pids.iter().map(|h| format!("{}({})", h.comm, h.pid)).collect();
            write!(f, " pids {}", names.join(", "))?;
        }
        match self.attached_by {
            Some(AttachedBy { pid, alive: Some(false) }) => {
                write!(f, " left behind by process {pid}")
            }
            Some(AttachedBy { pid, .. }) => write!(f, " attached by process {pid}"),
            None => Ok(()),
        }
    }
}

/// What rows say beside the place; asked for once per command.
pub(super) struct Rows {
    holders: Holders,
    /// By program.
    marked: BTreeMap<u32, AttachedBy>,
}

impl Rows {
    pub(super) fn now() -> Self {
        let one = |l: Leftover| {
            let alive = match l.life {
                Life::Alive => Some(true),
                Life::Dead => Some(false),
                Life::Unknown => None,
            };
            Some((l.program?, AttachedBy { pid: l.process.pid, alive }))
        };
        Self { holders: Holders::now(), marked: leftovers().into_iter().filter_map(one).collect() }
    }

    pub(super) fn row(&self, on: &NetProgram) -> Row {
        let id = on.program;
        let held = on.link.map_or((Kind::Program, id), |link| (Kind::Link, link));
        let name = inspect::program(id).ok().flatten().map(|p| p.name);
        Row {
            prog_id: id,
            name: name.unwrap_or_default(),
            link_id: on.link,
            pids: self.holders.pids(held.0, held.1),
            attached_by: on.link.is_none().then(|| self.marked.get(&id).copied()).flatten(),
            ..at(&on.at)
        }
    }
}

fn at(place: &NetPlace) -> Row {
    match place {
        NetPlace::Interface { name, ifindex, hook } => {
            Row { devname: Some(name.clone()), ifindex: Some(*ifindex), ..on_interface(hook) }
        }
        NetPlace::Netns { attach_type } => Row {
            kind: match *attach_type {
                skep::abi::AttachType::FLOW_DISSECTOR => "flow_dissector",
                _ => "sk_lookup",
            },
            ..Row::default()
        },
        &NetPlace::Netfilter { family, hook, priority } => Row {
            kind: "netfilter",
            pf: Some(family),
            nf_hook: Some(hook),
            prio: Some(priority),
            ..Row::default()
        },
        NetPlace::Cgroup { path, attach_type, flags } => Row {
            kind: "cgroup",
            cgroup: Some(path.display().to_string()),
            attach_type: Some(attach_type.to_string()),
            attach_flags: match flags {
                1 => Some("override"),
                2 => Some("multi"),
                _ => None,
            },
            ..Row::default()
        },
        _ => Row { kind: "unknown", ..Row::default() },
    }
}

fn on_interface(hook: &InterfaceHook) -> Row {
    let tc = |hook: String| Row { kind: "tc", hook: Some(hook), ..Row::default() };
    match hook {
        InterfaceHook::Xdp(mode) => Row {
            kind: "xdp",
            mode: Some(match mode {
                XdpMode::Generic => "generic",
                XdpMode::Offload => "offload",
                _ => "driver",
            }),
            ..Row::default()
        },
        InterfaceHook::Tcx(direction) => tc(format!("tcx/{direction}")),
        InterfaceHook::Netkit(NetkitEnd::Primary) => tc("netkit/primary".into()),
        InterfaceHook::Netkit(NetkitEnd::Peer) => tc("netkit/peer".into()),
        InterfaceHook::Clsact { direction, name, priority, handle } => Row {
            filter: Some(name.clone()),
            pref: Some(*priority),
            handle: Some(*handle),
            ..tc(format!("clsact/{direction}"))
        },
        _ => Row { kind: "unknown", ..Row::default() },
    }
}
