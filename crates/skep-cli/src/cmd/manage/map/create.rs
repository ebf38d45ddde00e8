//! `skep map create`: a new map, pinned.

use std::{collections::HashSet, os::fd::AsFd as _, path::PathBuf};

use skep::{
    abi::{MapDef, MapFlags, MapNeeds, MapRule, MapType},
    btf::{Array, Builder, Encoding, TypeId},
    kernel::{
        self, Map, MapBtf,
        inspect::{self, Kind},
    },
};

use super::data::number;
use crate::{
    cmd::manage::{
        map_rights, pin, rights, select,
        words::{Words, unexpected},
    },
    exit::{DONE, usage},
};

/// Make a map and pin it at a path of a bpf file system.
///
/// What breaks a rule of the type is said before the kernel is asked. A size that can be one number
/// only may be left out. Maps of sockets, inodes, tasks and cgroups get a type for their values that
/// is an array of bytes.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// Where to pin the map.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// `type TYPE key BYTES value BYTES entries N [name NAME] [flags FLAGS] [inner_map MAP]
    /// [extra N]`; FLAGS is a number or names like `no_prealloc,mmapable`.
    #[arg(value_name = "type TYPE …", required = true)]
    words: Vec<String>,
}

/// What the words say.
#[derive(Debug, Default)]
struct Wanted<'a> {
    map_type: Option<MapType>,
    key: Option<u32>,
    value: Option<u32>,
    entries: Option<u32>,
    name: &'a str,
    flags: MapFlags,
    extra: u64,
    inner: Option<u32>,
}

const EXPECTED: &str = "type, key, value, entries, name, flags, inner_map or extra";

impl<'a> Wanted<'a> {
    fn parse(words: &'a [String]) -> anyhow::Result<Self> {
        let mut wanted = Self::default();
        let mut words = Words(words);
        while let Some(keyword) = words.next() {
            match keyword {
                "type" => wanted.map_type = Some(type_named(words.value(keyword)?)?),
                "key" => wanted.key = Some(words.number(keyword)?),
                "value" => wanted.value = Some(words.number(keyword)?),
                "entries" => wanted.entries = Some(words.number(keyword)?),
                "name" => wanted.name = words.value(keyword)?,
                "flags" => wanted.flags = flags(words.value(keyword)?)?,
                "extra" => wanted.extra = number(words.value(keyword)?).map_err(usage)?,
                "inner_map" => wanted.inner = Some(select::take_one(Kind::Map, &mut words.0)?),
                other => return Err(unexpected(other, EXPECTED)),
            }
        }
        Ok(wanted)
    }

    /// The definition, with the sizes that go without saying.
    fn def(&self) -> anyhow::Result<MapDef> {
        let Some(map_type) = self.map_type else { return Err(usage("expected `type TYPE`")) };
        let rule = MapRule::of(map_type);
        let size = |given: Option<u32>, known: Option<u32>| given.or(known).unwrap_or(0);
        Ok(MapDef {
            map_type,
            key_size: size(self.key, rule.and_then(|r| r.key.only())),
            value_size: size(self.value, rule.and_then(|r| r.value.only())),
            max_entries: size(self.entries, rule.and_then(|r| r.entries.only())),
            flags: self.flags,
            extra: self.extra,
            numa_node: 0,
        })
    }
}

fn type_named(word: &str) -> anyhow::Result<MapType> {
    let known = MapType::by_name(word).filter(|&t| t != MapType::UNSPEC);
    known.ok_or_else(|| {
        let names: Vec<&str> = MapType::ALL.iter().skip(1).filter_map(|t| t.name()).collect();
        usage(format!("no map type `{word}`: expected one of {}", names.join(", ")))
    })
}

/// A number, or names with commas or bars between.
fn flags(word: &str) -> anyhow::Result<MapFlags> {
    if let Some(bits) = number(word).ok().and_then(|n| u32::try_from(n).ok()) {
        return Ok(MapFlags(bits));
    }
    word.split([',', '|']).try_fold(MapFlags(0), |all, name| {
        MapFlags::by_name(name).map(|flag| all.with(flag)).ok_or_else(|| {
            let names: Vec<&str> = MapFlags::ALL.iter().map(|(_, name)| *name).collect();
            usage(format!("no flag `{name}`: expected a number or {}", names.join(", ")))
        })
    })
}

/// Types for maps that do not exist without: an integer, and bytes.
fn types(value_size: u32) -> anyhow::Result<(kernel::Btf, TypeId, TypeId)> {
    let mut types = Builder::new();
    let key = types.int("int", 4, Encoding::SIGNED);
    let byte = types.int("unsigned char", 1, Encoding::default());
    let value = types.array(Array { element: byte, index: key, len: value_size });
    let btf = kernel::Btf::load(&types.finish()?, &[], &HashSet::new())?;
    Ok((btf, key, value))
}

impl Create {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let wanted = Wanted::parse(&self.words)?;
        let def = wanted.def()?;
        def.check(kernel::page_bytes())?;
        let needs = MapRule::of(def.map_type).map_or(MapNeeds::Nothing, |rule| rule.needs);
        let inner = match (needs, wanted.inner) {
            (MapNeeds::Inner, None) => {
                return Err(usage(format!("{} maps need `inner_map MAP`", def.map_type)));
            }
            (MapNeeds::Inner, Some(id)) => {
                let map = rights("opening a map", inspect::open_map(id))?;
                Some(map.ok_or_else(|| select::gone(Kind::Map, id))?)
            }
            (_, Some(_)) => {
                return Err(usage(format!("{} maps have no inner maps", def.map_type)));
            }
            (MapNeeds::KernelType, _) => {
                return Err(usage("a struct_ops map comes with its programs: load the object"));
            }
            _ => None,
        };
        let types = (needs == MapNeeds::Types).then(|| types(def.value_size)).transpose()?;
        let btf = types.as_ref().map(|(btf, key, value)| MapBtf {
            btf: btf.as_fd(),
            key: key.0,
            value: value.0,
        });
        let made = Map::create(wanted.name, def, inner.as_ref(), btf);
        let map = map_rights("making a map", made)?;
        pin::at(&self.path, map_rights("pinning a map", map.pin(&self.path)))?;
        Ok(DONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> anyhow::Result<MapDef> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Wanted::parse(&words)?.def()
    }

    #[test]
    fn sizes_that_can_be_one_number_only_may_be_left_out() {
        let def = parsed("type array value 8 entries 2 flags mmapable,rdonly").unwrap();
        assert_eq!((def.key_size, def.value_size, def.max_entries), (4, 8, 2));
        assert_eq!(def.flags, MapFlags::MMAPABLE.with(MapFlags::RDONLY));
        assert_eq!(parsed("type task_storage value 8 flags 0x1").unwrap().max_entries, 0);
    }

    #[test]
    fn wrong_words_name_what_may_stand_there() {
        for (text, want) in [
            ("key 4", "type TYPE"),
            ("type hush", "one of hash, array"),
            ("type hash flags nothing", "no_prealloc"),
            ("type hash key four", "a number"),
            ("type hash colour red", "inner_map or extra"),
        ] {
            let e = parsed(text).unwrap_err();
            assert_eq!(crate::exit::code(&e), crate::exit::USAGE, "{text}");
            assert!(e.to_string().contains(want), "{text}: {e}");
        }
    }
}
