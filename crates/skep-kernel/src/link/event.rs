//! Programs on perf events: probes and tracepoints hang on them, and clocks and counters are some.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use skep_abi::AttachType;

use super::{AttachError, Held, Link, refused, trace::no_such_link};
use crate::{
    program::Program,
    sys::{self, LinkExtra, LinkTarget, Sampled, SysError, Whom},
};

/// How often a counting event runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Each time the event has counted this much (nanoseconds, for clocks).
    Period(u64),
    /// About so often in a second; the kernel adapts the period.
    Frequency(u64),
}

/// An event that a program is run by. [`PerfEvent::parse`] knows them by name.
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
    /// Memory that is watched; type and `config` say nothing then.
    pub breakpoint: Option<Breakpoint>,
}

/// Memory of the process that is watched, by the processor: some 4 at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breakpoint {
    /// Where it begins; a multiple of its length.
    pub address: u64,
    /// Bytes: 1, 2, 4 or 8; 8 for instructions.
    pub len: u8,
    /// When it fires.
    pub on: Access,
}

/// How memory is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is written.
    Write,
    /// It is read or written; x86-64 cannot tell reads alone.
    ReadWrite,
    /// It is executed.
    Execute,
}

impl Access {
    /// `HW_BREAKPOINT_R` is 1, `_W` 2, `_X` 4.
    const fn bits(self) -> u32 {
        match self {
            Self::Write => 2,
            Self::ReadWrite => 3,
            Self::Execute => 4,
        }
    }
}

impl PerfEvent {
    pub(super) const fn new(event_type: u32, config: u64, rate: Rate) -> Self {
        let (pid, cpu, cookie, breakpoint) = (None, None, 0, None);
        Self { event_type, config, rate, pid, cpu, cookie, breakpoint }
    }

    /// The clock of each CPU, `PERF_COUNT_SW_CPU_CLOCK`: every kernel has it.
    #[doc(alias = "PERF_COUNT_SW_CPU_CLOCK")]
    pub const fn cpu_clock(rate: Rate) -> Self {
        Self::new(1, 0, rate)
    }

    /// A tracepoint by its number, as tracefs has it in `events/CATEGORY/NAME/id`, each time. Its
    /// program gets no record, as one on [`attach_tracepoint`](super::attach_tracepoint) does.
    #[doc(alias = "PERF_TYPE_TRACEPOINT")]
    pub const fn tracepoint(id: u64) -> Self {
        Self::new(2, id, Rate::Period(1))
    }

    /// Each time this memory is touched.
    #[doc(alias = "PERF_TYPE_BREAKPOINT")]
    pub const fn breakpoint(breakpoint: Breakpoint) -> Self {
        Self { breakpoint: Some(breakpoint), ..Self::new(5, 0, Rate::Period(1)) }
    }

    /// Does it need a counter of the processor?
    const fn is_hardware(&self) -> bool {
        self.breakpoint.is_none() && matches!(self.event_type, 0 | 3 | 4)
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
    attach(program, on, on.pid.into(), format!("perf event {on}"))
}

/// As [`attach_perf_event`], for the processes in a cgroup (version 2, an open directory) and
/// below it. The event's process does not count.
///
/// # Errors
///
/// As for [`attach_perf_event`]; `EBADF` when the descriptor is no cgroup's directory.
#[doc(alias = "PERF_FLAG_PID_CGROUP")]
pub fn attach_perf_event_in(
    program: &Program,
    on: &PerfEvent,
    cgroup: BorrowedFd<'_>,
) -> Result<Link, AttachError> {
    attach(program, on, Whom::Cgroup(cgroup), format!("perf event {on} of a cgroup"))
}

fn attach(
    program: &Program,
    on: &PerfEvent,
    whom: Whom<'_>,
    hook: String,
) -> Result<Link, AttachError> {
    let fail = |source: SysError| {
        let lacking = matches!(source.errno(), libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV);
        let hint = "this machine has no such counter: virtual machines mostly have none; the \
                    clocks cpu-clock and task-clock are everywhere";
        let hint = if lacking && on.is_hardware() { Some(hint) } else { source.hint };
        refused(program, &hook, SysError { hint, ..source })
    };
    let (sample_period, frequency) = match on.rate {
        Rate::Period(n) => (n, false),
        Rate::Frequency(n) => (n, true),
    };
    let PerfEvent { event_type, config, .. } = *on;
    let breakpoint = on.breakpoint.map(|b| (b.address, b.len.into(), b.on.bits()));
    let event = Sampled { event_type, config, sample_period, frequency, breakpoint };
    let open = |cpu| {
        sys::sampled_event(&event, whom, cpu).and_then(|event| on_event(program, event, on.cookie))
    };
    if matches!(whom, Whom::Process(_)) || on.cpu.is_some() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        probe,
        program::ProgramLoad,
        sys::{
            Call,
            fake::{Answer, Fake},
        },
    };
    use skep_abi::ProgType;
    use skep_isa::Slot;
    use skep_testing::require_kernel;

    fn program() -> Program {
        let insns =
            [Slot { code: 0xb7, ..Slot::default() }, Slot { code: 0x95, ..Slot::default() }];
        Program::load(&ProgramLoad::new("asked", ProgType::PERF_EVENT, &insns)).unwrap()
    }

    /// What `perf_event_open` is asked for; the kernel does not see it.
    fn asked(event: &PerfEvent, errno: i32) -> (Vec<u8>, String, String) {
        let program = program();
        let fake = Fake::new(move |call, _| match call {
            Call::PerfEventOpen { .. } => Answer::Errno(errno),
            _ => Answer::Kernel,
        });
        let error = attach_perf_event(&program, event).unwrap_err();
        let seen = fake.seen().into_iter().find(|seen| seen.name == "perf_event_open").unwrap();
        let AttachError::Refused { source, .. } = &error else { panic!("{error}") };
        (seen.bytes, seen.text, format!("{error}: {source}"))
    }

    /// Bytes of `struct perf_event_attr` that matter here.
    fn words(bytes: &[u8]) -> (u32, u64, u64, u64, u32, u64, u64) {
        let u32_at = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let u64_at = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        (u32_at(0), u64_at(8), u64_at(16), u64_at(40), u32_at(52), u64_at(56), u64_at(64))
    }

    const DISABLED: u64 = 1;
    const FREQUENCY: u64 = 1 << 10;

    #[test]
    fn counters_of_the_processor_are_asked_for_exactly() {
        require_kernel!(probe::can_load().into_result());
        for (text, want) in [
            ("cycles@1000000", (0, 0, 1_000_000, DISABLED, 0, 0, 0)),
            ("branch-misses@49hz", (0, 5, 49, DISABLED | FREQUENCY, 0, 0, 0)),
            ("L1-dcache-load-misses@1000", (3, 0x1_0000, 1000, DISABLED, 0, 0, 0)),
            ("dTLB-store-misses@1000", (3, 0x1_0103, 1000, DISABLED, 0, 0, 0)),
            ("r01c2@7", (4, 0x1c2, 7, DISABLED, 0, 0, 0)),
            ("mem:0x1000/4:w", (5, 0, 1, DISABLED, 2, 0x1000, 4)),
            ("page-faults", (1, 2, 1, DISABLED, 0, 0, 0)),
        ] {
            let event = PerfEvent { cpu: Some(0), ..PerfEvent::parse(text).unwrap() };
            let (bytes, call, error) = asked(&event, libc::ENOENT);
            assert_eq!(words(&bytes), want, "{text}");
            assert!(call.contains("pid: -1, cpu: 0, cgroup: false"), "{call}");
            assert!(error.contains("not attached to perf event"), "{error}");
            let told = error.contains("this machine has no such counter");
            assert_eq!(told, matches!(want.0, 0 | 3 | 4), "{text}: {error}");
        }
        let of_process = PerfEvent { pid: Some(7), ..PerfEvent::cpu_clock(Rate::Period(1)) };
        let (_, call, error) = asked(&of_process, libc::ESRCH);
        assert!(call.contains("pid: 7, cpu: -1"), "{call}");
        assert!(error.contains("perf event cpu-clock"), "{error}");
    }
}
