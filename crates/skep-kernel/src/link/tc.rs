//! TC: programs on what an interface sends and receives, by tcx links, of which a hook takes many.

use std::{fmt, os::fd::AsFd as _};

use skep_abi::AttachType;

use super::{AttachError, Held, Link, Order, attach_tc_clsact, refused, trace::no_such_link};
use crate::{
    netlink::{CLSACT_EGRESS, CLSACT_INGRESS},
    program::Program,
    sys::{self, LinkTarget, SysError},
};

/// Which packets of an interface a TC program sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// What arrives.
    #[default]
    Ingress,
    /// What leaves.
    Egress,
}

impl Direction {
    /// The attach type of tcx.
    pub const fn attach_type(self) -> AttachType {
        match self {
            Self::Ingress => AttachType::TCX_INGRESS,
            Self::Egress => AttachType::TCX_EGRESS,
        }
    }

    pub(crate) const fn parent(self) -> u32 {
        match self {
            Self::Ingress => CLSACT_INGRESS,
            Self::Egress => CLSACT_EGRESS,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// Index of a network interface of the current namespace.
///
/// # Errors
///
/// `ENODEV` when there is none of this name.
pub fn ifindex(name: &str) -> Result<u32, SysError> {
    sys::interface_index(name)
}

/// Name of a network interface of the current namespace.
///
/// # Errors
///
/// `ENXIO` when there is none of this index.
pub fn ifname(index: u32) -> Result<String, SysError> {
    sys::interface_name(index)
}

/// What an interface is called in messages: its number where it has no name any more.
pub(super) fn interface(ifindex: u32) -> String {
    ifname(ifindex).unwrap_or_else(|_| ifindex.to_string())
}

pub(super) fn tc_hook(ifindex: u32, direction: Direction) -> String {
    format!("tc {direction} of interface {}", interface(ifindex))
}

/// Attaches a TC program to an interface: by a tcx link, or where the kernel has none as a filter
/// of the clsact qdisc, whose return value is the verdict.
///
/// # Errors
///
/// `ENODEV`; `EINVAL` when the program is of another type.
pub fn attach_tc(
    program: &Program,
    ifindex: u32,
    direction: Direction,
) -> Result<Link, AttachError> {
    let target = LinkTarget::Ifindex(ifindex);
    match sys::link_create(program.as_fd(), target, direction.attach_type().0, 0) {
        Ok(link) => Ok(Link::new(Held::Fd(link), tc_hook(ifindex, direction))),
        Err(e) if no_such_link(&e) => attach_tc_clsact(program, ifindex, direction),
        Err(e) => Err(refused(program, &tc_hook(ifindex, direction), e)),
    }
}

/// Attaches a TC program by a tcx link at a place among the others (Linux 6.6).
///
/// # Errors
///
/// `EINVAL` when the kernel has no tcx; `ENOENT` or `ERANGE` when the neighbour is not there;
/// `ESTALE` when the hook has another revision than expected.
#[doc(alias = "BPF_TCX_INGRESS")]
pub fn attach_tcx(
    program: &Program,
    ifindex: u32,
    direction: Direction,
    order: &Order<'_>,
) -> Result<Link, AttachError> {
    let hook = tc_hook(ifindex, direction);
    ordered(program, ifindex, direction.attach_type(), order, hook)
}

/// The ends of a netkit pair. Both programs are attached to the primary interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetkitEnd {
    /// What the primary interface sends.
    Primary,
    /// What its peer sends.
    Peer,
}

/// Attaches a TC program to a netkit interface (Linux 6.7), the primary of its pair, at a place
/// among the others there.
///
/// # Errors
///
/// `EACCES` when the interface is the peer of the pair; `EINVAL` or `ENXIO` when it is no netkit
/// interface; else as for [`attach_tcx`].
#[doc(alias = "BPF_NETKIT_PRIMARY")]
#[doc(alias = "BPF_NETKIT_PEER")]
pub fn attach_netkit(
    program: &Program,
    ifindex: u32,
    end: NetkitEnd,
    order: &Order<'_>,
) -> Result<Link, AttachError> {
    let (attach_type, name) = match end {
        NetkitEnd::Primary => (AttachType::NETKIT_PRIMARY, "primary"),
        NetkitEnd::Peer => (AttachType::NETKIT_PEER, "peer"),
    };
    ordered(program, ifindex, attach_type, order, format!("netkit {name} of interface {ifindex}"))
}

fn ordered(
    program: &Program,
    ifindex: u32,
    attach_type: AttachType,
    order: &Order<'_>,
    hook: String,
) -> Result<Link, AttachError> {
    let target = LinkTarget::Ifindex(ifindex);
    let link = sys::link_create_with(program.as_fd(), target, attach_type.0, order.extra());
    match link {
        Ok(link) => Ok(Link::new(Held::Fd(link), hook)),
        Err(mut e) => {
            if e.errno() == libc::EACCES && attach_type != AttachType::TCX_INGRESS {
                e.hint = Some("this is the peer of a netkit pair: name the primary interface");
            }
            Err(refused(program, &hook, e))
        }
    }
}
