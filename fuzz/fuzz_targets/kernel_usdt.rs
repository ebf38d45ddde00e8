//! Binaries with static probes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_kernel::fuzz::usdt_bytes(data));
