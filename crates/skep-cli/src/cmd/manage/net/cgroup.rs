//! `skep cgroup`: programs on cgroups.

use std::{io::Write, path::PathBuf};

use skep::kernel::inspect::{cgroup_root, cgroups, on_cgroup};

use super::{super::rights, show};
use crate::{exit::Cannot, output::Print};

/// Programs on cgroups.
#[derive(Debug, clap::Subcommand)]
pub enum Cgroup {
    #[command(visible_alias = "list")]
    Show(Show),
    Tree(Tree),
}

/// List the programs on one cgroup.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The cgroup's directory.
    cgroup: PathBuf,
    /// All that run for its processes: also those on the cgroups above it.
    #[arg(long)]
    effective: bool,
    #[command(flatten)]
    print: Print,
}

/// List the programs on all cgroups.
#[derive(Debug, clap::Args)]
pub struct Tree {
    /// Only this cgroup and those below it.
    root: Option<PathBuf>,
    /// All that run for each cgroup's processes: also those on the cgroups above it.
    #[arg(long)]
    effective: bool,
    #[command(flatten)]
    print: Print,
}

impl Cgroup {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        const WHAT: &str = "listing what hangs on cgroups";
        match self {
            Self::Show(c) => {
                let found = rights(WHAT, on_cgroup(&c.cgroup, c.effective))?;
                show(&found, c.print.format(), out)
            }
            Self::Tree(c) => {
                let root = c.root.or_else(cgroup_root).ok_or_else(|| Cannot {
                    missing: "cgroups (version 2) are not mounted".into(),
                    hint: "mount -t cgroup2 none /sys/fs/cgroup".into(),
                })?;
                let mut found = Vec::new();
                for path in cgroups().iter().filter(|path| path.starts_with(&root)) {
                    found.extend(rights(WHAT, on_cgroup(path, c.effective))?);
                }
                show(&found, c.print.format(), out)
            }
        }
    }
}
