//! Programs with maps that try to get more than they were given.

use std::sync::Arc;

use skep_abi::{MapDef, MapFlags, MapType, ProgType};
use skep_isa::asm::assemble;

use crate::context::{Context, SkBuff, Xdp};
use crate::maps::{Map, RingConsumer};
use crate::mem::MAP_BASE;
use crate::program::{Parts, Program, Settings};

const BUDGET: u64 = 10_000;

fn map(map_type: MapType, value_size: u32, max_entries: u32) -> Arc<Map> {
    let key_size = if map_type == MapType::RINGBUF { 0 } else { 4 };
    let flags = MapFlags::default();
    let def = MapDef { map_type, key_size, value_size, max_entries, flags, extra: 0, numa_node: 0 };
    Map::with_cpus("m", def, None, 1).expect("a possible map")
}

/// Runs text in which `MAP` is the only map.
fn run(map: &Arc<Map>, prog_type: ProgType, text: &str) -> Result<u64, String> {
    let slots = assemble(&text.replace("MAP", &format!("{MAP_BASE:#x} ll"))).expect("assembles");
    let parts =
        Parts { name: "t", section: "", prog_type, slots: &slots, bindings: Default::default() };
    let settings = Arc::new(Settings { budget: BUDGET, ..Settings::default() });
    let program = Program::new(parts, Arc::from([Arc::clone(map)]), &settings).expect("lowers");
    let mut ctx: Context = match prog_type {
        ProgType::XDP => Xdp::new(&[0; 60]).into(),
        _ => SkBuff::new(prog_type, &[0; 60]).into(),
    };
    program.run(&mut ctx).map(|o| o.retval).map_err(|e| e.to_string())
}

const RESERVE: &str = "r1 = MAP\nr2 = 8\nr3 = 0\ncall 131\nif r0 != 0 goto +1\nexit\nr6 = r0\n";
const SUBMIT: &str = "r1 = r6\nr2 = 0\ncall 132\n";

#[test]
fn a_record_is_the_programs_from_reserve_to_submit() {
    let ring = map(MapType::RINGBUF, 0, 4096);
    let mut consumer = RingConsumer::new(Arc::clone(&ring)).expect("a ring");
    let text =
        format!("{RESERVE}*(u64 *)(r6 + 0) = 5\nr7 = *(u64 *)(r6 + 0)\n{SUBMIT}r0 = r7\nexit");
    assert_eq!(run(&ring, ProgType::XDP, &text), Ok(5));
    assert_eq!(consumer.next(), Some(&5_u64.to_le_bytes()[..]));
    let late = format!("{RESERVE}*(u64 *)(r6 + 0) = 5\n{SUBMIT}*(u64 *)(r6 + 0) = 6\nexit");
    let error = run(&ring, ProgType::XDP, &late).expect_err("submitted");
    assert!(error.contains("write of 8 bytes"), "{error}");
    let past = format!("{RESERVE}*(u64 *)(r6 + 8) = 6\nexit");
    let error = run(&ring, ProgType::XDP, &past).expect_err("past the record");
    assert!(error.contains("0 bytes past the end of the ring-buffer record"), "{error}");
}

/// The data of a ring buffer is mapped twice in a row.
#[test]
fn the_second_mapping_of_a_ring_is_not_the_programs() {
    let ring = map(MapType::RINGBUF, 0, 4096);
    for body in ["", SUBMIT] {
        let first = if body.is_empty() { "" } else { "r7 = *(u64 *)(r6 + 4096)\n" };
        let text = format!("{RESERVE}{first}{body}*(u64 *)(r6 + 4096) = 6\nr0 = 0\nexit");
        assert!(run(&ring, ProgType::XDP, &text).is_err(), "{text}");
    }
}

#[test]
fn a_record_that_another_run_reserved_cannot_be_reached() {
    let ring = map(MapType::RINGBUF, 0, 4096);
    let other = ring.ring_reserve(8, 0).expect("room").addr();
    let text = format!("r1 = {other:#x} ll\nr0 = *(u64 *)(r1 + 0)\nexit");
    assert!(run(&ring, ProgType::XDP, &text).is_err());
    let text = format!("r1 = {other:#x} ll\nr2 = 0\ncall 132\nexit");
    assert!(run(&ring, ProgType::XDP, &text).unwrap_err().ends_with("not a reserved record"));
}

#[test]
fn records_reserved_and_kept_are_limited() {
    let ring = map(MapType::RINGBUF, 0, 1 << 20);
    let text = "r6 = 1100\nr1 = MAP\nr2 = 8\nr3 = 0\ncall 131\nr6 += -1\nif r6 != 0 goto -7\nexit";
    let error = run(&ring, ProgType::XDP, text).expect_err("too many");
    assert!(error.contains("1024 records"), "{error}");
    assert!(ring.ring_query(0) > 0 && RingConsumer::new(ring).expect("a ring").next().is_none());
}

#[test]
fn values_that_say_where_packets_go_are_read_only() {
    let cpus = map(MapType::CPUMAP, 4, 1);
    cpus.update(&[0; 4], &192_u32.to_ne_bytes(), Default::default()).expect("a queue of 192");
    let text = "*(u32 *)(r10 - 4) = 0\nr1 = MAP\nr2 = r10\nr2 += -4\ncall 1\nif r0 != 0 goto +1\nexit\n\
                r1 = *(u32 *)(r0 + 0)\n*(u32 *)(r0 + 0) = 0\nexit";
    assert!(run(&cpus, ProgType::XDP, text).is_err_and(|e| e.ends_with("which is read-only")));
}

#[test]
fn a_redirect_through_a_map_needs_a_map_of_targets() {
    let text = "r1 = MAP\nr2 = 0\nr3 = 2\ncall 51\nexit";
    let error = run(&map(MapType::ARRAY, 4, 1), ProgType::XDP, text).expect_err("an array");
    assert!(error.ends_with("not a map that packets can be sent to"), "{error}");
    assert_eq!(run(&map(MapType::CPUMAP, 4, 1), ProgType::XDP, text), Ok(2));
}

/// Each case takes long for few instructions, unless helpers are paid for by what they touch.
#[test]
fn helpers_are_paid_for_by_the_bytes_they_touch() {
    let big = map(MapType::ARRAY, 1 << 20, 1);
    let value = "r6 = r1\n*(u32 *)(r10 - 4) = 0\nr1 = MAP\nr2 = r10\nr2 += -4\ncall 1\n\
                 if r0 != 0 goto +1\nexit\nr7 = r0\nr8 = 500\n";
    let cases = [
        // csum_diff over the whole value
        ("r1 = r7\nr2 = 0x100000\nr3 = 0\nr4 = 0\nr5 = 0\ncall 28\n", "-8"),
        // probe_read into the whole value
        ("r1 = r7\nr2 = 0x100000\nr3 = r7\ncall 4\n", "-6"),
        // skb_change_tail to 16000 and back
        ("r1 = r6\nr2 = 16000\nr3 = 0\ncall 38\nr1 = r6\nr2 = 60\nr3 = 0\ncall 38\n", "-10"),
    ];
    for (body, back) in cases {
        let end = format!("r8 += -1\nif r8 != 0 goto {back}\nr0 = 0\nexit");
        let error = run(&big, ProgType::SCHED_CLS, &format!("{value}{body}{end}"));
        assert!(error.as_ref().is_err_and(|e| e.ends_with("is used up")), "{body}{error:?}");
    }
}

#[test]
fn walking_an_empty_hash_is_paid_for() {
    let hash = map(MapType::HASH, 8, 1 << 16);
    let text = "r8 = 100\nr1 = MAP\nr2 = subprog[+8]\nr3 = 0\nr4 = 0\ncall 164\nr8 += -1\n\
                if r8 != 0 goto -9\nr0 = 0\nexit\nr0 = 0\nexit";
    let error = run(&hash, ProgType::XDP, text).expect_err("100 walks");
    assert!(error.ends_with("is used up"), "{error}");
}
