//! Routes whose packets a program sees: lightweight tunnels of type `bpf`, and the `End.BPF`
//! action of IPv6 segment routing.
//!
//! Layout: `include/uapi/linux/{rtnetlink,lwtunnel,seg6_local}.h`.

use std::net::IpAddr;

use super::{
    Socket,
    message::{CREATE, EXCLUSIVE, Message, REPLACE},
};
use crate::sys::SysError;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;

const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;

const LWTUNNEL_ENCAP_BPF: u16 = 6;
const LWTUNNEL_ENCAP_SEG6_LOCAL: u16 = 7;
const LWT_BPF_PROG_FD: u16 = 1;
const LWT_BPF_PROG_NAME: u16 = 2;
const LWT_BPF_XMIT_HEADROOM: u16 = 4;
const SEG6_LOCAL_ACTION: u16 = 1;
const SEG6_LOCAL_BPF: u16 = 8;
const SEG6_LOCAL_ACTION_END_BPF: u32 = 15;
const SEG6_LOCAL_BPF_PROG: u16 = 1;
const SEG6_LOCAL_BPF_PROG_NAME: u16 = 2;

/// A route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RouteTo {
    pub(crate) destination: IpAddr,
    /// Bits of the destination that count.
    pub(crate) prefix: u8,
    pub(crate) ifindex: u32,
    pub(crate) gateway: Option<IpAddr>,
}

/// Which packets of a route a program sees; the numbers are those of `LWT_BPF_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgramAt {
    /// Those that arrive for it.
    In = 1,
    /// Those that are sent, before they are routed.
    Out = 2,
    /// Those that are sent, before the link layer; with room for so many bytes in front.
    Xmit = 3,
    /// Those whose segment ends here.
    Segment,
}

/// `struct rtmsg`.
fn rtmsg(route: &RouteTo) -> [u8; 12] {
    let (family, scope) = match (route.destination, route.gateway) {
        (IpAddr::V4(_), None) => (libc::AF_INET, RT_SCOPE_LINK),
        (IpAddr::V4(_), Some(_)) => (libc::AF_INET, RT_SCOPE_UNIVERSE),
        (IpAddr::V6(_), _) => (libc::AF_INET6, RT_SCOPE_UNIVERSE),
    };
    let family = u8::try_from(family).expect("address families are small");
    let (table, protocol) = (RT_TABLE_MAIN, RTPROT_STATIC);
    [family, route.prefix, 0, 0, table, protocol, scope, RTN_UNICAST, 0, 0, 0, 0]
}

fn address(message: Message, kind: u16, address: IpAddr) -> Message {
    match address {
        IpAddr::V4(v4) => message.attr(kind, &v4.octets()),
        IpAddr::V6(v6) => message.attr(kind, &v6.octets()),
    }
}

/// The route without its program.
fn plain(kind: u16, flags: u16, route: &RouteTo) -> Message {
    let message = Message::new(kind, flags).bytes(&rtmsg(route));
    let message = address(message, RTA_DST, route.destination);
    let message = message.attr(RTA_OIF, &route.ifindex.to_ne_bytes());
    match route.gateway {
        Some(gateway) => address(message, RTA_GATEWAY, gateway),
        None => message,
    }
}

fn new_route(
    route: &RouteTo,
    at: ProgramAt,
    headroom: u32,
    (prog, name): (i32, &str),
    replace: bool,
) -> Message {
    let how = if replace { REPLACE | CREATE } else { EXCLUSIVE | CREATE };
    let message = plain(RTM_NEWROUTE, how, route);
    let fd = prog.to_ne_bytes();
    match at {
        ProgramAt::Segment => message
            .attr(RTA_ENCAP_TYPE, &LWTUNNEL_ENCAP_SEG6_LOCAL.to_ne_bytes())
            .nested(RTA_ENCAP, |encap| {
                encap
                    .attr(SEG6_LOCAL_ACTION, &SEG6_LOCAL_ACTION_END_BPF.to_ne_bytes())
                    .nested(SEG6_LOCAL_BPF, |bpf| {
                        bpf.attr(SEG6_LOCAL_BPF_PROG, &fd).text(SEG6_LOCAL_BPF_PROG_NAME, name)
                    })
            }),
        at => message.attr(RTA_ENCAP_TYPE, &LWTUNNEL_ENCAP_BPF.to_ne_bytes()).nested(
            RTA_ENCAP,
            |encap| {
                let encap = encap.nested(at as u16, |bpf| {
                    bpf.attr(LWT_BPF_PROG_FD, &fd).text(LWT_BPF_PROG_NAME, name)
                });
                match headroom {
                    0 => encap,
                    bytes => encap.attr(LWT_BPF_XMIT_HEADROOM, &bytes.to_ne_bytes()),
                }
            },
        ),
    }
}

impl Socket {
    /// Adds a route through a program; with `replace` in the place of the one there is.
    pub(crate) fn add_route(
        &mut self,
        route: &RouteTo,
        at: ProgramAt,
        headroom: u32,
        program: (i32, &str),
        replace: bool,
    ) -> Result<(), SysError> {
        let message = new_route(route, at, headroom, program, replace);
        self.request("RTM_NEWROUTE", message).map(drop)
    }

    /// Removes a route.
    pub(crate) fn delete_route(&mut self, route: &RouteTo) -> Result<(), SysError> {
        self.request("RTM_DELROUTE", plain(RTM_DELROUTE, 0, route)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::message::Attrs, *};

    #[test]
    fn a_route_names_its_program_by_where_it_runs() {
        let route = RouteTo {
            destination: [10, 9, 0, 0].into(),
            prefix: 16,
            ifindex: 7,
            gateway: Some([10, 8, 0, 1].into()),
        };
        let bytes = new_route(&route, ProgramAt::Xmit, 14, (5, "p"), false).finish(1);
        assert_eq!(bytes[16..24], [2, 16, 0, 0, 254, 4, 0, 1]);
        let attrs = Attrs(&bytes[28..]);
        assert_eq!(attrs.find(RTA_DST), Some(&[10, 9, 0, 0][..]));
        assert_eq!(attrs.find(RTA_GATEWAY), Some(&[10, 8, 0, 1][..]));
        assert_eq!(attrs.word(RTA_OIF), Some(7));
        assert_eq!(attrs.find(RTA_ENCAP_TYPE), Some(&6_u16.to_ne_bytes()[..]));
        let encap = Attrs(attrs.find(RTA_ENCAP).unwrap());
        assert_eq!(encap.word(LWT_BPF_XMIT_HEADROOM), Some(14));
        let program = Attrs(encap.find(3).unwrap());
        assert_eq!(program.word(LWT_BPF_PROG_FD), Some(5));
        assert_eq!(program.find(LWT_BPF_PROG_NAME), Some(&b"p\0"[..]));
    }

    #[test]
    fn a_segment_ends_in_a_program() {
        let destination = "fd00::1".parse().unwrap();
        let route = RouteTo { destination, prefix: 128, ifindex: 7, gateway: None };
        let bytes = new_route(&route, ProgramAt::Segment, 0, (5, "p"), true).finish(1);
        let attrs = Attrs(&bytes[28..]);
        let encap = Attrs(attrs.find(RTA_ENCAP).unwrap());
        assert_eq!(encap.word(SEG6_LOCAL_ACTION), Some(15));
        let program = Attrs(encap.find(SEG6_LOCAL_BPF).unwrap());
        assert_eq!(program.word(SEG6_LOCAL_BPF_PROG), Some(5));
    }
}
