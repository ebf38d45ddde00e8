//! `skep tree`: who holds what.
//!
//! [`snapshot`] asks the kernel once, [`grow`] makes trees of it, [`node`] prints them.

mod grow;
mod node;
mod snapshot;

use std::{io::Write, path::Path};

use self::snapshot::Snapshot;
use crate::{
    exit::DONE,
    output::{Out, Print},
};

/// Show who holds the programs, maps and links of this machine: processes, pins, hooks.
///
/// A process holds links, links hold programs, programs hold maps. Behind the processes come pins,
/// then what hangs on cgroups, interfaces and network namespaces without either, what is only in
/// maps, and what nobody holds that can be seen (other network namespaces, sockets, perf events of
/// other kinds).
#[derive(Debug, clap::Args)]
pub struct Tree {
    /// Only what this process holds.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    #[command(flatten)]
    print: Print,
}

impl Tree {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        if let Some(pid) = self.pid
            && !Path::new(&format!("/proc/{pid}")).exists()
        {
            anyhow::bail!("there is no process {pid}");
        }
        let snapshot = Snapshot::take()?;
        let mut out = Out::new(out, self.print.format());
        for root in grow::trees(&snapshot) {
            if self.pid.is_none_or(|pid| root.pid() == Some(pid)) {
                out.emit(&root)?;
            }
        }
        Ok(DONE)
    }
}
