//! Context layouts: the structure `r1` points to at entry, field by field.
//!
//! The layout is the one of user space (`include/uapi/linux/bpf.h`). What a field really is may
//! be wider: `xdp_md.data` is 32 bits here and yields a 64-bit pointer. [`Kind`] says so.

use crate::ProgType;

/// What reading a field yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A number.
    Scalar,
    /// A number of which 16 bits are kept when it is written.
    Scalar16,
    /// As [`Kind::Scalar16`], and a write of 65535 or more changes nothing.
    Queue,
    /// Address of the packet's first byte, in a 32-bit field.
    PacketData,
    /// Address behind the packet's last byte, in a 32-bit field.
    PacketEnd,
    /// Address of the metadata in front of the packet, in a 32-bit field.
    PacketMeta,
    /// Address of another structure, in a 64-bit field.
    Pointer,
}

/// One field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name in the kernel's header.
    pub name: &'static str,
    /// Byte offset.
    pub off: u32,
    /// Bytes.
    pub size: u32,
    /// What reading it yields.
    pub kind: Kind,
}

/// A context structure as one program type sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Name in the kernel's header.
    pub name: &'static str,
    /// Bytes.
    pub size: u32,
    /// Fields by offset.
    pub fields: &'static [Field],
    /// Fields that this program type must not touch, in groups.
    pub hidden: &'static [&'static [&'static str]],
    /// Fields that this program type may write.
    pub writable: &'static [&'static str],
    /// May a part of a number be read?
    pub narrow: bool,
}

impl Layout {
    /// The field that contains the byte at `off`, unless this program type must not touch it.
    pub fn field_at(&self, off: u32) -> Option<&'static Field> {
        let behind = self.fields.partition_point(|f| f.off <= off);
        let field = self.fields.get(behind.checked_sub(1)?)?;
        let inside = off - field.off < field.size;
        (inside && !self.is_hidden(field.name)).then_some(field)
    }

    /// Must this program type keep away from the field of this name?
    pub fn is_hidden(&self, name: &str) -> bool {
        self.hidden.iter().any(|group| group.contains(&name))
    }

    /// The field of this name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// May this program type write the field?
    pub fn may_write(&self, field: &Field) -> bool {
        self.writable.contains(&field.name)
    }
}

macro_rules! fields {
    ($( $off:literal $name:ident: $size:literal $kind:ident; )+) => {
        &[$( Field { name: stringify!($name), off: $off, size: $size, kind: Kind::$kind }, )+]
    };
}

/// `struct xdp_md`.
const XDP_MD: &[Field] = fields! {
    0 data: 4 PacketData;
    4 data_end: 4 PacketEnd;
    8 data_meta: 4 PacketMeta;
    12 ingress_ifindex: 4 Scalar;
    16 rx_queue_index: 4 Scalar;
    20 egress_ifindex: 4 Scalar;
};

/// `struct __sk_buff`. `cb` is one field of 20 bytes.
const SK_BUFF: &[Field] = fields! {
    0 len: 4 Scalar;
    4 pkt_type: 4 Scalar;
    8 mark: 4 Scalar;
    12 queue_mapping: 4 Queue;
    16 protocol: 4 Scalar;
    20 vlan_present: 4 Scalar;
    24 vlan_tci: 4 Scalar;
    28 vlan_proto: 4 Scalar;
    32 priority: 4 Scalar;
    36 ingress_ifindex: 4 Scalar;
    40 ifindex: 4 Scalar;
    44 tc_index: 4 Scalar16;
    48 cb: 20 Scalar;
    68 hash: 4 Scalar;
    72 tc_classid: 4 Scalar16;
    76 data: 4 PacketData;
    80 data_end: 4 PacketEnd;
    84 napi_id: 4 Scalar;
    88 family: 4 Scalar;
    92 remote_ip4: 4 Scalar;
    96 local_ip4: 4 Scalar;
    100 remote_ip6: 16 Scalar;
    116 local_ip6: 16 Scalar;
    132 remote_port: 4 Scalar;
    136 local_port: 4 Scalar;
    140 data_meta: 4 PacketMeta;
    144 flow_keys: 8 Pointer;
    152 tstamp: 8 Scalar;
    160 wire_len: 4 Scalar;
    164 gso_segs: 4 Scalar;
    168 sk: 8 Pointer;
    176 gso_size: 4 Scalar;
    180 tstamp_type: 1 Scalar;
    184 hwtstamp: 8 Scalar;
};

/// Bytes of `struct __sk_buff`.
pub const SK_BUFF_SIZE: u32 = 192;
/// Bytes of `struct xdp_md`.
pub const XDP_MD_SIZE: u32 = 24;

const SOCKET: &[&str] =
    &["family", "remote_ip4", "local_ip4", "remote_ip6", "local_ip6", "remote_port", "local_port"];

const XDP: Layout = Layout {
    name: "xdp_md",
    size: XDP_MD_SIZE,
    fields: XDP_MD,
    hidden: &[],
    writable: &[],
    narrow: false,
};

const SOCKET_FILTER: Layout = Layout {
    name: "__sk_buff",
    size: SK_BUFF_SIZE,
    fields: SK_BUFF,
    hidden: &[
        SOCKET,
        &[
            "tc_classid",
            "data",
            "data_end",
            "data_meta",
            "flow_keys",
            "tstamp",
            "wire_len",
            "hwtstamp",
        ],
    ],
    writable: &["cb"],
    narrow: true,
};

const SCHED: Layout = Layout {
    hidden: &[SOCKET, &["flow_keys"]],
    writable: &["mark", "tc_index", "priority", "cb", "tc_classid", "queue_mapping", "tstamp"],
    ..SOCKET_FILTER
};

const CGROUP_SKB: Layout = Layout {
    hidden: &[&["tc_classid", "data_meta", "flow_keys", "wire_len"]],
    writable: &["mark", "priority", "cb", "tstamp"],
    ..SOCKET_FILTER
};

const LWT: Layout = Layout {
    hidden: &[SOCKET, &["tc_classid", "data_meta", "flow_keys", "tstamp", "wire_len", "hwtstamp"]],
    writable: &["mark", "priority", "cb"],
    ..SOCKET_FILTER
};

const SK_SKB: Layout = Layout {
    hidden: &[&["mark", "tc_classid", "data_meta", "flow_keys", "tstamp", "wire_len", "hwtstamp"]],
    writable: &["tc_index", "priority"],
    ..SOCKET_FILTER
};

/// Every program type that has a layout here. Types whose context is plain memory (raw
/// tracepoints, tracepoints, syscall programs) have none.
pub const LAYOUTS: &[(ProgType, Layout)] = &[
    (ProgType::SOCKET_FILTER, SOCKET_FILTER),
    (ProgType::SCHED_CLS, SCHED),
    (ProgType::SCHED_ACT, SCHED),
    (ProgType::XDP, XDP),
    (ProgType::CGROUP_SKB, CGROUP_SKB),
    (ProgType::LWT_IN, LWT),
    (ProgType::LWT_OUT, LWT),
    (ProgType::LWT_XMIT, LWT),
    (ProgType::LWT_SEG6LOCAL, LWT),
    (ProgType::SK_SKB, SK_SKB),
];

/// The layout of a program type's context.
pub fn layout(prog_type: ProgType) -> Option<&'static Layout> {
    LAYOUTS.iter().find(|(t, _)| *t == prog_type).map(|(_, layout)| layout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_in_order_and_inside() {
        for (t, layout) in LAYOUTS {
            let mut end = 0;
            for f in layout.fields {
                assert!(f.off >= end, "{t}: {}", f.name);
                end = f.off + f.size;
                assert!(end <= layout.size, "{t}: {}", f.name);
            }
            for name in layout.hidden.iter().copied().flatten().chain(layout.writable) {
                assert!(layout.field(name).is_some(), "{t}: {name}");
            }
            for name in layout.writable {
                assert!(!layout.is_hidden(name), "{t}: {name}");
            }
        }
    }

    #[test]
    fn fields_are_found_by_any_of_their_bytes() {
        let xdp = layout(ProgType::XDP).unwrap();
        assert_eq!(xdp.field_at(7).map(|f| f.name), Some("data_end"));
        assert_eq!(xdp.field_at(24), None);
        let tc = layout(ProgType::SCHED_CLS).unwrap();
        assert_eq!(tc.field_at(67).map(|f| f.name), Some("cb"));
        assert_eq!(tc.field_at(88), None, "socket fields are hidden");
        assert_eq!(tc.field_at(181), None, "padding");
    }
}
