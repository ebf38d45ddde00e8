//! Tracepoints, and what programs on them send through ring and perf buffers.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    sync::Arc,
    time::{Duration, Instant},
};

use skep_abi::{AttachType, MapDef, MapFlags, MapType, ProgType};
use skep_btf::KindTag;
use skep_isa::Slot;
use skep_kernel::{
    AttachError, Map, Program, ProgramLoad, TestRunOptions,
    link::{Method, attach_raw_tracepoint, attach_tp_btf, attach_tracepoint},
    perf::{PerfConsumer, PerfEvent},
    probe,
    ringbuf::RingConsumer,
    target,
};
use skep_testing::{fired, require_kernel};

fn slot(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Slot {
    Slot { code, dst, src, off, imm }
}

fn make(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Arc<Map> {
    let flags = MapFlags(0);
    let def = MapDef { map_type, key_size, value_size, max_entries, flags, extra: 0, numa_node: 0 };
    Arc::new(Map::create("t", def, None, None).expect("this map is everywhere"))
}

fn lddw_map(reg: u8, map: &Map) -> [Slot; 2] {
    [slot(0x18, reg, 1, 0, map.as_fd().as_raw_fd()), slot(0, 0, 0, 0, 0)]
}

const EXIT_0: [Slot; 2] = [
    Slot { code: 0xb7, dst: 0, src: 0, off: 0, imm: 0 },
    Slot { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
];

/// Counts in `map` what this process does: others' events are none of our business.
fn count_own(map: &Map) -> Vec<Slot> {
    let own = i32::try_from(std::process::id()).expect("pids are small");
    let address = [slot(0x18, 1, 2, 0, map.as_fd().as_raw_fd()), slot(0, 0, 0, 0, 0)];
    [
        &[
            slot(0x85, 0, 0, 0, 14),  // call get_current_pid_tgid
            slot(0x77, 0, 0, 0, 32),  // r0 >>= 32
            slot(0x55, 0, 0, 4, own), // if r0 != own goto out
        ],
        &address[..],
        &[slot(0xb7, 2, 0, 0, 1), slot(0xdb, 1, 2, 0, 0)],
        &EXIT_0[..],
    ]
    .concat()
}

fn count(map: &Map) -> u64 {
    let value = map.lookup_vec(&[0; 4]).expect("readable").expect("arrays are full");
    u64::from_ne_bytes(value.try_into().expect("8 bytes"))
}

/// Makes system calls that nobody else's program minds.
fn act() {
    for _ in 0..10 {
        std::fs::metadata("/proc/self/status").expect("it is there");
    }
}

#[test]
fn a_tracepoint_fires_until_its_link_is_dropped() {
    require_kernel!(probe::can_load().into_result());
    let map = make(MapType::ARRAY, 4, 8, 1);
    let insns = count_own(&map);
    let program = Program::load(&ProgramLoad::new("tp", ProgType::TRACEPOINT, &insns)).unwrap();
    let link = attach_tracepoint(&program, "raw_syscalls", "sys_enter").unwrap();
    act();
    let seen = count(&map);
    assert!(seen >= 10, "{seen} after at least ten system calls by {}", link.method());
    let by = link.method();
    drop(link);
    let at_end = count(&map);
    act();
    assert_eq!(count(&map), at_end);
    fired("tracepoint", by);

    let nowhere = attach_tracepoint(&program, "raw_syscalls", "no_such_event");
    assert!(matches!(nowhere, Err(AttachError::NoTracepoint { reachable: true, .. })));
}

#[test]
fn raw_and_btf_tracepoints_fire() {
    require_kernel!(probe::can_load().into_result());
    let map = make(MapType::ARRAY, 4, 8, 1);
    let insns = count_own(&map);
    let raw = ProgramLoad::new("raw", ProgType::RAW_TRACEPOINT, &insns);
    let raw = Program::load(&raw).unwrap();
    let link = attach_raw_tracepoint(&raw, "sys_enter").unwrap();
    act();
    assert!(count(&map) >= 10);
    drop(link);
    let at_end = count(&map);
    act();
    assert_eq!(count(&map), at_end);
    fired("raw_tp", Method::Link);
    let error = attach_raw_tracepoint(&raw, "no_such_tracepoint").unwrap_err();
    assert!(matches!(error, AttachError::Refused { .. }));

    let btf = target::vmlinux_btf();
    require_kernel!(btf.as_ref().map(drop).map_err(ToString::to_string));
    let id = btf.unwrap().find(KindTag::Typedef, "btf_trace_sys_enter").next().unwrap();
    let map = make(MapType::ARRAY, 4, 8, 1);
    let insns = count_own(&map);
    let mut load = ProgramLoad::new("tp_btf", ProgType::TRACING, &insns);
    load.attach_type = Some(AttachType::TRACE_RAW_TP);
    load.attach_btf_id = id.0;
    let link = attach_tp_btf(&Program::load(&load).unwrap()).unwrap();
    act();
    assert!(count(&map) >= 10);
    link.detach().unwrap();
    let at_end = count(&map);
    act();
    assert_eq!(count(&map), at_end);
    fired("tp_btf", Method::Link);
}

/// A program that puts its context's first `len` bytes into a ring: submitted, or discarded when
/// the first byte is 0xff.
fn ring_writer(ring: &Map, len: i32) -> Vec<Slot> {
    let copies = (0..len / 8).flat_map(|n| {
        let off = i16::try_from(n * 8).expect("short");
        [slot(0x79, 2, 6, off, 0), slot(0x7b, 7, 2, off, 0)]
    });
    let copies: Vec<Slot> = copies.collect();
    let mut insns = vec![slot(0xbf, 6, 1, 0, 0)];
    insns.extend(lddw_map(1, ring));
    insns.extend([
        slot(0xb7, 2, 0, 0, len),
        slot(0xb7, 3, 0, 0, 0),
        slot(0x85, 0, 0, 0, 131), // call ringbuf_reserve
        slot(0x55, 0, 0, 2, 0),   // if r0 != 0 goto +2
        slot(0xb7, 0, 0, 0, 1),
        slot(0x95, 0, 0, 0, 0),
        slot(0xbf, 7, 0, 0, 0),
    ]);
    insns.extend(copies);
    insns.extend([
        slot(0x71, 8, 6, 0, 0), // r8 = first byte
        slot(0xbf, 1, 7, 0, 0),
        slot(0xb7, 2, 0, 0, 0),
        slot(0x15, 8, 0, 2, 0xff),
        slot(0x85, 0, 0, 0, 132), // call ringbuf_submit
        slot(0x05, 0, 0, 1, 0),
        slot(0x85, 0, 0, 0, 133), // call ringbuf_discard
    ]);
    insns.extend(EXIT_0);
    insns
}

fn run(program: &Program, ctx: &[u8]) -> u32 {
    let options = TestRunOptions { ctx, ..TestRunOptions::default() };
    program.test_run(&options).expect("a raw tracepoint program can be run").retval
}

#[test]
fn a_ring_gives_what_was_submitted_in_order_and_around_its_end() {
    require_kernel!(probe::can_load().into_result());
    let ring = make(MapType::RINGBUF, 0, 0, 4096);
    let insns = ring_writer(&ring, 24);
    let program = ProgramLoad::new("writer", ProgType::RAW_TRACEPOINT, &insns);
    let program = Program::load(&program).unwrap();
    let mut consumer = RingConsumer::new(Arc::clone(&ring)).unwrap();
    assert_eq!(consumer.next(), None);
    let begin = Instant::now();
    assert_eq!(consumer.poll(Duration::from_millis(20)), None);
    assert!(begin.elapsed() >= Duration::from_millis(20));
    // 1000 records of 32 bytes: seven times around.
    for n in 0..1000_u64 {
        let byte = if n % 3 == 0 { 0xff } else { 1 };
        let words = [byte, n, n * n];
        let ctx: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
        assert_eq!(run(&program, &ctx), 0);
        match n % 3 {
            0 => assert_eq!(consumer.next(), None, "record {n} was discarded"),
            _ => assert_eq!(consumer.poll(Duration::from_secs(1)).unwrap(), ctx, "record {n}"),
        }
    }
    assert_eq!(consumer.taken(), 666);
    // Full (the last byte is never used): reservations fail, and what is there stays whole.
    let ctx = [[1_u8; 8], [2; 8], [3; 8]].concat();
    let failed: u32 = (0..200).map(|_| run(&program, &ctx)).sum();
    assert_eq!(failed, 200 - 127);
    assert_eq!(consumer.pending_bytes(), 127 * 32);
    let mut left = 0;
    while let Some(record) = consumer.next() {
        assert_eq!(record, ctx);
        left += 1;
    }
    assert_eq!(left, 127);
    assert!(RingConsumer::new(make(MapType::ARRAY, 4, 4, 1)).is_err());
}

/// A program that outputs its context's first 16 bytes to this CPU's perf buffer.
fn perf_writer(events: &Map) -> Vec<Slot> {
    let mut insns = vec![
        slot(0x79, 2, 1, 0, 0),
        slot(0x7b, 10, 2, -16, 0),
        slot(0x79, 2, 1, 8, 0),
        slot(0x7b, 10, 2, -8, 0),
    ];
    insns.extend(lddw_map(2, events));
    insns.extend([
        slot(0x18, 3, 0, 0, -1), // BPF_F_CURRENT_CPU
        slot(0, 0, 0, 0, 0),
        slot(0xbf, 4, 10, 0, 0),
        slot(0x07, 4, 0, 0, -16),
        slot(0xb7, 5, 0, 0, 16),
        slot(0x85, 0, 0, 0, 25), // call perf_event_output
        slot(0x95, 0, 0, 0, 0),
    ]);
    insns
}

#[test]
fn a_perf_buffer_gives_samples_and_counts_losses() {
    require_kernel!(probe::can_load().into_result());
    let events = make(MapType::PERF_EVENT_ARRAY, 4, 4, 0);
    let insns = perf_writer(&events);
    let program = ProgramLoad::new("writer", ProgType::RAW_TRACEPOINT, &insns);
    let program = Program::load(&program).unwrap();
    let enoent = (-libc::ENOENT).cast_unsigned();
    assert_eq!(run(&program, &[0; 16]), enoent, "nobody reads yet");
    for too_much in [usize::MAX, usize::MAX / 2 + 1, 1 << 46] {
        assert!(PerfConsumer::new(Arc::clone(&events), too_much).is_err(), "{too_much:#x}");
    }
    let mut consumer = PerfConsumer::new(Arc::clone(&events), 4096).unwrap();
    assert_eq!(consumer.poll(Duration::from_millis(20)), None);
    for n in 0..300_u64 {
        let ctx = [n.to_ne_bytes(), (n + 1).to_ne_bytes()].concat();
        assert_eq!(run(&program, &ctx), 0);
        match consumer.poll(Duration::from_secs(1)) {
            Some(PerfEvent::Sample { data, .. }) => assert_eq!(data[..16], ctx, "sample {n}"),
            other => panic!("sample {n}: {other:?}"),
        }
    }
    assert_eq!(consumer.lost(), 0);
    // More than fits, on whichever CPUs we run.
    let written = (0..1000).filter(|_| run(&program, &[7; 16]) == 0).count() as u64;
    let mut read = 0;
    while let Some(event) = consumer.next() {
        read += u64::from(matches!(event, PerfEvent::Sample { .. }));
    }
    assert_eq!(read, written);
    // A kernel that does not count by event tells of losses before the next sample.
    for _ in 0..100 {
        run(&program, &[8; 16]);
    }
    let mut more = 0;
    while let Some(event) = consumer.next() {
        more += u64::from(matches!(event, PerfEvent::Sample { .. }));
    }
    assert_eq!(more, 100);
    assert!(consumer.lost() > 0 && consumer.lost() <= 1000 - written, "{}", consumer.lost());
    drop(consumer);
    assert_eq!(run(&program, &[0; 16]), enoent, "nobody reads any more");
}
