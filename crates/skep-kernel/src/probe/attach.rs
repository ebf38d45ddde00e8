//! Ways to attach, each tried for a moment where that disturbs nobody: functions that nothing
//! calls, this process, a cgroup and a network namespace of the probe's own.

mod cgroup;
mod network;
mod tracing;

use skep_abi::{AttachType, ProgType};
use skep_isa::Slot;

use super::{Answer, RETURN_0, Support, if_loading};
use crate::{
    link::{AttachError, Link},
    program::{Program, ProgramLoad},
};

pub use self::{cgroup::cgroup_hooks, network::network_hooks, tracing::tracing_hooks};

/// A way to attach, called as section names call it, and what came of trying.
type Hooks = Vec<(String, Support)>;

/// `r0 = 1; exit`: what lets everything pass in a cgroup.
const RETURN_1: [Slot; 2] = [Slot { imm: 1, ..RETURN_0[0] }, RETURN_0[1]];

/// Loads a program and attaches it for a moment.
fn attaches(
    load: &ProgramLoad<'_>,
    attach: impl FnOnce(&Program) -> Result<Link, AttachError>,
) -> Answer {
    attach(&Program::load(load)?)?.detach()?;
    Ok(())
}

/// The smallest program of a type that returns 0, for [`attaches`].
fn small(prog_type: ProgType, attach_type: Option<AttachType>) -> ProgramLoad<'static> {
    ProgramLoad { attach_type, ..ProgramLoad::new("probe", prog_type, &RETURN_0) }
}

/// Answers for rows of a table.
fn answers<T>(rows: &[(&str, T)], answer: impl Fn(&T) -> Answer) -> Hooks {
    let one = |(name, row): &(&str, T)| ((*name).to_owned(), if_loading(|| answer(row)));
    rows.iter().map(one).collect()
}
