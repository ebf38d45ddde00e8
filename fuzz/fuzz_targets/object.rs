//! ELF objects.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| skep_object::fuzz::object_bytes(data));
