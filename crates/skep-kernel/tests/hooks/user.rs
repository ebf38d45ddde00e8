//! User functions: of this binary, and of libc, in this process only.

use skep_kernel::{
    AttachError, Object, Program, ProgramLoad, Target, attach,
    link::{
        ElfError, Method, Place, Uprobe, attach_uprobe, attach_uprobe_by_tracefs,
        attach_uprobe_multi,
    },
    probe,
};
use skep_testing::{Skip, require_kernel, skip};

use super::{AttachType, Counter, ProgType, alone, fires, load, or_lacking, or_refused};

const SELF: &str = "/proc/self/exe";

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn skep_test_probed_one(n: u64) -> u64 {
    std::hint::black_box(n) + 1
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn skep_test_probed_two(n: u64) -> u64 {
    std::hint::black_box(n) + 2
}

fn act() {
    for n in 0..5 {
        let sum = skep_test_probed_one(n) + skep_test_probed_two(n);
        assert_eq!(sum, 2 * n + 3);
    }
}

fn own<'a>(place: Place<'a>, returns: bool) -> Uprobe<'a> {
    let pid = Some(std::process::id());
    Uprobe { binary: SELF, place, returns, pid, reference_counter: 0, cookie: 0 }
}

#[test]
fn uprobes_fire_at_entry_and_return_for_one_process_and_all() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let one = Place::Function("skep_test_probed_one", 0);
    for (hook, probe) in [
        ("uprobe", own(one, false)),
        ("uretprobe", own(one, true)),
        ("uprobe of all processes", Uprobe { pid: None, ..own(one, false) }),
    ] {
        let counter = Counter::new();
        let program = load(ProgType::KPROBE, None, &counter.own());
        let link = attach_uprobe(&program, &probe).expect("every kernel has uprobes");
        assert!(matches!(link.method(), Method::Link | Method::PerfEvent), "{}", link.method());
        act();
        assert_eq!(counter.get(), 5, "{}", link.hook());
        fires(hook, &counter, link, act);
    }
}

/// Entry and return count alike; what the registers hold tells them apart.
#[test]
#[cfg(target_arch = "x86_64")]
fn an_entry_sees_the_argument_and_a_return_the_result() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    const RDI: i16 = 112; // offsets in struct pt_regs
    const RAX: i16 = 80;
    let one = Place::Function("skep_test_probed_one", 0);
    for (returns, register, sum) in [(false, RDI, 10), (true, RAX, 15)] {
        let counter = Counter::new();
        let program = load(ProgType::KPROBE, None, &counter.add_field(register));
        let link = attach_uprobe(&program, &own(one, returns)).expect("every kernel has uprobes");
        act();
        assert_eq!(counter.get(), sum, "{}", link.hook());
    }
}

#[test]
fn a_uprobe_of_another_process_does_not_fire_in_this_one() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let counter = Counter::new();
    let program = load(ProgType::KPROBE, None, &counter.own());
    let one = Place::Function("skep_test_probed_one", 0);
    let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
    let probe = Uprobe { pid: Some(child.id()), ..own(one, false) };
    let link = attach_uprobe(&program, &probe);
    act();
    child.kill().expect("it is ours");
    child.wait().expect("it ends");
    drop(link.expect("the process was there"));
    assert_eq!(counter.get(), 0);
    let gone = Uprobe { pid: Some(0x7fff_fff0), ..probe };
    let error = attach_uprobe(&program, &gone).expect_err("there is no such process");
    assert!(matches!(&error, AttachError::Refused { source, .. } if source.errno() == libc::ESRCH));
}

#[test]
fn what_is_not_there_is_named() {
    require_kernel!(probe::can_load().into_result());
    let program = load(ProgType::KPROBE, None, &Counter::new().own());
    let nowhere = Uprobe::function(SELF, "no_such_function_anywhere");
    let error = attach_uprobe(&program, &nowhere).unwrap_err();
    assert!(
        matches!(&error, AttachError::Binary { source: ElfError::NoSymbol { symbol, .. }, .. }
            if symbol == "no_such_function_anywhere"),
        "{error:?}"
    );
    let nothing = Uprobe::function("no-such-library.so.7", "f");
    let error = attach_uprobe(&program, &nothing).unwrap_err();
    let ok = matches!(&error, AttachError::Binary { source: ElfError::NoBinary { .. }, .. });
    assert!(ok, "{error:?}");
    let many = own(Place::Pattern("skep_test_probed_*"), false);
    assert!(matches!(attach_uprobe(&program, &many), Err(AttachError::Refused { .. })));
}

#[test]
fn a_library_is_found_by_its_name() {
    require_kernel!(probe::can_load().into_result());
    let maps = std::fs::read_to_string("/proc/self/maps").expect("it is there");
    if !maps.contains("/libc.so.6") {
        skip(Skip::Tool, "user::a_library_is_found_by_its_name", "the test is linked statically");
        return;
    }
    let _alone = alone();
    for name in ["libc.so.6", "libc"] {
        let counter = Counter::new();
        let program = load(ProgType::KPROBE, None, &counter.own());
        let probe = Uprobe { pid: Some(std::process::id()), ..Uprobe::function(name, "getppid") };
        let link = attach_uprobe(&program, &probe).expect("libc has it");
        fires("uprobe by library name", &counter, link, || {
            std::hint::black_box(std::os::unix::process::parent_id());
        });
    }
}

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".globl skep_test_steps",
    ".type skep_test_steps, @function",
    "skep_test_steps:",
    "nop",
    "nop",
    "lea rax, [rdi + 1]",
    "ret",
    ".size skep_test_steps, . - skep_test_steps",
);

#[test]
#[cfg(target_arch = "x86_64")]
fn a_place_behind_the_start_of_a_function() {
    // SAFETY: the function above has this signature, and touches no memory.
    unsafe extern "C" {
        safe fn skep_test_steps(n: u64) -> u64;
    }
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let counter = Counter::new();
    let program = load(ProgType::KPROBE, None, &counter.own());
    let link = attach_uprobe(&program, &own(Place::Function("skep_test_steps", 1), false));
    let act = || assert_eq!(skep_test_steps(7), 8);
    fires("uprobe behind a function's start", &counter, link.expect("every kernel can"), act);
}

#[test]
fn uprobes_fire_by_tracefs() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let one = Place::Function("skep_test_probed_one", 0);
    for (row, returns) in [("uprobe by tracefs", false), ("uretprobe by tracefs", true)] {
        let counter = Counter::new();
        let program = load(ProgType::KPROBE, None, &counter.own());
        // Tracefs resolves the link to this binary in the process that writes.
        let link = attach_uprobe_by_tracefs(&program, &own(one, returns));
        let Some(link) = or_refused(row, or_lacking(link, &[libc::ENOENT])) else { return };
        assert_eq!(link.method(), Method::Tracefs);
        fires(row, &counter, link, act);
    }
    let own_probe = format!("skep/probe_{}_", std::process::id());
    let left = std::fs::read_to_string("/sys/kernel/tracing/uprobe_events").unwrap_or_default();
    assert!(!left.contains(&own_probe), "a probe was left behind: {left}");
}

#[test]
fn many_uprobes_by_one_link() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    for (hook, place, returns) in [
        ("uprobe.multi", Place::Pattern("skep_test_probed_*"), false),
        ("uretprobe.multi", Place::Function("skep_test_probed_one", 0), true),
    ] {
        let counter = Counter::new();
        let insns = counter.own();
        let mut new = ProgramLoad::new("many", ProgType::KPROBE, &insns);
        new.attach_type = Some(AttachType::TRACE_UPROBE_MULTI);
        // A kernel that does not know the attach type ignores it at load.
        let program = Program::load(&new).expect("it is valid");
        let link = attach_uprobe_multi(&program, &own(place, returns));
        let link = or_lacking(link, &[libc::EINVAL]);
        let Some(link) = or_refused(hook, link) else { continue };
        act();
        assert_eq!(counter.get(), if returns { 5 } else { 10 });
        fires(hook, &counter, link, act);
    }
}

#[test]
fn section_names_say_where() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    for section in [
        "uprobe//proc/self/exe:skep_test_probed_one",
        "uretprobe//proc/self/exe:skep_test_probed_two",
    ] {
        let counter = Counter::new();
        let object = object(section, &counter);
        let program = object.program("probe").expect("it is there");
        let link = attach(program, &Target::Process(std::process::id())).expect("it is there");
        fires("uprobe by section name", &counter, link, act);
        let link = attach(program, &Target::Section).expect("it is there");
        fires("uprobe by section name", &counter, link, act);
    }
    for wrong in ["uprobe", "uprobe//proc/self/exe", "uretprobe//proc/self/exe:f+4"] {
        let object = object(wrong, &Counter::new());
        let program = object.program("probe").expect("it is there");
        let error = attach(program, &Target::Section).expect_err(wrong);
        let named = matches!(error, AttachError::NeedsTarget { .. } | AttachError::Name { .. });
        assert!(named, "{wrong}: {error}");
    }
}

/// An object with one program whose section has this name.
fn object(section: &str, counter: &Counter) -> Object {
    super::events::object(section, counter.own())
}
