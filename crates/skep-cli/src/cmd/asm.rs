//! `skep asm`.

use std::io::Write;

/// Not there yet.
#[derive(Debug, clap::Args)]
pub struct Asm {}

impl Asm {
    pub fn run(self, _out: &mut dyn Write) -> anyhow::Result<u8> {
        anyhow::bail!("not there yet")
    }
}
