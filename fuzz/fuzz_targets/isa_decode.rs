//! Instruction bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_isa::fuzz::decode_bytes(data));
