//! Helpers that ask the machine: clocks, random numbers, who runs.

use super::{Body, Call, Outcome};
use crate::run::Run;
use crate::sys;

pub(super) const BODIES: &[(i32, Body)] = &[
    (5, |_, _| Ok(sys::clock_ns(libc::CLOCK_MONOTONIC))),
    (7, |_, _| Ok(sys::random_u32().into())),
    (8, |run, _| Ok(run.cpu.into())),
    (14, |_, _| Ok(sys::pid_tgid())),
    (15, |_, _| Ok(sys::uid_gid())),
    (16, comm),
    (35, |_, _| Ok(0)),
    (42, |_, _| Ok(0)),
    (118, |_, _| Ok(sys::clock_ns(libc::CLOCK_BOOTTIME) / 10_000_000)),
    (125, |_, _| Ok(sys::clock_ns(libc::CLOCK_BOOTTIME))),
    (160, |_, _| Ok(sys::clock_ns(libc::CLOCK_MONOTONIC_COARSE))),
    (208, |_, _| Ok(sys::clock_ns(libc::CLOCK_TAI))),
];

/// `bpf_get_current_comm`: the name of this thread, cut and NUL-terminated.
fn comm(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [out, size, ..] = call.args;
    let mut name = vec![0; usize::try_from(size.min(16)).unwrap_or_default()];
    let thread = std::thread::current();
    let bytes = thread.name().unwrap_or("skep").bytes();
    let room = name.len().saturating_sub(1);
    for (to, from) in name.iter_mut().take(room).zip(bytes) {
        *to = from;
    }
    name.resize(usize::try_from(size.min(4096)).unwrap_or_default(), 0);
    run.write(out, &name)?;
    Ok(0)
}
