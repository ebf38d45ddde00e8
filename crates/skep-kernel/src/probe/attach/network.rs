//! Hooks of the network, in a network namespace of the probe's own.

use std::{
    fs,
    os::{fd::AsFd as _, unix::net::UnixDatagram},
    thread,
};

use skep_abi::{AttachType, MapType, ProgType};

use super::{Answer, Hooks, Support, answers, attaches, small};
use crate::{
    link::{
        Direction, Netfilter, NetkitEnd, Order, XdpMode, attach_netfilter, attach_netkit,
        attach_netns, attach_reuseport, attach_socket_filter, attach_sockmap, attach_tc_clsact,
        attach_xdp, attach_xdp_netlink, ifindex,
    },
    netlink::Socket,
    probe::{chain, map::make_smallest},
    program::Program,
    sys::{self, LinkTarget},
};

type Try = fn() -> Answer;

/// What is tried on the loopback interface of an own namespace.
const ROWS: &[(&str, Try)] = &[
    ("xdp, generic", || {
        let lo = ifindex("lo")?;
        attaches(&small(ProgType::XDP, None), |p| attach_xdp(p, lo, XdpMode::Generic))
    }),
    ("xdp, native", || {
        let veth = pair("veth")?;
        attaches(&small(ProgType::XDP, None), |p| attach_xdp(p, veth, XdpMode::Native))
    }),
    ("xdp, without a link", || {
        let lo = ifindex("lo")?;
        attaches(&small(ProgType::XDP, None), |p| attach_xdp_netlink(p, lo, XdpMode::Generic))
    }),
    ("tcx/ingress", || by_link(ProgType::SCHED_CLS, AttachType::TCX_INGRESS)),
    ("tcx/egress", || by_link(ProgType::SCHED_CLS, AttachType::TCX_EGRESS)),
    ("netkit/primary", || netkit(NetkitEnd::Primary, AttachType::NETKIT_PRIMARY)),
    ("netkit/peer", || netkit(NetkitEnd::Peer, AttachType::NETKIT_PEER)),
    ("tc, by clsact", || {
        let lo = ifindex("lo")?;
        attaches(&small(ProgType::SCHED_CLS, None), |p| attach_tc_clsact(p, lo, Direction::Ingress))
    }),
    ("netfilter", || {
        // Prerouting of IPv4.
        let at = Netfilter { family: 2, hook: 0, priority: -128, defragment: false };
        attaches(&small(ProgType::NETFILTER, Some(AttachType::NETFILTER)), |p| {
            attach_netfilter(p, &at)
        })
    }),
    ("sk_lookup", || on_namespace(ProgType::SK_LOOKUP, AttachType::SK_LOOKUP)),
    ("flow_dissector", || on_namespace(ProgType::FLOW_DISSECTOR, AttachType::FLOW_DISSECTOR)),
    ("socket", || {
        let socket = UnixDatagram::unbound().map_err(unknown)?;
        attaches(&small(ProgType::SOCKET_FILTER, None), |p| attach_socket_filter(p, socket.as_fd()))
    }),
    ("sk_reuseport", on_group),
    ("sk_msg", || on_socket_map(ProgType::SK_MSG, AttachType::SK_MSG_VERDICT)),
    ("sk_skb/stream_parser", || on_socket_map(ProgType::SK_SKB, AttachType::SK_SKB_STREAM_PARSER)),
    ("sk_skb/stream_verdict", || {
        on_socket_map(ProgType::SK_SKB, AttachType::SK_SKB_STREAM_VERDICT)
    }),
    ("sk_skb/verdict", || on_socket_map(ProgType::SK_SKB, AttachType::SK_SKB_VERDICT)),
];

/// Hooks of interfaces, of a network namespace and of sockets.
pub fn network_hooks() -> Hooks {
    let inside =
        || sys::leave_network().map(|()| answers(ROWS, |attach| attach())).map_err(|e| chain(&e));
    let tried = thread::scope(|scope| scope.spawn(inside).join());
    tried.unwrap_or_else(|_| Err("the probe broke off".to_owned())).unwrap_or_else(|why| {
        let why = format!("no network namespace of its own to try it in: {why}");
        ROWS.iter().map(|(name, _)| ((*name).to_owned(), Support::Unknown(why.clone()))).collect()
    })
}

fn unknown(e: std::io::Error) -> Support {
    Support::Unknown(e.to_string())
}

/// The first end of a pair of interfaces of this kind, made when it is not there yet.
fn pair(kind: &str) -> Result<u32, Support> {
    let name = format!("skep-{kind}");
    match Socket::open()?.add_pair(kind, &name) {
        Err(e) if e.errno() != libc::EEXIST => Err(e.into()),
        _ => Ok(ifindex(&name)?),
    }
}

fn netkit(end: NetkitEnd, attach_type: AttachType) -> Answer {
    let netkit = pair("netkit")?;
    attaches(&small(ProgType::SCHED_CLS, Some(attach_type)), |p| {
        attach_netkit(p, netkit, end, &Order::default())
    })
}

/// A link on the loopback interface.
fn by_link(prog_type: ProgType, attach_type: AttachType) -> Answer {
    let program = Program::load(&small(prog_type, Some(attach_type)))?;
    let lo = LinkTarget::Ifindex(ifindex("lo")?);
    sys::link_create(program.as_fd(), lo, attach_type.0, 0)?;
    Ok(())
}

fn on_namespace(prog_type: ProgType, attach_type: AttachType) -> Answer {
    let namespace = fs::File::open("/proc/thread-self/ns/net").map_err(unknown)?;
    attaches(&small(prog_type, Some(attach_type)), |p| attach_netns(p, namespace.as_fd()))
}

/// A map without sockets in it; the program goes with it.
fn on_socket_map(prog_type: ProgType, attach_type: AttachType) -> Answer {
    let map = make_smallest(MapType::SOCKMAP)?;
    attaches(&small(prog_type, Some(attach_type)), |p| attach_sockmap(p, &map))
}

/// A group of one socket.
fn on_group() -> Answer {
    let group = sys::reuseport_socket()?;
    let load = small(ProgType::SK_REUSEPORT, Some(AttachType::SK_REUSEPORT_SELECT));
    attaches(&load, |p| attach_reuseport(p, group.as_fd()))
}
