//! Functions of the kernel: kprobes, one or many at once, and those of system calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::{CStr, CString},
    os::fd::AsFd as _,
};

use skep_abi::AttachType;

use super::{
    AttachError, Held, Link, elf::glob, event::on_event, refused, tracefs, tracefs::Tracefs,
    uprobe::Pmu,
};
use crate::{
    program::Program,
    sys::{self, LinkExtra, LinkTarget, SysError},
    target,
};

/// Where a kprobe fires.
#[derive(Clone, Copy, Debug)]
pub struct Kprobe<'a> {
    /// The function, as `/proc/kallsyms` has it.
    pub function: &'a str,
    /// Bytes behind its start.
    pub offset: u64,
    /// When the function returns, not when it is entered.
    pub returns: bool,
    /// What `bpf_get_attach_cookie` gives: Linux 5.15. 0 for none.
    pub cookie: u64,
}

impl<'a> Kprobe<'a> {
    /// The entry of a function.
    pub const fn function(function: &'a str) -> Self {
        Self { function, offset: 0, returns: false, cookie: 0 }
    }

    fn hook(&self) -> String {
        let kind = if self.returns { "kretprobe" } else { "kprobe" };
        match self.offset {
            0 => format!("{kind} {}", self.function),
            offset => format!("{kind} {}+{offset:#x}", self.function),
        }
    }
}

fn no_nul(name: &str) -> Result<CString, SysError> {
    CString::new(name)
        .map_err(|_| SysError::errno_of("perf_event_open", libc::EINVAL, "the name has a NUL"))
}

/// Attaches to a function of the kernel: by a perf event of the kprobe PMU, and where there is
/// none by a probe in tracefs.
///
/// # Errors
///
/// `ENOENT` when the kernel has no such function, or no kprobes; `EINVAL` when it may not be
/// probed there.
pub fn attach_kprobe(program: &Program, probe: &Kprobe<'_>) -> Result<Link, AttachError> {
    let pmu = match Pmu::find("kprobe") {
        Ok(pmu) => pmu,
        Err(first) if first.errno() == libc::ENOENT => {
            let by_tracefs = attach_kprobe_by_tracefs(program, probe);
            // Without either, the kernel's words about the better way.
            return by_tracefs.map_err(|_| refused(program, &probe.hook(), first));
        }
        Err(first) => return Err(refused(program, &probe.hook(), first)),
    };
    let hook = probe.hook();
    let config = pmu.config(probe.returns);
    let event = no_nul(probe.function)
        .and_then(|name| sys::probe_event(pmu.event_type, config, &name, probe.offset, None));
    let held = event.and_then(|event| on_event(program, event, probe.cookie));
    Ok(Link::new(held.map_err(|source| refused(program, &hook, source))?, hook))
}

/// Attaches to a function of the kernel by a probe that tracefs defines, the way before Linux
/// 4.17. The probe is called `skep/probe_PID_START_NAMESPACE_N`, by which a later process sees whose
/// it was ([`crate::leftover`]).
///
/// # Errors
///
/// `ENOENT` when the kernel has no such function, or no kprobes.
#[doc(alias = "kprobe_events")]
pub fn attach_kprobe_by_tracefs(
    program: &Program,
    probe: &Kprobe<'_>,
) -> Result<Link, AttachError> {
    let hook = probe.hook();
    let fail = |source| refused(program, &hook, source);
    if !probe.function.bytes().all(|c| c.is_ascii_graphic()) {
        let hint = "not a function's name";
        return Err(fail(SysError::errno_of("kprobe_events", libc::EINVAL, hint)));
    }
    let place = format!("{}+{:#x}", probe.function, probe.offset);
    let (definition, id) =
        tracefs::Probe::define(tracefs::Kind::Kernel, probe.returns, &place).map_err(fail)?;
    let event = sys::tracepoint_event(id, None);
    let event = event.and_then(|event| on_event(program, event, probe.cookie)).map_err(fail)?;
    Ok(Link::new(Held::Traced { event: Box::new(event), probe: definition }, hook))
}

/// Attaches to the function of a system call, `openat`, whatever it is called on this machine.
///
/// # Errors
///
/// As for [`attach_kprobe`].
pub fn attach_ksyscall(program: &Program, name: &str, returns: bool) -> Result<Link, AttachError> {
    ksyscall(program, name, returns, 0)
}

pub(super) fn ksyscall(
    program: &Program,
    name: &str,
    returns: bool,
    cookie: u64,
) -> Result<Link, AttachError> {
    let wrapped = target::has_syscall_wrapper().unwrap_or(true);
    let function = syscall_function(name, wrapped, env::consts::ARCH);
    attach_kprobe(program, &Kprobe { function: &function, offset: 0, returns, cookie })
}

fn syscall_function(name: &str, wrapped: bool, arch: &str) -> String {
    let prefix = match arch {
        _ if !wrapped => "se",
        "x86_64" => "x64",
        "aarch64" => "arm64",
        "riscv64" => "riscv",
        other => other,
    };
    format!("__{prefix}_sys_{name}")
}

/// Several functions of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct KprobeMulti<'a> {
    /// Their names, or patterns of `*` and `?`. Patterns are looked up among the functions that
    /// can be probed, by the one name that tracefs has for each (a system call's may be another
    /// than `__x64_sys_NAME`).
    pub functions: &'a [&'a str],
    /// What `bpf_get_attach_cookie` gives in the function of the same place in `functions`, or in
    /// all that fit its pattern. Empty for none.
    pub cookies: &'a [u64],
    /// When the functions return, not when they are entered. A program that was loaded for
    /// sessions runs at both.
    pub returns: bool,
}

/// Attaches to several functions by one link, each with its cookie: Linux 5.18. A program that
/// was loaded for sessions ([`AttachType::TRACE_KPROBE_SESSION`], Linux 6.10) runs at entry and at
/// return.
///
/// # Errors
///
/// `ENOENT` when no function fits; `EOPNOTSUPP` when the kernel was built without function probes;
/// `ESRCH` when a function is not there, or `EADDRNOTAVAIL` when it is there twice; `EINVAL` when
/// the kernel has no such link, or the program was not loaded for it
/// ([`AttachType::TRACE_KPROBE_MULTI`]).
pub fn attach_kprobe_multi(
    program: &Program,
    probe: &KprobeMulti<'_>,
) -> Result<Link, AttachError> {
    let kind = if probe.returns { "kretprobe" } else { "kprobe" };
    let hook = format!("{kind} {}", probe.functions.join(" "));
    let fail = |source| refused(program, &hook, source);
    // The kernel takes each name only once; the first that means it gives the cookie.
    let mut found: BTreeMap<CString, u64> = BTreeMap::new();
    for (index, function) in probe.functions.iter().enumerate() {
        let cookie = probe.cookies.get(index).copied().unwrap_or(0);
        for name in expand(function).map_err(fail)? {
            found.entry(name).or_insert(cookie);
        }
    }
    // The kernel sorts by address what it has cookies for: without, it need not.
    let some = found.values().any(|&cookie| cookie != 0);
    let cookies: Vec<u64> = if some { found.values().copied().collect() } else { Vec::new() };
    let symbols: Vec<&CStr> = found.keys().map(CString::as_c_str).collect();
    let flags = u32::from(probe.returns);
    let extra =
        LinkExtra::KprobeMulti { symbols: &symbols, addresses: &[], cookies: &cookies, flags };
    let attach_type = program.attach_type().unwrap_or(AttachType::TRACE_KPROBE_MULTI);
    let none = LinkTarget::Ifindex(0);
    let link = sys::link_create_with(program.as_fd(), none, attach_type.0, extra).map_err(fail)?;
    Ok(Link::new(Held::Fd(link), hook))
}

/// The functions that a name or pattern means. Names that the kernel has twice are left out of
/// patterns: it takes each name only once.
fn expand(name: &str) -> Result<Vec<CString>, SysError> {
    if !name.contains(['*', '?']) {
        return Ok(vec![no_nul(name)?]);
    }
    let names = matching(name)?;
    names.iter().map(|function| no_nul(function)).collect()
}

/// The functions that can be probed and fit a pattern.
pub(super) fn matching(pattern: &str) -> Result<Vec<String>, SysError> {
    let unreadable = |e| SysError::new("available_filter_functions", e);
    let functions = Tracefs::find()?.functions().map_err(unreadable)?;
    let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
    let lines = functions.lines().filter_map(|line| line.split_whitespace().next());
    for function in lines.filter(|function| glob(pattern, function)) {
        if !once.insert(function) {
            twice.insert(function);
        }
    }
    let names: Vec<String> = once.difference(&twice).map(|&name| name.to_owned()).collect();
    if names.is_empty() {
        let hint = "no function that can be probed fits the pattern";
        return Err(SysError::errno_of("available_filter_functions", libc::ENOENT, hint));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_are_named_for_the_machine() {
        for (wrapped, arch, want) in [
            (true, "x86_64", "__x64_sys_openat"),
            (true, "aarch64", "__arm64_sys_openat"),
            (true, "s390x", "__s390x_sys_openat"),
            (false, "x86_64", "__se_sys_openat"),
        ] {
            assert_eq!(syscall_function("openat", wrapped, arch), want);
        }
    }
}
