//! Cgroups, and the hooks they have.

use std::path::PathBuf;

use skep_abi::AttachType;

use crate::sys;

/// Hooks that a cgroup's programs may be at.
pub const CGROUP_HOOKS: &[AttachType] = &[
    AttachType::CGROUP_INET_INGRESS,
    AttachType::CGROUP_INET_EGRESS,
    AttachType::CGROUP_INET_SOCK_CREATE,
    AttachType::CGROUP_INET_SOCK_RELEASE,
    AttachType::CGROUP_SOCK_OPS,
    AttachType::CGROUP_DEVICE,
    AttachType::CGROUP_INET4_BIND,
    AttachType::CGROUP_INET6_BIND,
    AttachType::CGROUP_INET4_CONNECT,
    AttachType::CGROUP_INET6_CONNECT,
    AttachType::CGROUP_UNIX_CONNECT,
    AttachType::CGROUP_INET4_POST_BIND,
    AttachType::CGROUP_INET6_POST_BIND,
    AttachType::CGROUP_UDP4_SENDMSG,
    AttachType::CGROUP_UDP6_SENDMSG,
    AttachType::CGROUP_UNIX_SENDMSG,
    AttachType::CGROUP_UDP4_RECVMSG,
    AttachType::CGROUP_UDP6_RECVMSG,
    AttachType::CGROUP_UNIX_RECVMSG,
    AttachType::CGROUP_SYSCTL,
    AttachType::CGROUP_GETSOCKOPT,
    AttachType::CGROUP_SETSOCKOPT,
    AttachType::CGROUP_INET4_GETPEERNAME,
    AttachType::CGROUP_INET6_GETPEERNAME,
    AttachType::CGROUP_UNIX_GETPEERNAME,
    AttachType::CGROUP_INET4_GETSOCKNAME,
    AttachType::CGROUP_INET6_GETSOCKNAME,
    AttachType::CGROUP_UNIX_GETSOCKNAME,
    AttachType::LSM_CGROUP,
];

/// Nobody has this many; ends walks through what others may be making.
const MOST_CGROUPS: usize = 100_000;

/// Where cgroups (version 2) are mounted, as this process sees it.
pub fn cgroup_root() -> Option<PathBuf> {
    let mounts = sys::read_text("/proc/mounts").ok()?;
    super::pins::mounts_of(&mounts, "cgroup2").into_iter().next()
}

/// The directories of all cgroups (version 2), parents before children.
pub fn cgroups() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = cgroup_root().into_iter().collect();
    let mut next = 0;
    while let Some(directory) = found.get(next).cloned() {
        next += 1;
        let mut below: Vec<PathBuf> = std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        below.sort();
        below.truncate(MOST_CGROUPS.saturating_sub(found.len()));
        found.extend(below);
    }
    found
}
