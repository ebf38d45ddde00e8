//! What happens in the trace, scene by scene.

use super::build::{
    ACK, ARP, BROADCAST, Ends, FIN, FRAGMENT, GRE, HERE, ICMP, ICMP6, IGMP, IPV4, IPV6, Ip, PSH,
    QINQ, RST, SCTP, SYN, TCP, THERE, UDP, VLAN, arp, ethernet, icmp, payload, tag, tcp, udp,
    udp_without_checksum,
};

/// A frame's EtherType and what follows it.
type Content = (u16, Vec<u8>);

const SERVER: [u8; 4] = [198, 51, 100, 80];
/// The address and port that the rewriting example translates.
const PUBLIC: [u8; 4] = [192, 0, 2, 80];
const PUBLIC_PORT: u16 = 8080;
/// The UDP port that the classifier drops.
const DROPPED_PORT: u16 = 9;
const MORE_FRAGMENTS: u16 = 0x2000;
const DO_NOT_FRAGMENT: u16 = 0x4000;

/// All frames in order.
pub(super) fn all() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    arps(&mut frames);
    for client in 0..12 {
        tcp_conversation(&mut frames, v4(client, SERVER), client, 443);
    }
    for client in 12..20 {
        tcp_conversation(&mut frames, v4(client, PUBLIC), client, PUBLIC_PORT);
    }
    for client in 20..28 {
        tcp_conversation(&mut frames, v6(client), client, 443);
    }
    datagrams(&mut frames);
    pings(&mut frames);
    tagged(&mut frames);
    fragments(&mut frames);
    options(&mut frames);
    lifetimes(&mut frames);
    sizes(&mut frames);
    oddities(&mut frames);
    frames
}

fn client(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [10, 1, high, low + 1]
}

fn v4(number: u16, server: [u8; 4]) -> Ends {
    Ends::V4(client(number), server)
}

fn v6(number: u16) -> Ends {
    Ends::V6([0x2001, 0xdb8, 1, 0, 0, 0, 0, number + 1], [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x80])
}

fn out(frames: &mut Vec<Vec<u8>>, content: Content) {
    frames.push(ethernet(THERE, HERE, content));
}

fn back(frames: &mut Vec<Vec<u8>>, content: Content) {
    frames.push(ethernet(HERE, THERE, content));
}

fn arps(frames: &mut Vec<Vec<u8>>) {
    for number in 0..10 {
        frames.push(ethernet(BROADCAST, HERE, (ARP, arp(1, client(number), SERVER))));
        if number % 2 == 0 {
            back(frames, (ARP, arp(2, SERVER, client(number))));
        }
    }
}

/// Handshake, one request, answers, and an end: by FIN, or by RST for each fourth client.
fn tcp_conversation(frames: &mut Vec<Vec<u8>>, ends: Ends, number: u16, port: u16) {
    let ports = (40000 + number, port);
    let mut ip = Ip::new(ends);
    let mut ip_back = Ip { ttl: 57, ..Ip::new(ends.back()) };
    let (mut seq, mut ack) = (1000 * u32::from(number), 77_000 + u32::from(number));
    let sizes = [90 + usize::from(number) * 7, 300 + usize::from(number) * 23];
    let request = payload(usize::from(number), sizes[0]);
    let answer = payload(usize::from(number) + 100, sizes[1]);
    let last = if number % 4 == 3 { RST } else { FIN | ACK };

    // (forth or back, flags, data)
    let steps: [(bool, u8, &[u8]); 8] = [
        (true, SYN, &[]),
        (false, SYN | ACK, &[]),
        (true, ACK, &[]),
        (true, PSH | ACK, &request),
        (false, ACK, &answer),
        (false, PSH | ACK, &request),
        (true, ACK, &[]),
        (true, last, &[]),
    ];
    for (index, (forth, flags, data)) in steps.into_iter().enumerate() {
        let id = number * 16 + u16::try_from(index).expect("eight steps");
        let moved = u32::try_from(data.len()).expect("short data") + u32::from(flags & SYN != 0);
        if forth {
            (ip.id, ip.fragment) = (id, DO_NOT_FRAGMENT);
            out(frames, ip.wrap(TCP, &tcp(ends, ports, (seq, ack), flags, data)));
            seq += moved;
        } else {
            (ip_back.id, ip_back.fragment) = (id, DO_NOT_FRAGMENT);
            let segment = tcp(ends.back(), (ports.1, ports.0), (ack, seq), flags, data);
            back(frames, ip_back.wrap(TCP, &segment));
            ack += moved;
        }
    }
}

fn datagrams(frames: &mut Vec<Vec<u8>>) {
    for number in 0..40_u16 {
        let seed = usize::from(number);
        let query = payload(seed, 28 + seed % 13);
        let reply = payload(seed + 50, 60 + seed * 3);
        for ends in [v4(number, SERVER), v6(number)] {
            let ports = (50000 + number, 53);
            out(frames, Ip::new(ends).wrap(UDP, &udp(ends, ports, &query)));
            let ends = ends.back();
            back(frames, Ip::new(ends).wrap(UDP, &udp(ends, (53, ports.0), &reply)));
        }
    }
    for number in 0..24_u16 {
        let data = payload(usize::from(number), usize::from(number));
        let (four, six) = (v4(number, PUBLIC), v6(number));
        let dropped = (33000, DROPPED_PORT);
        let translated = (33000 + number, PUBLIC_PORT);
        out(frames, Ip::new(four).wrap(UDP, &udp(four, dropped, &data)));
        out(frames, Ip::new(four).wrap(UDP, &udp(four, translated, &data)));
        out(frames, Ip::new(four).wrap(UDP, &udp_without_checksum(translated, &data)));
        if number % 3 == 0 {
            out(frames, Ip::new(six).wrap(UDP, &udp(six, dropped, &data)));
        }
    }
}

fn pings(frames: &mut Vec<Vec<u8>>) {
    for number in 0..16_u16 {
        let data = payload(usize::from(number), 56);
        let four = v4(number, SERVER);
        out(frames, Ip::new(four).wrap(ICMP, &icmp(four, 8, 0, [7, number], &data)));
        back(frames, Ip::new(four.back()).wrap(ICMP, &icmp(four, 0, 0, [7, number], &data)));
        let six = v6(number);
        out(frames, Ip::new(six).wrap(ICMP6, &icmp(six, 128, 0, [7, number], &data)));
        if number % 4 != 0 {
            let six = six.back();
            back(frames, Ip::new(six).wrap(ICMP6, &icmp(six, 129, 0, [7, number], &data)));
        }
    }
    // Port unreachable, with the start of the packet that was refused.
    let ends = v4(3, SERVER);
    let (_, refused) = Ip::new(ends).wrap(UDP, &udp(ends, (33000, DROPPED_PORT), &[]));
    let message = icmp(ends, 3, 3, [0, 0], &refused);
    back(frames, Ip { tos: 0xc0, ..Ip::new(ends.back()) }.wrap(ICMP, &message));
}

/// One tag, two tags, and a tag of priority only.
fn tagged(frames: &mut Vec<Vec<u8>>) {
    for number in 0..14_u16 {
        let (four, six) = (v4(number, PUBLIC), v6(number));
        let data = payload(usize::from(number), 40 + usize::from(number));
        let port = if number % 5 == 0 { DROPPED_PORT } else { PUBLIC_PORT };
        let contents = [
            Ip::new(four).wrap(TCP, &tcp(four, (41000, 443), (1, 1), PSH | ACK, &data)),
            Ip::new(four).wrap(UDP, &udp(four, (41000, port), &data)),
            Ip::new(six).wrap(UDP, &udp(six, (41000, port), &data)),
            Ip::new(four).wrap(ICMP, &icmp(four, 8, 0, [9, number], &data)),
            Ip::new(six).wrap(ICMP6, &icmp(six, 128, 0, [9, number], &data)),
            (ARP, arp(1, client(number), PUBLIC)),
        ];
        for (index, content) in contents.into_iter().enumerate() {
            match (usize::from(number) + index) % 3 {
                0 => out(frames, tag(VLAN, 100 + number, content)),
                1 => out(frames, tag(QINQ, 200, tag(VLAN, 100 + number, content))),
                _ => out(frames, tag(VLAN, 0xa000, content)),
            }
        }
    }
}

fn fragments(frames: &mut Vec<Vec<u8>>) {
    const PIECE: usize = 512;
    for number in 0..4_u16 {
        let ends = v4(number, PUBLIC);
        let whole = udp(ends, (42000, PUBLIC_PORT), &payload(usize::from(number), 1200));
        for (index, piece) in whole.chunks(PIECE).enumerate() {
            let offset = u16::try_from(index * PIECE / 8).expect("a short datagram");
            let more = if (index + 1) * PIECE < whole.len() { MORE_FRAGMENTS } else { 0 };
            let ip = Ip { id: 900 + number, fragment: offset | more, ..Ip::new(ends) };
            out(frames, ip.wrap(UDP, piece));
        }
        let ends = v6(number);
        let whole = udp(ends, (42000, DROPPED_PORT), &payload(usize::from(number), 900));
        for (index, piece) in whole.chunks(PIECE).enumerate() {
            let offset = u16::try_from(index * PIECE).expect("a short datagram");
            let more = u16::from((index + 1) * PIECE < whole.len());
            let mut part = vec![UDP, 0];
            part.extend((offset | more).to_be_bytes());
            part.extend(u32::from(number).to_be_bytes());
            part.extend(piece);
            out(frames, Ip::new(ends).wrap(FRAGMENT, &part));
        }
    }
}

/// IPv4 headers of every length from six to fifteen words.
fn options(frames: &mut Vec<Vec<u8>>) {
    for words in 1..=10_usize {
        let ends = v4(60, PUBLIC);
        // Router alert, then no-operations.
        let mut options = vec![148, 4, 0, 0];
        options.resize(words * 4, 1);
        let ip = Ip { options, ..Ip::new(ends) };
        let data = payload(words, 20);
        out(frames, ip.wrap(UDP, &udp(ends, (43000, PUBLIC_PORT), &data)));
        out(frames, ip.wrap(TCP, &tcp(ends, (43000, PUBLIC_PORT), (5, 6), ACK, &data)));
    }
}

/// Every small TTL and hop limit, and every DSCP class with both ECN bits in use.
fn lifetimes(frames: &mut Vec<Vec<u8>>) {
    for ttl in [0, 1, 2, 3, 127, 255] {
        for ends in [v4(61, SERVER), v6(61)] {
            let segment = tcp(ends, (44000, 443), (1, 2), ACK, &[]);
            out(frames, Ip { ttl, ..Ip::new(ends) }.wrap(TCP, &segment));
        }
    }
    for class in 0..8_u8 {
        let ends = v4(62, SERVER);
        let datagram = udp(ends, (44000, 6000), &payload(usize::from(class), 30));
        out(frames, Ip { tos: (class << 5) | (class % 4), ..Ip::new(ends) }.wrap(UDP, &datagram));
        // Already marked as the example marks it.
        out(frames, Ip { tos: (46 << 2) | (class % 4), ..Ip::new(ends) }.wrap(UDP, &datagram));
    }
}

/// The sizes at both ends of what Ethernet allows, and around the classes of an example.
fn sizes(frames: &mut Vec<Vec<u8>>) {
    let ends = v4(63, PUBLIC);
    for size in [60, 61, 63, 64, 65, 128, 255, 256, 257, 512, 1023, 1024, 1025, 1500, 1513, 1514] {
        let data = payload(size, size - 14 - 20 - 8);
        out(frames, Ip::new(ends).wrap(UDP, &udp(ends, (45000, PUBLIC_PORT), &data)));
    }
}

/// What a parser must survive: unknown protocols, wrong lengths and versions, cut headers.
fn oddities(frames: &mut Vec<Vec<u8>>) {
    let (four, six) = (v4(64, PUBLIC), v6(64));
    for protocol in [IGMP, GRE, SCTP, 253] {
        out(frames, Ip::new(four).wrap(protocol, &payload(usize::from(protocol), 32)));
        out(frames, Ip::new(six).wrap(protocol, &payload(usize::from(protocol), 32)));
    }
    // ICMPv6 in IPv4 and ICMP in IPv6 are neither.
    out(frames, Ip::new(four).wrap(ICMP6, &icmp(four, 128, 0, [1, 1], &[])));
    out(frames, Ip::new(six).wrap(ICMP, &icmp(six, 8, 0, [1, 1], &[])));
    // UDP behind a hop-by-hop header.
    let mut hop_by_hop = vec![UDP, 0, 5, 2, 0, 0, 1, 0];
    hop_by_hop.extend(udp(six, (46000, DROPPED_PORT), &[1, 2, 3]));
    out(frames, Ip::new(six).wrap(0, &hop_by_hop));

    let datagram = udp(four, (46000, PUBLIC_PORT), &payload(1, 40));
    let (_, good) = Ip::new(four).wrap(UDP, &datagram);
    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        *packet.get_mut(at).expect("inside the IPv4 header") = value;
        (IPV4, packet)
    };
    out(frames, with(0, 0x44)); // a header of four words
    out(frames, with(0, 0x55)); // version 5
    out(frames, with(0, 0x4f)); // fifteen words, which eat the UDP header
    out(frames, with(2, 0xff)); // a total length far beyond the frame
    out(frames, with(3, 10)); // a total length shorter than the header
    out(frames, with(10, 0)); // a wrong header checksum
    // A header of fifteen words in the shortest frame: the ports lie behind its end.
    let (_, mut short) = Ip::new(four).wrap(UDP, &[]);
    *short.first_mut().expect("a header") = 0x4f;
    out(frames, (IPV4, short));
    // A TCP header that ends in the middle; the padding is all that follows.
    let segment = tcp(four, (46000, PUBLIC_PORT), (1, 1), SYN, &[]);
    out(frames, Ip::new(four).wrap(TCP, segment.get(..10).expect("20 bytes of header")));
    // An EtherType of IPv6 on a packet of version 4.
    out(frames, (IPV6, good));
    // An 802.3 frame with a length, the old loopback test, link discovery. Only what tcpdump
    // prints in one line, so that its lines can be counted.
    out(frames, (46, payload(3, 46)));
    out(frames, (0x9000, payload(4, 100)));
    out(frames, (0x88cc, payload(5, 46)));
    // Tags without anything in them, and three of them.
    out(frames, (VLAN, vec![0, 5, 0, 0]));
    let (_, inner) = tag(VLAN, 3, (ARP, arp(1, client(64), PUBLIC)));
    out(frames, tag(QINQ, 1, tag(VLAN, 2, (VLAN, inner))));
    out(frames, tag(0x9100, 4, Ip::new(four).wrap(UDP, &datagram)));
}
