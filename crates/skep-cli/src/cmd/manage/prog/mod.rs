//! `skep prog`: loaded programs.

mod attach;
mod dump;
mod graph;
mod jited;
mod load;
mod profile;
mod run;
mod show;
mod symbols;
mod tracelog;
mod xlated;

use std::io::Write;

use skep::kernel::inspect::Kind;

use super::pin;
use crate::exit::DONE;

/// Programs that are loaded on this machine.
#[derive(Debug, clap::Subcommand)]
pub enum Prog {
    #[command(visible_alias = "list")]
    Show(show::Show),
    Dump(dump::Dump),
    Load(load::Load),
    Loadall(load::LoadAll),
    Pin(Pin),
    Attach(attach::Attach),
    Detach(attach::Detach),
    Run(run::Run),
    Profile(profile::Profile),
    Tracelog(tracelog::Tracelog),
}

/// Pin a program at a path of a bpf file system.
#[derive(Debug, clap::Args)]
pub struct Pin {
    /// `id N`, `name NAME`, `tag TAG` or `pinned PATH`, and the path of the new pin.
    #[arg(value_name = "PROG PATH", required = true, num_args = 3..)]
    words: Vec<String>,
}

impl Prog {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        match self {
            Self::Show(c) => c.run(out),
            Self::Dump(c) => c.run(out),
            Self::Load(c) => c.run(),
            Self::Loadall(c) => c.run(),
            Self::Pin(c) => pin(Kind::Program, &c.words).map(|()| DONE),
            Self::Attach(c) => c.run(),
            Self::Detach(c) => c.run(),
            Self::Run(c) => c.run(out),
            Self::Profile(c) => c.run(out),
            Self::Tracelog(c) => c.run(out),
        }
    }
}
