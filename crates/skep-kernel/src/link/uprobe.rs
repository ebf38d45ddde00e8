//! Functions of user space: uprobes, one or many at once.

use std::{
    ffi::{CStr, CString, OsStr},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::Path,
};

use skep_abi::AttachType;

use super::{
    AttachError, Held, Link,
    elf::{self, ElfError},
    event::on_event,
    refused, symbol,
    tracefs::{Kind, Probe},
};
use crate::{
    program::Program,
    sys::{self, LinkExtra, LinkTarget, SysError},
};

/// A place in a binary.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// Bytes from the start of the file.
    Offset(u64),
    /// A function, and bytes behind its start. Of several versions of one name it is the one that
    /// new programs get, unless one is named: `f@VERSION`, `f@@VERSION`.
    Function(&'a str, u64),
    /// Every function whose name fits `*` and `?`; for [`attach_uprobe_multi`].
    Pattern(&'a str),
    /// Several functions; for [`attach_uprobe_multi`].
    Functions(&'a [&'a str]),
    /// Several places, each with its own cookie; for [`attach_uprobe_multi`].
    Spots(&'a [Spot]),
}

/// One of several places in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Place in the file of a counter that is above 0 while somebody watches; 0 for none.
    pub reference_counter: u64,
    /// What `bpf_get_attach_cookie` gives there.
    pub cookie: u64,
}

/// Where and for whom a uprobe fires.
#[derive(Clone, Copy, Debug)]
pub struct Uprobe<'a> {
    /// The binary: a path, or a name for [`find_binary`](super::find_binary).
    pub binary: &'a str,
    /// Where in it.
    pub place: Place<'a>,
    /// When the function returns, not when it is entered.
    pub returns: bool,
    /// Only this process; `None` for all.
    pub pid: Option<u32>,
    /// Place in the file of a counter that is above 0 while somebody watches; 0 for none.
    pub reference_counter: u64,
    /// What `bpf_get_attach_cookie` gives: Linux 5.15. 0 for none.
    pub cookie: u64,
}

impl<'a> Uprobe<'a> {
    /// The entry of a function, in all processes.
    pub const fn function(binary: &'a str, function: &'a str) -> Self {
        let place = Place::Function(function, 0);
        Self { binary, place, returns: false, pid: None, reference_counter: 0, cookie: 0 }
    }
}

/// Finds the file and the places that are meant.
fn places(program: &Program, probe: &Uprobe<'_>) -> Result<(CString, Vec<Spot>), AttachError> {
    let fail = |source| AttachError::Binary { program: program.name().to_owned(), source };
    let path = elf::find_binary(probe.binary).map_err(fail)?;
    let first = |name: &str| symbol::function(&path, name).map_err(fail);
    let offsets = match probe.place {
        Place::Offset(offset) => vec![offset],
        Place::Function(name, offset) => vec![first(name)?.saturating_add(offset)],
        Place::Functions(names) => {
            names.iter().map(|name| first(name)).collect::<Result<_, _>>()?
        }
        Place::Pattern(pattern) => symbol::functions(&path, pattern).map_err(fail)?,
        Place::Spots(spots) => return Ok((c_path(&path).map_err(fail)?, spots.to_vec())),
    };
    let &Uprobe { reference_counter, cookie, .. } = probe;
    let spots = offsets.into_iter().map(|offset| Spot { offset, reference_counter, cookie });
    Ok((c_path(&path).map_err(fail)?, spots.collect()))
}

/// A path as the kernel takes it.
pub(super) fn c_path(path: &Path) -> Result<CString, ElfError> {
    let name = OsStr::new(path).as_bytes();
    CString::new(name).map_err(|_| ElfError::Path { path: path.to_owned() })
}

fn hook_name(probe: &Uprobe<'_>) -> String {
    let kind = if probe.returns { "uretprobe" } else { "uprobe" };
    let whose = probe.pid.map(|pid| format!(" of process {pid}")).unwrap_or_default();
    let place = match probe.place {
        Place::Offset(offset) => format!("{offset:#x}"),
        Place::Function(name, 0) => name.to_owned(),
        Place::Function(name, offset) => format!("{name}+{offset:#x}"),
        Place::Pattern(pattern) => pattern.to_owned(),
        Place::Functions(names) => names.join(","),
        Place::Spots(spots) => format!("{} places", spots.len()),
    };
    format!("{kind} {}:{place}{whose}", probe.binary)
}

/// Attaches to a place in a binary; a pattern must name one function only. Where the kernel has
/// no perf events for uprobes, by a probe in tracefs.
///
/// # Errors
///
/// [`AttachError::Binary`] when file or function is not there; the kernel's: `EINVAL` when the
/// place is no instruction's beginning, `ESRCH` when there is no such process.
#[doc(alias = "perf_event_open")]
pub fn attach_uprobe(program: &Program, probe: &Uprobe<'_>) -> Result<Link, AttachError> {
    let hook = hook_name(probe);
    let fail = |source| refused(program, &hook, source);
    let (path, spot) = one_place(program, probe, &hook)?;
    let pmu = match Pmu::find("uprobe") {
        Ok(pmu) => pmu,
        Err(first) if first.errno() == libc::ENOENT => {
            let by_tracefs = attach_uprobe_by_tracefs(program, probe);
            // Without either, the kernel's words about the better way.
            return by_tracefs.map_err(|_| fail(first));
        }
        Err(first) => return Err(fail(first)),
    };
    let held = pmu.uprobe(program, &path, &spot, probe.returns, probe.pid).map_err(fail)?;
    Ok(Link::new(held, hook))
}

/// Attaches to a place in a binary by a probe that tracefs defines, the way before Linux 4.17.
/// The probe is called as that of [`super::attach_kprobe_by_tracefs`].
///
/// # Errors
///
/// As for [`attach_uprobe`].
#[doc(alias = "uprobe_events")]
pub fn attach_uprobe_by_tracefs(
    program: &Program,
    probe: &Uprobe<'_>,
) -> Result<Link, AttachError> {
    let hook = hook_name(probe);
    let fail = |source| refused(program, &hook, source);
    let (path, spot) = one_place(program, probe, &hook)?;
    // The definition is a line of words; a name from elsewhere must not become two of them.
    let path = path.to_str().ok().filter(|p| p.bytes().all(|c| c.is_ascii_graphic()));
    let path = path.ok_or_else(|| {
        let hint = "tracefs takes no such path";
        fail(SysError::errno_of("uprobe_events", libc::EINVAL, hint))
    })?;
    let place = match spot.reference_counter {
        0 => format!("{path}:{:#x}", spot.offset),
        counter => format!("{path}:{:#x}({counter:#x})", spot.offset),
    };
    let (definition, id) = Probe::define(Kind::User, probe.returns, &place).map_err(fail)?;
    let event = sys::tracepoint_event(id, probe.pid);
    let event = event.and_then(|event| on_event(program, event, spot.cookie)).map_err(fail)?;
    Ok(Link::new(Held::Traced { event: Box::new(event), probe: definition }, hook))
}

fn one_place(
    program: &Program,
    probe: &Uprobe<'_>,
    hook: &str,
) -> Result<(CString, Spot), AttachError> {
    let (path, spots) = places(program, probe)?;
    match spots.as_slice() {
        &[spot] => Ok((path, spot)),
        _ => {
            let hint = "these are several functions: use a program for many (uprobe.multi)";
            let source = SysError::errno_of("perf_event_open", libc::EINVAL, hint);
            Err(refused(program, hook, source))
        }
    }
}

/// Attaches to all the places that are meant, by one link: Linux 6.6. A program that was loaded
/// for sessions ([`AttachType::TRACE_UPROBE_SESSION`], Linux 6.13) runs at entry and at return.
///
/// # Errors
///
/// As for [`attach_uprobe`]; `EINVAL` when the kernel has no such link, or the program was not
/// loaded for it ([`AttachType::TRACE_UPROBE_MULTI`]).
pub fn attach_uprobe_multi(program: &Program, probe: &Uprobe<'_>) -> Result<Link, AttachError> {
    let hook = hook_name(probe);
    let (path, spots) = places(program, probe)?;
    let held = link_many(program, &path, &spots, probe.returns, probe.pid)
        .map_err(|source| refused(program, &hook, source))?;
    Ok(Link::new(held, hook))
}

/// One link on several places of a file.
pub(super) fn link_many(
    program: &Program,
    path: &CStr,
    spots: &[Spot],
    returns: bool,
    pid: Option<u32>,
) -> Result<Held, SysError> {
    // What is nowhere above 0 the kernel need not be told.
    let list = |field: fn(&Spot) -> u64| {
        let all: Vec<u64> = spots.iter().map(field).collect();
        if all.iter().any(|&n| n != 0) { all } else { Vec::new() }
    };
    let offsets: Vec<u64> = spots.iter().map(|spot| spot.offset).collect();
    let (counters, cookies) = (list(|spot| spot.reference_counter), list(|spot| spot.cookie));
    let extra = LinkExtra::UprobeMulti {
        path,
        offsets: &offsets,
        reference_counters: &counters,
        cookies: &cookies,
        flags: u32::from(returns),
        pid: pid.unwrap_or(0),
    };
    let attach_type = program.attach_type().unwrap_or(AttachType::TRACE_UPROBE_MULTI);
    let none = LinkTarget::Ifindex(0);
    sys::link_create_with(program.as_fd(), none, attach_type.0, extra).map(Held::Fd)
}

/// A source of perf events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pmu {
    pub(super) event_type: u32,
    return_bit: u32,
}

impl Pmu {
    /// `ENOENT` when the kernel has none of this name.
    pub(super) fn find(name: &'static str) -> Result<Self, SysError> {
        let place = Path::new("/sys/bus/event_source/devices").join(name);
        let unreadable = |e| SysError::new("perf_event_open", e);
        let invalid = || {
            let hint = "the source of probe events describes itself in an unknown way";
            SysError::errno_of("perf_event_open", libc::EINVAL, hint)
        };
        let number = sys::read_text(place.join("type")).map_err(|e| SysError {
            hint: Some("this kernel has no source of events for such probes"),
            ..unreadable(e)
        })?;
        let event_type = number.trim().parse().map_err(|_| invalid())?;
        let bits = sys::read_text(place.join("format/retprobe")).map_err(unreadable)?;
        let bit = bits.trim().strip_prefix("config:").and_then(|bit| bit.parse::<u32>().ok());
        let return_bit = bit.filter(|&bit| bit < 64).ok_or_else(invalid)?;
        Ok(Self { event_type, return_bit })
    }

    pub(super) fn config(self, returns: bool) -> u64 {
        u64::from(returns) << self.return_bit
    }

    /// A program on one place of a file.
    pub(super) fn uprobe(
        self,
        program: &Program,
        path: &CStr,
        spot: &Spot,
        returns: bool,
        pid: Option<u32>,
    ) -> Result<Held, SysError> {
        let counter = u32::try_from(spot.reference_counter).map_err(|_| {
            let hint = "the counter is beyond what fits 32 bits";
            SysError::errno_of("perf_event_open", libc::EINVAL, hint)
        })?;
        let config = self.config(returns) | u64::from(counter) << 32;
        let event = sys::probe_event(self.event_type, config, path, spot.offset, pid)?;
        on_event(program, event, spot.cookie)
    }
}
