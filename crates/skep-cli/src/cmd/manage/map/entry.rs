//! Entries of a map: found, listed, decoded by the map's types.

use std::{fmt, io::Write};

use serde::Serialize;
use skep::{
    abi::MapType,
    btf::{Btf, TypeId},
    kernel::{
        Map,
        inspect::{self, Kind},
        target,
    },
};

use super::data::{behind, data};
use crate::{
    cmd::{
        manage::{map_rights, rights, select},
        run::maps::decode,
    },
    exit::{DONE, INPUT, usage},
    output::{Out, Print},
    show::{Show as Shown, sum},
};

/// Print all entries of a map, decoded by its BTF.
#[derive(Debug, clap::Args)]
pub struct Dump {
    /// `id N`, `name NAME` or `pinned PATH`.
    #[arg(value_name = "MAP", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    print: Print,
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
    #[command(flatten)]
    print: Print,
}

/// Print the key behind a key; the first one without.
#[derive(Debug, clap::Args)]
pub struct Getnext {
    /// `MAP [key DATA]`.
    #[arg(value_name = "MAP [key DATA]", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    print: Print,
}

/// An entry, or its key alone.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
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
pub(super) struct Open {
    pub(super) map: Map,
    btf: Option<Btf>,
    key: Option<TypeId>,
    value: Option<TypeId>,
}

impl Open {
    /// Takes the map's selector off the front of `words`.
    pub(super) fn take(words: &mut &[String]) -> anyhow::Result<Self> {
        let id = select::take_one(Kind::Map, words)?;
        let gone = || select::gone(Kind::Map, id);
        let info = rights("reading a map", inspect::map(id))?.ok_or_else(gone)?;
        let map = rights("opening a map", inspect::open_map(id))?.ok_or_else(gone)?;
        let of = |id: Option<u32>| inspect::types(id?).ok().flatten();
        let Some(value) = info.kernel_value_type else {
            let btf = of(info.btf_id);
            return Ok(Self { map, btf, key: info.key_type, value: info.value_type });
        };
        let btf = of(info.kernel_btf_id).or_else(|| target::vmlinux_btf().ok());
        Ok(Self { map, btf, key: None, value: Some(value) })
    }

    /// The map's name for messages.
    pub(super) fn name(&self) -> &str {
        match self.map.name() {
            "" => "the map",
            name => name,
        }
    }

    pub(super) fn entry(&self, key: Option<&[u8]>, bytes: &[u8]) -> Entry {
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
    pub(super) fn data(&self, what: &str, words: &[String]) -> anyhow::Result<Vec<u8>> {
        let def = self.map.def();
        let (size, ty) = match what {
            "key" => (def.key_size as usize, self.key),
            _ => (def.value_size as usize, self.value),
        };
        data(self.btf.as_ref().zip(ty), size, words)
            .map_err(|e| usage(format!("the {what} of {}: {e}", self.name())))
    }

    /// A value as the system call wants it: for per-CPU maps once for each CPU.
    pub(super) fn whole_value(&self, one: &[u8]) -> Vec<u8> {
        if !self.map.def().map_type.is_percpu() {
            return one.to_vec();
        }
        let mut cpu = one.to_vec();
        cpu.resize(one.len().next_multiple_of(8), 0);
        cpu.iter().copied().cycle().take(self.map.value_bytes()).collect()
    }
}

impl Dump {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = Open::take(&mut words)?;
        select::done(words)?;
        let mut out = Out::new(out, self.print.format());
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
                anyhow::bail!("{} is a {map_type}, which has no entries to list", open.name());
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
        if out.is_text() {
            out.emit(&Found(found))?;
        }
        Ok(DONE)
    }
}

impl Lookup {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = Open::take(&mut words)?;
        let Some(key) = behind("key", "", &mut words) else {
            return Err(usage("expected `key DATA` behind the map"));
        };
        let key = open.data("key", key)?;
        let mut out = Out::new(out, self.print.format());
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
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = Open::take(&mut words)?;
        let key = behind("key", "", &mut words).map(|k| open.data("key", k)).transpose()?;
        select::done(words)?;
        let mut next = vec![0; open.map.def().key_size as usize];
        if !map_rights("reading a map", open.map.next_key(key.as_deref(), &mut next))? {
            anyhow::bail!("{} has no further key", open.name());
        }
        let show = |bytes: &[u8]| decode(open.btf.as_ref(), open.key, bytes);
        let row = Next { key: key.as_deref().map(show), next_key: show(&next) };
        Out::new(out, self.print.format()).emit(&row)?;
        Ok(DONE)
    }
}
