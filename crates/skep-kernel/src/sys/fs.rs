//! Files of pseudo file systems, mounts that leave nothing behind, and waiting for descriptors.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Call, SysError, issue, issue_fd};

/// A mount of a pseudo file system that is in no directory tree: reachable by this descriptor
/// only, gone when it is closed.
pub(crate) fn detached_mount(fs_type: &CStr) -> Result<OwnedFd, SysError> {
    // SAFETY: no address is passed but the name's; returns a new descriptor.
    let context = unsafe { issue_fd(&mut Call::FsOpen { fs_type }) }?;
    // SAFETY: passes no address.
    unsafe { issue(&mut Call::FsCreate { context: context.as_fd() }) }?;
    // SAFETY: passes no address, and returns a new descriptor.
    unsafe { issue_fd(&mut Call::FsMount { context: context.as_fd() }) }
}

/// A descriptor of a process, which names its main task where a map keeps values beside tasks
/// ([`Map::storage`](crate::Map::storage)).
///
/// # Errors
///
/// `ESRCH` when there is no such process.
#[doc(alias = "pidfd_open")]
pub fn pidfd(pid: u32) -> Result<OwnedFd, SysError> {
    // SAFETY: passes no address, and returns a new descriptor.
    unsafe { issue_fd(&mut Call::PidfdOpen { pid }) }
}

/// A descriptor that can be read when one of those added to it can.
pub(crate) fn epoll_create() -> Result<OwnedFd, SysError> {
    // SAFETY: passes no address, and returns a new descriptor.
    unsafe { issue_fd(&mut Call::EpollCreate) }
}

/// Adds a descriptor; closing its last copy takes it out again.
pub(crate) fn epoll_add(epoll: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<(), SysError> {
    // SAFETY: passes no address of ours.
    unsafe { issue(&mut Call::EpollAdd { epoll, fd }) }.map(drop)
}

/// Waits until one of `fds` (ring buffers, perf buffers) can be read, or the time is over. False when
/// the time is over, or a signal arrived.
///
/// # Errors
///
/// `EINVAL` when there are more descriptors than the process may have.
pub(crate) fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Duration) -> Result<bool, SysError> {
    wait(fds, libc::POLLIN, timeout)
}

/// As [`wait_readable`], until there is room in `fd` (a user ring buffer).
pub(crate) fn wait_writable(fd: BorrowedFd<'_>, timeout: Duration) -> Result<bool, SysError> {
    wait(&[fd], libc::POLLOUT, timeout)
}

fn wait(fds: &[BorrowedFd<'_>], events: i16, timeout: Duration) -> Result<bool, SysError> {
    let mut polled: Vec<libc::pollfd> =
        fds.iter().map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 }).collect();
    // Rounded up: a wait of less than a millisecond must not become a busy loop.
    let millis = timeout.as_micros().div_ceil(1000);
    let millis = libc::c_int::try_from(millis).unwrap_or(libc::c_int::MAX);
    // SAFETY: passes no address but that of `polled`.
    match unsafe { issue(&mut Call::Poll { fds: &mut polled, millis }) } {
        Ok(ready) => Ok(ready > 0),
        Err(e) if e.errno() == libc::EINTR => Ok(false),
        Err(e) => Err(e),
    }
}

/// Reads what is there; 0 at the end.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, SysError> {
    let most = buffer.len();
    // SAFETY: passes no address but the buffer's.
    let got = unsafe { issue(&mut Call::Read { fd, buffer }) }?;
    Ok(usize::try_from(got).unwrap_or(0).min(most))
}

/// All of a file that the kernel, or an installation, tells about itself in.
///
/// # Errors
///
/// The file's; `EFBIG` above 64 MB.
pub(crate) fn read_file(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut call = Call::ReadFile { path: path.as_ref(), into: &mut bytes };
    // SAFETY: passes no address.
    unsafe { issue(&mut call) }.map_err(|e| e.source)?;
    Ok(bytes)
}

/// All of a file of sysfs, where it lies in the kernel's memory. Few can be mapped.
///
/// # Errors
///
/// The file's; `ENODEV` in another file system, or when this kernel does not map it.
pub(crate) fn map_file(path: &Path) -> io::Result<&'static [u8]> {
    let mut bytes: &[u8] = &[];
    let mut call = Call::MapFile { path, into: &mut bytes };
    // SAFETY: passes no address.
    unsafe { issue(&mut call) }.map_err(|e| e.source)?;
    Ok(bytes)
}

/// As [`read_file`], for text.
///
/// # Errors
///
/// As for [`read_file`]; `InvalidData` when it is no UTF-8.
pub(crate) fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read_file(path)?).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Where a symbolic link leads.
pub(crate) fn read_link(path: impl AsRef<Path>) -> Result<PathBuf, SysError> {
    let mut target = PathBuf::new();
    let mut call = Call::ReadLink { path: path.as_ref(), into: &mut target };
    // SAFETY: passes no address.
    unsafe { issue(&mut call) }?;
    Ok(target)
}

/// Writes behind the end of a file that is there.
pub(crate) fn append_file(path: impl AsRef<Path>, bytes: &[u8]) -> io::Result<()> {
    let mut call = Call::AppendFile { path: path.as_ref(), bytes };
    // SAFETY: passes no address.
    unsafe { issue(&mut call) }.map(drop).map_err(|e| e.source)
}
