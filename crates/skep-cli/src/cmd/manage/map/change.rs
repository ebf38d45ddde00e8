//! Changing a map: entries, queues and stacks, freezing, pins.

use std::os::fd::AsFd as _;

use skep::{
    abi::{MapType, UpdateMode},
    kernel::{
        Map,
        inspect::{self, Kind},
    },
};

use super::{data::behind, entry::Open};
use crate::{
    cmd::manage::{map_rights, rights, select},
    exit::{DONE, usage},
};

/// Store one entry.
///
/// DATA is as for lookup. The value of a map of maps or of programs is `id N`, `name NAME` or
/// `pinned PATH`. The value of one CPU is stored for every CPU.
#[derive(Debug, clap::Args)]
pub struct Update {
    /// `MAP key DATA value DATA [any|noexist|exist]`; queues and stacks have no key.
    #[arg(value_name = "MAP key DATA value DATA", required = true)]
    words: Vec<String>,
}

/// Remove one entry.
#[derive(Debug, clap::Args)]
pub struct Delete {
    /// `MAP key DATA`.
    #[arg(value_name = "MAP key DATA", required = true)]
    words: Vec<String>,
}

/// Make a map read-only for system calls, for good.
///
/// Programs are not affected.
#[derive(Debug, clap::Args)]
pub struct Freeze {
    /// `id N`, `name NAME` or `pinned PATH`.
    #[arg(value_name = "MAP", required = true)]
    words: Vec<String>,
}

impl Update {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = Open::take(&mut words)?;
        let key = behind("key", "value", &mut words);
        let Some(mut value) = behind("value", "", &mut words) else {
            return Err(usage("expected `value DATA`"));
        };
        let mut mode = UpdateMode::Any;
        if let [rest @ .., last] = value
            && let Some(named) = mode_named(last)
        {
            (mode, value) = (named, rest);
        }
        let map = &open.map;
        let map_type = map.def().map_type;
        let key = key.map(|k| open.data("key", k)).transpose()?;
        let stored = match (key, map_type) {
            (None, MapType::QUEUE | MapType::STACK | MapType::BLOOM_FILTER) => {
                map.push(&open.data("value", value)?, mode)
            }
            (None, _) => return Err(usage("expected `key DATA` behind the map")),
            (Some(key), MapType::PROG_ARRAY) => return set_object(map, &key, Kind::Program, value),
            (Some(key), t) if t.is_map_in_map() => return set_object(map, &key, Kind::Map, value),
            (Some(key), _) => {
                map.update(&key, &open.whole_value(&open.data("value", value)?), mode)
            }
        };
        map_rights("writing a map", stored)?;
        Ok(DONE)
    }
}

/// Stores a map or a program in a map of such.
fn set_object(map: &Map, key: &[u8], kind: Kind, words: &[String]) -> anyhow::Result<u8> {
    let mut rest = words;
    let id = select::take_one(kind, &mut rest)?;
    select::done(rest)?;
    let fd = rights("opening an object", inspect::open(kind, id))?;
    let fd = fd.ok_or_else(|| select::gone(kind, id))?;
    map_rights("writing a map", map.set_fd(key, fd.as_fd()))?;
    Ok(DONE)
}

fn mode_named(word: &str) -> Option<UpdateMode> {
    match word {
        "any" => Some(UpdateMode::Any),
        "noexist" => Some(UpdateMode::NoExist),
        "exist" => Some(UpdateMode::Exist),
        _ => None,
    }
}

impl Delete {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = Open::take(&mut words)?;
        let Some(key) = behind("key", "", &mut words) else {
            return Err(usage("expected `key DATA` behind the map"));
        };
        map_rights("writing a map", open.map.delete(&open.data("key", key)?))?;
        Ok(DONE)
    }
}

impl Freeze {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = Open::take(&mut words)?;
        select::done(words)?;
        map_rights("freezing a map", open.map.freeze())?;
        Ok(DONE)
    }
}
