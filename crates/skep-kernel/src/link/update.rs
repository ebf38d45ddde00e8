//! Giving an attached link another program, in one step: no event is missed.

use std::os::fd::AsFd as _;

use super::{AttachError, Held, Link, refused};
use crate::{
    program::Program,
    sys::{self, SysError},
};

impl Link {
    /// Puts another program in the place of the one that is attached.
    ///
    /// Of a BPF link ([`Link::fd`]) with `expected` only if that is still the one. Everything else
    /// takes no notice of `expected`: XDP over netlink, clsact filters, cgroups and socket maps
    /// without a link are only ever replaced while the program attached here is still there (a
    /// socket map does not tell before Linux 5.19); a route or a socket gets the new program
    /// whatever it has.
    ///
    /// What can: XDP, tcx, netkit, clsact, cgroups, network namespaces, socket maps, routes,
    /// iterators, sockets.
    ///
    /// # Errors
    ///
    /// `EPERM` when another program than `expected` (XDP over netlink: `EEXIST`), or than the one
    /// attached here, is there; `EINVAL` when the new one is of another kind; `EOPNOTSUPP` when
    /// such links keep their program for life.
    #[doc(alias = "BPF_LINK_UPDATE")]
    pub fn update(&mut self, new: &Program, expected: Option<&Program>) -> Result<(), AttachError> {
        let done = match &mut self.held {
            Held::Fd(link) => {
                sys::link_update(link.as_fd(), new.as_fd(), expected.map(Program::as_fd))
            }
            Held::Xdp(xdp) => xdp.update(new.as_fd()),
            Held::Filter(filter) => filter.update(new.as_fd(), new.name()),
            Held::Attachment(attachment) => attachment.update(new.as_fd()),
            Held::Route(route) => route.update(new),
            Held::Socket(socket, place) => place.set(socket.as_fd(), new.as_fd()),
            _ => {
                let hint = "this kind of attachment keeps its program for life";
                Err(SysError::errno_of("BPF_LINK_UPDATE", libc::EOPNOTSUPP, hint))
            }
        };
        done.map_err(|e| refused(new, &self.hook, e))
    }
}
