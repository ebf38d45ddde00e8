//! `skep disasm`.

use std::io::Write;

/// Not there yet.
#[derive(Debug, clap::Args)]
pub struct Disasm {}

impl Disasm {
    pub fn run(self, _out: &mut dyn Write) -> anyhow::Result<u8> {
        anyhow::bail!("not there yet")
    }
}
