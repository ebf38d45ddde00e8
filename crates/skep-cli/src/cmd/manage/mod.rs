//! `skep prog`, `skep map`, `skep link`, `skep btf list`: what is loaded on this machine, with
//! bpftool's words.

pub mod btf;
mod details;
pub mod iter;
pub mod link;
pub mod map;
pub mod net;
pub mod perf;
mod pin;
pub mod prog;
pub(super) mod sample;
pub(super) mod select;
mod until;
pub(super) mod words;

use std::{collections::BTreeMap, path::PathBuf};

use pin::pin;
use serde::Serialize;
use skep::kernel::{
    MapError, SysError,
    inspect::{self, Kind, Owner},
    rights::{self, Capability},
};

pub(super) use details::Details;
use until::Until;

use crate::exit::Cannot;

/// The one program that is meant by two words: `id 7`, `name old`, `pinned PATH`, `tag T`.
pub fn select_program(words: &[String]) -> anyhow::Result<u32> {
    let mut rest = words;
    select::take_one(Kind::Program, &mut rest)
}

/// Calls that say "not permitted" to everybody when a map is frozen or a path is not in a bpf file
/// system.
const REFUSED_BY_THE_OBJECT: &[&str] =
    &["BPF_MAP_UPDATE_ELEM", "BPF_MAP_DELETE_ELEM", "BPF_MAP_FREEZE", "BPF_OBJ_PIN", "BPF_OBJ_GET"];

/// The errnos of a process without rights, and of a kernel without the call.
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const ENOSYS: i32 = 38;

/// Turns "not permitted" into an error that says what is missing and what works instead.
pub(super) fn rights<T>(what: &str, result: Result<T, SysError>) -> anyhow::Result<T> {
    result.map_err(|e| missing(what, &e).unwrap_or_else(|| e.into()))
}

/// As [`rights`], for operations on maps.
fn map_rights<T>(what: &str, result: Result<T, MapError>) -> anyhow::Result<T> {
    result.map_err(|e| missing(what, &e.source).unwrap_or_else(|| e.into()))
}

/// What this process or this kernel lacks; `None` where the object or the path is at fault.
fn missing(what: &str, e: &SysError) -> Option<anyhow::Error> {
    let missing = match e.errno() {
        EPERM | EACCES => match rights::lacking(needs(what)) {
            Some(why) => format!("{what}: not permitted: {why}"),
            None if REFUSED_BY_THE_OBJECT.contains(&e.command) => return None,
            None => format!("{what}: not permitted: {}", crate::exit::message_of(e)),
        },
        ENOSYS => format!("{what}: this kernel was built without bpf(2)"),
        _ => return None,
    };
    let hint = "run as root, or with what is missing; `skep inspect` and `skep run --engine embedded` \
                need no rights, and `skep doctor` says what does not work";
    Some(Cannot { missing, hint: hint.into() }.into())
}

/// The capabilities that something needs, by the beginning of its name.
fn needs(what: &str) -> &'static [Capability] {
    const NEEDS: &[(&str, &[Capability])] = &[
        ("listing what hangs", &[Capability::NET_ADMIN, Capability::SYS_ADMIN]),
        ("listing", &[Capability::SYS_ADMIN]),
        ("looking", &[Capability::NET_ADMIN, Capability::SYS_ADMIN]),
        ("opening", &[Capability::SYS_ADMIN]),
        ("asking for perf events", &[Capability::SYS_ADMIN]),
        ("counting runs", &[Capability::SYS_ADMIN]),
        ("reading the kernel's trace", &[Capability::SYS_ADMIN]),
        ("attaching", &[Capability::BPF, Capability::NET_ADMIN]),
        ("", &[Capability::BPF]),
    ];
    NEEDS.iter().find(|row| what.starts_with(row.0)).map_or(&[], |row| row.1)
}

/// A process that holds an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) comm: String,
}

impl From<&Owner> for Holder {
    fn from(owner: &Owner) -> Self {
        Self { pid: owner.pid, comm: owner.comm.clone() }
    }
}

/// Who holds what and where it is pinned; asked for once per command.
struct Holders {
    owners: BTreeMap<(Kind, u32), Vec<Owner>>,
    pins: BTreeMap<(Kind, u32), Vec<PathBuf>>,
}

impl Holders {
    fn now() -> Self {
        Self { owners: inspect::owners(), pins: inspect::pins() }
    }

    fn pids(&self, kind: Kind, id: u32) -> Vec<Holder> {
        let holders = self.owners.get(&(kind, id)).map_or(&[][..], Vec::as_slice);
        holders.iter().map(Holder::from).collect()
    }

    fn pinned(&self, kind: Kind, id: u32) -> Vec<String> {
        let paths = self.pins.get(&(kind, id)).map_or(&[][..], Vec::as_slice);
        paths.iter().map(|p| p.display().to_string()).collect()
    }
}

/// The last lines of an object's text: `pinned` and `pids`.
fn tail(pinned: &[String], pids: &[Holder]) -> String {
    let mut text: String = pinned.iter().map(|p| format!("\n\tpinned {p}")).collect();
    if !pids.is_empty() {
        let names: Vec<String> = pids.iter().map(|h| format!("{}({})", h.comm, h.pid)).collect();
        text += &format!("\n\tpids {}", names.join(", "));
    }
    text
}

/// Numbers with commas between.
fn commas(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
