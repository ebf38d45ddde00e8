//! Packets: captures to read and write, copies from an interface, programs run on frames.
//!
//! A capture through a program, and what it lets pass into another:
//!
//! ```
//! use skep::{Engine, Object, packets::*, verdict};
//!
//! # const BYTES: &[u8] = include_bytes!("../../../examples/rewrite.bpf.o");
//! # const CAPTURE: &[u8] = include_bytes!("../../../examples/traffic.pcap");
//! let loaded = Object::parse("rewrite.bpf.o", BYTES)?.load(&Engine::embedded())?;
//! let program = loaded.program("rewrite")?;
//! let mut passed = PcapWriter::new(Vec::new())?; // or a file
//! let mut capture = PcapReader::new(CAPTURE)?; // or a file; pcap or pcapng
//! while let Some(packet) = capture.next_packet()? {
//!     let run = program.run_on_frame(packet.data)?;
//!     if verdict::passes(program.prog_type(), run.retval) {
//!         let original_len = u32::try_from(run.data.len())?;
//!         let time_ns = packet.time_ns;
//!         passed.write(&CapturedPacket { data: &run.data, original_len, time_ns })?;
//!     }
//! }
//! let file = passed.finish()?;
//! # let mut again = PcapReader::new(file.as_slice())?;
//! # let mut count = 0;
//! # while again.next_packet()?.is_some() {
//! #     count += 1;
//! # }
//! # assert_eq!(count, 730);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use skep_abi::ProgType;
pub use skep_vm::hooks::{
    af_packet::{AfPacket, LivePacket},
    pcap::{CapturedPacket, PcapError, PcapReader, PcapWriter},
};

use crate::{Program, RunError, TestInput, TestRun};

/// Bytes of an Ethernet header; both engines refuse to run on less.
pub const ETHERNET_HEADER: usize = 14;

impl Program {
    /// Runs a packet program on an Ethernet frame, as its hook would hand it over.
    ///
    /// This is [`Program::test_run`] except for socket filters: there a test run hides the Ethernet
    /// header from the program, while on the packet socket that filters are written for it is the
    /// beginning of the packet, and so it is here.
    ///
    /// On both engines a VLAN tag of the frame stays in the packet. On an interface the kernel
    /// takes it out before TC programs and socket filters, which find it in `skb->vlan_tci`.
    ///
    /// # Errors
    ///
    /// As [`Program::test_run`].
    pub fn run_on_frame(&self, frame: &[u8]) -> Result<TestRun, RunError> {
        if self.prog_type() != ProgType::SOCKET_FILTER {
            return self.test_run(TestInput::packet(frame));
        }
        // A second header in front is the one that gets hidden.
        let header = frame.get(..ETHERNET_HEADER).unwrap_or(frame);
        let mut run = self.test_run(TestInput::packet(&[header, frame].concat()))?;
        run.data.drain(..header.len().min(run.data.len()));
        Ok(run)
    }
}
