//! Programs on cgroups: what their processes send, receive, ask for.

use std::os::fd::{AsFd as _, BorrowedFd};

use skep_abi::AttachType;

use super::{
    AttachError, Attachment, Held, Link, Method, Order, attach_type, refused, trace::no_such_link,
};
use crate::{
    program::Program,
    sys::{self, LinkTarget},
};

/// How a hook of a cgroup is shared when a program is attached without a link. All programs at a
/// hook are attached in the same way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// This is the only program, also for the cgroups below.
    Alone,
    /// The only one, until a cgroup below has its own, which then is the only one there.
    #[doc(alias = "BPF_F_ALLOW_OVERRIDE")]
    Override,
    /// Others may attach beside it, and below: all of them run. Links are like this.
    #[default]
    #[doc(alias = "BPF_F_ALLOW_MULTI")]
    Multi,
}

impl Sharing {
    const fn flags(self) -> u32 {
        match self {
            Self::Alone => 0,
            Self::Override => 1 << 0,
            Self::Multi => 1 << 1,
        }
    }
}

/// Attaches to a cgroup (version 2) and all below it, by a link where the kernel has them.
///
/// # Errors
///
/// `EBADF` when the descriptor is not that of a cgroup directory; `EPERM` when one further up
/// does not let programs attach below it; `EINVAL` when the kernel has no such hook.
pub fn attach_cgroup(program: &Program, cgroup: BorrowedFd<'_>) -> Result<Link, AttachError> {
    let hook = hook(program);
    let attach_type = attach_type(program, &hook)?.0;
    let target = LinkTarget::Fd(cgroup);
    match sys::link_create(program.as_fd(), target, attach_type, 0) {
        Ok(link) => Ok(Link::new(Held::Fd(link), hook)),
        Err(e) if no_such_link(&e) => attach_cgroup_without_link(program, cgroup, Sharing::Multi)
            .map_err(|_| refused(program, &hook, e)),
        Err(e) => Err(refused(program, &hook, e)),
    }
}

/// Attaches to a cgroup by a link at a place among the others (Linux 6.16).
///
/// # Errors
///
/// `EINVAL` when the kernel knows no places here; `ENOENT` when the neighbour is not there;
/// `ESTALE` when the hook has another revision than expected.
pub fn attach_cgroup_ordered(
    program: &Program,
    cgroup: BorrowedFd<'_>,
    order: &Order<'_>,
) -> Result<Link, AttachError> {
    let hook = hook(program);
    let attach_type = attach_type(program, &hook)?.0;
    let target = LinkTarget::Fd(cgroup);
    match sys::link_create_with(program.as_fd(), target, attach_type, order.extra()) {
        Ok(link) => Ok(Link::new(Held::Fd(link), hook)),
        Err(mut e) => {
            if e.errno() == libc::EINVAL && !order.is_usual() {
                e.hint = Some("an order among the programs of a cgroup needs Linux 6.16");
            }
            Err(refused(program, &hook, e))
        }
    }
}

/// Attaches to a cgroup the way before Linux 5.7. A process that is killed leaves the program
/// attached until the cgroup is removed.
///
/// # Errors
///
/// As for [`attach_cgroup`]; `EPERM` when others share the hook in another way.
#[doc(alias = "BPF_PROG_ATTACH")]
pub fn attach_cgroup_without_link(
    program: &Program,
    cgroup: BorrowedFd<'_>,
    sharing: Sharing,
) -> Result<Link, AttachError> {
    let hook = hook(program);
    let attach_type = attach_type(program, &hook)?.0;
    let flags = sharing.flags();
    let held = Attachment::attach(cgroup, program.as_fd(), attach_type, flags, Method::Cgroup);
    Ok(Link::new(held.map_err(|e| refused(program, &hook, e))?, hook))
}

fn hook(program: &Program) -> String {
    let name = program.attach_type().as_ref().map(AttachType::to_string);
    format!("cgroup {}", name.unwrap_or_else(|| program.prog_type().to_string()))
}
