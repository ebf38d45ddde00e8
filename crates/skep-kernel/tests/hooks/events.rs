//! Perf events, iterators, writable raw tracepoints; objects whose sections name the hook.

use std::{
    io::Read as _,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use skep_btf::KindTag;
use skep_isa::Pc;
use skep_kernel::{
    LoadError, LoadOptions, Object, Program, ProgramLoad, Target, TestRunOptions, attach,
    link::{
        IterTarget, PerfEvent, Rate, attach_iter, attach_perf_event, attach_raw_tracepoint,
        tracepoint_id,
    },
    probe, target,
};
use skep_object::{
    ObjectSpec,
    spec::{ProgramSpec, Subprog},
};
use skep_testing::{fired, refused, require_kernel};

use super::{
    AttachType, Counter, ProgType, Slot, alone, available, fires, load, or_lacking, or_refused,
    slot,
};

/// An object with one program, `probe`, whose section has this name.
pub(crate) fn object(section: &str, insns: Vec<Slot>) -> Object {
    try_object(section, insns).expect("it loads")
}

/// The same; `Err` where the kernel does not know such programs.
pub(crate) fn object_if_known(section: &str, insns: Vec<Slot>) -> Result<Object, String> {
    try_object(section, insns).map_err(|e| e.to_string())
}

/// As [`object`], where the kernel may refuse.
pub(crate) fn try_object(section: &str, insns: Vec<Slot>) -> Result<Object, LoadError> {
    let found = skep_abi::section::find(section).expect("the section is known");
    let len = u32::try_from(insns.len()).expect("short");
    let program = ProgramSpec {
        name: "probe".into(),
        section: section.into(),
        prog_type: Some(found.def.prog_type),
        attach_type: found.def.attach_type,
        attach_to: found.target.map(str::to_owned),
        flags: found.def.flags.load_flags(),
        autoload: true,
        insns,
        subprogs: vec![Subprog { name: "probe".into(), start: Pc(0), len, local: false }],
        relocs: Vec::new(),
        core_relos: Vec::new(),
        func_info: Vec::new(),
        line_info: Vec::new(),
        poisoned: Vec::new(),
    };
    let spec = ObjectSpec {
        license: "GPL".into(),
        version: None,
        programs: vec![program],
        maps: Vec::new(),
        externs: Vec::new(),
        btf: None,
    };
    let resolved = target::resolve(spec).expect("it asks for nothing");
    Object::load(&resolved, &LoadOptions::default())
}

pub(crate) fn spin() {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(200) {
        std::hint::black_box(0);
    }
}

#[test]
fn a_clock_runs_a_program() {
    require_kernel!(probe::can_load().into_result());
    let millisecond = Rate::Period(1_000_000);
    for (hook, event) in [
        ("perf_event, clock by period", PerfEvent::cpu_clock(millisecond)),
        ("perf_event, clock by frequency", PerfEvent::cpu_clock(Rate::Frequency(500))),
        (
            "perf_event, clock of one CPU",
            PerfEvent { cpu: Some(0), ..PerfEvent::cpu_clock(millisecond) },
        ),
    ] {
        let counter = Counter::new();
        // Idle time is counted too: the test need not run on the CPU it watches.
        let program = load(ProgType::PERF_EVENT, None, &counter.all(0));
        let link = attach_perf_event(&program, &event).expect("every kernel has this clock");
        fires(hook, &counter, link, spin);
    }
    let counter = Counter::new();
    let object = object("perf_event", counter.own());
    let event = PerfEvent { config: 1, ..PerfEvent::cpu_clock(millisecond) };
    let program = object.program("probe").expect("it is there");
    // `attach` with the clock of the calling thread.
    let event = PerfEvent { pid: Some(0), ..event };
    let link = attach(program, &Target::PerfEvent(event)).expect("every kernel has this clock");
    fires("perf_event, clock of one thread", &counter, link, spin);
    let error = attach(program, &Target::Section).expect_err("it does not say which event");
    assert!(error.to_string().contains("needs a perf event"), "{error}");
}

/// What is watched below.
static WATCHED: AtomicU64 = AtomicU64::new(0);

fn touch() {
    WATCHED.fetch_add(1, Ordering::SeqCst);
    // Pages that were never touched (so much memory is not kept for the next time), and a system
    // call that waits.
    let mut pages = std::hint::black_box(vec![0_u8; 1 << 26]);
    pages.iter_mut().step_by(4096).take(64).for_each(|byte| *byte = 1);
    drop(std::hint::black_box(pages));
    std::thread::sleep(Duration::from_millis(5));
    std::hint::black_box(std::os::unix::process::parent_id());
}

#[test]
fn events_by_name_run_a_program() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let watched = format!("mem:{:#x}/8:w", WATCHED.as_ptr().addr());
    for (row, name) in [
        ("perf_event, page-faults", "page-faults"),
        ("perf_event, context-switches", "cs"),
        ("perf_event, task-clock", "task-clock@2000hz"),
        ("perf_event, watched memory", watched.as_str()),
        ("perf_event, cycles", "cycles@100000"),
        ("perf_event, cache misses", "L1-dcache-load-misses@100"),
        ("perf_event, raw", "r1c2@1000"),
    ] {
        let event = PerfEvent { pid: Some(0), ..PerfEvent::parse(name).expect(name) };
        let counter = Counter::new();
        let program = load(ProgType::PERF_EVENT, None, &counter.all(0));
        let lacking = &[libc::ENOENT, libc::EOPNOTSUPP, libc::EINVAL];
        let link = or_lacking(attach_perf_event(&program, &event), lacking);
        let Some(link) = or_refused(row, link) else { continue };
        fires(row, &counter, link, || {
            touch();
            if name.contains("clock") {
                spin();
            }
        });
    }
}

#[test]
fn a_tracepoint_by_its_number_runs_a_program_on_an_event() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let row = "perf_event, tracepoint by number";
    let id = tracepoint_id("raw_syscalls", "sys_enter").expect("every kernel has this tracepoint");
    let counter = Counter::new();
    let program = load(ProgType::TRACEPOINT, None, &counter.own());
    let event = PerfEvent { pid: Some(0), ..PerfEvent::tracepoint(id) };
    let link = attach_perf_event(&program, &event).expect("every kernel has this tracepoint");
    fires(row, &counter, link, touch);
}

#[test]
fn a_clock_of_a_cgroup_runs_a_program() {
    require_kernel!(probe::can_load().into_result());
    let cgroup = available!(super::cgroup::Cgroup::new());
    let row = "perf_event, clock of a cgroup";
    let counter = Counter::new();
    let object = object("perf_event", counter.all(0));
    let program = object.program("probe").expect("it is there");
    let event = PerfEvent::cpu_clock(Rate::Period(100_000));
    let link = attach(program, &Target::PerfEventIn(event, cgroup.fd()));
    let lacking = &[libc::EINVAL, libc::EBADF, libc::ENOENT];
    let Some(link) = or_refused(row, or_lacking(link, lacking)) else { return };
    // What runs outside is not seen.
    spin();
    assert_eq!(counter.get(), 0);
    fires(row, &counter, link, || cgroup.run("device"));
}

#[test]
fn an_iterator_is_read() {
    require_kernel!(probe::can_load().into_result());
    let btf = target::vmlinux_btf();
    require_kernel!(btf.as_ref().map(drop).map_err(ToString::to_string));
    // if ctx->task != 0: bpf_seq_write(ctx->meta->seq, "task", 4)
    let text = i32::from_le_bytes(*b"task");
    let insns = [
        slot(0x79, 2, 1, 8, 0),
        slot(0x15, 2, 0, 7, 0),
        slot(0x62, 10, 0, -4, text),
        slot(0x79, 1, 1, 0, 0),
        slot(0x79, 1, 1, 0, 0),
        slot(0xbf, 2, 10, 0, 0),
        slot(0x07, 2, 0, 0, -4),
        slot(0xb7, 3, 0, 0, 4),
        slot(0x85, 0, 0, 0, 127),
        slot(0xb7, 0, 0, 0, 0),
        slot(0x95, 0, 0, 0, 0),
    ];
    let read = |link: &skep_kernel::Link| {
        let mut bytes = Vec::new();
        link.read_iter().expect("an iterator").read_to_end(&mut bytes).expect("readable");
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.chunks(4).all(|record| record == b"task"));
        bytes.len() / 4
    };
    let object = object("iter/task", insns.to_vec());
    let program = object.program("probe").expect("it is there");
    let link = attach(program, &Target::Section).expect("every kernel has this iterator");
    let tasks = read(&link);
    assert!(tasks >= 2, "{tasks} tasks");
    fired("iter/task", link.method());
    // An older kernel does not know targets among tasks.
    match attach_iter(program, IterTarget::Process(std::process::id())) {
        Ok(link) => {
            let own = read(&link);
            assert!(own >= 1 && own < tasks, "{own} of {tasks}");
            fired("iter/task of one process", link.method());
        }
        Err(e) => refused("iter/task of one process", &e.to_string()),
    }
    link.detach().expect("it detaches");
    let counter = Counter::new();
    let other = load(ProgType::RAW_TRACEPOINT, None, &counter.own());
    let link = attach_raw_tracepoint(&other, "sys_enter").expect("it is everywhere");
    assert!(link.read_iter().is_err(), "a raw tracepoint cannot be read");
}

#[test]
fn a_map_is_iterated() {
    require_kernel!(probe::can_load().into_result());
    let btf = target::vmlinux_btf();
    require_kernel!(btf.as_ref().map(drop).map_err(ToString::to_string));
    let id = btf.expect("read").find(KindTag::Func, "bpf_iter_bpf_map_elem").next();
    let counter = Counter::new();
    let insns = counter.all(0);
    let mut new = ProgramLoad::new("elements", ProgType::TRACING, &insns);
    new.attach_type = Some(AttachType::TRACE_ITER);
    new.attach_btf_id = id.expect("every kernel has this iterator").0;
    let program = Program::load(&new).expect("it is valid");
    let target = Counter::new();
    let link = attach_iter(&program, IterTarget::Map(&target.map)).expect("it is a map");
    let mut nothing = Vec::new();
    link.read_iter().expect("an iterator").read_to_end(&mut nothing).expect("readable");
    // One element, and the end.
    assert_eq!((counter.get(), nothing.len()), (2, 0));
    fired("iter/bpf_map_elem", link.method());
    assert!(attach_iter(&program, IterTarget::All).is_err(), "it needs a map");
}

#[test]
fn a_writable_raw_tracepoint_fires() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let counter = Counter::new();
    // r1 = *(u64 *)(ctx + 0); r2 = *(u32 *)r1: what an ordinary raw tracepoint may not.
    let mut insns = vec![slot(0x79, 1, 1, 0, 0), slot(0x61, 2, 1, 0, 0)];
    insns.extend(counter.own());
    let object = object("raw_tp.w/bpf_test_finish", insns);
    let program = object.program("probe").expect("it is there");
    let link = attach(program, &Target::Section).expect("every kernel has this tracepoint");
    // The end of a test run is the tracepoint.
    let run = load(ProgType::SOCKET_FILTER, None, &Counter::new().all(0));
    fires("raw_tp.w", &counter, link, || {
        let options = TestRunOptions { data: &[0; 64], ..TestRunOptions::default() };
        run.test_run(&options).expect("socket filters can be run");
    });
}
