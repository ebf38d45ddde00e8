//! Programs on perf events: probes and tracepoints hang on them, and clocks and counters are some.

use std::os::fd::{AsFd as _, OwnedFd};

use skep_abi::AttachType;

use super::{AttachError, Held, Link, refused, trace::no_such_link};
use crate::{
    program::Program,
    sys::{self, LinkExtra, LinkTarget, Sampled, SysError},
};

/// How often a counting event runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Each time the event has counted this much (nanoseconds, for clocks).
    Period(u64),
    /// About so often in a second; the kernel adapts the period.
    Frequency(u64),
}

/// An event that a program is run by.
#[derive(Clone, Copy, Debug)]
pub struct PerfEvent {
    /// `type` of `struct perf_event_attr`.
    pub event_type: u32,
    /// `config` of `struct perf_event_attr`.
    pub config: u64,
    /// How often.
    pub rate: Rate,
    /// One process (and on any CPU), or all.
    pub pid: Option<u32>,
    /// One CPU, or all that are online.
    pub cpu: Option<u32>,
    /// What `bpf_get_attach_cookie` gives: Linux 5.15. 0 for none.
    pub cookie: u64,
}

impl PerfEvent {
    /// The clock of each CPU, `PERF_COUNT_SW_CPU_CLOCK`: every kernel has it.
    #[doc(alias = "PERF_COUNT_SW_CPU_CLOCK")]
    pub const fn cpu_clock(rate: Rate) -> Self {
        Self { event_type: 1, config: 0, rate, pid: None, cpu: None, cookie: 0 }
    }
}

/// Runs a program by a perf event. Without a process and a CPU, on every CPU.
///
/// # Errors
///
/// `ENOENT` when the machine has no such event (a virtual machine has no hardware counters),
/// `ESRCH` when there is no such process, `EACCES` without the right to watch others.
#[doc(alias = "perf_event_open")]
pub fn attach_perf_event(program: &Program, on: &PerfEvent) -> Result<Link, AttachError> {
    let hook = format!("perf event {}:{}", on.event_type, on.config);
    let fail = |source| refused(program, &hook, source);
    let (sample_period, frequency) = match on.rate {
        Rate::Period(n) => (n, false),
        Rate::Frequency(n) => (n, true),
    };
    let event = Sampled { event_type: on.event_type, config: on.config, sample_period, frequency };
    let open = |cpu| {
        sys::sampled_event(&event, on.pid, cpu)
            .and_then(|event| on_event(program, event, on.cookie))
    };
    if on.pid.is_some() || on.cpu.is_some() {
        return Ok(Link::new(open(on.cpu).map_err(fail)?, hook));
    }
    let events = online_cpus().map_err(fail)?.into_iter().map(|cpu| open(Some(cpu)));
    let events = events.collect::<Result<Vec<_>, _>>().map_err(fail)?;
    Ok(Link::new(Held::Many(events), hook))
}

/// Puts a program on an event and starts it: by a link, else (no cookie then) by telling the
/// event.
pub(super) fn on_event(program: &Program, event: OwnedFd, cookie: u64) -> Result<Held, SysError> {
    let target = LinkTarget::Fd(event.as_fd());
    let (attach_type, extra) = (AttachType::PERF_EVENT.0, LinkExtra::EventCookie(cookie));
    let link = match sys::link_create_with(program.as_fd(), target, attach_type, extra) {
        Ok(link) => Some(link),
        Err(e) if no_such_link(&e) && cookie != 0 => {
            let hint = "this kernel has no cookies on perf events: Linux 5.15 has";
            return Err(SysError { hint: Some(hint), ..e });
        }
        Err(e) if no_such_link(&e) => {
            sys::perf_set_bpf(event.as_fd(), program.as_fd())?;
            None
        }
        Err(e) => return Err(e),
    };
    sys::perf_enable(event.as_fd())?;
    Ok(match link {
        Some(link) => Held::LinkedEvent { link, event },
        None => Held::Event(event),
    })
}

fn online_cpus() -> Result<Vec<u32>, SysError> {
    let fail = |e| SysError::new("/sys/devices/system/cpu/online", e);
    let list = sys::read_text("/sys/devices/system/cpu/online").map_err(fail)?;
    let unknown = || {
        let hint = "the kernel's list of processors is none";
        SysError::errno_of("/sys/devices/system/cpu/online", libc::EPROTO, hint)
    };
    sys::cpu_ranges(&list).map(|ranges| ranges.flatten().collect()).ok_or_else(unknown)
}
