//! Pseudo file systems without leaving a mount behind, and waiting for descriptors.

use std::{
    ffi::CStr,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    time::Duration,
};

use super::SysError;

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;

/// A mount of a pseudo file system that is in no directory tree: reachable by this descriptor
/// only, gone when it is closed.
pub(crate) fn detached_mount(fs_type: &CStr) -> Result<OwnedFd, SysError> {
    // SAFETY: reads the NUL-terminated name, which lives past the call.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, fs_type.as_ptr(), FSOPEN_CLOEXEC) };
    let context = owned("fsopen", context)?;
    let (no_key, no_value) = (std::ptr::null::<u8>(), std::ptr::null::<u8>());
    // SAFETY: this command takes no key and no value; both are null.
    let made = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            no_key,
            no_value,
            0,
        )
    };
    if made < 0 {
        return Err(SysError::last("fsconfig"));
    }
    // SAFETY: takes numbers only.
    let mount =
        unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) };
    owned("fsmount", mount)
}

fn owned(command: &'static str, ret: libc::c_long) -> Result<OwnedFd, SysError> {
    match RawFd::try_from(ret) {
        // SAFETY: the call succeeded, so this descriptor is new and nobody else's.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(SysError::last(command)),
    }
}

/// Waits until one of `fds` (ring buffers, perf buffers) can be read, or the time is over. False when
/// the time is over, or a signal arrived.
///
/// # Errors
///
/// `EINVAL` when there are more descriptors than the process may have.
pub(crate) fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Duration) -> Result<bool, SysError> {
    let mut polled: Vec<libc::pollfd> = fds
        .iter()
        .map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 })
        .collect();
    // Rounded up: a wait of less than a millisecond must not become a busy loop.
    let millis = timeout.as_micros().div_ceil(1000);
    let millis = libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX);
    let count = libc::nfds_t::try_from(polled.len()).unwrap_or(libc::nfds_t::MAX);
    // SAFETY: the kernel reads and writes `count` entries, which is how many `polled` has.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, millis) };
    if ready >= 0 {
        return Ok(ready > 0);
    }
    let error = SysError::last("poll");
    if error.errno() == libc::EINTR { Ok(false) } else { Err(error) }
}
