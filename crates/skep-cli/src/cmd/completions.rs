//! `skep completions`: completion scripts for shells.

use std::io::Write;

use clap::CommandFactory as _;

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
pub struct Completions {
    /// Shell to write for.
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        // The generator panics when its writer fails, so it writes to memory and we to the pipe.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::cli::Cli::command(), "skep", &mut script);
        out.write_all(&script)?;
        Ok(crate::exit::DONE)
    }
}
