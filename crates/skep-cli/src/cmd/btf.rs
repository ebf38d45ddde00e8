//! `skep btf`.

use std::io::Write;

/// Look at type information.
#[derive(Debug, clap::Subcommand)]
pub enum Btf {
    /// Not there yet.
    Dump,
}

impl Btf {
    pub fn run(self, _out: &mut dyn Write) -> anyhow::Result<u8> {
        anyhow::bail!("not there yet")
    }
}
