//! `skep man`: manual pages, made from the same definition as `--help`.

use std::{fs, io::Write, path::PathBuf};

use anyhow::Context as _;
use clap::CommandFactory as _;

/// Print the manual page, or write one page per command into a directory.
#[derive(Debug, clap::Args)]
pub struct Man {
    /// Write skep.1, skep-run.1 and so on here instead of printing.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut command = crate::cli::Cli::command().disable_help_subcommand(true);
        command.build();
        let Some(dir) = self.dir else {
            clap_mangen::Man::new(command).render(out)?;
            return Ok(crate::exit::DONE);
        };
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        clap_mangen::generate_to(command, &dir)
            .with_context(|| format!("cannot write to {}", dir.display()))?;
        Ok(crate::exit::DONE)
    }
}
