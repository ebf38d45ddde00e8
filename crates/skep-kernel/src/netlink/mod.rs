//! Routing netlink, as much as attaching and looking need where the kernel has no link: the clsact
//! qdisc and its filters, XDP on an interface, programs on routes.
//!
//! Messages are built and read by pure functions; [`Socket`] carries them. Its requests stand in
//! the files of their noun.

mod link;
mod message;
mod route;
mod traffic;

use std::os::fd::{AsFd as _, OwnedFd};

pub(crate) use link::{XdpOn, XdpSet};
use message::{Message, Object, Reply, replies};
pub(crate) use route::{ProgramAt, RouteTo};
pub(crate) use traffic::{CLSACT_EGRESS, CLSACT_INGRESS, Filter, FilterKind, NewFilter};

use crate::sys::{self, SysError};

/// Objects that one answer may have; more is no answer to anything asked here.
const MOST_OBJECTS: usize = 1 << 16;

/// A routing netlink socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// One of the current network namespace.
    pub(crate) fn open() -> Result<Self, SysError> {
        Ok(Self { fd: sys::netlink_socket()?, sequence: 0 })
    }

    /// Sends a request and returns the objects in the answer.
    fn request(
        &mut self,
        command: &'static str,
        message: Message,
    ) -> Result<Vec<Object>, SysError> {
        self.sequence = self.sequence.wrapping_add(1);
        sys::send(self.fd.as_fd(), &message.finish(self.sequence))?;
        let mut objects = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while objects.len() < MOST_OBJECTS {
            let Some(len) = sys::receive(self.fd.as_fd(), &mut buffer, 0)? else {
                return Err(SysError::errno_of(command, libc::ETIMEDOUT, "netlink gave no answer"));
            };
            for reply in replies(buffer.get(..len).unwrap_or(&buffer), self.sequence) {
                match reply {
                    Reply::Finished(0, _) => return Ok(objects),
                    Reply::Finished(errno, said) => {
                        let source = std::io::Error::from_raw_os_error(errno);
                        return Err(SysError::new(command, source).with_words(said));
                    }
                    Reply::Object(object) => objects.push(object),
                }
            }
        }
        Err(SysError::errno_of(command, libc::E2BIG, "netlink's answer does not end"))
    }
}
