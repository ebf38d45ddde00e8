//! `skep cgroup`: programs on cgroups.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use skep::kernel::inspect::{NetProgram, cgroup_root, cgroups, on_cgroup};

use super::{super::rights, show};
use crate::{exit::Cannot, output::Print};

const WHAT: &str = "listing what hangs on cgroups";

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
        match self {
            Self::Show(c) => show(&on(&c.cgroup, c.effective)?, c.print.format(), out),
            Self::Tree(c) => {
                let root = c.root.or_else(cgroup_root).ok_or_else(|| Cannot {
                    missing: "cgroups (version 2) are not mounted".into(),
                    hint: "mount -t cgroup2 none /sys/fs/cgroup".into(),
                })?;
                let mut found = on(&root, c.effective)?;
                let root = fs::canonicalize(&root).unwrap_or(root);
                let below = |path: &Path| path.starts_with(&root) && path != root;
                found.extend(on_cgroups(below, c.effective)?);
                show(&found, c.print.format(), out)
            }
        }
    }
}

/// What hangs on the one cgroup that is meant.
fn on(path: &Path, effective: bool) -> anyhow::Result<Vec<NetProgram>> {
    const EBADF: i32 = 9;
    match on_cgroup(path, effective) {
        Err(e) if e.errno() == EBADF => {
            anyhow::bail!("{} is not a cgroup (version 2)", path.display())
        }
        on => rights(WHAT, on).with_context(|| format!("cgroup {}", path.display())),
    }
}

/// What hangs on cgroups. One that is removed meanwhile has nothing on it.
pub(super) fn on_cgroups(
    fits: impl Fn(&Path) -> bool,
    effective: bool,
) -> anyhow::Result<Vec<NetProgram>> {
    const ENOENT: i32 = 2;
    const ENODEV: i32 = 19;
    let mut found = Vec::new();
    for path in cgroups().iter().filter(|path| fits(path)) {
        match on_cgroup(path, effective) {
            Err(e) if matches!(e.errno(), ENOENT | ENODEV) => {}
            on => found.extend(rights(WHAT, on)?),
        }
    }
    Ok(found)
}
