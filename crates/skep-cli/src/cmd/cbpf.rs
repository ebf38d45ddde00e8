//! `skep cbpf`: classic BPF filters as text, and as eBPF.

use std::{io::Write, path::PathBuf};

use anyhow::Context as _;
use skep::isa::{
    cbpf::{self, Filter},
    disasm::Listing,
};

use super::asm::{name_of, read_text};
use crate::exit::DONE;

/// Print a classic BPF filter as tcpdump -d does.
///
/// Reads what `tcpdump -ddd` prints: the number of instructions, then four numbers for each.
#[derive(Debug, clap::Args)]
pub struct Cbpf {
    /// Filter to read; `-` is stdin.
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Check the filter as the kernel does and print it converted to eBPF, for `skep asm`.
    #[arg(long)]
    ebpf: bool,
}

impl Cbpf {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let text = read_text(&self.file)?;
        let raw = cbpf::parse(&text).with_context(|| name_of(&self.file))?;
        if self.ebpf {
            let slots = Filter::new(&raw).with_context(|| name_of(&self.file))?.to_ebpf()?;
            write!(out, "{}", Listing::new(&slots).labels(true))?;
        } else {
            let listing = cbpf::listing(&raw).to_string();
            writeln!(out, "{}", listing.trim_end())?;
        }
        Ok(DONE)
    }
}
