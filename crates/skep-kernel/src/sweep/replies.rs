//! Replies that make no sense: an error or a bounded answer, and never a panic, a hang or a full
//! memory.

use std::io;

use skep_abi::{MapDef, MapFlags, MapType, ProgType, UpdateMode};
use skep_isa::Slot;
use skep_testing::require_kernel;

use crate::{
    Map, Program, ProgramLoad, TestRunOptions,
    inspect::{self, Kind},
    link::{self, Uprobe},
    probe,
    sys::{
        self, Call,
        fake::{Answer, Fake},
    },
    target,
};

/// The kernel answers; then `change` has the attribute block of each command of this name.
fn changing(command: &'static str, change: fn(&mut [u8])) -> Fake {
    Fake::new(move |call, _| match call.name() == command {
        true => Answer::Changed(Box::new(move |call, ret| {
            if let Call::Bpf { attr, .. } = call {
                change(attr);
            }
            ret
        })),
        false => Answer::Kernel,
    })
}

/// Every file has these bytes in it.
fn files(bytes: &'static [u8]) -> Fake {
    Fake::new(move |call, _| match call {
        Call::ReadFile { .. } => Answer::File(bytes.to_vec()),
        _ => Answer::Kernel,
    })
}

fn program(prog_type: ProgType) -> Program {
    let insns = [
        Slot { code: 0xb7, dst: 0, src: 0, off: 0, imm: 1 },
        Slot { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
    ];
    Program::load(&ProgramLoad::new("replies", prog_type, &insns)).expect("it is valid")
}

fn hash() -> Map {
    let def = MapDef {
        map_type: MapType::HASH,
        key_size: 4,
        value_size: 8,
        max_entries: 4,
        flags: MapFlags(0),
        extra: 0,
        numa_node: 0,
    };
    let map = Map::create("replies", def, None, None).expect("hashes are everywhere");
    map.update(&[1; 4], &[1; 8], UpdateMode::Any).expect("there is room");
    map
}

#[test]
fn lists_that_do_not_end_are_ended() {
    require_kernel!(probe::can_load().into_result());
    let fake = Fake::new(|call, _| match call.name() {
        "BPF_PROG_GET_NEXT_ID" | "BPF_MAP_GET_NEXT_KEY" => Answer::Number(0),
        _ => Answer::Kernel,
    });
    assert_eq!(inspect::ids(Kind::Program).unwrap(), []);
    drop(fake);

    let map = hash();
    let fake = Fake::new(|call, _| match call.name() {
        "BPF_MAP_GET_NEXT_KEY" | "BPF_MAP_LOOKUP_BATCH" => Answer::Number(0),
        _ => Answer::Kernel,
    });
    assert_eq!(map.keys().count(), 8);
    assert!(map.entries().unwrap().len() <= 8);
    drop(fake);
}

#[test]
fn counts_beyond_the_room_are_cut() {
    require_kernel!(probe::can_load().into_result());
    let map = hash();
    // `count` of the batch block.
    let fake = changing("BPF_MAP_LOOKUP_BATCH", |attr| attr[32..36].fill(0xff));
    assert!(map.entries().unwrap().len() <= 8);
    drop(fake);

    let program = program(ProgType::XDP);
    // `data_size_out` and `ctx_size_out`.
    let fake = changing("BPF_PROG_TEST_RUN", |attr| {
        attr[12..16].fill(0xff);
        attr[44..48].fill(0xff);
    });
    let options = TestRunOptions {
        data: &[0; 64],
        data_out_capacity: 64,
        ctx_out_capacity: 64,
        ..TestRunOptions::default()
    };
    // Linux 5.15 gives the context of an XDP program back.
    if let Ok(run) = program.test_run(&options) {
        assert_eq!((run.data_out.len(), run.ctx_out.len()), (64, 64));
    }
    let options = TestRunOptions { ctx_out_capacity: 0, ..options };
    assert_eq!(program.test_run(&options).unwrap().data_out.len(), 64);
    drop(fake);
}

#[test]
fn information_of_absurd_sizes_is_cut() {
    require_kernel!(probe::can_load().into_result());
    let program = program(ProgType::XDP);
    let id = program.info().unwrap().id;
    // Every byte of each kind's information but its addresses, and once all zero.
    for byte in [0xff, 0] {
        let fake = Fake::new(move |call, _| match call.name() {
            "BPF_OBJ_GET_INFO_BY_FD" => Answer::Changed(Box::new(move |call, ret| {
                call.information(|bytes| bytes.fill(byte));
                ret
            })),
            _ => Answer::Kernel,
        });
        inspect::code(id).ok();
        inspect::program(id).ok();
        for kind in [Kind::Map, Kind::Link, Kind::Btf] {
            let Ok(ids) = inspect::ids(kind) else { continue };
            let Some(&first) = ids.first() else { continue };
            match kind {
                Kind::Map => drop((inspect::map(first), inspect::open_map(first))),
                Kind::Link => drop(inspect::link(first)),
                _ => drop((inspect::btf(first), inspect::types(first))),
            }
        }
        drop(fake);
    }
}

#[test]
fn what_is_gone_between_two_calls_is_no_error() {
    require_kernel!(probe::can_load().into_result());
    let fake = Fake::failing("BPF_MAP_GET_FD_BY_ID", libc::ENOENT);
    assert_eq!(inspect::map(1).unwrap(), None);
    assert!(inspect::open_map(1).unwrap().is_none());
    drop(fake);
}

#[test]
fn files_of_the_kernel_may_hold_anything() {
    require_kernel!(probe::can_load().into_result());
    let tracepoint = program(ProgType::TRACEPOINT);
    let uprobe = program(ProgType::KPROBE);
    for text in [&b""[..], b"\n", b"-1", b"99999999999999999999", b"config:64", b"\xff\xfe", b"0-"]
    {
        let fake = files(text);
        sys::possible_cpus().unwrap_err();
        link::attach_tracepoint(&tracepoint, "sched", "sched_process_fork").unwrap_err();
        link::attach_uprobe(&uprobe, &Uprobe::function("libc.so.6", "getdate_r")).unwrap_err();
        assert!(inspect::pins().is_empty());
        assert!(target::kconfig().unwrap_or_default().is_empty());
        target::read_btf("/sys/kernel/btf/vmlinux".as_ref()).unwrap_err();
        target::kernel_version();
        drop(fake);
    }
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let error = sys::read_file("/dev/zero").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EFBIG));
    let error = sys::read_text("/proc/self/exe").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}
