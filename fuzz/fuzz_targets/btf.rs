//! BTF bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_btf::fuzz::btf_bytes(data));
