//! Programs on routes: they see the packets of one destination.

use std::{
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
};

use skep_abi::ProgType;

use super::{AttachError, Held, Link, refused};
use crate::{
    leftover::filter_name,
    netlink::{ProgramAt, RouteTo, Socket},
    program::Program,
    sys::{self, SysError},
};

/// A route of the current network namespace's main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where packets go.
    pub destination: IpAddr,
    /// How many bits of the destination count.
    pub prefix: u8,
    /// The interface they leave by.
    pub ifindex: u32,
    /// The next machine, where the destination is not on the wire itself.
    pub gateway: Option<IpAddr>,
    /// Bytes that an `lwt_xmit` program may put before the packet, up to 256.
    pub headroom: u32,
}

/// Adds a route through a program, by the program's type: packets that arrive for it (`lwt_in`),
/// that are sent (`lwt_out`, `lwt_xmit`), or whose segment ends here (`lwt_seg6local`, IPv6 only).
/// The route goes when the link is dropped; it stays when the process is killed.
///
/// # Errors
///
/// `EEXIST` when there is such a route; `EOPNOTSUPP` when the kernel has no such tunnels; `EINVAL`
/// when the program is of another type.
#[doc(alias = "LWTUNNEL_ENCAP_BPF")]
#[doc(alias = "SEG6_LOCAL_ACTION_END_BPF")]
pub fn attach_route(program: &Program, route: &Route) -> Result<Link, AttachError> {
    let at = match program.prog_type() {
        ProgType::LWT_OUT => ProgramAt::Out,
        ProgType::LWT_XMIT => ProgramAt::Xmit,
        ProgType::LWT_SEG6LOCAL => ProgramAt::Segment,
        _ => ProgramAt::In,
    };
    let &Route { destination, prefix, ifindex, gateway, headroom } = route;
    let hook = format!("route {destination}/{prefix} of interface {ifindex}");
    let to = RouteTo { destination, prefix, ifindex, gateway };
    let held = Socket::open().and_then(|socket| {
        let mut held = ProgramRoute { socket, to, at, headroom };
        let added = held.set(program, false);
        // Added or not, nobody knows: it is not to stay.
        if added.is_err() && held.socket.is_unanswered() {
            held.socket.delete_route(&held.to).ok();
        }
        added.map(|()| held)
    });
    Ok(Link::new(Held::Route(held.map_err(|e| refused(program, &hook, e))?), hook))
}

/// A route through a program, with a socket of its network namespace.
#[derive(Debug)]
pub(super) struct ProgramRoute {
    socket: Socket,
    to: RouteTo,
    at: ProgramAt,
    headroom: u32,
}

impl ProgramRoute {
    fn set(&mut self, program: &Program, replace: bool) -> Result<(), SysError> {
        // The kernel takes two programs of one name for the same, and a route with the other for
        // no change.
        let id = sys::prog_info(program.as_fd())?.id;
        let name = filter_name(&format!("{}:{id}", program.name()), false);
        let named = (program.as_fd().as_raw_fd(), name.as_str());
        self.socket.add_route(&self.to, self.at, self.headroom, named, replace)
    }

    pub(super) fn update(&mut self, new: &Program) -> Result<(), SysError> {
        self.set(new, true)
    }

    pub(super) fn remove(mut self) -> Result<(), SysError> {
        self.socket.delete_route(&self.to)
    }
}
