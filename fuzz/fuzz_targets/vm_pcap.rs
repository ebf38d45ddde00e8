//! Packet files.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_vm::fuzz::pcap_bytes(data));
