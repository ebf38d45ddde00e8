//! Cookies: a program learns by which of its attachments it runs. Sessions: a program runs at the
//! entry and at the return.

use skep_kernel::{
    AttachError, LoadError, Object, Program, Target, attach, attach_with,
    link::{
        KprobeMulti, PerfEvent, Place, Rate, Spot, TracingMulti, Uprobe, attach_kprobe_multi,
        attach_tracing_multi, attach_uprobe_multi, usdt::static_probes,
    },
    probe,
};
use skep_testing::require_kernel;

use super::{Counter, alone, available, events::try_object, fires, or_lacking, or_refused};

const SELF: &str = "/proc/self/exe";

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn skep_test_cookie_one(n: u64) -> u64 {
    std::hint::black_box(n) + 1
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn skep_test_cookie_two(n: u64) -> u64 {
    std::hint::black_box(n) + 2
}

/// One of each event: two calls, system calls, some time.
fn act() {
    std::hint::black_box((skep_test_cookie_one(1), skep_test_cookie_two(2)));
    std::hint::black_box(std::os::unix::process::parent_id());
    drop(std::fs::File::open("/proc/self/status").expect("it is there"));
}

/// What kernels say that lack cookies on a hook, or the hook.
const LACKING: &[i32] =
    &[libc::EINVAL, libc::ENOENT, libc::EOPNOTSUPP, libc::EPERM, libc::EBADF, libc::E2BIG];

/// The object, or why this kernel does not load it.
pub(crate) fn loaded(section: &str, insns: Vec<skep_isa::Slot>) -> Result<Object, String> {
    try_object(section, insns).map_err(|e| match e {
        LoadError::Refused { source, .. } => format!("{source}: {}", source.source),
        LoadError::Rejected { summary, .. } => summary,
        other => other.to_string(),
    })
}

fn only(object: &Object) -> &Program {
    object.program("probe").expect("it is there")
}

#[test]
fn cookies_arrive() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    const COOKIE: u64 = 1 << 40;
    for section in [
        "tracepoint/raw_syscalls/sys_enter",
        "raw_tp/sys_enter",
        "tp_btf/sys_enter",
        "kprobe/__x64_sys_getppid",
        "kretprobe/__x64_sys_getppid",
        "ksyscall/getppid",
        "kprobe.multi/__x64_sys_getppid",
        "uprobe//proc/self/exe:skep_test_cookie_one",
        "uretprobe//proc/self/exe:skep_test_cookie_one",
        "uprobe.multi//proc/self/exe:skep_test_cookie_*",
        "fentry/vfs_open",
        "fexit/vfs_open",
        "fmod_ret/security_file_open",
        "lsm/file_open",
        "fsession/vfs_open",
        "fentry.multi/vfs_open",
    ] {
        let row = format!("cookie of {}", section.split('/').next().unwrap_or(section));
        let counter = Counter::new();
        let object = loaded(section, counter.add_cookie());
        let Some(object) = or_refused(&row, object) else { continue };
        let program = only(&object);
        let link = attach_with(program, &Target::Section, COOKIE);
        let Some(link) = or_refused(&row, or_lacking(link, LACKING)) else { continue };
        fires(&row, &counter, link, act);
        let sum = counter.get();
        assert!(sum != 0 && sum.is_multiple_of(COOKIE), "{section}: {sum:#x}");
        // None given, none there.
        let link = attach(program, &Target::Section).expect("it did with a cookie");
        act();
        drop(link);
        assert_eq!(counter.get(), sum, "{section}");
    }
    let row = "cookie of perf_event";
    let counter = Counter::new();
    let object = loaded("perf_event", counter.add_cookie());
    let Some(object) = or_refused(row, object) else { return };
    let event = PerfEvent { pid: Some(0), ..PerfEvent::cpu_clock(Rate::Period(100_000)) };
    let link = attach_with(only(&object), &Target::PerfEvent(event), COOKIE);
    let Some(link) = or_refused(row, or_lacking(link, LACKING)) else { return };
    fires(row, &counter, link, super::events::spin);
    assert!(counter.get().is_multiple_of(COOKIE));
}

#[test]
fn each_place_has_its_own_cookie() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let counter = Counter::new();
    let object = available!(loaded("uprobe.multi", counter.add_cookie()));
    let place = |name: &str| {
        let notes = static_probes(SELF).expect("it is an ELF file");
        let file = std::fs::read(SELF).expect("readable");
        symbol(&file, name).and_then(|address| notes.code_offset(address)).expect("it is there")
    };
    let spots = [("skep_test_cookie_one", 3), ("skep_test_cookie_two", 500)]
        .map(|(name, cookie)| Spot { offset: place(name), reference_counter: 0, cookie });
    let pid = Some(std::process::id());
    let probe = Uprobe { place: Place::Spots(&spots), pid, ..Uprobe::function(SELF, "unused") };
    let link = attach_uprobe_multi(only(&object), &probe);
    let link = available!(or_lacking(link, LACKING));
    act();
    assert_eq!(counter.get(), 503);
    fires("uprobe.multi by offsets", &counter, link, act);
    let before = counter.get();
    let names = Place::Functions(&["skep_test_cookie_one", "skep_test_cookie_two"]);
    let probe = Uprobe { place: names, cookie: 20, ..probe };
    let link = attach_uprobe_multi(only(&object), &probe).expect("it did by offsets");
    act();
    assert_eq!(counter.get(), before + 40);
    fires("uprobe.multi by names", &counter, link, act);

    let counter = Counter::new();
    let object = available!(loaded("kprobe.multi", counter.add_cookie()));
    let functions = ["vfs_open", "__x64_sys_getppid"];
    let several = KprobeMulti { functions: &functions, cookies: &[1_000, 7], returns: false };
    let link = attach_kprobe_multi(only(&object), &several);
    let Some(link) = or_refused("kprobe.multi, each with a cookie", or_lacking(link, LACKING))
    else {
        return;
    };
    act();
    assert_eq!(counter.get(), 1_007);
    fires("kprobe.multi, each with a cookie", &counter, link, act);
}

/// Address of a symbol of an ELF file.
fn symbol(file: &[u8], name: &str) -> Option<u64> {
    use object::{Object as _, ObjectSymbol as _};
    let file = object::File::parse(file).ok()?;
    file.symbol_by_name(name).map(|symbol| symbol.address())
}

#[test]
fn a_session_runs_at_entry_and_return() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    for section in [
        "kprobe.session/__x64_sys_getppid",
        "uprobe.session//proc/self/exe:skep_test_cookie_one",
        "fsession/vfs_open",
        "fsession.multi/vfs_open",
    ] {
        let row = section.split('/').next().unwrap_or(section);
        let counter = Counter::new();
        let Some(object) = or_refused(row, loaded(section, counter.own())) else { continue };
        let link = attach(only(&object), &Target::Section);
        let Some(link) = or_refused(row, or_lacking(link, LACKING)) else { continue };
        act();
        assert_eq!(counter.get(), 2, "{section}: once at the entry, once at the return");
        fires(row, &counter, link, act);
    }
}

#[test]
fn many_functions_by_one_trampoline_link() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    for row in ["fentry.multi", "fexit.multi"] {
        let counter = Counter::new();
        let Some(object) = or_refused(row, loaded(row, counter.add_cookie())) else { continue };
        let functions = ["vfs_open", "security_file_open"];
        let on = TracingMulti { functions: &functions, cookies: &[1_000, 7] };
        let link = attach_tracing_multi(only(&object), &on);
        let Some(link) = or_refused(row, or_lacking(link, LACKING)) else { continue };
        act();
        assert_eq!(counter.get(), 1_007, "{row}");
        fires(row, &counter, link, act);
        let pattern = TracingMulti { functions: &["vfs_ope*"], cookies: &[5] };
        let link = attach_tracing_multi(only(&object), &pattern).expect("it did by names");
        fires(&format!("{row} by pattern"), &counter, link, act);
        let nothing = TracingMulti { functions: &["no_such_function_*"], cookies: &[] };
        let error = attach_tracing_multi(only(&object), &nothing).expect_err("nothing fits");
        assert!(matches!(error, AttachError::Refused { .. }), "{error}");
    }
}
