//! On objects that the tests themselves make.

use std::os::fd::AsFd as _;

use skep_abi::{MapDef, MapFlags, MapType, ProgType, UpdateMode};
use skep_isa::Slot;
use skep_testing::require_kernel;

use super::*;
use crate::{Map, Program, ProgramLoad, probe};

const RETURN_0: [Slot; 2] = [
    Slot { code: 0xb7, dst: 0, src: 0, off: 0, imm: 0 },
    Slot { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
];

fn hash(name: &str) -> Map {
    let def = MapDef {
        map_type: MapType::HASH,
        key_size: 4,
        value_size: 8,
        max_entries: 3,
        flags: MapFlags(0),
        extra: 0,
        numa_node: 0,
    };
    Map::create(name, def, None, None).unwrap()
}

#[test]
fn a_program_is_listed_while_it_is_loaded() {
    require_kernel!(probe::can_load().into_result());
    let load = ProgramLoad::new("listed", ProgType::SOCKET_FILTER, &RETURN_0);
    let loaded = Program::load(&load).unwrap();
    let id = loaded.info().unwrap().id;
    assert!(ids(Kind::Program).unwrap().contains(&id));
    let info = program(id).unwrap().unwrap();
    assert_eq!((info.id, info.name.as_str()), (id, "listed"));
    assert_eq!(info.prog_type, ProgType::SOCKET_FILTER);
    assert_eq!(info.xlated_bytes, 16);
    assert!(info.loaded_ns > 0 && info.memory_bytes.is_some());
    let code = code(id).unwrap().unwrap();
    assert_eq!(code.xlated, RETURN_0);
    assert_eq!(code.jited.len(), info.jited_bytes as usize);
    let own = owners();
    let me = std::process::id();
    assert!(own[&(Kind::Program, id)].iter().any(|o| o.pid == me), "{own:?}");
    drop(loaded);
    assert_eq!(program(id).unwrap(), None);
    assert!(!ids(Kind::Program).unwrap().contains(&id));
}

#[test]
fn a_link_that_is_being_made_is_not_there_yet() {
    let _fake = sys::fake::Fake::failing("BPF_LINK_GET_FD_BY_ID", libc::EAGAIN);
    assert_eq!(link(1).unwrap(), None);
}

#[test]
fn a_map_is_the_same_map_by_its_id() {
    require_kernel!(probe::can_load().into_result());
    let made = hash("by_id");
    let id = made.id().unwrap();
    let info = map(id).unwrap().unwrap();
    assert_eq!((info.name.as_str(), info.key_size, info.value_size), ("by_id", 4, 8));
    assert!(!info.frozen && info.memory_bytes.is_some());
    made.update(&[1; 4], &[2; 8], UpdateMode::Any).unwrap();
    let same = open_map(id).unwrap().unwrap();
    assert_eq!(same.lookup_vec(&[1; 4]).unwrap(), Some(vec![2; 8]));
    made.freeze().unwrap();
    assert!(map(id).unwrap().unwrap().frozen);
    assert_eq!(identify(made.as_fd()), Some((Kind::Map, id)));
    drop((made, same));
    assert_eq!(map(id).unwrap(), None);
}

#[test]
fn a_link_tells_its_tracepoint() {
    require_kernel!(probe::prog_type(ProgType::RAW_TRACEPOINT).into_result());
    let load = ProgramLoad::new("raw", ProgType::RAW_TRACEPOINT, &RETURN_0);
    let loaded = Program::load(&load).unwrap();
    let before = ids(Kind::Link).unwrap();
    let held = crate::link::attach_raw_tracepoint(&loaded, "sys_enter").unwrap();
    let prog = loaded.info().unwrap().id;
    let all = ids(Kind::Link).unwrap();
    let new = all.into_iter().filter(|id| !before.contains(id));
    let ours: Vec<LinkInfo> =
        new.filter_map(|id| link(id).unwrap()).filter(|l| l.prog_id == prog).collect();
    let [one] = ours.as_slice() else { panic!("one link: {ours:?}") };
    assert_eq!(one.kind().name(), Some("raw_tracepoint"));
    assert_eq!(one.target_name.as_deref(), Some("sys_enter"));
    drop(held);
    assert_eq!(link(one.id).unwrap(), None);
}

/// Programs of `slots`, found by their id.
fn by_id(name: &str, prog_type: ProgType, slots: &[Slot]) -> (Program, u32) {
    let loaded = Program::load(&ProgramLoad::new(name, prog_type, slots)).unwrap();
    let id = loaded.info().unwrap().id;
    (open_program(id).unwrap().unwrap(), id)
}

#[test]
fn runs_are_counted_while_statistics_are_on() {
    require_kernel!(probe::can_load().into_result());
    let (held, id) = by_id("counted", ProgType::SOCKET_FILTER, &RETURN_0);
    let run = |times| {
        let options = crate::TestRunOptions { data: &[0; 64], repeat: times, ..Default::default() };
        held.test_run(&options).unwrap();
    };
    let seen = || program(id).unwrap().unwrap();
    let on = RunStatistics::enable().unwrap();
    run(1000);
    let first = seen();
    // The kernel runs it inside its own loop, where each run is counted.
    assert_eq!(first.run_count, 1000);
    drop(on);
    // Another process may have statistics on: then the runs are counted all the same.
    run(10);
    assert!(matches!(seen().run_count, 1000 | 1010));
}

#[test]
fn a_ring_buffer_tells_where_it_stands() {
    require_kernel!(probe::map_type(MapType::RINGBUF).into_result());
    let def = skep_abi::MapRule::of(MapType::RINGBUF).unwrap().smallest(sys::page_bytes());
    let ring = Map::create("positions", def, None, None).unwrap();
    // bpf_ringbuf_output(ring, fp - 16, 16, 0)
    let fd = std::os::fd::AsRawFd::as_raw_fd(&ring.as_fd());
    let slot = |code, dst, src, off, imm| Slot { code, dst, src, off, imm };
    let slots = [
        slot(0x7a, 10, 0, -8, 1),
        slot(0x7a, 10, 0, -16, 2),
        slot(0x18, 1, 1, 0, fd),
        slot(0, 0, 0, 0, 0),
        slot(0xbf, 2, 10, 0, 0),
        slot(0x07, 2, 0, 0, -16),
        slot(0xb7, 3, 0, 0, 16),
        slot(0xb7, 4, 0, 0, 0),
        slot(0x85, 0, 0, 0, 130),
        RETURN_0[0],
        RETURN_0[1],
    ];
    let (held, _) = by_id("producer", ProgType::SOCKET_FILTER, &slots);
    let options = crate::TestRunOptions { data: &[0; 64], repeat: 3, ..Default::default() };
    held.test_run(&options).unwrap();
    let id = ring.id().unwrap();
    let at = ring_positions(id).unwrap();
    // A record has a header of 8 bytes.
    assert_eq!((at.produced, at.consumed, at.size), (3 * 24, 0, sys::page_bytes()));
    assert_eq!(at.waiting(), 72);
    assert_eq!(ring_positions(hash("no_ring").id().unwrap()), None);
    assert_eq!(ring_positions(u32::MAX - 1), None);
}

#[test]
fn a_program_on_an_event_is_found_by_its_process() {
    require_kernel!(probe::can_load().into_result());
    let (held, id) = by_id("on_event", ProgType::TRACEPOINT, &RETURN_0);
    let link = match crate::link::attach_tracepoint(&held, "syscalls", "sys_enter_getpgid") {
        Ok(link) => link,
        Err(e) => {
            require_kernel!(Err::<(), _>(e.to_string()));
            return;
        }
    };
    let mine = || {
        let all = event_programs().unwrap();
        all.into_iter()
            .filter(|e| e.pid == std::process::id() && e.prog_id == id)
            .collect::<Vec<_>>()
    };
    let [one] = mine().try_into().unwrap();
    assert_eq!((one.kind, one.name.as_str()), ("tracepoint", "sys_enter_getpgid"));
    drop(link);
    assert_eq!(mine(), []);
}

#[test]
fn a_stream_of_a_silent_program_is_empty() {
    require_kernel!(probe::can_load().into_result());
    let (_held, id) = by_id("silent", ProgType::SOCKET_FILTER, &RETURN_0);
    let mut room = [0; 64];
    match read_stream(id, Stream::Stderr, &mut room) {
        Ok(read) => assert_eq!(read, Some(0)),
        Err(e) => require_kernel!(Err::<(), _>(e.to_string())),
    }
    assert_eq!(read_stream(u32::MAX - 1, Stream::Stdout, &mut room).unwrap(), None);
}

#[test]
fn lists_of_functions_are_taken_as_the_link_has_them() {
    let probed = |at, reference_counter, cookie| Probed { at, reference_counter, cookie };
    let kernel = link::functions(&[vec![1, 2], vec![7, 0]]);
    assert_eq!(kernel, [probed(1, 0, 7), probed(2, 0, 0)]);
    let user = link::functions(&[vec![1], vec![5], vec![7]]);
    assert_eq!(user, [probed(1, 5, 7)]);
    assert_eq!(link::functions(&[]), []);
}

#[test]
fn the_kernels_own_types_are_a_btf_object() {
    require_kernel!(probe::can_load().into_result());
    let found = ids(Kind::Btf).unwrap().into_iter().filter_map(|id| btf(id).unwrap());
    let Some(vmlinux) = found.filter(|b| b.kernel).find(|b| b.name == "vmlinux") else {
        require_kernel!(Err::<(), _>("this kernel has no BTF".to_owned()));
        return;
    };
    let types = types(vmlinux.id).unwrap().unwrap();
    assert!(types.find(skep_btf::KindTag::Struct, "task_struct").next().is_some());
}

#[test]
fn ids_that_nobody_has_are_none() {
    require_kernel!(probe::can_load().into_result());
    for kind in Kind::ALL {
        assert!(open(kind, u32::MAX - 1).unwrap().is_none(), "{kind:?}");
    }
}

#[test]
fn names_in_proc_tell_the_kind() {
    let cases = [
        ("anon_inode:bpf-map", Some(Kind::Map)),
        ("anon_inode:bpf-prog", Some(Kind::Program)),
        ("anon_inode:bpf_link", Some(Kind::Link)),
        ("anon_inode:bpf-link", Some(Kind::Link)),
        ("anon_inode:btf", Some(Kind::Btf)),
        ("anon_inode:[eventpoll]", None),
        ("/dev/null", None),
    ];
    for (link, want) in cases {
        assert_eq!(Kind::of_link(Path::new(link)), want, "{link}");
    }
}
