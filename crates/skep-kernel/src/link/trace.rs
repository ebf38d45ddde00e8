//! Tracepoints, raw tracepoints, BTF tracepoints.

use std::{ffi::CString, io, os::fd::AsFd as _};

use super::{AttachError, Held, Link, event::on_event, tracefs::Tracefs};
use crate::{
    program::Program,
    sys::{self, SysError},
};

/// Attaches to a tracepoint, `syscalls`/`sys_enter_openat`.
///
/// # Errors
///
/// [`AttachError::NoTracepoint`], or the kernel's refusal: `EINVAL` when the program is of
/// another type, `EACCES` when it reads beyond the tracepoint's record.
pub fn attach_tracepoint(
    program: &Program,
    category: &str,
    name: &str,
) -> Result<Link, AttachError> {
    tracepoint(program, category, name, 0)
}

pub(super) fn tracepoint(
    program: &Program,
    category: &str,
    name: &str,
    cookie: u64,
) -> Result<Link, AttachError> {
    let hook = format!("tracepoint {category}/{name}");
    let fail = |source| AttachError::Refused {
        program: program.name().to_owned(),
        hook: hook.clone(),
        source,
    };
    let id = tracepoint_id(category, name)?;
    let event = sys::tracepoint_event(id, None).map_err(fail)?;
    let held = on_event(program, event, cookie).map_err(fail)?;
    Ok(Link::new(held, hook))
}

/// Attaches to a raw tracepoint, `sched_switch`.
///
/// # Errors
///
/// `ENOENT` when the kernel has no such tracepoint; `EINVAL` when the program is of another type.
pub fn attach_raw_tracepoint(program: &Program, name: &str) -> Result<Link, AttachError> {
    raw_tracepoint(program, name, 0)
}

pub(super) fn raw_tracepoint(
    program: &Program,
    name: &str,
    cookie: u64,
) -> Result<Link, AttachError> {
    open_raw(program, Some(name), cookie, format!("raw tracepoint {name}"))
}

/// Attaches to the BTF tracepoint that the program was loaded for.
///
/// # Errors
///
/// `EINVAL` when it was loaded for something else.
pub fn attach_tp_btf(program: &Program) -> Result<Link, AttachError> {
    tp_btf(program, 0)
}

pub(super) fn tp_btf(program: &Program, cookie: u64) -> Result<Link, AttachError> {
    let name = program.attach_to().unwrap_or("it was loaded for");
    open_raw(program, None, cookie, format!("BTF tracepoint {name}"))
}

fn open_raw(
    program: &Program,
    name: Option<&str>,
    cookie: u64,
    hook: String,
) -> Result<Link, AttachError> {
    let c_name = name.map(CString::new).transpose().map_err(|_| {
        SysError::errno_of("BPF_RAW_TRACEPOINT_OPEN", libc::EINVAL, "the name contains a NUL")
    });
    let opened =
        c_name.and_then(|name| sys::raw_tracepoint_open(name.as_deref(), program.as_fd(), cookie));
    match opened {
        Ok(fd) => Ok(Link::new(Held::Fd(fd), hook)),
        Err(source) => {
            Err(AttachError::Refused { program: program.name().to_owned(), hook, source })
        }
    }
}

/// Does the kernel lack links of this kind (not: refuse this one)?
pub(super) fn no_such_link(e: &SysError) -> bool {
    matches!(e.errno(), libc::EINVAL | libc::ENOSYS | libc::EBADF)
}

/// The number by which `perf_event_open` knows a tracepoint, for
/// [`PerfEvent::tracepoint`](super::PerfEvent::tracepoint).
///
/// # Errors
///
/// [`AttachError::NoTracepoint`].
pub fn tracepoint_id(category: &str, name: &str) -> Result<u64, AttachError> {
    let fail = |reachable, near, source| AttachError::NoTracepoint {
        category: category.to_owned(),
        name: name.to_owned(),
        reachable,
        near,
        source,
    };
    let plain = |part: &str| !part.is_empty() && !part.contains('/') && !part.starts_with('.');
    if !plain(category) || !plain(name) {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "not a tracepoint's name");
        return Err(fail(true, Vec::new(), source));
    }
    let tracefs =
        Tracefs::find().map_err(|e| fail(false, Vec::new(), io::Error::new(e.source.kind(), e)))?;
    tracefs.event_id(category, name).map_err(|e| fail(true, tracefs.near(category, name), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_leave_tracefs() {
        for (category, name) in [("..", "x"), ("a/b", "x"), ("sched", ""), ("sched", "../x")] {
            let error = tracepoint_id(category, name).unwrap_err();
            assert!(matches!(error, AttachError::NoTracepoint { reachable: true, .. }), "{error}");
        }
    }
}
