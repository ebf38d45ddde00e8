//! Programs with maps in the embedded engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_vm::fuzz::run_bytes(data));
