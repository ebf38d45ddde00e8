//! Routing netlink, as much as attaching needs where the kernel has no link: the clsact qdisc,
//! `cls_bpf` filters, XDP on an interface.
//!
//! Messages are built and read by pure functions; [`Socket`] carries them.

use std::os::fd::{AsFd as _, OwnedFd};

use crate::sys::{self, SysError};

/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Bytes of `struct tcmsg`.
const TCMSG: usize = 20;
/// Message flags: a request that is acknowledged.
const REQUEST: u16 = 0x1 | 0x4;
/// Message flags: the change is sent back.
const ECHO: u16 = 0x8;
/// Message flags: all objects.
const DUMP: u16 = 0x300;
/// Message flags: must not exist; is created.
const CREATE: u16 = 0x200 | 0x400;

const RTM_SETLINK: u16 = 19;
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLA_F_NESTED: u16 = 0x8000;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_FLAG_ACT_DIRECT: u32 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;

const CLSACT_PARENT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// Parent of filters on what arrives.
pub(crate) const CLSACT_INGRESS: u32 = 0xffff_fff2;
/// Parent of filters on what leaves.
pub(crate) const CLSACT_EGRESS: u32 = 0xffff_fff3;
/// `ETH_P_ALL` in network byte order, in the low half of `tcm_info`.
const ALL_PROTOCOLS: u32 = 0x0003_u16.to_be() as u32;

/// A filter on the clsact qdisc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) ifindex: u32,
    pub(crate) parent: u32,
    pub(crate) handle: u32,
    /// Upper half of `tcm_info`.
    pub(crate) priority: u16,
}

/// A message being written.
#[derive(Debug)]
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes.splice(4..6, kind.to_ne_bytes());
        bytes.splice(6..8, (REQUEST | flags).to_ne_bytes());
        Self(bytes)
    }

    /// `struct tcmsg`.
    fn traffic(mut self, filter: Filter) -> Self {
        let info = u32::from(filter.priority) << 16 | ALL_PROTOCOLS;
        let info = if filter.priority == 0 && filter.handle == CLSACT_HANDLE { 0 } else { info };
        self.0.extend([0; 4]);
        for word in [filter.ifindex, filter.handle, filter.parent, info] {
            self.0.extend(word.to_ne_bytes());
        }
        self
    }

    /// `struct ifinfomsg`.
    fn interface(mut self, ifindex: u32) -> Self {
        self.0.extend([0; 4]);
        self.0.extend(ifindex.to_ne_bytes());
        self.0.extend([0; 8]);
        self
    }

    fn attr(mut self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(value.len() + 4).expect("attributes here are short");
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn nested(mut self, kind: u16, inside: impl FnOnce(Self) -> Self) -> Self {
        let at = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend((kind | NLA_F_NESTED).to_ne_bytes());
        let mut out = inside(self);
        let len = u16::try_from(out.0.len() - at).expect("attributes here are short");
        out.0.splice(at..at + 2, len.to_ne_bytes());
        out
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).expect("messages here are short");
        self.0.splice(0..4, len.to_ne_bytes());
        self.0.splice(8..12, sequence.to_ne_bytes());
        self.0
    }
}

/// A message received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    /// The request is done, or failed with this errno.
    Finished(i32),
    /// A filter, as added or as dumped.
    Filter(Filter),
    /// Something else.
    Other,
}

/// Splits what arrived in one datagram, for one request.
fn replies(mut bytes: &[u8], sequence: u32) -> Vec<Reply> {
    let mut out = Vec::new();
    while let Some(header) = bytes.first_chunk::<HEADER>() {
        let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = *header;
        let len = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let Some(body) = bytes.get(HEADER..len) else { break };
        if u32::from_ne_bytes([s0, s1, s2, s3]) == sequence {
            out.push(reply(u16::from_ne_bytes([k0, k1]), body));
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    out
}

fn reply(kind: u16, body: &[u8]) -> Reply {
    let word = |at: usize| {
        let bytes = body.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map(|&chunk| u32::from_ne_bytes(chunk))
    };
    match kind {
        // All objects of a dump were sent; some kernels say no more than that.
        NLMSG_DONE => Reply::Finished(word(0).map_or(0, |n| n.cast_signed().saturating_neg())),
        NLMSG_ERROR => {
            Reply::Finished(word(0).map_or(libc::EPROTO, |n| n.cast_signed().saturating_neg()))
        }
        RTM_NEWTFILTER if body.len() >= TCMSG => {
            let [ifindex, handle, parent, info] = [4, 8, 12, 16].map(|at| word(at).unwrap_or(0));
            let priority = u16::try_from(info >> 16).expect("16 bits are left");
            Reply::Filter(Filter { ifindex, parent, handle, priority })
        }
        _ => Reply::Other,
    }
}

/// A routing netlink socket.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    pub(crate) fn open() -> Result<Self, SysError> {
        Ok(Self { fd: sys::netlink_socket()?, sequence: 0 })
    }

    /// Sends a request and returns the filters in the answer.
    fn request(
        &mut self,
        command: &'static str,
        message: Message,
    ) -> Result<Vec<Filter>, SysError> {
        self.sequence += 1;
        sys::send(self.fd.as_fd(), &message.finish(self.sequence))?;
        let mut filters = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let Some(len) = sys::receive(self.fd.as_fd(), &mut buffer, 0)? else {
                return Err(SysError::errno_of(command, libc::ETIMEDOUT, "netlink gave no answer"));
            };
            for reply in replies(buffer.get(..len).unwrap_or(&buffer), self.sequence) {
                match reply {
                    Reply::Finished(0) => return Ok(filters),
                    Reply::Finished(errno) => {
                        let source = std::io::Error::from_raw_os_error(errno);
                        return Err(SysError::new(command, source));
                    }
                    Reply::Filter(filter) => filters.push(filter),
                    Reply::Other => {}
                }
            }
        }
    }

    /// Adds the clsact qdisc; false when it is already there.
    pub(crate) fn add_clsact(&mut self, ifindex: u32) -> Result<bool, SysError> {
        let message =
            Message::new(RTM_NEWQDISC, CREATE).traffic(clsact(ifindex)).attr(TCA_KIND, b"clsact\0");
        match self.request("RTM_NEWQDISC", message) {
            Ok(_) => Ok(true),
            Err(e) if e.errno() == libc::EEXIST => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes the clsact qdisc with all that hangs on it.
    pub(crate) fn delete_clsact(&mut self, ifindex: u32) -> Result<(), SysError> {
        let message = Message::new(RTM_DELQDISC, 0).traffic(clsact(ifindex));
        self.request("RTM_DELQDISC", message).map(drop)
    }

    /// Adds a program as a filter whose return value is the verdict. The kernel picks handle and
    /// priority.
    pub(crate) fn add_filter(
        &mut self,
        ifindex: u32,
        parent: u32,
        prog: i32,
        name: &str,
    ) -> Result<Filter, SysError> {
        let asked = Filter { ifindex, parent, handle: 0, priority: 0 };
        let mut c_name = name.as_bytes().to_vec();
        c_name.truncate(255);
        c_name.push(0);
        let message = Message::new(RTM_NEWTFILTER, CREATE | ECHO)
            .traffic(asked)
            .attr(TCA_KIND, b"bpf\0")
            .nested(TCA_OPTIONS, |options| {
                options
                    .attr(TCA_BPF_FD, &prog.to_ne_bytes())
                    .attr(TCA_BPF_NAME, &c_name)
                    .attr(TCA_BPF_FLAGS, &TCA_BPF_FLAG_ACT_DIRECT.to_ne_bytes())
            });
        let filters = self.request("RTM_NEWTFILTER", message)?;
        filters.first().copied().ok_or_else(|| {
            let hint = "the kernel did not say which filter it made";
            SysError::errno_of("RTM_NEWTFILTER", libc::EPROTO, hint)
        })
    }

    /// Removes one filter.
    pub(crate) fn delete_filter(&mut self, filter: Filter) -> Result<(), SysError> {
        let message = Message::new(RTM_DELTFILTER, 0).traffic(filter).attr(TCA_KIND, b"bpf\0");
        self.request("RTM_DELTFILTER", message).map(drop)
    }

    /// Filters of one direction. Their handles may be 0: each priority is also listed by itself.
    pub(crate) fn filters(&mut self, ifindex: u32, parent: u32) -> Result<Vec<Filter>, SysError> {
        let asked = Filter { ifindex, parent, handle: 0, priority: 0 };
        self.request("RTM_GETTFILTER", Message::new(RTM_GETTFILTER, DUMP).traffic(asked))
    }

    /// Sets or, with -1, removes the XDP program of an interface.
    pub(crate) fn set_xdp(&mut self, ifindex: u32, prog: i32, flags: u32) -> Result<(), SysError> {
        let message = Message::new(RTM_SETLINK, 0).interface(ifindex).nested(IFLA_XDP, |xdp| {
            let xdp = xdp.attr(IFLA_XDP_FD, &prog.to_ne_bytes());
            if flags == 0 { xdp } else { xdp.attr(IFLA_XDP_FLAGS, &flags.to_ne_bytes()) }
        });
        self.request("RTM_SETLINK", message).map(drop)
    }
}

const fn clsact(ifindex: u32) -> Filter {
    Filter { ifindex, parent: CLSACT_PARENT, handle: CLSACT_HANDLE, priority: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_lengths_and_padding_where_netlink_wants_them() {
        let bytes = Message::new(RTM_SETLINK, 0)
            .interface(7)
            .nested(IFLA_XDP, |m| m.attr(1, &[1, 2, 3]).attr(3, &[9; 4]))
            .finish(5);
        assert_eq!(bytes.len(), HEADER + 16 + 4 + 8 + 8);
        assert_eq!(bytes[..4], u32::try_from(bytes.len()).unwrap().to_ne_bytes());
        assert_eq!(bytes[8..12], 5_u32.to_ne_bytes());
        assert_eq!(bytes[32..34], 20_u16.to_ne_bytes());
        assert_eq!(bytes[36..38], 7_u16.to_ne_bytes());
        assert_eq!(bytes[43], 0);
    }

    /// Else the filters that were sent before look like all there are.
    #[test]
    fn a_dump_may_end_with_an_error() {
        let end = |errno: i32| {
            let mut done = Message::new(NLMSG_DONE, 0);
            done.0.extend((-errno).to_ne_bytes());
            replies(&done.finish(3), 3)
        };
        assert_eq!(end(0), [Reply::Finished(0)]);
        assert_eq!(end(libc::EINTR), [Reply::Finished(libc::EINTR)]);
        assert_eq!(replies(&Message::new(NLMSG_DONE, 0).finish(3), 3), [Reply::Finished(0)]);
    }

    #[test]
    fn replies_are_split_and_hostile_lengths_end_the_walk() {
        let mut ack = Message::new(NLMSG_ERROR, 0);
        ack.0.extend((-libc::EEXIST).to_ne_bytes());
        let ack = ack.finish(3);
        let filter = Filter { ifindex: 2, parent: CLSACT_INGRESS, handle: 1, priority: 49152 };
        let added = Message::new(RTM_NEWTFILTER, 0).traffic(filter).finish(3);
        let both = [added.clone(), ack.clone()].concat();
        let want = [Reply::Filter(filter), Reply::Finished(libc::EEXIST)];
        assert_eq!(replies(&both, 3), want);
        assert_eq!(replies(&both, 4), []);
        for cut in 0..ack.len() {
            assert_eq!(replies(&ack[..cut], 3), []);
        }
        let mut zero = ack;
        zero[0] = 0;
        assert_eq!(replies(&zero, 3), []);
    }
}
