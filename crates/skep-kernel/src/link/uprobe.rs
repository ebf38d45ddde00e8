//! Functions of user space: uprobes, one or many at once.

use std::{
    ffi::{CString, OsStr},
    os::{fd::AsFd as _, unix::ffi::OsStrExt as _},
    path::Path,
};

use skep_abi::AttachType;

use super::{
    AttachError, Held, Link,
    elf::{self, ElfError},
    event::on_event,
    refused,
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
    /// A function, and bytes behind its start.
    Function(&'a str, u64),
    /// Every function whose name fits `*` and `?`; for [`attach_uprobe_multi`].
    Pattern(&'a str),
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
}

impl<'a> Uprobe<'a> {
    /// The entry of a function, in all processes.
    pub const fn function(binary: &'a str, function: &'a str) -> Self {
        let place = Place::Function(function, 0);
        Self { binary, place, returns: false, pid: None, reference_counter: 0 }
    }
}

/// Finds the file and the places that are meant.
fn places(program: &Program, probe: &Uprobe<'_>) -> Result<(CString, Vec<u64>), AttachError> {
    let fail = |source| AttachError::Binary { program: program.name().to_owned(), source };
    let path = elf::find_binary(probe.binary).map_err(fail)?;
    let offsets = match probe.place {
        Place::Offset(offset) => vec![offset],
        Place::Function(name, offset) => {
            // The first of several versions of one name, as its offsets ascend.
            let mut found = elf::functions(&path, name, |n| n == name).map_err(fail)?;
            found.truncate(1);
            found.into_iter().map(|start| start.saturating_add(offset)).collect()
        }
        Place::Pattern(pattern) => {
            elf::functions(&path, pattern, |name| elf::glob(pattern, name)).map_err(fail)?
        }
    };
    let name = OsStr::new(&path).as_bytes();
    let c_path = CString::new(name).map_err(|_| fail(ElfError::Path { path: path.clone() }))?;
    Ok((c_path, offsets))
}

fn hook_name(probe: &Uprobe<'_>) -> String {
    let kind = if probe.returns { "uretprobe" } else { "uprobe" };
    let whose = probe.pid.map(|pid| format!(" of process {pid}")).unwrap_or_default();
    match probe.place {
        Place::Offset(offset) => format!("{kind} {}:{offset:#x}{whose}", probe.binary),
        Place::Function(name, 0) => format!("{kind} {}:{name}{whose}", probe.binary),
        Place::Function(name, offset) => {
            format!("{kind} {}:{name}+{offset:#x}{whose}", probe.binary)
        }
        Place::Pattern(pattern) => format!("{kind} {}:{pattern}{whose}", probe.binary),
    }
}

/// Attaches to a place in a binary; a pattern must name one function only.
///
/// # Errors
///
/// [`AttachError::Binary`] when file or function is not there; the kernel's: `EINVAL` when the
/// place is no instruction's beginning, `ESRCH` when there is no such process.
#[doc(alias = "perf_event_open")]
pub fn attach_uprobe(program: &Program, probe: &Uprobe<'_>) -> Result<Link, AttachError> {
    let hook = hook_name(probe);
    let fail = |source| refused(program, &hook, source);
    let (path, offsets) = places(program, probe)?;
    let &[offset] = offsets.as_slice() else {
        let hint = "the pattern names several functions: use a program for many (uprobe.multi)";
        return Err(fail(SysError::errno_of("perf_event_open", libc::EINVAL, hint)));
    };
    let pmu = Pmu::find("uprobe").map_err(fail)?;
    let counter = u32::try_from(probe.reference_counter).map_err(|_| {
        let hint = "the counter is beyond what fits 32 bits";
        fail(SysError::errno_of("perf_event_open", libc::EINVAL, hint))
    })?;
    let config = pmu.config(probe.returns) | u64::from(counter) << 32;
    let event = sys::probe_event(pmu.event_type, config, &path, offset, probe.pid);
    let held = event.and_then(|event| on_event(program, event)).map_err(fail)?;
    Ok(Link::new(held, hook))
}

/// Attaches to all the places that are meant, by one link: Linux 6.6.
///
/// # Errors
///
/// As for [`attach_uprobe`]; `EINVAL` when the kernel has no such link, or the program was not
/// loaded for it ([`AttachType::TRACE_UPROBE_MULTI`]).
pub fn attach_uprobe_multi(program: &Program, probe: &Uprobe<'_>) -> Result<Link, AttachError> {
    let hook = hook_name(probe);
    let (path, offsets) = places(program, probe)?;
    let counters = match probe.reference_counter {
        0 => Vec::new(),
        counter => vec![counter; offsets.len()],
    };
    let extra = LinkExtra::UprobeMulti {
        path: &path,
        offsets: &offsets,
        reference_counters: &counters,
        flags: u32::from(probe.returns),
        pid: probe.pid.unwrap_or(0),
    };
    let attach_type = program.attach_type().unwrap_or(AttachType::TRACE_UPROBE_MULTI);
    let none = LinkTarget::Ifindex(0);
    let link = sys::link_create_with(program.as_fd(), none, attach_type.0, extra)
        .map_err(|source| refused(program, &hook, source))?;
    Ok(Link::new(Held::Fd(link), hook))
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
}
