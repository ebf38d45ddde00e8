//! Where packets come from and go to.

pub mod af_packet;
pub mod pcap;
mod pcapng;
