//! Network interfaces: their XDP programs.
//!
//! Layout: `include/uapi/linux/{rtnetlink,if_link}.h`.

use super::{
    Socket,
    message::{Attrs, CREATE, DUMP, EXCLUSIVE, Message, Object, text, word},
};
use crate::sys::SysError;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

/// Bytes of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_FD: u16 = 1;
const IFLA_XDP_FLAGS: u16 = 3;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const IFLA_XDP_EXPECTED_FD: u16 = 8;

/// What to set as an interface's XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct XdpSet {
    pub(crate) ifindex: u32,
    /// The program's descriptor; -1 removes the one that is there.
    pub(crate) prog: i32,
    /// `XDP_FLAGS_*`.
    pub(crate) flags: u32,
    /// Descriptor of the program that must be there (-1: none), with `XDP_FLAGS_REPLACE`.
    pub(crate) expected: Option<i32>,
}

/// The XDP programs of an interface, by where they run; several only in different modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct XdpOn {
    pub(crate) native: Option<u32>,
    pub(crate) generic: Option<u32>,
    pub(crate) offload: Option<u32>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkOn {
    pub(crate) ifindex: u32,
    pub(crate) name: String,
    /// What kind of virtual device, `veth`; empty for others.
    pub(crate) kind: String,
    pub(crate) xdp: XdpOn,
}

/// `struct ifinfomsg` of an interface.
pub(super) fn ifinfomsg(ifindex: u32) -> [u8; IFINFOMSG] {
    let mut bytes = [0; IFINFOMSG];
    let (_, rest) = bytes.split_at_mut(4);
    let (index, _) = rest.split_at_mut(4);
    index.copy_from_slice(&ifindex.to_ne_bytes());
    bytes
}

fn set_xdp(set: &XdpSet) -> Message {
    Message::new(RTM_SETLINK, 0).bytes(&ifinfomsg(set.ifindex)).nested(IFLA_XDP, |mut xdp| {
        xdp = xdp.attr(IFLA_XDP_FD, &set.prog.to_ne_bytes());
        if set.flags != 0 {
            xdp = xdp.attr(IFLA_XDP_FLAGS, &set.flags.to_ne_bytes());
        }
        match set.expected {
            Some(fd) => xdp.attr(IFLA_XDP_EXPECTED_FD, &fd.to_ne_bytes()),
            None => xdp,
        }
    })
}

fn xdp_on(object: &Object) -> Option<XdpOn> {
    /// `IFLA_XDP_ATTACHED` of kernels that tell one program only.
    const IFLA_XDP_ATTACHED: u16 = 2;
    if object.kind != RTM_NEWLINK {
        return None;
    }
    let attrs = Attrs(object.body.get(IFINFOMSG..)?);
    let xdp = Attrs(attrs.find(IFLA_XDP).unwrap_or_default());
    let mut on = XdpOn {
        native: xdp.word(IFLA_XDP_DRV_PROG_ID),
        generic: xdp.word(IFLA_XDP_SKB_PROG_ID),
        offload: xdp.word(IFLA_XDP_HW_PROG_ID),
    };
    if on == XdpOn::default() {
        let one = xdp.word(IFLA_XDP_PROG_ID);
        match xdp.find(IFLA_XDP_ATTACHED) {
            Some([1]) => on.native = one,
            Some([2]) => on.generic = one,
            Some([3]) => on.offload = one,
            _ => {}
        }
    }
    Some(on)
}

fn link_on(object: &Object) -> Option<LinkOn> {
    let xdp = xdp_on(object)?;
    let attrs = Attrs(object.body.get(IFINFOMSG..)?);
    let kind = attrs.find(IFLA_LINKINFO).and_then(|info| Attrs(info).find(IFLA_INFO_KIND));
    Some(LinkOn {
        ifindex: word(&object.body, 4)?,
        name: attrs.find(IFLA_IFNAME).map(text).unwrap_or_default(),
        kind: kind.map(text).unwrap_or_default(),
        xdp,
    })
}

impl Socket {
    /// Makes an interface of a kind that comes as a pair (`veth`, `netkit`), down, with the
    /// kernel's defaults; the kernel names the other one.
    pub(crate) fn add_pair(&mut self, kind: &str, name: &str) -> Result<(), SysError> {
        let message = Message::new(RTM_NEWLINK, CREATE | EXCLUSIVE)
            .bytes(&ifinfomsg(0))
            .text(IFLA_IFNAME, name)
            .nested(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, kind));
        self.request("RTM_NEWLINK", message).map(drop)
    }

    /// Sets, replaces or removes the XDP program of an interface.
    pub(crate) fn set_xdp(&mut self, set: &XdpSet) -> Result<(), SysError> {
        self.request("RTM_SETLINK", set_xdp(set)).map(drop)
    }

    /// All interfaces of the network namespace.
    pub(crate) fn links(&mut self) -> Result<Vec<LinkOn>, SysError> {
        let message = Message::new(RTM_GETLINK, DUMP).bytes(&ifinfomsg(0));
        Ok(self.request("RTM_GETLINK", message)?.iter().filter_map(link_on).collect())
    }

    /// The XDP programs of an interface.
    pub(crate) fn xdp(&mut self, ifindex: u32) -> Result<XdpOn, SysError> {
        let message = Message::new(RTM_GETLINK, 0).bytes(&ifinfomsg(ifindex));
        let objects = self.request("RTM_GETLINK", message)?;
        objects.iter().find_map(xdp_on).ok_or_else(|| {
            let hint = "the kernel did not describe the interface";
            SysError::errno_of("RTM_GETLINK", libc::EPROTO, hint)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HW_MODE: u32 = 1 << 3;
    const REPLACE: u32 = 1 << 4;

    /// No interface here can take a program into its hardware: the request itself is the fact.
    #[test]
    fn xdp_is_set_with_flags_and_what_is_expected() {
        let request = |flags, expected| {
            let bytes = set_xdp(&XdpSet { ifindex: 7, prog: 5, flags, expected }).finish(1);
            assert_eq!(bytes[20..24], 7_u32.to_ne_bytes());
            let (kind, xdp) = Attrs(&bytes[32..]).next().unwrap();
            assert_eq!(kind, IFLA_XDP);
            let xdp = Attrs(xdp);
            [IFLA_XDP_FD, IFLA_XDP_FLAGS, IFLA_XDP_EXPECTED_FD].map(|kind| xdp.word(kind))
        };
        assert_eq!(request(0, None), [Some(5), None, None]);
        assert_eq!(request(HW_MODE, None), [Some(5), Some(HW_MODE), None]);
        assert_eq!(request(REPLACE, Some(9)), [Some(5), Some(REPLACE), Some(9)]);
        assert_eq!(request(REPLACE, Some(-1)), [Some(5), Some(REPLACE), Some(u32::MAX)]);
    }

    #[test]
    fn programs_are_read_by_mode() {
        let answer = |inside: fn(Message) -> Message| {
            let bytes = Message::new(RTM_NEWLINK, 0)
                .bytes(&ifinfomsg(7))
                .text(3, "eth")
                .nested(IFLA_XDP, inside)
                .finish(1);
            let object = Object { kind: RTM_NEWLINK, body: bytes[16..].to_vec() };
            for cut in 0..object.body.len() {
                xdp_on(&Object { kind: RTM_NEWLINK, body: object.body[..cut].to_vec() });
            }
            xdp_on(&object).unwrap()
        };
        assert_eq!(answer(|m| m.attr(2, &[0])), XdpOn::default());
        let native = XdpOn { native: Some(3), ..XdpOn::default() };
        assert_eq!(answer(|m| m.attr(2, &[1]).attr(4, &3_u32.to_ne_bytes())), native);
        let both = XdpOn { native: Some(3), generic: Some(4), offload: None };
        let two = |m: Message| {
            m.attr(2, &[4]).attr(5, &3_u32.to_ne_bytes()).attr(6, &4_u32.to_ne_bytes())
        };
        assert_eq!(answer(two), both);
    }
}
