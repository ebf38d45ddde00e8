//! `skep net`, `skep cgroup`: what hangs on interfaces, network namespaces and cgroups.

pub mod cgroup;
mod clean;
mod row;

use std::io::Write;

use skep::kernel::inspect::{self, NetProgram};

pub use clean::at_start;
use row::Rows;

use super::rights;
use crate::{
    exit::DONE,
    output::{Format, Out, Print},
};

/// What hangs on the network, and what was left there.
#[derive(Debug, clap::Subcommand)]
pub enum Net {
    #[command(visible_alias = "list")]
    Show(Show),
    Clean(clean::Clean),
}

/// List what hangs on the interfaces of this network namespace, on the namespace and on cgroups.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// `dev INTERFACE` for one interface only.
    #[arg(value_name = "dev INTERFACE", num_args = 0..=2)]
    words: Vec<String>,
    #[command(flatten)]
    print: Print,
}

impl Net {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        match self {
            Self::Show(c) => c.run(out),
            Self::Clean(c) => c.run(out),
        }
    }
}

impl Show {
    fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let only = match self.words.as_slice() {
            [] => None,
            [dev, name] if dev == "dev" => Some(name.as_str()),
            _ => return Err(crate::exit::usage("expected nothing or `dev INTERFACE`")),
        };
        const WHAT: &str = "listing what hangs on the network";
        let mut found = rights(WHAT, inspect::on_interfaces(only))?;
        if only.is_none() {
            found.extend(rights(WHAT, inspect::on_netns())?);
            found.extend(cgroup::on_cgroups(|_| true, false)?);
        }
        show(&found, self.print.format(), out)
    }
}

fn show(found: &[NetProgram], format: Format, out: &mut dyn Write) -> anyhow::Result<u8> {
    let rows = Rows::now();
    let mut out = Out::new(out, format);
    for program in found {
        out.emit(&rows.row(program))?;
    }
    Ok(DONE)
}
