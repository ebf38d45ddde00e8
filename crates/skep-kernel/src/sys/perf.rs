//! Perf events: tracepoints, and the per-CPU buffers programs write samples to.

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use super::SysError;

/// First 64 bytes of `struct perf_event_attr` (`PERF_ATTR_SIZE_VER0`); the kernel reads the rest
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
}

const _: () = assert!(size_of::<PerfEventAttr>() == 64);

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_COUNT_SW_BPF_OUTPUT: u64 = 10;
const PERF_FORMAT_LOST: u64 = 1 << 4;
const PERF_SAMPLE_RAW: u64 = 1 << 10;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
const PERF_EVENT_IOC_ENABLE: libc::Ioctl = 0x2400;
const PERF_EVENT_IOC_SET_BPF: libc::Ioctl = 0x4004_2408;

/// A disabled event of a tracepoint, by its id; it sees all processes on all CPUs once a program
/// is attached.
pub(crate) fn tracepoint_event(id: u64) -> Result<OwnedFd, SysError> {
    let attr = PerfEventAttr {
        event_type: PERF_TYPE_TRACEPOINT,
        config: id,
        sample_period: 1,
        wakeup_events: 1,
        ..Default::default()
    };
    open(attr, 0)
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
    match open(PerfEventAttr { read_format: PERF_FORMAT_LOST, ..attr }, cpu) {
        Ok(event) => Ok((event, true)),
        Err(e) if e.errno() == libc::EINVAL => open(attr, cpu).map(|event| (event, false)),
        Err(e) => Err(e),
    }
}

/// How many samples found no room in the buffer of an event that counts them.
pub(crate) fn lost_samples(event: BorrowedFd<'_>) -> u64 {
    // The event's own count, then the lost samples.
    let mut values = [0_u64; 2];
    let len = size_of_val(&values);
    // SAFETY: the kernel writes at most `len` bytes to `values`, which has that many.
    let got = unsafe { libc::read(event.as_raw_fd(), values.as_mut_ptr().cast(), len) };
    if usize::try_from(got) == Ok(len) { values[1] } else { 0 }
}

fn open(mut attr: PerfEventAttr, cpu: u32) -> Result<OwnedFd, SysError> {
    attr.size = 64;
    let every_process: libc::pid_t = -1;
    let no_group: libc::c_int = -1;
    // SAFETY: the kernel reads `attr.size` bytes, which is the size of `attr` (asserted above),
    // live past the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attr,
            every_process,
            cpu.cast_signed(),
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    match RawFd::try_from(ret) {
        // SAFETY: the call succeeded, so this descriptor is new and nobody else's.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(SysError::last("perf_event_open")),
    }
}

/// Starts an event.
pub(crate) fn perf_enable(event: BorrowedFd<'_>) -> Result<(), SysError> {
    // SAFETY: this request takes a number (0), no address.
    let ret = unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_ENABLE, 0) };
    if ret < 0 { Err(SysError::last("PERF_EVENT_IOC_ENABLE")) } else { Ok(()) }
}

/// Attaches a program to an event.
pub(crate) fn perf_set_bpf(event: BorrowedFd<'_>, prog: BorrowedFd<'_>) -> Result<(), SysError> {
    let prog = prog.as_raw_fd();
    // SAFETY: this request takes a descriptor as a number, no address.
    let ret = unsafe { libc::ioctl(event.as_raw_fd(), PERF_EVENT_IOC_SET_BPF, prog) };
    if ret < 0 { Err(SysError::last("PERF_EVENT_IOC_SET_BPF")) } else { Ok(()) }
}
