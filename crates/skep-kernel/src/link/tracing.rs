//! Programs that were loaded for one place: fentry, fexit, fmod_ret, LSM, extensions.

use std::os::fd::AsFd as _;

use skep_abi::AttachType;

use super::{AttachError, Held, Link, refused};
use crate::{
    program::Program,
    sys::{self, LinkExtra, LinkTarget, SysError},
};

/// What a program that was loaded for one place is called.
pub(super) fn word(attach_type: Option<AttachType>) -> &'static str {
    match attach_type {
        Some(AttachType::TRACE_FENTRY | AttachType::TRACE_FENTRY_MULTI) => "fentry",
        Some(AttachType::TRACE_FEXIT | AttachType::TRACE_FEXIT_MULTI) => "fexit",
        Some(AttachType::TRACE_FSESSION | AttachType::TRACE_FSESSION_MULTI) => "fsession",
        Some(AttachType::MODIFY_RETURN) => "fmod_ret",
        Some(AttachType::LSM_MAC) => "LSM hook",
        _ => "function",
    }
}

/// Attaches a fentry, fexit, fsession or fmod_ret program (or a BTF tracepoint) to what it was
/// loaded for.
///
/// # Errors
///
/// `EINVAL` when it was loaded for something else; `EBUSY` when a function is full.
pub fn attach_tracing(program: &Program) -> Result<Link, AttachError> {
    loaded_for(program, 0)
}

/// Attaches an LSM program to the hook it was loaded for.
///
/// # Errors
///
/// As for [`attach_tracing`].
pub fn attach_lsm(program: &Program) -> Result<Link, AttachError> {
    loaded_for(program, 0)
}

pub(super) fn loaded_for(program: &Program, cookie: u64) -> Result<Link, AttachError> {
    let name = program.attach_to().unwrap_or("it was loaded for");
    let hook = format!("{} {name}", word(program.attach_type()));
    let (none, extra) = (LinkTarget::Ifindex(0), LinkExtra::TracingCookie(cookie));
    let attach_type = program.attach_type().map_or(0, |t| t.0);
    let link = sys::link_create_with(program.as_fd(), none, attach_type, extra);
    // Kernels before 5.18 take these only as raw tracepoints without a name.
    let link = match link {
        Err(e) if e.errno() == libc::EINVAL => {
            sys::raw_tracepoint_open(None, program.as_fd(), cookie)
        }
        other => other,
    };
    Ok(Link::new(Held::Fd(link.map_err(|source| refused(program, &hook, source))?), hook))
}

/// Replaces a function of a loaded program: the one the extension was loaded for, or, with
/// `other`, the function with this BTF id of another program of the same shape.
///
/// # Errors
///
/// `EINVAL` when the functions differ, `EBUSY` when it is replaced already.
#[doc(alias = "freplace")]
pub fn attach_freplace(
    program: &Program,
    other: Option<(&Program, u32)>,
) -> Result<Link, AttachError> {
    let hook = match other {
        Some((target, _)) => format!("function of program '{}'", target.name()),
        None => "the function it was loaded for".to_owned(),
    };
    let fail = |source: SysError| refused(program, &hook, source);
    let link = match other {
        None => sys::raw_tracepoint_open(None, program.as_fd(), 0),
        Some((target, function)) => sys::link_create_with(
            program.as_fd(),
            LinkTarget::Fd(target.as_fd()),
            0,
            LinkExtra::Function(function),
        ),
    };
    Ok(Link::new(Held::Fd(link.map_err(fail)?), hook))
}
