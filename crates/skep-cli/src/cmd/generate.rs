//! `skep gen object`, and `skep link objects`, which is the same: one object of several.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use skep::spec::link::{Input, link};

use crate::exit::DONE;

/// Make files from objects.
#[derive(Debug, clap::Subcommand)]
pub enum Gen {
    Object(Object),
}

impl Gen {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        match self {
            Self::Object(c) => c.run(out),
        }
    }
}

/// Link several objects to one, with bpftool's words.
///
/// Functions, variables and maps that one file declares as extern are those that another defines;
/// of two definitions one has to be weak. Licences must agree. The result loads with skep and
/// with libbpf. `skep link objects` does the same.
#[derive(Debug, clap::Args)]
pub struct Object {
    /// The file to write.
    #[arg(value_name = "OUT")]
    to: PathBuf,
    /// The objects, in the order in which their parts follow each other.
    #[arg(value_name = "OBJ", required = true)]
    from: Vec<PathBuf>,
}

impl Object {
    pub fn run(self, _out: &mut dyn Write) -> anyhow::Result<u8> {
        link_files(&self.from, &self.to)
    }
}

/// Link several objects to one: `skep gen object` with the output as an option.
///
/// This is about files; the other commands of `skep link` are about links, which hold programs at
/// their hooks.
#[derive(Debug, clap::Args)]
pub struct Objects {
    /// The objects, in the order in which their parts follow each other.
    #[arg(value_name = "OBJ", required = true)]
    from: Vec<PathBuf>,
    /// The file to write.
    #[arg(short = 'o', long = "output", value_name = "OUT")]
    to: PathBuf,
}

impl Objects {
    pub fn run(self, _out: &mut dyn Write) -> anyhow::Result<u8> {
        link_files(&self.from, &self.to)
    }
}

fn link_files(from: &[PathBuf], to: &Path) -> anyhow::Result<u8> {
    let mut files = Vec::with_capacity(from.len());
    for path in from {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push((path.display().to_string(), bytes));
    }
    let inputs: Vec<_> = files.iter().map(|(name, bytes)| Input { name, bytes }).collect();
    let linked = link(&inputs)?;
    fs::write(to, &linked.bytes).with_context(|| format!("cannot write {}", to.display()))?;
    if !linked.unresolved.is_empty() {
        let names = linked.unresolved.join(", ");
        say!("note: {} wants what none of the objects defines: {names}", to.display());
    }
    Ok(DONE)
}
