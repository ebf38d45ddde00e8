//! Programs on cgroups: what their processes send, receive, ask for.

use std::os::fd::{AsFd as _, BorrowedFd};

use skep_abi::{AttachType, ProgType};

use super::{AttachError, Held, Link, refused, trace::no_such_link};
use crate::{
    program::Program,
    sys::{self, LinkTarget, SysError},
};

/// Others may attach beside this program.
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;

/// Where a program goes whose section names no attach type.
const USUAL: &[(ProgType, AttachType)] = &[
    (ProgType::CGROUP_SOCK, AttachType::CGROUP_INET_SOCK_CREATE),
    (ProgType::CGROUP_DEVICE, AttachType::CGROUP_DEVICE),
    (ProgType::CGROUP_SYSCTL, AttachType::CGROUP_SYSCTL),
    (ProgType::SOCK_OPS, AttachType::CGROUP_SOCK_OPS),
    (ProgType::LSM, AttachType::LSM_CGROUP),
];

/// The program's own attach type, or the only one of its kind.
fn attach_type(program: &Program, hook: &str) -> Result<AttachType, AttachError> {
    let usual = || USUAL.iter().find(|row| row.0 == program.prog_type()).map(|row| row.1);
    program.attach_type().or_else(usual).ok_or_else(|| {
        let hint = "the program does not say at which hook: load it with an attach type";
        refused(program, hook, SysError::errno_of("BPF_LINK_CREATE", libc::EINVAL, hint))
    })
}

/// Attaches to a cgroup (version 2) and all below it, by a link where the kernel has them.
///
/// # Errors
///
/// `EBADF` when the descriptor is not that of a cgroup directory; `EPERM` when one further up
/// does not let programs attach below it; `EINVAL` when the kernel has no such hook.
pub fn attach_cgroup(program: &Program, cgroup: BorrowedFd<'_>) -> Result<Link, AttachError> {
    let hook = format!("cgroup {}", name(program));
    let attach_type = attach_type(program, &hook)?.0;
    let target = LinkTarget::Fd(cgroup);
    match sys::link_create(program.as_fd(), target, attach_type, 0) {
        Ok(link) => Ok(Link::new(Held::Fd(link), hook)),
        Err(e) if no_such_link(&e) => {
            attach_cgroup_without_link(program, cgroup).map_err(|_| refused(program, &hook, e))
        }
        Err(e) => Err(refused(program, &hook, e)),
    }
}

/// Attaches to a cgroup the way before Linux 5.7. A process that is killed leaves the program
/// attached until the cgroup is removed.
///
/// # Errors
///
/// As for [`attach_cgroup`].
#[doc(alias = "BPF_PROG_ATTACH")]
pub fn attach_cgroup_without_link(
    program: &Program,
    cgroup: BorrowedFd<'_>,
) -> Result<Link, AttachError> {
    let hook = format!("cgroup {}", name(program));
    let attach_type = attach_type(program, &hook)?.0;
    let fail = |source| refused(program, &hook, source);
    let own = |fd: BorrowedFd<'_>| {
        fd.try_clone_to_owned().map_err(|e| fail(SysError::new("F_DUPFD_CLOEXEC", e)))
    };
    let held = Held::Cgroup { cgroup: own(cgroup)?, program: own(program.as_fd())?, attach_type };
    sys::prog_attach(cgroup, program.as_fd(), attach_type, BPF_F_ALLOW_MULTI).map_err(fail)?;
    Ok(Link::new(held, hook))
}

fn name(program: &Program) -> String {
    program.attach_type().map_or_else(|| program.prog_type().to_string(), |t| t.to_string())
}
