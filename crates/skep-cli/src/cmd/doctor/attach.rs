//! Ways to attach: tried where that disturbs nobody.

use std::path::Path;

use skep::{
    abi::{AttachType, ProgType},
    btf::KindTag,
    isa::asm,
    kernel::{
        Program, ProgramLoad,
        link::{self, AttachError},
        probe::{self, Support},
        target,
    },
};

use super::{Answer, Check, features::loads};

const GROUP: &str = "attach";

/// A function that every kernel has, and hardly anybody calls.
const FUNCTIONS: &[&str] = &["bpf_fentry_test1", "vfs_statfs"];
/// A function whose result programs may change.
const HOOKS: &[&str] = &["security_file_open"];

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::of(
            GROUP,
            "tracepoint",
            attached(ProgType::TRACEPOINT, |p| {
                link::attach_tracepoint(p, "sched", "sched_process_exit").map(drop)
            }),
        ),
        Check::of(
            GROUP,
            "raw_tracepoint",
            attached(ProgType::RAW_TRACEPOINT, |p| {
                link::attach_raw_tracepoint(p, "sched_process_exit").map(drop)
            }),
        ),
        Check::of(GROUP, "tp_btf", tp_btf()),
        pmu("kprobe"),
        pmu("uprobe"),
        Check::of(GROUP, "fentry", trampoline(AttachType::TRACE_FENTRY, FUNCTIONS)),
        Check::of(GROUP, "fmod_ret", trampoline(AttachType::MODIFY_RETURN, HOOKS)),
    ]
}

/// Loads the smallest program of a type and attaches it for a moment.
fn attached(prog_type: ProgType, attach: impl Fn(&Program) -> Result<(), AttachError>) -> Support {
    let slots = asm::assemble("r0 = 0\nexit").expect("the text is valid");
    try_attach(&ProgramLoad::new("probe", prog_type, &slots), attach)
}

fn try_attach(
    load: &ProgramLoad<'_>,
    attach: impl Fn(&Program) -> Result<(), AttachError>,
) -> Support {
    match loads(load) {
        Support::Yes => {}
        other => return other,
    }
    match Program::load(load) {
        Ok(program) => match attach(&program) {
            Ok(()) => Support::Yes,
            Err(e) => Support::No(whole(&e)),
        },
        Err(e) => Support::Unknown(e.to_string()),
    }
}

fn whole(e: &dyn std::error::Error) -> String {
    e.source().map_or_else(|| e.to_string(), |cause| format!("{e}: {}", whole(cause)))
}

fn tp_btf() -> Support {
    let id = match function(KindTag::Typedef, &["btf_trace_sched_process_exit"]) {
        Ok(id) => id,
        Err(no) => return no,
    };
    let slots = asm::assemble("r0 = 0\nexit").expect("the text is valid");
    let mut load = ProgramLoad::new("probe", ProgType::TRACING, &slots);
    load.attach_type = Some(AttachType::TRACE_RAW_TP);
    load.attach_btf_id = id;
    try_attach(&load, |p| link::attach_tp_btf(p).map(drop))
}

/// Such a program is refused when it is loaded, so that it need not be attached.
fn trampoline(attach_type: AttachType, names: &[&str]) -> Support {
    let id = match function(KindTag::Func, names) {
        Ok(id) => id,
        Err(no) => return no,
    };
    let slots = asm::assemble("r0 = 0\nexit").expect("the text is valid");
    let mut load = ProgramLoad::new("probe", ProgType::TRACING, &slots);
    load.attach_type = Some(attach_type);
    load.attach_btf_id = id;
    loads(&load)
}

/// The id of the first of these names that the kernel's BTF has.
fn function(kind: KindTag, names: &[&str]) -> Result<u32, Support> {
    if let Support::No(reason) | Support::Unknown(reason) = probe::can_load() {
        return Err(Support::Unknown(reason));
    }
    let btf = target::vmlinux_btf().map_err(|e| Support::No(format!("no kernel BTF: {e}")))?;
    let found = names.iter().find_map(|name| btf.find(kind, name).next());
    found
        .map(|id| id.0)
        .ok_or_else(|| Support::No(format!("this kernel has no {}", names.join(", "))))
}

/// The kernel offers these probes as a kind of perf event.
fn pmu(name: &'static str) -> Check {
    let devices = Path::new("/sys/bus/event_source/devices");
    if !devices.is_dir() {
        let detail = "/sys/bus/event_source/devices cannot be read";
        return Check::new(GROUP, name, Answer::Unknown, detail);
    }
    if devices.join(name).exists() {
        return Check::new(GROUP, name, Answer::Yes, "the kernel has this kind of perf event");
    }
    Check::new(GROUP, name, Answer::No, format!("this kernel has no {name} perf events"))
}
