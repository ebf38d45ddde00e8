//! What `skep run` prints: each line of output is one of these.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::show::Show;

/// Different verdicts that the text shows. Named ones are fewer; a program that returns numbers of
/// its own may have as many as it got packets.
const MOST_VERDICTS: usize = 20;

/// One line of JSON, or one paragraph of text.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// Text only: the object that what follows is about.
    Heading { object: String },
    /// A record of a ring or perf buffer.
    Event(Event),
    /// Text of `bpf_printk`.
    Printk { text: String },
    /// What an iterator gave, as text.
    Iterator { program: String, text: String },
    /// A record of an iterator.
    Record { program: String, record: Show },
    /// What a program gave that is run once.
    Ran { program: String, retval: u32 },
    /// What a packet program decided.
    Verdicts(Verdicts),
    /// Events that found a buffer full.
    Lost { map: String, events: u64 },
    /// Entries of a map.
    Map(Map),
    /// Global variables.
    Variables(Variables),
}

/// A record of a ring or perf buffer.
#[derive(Debug, Serialize)]
pub struct Event {
    pub map: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    pub event: Show,
}

/// What a packet program decided.
#[derive(Debug, Serialize)]
pub struct Verdicts {
    pub program: String,
    pub packets: u64,
    /// Bytes given to the program.
    pub bytes: u64,
    /// Packets by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Packets the engine could not take (shorter than an Ethernet header).
    pub skipped: u64,
}

/// Entries of a map, sorted by key.
#[derive(Debug, Serialize)]
pub struct Map {
    pub map: String,
    pub map_type: String,
    pub max_entries: u32,
    /// How many entries are all zero and not listed (arrays only).
    pub zero_entries: u64,
    pub entries: Vec<Entry>,
    /// How many of them the text shows.
    #[serde(skip)]
    pub most: Option<usize>,
}

/// One entry.
#[derive(Debug, Serialize)]
pub struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Show>,
    /// Of a per-CPU map, the sum.
    pub value: EntryValue,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_cpu: Vec<Show>,
}

/// What an entry holds.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum EntryValue {
    Plain(Show),
    /// An inner map that is one of the object's own.
    Named {
        map: String,
    },
    /// Another inner map.
    Inner(Vec<Entry>),
}

/// Global variables of one section.
#[derive(Debug, Serialize)]
pub struct Variables {
    pub map: String,
    pub variables: Show,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heading { object } => write!(f, "object {object}"),
            Self::Event(e) => e.fmt(f),
            Self::Printk { text } => write!(f, "printk: {text}"),
            Self::Iterator { text, .. } => f.write_str(text),
            Self::Record { program, record } => write!(f, "{program} {record}"),
            Self::Ran { program, retval } => write!(f, "{program} returned {retval}"),
            Self::Verdicts(v) => v.fmt(f),
            Self::Lost { map, events } => write!(f, "lost: {events} events of {map}"),
            Self::Map(m) => m.fmt(f),
            Self::Variables(v) => v.fmt(f),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.map)?;
        self.cpu.iter().try_for_each(|cpu| write!(f, " cpu={cpu}"))?;
        write!(f, " {}", self.event)
    }
}

impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "verdicts of {}: {} packets, {} bytes", self.program, self.packets, self.bytes)?;
        if self.skipped > 0 {
            write!(f, ", {} more skipped (shorter than an Ethernet header)", self.skipped)?;
        }
        // Names first; what is none is a number.
        let mut verdicts: Vec<_> = self.verdicts.iter().collect();
        verdicts.sort_by_key(|(name, _)| name.parse::<u64>().ok());
        let (shown, more) = split(&verdicts, Some(MOST_VERDICTS));
        let rows: Vec<_> = shown.iter().map(|(k, n)| (k.to_string(), n.to_string())).collect();
        write_rows(f, &rows, 2)?;
        write_more(f, more, 2, "--json shows all")
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = entries_text(self.entries.len());
        write!(f, "map {} ({}): {listed}", self.map, self.map_type)?;
        if self.zero_entries > 0 {
            let are = if self.zero_entries == 1 { "is" } else { "are" };
            write!(f, ", {} more {are} zero", self.zero_entries)?;
        }
        self.write_entries(f, &self.entries, 2)
    }
}

impl fmt::Display for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "variables of {}", self.map)?;
        write_rows(f, &self.variables.rows(), 2)
    }
}

impl Map {
    fn write_entries(
        &self,
        f: &mut fmt::Formatter<'_>,
        entries: &[Entry],
        indent: usize,
    ) -> fmt::Result {
        let (shown, more) = split(entries, self.most);
        let keys: Vec<String> =
            shown.iter().map(|e| e.key.as_ref().map_or(String::new(), Show::to_string)).collect();
        let width = column(keys.iter());
        for (entry, key) in shown.iter().zip(&keys) {
            match &entry.value {
                EntryValue::Plain(value) => write!(f, "\n{:indent$}{key:<width$}  {value}", "")?,
                EntryValue::Named { map } => {
                    write!(f, "\n{:indent$}{key:<width$}  map {map}", "")?;
                }
                EntryValue::Inner(inner) => {
                    write!(f, "\n{:indent$}{key}: {}", "", entries_text(inner.len()))?;
                    self.write_entries(f, inner, indent + 2)?;
                }
            }
            for (cpu, value) in entry.per_cpu.iter().enumerate() {
                write!(f, "\n{:indent$}{:<width$}  cpu {cpu}: {value}", "", "")?;
            }
        }
        write_more(f, more, indent, &format!("--map {} shows all", self.map))
    }
}

/// The first `most` items, and how many more there are.
fn split<T>(items: &[T], most: Option<usize>) -> (&[T], usize) {
    let shown = most.and_then(|most| items.get(..most)).unwrap_or(items);
    (shown, items.len() - shown.len())
}

fn write_more(f: &mut fmt::Formatter<'_>, more: usize, indent: usize, how: &str) -> fmt::Result {
    if more == 0 {
        return Ok(());
    }
    write!(f, "\n{:indent$}… {more} more ({how})", "")
}

fn entries_text(n: usize) -> String {
    if n == 1 { "1 entry".into() } else { format!("{n} entries") }
}

fn write_rows(f: &mut fmt::Formatter<'_>, rows: &[(String, String)], indent: usize) -> fmt::Result {
    let width = column(rows.iter().map(|(key, _)| key));
    rows.iter().try_for_each(|(key, value)| write!(f, "\n{:indent$}{key:<width$}  {value}", ""))
}

/// Width of a column: its longest cell, within reason.
fn column<'a, I: Iterator<Item = &'a String>>(cells: I) -> usize {
    cells.map(|c| c.chars().count()).filter(|&n| n <= 60).max().unwrap_or(0)
}
