//! `skep map`: maps and their entries.

use std::{fmt, io::Write, os::fd::AsFd as _};

use serde::Serialize;
use skep::{
    abi::{MapType, UpdateMode},
    btf::{Btf, TypeId, value},
    kernel::{
        Map,
        inspect::{self, Kind, MapInfo},
    },
};

use super::{Holder, Holders, map_rights, prog::pin, rights, select, tail};
use crate::{
    cmd::run::maps::decode,
    exit::{DONE, INPUT, usage},
    output::{Format, Out},
    show::{Show as Shown, sum},
};

/// Maps of this machine.
#[derive(Debug, clap::Subcommand)]
pub enum MapCommand {
    #[command(visible_alias = "list")]
    Show(Show),
    Dump(Dump),
    Lookup(Lookup),
    Update(Update),
    Delete(Delete),
    Getnext(Getnext),
    Pin(Pin),
}

/// List all maps, or those that are selected.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// `id N`, `name NAME` or `pinned PATH`; all without.
    #[arg(value_name = "MAP")]
    words: Vec<String>,
    /// Print JSON, one object per map.
    #[arg(long)]
    json: bool,
}

/// Print all entries of a map, decoded by its BTF.
#[derive(Debug, clap::Args)]
pub struct Dump {
    /// `id N`, `name NAME` or `pinned PATH`.
    #[arg(value_name = "MAP", required = true)]
    words: Vec<String>,
    /// Print JSON, one object per entry.
    #[arg(long)]
    json: bool,
}

/// Print one entry.
///
/// DATA is the bytes (`1 0 0 0`, `0x01 0x00 …`, `hex 01 00 …`), or one word that is a value of
/// the key's type.
#[derive(Debug, clap::Args)]
pub struct Lookup {
    /// `MAP key DATA`, where MAP is `id N`, `name NAME` or `pinned PATH`.
    #[arg(value_name = "MAP key DATA", required = true)]
    words: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

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

/// Print the key behind a key; the first one without.
#[derive(Debug, clap::Args)]
pub struct Getnext {
    /// `MAP [key DATA]`.
    #[arg(value_name = "MAP [key DATA]", required = true)]
    words: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Pin a map at a path of a bpf file system.
#[derive(Debug, clap::Args)]
pub struct Pin {
    /// `id N`, `name NAME` or `pinned PATH`, and the path of the new pin.
    #[arg(value_name = "MAP PATH", required = true, num_args = 3..)]
    words: Vec<String>,
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

/// An entry, or its key alone.
#[derive(Debug, Serialize)]
struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Shown>,
    /// Of a per-CPU map the sum over all CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Shown>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    per_cpu: Vec<Shown>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        if let Some(key) = &self.key {
            write!(f, "key: {key}")?;
            gap = "  ";
        }
        if let Some(value) = &self.value {
            write!(f, "{gap}value: {value}")?;
        }
        for (cpu, value) in self.per_cpu.iter().enumerate() {
            write!(f, "\n\tcpu {cpu}: {value}")?;
        }
        Ok(())
    }
}

/// The last line of a dump, in text.
#[derive(Debug, Serialize)]
struct Found(usize);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Found {} element{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// A map that is open, with its types.
struct Open {
    map: Map,
    btf: Option<Btf>,
    key: Option<TypeId>,
    value: Option<TypeId>,
}

impl Open {
    /// Takes the map's selector off the front of `words`.
    fn take(words: &mut &[String]) -> anyhow::Result<Self> {
        let id = select::take_one(Kind::Map, words)?;
        let gone = || select::gone(Kind::Map, id);
        let info = rights("reading a map", inspect::map(id))?.ok_or_else(gone)?;
        let map = rights("opening a map", inspect::open_map(id))?.ok_or_else(gone)?;
        let btf = info.btf_id.and_then(|id| inspect::types(id).ok().flatten());
        Ok(Self { map, btf, key: info.key_type, value: info.value_type })
    }

    fn entry(&self, key: Option<&[u8]>, bytes: &[u8]) -> Entry {
        let key = key.map(|k| decode(self.btf.as_ref(), self.key, k));
        let def = self.map.def();
        let show = |bytes: &[u8]| decode(self.btf.as_ref(), self.value, bytes);
        if !def.map_type.is_percpu() {
            return Entry { key, value: Some(show(bytes)), per_cpu: Vec::new() };
        }
        let size = def.value_size as usize;
        let each = bytes.chunks(size.next_multiple_of(8).max(8));
        let per_cpu: Vec<Shown> = each.map(|cpu| show(cpu.get(..size).unwrap_or(cpu))).collect();
        Entry { key, value: sum(&per_cpu), per_cpu }
    }

    /// Bytes of what the command line says.
    fn data(&self, what: &str, words: &[String]) -> anyhow::Result<Vec<u8>> {
        let def = self.map.def();
        let (size, ty) = match what {
            "key" => (def.key_size as usize, self.key),
            _ => (def.value_size as usize, self.value),
        };
        data(self.btf.as_ref().zip(ty), size, words)
            .map_err(|e| usage(format!("the {what} of {}: {e}", self.map.name())))
    }

    /// A value as the system call wants it: for per-CPU maps once for each CPU.
    fn whole_value(&self, one: &[u8]) -> Vec<u8> {
        if !self.map.def().map_type.is_percpu() {
            return one.to_vec();
        }
        let mut cpu = one.to_vec();
        cpu.resize(one.len().next_multiple_of(8), 0);
        cpu.iter().copied().cycle().take(self.map.value_bytes()).collect()
    }
}

/// `size` bytes from words: the bytes one by one, or one word that is a value of the type (of a
/// number of that size, without type).
fn data(types: Option<(&Btf, TypeId)>, size: usize, words: &[String]) -> Result<Vec<u8>, String> {
    if let [hex, digits @ ..] = words
        && hex == "hex"
    {
        let bytes = crate::parse::hex(&digits.join(" "))?;
        let found = bytes.len();
        return if found == size { Ok(bytes) } else { Err(wrong(found, size)) };
    }
    if words.len() == size && size != 1 {
        return words.iter().map(|w| number(w).and_then(|n| fit(n, 1))).try_fold(
            Vec::new(),
            |mut all, byte| {
                all.extend(byte?);
                Ok(all)
            },
        );
    }
    let [word] = words else { return Err(wrong(words.len(), size)) };
    match types {
        Some((btf, ty)) => value::encode(btf, ty, word).map_err(|e| e.to_string()),
        None if matches!(size, 1 | 2 | 4 | 8) => fit(number(word)?, size),
        None => Err(wrong(1, size)),
    }
}

fn wrong(found: usize, want: usize) -> String {
    format!("{found} bytes given, it has {want}")
}

fn number(word: &str) -> Result<u64, String> {
    let parsed = match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| format!("`{word}` is no number"))
}

/// The low bytes of a number that has no more.
fn fit(number: u64, size: usize) -> Result<Vec<u8>, String> {
    let bits = u32::try_from(size * 8).unwrap_or(64);
    if bits < 64 && number >> bits != 0 {
        return Err(format!("{number} does not fit in {size} bytes"));
    }
    let low = number.to_le_bytes().into_iter().take(size);
    Ok(if cfg!(target_endian = "little") { low.collect() } else { low.rev().collect() })
}

/// The words behind `keyword`, up to `end`; both are taken off.
fn behind<'a>(keyword: &str, end: &str, words: &mut &'a [String]) -> Option<&'a [String]> {
    let [first, rest @ ..] = *words else { return None };
    if first != keyword {
        return None;
    }
    let len = rest.iter().position(|w| w == end).unwrap_or(rest.len());
    let (own, left) = rest.split_at_checked(len)?;
    *words = left;
    Some(own)
}

impl MapCommand {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        match self {
            Self::Show(c) => c.run(out),
            Self::Dump(c) => c.run(out),
            Self::Lookup(c) => c.run(out),
            Self::Update(c) => c.run(),
            Self::Delete(c) => c.run(),
            Self::Getnext(c) => c.run(out),
            Self::Pin(c) => pin(Kind::Map, &c.words).map(|()| DONE),
        }
    }
}

impl Show {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let ids = select::all_or(Kind::Map, &self.words)?;
        let holders = Holders::now();
        let mut out = Out::new(out, Format::json_if(self.json));
        for id in ids {
            if let Some(info) = rights("reading a map", inspect::map(id))? {
                out.emit(&Row::new(info, &holders))?;
            }
        }
        Ok(DONE)
    }
}

impl Dump {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = Open::take(&mut words)?;
        select::done(words)?;
        let mut out = Out::new(out, Format::json_if(self.json));
        let map_type = open.map.def().map_type;
        let mut found = 0;
        match map_type {
            // Only the first one can be seen without taking it out.
            MapType::QUEUE | MapType::STACK => {
                if let Some(bytes) = map_rights("reading a map", open.map.peek())? {
                    out.emit(&open.entry(None, &bytes))?;
                    found = 1;
                }
            }
            MapType::RINGBUF | MapType::USER_RINGBUF | MapType::BLOOM_FILTER | MapType::ARENA => {
                anyhow::bail!("{} is a {map_type}, which has no entries to list", open.map.name());
            }
            _ => {
                for key in open.map.keys() {
                    let key = map_rights("reading a map", key)?;
                    // Gone meanwhile, or a slot of an array of objects that is empty.
                    let value = map_rights("reading a map", open.map.lookup_vec(&key))?;
                    let Some(bytes) = value else { continue };
                    out.emit(&open.entry(Some(&key), &bytes))?;
                    found += 1;
                }
            }
        }
        if !self.json {
            out.emit(&Found(found))?;
        }
        Ok(DONE)
    }
}

impl Lookup {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = Open::take(&mut words)?;
        let Some(key) = behind("key", "", &mut words) else {
            return Err(usage("expected `key DATA` behind the map"));
        };
        let key = open.data("key", key)?;
        let mut out = Out::new(out, Format::json_if(self.json));
        let Some(bytes) = map_rights("reading a map", open.map.lookup_vec(&key))? else {
            out.emit(&NotFound { key: decode(open.btf.as_ref(), open.key, &key), found: false })?;
            return Ok(INPUT);
        };
        out.emit(&open.entry(Some(&key), &bytes))?;
        Ok(DONE)
    }
}

/// A key that is not there.
#[derive(Debug, Serialize)]
struct NotFound {
    key: Shown,
    found: bool,
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key: {}  not found", self.key)
    }
}

impl Update {
    fn run(&self) -> anyhow::Result<u8> {
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
    fn run(&self) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = Open::take(&mut words)?;
        let Some(key) = behind("key", "", &mut words) else {
            return Err(usage("expected `key DATA` behind the map"));
        };
        map_rights("writing a map", open.map.delete(&open.data("key", key)?))?;
        Ok(DONE)
    }
}

/// A key and the one behind it.
#[derive(Debug, Serialize)]
struct Next {
    key: Option<Shown>,
    next_key: Shown,
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => writeln!(f, "key: {key}")?,
            None => writeln!(f, "key: None")?,
        }
        write!(f, "next key: {}", self.next_key)
    }
}

impl Getnext {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = Open::take(&mut words)?;
        let key = behind("key", "", &mut words).map(|k| open.data("key", k)).transpose()?;
        select::done(words)?;
        let mut next = vec![0; open.map.def().key_size as usize];
        if !map_rights("reading a map", open.map.next_key(key.as_deref(), &mut next))? {
            anyhow::bail!("{} has no further key", open.map.name());
        }
        let show = |bytes: &[u8]| decode(open.btf.as_ref(), open.key, bytes);
        let row = Next { key: key.as_deref().map(show), next_key: show(&next) };
        Out::new(out, Format::json_if(self.json)).emit(&row)?;
        Ok(DONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_words_and_numbers() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let cases: &[(&str, usize, Option<&[u8]>)] = &[
            ("1 0 0 0", 4, Some(&[1, 0, 0, 0])),
            ("0x01 0xff", 2, Some(&[1, 255])),
            ("hex 0a ff", 2, Some(&[10, 255])),
            ("7", 1, Some(&[7])),
            ("300", 1, None),
            ("1 2", 4, None),
            ("300 0", 2, None),
            ("x", 4, None),
            ("1", 6, None),
        ];
        for (text, size, want) in cases {
            let got = data(None, *size, &words(text));
            assert_eq!(got.as_deref().ok(), *want, "{text}: {got:?}");
        }
        assert_eq!(data(None, 4, &words("258")), Ok(258u32.to_ne_bytes().to_vec()));
    }

    #[test]
    fn keywords_split_the_words() {
        let words: Vec<String> = "key 1 2 value 3".split(' ').map(str::to_owned).collect();
        let mut rest = words.as_slice();
        assert_eq!(behind("key", "value", &mut rest).map(<[String]>::len), Some(2));
        assert_eq!(behind("key", "value", &mut rest), None);
        assert_eq!(behind("value", "", &mut rest).map(<[String]>::len), Some(1));
    }
}
