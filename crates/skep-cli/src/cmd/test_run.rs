//! `skep test-run`.

use std::io::Write;

/// Not there yet.
#[derive(Debug, clap::Args)]
pub struct TestRun {}

impl TestRun {
    pub fn run(self, _out: &mut dyn Write) -> anyhow::Result<u8> {
        anyhow::bail!("not there yet")
    }
}
