//! The same program and the same input on this engine and in the kernel must give the same.

mod alu;
mod helpers;
mod objects;

use std::sync::Arc;

use skep_abi::ProgType;
use skep_isa::Slot;
use skep_kernel::{ProgramLoad, TestRunOptions};
use skep_vm::{Program, Settings};

/// `BPF_F_SLEEPABLE`, which syscall programs must have.
const SLEEPABLE: u32 = 1 << 4;

/// A small generator of repeatable numbers.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 16) % n
    }

    /// A number that likes to be at an edge.
    fn edgy(&mut self) -> u64 {
        match self.below(6) {
            0 => self.below(4),
            1 => (self.below(4)).wrapping_neg(),
            2 => 1_u64 << self.below(64),
            3 => (1_u64 << self.below(64)).wrapping_sub(1),
            _ => self.next(),
        }
    }
}

/// What a run shows to the outside.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    retval: u32,
    data: Vec<u8>,
    ctx: Vec<u8>,
}

/// Runs on the embedded engine.
fn embedded(prog_type: ProgType, slots: &[Slot], data: &[u8], ctx: &[u8]) -> Result<Seen, String> {
    let settings = Arc::new(Settings::default());
    let program =
        Program::from_slots("test", prog_type, slots, &settings).map_err(|e| e.to_string())?;
    let run = program.test_run(data, ctx, 1).map_err(|e| e.to_string())?;
    Ok(Seen { retval: run.retval, data: run.data_out, ctx: run.ctx_out })
}

/// Runs in the kernel; `None` when the verifier does not take the program.
fn kernel(
    prog_type: ProgType,
    slots: &[Slot],
    data: &[u8],
    ctx: &[u8],
) -> Option<Result<Seen, String>> {
    let sleepable = if prog_type == ProgType::SYSCALL { SLEEPABLE } else { 0 };
    let load = ProgramLoad { flags: sleepable, ..ProgramLoad::new("test", prog_type, slots) };
    let program = match skep_kernel::Program::load(&load) {
        Ok(program) => program,
        Err(e) => {
            if std::env::var_os("SHOW_REJECTED").is_some() {
                eprintln!("{e}");
            }
            return None;
        }
    };
    let options = TestRunOptions {
        data,
        ctx,
        data_out_capacity: if data.is_empty() { 0 } else { 20_000 },
        ctx_out_capacity: if data.is_empty() { 0 } else { ctx.len() },
        ..TestRunOptions::default()
    };
    Some(match program.test_run(&options) {
        Ok(run) => Ok(Seen { retval: run.retval, data: run.data_out, ctx: run.ctx_out }),
        Err(e) => Err(format!("{e}: {e:?}")),
    })
}

/// Ethernet, IPv4, UDP, some payload.
fn udp_packet(payload: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let total = u16::try_from(28 + payload).expect("test packets are small").to_be_bytes();
    frame.extend([0x45, 0, total[0], total[1], 0x12, 0x34, 0, 0, 64, 17, 0x50, 0x83]);
    frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    let len = u16::try_from(8 + payload).expect("test packets are small").to_be_bytes();
    frame.extend([0x30, 0x39, 0, 53, len[0], len[1], 0xab, 0xcd]);
    frame.extend((0..payload).map(|n| u8::try_from(n % 251).expect("below 251")));
    frame
}

/// The same with one VLAN tag.
fn vlan_packet(payload: usize) -> Vec<u8> {
    let mut frame = udp_packet(payload);
    frame.splice(12..12, [0x81, 0, 0x20, 42]);
    frame
}
