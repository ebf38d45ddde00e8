//! Queues and stacks: what is next, what goes in, what comes out.

use std::io::Write;

use skep::abi::{MapType, UpdateMode};

use super::{data::behind, entry::Open};
use crate::{
    cmd::manage::{map_rights, select},
    exit::{DONE, INPUT, usage},
    output::{Out, Print},
};

/// Print what a queue or stack would give next, and leave it there.
#[derive(Debug, clap::Args)]
pub struct Peek {
    /// `id N`, `name NAME` or `pinned PATH`.
    #[arg(value_name = "MAP", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    print: Print,
}

/// Put a value into a queue, stack or bloom filter.
#[derive(Debug, clap::Args)]
pub struct Push {
    /// `MAP value DATA`, with DATA as for `map lookup`.
    #[arg(value_name = "MAP value DATA", required = true)]
    words: Vec<String>,
}

/// Take a value out of a queue or stack and print it.
#[derive(Debug, clap::Args)]
pub struct Pop {
    /// `id N`, `name NAME` or `pinned PATH`.
    #[arg(value_name = "MAP", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    print: Print,
}

/// Opens the map, which must have an order of its own.
fn open(words: &mut &[String]) -> anyhow::Result<Open> {
    let open = Open::take(words)?;
    let map_type = open.map.def().map_type;
    if matches!(map_type, MapType::QUEUE | MapType::STACK | MapType::BLOOM_FILTER) {
        return Ok(open);
    }
    Err(usage(format!("{} is a {map_type}: its entries have keys", open.name())))
}

/// Prints a value without key; nothing there is exit code 1.
fn print(
    open: &Open,
    value: Option<&[u8]>,
    print: Print,
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    let Some(value) = value else {
        say!("{} is empty", open.name());
        return Ok(INPUT);
    };
    Out::new(out, print.format()).emit(&open.entry(None, value))?;
    Ok(DONE)
}

impl Peek {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = open(&mut words)?;
        select::done(words)?;
        let value = map_rights("reading a map", open.map.peek())?;
        print(&open, value.as_deref(), self.print, out)
    }
}

impl Push {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = open(&mut words)?;
        let Some(value) = behind("value", "", &mut words) else {
            return Err(usage("expected `value DATA` behind the map"));
        };
        let value = open.data("value", value)?;
        map_rights("writing a map", open.map.push(&value, UpdateMode::Any))?;
        Ok(DONE)
    }
}

impl Pop {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = self.words.as_slice();
        let open = open(&mut words)?;
        select::done(words)?;
        let value = map_rights("taking from a map", open.map.pop())?;
        print(&open, value.as_deref(), self.print, out)
    }
}
