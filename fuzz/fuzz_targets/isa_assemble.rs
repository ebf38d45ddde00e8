//! Assembly text.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| skep_isa::fuzz::assemble_text(text));
