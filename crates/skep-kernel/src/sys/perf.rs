//! Perf events: tracepoints, and the per-CPU buffers programs write samples to.

use std::{
    ffi::CStr,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use super::{Call, SysError, issue, issue_fd};

/// First 72 bytes of `struct perf_event_attr` (`PERF_ATTR_SIZE_VER1`); the kernel reads the rest
/// as 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct PerfEventAttr {
    event_type: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
}

const _: () = assert!(size_of::<PerfEventAttr>() == 72);

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_TYPE_BREAKPOINT: u32 = 5;
const PERF_COUNT_SW_BPF_OUTPUT: u64 = 10;
const PERF_FORMAT_LOST: u64 = 1 << 4;
const PERF_SAMPLE_RAW: u64 = 1 << 10;
const FLAG_DISABLED: u64 = 1;
const FLAG_FREQUENCY: u64 = 1 << 10;
const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = 0x4004_2408;

/// A disabled event of a tracepoint, by its id; once a program is attached it sees one process, or
/// all, on all CPUs.
pub(crate) fn tracepoint_event(id: u64, pid: Option<u32>) -> Result<OwnedFd, SysError> {
    let attr = PerfEventAttr {
        event_type: PERF_TYPE_TRACEPOINT,
        config: id,
        sample_period: 1,
        wakeup_events: 1,
        ..Default::default()
    };
    open(attr, pid.into(), any_cpu(pid))
}

/// Of one process on every CPU, or of all on one CPU: a program on it sees all CPUs.
fn any_cpu(pid: Option<u32>) -> Option<u32> {
    if pid.is_some() { None } else { Some(0) }
}

/// An event whose occurrences or samples run a program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampled {
    /// Raw `type`.
    pub(crate) event_type: u32,
    /// Raw `config`.
    pub(crate) config: u64,
    /// Period, or frequency in hertz.
    pub(crate) sample_period: u64,
    /// Is the period a frequency?
    pub(crate) frequency: bool,
    /// Of a breakpoint: address, bytes, and how they are touched. Only for that type, whose
    /// address the kernel does not read.
    pub(crate) breakpoint: Option<(u64, u64, u32)>,
}

/// Whose events are seen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whom<'a> {
    /// Everybody's.
    All,
    /// One process's, or thread's.
    Process(u32),
    /// Those of the processes in a cgroup, an open directory.
    Cgroup(BorrowedFd<'a>),
}

impl From<Option<u32>> for Whom<'_> {
    fn from(pid: Option<u32>) -> Self {
        pid.map_or(Self::All, Self::Process)
    }
}

/// Opens a counting event, disabled until a program is attached.
pub(crate) fn sampled_event(
    event: &Sampled,
    whom: Whom<'_>,
    cpu: Option<u32>,
) -> Result<OwnedFd, SysError> {
    let mut attr = PerfEventAttr {
        event_type: event.event_type,
        config: event.config,
        sample_period: event.sample_period,
        flags: FLAG_DISABLED | if event.frequency { FLAG_FREQUENCY } else { 0 },
        ..Default::default()
    };
    if let Some((address, len, how)) = event.breakpoint {
        attr.event_type = PERF_TYPE_BREAKPOINT;
        (attr.config1, attr.config2, attr.bp_type) = (address, len, how);
    }
    open(attr, whom, cpu)
}

/// Opens an event of the `kprobe` or `uprobe` PMU: `name` is a function of the kernel or the path
/// of a binary, `offset` counts from its start. `pid` limits it to one process.
pub(crate) fn probe_event(
    event_type: u32,
    config: u64,
    name: &CStr,
    offset: u64,
    pid: Option<u32>,
) -> Result<OwnedFd, SysError> {
    let attr = PerfEventAttr {
        event_type,
        config,
        config1: name.as_ptr().addr() as u64,
        config2: offset,
        ..Default::default()
    };
    open(attr, pid.into(), any_cpu(pid))
}

/// The event whose buffer receives what programs on `cpu` output, and whether it counts what found
/// no room (since Linux 6.0).
pub(crate) fn bpf_output_event(cpu: u32) -> Result<(OwnedFd, bool), SysError> {
    let attr = PerfEventAttr {
        event_type: PERF_TYPE_SOFTWARE,
        config: PERF_COUNT_SW_BPF_OUTPUT,
        sample_period: 1,
        sample_type: PERF_SAMPLE_RAW,
        wakeup_events: 1,
        ..Default::default()
    };
    match open(PerfEventAttr { read_format: PERF_FORMAT_LOST, ..attr }, Whom::All, Some(cpu)) {
        Ok(event) => Ok((event, true)),
        Err(e) if e.errno() == libc::EINVAL => {
            open(attr, Whom::All, Some(cpu)).map(|event| (event, false))
        }
        Err(e) => Err(e),
    }
}

/// How many samples found no room in the buffer of an event that counts them.
pub(crate) fn lost_samples(event: BorrowedFd<'_>) -> u64 {
    // The event's own count, then the lost samples.
    let mut buffer = [0; 16];
    // SAFETY: passes no address but the buffer's.
    let got = unsafe { issue(&mut Call::Read { fd: event, buffer: &mut buffer }) };
    let [_, lost] = buffer.as_chunks().0 else { return 0 };
    if matches!(got, Ok(16)) { u64::from_ne_bytes(*lost) } else { 0 }
}

/// Without a CPU on every one, which the kernel does for a process only.
fn open(mut attr: PerfEventAttr, whom: Whom<'_>, cpu: Option<u32>) -> Result<OwnedFd, SysError> {
    attr.size = 72;
    let (pid, cgroup) = match whom {
        Whom::All => (-1, false),
        Whom::Process(pid) => (pid.cast_signed(), false),
        Whom::Cgroup(directory) => (directory.as_raw_fd(), true),
    };
    let cpu = cpu.map_or(-1, u32::cast_signed);
    let at = std::ptr::from_ref(&attr).cast();
    // SAFETY: `repr(C)` and the sum of its fields without padding (asserted above), so that all
    // its bytes are initialised; borrowed from a local that lives past the call.
    let bytes = unsafe { std::slice::from_raw_parts(at, size_of_val(&attr)) };
    let mut call = Call::PerfEventOpen { attr: bytes, pid, cpu, cgroup };
    // SAFETY: where `config1` is an address, it is that of a NUL-terminated string that the caller
    // of this module's function still holds; the call returns a new descriptor.
    unsafe { issue_fd(&mut call) }
}

/// Starts an event.
pub(crate) fn perf_enable(event: BorrowedFd<'_>) -> Result<(), SysError> {
    ioctl("PERF_EVENT_IOC_ENABLE", event, PERF_EVENT_IOC_ENABLE, 0)
}

/// Attaches a program to an event.
pub(crate) fn perf_set_bpf(event: BorrowedFd<'_>, prog: BorrowedFd<'_>) -> Result<(), SysError> {
    ioctl("PERF_EVENT_IOC_SET_BPF", event, PERF_EVENT_IOC_SET_BPF, prog.as_raw_fd())
}

fn ioctl(
    name: &'static str,
    fd: BorrowedFd<'_>,
    request: libc::Ioctl,
    arg: libc::c_int,
) -> Result<(), SysError> {
    // SAFETY: passes no address.
    unsafe { issue(&mut Call::Ioctl { name, fd, request, arg }) }.map(drop)
}
