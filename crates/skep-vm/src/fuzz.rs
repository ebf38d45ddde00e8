//! Bodies of fuzz targets: any bytes may come in, nothing may crash or hang.

use std::sync::{Arc, LazyLock};

use skep_abi::{MapDef, MapFlags, MapType, ProgType};
use skep_isa::{CallTarget, Imm64, Insn, Pc, Slot};

use crate::context::{Context, Plain, SkBuff, Xdp};
use crate::hooks::pcap::PcapReader;
use crate::lower::Binding;
use crate::maps::Map;
use crate::mem::MAP_BASE;
use crate::program::{Parts, Program, Settings};

/// Instructions of one run: enough to get anywhere, and soon over.
const BUDGET: u64 = 20_000;
/// Slots of one program.
const MAX_SLOTS: usize = 512;

/// Runs bytes as a program with maps, on every kind of context.
///
/// The first byte chooses: even, the bytes are taken as they are; odd, they are bent towards
/// valid instructions, so that more than the decoder is reached.
pub fn run_bytes(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let (chunks, packet) = rest.as_chunks::<8>();
    let mut slots: Vec<Slot> =
        chunks.iter().take(MAX_SLOTS).map(|c| Slot::from_le_bytes(*c)).collect();
    if first & 1 == 1 {
        bend(&mut slots);
    }
    let Ok(insns) = skep_isa::decode(&slots) else { return };
    let maps = Arc::clone(&MAPS);
    let bindings = insns.iter().filter_map(|(at, insn)| bind(*at, insn, &maps)).collect();
    let (prog_type, mut ctx) = context(first >> 1, packet);
    let parts = Parts { name: "fuzz", section: "", prog_type, slots: &slots, bindings };
    let settings = Arc::new(Settings { budget: BUDGET, ..Settings::default() });
    let Ok(program) = Program::new(parts, Arc::clone(&maps), &settings) else { return };
    if let Some(array) = maps.iter().find(|m| m.def().map_type == MapType::PROG_ARRAY) {
        // Tail calls to itself; the array is shared, and any program will do.
        let set = array.set_program(0, &program);
        debug_assert!(set.is_ok(), "index 0 exists");
    }
    for _ in 0..2 {
        // An error is a fine outcome; its text must not fail either.
        if let Err(e) = program.run(&mut ctx) {
            assert!(!e.to_string().is_empty(), "errors have a text");
        }
    }
}

/// Reads bytes as a packet file.
pub fn pcap_bytes(bytes: &[u8]) {
    let Ok(mut reader) = PcapReader::new(bytes) else { return };
    while let Ok(Some(packet)) = reader.next_packet() {
        assert!(packet.data.len() <= bytes.len(), "packets come out of the file");
    }
}

/// What programs can refer to: one map of each sort.
static MAPS: LazyLock<Arc<[Arc<Map>]>> = LazyLock::new(|| {
    let make = |map_type, key_size, value_size, max_entries| {
        let flags = match map_type {
            MapType::LPM_TRIE => MapFlags::NO_PREALLOC,
            _ => MapFlags::default(),
        };
        let def =
            MapDef { map_type, key_size, value_size, max_entries, flags, extra: 0, numa_node: 0 };
        let inner = map_type.is_map_in_map().then_some(MapDef {
            map_type: MapType::ARRAY,
            value_size: 8,
            max_entries: 2,
            ..def
        });
        Map::with_cpus("fuzz", def, inner, 2)
    };
    let maps = [
        make(MapType::ARRAY, 4, 16, 4),
        make(MapType::HASH, 4, 8, 8),
        make(MapType::PERCPU_ARRAY, 4, 8, 2),
        make(MapType::LRU_HASH, 8, 12, 8),
        make(MapType::LPM_TRIE, 8, 4, 8),
        make(MapType::RINGBUF, 0, 0, 4096),
        make(MapType::PROG_ARRAY, 4, 4, 2),
        make(MapType::ARRAY_OF_MAPS, 4, 4, 2),
        make(MapType::QUEUE, 0, 8, 4),
        make(MapType::PERF_EVENT_ARRAY, 4, 4, 2),
    ];
    maps.into_iter().flatten().collect()
});

fn bind(at: Pc, insn: &Insn, maps: &[Arc<Map>]) -> Option<(Pc, Binding)> {
    let Insn::LoadImm64 { imm, .. } = insn else { return None };
    let index = |n: i32| n.unsigned_abs() as usize % maps.len();
    let value = match *imm {
        Imm64::MapFd(n) | Imm64::MapIdx(n) => MAP_BASE + index(n) as u64,
        Imm64::MapValue { fd: n, off } | Imm64::MapIdxValue { idx: n, off } => {
            let value = maps.get(index(n))?.lookup_ptr(&0_u32.to_ne_bytes(), 0)?;
            (value.addr().get() as u64).wrapping_add(u64::from(off % 64))
        }
        Imm64::BtfId { .. } => return Some((at, Binding::Poison("a kernel variable".to_owned()))),
        Imm64::Const(_) | Imm64::Func(_) => return None,
    };
    Some((at, Binding::Value(value)))
}

fn context(choice: u8, packet: &[u8]) -> (ProgType, Context) {
    let frame: Vec<u8> = packet.iter().copied().chain([0; 60]).take(60).collect();
    match choice % 6 {
        0 => (ProgType::XDP, Xdp::new(&frame).into()),
        1 => (ProgType::SCHED_CLS, SkBuff::new(ProgType::SCHED_CLS, &frame).into()),
        2 => (ProgType::SOCKET_FILTER, SkBuff::new(ProgType::SOCKET_FILTER, &frame).into()),
        3 => (ProgType::RAW_TRACEPOINT, Plain::raw_tracepoint(&[1, 2, u64::MAX]).into()),
        4 => (ProgType::SYSCALL, Plain::syscall(&frame).into()),
        _ => (ProgType::UNSPEC, Plain::memory(packet).into()),
    }
}

/// Makes each slot an instruction, and jumps stay inside.
fn bend(slots: &mut Vec<Slot>) {
    let len = i64::try_from(slots.len()).unwrap_or(i64::MAX).max(1);
    let inside = |from: i64, to: i64| to.rem_euclid(len) - from - 1;
    let mut at = 0;
    while let Some(slot) = slots.get(at).copied() {
        let regs = Slot { dst: slot.dst % 10, src: slot.src % 10, ..slot };
        let plain = Slot { off: 0, ..regs };
        let forms = [slot, regs, plain, Slot { imm: 0, ..regs }, Slot { imm: 0, src: 0, ..plain }];
        let next = Some(Slot { imm: 0, ..Slot::default() });
        let fine = |s: &&Slot| Insn::decode(**s, next).is_ok();
        let mut slot = forms.iter().find(fine).copied().unwrap_or(Slot {
            code: 0xb7,
            imm: slot.imm,
            ..Slot::default()
        });
        let from = i64::try_from(at).unwrap_or_default();
        let mut wide = false;
        match Insn::decode(slot, next) {
            Ok(Insn::Jump { long: true, .. } | Insn::Call(CallTarget::Local(_))) => {
                slot.imm = i32::try_from(inside(from, slot.imm.into())).unwrap_or_default();
            }
            Ok(Insn::Jump { .. } | Insn::JumpIf { .. } | Insn::MayGoto { .. }) => {
                slot.off = i16::try_from(inside(from, slot.off.into())).unwrap_or_default();
            }
            Ok(Insn::Call(CallTarget::Helper(id))) => slot.imm = id.rem_euclid(212),
            Ok(Insn::LoadImm64 { imm: Imm64::Func(to), .. }) => {
                slot.imm = i32::try_from(inside(from, to.into())).unwrap_or_default();
                wide = true;
            }
            Ok(Insn::LoadImm64 { .. }) => wide = true,
            _ => {}
        }
        if let Some(place) = slots.get_mut(at) {
            *place = slot;
        }
        at += 1;
        if wide {
            match slots.get_mut(at) {
                Some(second) => *second = Slot { imm: second.imm, ..Slot::default() },
                None => slots.push(Slot::default()),
            }
            at += 1;
        }
    }
    slots.push(Slot { code: 0x95, ..Slot::default() });
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    /// Calls `body` with random bytes for a second.
    fn for_a_while(body: fn(&[u8]), seeds: &[Vec<u8>]) -> u32 {
        let limit = std::env::var("FUZZ_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
        let end = Instant::now() + Duration::from_secs(limit);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (limit << 32);
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut runs = 0;
        while Instant::now() < end {
            let pick = usize::try_from(next() >> 40).unwrap_or_default();
            let mut bytes = match seeds.get(pick % (seeds.len() + 1)) {
                Some(seed) => seed.clone(),
                None => (0..8 + pick % 400).map(|_| next().to_le_bytes()[5]).collect(),
            };
            for _ in 0..next() % 8 {
                let at = usize::try_from(next() >> 33).unwrap_or_default() % bytes.len();
                bytes[at] = next().to_le_bytes()[3];
            }
            body(&bytes);
            runs += 1;
        }
        runs
    }

    #[test]
    fn any_bytes_run_or_fail_cleanly() {
        let runs = for_a_while(super::run_bytes, &[]);
        assert!(runs > 100, "{runs} runs");
    }

    #[test]
    fn any_bytes_are_a_packet_file_or_not() {
        let path = skep_testing::repository().join("examples/traffic.pcap");
        let mut trace = std::fs::read(path).unwrap();
        trace.truncate(2000);
        let header = [0x0a0d_0d0a_u32, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28];
        let interface = [1_u32, 20, 1, 0, 20];
        let packet = [6_u32, 36, 0, 0, 9, 4, 4, 0xdead_beef, 36];
        let blocks = [header.as_slice(), &interface, &packet, &packet];
        let ng = blocks.concat().iter().flat_map(|w| w.to_le_bytes()).collect();
        for_a_while(super::pcap_bytes, &[trace, ng]);
    }
}
