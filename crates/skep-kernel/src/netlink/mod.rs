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
pub(crate) use traffic::{CLSACT_EGRESS, CLSACT_INGRESS, Filter, FilterKind, FilterOn, NewFilter};

use crate::sys::{self, SysError};

/// How often receiving an answer is tried again: what has arrived is still there.
const PATIENCE: u32 = 2;
/// Objects that one answer may have; more is no answer to anything asked here.
const MOST_OBJECTS: usize = 1 << 16;

/// A routing netlink socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    /// Was the last request sent, and its answer lost?
    unanswered: bool,
}

impl Socket {
    /// One of the current network namespace.
    pub(crate) fn open() -> Result<Self, SysError> {
        Ok(Self { fd: sys::netlink_socket()?, sequence: 0, unanswered: false })
    }

    /// Was the last request sent, and its answer lost? Then it may be done or not.
    pub(crate) const fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// Sends a request and returns the objects in the answer.
    fn request(
        &mut self,
        command: &'static str,
        message: Message,
    ) -> Result<Vec<Object>, SysError> {
        self.sequence = self.sequence.wrapping_add(1);
        let sent = sys::send(self.fd.as_fd(), &message.finish(self.sequence));
        sent.map_err(|e| e.within(command))?;
        self.unanswered = true;
        let mut failed = 0;
        let mut objects = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while objects.len() < MOST_OBJECTS {
            let len = match sys::receive(self.fd.as_fd(), &mut buffer, 0) {
                Ok(Some(len)) => len,
                Ok(None) => {
                    let hint = "recv: netlink gave no answer";
                    return Err(SysError::errno_of(command, libc::ETIMEDOUT, hint));
                }
                Err(_) if failed < PATIENCE => {
                    failed += 1;
                    continue;
                }
                Err(e) => return Err(e.within(command)),
            };
            for reply in replies(buffer.get(..len).unwrap_or(&buffer), self.sequence) {
                if let Reply::Finished(..) = reply {
                    self.unanswered = false;
                }
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
