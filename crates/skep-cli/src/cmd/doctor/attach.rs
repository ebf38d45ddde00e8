//! Ways to attach: tried on ground of the probes' own.

use skep::kernel::probe::{self, Support};

use super::Check;

pub(super) const TRACING: &str = "attach";
pub(super) const CGROUP: &str = "attach to a cgroup";
pub(super) const NETWORK: &str = "attach to the network";

pub(super) fn tracing() -> Vec<Check> {
    checks(TRACING, probe::tracing_hooks())
}

pub(super) fn cgroup() -> Vec<Check> {
    checks(CGROUP, probe::cgroup_hooks())
}

pub(super) fn network() -> Vec<Check> {
    checks(NETWORK, probe::network_hooks())
}

fn checks(group: &'static str, hooks: Vec<(String, Support)>) -> Vec<Check> {
    hooks.into_iter().map(|(name, support)| Check::of(group, name, support)).collect()
}
