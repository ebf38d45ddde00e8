//! `skep btf`: type information.

use std::io::Write;

use anyhow::Context as _;
use skep::{
    btf::{self, TypeId},
    kernel::inspect::{self, Kind},
};

use super::manage::{rights, select, words::Words};
use crate::{
    btf_file,
    exit::{DONE, usage},
};

/// Look at type information.
#[derive(Debug, clap::Subcommand)]
pub enum Btf {
    Dump(Dump),
    #[command(visible_alias = "show")]
    List(super::manage::btf::List),
}

/// Print types as a C header that compiles, or one line per type.
///
/// Of files, of the running kernel, and of what is loaded.
#[derive(Debug, clap::Args)]
pub struct Dump {
    /// `FILE` (or `file FILE`): a BTF file, an ELF file with .BTF, or `vmlinux` for the running kernel;
    /// `id N`: a loaded BTF object; `prog PROG`; `map MAP [key|value|kv|all]`, where all but `all` are
    /// for `--format raw`. Then maybe `format c` or `format raw`.
    #[arg(value_name = "SOURCE", default_value = "vmlinux")]
    words: Vec<String>,
    /// What to print.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A C header: every type in an order that compiles.
    #[default]
    C,
    /// One line per type, as bpftool prints them.
    Raw,
}

/// Types, and which of them are wanted.
struct Source {
    types: btf::Btf,
    only: Option<Vec<TypeId>>,
}

impl Btf {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        match self {
            Self::Dump(dump) => dump.run(out),
            Self::List(list) => list.run(out),
        }
    }
}

impl Dump {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = Words(&self.words);
        let source = source(&mut words)?;
        let mut format = self.format;
        if words.0.first().is_some_and(|word| word == "format") {
            words.next();
            format = match words.value("format")? {
                "c" => Format::C,
                "raw" => Format::Raw,
                other => return Err(usage(format!("no format `{other}`: expected c or raw"))),
            };
        }
        select::done(words.0)?;
        match (format, &source.only) {
            (Format::C, None) => write!(out, "{}", btf::c::header(&source.types))?,
            (Format::C, Some(_)) => {
                return Err(usage(
                    "key, value and kv are for `format raw`: a header has all types",
                ));
            }
            (Format::Raw, None) => write!(out, "{}", btf::dump::raw(&source.types))?,
            (Format::Raw, Some(only)) => {
                write!(out, "{}", btf::dump::raw_of(&source.types, only))?;
            }
        }
        Ok(DONE)
    }
}

fn source(words: &mut Words<'_>) -> anyhow::Result<Source> {
    let whole = |types| Ok(Source { types, only: None });
    match words.0.first().map(String::as_str) {
        Some("id") => {
            let id = select::take_one(Kind::Btf, &mut words.0)?;
            whole(loaded(id)?)
        }
        Some("prog") => {
            words.next();
            let id = select::take_one(Kind::Program, &mut words.0)?;
            let program = rights("reading a program", inspect::program(id))?;
            let program = program.ok_or_else(|| select::gone(Kind::Program, id))?;
            whole(loaded(program.btf_id.with_context(|| format!("program {id} has no types"))?)?)
        }
        Some("map") => {
            words.next();
            let id = select::take_one(Kind::Map, &mut words.0)?;
            let map = rights("reading a map", inspect::map(id))?;
            let map = map.ok_or_else(|| select::gone(Kind::Map, id))?;
            let types = loaded(map.btf_id.with_context(|| format!("map {id} has no types"))?)?;
            let wanted: Vec<Option<TypeId>> = match words.0.first().map(String::as_str) {
                Some("key") => vec![map.key_type],
                Some("value") => vec![map.value_type],
                Some("kv") => vec![map.key_type, map.value_type],
                Some("all") => {
                    words.next();
                    return whole(types);
                }
                _ => return whole(types),
            };
            words.next();
            Ok(Source { types, only: Some(wanted.into_iter().flatten().collect()) })
        }
        first => {
            if first == Some("file") {
                words.next();
            }
            whole(btf_file::read(words.value("file")?.as_ref())?)
        }
    }
}

fn loaded(id: u32) -> anyhow::Result<btf::Btf> {
    rights("reading BTF", inspect::open(Kind::Btf, id))?;
    inspect::types(id)?.with_context(|| format!("the types of BTF object {id} cannot be read"))
}
