//! What a fuzzer does with bytes: a plain function, so that tests run it too.
//!
//! Whatever the bytes: no panic, time and memory in proportion to them.

use crate::link::{
    PerfEvent,
    usdt::{Arch, Notes, Usdt, parse_args},
};

/// Reads the bytes as a binary with static probes, and as what users and notes spell: arguments,
/// probes, perf events.
pub fn usdt_bytes(bytes: &[u8]) {
    const ARCHS: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];
    if let Ok(text) = str::from_utf8(bytes) {
        ARCHS.iter().for_each(|&arch| drop(parse_args(arch, text)));
        let _ = Usdt::parse(text);
        drop(PerfEvent::parse(text).map(|event| event.to_string()));
    }
    let Ok(notes) = Notes::parse(bytes) else { return };
    for note in &notes.probes {
        ARCHS.iter().for_each(|&arch| drop(parse_args(arch, &note.args)));
        let _ = (notes.code_offset(note.address), notes.data_offset(note.semaphore));
    }
}
