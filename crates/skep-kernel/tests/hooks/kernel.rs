//! Functions of the kernel: kprobes, and what needs a trampoline. Nothing here denies anything.

use skep_abi::section;
use skep_btf::KindTag;
use skep_kernel::{
    AttachError, Object, Program, ProgramLoad, Target, TestRunOptions, attach,
    link::{
        Kprobe, KprobeMulti, Method, attach_freplace, attach_kprobe, attach_kprobe_by_tracefs,
        attach_kprobe_multi, attach_ksyscall, attach_lsm, attach_tracing,
    },
    probe, target,
};
use skep_testing::{Skip, require_kernel, skip};

use super::{AttachType, Counter, ProgType, alone, fires, load, or_lacking, or_refused, slot};

/// What a kernel without kprobes, or without many at once, says.
const LACKING: &[i32] = &[libc::ENOENT, libc::EOPNOTSUPP, libc::EINVAL];

fn act() {
    for _ in 0..5 {
        std::hint::black_box(std::os::unix::process::parent_id());
    }
}

/// The function behind `getppid`, as this kernel calls it.
fn getppid() -> &'static str {
    "__x64_sys_getppid"
}

fn open_a_file() {
    std::fs::File::open("/proc/self/status").expect("it is there");
}

#[test]
fn kprobes_fire_by_perf_event_and_by_tracefs() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let counter = Counter::new();
    let program = load(ProgType::KPROBE, None, &counter.own());
    for (kind, by_name, returns) in
        [("kprobe", "ksyscall", false), ("kretprobe", "kretsyscall", true)]
    {
        let probe = Kprobe { returns, ..Kprobe::function(getppid()) };
        let link = or_lacking(attach_kprobe(&program, &probe), LACKING);
        if let Some(link) = or_refused(kind, link) {
            fires(kind, &counter, link, act);
        }
        let hook = format!("{kind} by tracefs");
        let link = or_lacking(attach_kprobe_by_tracefs(&program, &probe), LACKING);
        if let Some(link) = or_refused(&hook, link) {
            fires(&hook, &counter, link, act);
        }
        let link = or_lacking(attach_ksyscall(&program, "getppid", returns), LACKING);
        if let Some(link) = or_refused(by_name, link) {
            fires(by_name, &counter, link, act);
        }
    }
    let wrong = attach_kprobe(&program, &Kprobe::function("no_such_function_anywhere"));
    assert!(matches!(wrong, Err(AttachError::Refused { .. })));
    // A kernel without kprobes has no such file.
    let left = std::fs::read_to_string("/sys/kernel/tracing/kprobe_events").unwrap_or_default();
    assert!(!left.contains("skep/"), "a probe was left behind");
}

#[test]
fn kprobes_fire_by_section_name() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    for section in ["ksyscall/getppid", "kretsyscall/getppid", "kprobe/__x64_sys_getppid"] {
        let counter = Counter::new();
        let object = object(section, &counter);
        let program = object.program("probe").expect("it is there");
        let hook = "kprobe by section name";
        let link = or_lacking(attach(program, &Target::Section), LACKING);
        let Some(link) = or_refused(hook, link) else { return };
        fires(hook, &counter, link, act);
    }
}

#[test]
fn many_kprobes_by_one_link() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    for (hook, functions, returns) in [
        ("kprobe.multi", ["__x64_sys_getppid", "__x64_sys_getpgid"], false),
        ("kretprobe.multi", ["__x64_sys_getppid", "__x64_sys_getpgid"], true),
        ("kprobe.multi by pattern", ["vfs_ope?", "vfs_open*"], false),
    ] {
        let counter = Counter::new();
        let kind = Some(AttachType::TRACE_KPROBE_MULTI);
        let program = load(ProgType::KPROBE, kind, &counter.own());
        let probe = KprobeMulti { functions: &functions, cookies: &[], returns };
        let link = attach_kprobe_multi(&program, &probe);
        // Reading the list of functions is forbidden where there are no such links.
        let lacking = [LACKING, &[libc::EPERM]].concat();
        let Some(link) = or_refused(hook, or_lacking(link, &lacking)) else { continue };
        fires(hook, &counter, link, || {
            act();
            open_a_file();
        });
        let nowhere = KprobeMulti { functions: &["no_such_function_*"], ..probe };
        let nothing = attach_kprobe_multi(&program, &nowhere);
        assert!(matches!(nothing, Err(AttachError::Refused { .. })));
    }
}

/// Loads for a place in the kernel's BTF; `Err` where the kernel refuses trampolines.
fn trampoline(
    section: &str,
    counter: &Counter,
    insns: Vec<skep_isa::Slot>,
) -> Result<Program, String> {
    let found = section::find(section).expect("known");
    let name = found.target.expect("it has a target");
    let prefix = if found.def.prog_type == ProgType::LSM { "bpf_lsm_" } else { "" };
    let btf = target::vmlinux_btf().map_err(|e| e.to_string())?;
    let id = btf.find(KindTag::Func, &format!("{prefix}{name}")).next();
    let id = id.ok_or_else(|| format!("this kernel has no {prefix}{name}"))?;
    let mut new = ProgramLoad::new("counter", found.def.prog_type, &insns);
    new.attach_type = found.def.attach_type;
    new.flags = found.def.flags.load_flags();
    new.attach_btf_id = id.0;
    assert_eq!(counter.get(), 0);
    Program::load(&new).map_err(|e| match e {
        skep_kernel::LoadError::Refused { source, .. } => format!("{source}: {}", source.source),
        other => panic!("{section}: {other}"),
    })
}

#[test]
fn fentry_fexit_and_fmod_ret_fire() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    for section in ["fentry/vfs_open", "fexit/vfs_open", "fmod_ret/security_file_open"] {
        let (hook, _) = section.split_once('/').expect("it has a target");
        let counter = Counter::new();
        let insns = counter.own();
        let program = trampoline(section, &counter, insns);
        let Some(program) = or_refused(hook, program) else { continue };
        let link = attach_tracing(&program).expect("it was loaded for this");
        fires(hook, &counter, link, open_a_file);
    }
    let counter = Counter::new();
    require_kernel!(trampoline("fentry/vfs_open", &counter, counter.own()).map(drop));
    let object = object("fentry/vfs_open", &counter);
    let program = object.program("probe").expect("it is there");
    let link = attach(program, &Target::Section).expect("it was loaded for this");
    fires("fentry by section name", &counter, link, open_a_file);
}

#[test]
fn an_lsm_program_observes() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let counter = Counter::new();
    // The verdict is always 0: nothing is denied.
    let insns = counter.own();
    let program = trampoline("lsm/file_open", &counter, insns);
    let Some(program) = or_refused("lsm", program) else { return };
    let link = attach_lsm(&program).expect("it was loaded for this");
    fires("lsm", &counter, link, open_a_file);
    // One that may sleep.
    let counter = Counter::new();
    let object = super::cookies::loaded("lsm.s/file_open", counter.own());
    let Some(object) = or_refused("lsm.s", object) else { return };
    let program = object.program("probe").expect("it is there");
    let link = attach_lsm(program).expect("it was loaded for this");
    fires("lsm.s", &counter, link, open_a_file);
}

#[test]
fn an_lsm_program_denies_in_a_guest() {
    require_kernel!(probe::can_load().into_result());
    if !super::in_guest() {
        let reason = "this machine is not made for tests that deny";
        skip(Skip::Kernel, "kernel::an_lsm_program_denies_in_a_guest", reason);
        return;
    }
    let _alone = alone();
    let own = i32::try_from(std::process::id()).expect("pids are small");
    let counter = Counter::new();
    let mut insns = vec![
        slot(0x85, 0, 0, 0, 14),
        slot(0x77, 0, 0, 0, 32),
        slot(0x15, 0, 0, 2, own),
        slot(0xb7, 0, 0, 0, 0),
        slot(0x95, 0, 0, 0, 0),
    ];
    insns.extend(counter.all(-libc::EPERM));
    let program = trampoline("lsm/inode_mkdir", &counter, insns);
    let Some(program) = or_refused("lsm, denying", program) else { return };
    let place = std::env::temp_dir().join("skep-denied");
    let link = attach_lsm(&program).expect("it was loaded for this");
    let denied = std::fs::create_dir(&place).expect_err("it is denied");
    assert_eq!(denied.raw_os_error(), Some(libc::EPERM));
    assert_eq!(counter.get(), 1);
    link.detach().expect("it detaches");
    std::fs::create_dir(&place).expect("nobody denies it any more");
    std::fs::remove_dir(&place).expect("made above");
    assert_eq!(counter.get(), 1);
    skep_testing::fired("lsm, denying", Method::Link);
}

fn object(section: &str, counter: &Counter) -> Object {
    super::events::object(section, counter.own())
}

#[test]
fn an_extension_without_a_program_to_extend_is_refused() {
    require_kernel!(probe::can_load().into_result());
    let program = load(ProgType::SOCKET_FILTER, None, &Counter::new().all(0));
    let options = TestRunOptions { data: &[0; 64], ..TestRunOptions::default() };
    assert_eq!(program.test_run(&options).expect("it runs").retval, 0);
    let error = attach_freplace(&program, Some((&program, 1))).expect_err("it is no extension");
    assert!(matches!(error, AttachError::Refused { .. }), "{error}");
}
