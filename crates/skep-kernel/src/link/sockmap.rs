//! Programs on socket maps: what the sockets in a map send (`sk_msg`) and receive (`sk_skb`).
//!
//! Sockets come into the map by their descriptors ([`Map::set_fd`]) or from a `sock_ops` program. They
//! take along what is attached then: attaching, updating and detaching is for sockets that come
//! into the map afterwards, or leave it and come again.

use std::os::fd::AsFd as _;

use super::{AttachError, Attachment, Held, Link, Method, attach_type, refused};
use crate::{
    map::Map,
    program::Program,
    sys::{self, LinkTarget},
};

/// Attaches to a socket map or socket hash, by a link where the kernel has them (Linux 6.10).
///
/// # Errors
///
/// `EOPNOTSUPP` when the map is of another type; `EBUSY` when a link holds the place.
#[doc(alias = "BPF_SK_MSG_VERDICT")]
#[doc(alias = "BPF_SK_SKB_STREAM_VERDICT")]
pub fn attach_sockmap(program: &Program, map: &Map) -> Result<Link, AttachError> {
    let (attach_type, hook) = place(program, map)?;
    let target = LinkTarget::Fd(map.as_fd());
    match sys::link_create(program.as_fd(), target, attach_type, 0) {
        Ok(link) => Ok(Link::new(Held::Fd(link), hook)),
        Err(e) if matches!(e.errno(), libc::EINVAL | libc::ENOSYS) => {
            attach_sockmap_without_link(program, map)
        }
        Err(e) => Err(refused(program, &hook, e)),
    }
}

/// Attaches to a socket map or socket hash the way before Linux 6.10, in the place of what is
/// attached there. The program stays as long as the map does.
///
/// # Errors
///
/// As for [`attach_sockmap`].
pub fn attach_sockmap_without_link(program: &Program, map: &Map) -> Result<Link, AttachError> {
    let (attach_type, hook) = place(program, map)?;
    let held = Attachment::attach(map.as_fd(), program.as_fd(), attach_type, 0, Method::SocketMap);
    Ok(Link::new(held.map_err(|e| refused(program, &hook, e))?, hook))
}

/// The attach type, and the hook in words.
fn place(program: &Program, map: &Map) -> Result<(u32, String), AttachError> {
    let kind = attach_type(program, &format!("map '{}'", map.name()))?;
    Ok((kind.0, format!("{kind} of map '{}'", map.name())))
}
