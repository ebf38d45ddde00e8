//! Hooks of the kernel and of user programs.

use std::{fs, os::fd::AsFd as _, os::fd::AsRawFd as _};

use skep_abi::{AttachType, MapDef, MapFlags, MapType, ProgType};
use skep_btf::KindTag;
use skep_isa::Slot;

use super::{Answer, Hooks, RETURN_0, Support, answers, attaches, small};
use crate::{
    link::{
        IterTarget, Kprobe, KprobeMulti, PerfEvent, Place, Rate, Uprobe, attach_iter,
        attach_kprobe, attach_kprobe_by_tracefs, attach_kprobe_multi, attach_lsm,
        attach_perf_event, attach_raw_tracepoint, attach_tp_btf, attach_tracepoint, attach_tracing,
        attach_uprobe, attach_uprobe_multi, entry_of,
    },
    map::Map,
    probe::program::{extension, named},
    program::{Program, ProgramLoad},
};

/// A function that only `BPF_PROG_TEST_RUN` calls.
const QUIET: &str = "bpf_fentry_test1";
/// One whose result programs may change, called by the same.
const CHANGEABLE: &[&str] = &["bpf_modify_return_test", "security_inode_readlink"];
/// A tracepoint that is passed seldom.
const TRACEPOINT: (&str, &str) = ("sched", "sched_process_exit");
const SELF: &str = "/proc/self/exe";

/// Probes, tracepoints, trampolines, LSM, iterators and perf events.
pub fn tracing_hooks() -> Hooks {
    type Try = fn() -> Answer;
    const ROWS: &[(&str, Try)] = &[
        ("tracepoint", || {
            let (category, name) = TRACEPOINT;
            attaches(&small(ProgType::TRACEPOINT, None), |p| attach_tracepoint(p, category, name))
        }),
        ("raw_tracepoint", || {
            attaches(&small(ProgType::RAW_TRACEPOINT, None), |p| {
                attach_raw_tracepoint(p, TRACEPOINT.1)
            })
        }),
        ("tp_btf", || {
            let (kind, place) = (KindTag::Typedef, ["btf_trace_sched_process_exit"]);
            attaches(&tracing(AttachType::TRACE_RAW_TP, kind, &place)?, attach_tp_btf)
        }),
        ("kprobe", || {
            attaches(&small(ProgType::KPROBE, None), |p| attach_kprobe(p, &Kprobe::function(QUIET)))
        }),
        ("kprobe, by tracefs", || {
            let at = Kprobe::function(QUIET);
            attaches(&small(ProgType::KPROBE, None), |p| attach_kprobe_by_tracefs(p, &at))
        }),
        ("kprobe.multi", || many_kprobes(AttachType::TRACE_KPROBE_MULTI)),
        ("kprobe.session", || many_kprobes(AttachType::TRACE_KPROBE_SESSION)),
        ("uprobe", || {
            let at = own_entry()?;
            attaches(&small(ProgType::KPROBE, None), |p| attach_uprobe(p, &at))
        }),
        ("uprobe.multi", || many_uprobes(AttachType::TRACE_UPROBE_MULTI)),
        ("uprobe.session", || many_uprobes(AttachType::TRACE_UPROBE_SESSION)),
        ("fentry", || trampoline(AttachType::TRACE_FENTRY, &[QUIET])),
        ("fexit", || trampoline(AttachType::TRACE_FEXIT, &[QUIET])),
        ("fmod_ret", || trampoline(AttachType::MODIFY_RETURN, CHANGEABLE)),
        ("fsession", || trampoline(AttachType::TRACE_FSESSION, &[QUIET])),
        ("freplace", extension),
        ("lsm", lsm_runs),
        ("iter", || {
            let load = tracing(AttachType::TRACE_ITER, KindTag::Func, &["bpf_iter_task"])?;
            attaches(&load, |p| attach_iter(p, IterTarget::All))
        }),
        ("perf_event, software clock", || counter(PerfEvent::cpu_clock(Rate::Frequency(1)))),
        // PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES
        ("perf_event, hardware counter", || {
            let cycles = PerfEvent::cpu_clock(Rate::Period(u64::MAX >> 1));
            counter(PerfEvent { event_type: 0, config: 0, ..cycles })
        }),
    ];
    answers(ROWS, |attach| attach())
}

/// A tracing program for the first of these places that the kernel has.
fn tracing(
    attach_type: AttachType,
    kind: KindTag,
    names: &[&str],
) -> Result<ProgramLoad<'static>, Support> {
    let mut load = small(ProgType::TRACING, Some(attach_type));
    load.attach_btf_id = named(kind, names)?.0;
    Ok(load)
}

fn trampoline(attach_type: AttachType, names: &[&str]) -> Answer {
    attaches(&tracing(attach_type, KindTag::Func, names)?, attach_tracing)
}

fn many_kprobes(attach_type: AttachType) -> Answer {
    let load = small(ProgType::KPROBE, Some(attach_type));
    let many = KprobeMulti { functions: &[QUIET], cookies: &[], returns: false };
    attaches(&load, |p| attach_kprobe_multi(p, &many))
}

fn many_uprobes(attach_type: AttachType) -> Answer {
    let at = own_entry()?;
    let load = small(ProgType::KPROBE, Some(attach_type));
    attaches(&load, |p| attach_uprobe_multi(p, &at))
}

/// Where this process began, and does not come again.
fn own_entry() -> Result<Uprobe<'static>, Support> {
    let unknown = |e: &dyn std::error::Error| Support::Unknown(super::super::chain(e));
    let offset = entry_of(SELF.as_ref()).map_err(|e| unknown(&e))?;
    let (place, pid) = (Place::Offset(offset), Some(std::process::id()));
    Ok(Uprobe { binary: SELF, place, returns: false, pid, reference_counter: 0, cookie: 0 })
}

/// Of this thread only.
fn counter(event: PerfEvent) -> Answer {
    let event = PerfEvent { pid: Some(0), ..event };
    attaches(&small(ProgType::PERF_EVENT, None), |p| attach_perf_event(p, &event))
}

/// A kernel may load and attach such programs, and never run them (`bpf` is not in `lsm=`): one
/// that counts, and denies nothing, is seen to run. Whose link is read does not matter: the kernel
/// numbers processes otherwise than a pid namespace.
fn lsm_runs() -> Answer {
    let def = MapDef {
        map_type: MapType::ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        flags: MapFlags(0),
        extra: 0,
        numa_node: 0,
    };
    let unknown = |what: &str| Support::Unknown(what.to_owned());
    let count = Map::create("probe", def, None, None).map_err(|_| unknown("no array map"))?;
    let slot = |code, dst, src, off, imm| Slot { code, dst, src, off, imm };
    let [zero, exit] = RETURN_0;
    let insns = [
        slot(0x18, 1, 2, 0, count.as_fd().as_raw_fd()), // r1 = address of the value
        Slot::default(),
        slot(0xb7, 2, 0, 0, 1),
        slot(0xdb, 1, 2, 0, 0), // lock *(u64 *)(r1 + 0) += r2
        zero,
        exit,
    ];
    let mut load = ProgramLoad::new("probe", ProgType::LSM, &insns);
    load.attach_type = Some(AttachType::LSM_MAC);
    load.attach_btf_id = named(KindTag::Func, &["bpf_lsm_inode_readlink"])?.0;
    let link = attach_lsm(&Program::load(&load)?)?;
    let read = fs::read_link(SELF);
    link.detach()?;
    read.map_err(|_| unknown("/proc/self/exe cannot be read"))?;
    let seen = count.lookup_vec(&[0; 4]).map_err(|_| unknown("the count cannot be read"))?;
    if seen.is_some_and(|bytes| bytes.iter().any(|&byte| byte != 0)) {
        return Ok(());
    }
    Err(Support::No("it loads and attaches, and is never run: bpf is not among lsm=".into()))
}
