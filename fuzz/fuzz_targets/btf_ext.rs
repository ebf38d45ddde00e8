//! BTF with BTF.ext bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_btf::fuzz::btf_ext_bytes(data));
