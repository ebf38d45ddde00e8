//! Programs on routes, on a wire of the tests' own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use skep_kernel::{
    AttachError, Target, attach,
    link::{Method, Route, attach_route},
};
use skep_testing::ip;

use super::{
    Counter, ProgType, fires,
    interface::{MOMENT, Wire, on_a_wire},
    load, or_lacking, or_refused,
};

const DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// What a kernel without such tunnels says.
const LACKING: &[i32] = &[libc::EOPNOTSUPP, libc::ENOENT];

fn route(wire: &Wire) -> Route {
    let destination = IpAddr::from(Ipv4Addr::new(10, 9, 0, 0));
    Route { destination, prefix: 24, ifindex: wire.near_index, gateway: None, headroom: 0 }
}

/// Sums up 16 bits at a time, as IPv4 wants it.
fn checksum(header: &[u8]) -> [u8; 2] {
    let words = header.as_chunks::<2>().0.iter().map(|&pair| u32::from(u16::from_be_bytes(pair)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded");
    (!folded).to_be_bytes()
}

/// A frame to everybody on the wire, with this packet.
fn broadcast(ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 9]);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame
}

/// An IPv4 packet that asks to be forwarded.
fn forwarded() -> Vec<u8> {
    let mut header = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0, 10, 8, 0, 2, 10, 9, 0, 1];
    let sum = checksum(&header);
    header.splice(10..12, sum);
    header.extend([0, 9, 0, 9, 0, 8, 0, 0]);
    broadcast(0x0800, &header)
}

/// Sends it, and lets the far end's stack have it.
fn send(wire: &Wire, frame: &[u8]) {
    wire.near.send(frame).expect("sent");
    std::thread::sleep(MOMENT);
}

#[test]
fn programs_see_what_is_sent_by_their_route() {
    on_a_wire(|wire| {
        ip("addr add 10.8.0.1/24 dev near").expect("ours");
        let socket = UdpSocket::bind("10.8.0.1:0").expect("ours");
        let send = || {
            socket.send_to(b"x", (DESTINATION, 9)).ok();
        };
        for (hook, prog_type) in [("lwt_out", ProgType::LWT_OUT), ("lwt_xmit", ProgType::LWT_XMIT)]
        {
            let counter = Counter::new();
            let program = load(prog_type, None, &counter.all(0));
            let link = or_lacking(attach_route(&program, &route(&wire)), LACKING);
            let Some(mut link) = or_refused(hook, link) else { return };
            assert_eq!(link.method(), Method::Route);
            let again = attach_route(&program, &route(&wire)).expect_err("there is one");
            let AttachError::Refused { source, .. } = again else { panic!("{again}") };
            assert_eq!(source.errno(), libc::EEXIST);
            send();
            assert_eq!(counter.get(), 1);
            let other = Counter::new();
            let new = load(prog_type, None, &other.all(0));
            link.update(&new, None).expect("it takes another program");
            send();
            assert_eq!((counter.get(), other.get()), (1, 1));
            fires(hook, &other, link, send);
            let object = super::events::object(hook, counter.all(0));
            let program = object.program("probe").expect("it is there");
            let link = attach(program, &Target::Route(route(&wire))).expect("as before");
            fires(hook, &counter, link, send);
            let routes = ip("route show").expect("ours");
            assert!(!routes.contains("10.9.0.0"), "{routes}");
        }
    });
}

#[test]
fn a_program_sees_what_arrives_for_its_route() {
    on_a_wire(|wire| {
        ip("addr add 10.8.0.1/24 dev far").expect("ours");
        for setting in ["ip_forward", "conf/all/rp_filter", "conf/far/rp_filter"] {
            let value = if setting == "ip_forward" { "1" } else { "0" };
            // These belong to the namespace.
            std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value).expect("ours");
        }
        let counter = Counter::new();
        let program = load(ProgType::LWT_IN, None, &counter.all(0));
        let link = or_lacking(attach_route(&program, &route(&wire)), LACKING);
        let Some(link) = or_refused("lwt_in", link) else { return };
        fires("lwt_in", &counter, link, || send(&wire, &forwarded()));
    });
}

/// An IPv6 packet with a segment routing header (RFC 8754) whose next segment is `sid`.
fn segment(sid: Ipv6Addr) -> Vec<u8> {
    let last: Ipv6Addr = "fd00:2::2".parse().expect("an address");
    let source: Ipv6Addr = "fd00:1::1".parse().expect("an address");
    let mut routing = vec![59, 4, 4, 1, 1, 0, 0, 0];
    routing.extend(last.octets());
    routing.extend(sid.octets());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(routing.len()).expect("short").to_be_bytes());
    packet.extend([43, 64]);
    packet.extend(source.octets());
    packet.extend(sid.octets());
    packet.extend(routing);
    broadcast(0x86dd, &packet)
}

#[test]
fn a_segment_ends_in_a_program() {
    const HOOK: &str = "lwt_seg6local";
    on_a_wire(|wire| {
        let sid: Ipv6Addr = "fd00:9::1".parse().expect("an address");
        for (scope, setting, value) in [
            ("far", "disable_ipv6", "0"),
            ("near", "disable_ipv6", "0"),
            ("all", "forwarding", "1"),
            ("all", "seg6_enabled", "1"),
            ("far", "seg6_enabled", "1"),
        ] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/{setting}"), value).ok();
        }
        let counter = Counter::new();
        let program = load(ProgType::LWT_SEG6LOCAL, None, &counter.all(0));
        let route = Route {
            destination: sid.into(),
            prefix: 128,
            ifindex: wire.far_index,
            gateway: None,
            headroom: 0,
        };
        let link = or_lacking(attach_route(&program, &route), LACKING);
        let Some(link) = or_refused(HOOK, link) else { return };
        fires(HOOK, &counter, link, || send(&wire, &segment(sid)));
    });
}
