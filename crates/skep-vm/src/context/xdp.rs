//! The context of XDP programs.

use skep_abi::ProgType;
use skep_abi::context;

use super::{Fields, Packet};

/// An XDP packet and its `struct xdp_md`.
#[derive(Debug)]
pub struct Xdp {
    pub(crate) fields: Fields,
    pub(crate) packet: Packet,
}

impl Xdp {
    /// A packet that came in on interface 1, queue 0.
    pub fn new(packet: &[u8]) -> Self {
        let layout = context::layout(ProgType::XDP).expect("the table has XDP");
        let xdp = Self { fields: Fields::new(layout), packet: Packet::new(packet) };
        xdp.fields.set("ingress_ifindex", 1);
        xdp
    }

    /// Sets where the packet came in.
    #[must_use]
    pub fn with_ingress(self, ifindex: u32, queue: u32) -> Self {
        self.fields.set("ingress_ifindex", ifindex.into());
        self.fields.set("rx_queue_index", queue.into());
        self
    }

    /// The next packet, in the same memory.
    pub fn set_packet(&mut self, packet: &[u8]) {
        self.packet.load(packet);
    }

    /// The packet as it is now.
    pub fn packet(&self) -> Vec<u8> {
        self.packet.bytes()
    }

    /// Index of the interface the packet came in on.
    pub fn ingress_ifindex(&self) -> u32 {
        u32::try_from(self.fields.get("ingress_ifindex")).unwrap_or_default()
    }
}
