//! The context of programs on socket buffers.

use skep_abi::ProgType;
use skep_abi::context::{self, Layout};

use super::{Fields, Packet};

/// Bytes of an Ethernet header.
pub(crate) const ETH_HLEN: usize = 14;

/// `PACKET_BROADCAST`
const BROADCAST: u64 = 1;
/// `PACKET_MULTICAST`
const MULTICAST: u64 = 2;
/// `PACKET_OTHERHOST`
const OTHERHOST: u64 = 3;
/// Where `cb` lies in `struct __sk_buff`.
const CB: std::ops::Range<usize> = 48..68;

/// A socket buffer and its `struct __sk_buff`.
#[derive(Debug)]
pub struct SkBuff {
    pub(crate) fields: Fields,
    pub(crate) packet: Packet,
    /// Bytes in front of `data` that belong to the link-layer header.
    pub(crate) pulled: Vec<u8>,
    prog_type: ProgType,
}

impl SkBuff {
    /// An Ethernet frame as a program of this type sees it: from the link-layer header on.
    ///
    /// Types without a layout of their own get that of TC.
    pub fn new(prog_type: ProgType, frame: &[u8]) -> Self {
        let layout = layout(prog_type);
        let mut skb = Self {
            fields: Fields::new(layout),
            packet: Packet::new(&[]),
            pulled: Vec::new(),
            prog_type,
        };
        skb.fields.set("ifindex", 1);
        skb.fields.set("ingress_ifindex", 1);
        skb.set_packet(frame);
        skb
    }

    /// Sets the interface.
    #[must_use]
    pub fn with_ifindex(self, ifindex: u32) -> Self {
        self.fields.set("ifindex", ifindex.into());
        self.fields.set("ingress_ifindex", ifindex.into());
        self
    }

    /// The next frame, in the same memory. Fields that belong to a packet start anew.
    pub fn set_packet(&mut self, frame: &[u8]) {
        self.packet.load(frame);
        self.pulled.clear();
        for name in PER_PACKET {
            self.fields.set(name, 0);
        }
        for off in CB {
            self.fields.set_bytes(off as u64, 1, 0);
        }
        self.fields.set("len", frame.len() as u64);
        self.fields.set("wire_len", frame.len() as u64);
        let mut to = [0; 6];
        if self.packet.read(0, &mut to) && to[0] & 1 != 0 {
            self.fields.set("pkt_type", if to == [0xff; 6] { BROADCAST } else { MULTICAST });
        }
        let mut ethertype = [0; 2];
        if self.packet.read(ETH_HLEN - 2, &mut ethertype) {
            self.fields.set("protocol", u16::from_le_bytes(ethertype).into());
        }
    }

    /// Hides the link-layer header, for programs that start at the network layer.
    pub(crate) fn pull_link_layer(&mut self) {
        let len = ETH_HLEN.min(self.packet.len());
        let mut header = vec![0; len];
        if self.packet.read(0, &mut header) {
            self.packet.data += len;
            self.packet.meta = self.packet.data;
            self.pulled = header;
            self.resized();
        }
    }

    /// The frame as it is now, link-layer header included.
    pub fn packet(&self) -> Vec<u8> {
        let mut frame = self.pulled.clone();
        frame.extend(self.packet.bytes());
        frame
    }

    /// The number in a field of `struct __sk_buff`; `None` when there is none of that name.
    pub fn field(&self, name: &str) -> Option<u64> {
        self.fields.layout.field(name)?;
        Some(self.fields.get(name))
    }

    /// Sets a field of `struct __sk_buff`; false when there is none of that name.
    pub fn set_field(&mut self, name: &str, v: u64) -> bool {
        let known = self.fields.layout.field(name).is_some_and(|f| f.size <= 8);
        if known {
            self.fields.set(name, v);
        }
        known
    }

    /// Takes the fields of these names from a structure, which may be cut short.
    pub(crate) fn take_fields(&mut self, ctx: &[u8], names: &[&str]) {
        for field in names.iter().filter_map(|name| self.fields.layout.field(name)) {
            let (off, size) = (field.off as usize, field.size as usize);
            let mut bytes = [0; 8];
            for (to, from) in bytes.iter_mut().take(size).zip(ctx.iter().skip(off)) {
                *to = *from;
            }
            self.fields.set_bytes(off as u64, size as u64, u64::from_le_bytes(bytes));
        }
        let cb: Vec<u8> = ctx.iter().skip(CB.start).take(CB.len()).copied().collect();
        for (off, &b) in (CB.start as u64..).zip(&cb) {
            self.fields.set_bytes(off, 1, b.into());
        }
    }

    /// Sets `pkt_type` as the loopback interface would, whose address is zero.
    pub(crate) fn addressed_to_loopback(&mut self) {
        let mut to = [0; 6];
        if self.packet.read(0, &mut to) && to[0] & 1 == 0 && to != [0; 6] {
            self.fields.set("pkt_type", OTHERHOST);
        }
    }

    /// `struct __sk_buff` as a system call returns it.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.fields.image()
    }

    /// Brings `len` up to date after the packet changed its size.
    pub(crate) fn resized(&mut self) {
        self.fields.set("len", self.packet.len() as u64);
    }

    /// May programs access the packet directly, and may they write?
    pub(crate) fn direct_access(&self) -> Option<bool> {
        let layout = self.fields.layout;
        let writes = matches!(self.prog_type, ProgType::SCHED_CLS | ProgType::SCHED_ACT)
            || matches!(self.prog_type, ProgType::SK_SKB | ProgType::LWT_XMIT);
        (!layout.is_hidden("data")).then_some(writes)
    }

    /// A legacy packet load: offsets below 0 count from the network or link-layer header.
    pub(crate) fn read_legacy(&self, off: i32, out: &mut [u8]) -> bool {
        const NET: i32 = -0x10_0000;
        const LINK: i32 = -0x20_0000;
        let after = |base: i32| usize::try_from(off - base).unwrap_or(usize::MAX);
        match off {
            0.. => usize::try_from(off).is_ok_and(|off| self.packet.read(off, out)),
            NET.. => self.read_frame(after(NET).saturating_add(ETH_HLEN), out),
            LINK.. => self.read_frame(after(LINK), out),
            _ => false,
        }
    }

    /// Reads at an offset from the link-layer header, which may lie in front of the packet.
    pub(crate) fn read_frame(&self, off: usize, out: &mut [u8]) -> bool {
        let hidden = self.pulled.get(off..).unwrap_or_default();
        let (front, back) = out.split_at_mut(hidden.len().min(out.len()));
        front.iter_mut().zip(hidden).for_each(|(to, from)| *to = *from);
        let rest = (off + front.len()).saturating_sub(self.pulled.len());
        back.is_empty() || self.packet.read(rest, back)
    }
}

/// Fields that start at 0 with each packet.
const PER_PACKET: &[&str] = &[
    "pkt_type",
    "mark",
    "queue_mapping",
    "protocol",
    "vlan_present",
    "vlan_tci",
    "vlan_proto",
    "priority",
    "tc_index",
    "hash",
    "tc_classid",
    "tstamp",
    "gso_segs",
    "gso_size",
];

fn layout(prog_type: ProgType) -> &'static Layout {
    context::layout(prog_type)
        .filter(|l| l.name == "__sk_buff")
        .or_else(|| context::layout(ProgType::SCHED_CLS))
        .expect("the table has TC")
}
