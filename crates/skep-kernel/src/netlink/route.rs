//! Routes whose packets a program sees: lightweight tunnels of type `bpf`, and the `End.BPF`
//! action of IPv6 segment routing.
//!
//! Layout: `include/uapi/linux/{rtnetlink,lwtunnel,seg6_local}.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Socket,
    message::{Attrs, CREATE, DUMP, EXCLUSIVE, Message, Object, REPLACE, text},
};
use crate::sys::SysError;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// Bytes of `struct rtmsg`.
const RTMSG: usize = 12;

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
fn rtmsg(route: &RouteTo) -> [u8; RTMSG] {
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

/// A route of an answer and the names of its programs, if it has any.
fn programs_of(object: &Object) -> Option<(RouteTo, Vec<String>)> {
    let &[_, prefix, ..] = object.body.first_chunk::<RTMSG>()?;
    if object.kind != RTM_NEWROUTE {
        return None;
    }
    let attrs = Attrs(object.body.get(RTMSG..)?);
    let encap = Attrs(attrs.find(RTA_ENCAP)?);
    let named = |inside, kind| Attrs(inside).find(kind).map(text);
    let names: Vec<String> = match attrs.find(RTA_ENCAP_TYPE)?.try_into().map(u16::from_ne_bytes) {
        Ok(LWTUNNEL_ENCAP_BPF) => {
            encap.filter_map(|(_, inside)| named(inside, LWT_BPF_PROG_NAME)).collect()
        }
        Ok(LWTUNNEL_ENCAP_SEG6_LOCAL) => {
            let program = encap.find(SEG6_LOCAL_BPF);
            program.and_then(|p| named(p, SEG6_LOCAL_BPF_PROG_NAME)).into_iter().collect()
        }
        _ => Vec::new(),
    };
    let destination = ip(attrs.find(RTA_DST)?)?;
    let gateway = attrs.find(RTA_GATEWAY).and_then(ip);
    let ifindex = attrs.word(RTA_OIF)?;
    (!names.is_empty()).then_some((RouteTo { destination, prefix, ifindex, gateway }, names))
}

/// An address by its length.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match (<[u8; 4]>::try_from(bytes), <[u8; 16]>::try_from(bytes)) {
        (Ok(v4), _) => Some(Ipv4Addr::from(v4).into()),
        (_, Ok(v6)) => Some(Ipv6Addr::from(v6).into()),
        _ => None,
    }
}

impl Socket {
    /// All routes through programs, with the programs' names.
    pub(crate) fn program_routes(&mut self) -> Result<Vec<(RouteTo, Vec<String>)>, SysError> {
        let message = Message::new(RTM_GETROUTE, DUMP).bytes(&[0; RTMSG]);
        let objects = self.request("RTM_GETROUTE", message)?;
        Ok(objects.iter().filter_map(programs_of).collect())
    }

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

    #[test]
    fn programs_of_routes_are_read_as_they_are_asked_for() {
        let v4 = RouteTo {
            destination: [10, 9, 0, 0].into(),
            prefix: 16,
            ifindex: 7,
            gateway: Some([10, 8, 0, 1].into()),
        };
        let v6 = RouteTo {
            destination: "fd00::1".parse().unwrap(),
            prefix: 128,
            ifindex: 7,
            gateway: None,
        };
        for (route, at) in [(v4, ProgramAt::Out), (v6, ProgramAt::Segment)] {
            let bytes = new_route(&route, at, 0, (5, "skep:p"), false).finish(1);
            let body = bytes[16..].to_vec();
            let object = Object { kind: RTM_NEWROUTE, body };
            assert_eq!(programs_of(&object), Some((route, vec!["skep:p".into()])));
            for cut in 0..object.body.len() {
                programs_of(&Object { kind: RTM_NEWROUTE, body: object.body[..cut].to_vec() });
            }
        }
        let plain = plain(RTM_NEWROUTE, 0, &v4).finish(1);
        assert_eq!(programs_of(&Object { kind: RTM_NEWROUTE, body: plain[16..].to_vec() }), None);
    }
}
