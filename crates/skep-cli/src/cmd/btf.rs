//! `skep btf`: type information.

use std::{io::Write, path::PathBuf};

use skep::btf;

use crate::{btf_file, exit::DONE};

/// Look at type information.
#[derive(Debug, clap::Subcommand)]
pub enum Btf {
    Dump(Dump),
    #[command(visible_alias = "show")]
    List(super::manage::btf::List),
}

/// Print types as a C header that compiles, or one line per type.
#[derive(Debug, clap::Args)]
pub struct Dump {
    /// A BTF file, an ELF file with .BTF, or `vmlinux` for the running kernel.
    #[arg(value_name = "FILE", default_value = "vmlinux")]
    file: PathBuf,
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

impl Btf {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let dump = match self {
            Self::Dump(dump) => dump,
            Self::List(list) => return list.run(out),
        };
        let types = btf_file::read(&dump.file)?;
        match dump.format {
            Format::C => write!(out, "{}", btf::c::header(&types))?,
            Format::Raw => write!(out, "{}", btf::dump::raw(&types))?,
        }
        Ok(DONE)
    }
}
