//! Helpers of programs on socket buffers.

use super::{Body, Call, Outcome, Stop, errno};
use crate::context::{ETH_HLEN, SkBuff};
use crate::maps::ENOTSUPP;
use crate::run::Run;

pub(super) const BODIES: &[(i32, Body)] = &[
    (9, store_bytes),
    (17, |run, call| run.skb(call).map(|_| 0)),
    (18, vlan_push),
    (19, vlan_pop),
    (24, |run, call| run.skb(call).map(|_| 0)),
    (26, load_bytes),
    (31, change_proto),
    (32, change_type),
    (34, |run, call| Ok(run.skb(call)?.hash())),
    (38, change_tail),
    (39, pull_data),
    (41, |run, call| set_hash(run, call, 0)),
    (43, change_head),
    (46, |_, _| Ok(0)),
    (47, |_, _| Ok(65534)),
    (48, |run, call| set_hash(run, call, call.args[1])),
    (50, adjust_room),
    (68, load_bytes_relative),
    (79, |run, call| run.skb(call).map(|_| 0)),
    (80, |_, _| Ok(1)),
];

/// Most bytes that a packet can grow to (`SKB_MAX_ALLOC` with 4 KiB pages).
const MAX_LEN: usize = 16384 - 320;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;
const VLAN_HLEN: usize = 4;

impl Run<'_> {
    /// The socket buffer, or the error that there is none.
    pub(super) fn skb(&mut self, call: &Call<'_>) -> Result<&mut SkBuff, Stop> {
        self.ctx.skb_mut().ok_or_else(|| call.wrong_type())
    }

    /// Zeros for `len` bytes of the program's memory that were checked as an argument.
    pub(super) fn zeros(&self, len: u64) -> Result<Vec<u8>, Stop> {
        let len = usize::try_from(len).ok().filter(|&n| n <= super::MAX_COPY);
        let broken = crate::error::Reason::Internal { what: "size of a copy" };
        Ok(vec![0; len.ok_or(broken)?])
    }
}

/// The low 32 bits as a length or offset.
#[expect(clippy::cast_possible_truncation, reason = "the kernel takes the low 32 bits")]
fn length(v: u64) -> usize {
    v as u32 as usize
}

/// An offset the kernel would take: not negative as 32 bits.
fn offset(v: u64) -> Option<usize> {
    usize::try_from(v & 0xffff_ffff).ok().filter(|&off| off <= i32::MAX as usize)
}

fn store_bytes(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    /// `BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH`
    const KNOWN: u64 = 1 | 2;
    let [_, off, from, len, flags] = call.args;
    if flags & !KNOWN != 0 {
        return Ok(errno(libc::EINVAL));
    }
    let bytes = run.bytes(from, len)?;
    let skb = run.skb(call)?;
    let stored = offset(off).is_some_and(|off| skb.packet.write(off, &bytes));
    if stored && flags & 2 != 0 {
        skb.set_field("hash", 0);
    }
    Ok(if stored { 0 } else { errno(libc::EFAULT) })
}

/// Copies out what `read` finds; zeros where it finds nothing.
fn load_with(
    run: &mut Run<'_>,
    call: &Call<'_>,
    to: u64,
    len: u64,
    read: impl FnOnce(&SkBuff, &mut [u8]) -> bool,
) -> Outcome {
    let mut bytes = run.zeros(len)?;
    let read = read(run.skb(call)?, &mut bytes);
    if !read {
        bytes.fill(0);
    }
    run.write(to, &bytes)?;
    Ok(if read { 0 } else { errno(libc::EFAULT) })
}

fn load_bytes(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, off, to, len, _] = call.args;
    load_with(run, call, to, len, |skb, out| {
        offset(off).is_some_and(|off| skb.packet.read(off, out))
    })
}

/// `bpf_skb_load_bytes_relative`: from the link-layer (0) or network header (1).
fn load_bytes_relative(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, off, to, len, start] = call.args;
    let off = offset(off).filter(|&off| off <= 0xffff);
    let from_link = match start {
        0 => off,
        1 => off.map(|off| off + ETH_HLEN),
        _ => None,
    };
    load_with(run, call, to, len, |skb, out| from_link.is_some_and(|off| skb.read_frame(off, out)))
}

fn pull_data(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let len = length(call.args[1]);
    let skb = run.skb(call)?;
    // The packet is always in one piece.
    let there = len <= skb.packet.len();
    run.packet_changed()?;
    Ok(if there { 0 } else { errno(libc::ENOMEM) })
}

fn set_hash(run: &mut Run<'_>, call: &Call<'_>, hash: u64) -> Outcome {
    run.skb(call)?.set_field("hash", hash);
    Ok(0)
}

fn change_type(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let t = call.args[1] & 0xffff_ffff;
    let skb = run.skb(call)?;
    if t > 3 {
        return Ok(errno(libc::EINVAL));
    }
    skb.set_field("pkt_type", t);
    Ok(0)
}

fn is_vlan(proto: u16) -> bool {
    matches!(proto, ETH_P_8021Q | ETH_P_8021AD)
}

impl SkBuff {
    /// The protocol in host order.
    fn protocol(&self) -> u16 {
        let be = self.field("protocol").unwrap_or_default().to_le_bytes();
        u16::from_be_bytes([be[0], be[1]])
    }

    fn set_protocol(&mut self, proto: u16) {
        self.set_field("protocol", u16::from_le_bytes(proto.to_be_bytes()).into());
    }

    fn set_tag(&mut self, proto: u16, tci: u16) {
        self.set_field("vlan_present", 1);
        self.set_field("vlan_tci", tci.into());
        self.set_field("vlan_proto", u16::from_le_bytes(proto.to_be_bytes()).into());
    }

    /// Protocol and control information of the tag kept outside of the packet.
    fn tag(&self) -> Option<(u16, u16)> {
        if self.field("vlan_present") != Some(1) {
            return None;
        }
        let number = |name| self.field(name).and_then(|v| u16::try_from(v).ok());
        Some((u16::from_be_bytes(number("vlan_proto")?.to_le_bytes()), number("vlan_tci")?))
    }

    fn clear_tag(&mut self) {
        for name in ["vlan_present", "vlan_tci", "vlan_proto"] {
            self.set_field(name, 0);
        }
    }

    /// Writes a tag into the packet, behind the addresses.
    fn insert_tag(&mut self, proto: u16, tci: u16) -> bool {
        let [p0, p1] = proto.to_be_bytes();
        let [t0, t1] = tci.to_be_bytes();
        let at = ETH_HLEN - 2;
        let done = self.packet.splice(at, 0, VLAN_HLEN) && self.packet.write(at, &[p0, p1, t0, t1]);
        self.resized();
        done
    }

    /// Takes the tag out of the packet and returns its control information.
    fn remove_tag(&mut self) -> Option<u16> {
        let mut tag = [0; 6];
        if !self.packet.read(ETH_HLEN - 2, &mut tag) {
            return None;
        }
        let [_, _, t0, t1, e0, e1] = tag;
        if !self.packet.splice(ETH_HLEN - 2, VLAN_HLEN, 0) {
            return None;
        }
        self.resized();
        self.set_protocol(u16::from_be_bytes([e0, e1]));
        Some(u16::from_be_bytes([t0, t1]))
    }

    /// The frame as it would leave on a wire: with the tag that is kept outside of the packet.
    pub fn wire_packet(&self) -> Vec<u8> {
        let mut frame = self.packet();
        if let (Some((proto, tci)), true) = (self.tag(), frame.len() >= ETH_HLEN) {
            let [p0, p1] = proto.to_be_bytes();
            let [t0, t1] = tci.to_be_bytes();
            frame.splice(ETH_HLEN - 2..ETH_HLEN - 2, [p0, p1, t0, t1]);
        }
        frame
    }

    /// Moves the outermost tag out of the packet, as the kernel does before TC sees it.
    pub fn untag(&mut self) {
        if self.tag().is_none() && is_vlan(self.protocol()) {
            let proto = self.protocol();
            if let Some(tci) = self.remove_tag() {
                self.set_tag(proto, tci);
            }
        }
    }

    /// The hash of the flow: the field, or where it is 0 a value computed from the addresses,
    /// ports and protocol. Another number than the kernel's, whose hash has a secret.
    fn hash(&mut self) -> u64 {
        let known = self.field("hash").unwrap_or_default();
        if known != 0 {
            return known;
        }
        // Where addresses and ports lie, behind the longest IPv4 header too.
        let mut frame = vec![0; (self.pulled.len() + self.packet.len()).min(ETH_HLEN + 64)];
        let whole = self.read_frame(0, &mut frame);
        debug_assert!(whole, "it is no longer than the packet");
        let part = |range: std::ops::Range<usize>| frame.get(range).unwrap_or_default();
        let parts = match self.protocol() {
            ETH_P_IP => {
                let header = part(14..15).first().map_or(20, |b| usize::from(b & 15) * 4);
                let ports = ETH_HLEN + header;
                [part(26..34), part(23..24), part(ports..ports + 4)]
            }
            ETH_P_IPV6 => [part(22..54), part(20..21), part(54..58)],
            _ => [part(0..14), &[], &[]],
        };
        let mix = |h: u32, b: &u8| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193);
        let hash = parts.into_iter().flatten().fold(0x811c_9dc5, mix).max(1);
        self.set_field("hash", hash.into());
        hash.into()
    }
}

fn vlan_push(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, proto, tci, ..] = call.args;
    let low = |v: u64| u16::from_le_bytes([v.to_le_bytes()[0], v.to_le_bytes()[1]]);
    let proto = u16::from_be_bytes(low(proto).to_le_bytes());
    let proto = if is_vlan(proto) { proto } else { ETH_P_8021Q };
    let skb = run.skb(call)?;
    if let Some((old_proto, old_tci)) = skb.tag() {
        if !skb.insert_tag(old_proto, old_tci) {
            return Ok(errno(libc::ENOMEM));
        }
        skb.set_protocol(old_proto);
    }
    skb.set_tag(proto, low(tci));
    run.packet_changed()?;
    Ok(0)
}

fn vlan_pop(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let skb = run.skb(call)?;
    if skb.tag().is_some() {
        skb.clear_tag();
    } else if !is_vlan(skb.protocol()) {
        return Ok(0);
    } else if skb.remove_tag().is_none() {
        return Ok(errno(libc::ENOMEM));
    }
    skb.untag(); // the next tag takes its place
    run.packet_changed()?;
    Ok(0)
}

/// `bpf_skb_change_proto`: makes or removes room between an IPv4 and an IPv6 header.
fn change_proto(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, proto, flags, ..] = call.args;
    if flags != 0 {
        return Ok(errno(libc::EINVAL));
    }
    let bytes = proto.to_le_bytes();
    let to = u16::from_be_bytes([bytes[0], bytes[1]]);
    let skb = run.skb(call)?;
    let at = ETH_HLEN - skb.pulled.len();
    let done = match (skb.protocol(), to) {
        (ETH_P_IP, ETH_P_IPV6) => skb.packet.splice(at, 0, 20),
        (ETH_P_IPV6, ETH_P_IP) => skb.packet.splice(at, 20, 0),
        _ => return Ok(errno(ENOTSUPP)),
    };
    if !done {
        return Ok(errno(libc::ENOMEM));
    }
    skb.set_protocol(to);
    skb.set_field("hash", 0);
    skb.resized();
    run.packet_changed()?;
    Ok(0)
}

fn change_tail(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, new_len, flags, ..] = call.args;
    let new_len = length(new_len);
    let skb = run.skb(call)?;
    let shortest = ETH_HLEN - skb.pulled.len();
    if flags != 0 || new_len > MAX_LEN || new_len < shortest {
        return Ok(errno(libc::EINVAL));
    }
    let mut bytes = skb.packet.bytes();
    bytes.resize(new_len, 0);
    skb.packet.replace(&bytes);
    skb.resized();
    run.packet_changed()?;
    Ok(0)
}

fn change_head(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, room, flags, ..] = call.args;
    let room = length(room);
    let skb = run.skb(call)?;
    if flags != 0 || skb.packet.len().saturating_add(room) > MAX_LEN {
        return Ok(errno(libc::EINVAL));
    }
    if !skb.packet.splice(0, 0, room) {
        return Ok(errno(libc::ENOMEM));
    }
    skb.resized();
    run.packet_changed()?;
    Ok(0)
}

/// `bpf_skb_adjust_room`: makes or removes room behind the link-layer header (mode 1) or behind
/// the network header (mode 0).
fn adjust_room(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, diff, mode, flags, _] = call.args;
    #[expect(clippy::cast_possible_truncation, reason = "the kernel takes the low 32 bits")]
    let diff = (diff as u32).cast_signed();
    let amount = diff.unsigned_abs() as usize;
    /// Every `BPF_F_ADJ_ROOM_*`, with the length of an encapsulated link-layer header.
    const KNOWN: u64 = 0x1ff | 0xff << 56;
    if flags & !KNOWN != 0 {
        return Ok(errno(libc::EINVAL));
    }
    if amount > 0xfff {
        return Ok(errno(libc::EFAULT));
    }
    let skb = run.skb(call)?;
    let header = match skb.protocol() {
        ETH_P_IP => 20,
        ETH_P_IPV6 => 40,
        _ => return Ok(errno(ENOTSUPP)),
    };
    let network = ETH_HLEN - skb.pulled.len();
    let at = match mode {
        0 => network + header,
        1 => network,
        _ => return Ok(errno(ENOTSUPP)),
    };
    let rest = skb.packet.len().saturating_sub(network);
    let fits = if diff < 0 {
        amount < rest && rest - amount >= header
    } else {
        skb.packet.len() + amount <= MAX_LEN
    };
    if !fits {
        return Ok(errno(ENOTSUPP));
    }
    let (remove, insert) = if diff < 0 { (amount, 0) } else { (0, amount) };
    if !skb.packet.splice(at, remove, insert) {
        return Ok(errno(libc::ENOMEM));
    }
    skb.resized();
    run.packet_changed()?;
    Ok(0)
}
