//! Programs on a network namespace: socket look-up, flow dissector, netfilter.

use std::os::fd::{AsFd as _, BorrowedFd};

use skep_abi::{AttachType, ProgType};

use super::{AttachError, Held, Link, refused};
use crate::{
    program::Program,
    sys::{self, LinkExtra, LinkTarget},
};

/// Attaches a socket look-up program (Linux 5.9) or a flow dissector (Linux 5.8) to a network
/// namespace, an open `/proc/PID/ns/net`.
///
/// # Errors
///
/// `EINVAL` when the descriptor is not a network namespace, or the kernel has no such hook;
/// `EEXIST` when another flow dissector is there; `E2BIG` when it is full.
pub fn attach_netns(program: &Program, netns: BorrowedFd<'_>) -> Result<Link, AttachError> {
    let attach_type = match program.prog_type() {
        ProgType::FLOW_DISSECTOR => AttachType::FLOW_DISSECTOR,
        _ => AttachType::SK_LOOKUP,
    };
    let hook = format!("{attach_type} of a network namespace");
    let link = sys::link_create(program.as_fd(), LinkTarget::Fd(netns), attach_type.0, 0);
    Ok(Link::new(Held::Fd(link.map_err(|source| refused(program, &hook, source))?), hook))
}

/// Where in netfilter a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Netfilter {
    /// `NFPROTO_IPV4` (2) or `NFPROTO_IPV6` (10).
    pub family: u32,
    /// `NF_INET_PRE_ROUTING` (0) to `NF_INET_POST_ROUTING` (4).
    pub hook: u32,
    /// Its place among the others, the smallest first; neither the smallest nor the largest
    /// number there is.
    pub priority: i32,
    /// Put fragments together first, `BPF_F_NETFILTER_IP_DEFRAG`.
    pub defragment: bool,
}

/// Attaches to netfilter in the current network namespace: Linux 6.4.
///
/// # Errors
///
/// `EINVAL` when the kernel has no such link; `EAFNOSUPPORT` for other families.
pub fn attach_netfilter(program: &Program, at: &Netfilter) -> Result<Link, AttachError> {
    let &Netfilter { family, hook, priority, defragment } = at;
    let name = format!("netfilter family {family} hook {hook}");
    let flags = u32::from(defragment);
    let extra = LinkExtra::Netfilter { family, hook, priority, flags };
    let attach_type = AttachType::NETFILTER.0;
    let none = LinkTarget::Ifindex(0);
    let link = sys::link_create_with(program.as_fd(), none, attach_type, extra);
    Ok(Link::new(Held::Fd(link.map_err(|source| refused(program, &name, source))?), name))
}
