//! Packets from the inside out: payload, transport header, network header, Ethernet, with
//! checksums computed here. All numbers are in host order until they are written.

/// Ethernet protocols.
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;
pub(super) const VLAN: u16 = 0x8100;
pub(super) const QINQ: u16 = 0x88a8;

/// IP protocols.
pub(super) const ICMP: u8 = 1;
pub(super) const IGMP: u8 = 2;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const FRAGMENT: u8 = 44;
pub(super) const GRE: u8 = 47;
pub(super) const ICMP6: u8 = 58;
pub(super) const SCTP: u8 = 132;

/// TCP flags.
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// The two stations. Neither is the address of a real interface, so a kernel that these frames
/// are replayed into does not answer them.
pub(super) const HERE: [u8; 6] = [0x02, 0x5e, 0, 0, 0, 1];
pub(super) const THERE: [u8; 6] = [0x02, 0x5e, 0, 0, 0, 2];
pub(super) const BROADCAST: [u8; 6] = [0xff; 6];

/// The shortest frame, without the frame check sequence; shorter ones are padded with zeros.
const SHORTEST: usize = 60;

/// Source and destination of a packet.
#[derive(Clone, Copy)]
pub(super) enum Ends {
    V4([u8; 4], [u8; 4]),
    V6([u16; 8], [u16; 8]),
}

impl Ends {
    pub(super) fn back(self) -> Self {
        match self {
            Self::V4(from, to) => Self::V4(to, from),
            Self::V6(from, to) => Self::V6(to, from),
        }
    }

    /// The pseudo header that a transport checksum covers.
    fn pseudo(self, protocol: u8, length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::V4(from, to) => {
                out.extend(from.iter().chain(&to));
                out.extend([0, protocol]);
                out.extend(u16_of(length).to_be_bytes());
            }
            Self::V6(from, to) => {
                out.extend(from.iter().chain(&to).flat_map(|word| word.to_be_bytes()));
                out.extend(u32::from(u16_of(length)).to_be_bytes());
                out.extend([0, 0, 0, protocol]);
            }
        }
        out
    }
}

/// The fields of an IP header that the scenes vary.
#[derive(Clone)]
pub(super) struct Ip {
    pub(super) ends: Ends,
    /// TTL, or hop limit.
    pub(super) ttl: u8,
    /// TOS, or traffic class.
    pub(super) tos: u8,
    pub(super) id: u16,
    /// Flags and offset of an IPv4 fragment, as they stand in the header.
    pub(super) fragment: u16,
    /// IPv4 options, a multiple of four bytes.
    pub(super) options: Vec<u8>,
}

impl Ip {
    pub(super) const fn new(ends: Ends) -> Self {
        Self { ends, ttl: 64, tos: 0, id: 0, fragment: 0, options: Vec::new() }
    }

    /// The header followed by `payload`, with the EtherType it needs.
    pub(super) fn wrap(&self, protocol: u8, payload: &[u8]) -> (u16, Vec<u8>) {
        match self.ends {
            Ends::V4(from, to) => {
                let words = u8::try_from(5 + self.options.len() / 4).expect("at most 15 words");
                let mut header = vec![0x40 | words, self.tos];
                let header_bytes = usize::from(words) * 4;
                header.extend(u16_of(header_bytes + payload.len()).to_be_bytes());
                header.extend(self.id.to_be_bytes());
                header.extend(self.fragment.to_be_bytes());
                header.extend([self.ttl, protocol, 0, 0]);
                header.extend(from.iter().chain(&to).chain(&self.options));
                let sum = checksum(&[&header]);
                put_u16(&mut header, 10, sum);
                header.extend(payload);
                (IPV4, header)
            }
            Ends::V6(from, to) => {
                let mut header = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
                header.extend(u16_of(payload.len()).to_be_bytes());
                header.extend([protocol, self.ttl]);
                header.extend(from.iter().chain(&to).flat_map(|word| word.to_be_bytes()));
                header.extend(payload);
                (IPV6, header)
            }
        }
    }
}

/// Source and destination port.
pub(super) type Ports = (u16, u16);

/// A TCP segment without options.
pub(super) fn tcp(
    ends: Ends,
    ports: Ports,
    (seq, ack): (u32, u32),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(ports.0.to_be_bytes());
    out.extend(ports.1.to_be_bytes());
    out.extend(seq.to_be_bytes());
    out.extend(ack.to_be_bytes());
    out.extend([0x50, flags]);
    out.extend(64240_u16.to_be_bytes());
    out.extend([0; 4]);
    out.extend(payload);
    let sum = checksum(&[&ends.pseudo(TCP, out.len()), &out]);
    put_u16(&mut out, 16, sum);
    out
}

/// A UDP datagram.
pub(super) fn udp(ends: Ends, ports: Ports, payload: &[u8]) -> Vec<u8> {
    let mut out = udp_without_checksum(ports, payload);
    let sum = checksum(&[&ends.pseudo(UDP, out.len()), &out]);
    // 0 would mean that there is no checksum.
    put_u16(&mut out, 6, if sum == 0 { 0xffff } else { sum });
    out
}

/// A UDP datagram with checksum 0, which IPv4 allows.
pub(super) fn udp_without_checksum(ports: Ports, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(ports.0.to_be_bytes());
    out.extend(ports.1.to_be_bytes());
    out.extend(u16_of(8 + payload.len()).to_be_bytes());
    out.extend([0; 2]);
    out.extend(payload);
    out
}

/// An ICMP message for either family.
pub(super) fn icmp(ends: Ends, kind: u8, code: u8, rest: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, code, 0, 0];
    out.extend(rest.iter().flat_map(|word| word.to_be_bytes()));
    out.extend(payload);
    let sum = match ends {
        Ends::V4(..) => checksum(&[&out]),
        Ends::V6(..) => checksum(&[&ends.pseudo(ICMP6, out.len()), &out]),
    };
    put_u16(&mut out, 2, sum);
    out
}

/// An ARP request (1) or reply (2).
pub(super) fn arp(operation: u16, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut out = vec![0, 1, 8, 0, 6, 4];
    out.extend(operation.to_be_bytes());
    out.extend(HERE);
    out.extend(from);
    out.extend(if operation == 1 { [0; 6] } else { THERE });
    out.extend(to);
    out
}

/// An Ethernet frame, padded to the shortest allowed.
pub(super) fn ethernet(to: [u8; 6], from: [u8; 6], (protocol, payload): (u16, Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(to);
    out.extend(from);
    out.extend(protocol.to_be_bytes());
    out.extend(payload);
    out.resize(out.len().max(SHORTEST), 0);
    out
}

/// A VLAN tag (or an outer one) around what an Ethernet frame would hold.
pub(super) fn tag(tpid: u16, vlan: u16, (protocol, payload): (u16, Vec<u8>)) -> (u16, Vec<u8>) {
    let mut out = Vec::new();
    out.extend(vlan.to_be_bytes());
    out.extend(protocol.to_be_bytes());
    out.extend(payload);
    (tpid, out)
}

/// The Internet checksum over the parts, which must all but the last have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            let high = pair.first().copied().unwrap_or(0);
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([high, low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16_of(sum as usize)
}

fn put_u16(bytes: &mut [u8], at: usize, value: u16) {
    let field = bytes.get_mut(at..at + 2).expect("the field is inside the header just built");
    field.copy_from_slice(&value.to_be_bytes());
}

fn u16_of(value: usize) -> u16 {
    u16::try_from(value).expect("lengths of frames fit in 16 bits")
}

/// Bytes that look like data: a fixed linear congruential sequence.
pub(super) fn payload(seed: usize, size: usize) -> Vec<u8> {
    let mut state =
        u32::try_from(seed).expect("a small seed").wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..size).map(|_| next()).collect()
}
