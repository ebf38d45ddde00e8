//! Static probes of user space: in this binary, and in Python's.
#![cfg(target_arch = "x86_64")]

use std::{
    fs,
    process::{Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use skep_kernel::{
    AttachError, Link, LoadOptions, Map, Object, Program, Target, attach, attach_with,
    link::{
        ElfError, Method, Place, Uprobe, Usdt, attach_uprobe, attach_uprobe_by_tracefs,
        attach_usdt, usdt::static_probes,
    },
    probe, target,
};
use skep_object::{
    ObjectSpec,
    resolve::{self, Symbols},
};
use skep_testing::{Skip, repository, require_kernel, skip};

use super::{ProgType, alone, fires, or_lacking, or_refused};

/// A place of `skep_test:NAME`: a no-op, and the note about it, as `sys/sdt.h` writes them.
macro_rules! static_probe {
    ($name:literal, $semaphore:literal, $args:literal, $($operand:tt)*) => {
        std::arch::asm!(
            "990: nop",
            ".pushsection .note.stapsdt, \"\", \"note\"",
            ".balign 4",
            ".4byte 992f - 991f, 994f - 993f, 3",
            "991: .asciz \"stapsdt\"",
            "992: .balign 4",
            "993: .8byte 990b",
            ".8byte _.stapsdt.base",
            concat!(".8byte ", $semaphore),
            ".asciz \"skep_test\"",
            concat!(".asciz \"", $name, "\""),
            concat!(".asciz \"", $args, "\""),
            "994: .balign 4",
            ".popsection",
            ".ifndef _.stapsdt.base",
            ".pushsection .stapsdt.base, \"aG\", \"progbits\", .stapsdt.base, comdat",
            ".weak _.stapsdt.base",
            ".hidden _.stapsdt.base",
            "_.stapsdt.base: .space 1",
            ".size _.stapsdt.base, 1",
            ".popsection",
            ".endif",
            $($operand)*
            options(att_syntax, nostack, preserves_flags)
        )
    };
}

/// How many watch `skep_test:args`; the kernel counts in it.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".probes")]
static skep_test_args_semaphore: AtomicU16 = AtomicU16::new(0);

/// Who lists all links at this time holds them for a moment longer.
fn nobody_watches() -> bool {
    let begin = Instant::now();
    while watchers() > 0 && begin.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(1));
    }
    watchers() == 0
}

fn watchers() -> u16 {
    skep_test_args_semaphore.load(Ordering::SeqCst)
}

#[inline(never)]
fn pass(number: i32, long: u64, record: &[i32; 4]) {
    let record = record.as_ptr();
    // SAFETY: the instruction is a no-op; what the note says is read by nobody but probes.
    unsafe {
        static_probe!(
            "args", "skep_test_args_semaphore",
            "-4@{number:e} 8@{long} -4@$-9 1@$200 4@4({record}) -4@8({record}) 2@{number:x} \
             -1@{small} 8f@%xmm0",
            number = in(reg) number,
            long = in(reg) long,
            record = in(reg) record,
            small = in(reg_byte) -3_i8,
        );
    }
}

/// The same probe a second time, with its arguments elsewhere.
#[inline(never)]
fn pass_elsewhere(number: i32) {
    // SAFETY: as above.
    unsafe {
        static_probe!("args", "skep_test_args_semaphore", "-4@{number:e}", number = in(reg) number,);
    }
}

#[inline(never)]
fn pass_indexed(records: &[u16], index: u64) {
    // SAFETY: as above.
    unsafe {
        static_probe!(
            "indexed", "0",
            "2@2({records},{index},2)",
            records = in(reg) records.as_ptr(),
            index = in(reg) index,
        );
    }
}

const SELF: &str = "/proc/self/exe";

fn object(name: &str) -> ObjectSpec {
    let path = repository().join("tests/data/objects").join(name);
    ObjectSpec::parse(&fs::read(path).expect("it is committed")).expect("it is well-formed")
}

/// Loads; programs are told about cookies what the kernel has, or (`false`) that it has none.
fn load(mut spec: ObjectSpec, cookies: bool) -> Object {
    let pid = std::process::id().to_ne_bytes();
    for map in &mut spec.maps {
        let only = map.variables.iter().find(|v| v.name == "only_pid").map(|v| v.offset as usize);
        if let (Some(at), Some(data)) = (only, &mut map.data) {
            data.get_mut(at..at + 4).expect("it has 4 bytes").copy_from_slice(&pid);
        }
    }
    let told = resolve::Target {
        btf: None,
        modules: &[],
        kernel_version: target::kernel_version(),
        kconfig: None,
        has_bpf_cookie: cookies && probe::bpf_cookie().is_yes(),
        has_syscall_wrapper: true,
        symbols: Symbols::Engine,
    };
    let resolved = resolve::resolve(spec, &told).expect("it asks for little");
    let options = LoadOptions { pin_root: None, ..LoadOptions::default() };
    Object::load(&resolved, &options).expect("it loads")
}

/// `struct seen` of the object.
#[derive(Debug)]
struct Seen {
    hits: u64,
    cookie: i64,
    count: i64,
    args: [i64; 12],
    errors: [i64; 12],
}

fn seen(object: &Object) -> Seen {
    let all = object.map(".bss").expect("globals").lookup_vec(&[0; 4]).expect("readable");
    let all = all.expect("arrays are full");
    let mut words = all.chunks_exact(8).map(|word| i64::from_ne_bytes(word.try_into().expect("8")));
    let mut next = || words.next().expect("27 words");
    Seen {
        hits: next().cast_unsigned(),
        cookie: next(),
        count: next(),
        args: std::array::from_fn(|_| next()),
        errors: std::array::from_fn(|_| next()),
    }
}

const RECORD: [i32; 4] = [1, 70_000, -70_000, 4];

/// Sees both places of the probe, with the right arguments.
fn both_places(object: &Object, cookie: i64) {
    let before = seen(object).hits;
    pass(-5, 1 << 40, &RECORD);
    let first = seen(object);
    assert_eq!((first.hits, first.cookie, first.count), (before + 1, cookie, 9), "{first:?}");
    assert_eq!(first.args[..9], [-5, 1 << 40, -9, 200, 70_000, -70_000, 0xfffb, -3, 0]);
    assert_eq!(first.errors[..8], [0; 8]);
    // A floating point number cannot be read, and arguments from the tenth on are not there.
    let errors = (-i64::from(libc::EINVAL), -i64::from(libc::ENOENT));
    assert_eq!((first.errors[8], first.errors[9]), errors);
    pass_elsewhere(77);
    let second = seen(object);
    assert_eq!((second.hits, second.count, second.args[0]), (before + 2, 1, 77), "{second:?}");
}

fn gone(row: &str, object: &Object, link: Link) {
    let (hook, method, before) = (link.hook().to_owned(), link.method(), seen(object).hits);
    assert!(watchers() > 0, "{hook}: nobody is counted as watching");
    link.detach().expect("it detaches");
    assert!(nobody_watches(), "{hook}: somebody still counts as watching");
    pass(1, 2, &RECORD);
    assert_eq!(seen(object).hits, before, "{hook} by {method}: counted after it was detached");
    skep_testing::fired(row, method);
}

fn own() -> Usdt<'static> {
    let pid = Some(std::process::id());
    Usdt { binary: SELF, provider: "skep_test", name: "args", pid, cookie: 0 }
}

fn number_of_specs(map: &Map) -> usize {
    let keys = 0..map.def().max_entries;
    let value = |key: u32| map.lookup_vec(&key.to_ne_bytes()).expect("readable").expect("full");
    keys.filter(|&key| value(key).iter().any(|&byte| byte != 0)).count()
}

#[test]
fn arguments_arrive_and_the_counter_of_watchers_counts() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let loaded = load(object("usdt.bpf.o"), true);
    let program = loaded.program("args").expect("it is there");
    let link = attach(program, &Target::Process(std::process::id())).expect("it attaches");
    assert!(link.notices().iter().any(|n| n.contains("8f@%xmm0")), "{:?}", link.notices());
    both_places(&loaded, 0);
    gone("usdt of one process", &loaded, link);
    let specs = loaded.map("__bpf_usdt_specs").expect("it is there");
    assert_eq!(number_of_specs(specs), 2);
    // The same again, with a cookie, twice at once: entries are reused and shared.
    for round in 1..=3 {
        let again = || attach_usdt(program, &Usdt { cookie: 40 + round, ..own() });
        let (link, other) = (again().expect("it attaches"), again().expect("it attaches"));
        other.detach().expect("it detaches");
        both_places(&loaded, 40 + i64::try_from(round).expect("small"));
        gone("usdt of one process", &loaded, link);
        assert_eq!(number_of_specs(specs), 2);
    }
}

#[test]
fn a_static_probe_of_all_processes() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let loaded = load(object("usdt.bpf.o"), true);
    let program = loaded.program("args").expect("it is there");
    let link = attach_with(program, &Target::Section, 9);
    if !probe::bpf_cookie().is_yes() {
        // This binary can lie at any address.
        let error = link.expect_err("no cookies, no process").to_string();
        assert!(error.contains("not attached"), "{error}");
        return;
    }
    both_places(&loaded, 9);
    gone("usdt", &loaded, link.expect("it attaches"));
}

#[test]
fn a_kernel_without_cookies_finds_arguments_by_address() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let mut spec = object("usdt.bpf.o");
    // By perf events, one for each place, as such a kernel has them.
    for program in &mut spec.programs {
        program.section = "uprobe".into();
    }
    let loaded = load(spec, false);
    let program = loaded.program("anywhere").expect("it is there");
    let addresses = loaded.map("__bpf_usdt_ip_to_spec_id").expect("it is there");
    let entries = || {
        let mut key = [0; 8];
        addresses.next_key(None, &mut key).expect("readable")
    };
    let link = attach_usdt(program, &Usdt { cookie: 5, ..own() }).expect("it attaches");
    assert!(matches!(link.method(), Method::Link | Method::PerfEvent), "{}", link.method());
    both_places(&loaded, 5);
    assert!(entries());
    // Who stops at one address cannot have two cookies.
    let error = attach_usdt(program, &own()).expect_err("two cookies at one address");
    let errno =
        matches!(&error, AttachError::Refused { source, .. } if source.errno() == libc::EEXIST);
    assert!(errno, "{error}");
    both_places(&loaded, 5);
    gone("usdt without cookies", &loaded, link);
    assert!(!entries(), "an address was left behind");
    let error =
        attach_usdt(program, &Usdt { pid: None, ..own() }).expect_err("it may lie anywhere");
    assert!(matches!(error, AttachError::Refused { .. }), "{error}");
}

#[test]
fn an_argument_in_indexed_memory() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(probe::bpf_cookie().into_result());
    let _alone = alone();
    let loaded = load(object("usdt_indexed.bpf.o"), true);
    let program = loaded.program("indexed").expect("it is there");
    let link = attach(program, &Target::Process(std::process::id())).expect("it attaches");
    assert_eq!(link.notices(), [""; 0]);
    pass_indexed(&[1, 2, 3, 4, 50_000, 6], 3);
    let globals = loaded.map(".bss").expect("globals").lookup_vec(&[0; 4]).expect("readable");
    let mut want = 1_u64.to_ne_bytes().to_vec();
    want.extend_from_slice(&50_000_u64.to_ne_bytes());
    assert_eq!(globals, Some(want));
    drop(link);
    // A header that does not know such arguments.
    let loaded = load(object("usdt.bpf.o"), true);
    let program = loaded.program("anywhere").expect("it is there");
    let link = attach_usdt(program, &Usdt { name: "indexed", ..own() }).expect("it attaches");
    assert!(link.notices().concat().contains("indexed memory"), "{:?}", link.notices());
    pass_indexed(&[1, 2, 3], 1);
    // The object's filter by process lets only this one through.
    assert_eq!(seen(&loaded).errors[0], -i64::from(libc::EINVAL));
}

/// A uprobe with a counter beside it, as static probes have one.
#[test]
fn a_uprobe_counts_who_watches() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let notes = static_probes(SELF).expect("readable");
    let note = notes.probes.iter().find(|note| note.name == "args").expect("it is above");
    let offset = notes.code_offset(note.address).expect("it is code");
    let counter_at = notes.data_offset(note.semaphore).expect("it is data");
    let counter = super::Counter::new();
    let program = super::load(ProgType::KPROBE, None, &counter.own());
    let probe = Uprobe {
        place: Place::Offset(offset),
        pid: Some(std::process::id()),
        reference_counter: counter_at,
        ..Uprobe::function(SELF, "unused")
    };
    type How = fn(&Program, &Uprobe<'_>) -> Result<Link, AttachError>;
    let ways: [(&str, How); 2] = [
        ("uprobe with a counter", attach_uprobe),
        ("uprobe with a counter by tracefs", attach_uprobe_by_tracefs),
    ];
    for (row, attach) in ways {
        let link = or_lacking(attach(&program, &probe), &[libc::ENOENT]);
        let Some(link) = or_refused(row, link) else { continue };
        assert!(watchers() > 0, "{row}");
        fires(row, &counter, link, || {
            pass(1, 2, &RECORD);
            pass_elsewhere(3);
        });
    }
    assert!(nobody_watches());
}

#[test]
fn what_is_not_there_is_named() {
    require_kernel!(probe::can_load().into_result());
    let loaded = load(object("usdt.bpf.o"), true);
    let program = loaded.program("anywhere").expect("it is there");
    let error = attach_usdt(program, &Usdt { name: "nothing", ..own() }).expect_err("not there");
    let AttachError::Binary { source, .. } = error else { panic!("{error}") };
    let text = source.to_string();
    assert!(text.contains("skep_test:nothing") && text.contains("skep_test:args"), "{text}");
    assert!(matches!(source, ElfError::NoProbe { .. }));
    let error = attach(program, &Target::Section).expect_err("it says no place");
    assert!(matches!(error, AttachError::NeedsTarget { .. }), "{error}");
    let notes = static_probes(SELF).expect("readable");
    let own = notes.probes.iter().filter(|note| note.provider == "skep_test");
    assert_eq!(own.count(), 3);
}

#[test]
fn a_probe_of_python() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(probe::bpf_cookie().into_result());
    const TEST: &str = "usdt::a_probe_of_python";
    const PYTHON: &str = "/usr/bin/python3";
    let has = |binary: &str| {
        let notes = static_probes(binary).ok();
        notes.is_some_and(|notes| notes.probes.iter().any(|note| note.name == "gc__start"))
    };
    if !has(PYTHON) {
        skip(Skip::Tool, TEST, "there is no Python with static probes");
        return;
    }
    let mut spec = object("usdt.bpf.o");
    spec.programs.retain(|program| program.name == "anywhere");
    let mut command = Command::new(PYTHON);
    command.args(["-c", "import gc, sys; sys.stdin.read(); gc.collect(1)"]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("Python");
    for map in &mut spec.maps {
        // `load` would watch this process.
        map.variables.retain(|variable| variable.name != "only_pid");
    }
    let loaded = load(spec, true);
    let program = loaded.program("anywhere").expect("it is there");
    let usdt = Usdt { binary: PYTHON, provider: "python", name: "gc__start", ..own() };
    let usdt = Usdt { pid: Some(child.id()), ..usdt };
    let link = attach_usdt(program, &usdt);
    drop(child.stdin.take());
    let status = child.wait().expect("it ends");
    drop(link.expect("it attaches"));
    assert!(status.success());
    let seen = seen(&loaded);
    // The generation that is collected; at its end Python collects the last one.
    assert!(seen.hits >= 1 && seen.count == 1, "{seen:?}");
    assert!((1..=2).contains(&seen.args[0]), "{seen:?}");
}
