//! The funnel: every system call of this crate is a [`Call`] that [`issue`] makes.
//!
//! One place decides which failures are tried again, and in unit tests [`fake`](super::fake) may
//! stand in the kernel's place.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    path::{Path, PathBuf},
};

use super::SysError;

/// A system call about to be made, with all that it passes.
#[derive(Debug)]
pub(crate) enum Call<'a> {
    /// `bpf(2)`; `attr` is the attribute block, which the kernel reads and writes.
    Bpf {
        name: &'static str,
        command: libc::c_int,
        attr: &'a mut [u8],
    },
    /// `cgroup`: `pid` is the descriptor of one.
    PerfEventOpen {
        attr: &'a [u8],
        pid: i32,
        cpu: i32,
        cgroup: bool,
    },
    /// A request whose argument is a number.
    Ioctl {
        name: &'static str,
        fd: BorrowedFd<'a>,
        request: libc::Ioctl,
        arg: libc::c_int,
    },
    Read {
        fd: BorrowedFd<'a>,
        buffer: &'a mut [u8],
    },
    /// `at` is the address that it must have, 0 for any.
    Mmap {
        at: usize,
        fd: BorrowedFd<'a>,
        offset: libc::off_t,
        len: usize,
        prot: libc::c_int,
    },
    Munmap {
        at: *mut u8,
        len: usize,
    },
    Poll {
        fds: &'a mut [libc::pollfd],
        millis: libc::c_int,
    },
    EpollCreate,
    PidfdOpen {
        pid: u32,
    },
    /// Adds a descriptor that can be read when there is something.
    EpollAdd {
        epoll: BorrowedFd<'a>,
        fd: BorrowedFd<'a>,
    },
    Socket {
        domain: libc::c_int,
        kind: libc::c_int,
        protocol: libc::c_int,
    },
    Bind {
        fd: BorrowedFd<'a>,
        address: &'a libc::sockaddr_ll,
    },
    SetSockOpt {
        name: &'static str,
        fd: BorrowedFd<'a>,
        level: libc::c_int,
        option: libc::c_int,
        value: &'a [u8],
    },
    Send {
        fd: BorrowedFd<'a>,
        bytes: &'a [u8],
    },
    Recv {
        fd: BorrowedFd<'a>,
        buffer: &'a mut [u8],
        flags: libc::c_int,
    },
    InterfaceIndex {
        name: &'a CStr,
    },
    InterfaceName {
        index: u32,
        into: &'a mut [u8; libc::IF_NAMESIZE],
    },
    FsOpen {
        fs_type: &'a CStr,
    },
    /// Makes the file system of a context.
    FsCreate {
        context: BorrowedFd<'a>,
    },
    FsMount {
        context: BorrowedFd<'a>,
    },
    /// Moves the calling thread into new namespaces.
    Unshare {
        flags: libc::c_int,
    },
    /// Opens a file, reads all of it and closes it.
    ReadFile {
        path: &'a Path,
        into: &'a mut Vec<u8>,
    },
    /// Where a symbolic link leads.
    ReadLink {
        path: &'a Path,
        into: &'a mut PathBuf,
    },
    /// Opens a file of sysfs, maps all of it for as long as the process lives, and closes it.
    MapFile {
        path: &'a Path,
        into: &'a mut &'static [u8],
    },
    /// Opens a file, writes behind its end and closes it.
    AppendFile {
        path: &'a Path,
        bytes: &'a [u8],
    },
}

impl Call<'_> {
    /// The command or request as named in the kernel's headers, else the system call.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Bpf { name, .. } | Self::Ioctl { name, .. } | Self::SetSockOpt { name, .. } => {
                name
            }
            Self::PerfEventOpen { .. } => "perf_event_open",
            Self::Read { .. } => "read",
            Self::Mmap { .. } => "mmap",
            Self::Munmap { .. } => "munmap",
            Self::Poll { .. } => "poll",
            Self::EpollCreate => "epoll_create1",
            Self::PidfdOpen { .. } => "pidfd_open",
            Self::EpollAdd { .. } => "epoll_ctl",
            Self::Socket { .. } => "socket",
            Self::Bind { .. } => "bind",
            Self::Send { .. } => "send",
            Self::Recv { .. } => "recv",
            Self::InterfaceIndex { .. } => "if_nametoindex",
            Self::InterfaceName { .. } => "if_indextoname",
            Self::FsOpen { .. } => "fsopen",
            Self::FsCreate { .. } => "fsconfig",
            Self::FsMount { .. } => "fsmount",
            Self::Unshare { .. } => "unshare",
            Self::ReadFile { .. } => "reading a file",
            Self::ReadLink { .. } => "readlink",
            Self::MapFile { .. } => "mapping a file",
            Self::AppendFile { .. } => "appending to a file",
        }
    }
}

/// What the kernel asks to be tried again: call, errno, and how many times at most.
///
/// - The verifier gives up with `EAGAIN` when a signal arrives (`do_check`, kernel/bpf/verifier.c).
/// - A batch gives up with `EINTR`, having read nothing, when keys vanish faster than it walks
///   (`generic_map_lookup_batch`, kernel/bpf/syscall.c).
/// - The others wait interruptibly, and do nothing before.
///
/// Not here: `poll`, whose callers want to know of the signal, and `BPF_PROG_TEST_RUN`, which may
/// have run the program some of the times.
const AGAIN: &[(&str, i32, u32)] = &[
    ("BPF_PROG_LOAD", libc::EAGAIN, 5),
    ("BPF_MAP_LOOKUP_BATCH", libc::EINTR, 5),
    ("perf_event_open", libc::EINTR, 100),
    ("read", libc::EINTR, 100),
    ("send", libc::EINTR, 100),
    ("recv", libc::EINTR, 100),
    ("fsopen", libc::EINTR, 100),
    ("fsconfig", libc::EINTR, 100),
    ("fsmount", libc::EINTR, 100),
];

/// Makes the call, again where the kernel asks for it; returns what the kernel returned, never
/// negative.
///
/// # Safety
///
/// Every address inside the bytes of `call` must be valid, for the direction and length that the
/// kernel documents, until this returns; and what [`Call::Munmap`] names must be the caller's and
/// not be used any more.
pub(super) unsafe fn issue(call: &mut Call<'_>) -> Result<libc::c_long, SysError> {
    let name = call.name();
    let mut tries = 0;
    loop {
        // SAFETY: the caller vouches for the addresses.
        let source = match unsafe { once(call) } {
            Ok(done) => return Ok(done),
            Err(source) => source,
        };
        let errno = source.raw_os_error();
        let row = AGAIN.iter().find(|row| row.0 == name && Some(row.1) == errno);
        if row.is_none_or(|row| tries >= row.2) {
            return Err(SysError::new(name, source));
        }
        tries += 1;
    }
}

/// Makes a call whose success value is a new descriptor.
///
/// # Safety
///
/// As for [`issue`], and the call must be one that returns a new descriptor.
pub(super) unsafe fn issue_fd(call: &mut Call<'_>) -> Result<OwnedFd, SysError> {
    // SAFETY: the caller vouches for the addresses.
    let ret = unsafe { issue(call) }?;
    let fd = RawFd::try_from(ret).expect("the kernel's descriptors fit an int");
    // SAFETY: the call returns a new descriptor (the caller vouches for that), it succeeded, and
    // no one else owns what the kernel just made.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
///
/// As for [`issue`].
unsafe fn once(call: &mut Call<'_>) -> io::Result<libc::c_long> {
    #[cfg(test)]
    // SAFETY: the caller vouches for the addresses.
    return super::fake::answer(call, |call| unsafe { perform(call) });
    #[cfg(not(test))]
    // SAFETY: the caller vouches for the addresses.
    return unsafe { perform(call) };
}

/// The most that is read of a file: the kernel's BTF has about 10 MB.
const FILE_BYTES: u64 = 64 << 20;
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
const PERF_FLAG_PID_CGROUP: libc::c_ulong = 1 << 2;

/// Makes the call, once.
///
/// Slices, strings and structures live past the call, and the kernel reads or writes no more of
/// them than the length passed beside them, which is their own; descriptors are borrowed. What
/// else a call needs is said at it.
///
/// # Safety
///
/// As for [`issue`].
unsafe fn perform(call: &mut Call<'_>) -> io::Result<libc::c_long> {
    let ret = match call {
        Call::Bpf { command, attr, .. } => {
            // SAFETY: the block has the length beside it; the caller vouches for addresses in it.
            unsafe { libc::syscall(libc::SYS_bpf, *command, attr.as_mut_ptr(), attr.len()) }
        }
        Call::PerfEventOpen { attr, pid, cpu, cgroup } => {
            let (attr, no_group) = (attr.as_ptr(), -1);
            let flags = PERF_FLAG_FD_CLOEXEC | if *cgroup { PERF_FLAG_PID_CGROUP } else { 0 };
            // SAFETY: the kernel reads as many bytes as the block's own size field says, which
            // is its length; the caller vouches for addresses in it.
            unsafe { libc::syscall(libc::SYS_perf_event_open, attr, *pid, *cpu, no_group, flags) }
        }
        Call::Ioctl { fd, request, arg, .. } => {
            // SAFETY: these requests take a number, no address.
            unsafe { libc::ioctl(fd.as_raw_fd(), *request, *arg) }.into()
        }
        Call::Read { fd, buffer } => {
            // SAFETY: the kernel writes at most the buffer's length.
            long(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
        }
        Call::Mmap { at, fd, offset, len, prot } => {
            let (place, fd) = (std::ptr::without_provenance_mut(*at), fd.as_raw_fd());
            let fixed = if *at == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE };
            let flags = libc::MAP_SHARED | fixed;
            // SAFETY: a new mapping touches none of our memory: it is at an address of the
            // kernel's choice, or at one where nothing is (a kernel before 4.17, which does not
            // know the flag for that, takes the address as a wish).
            let at = unsafe { libc::mmap(place, *len, *prot, flags, fd, *offset) };
            // The one call whose failure is not negative, and whose success may be.
            return match at {
                libc::MAP_FAILED => Err(io::Error::last_os_error()),
                at => Ok(at.expose_provenance().cast_signed() as libc::c_long),
            };
        }
        Call::Munmap { at, len } => {
            // SAFETY: the caller gives this memory up.
            unsafe { libc::munmap(at.cast(), *len) }.into()
        }
        Call::Poll { fds, millis } => {
            let count = libc::nfds_t::try_from(fds.len()).unwrap_or(libc::nfds_t::MAX);
            // SAFETY: the kernel reads and writes `count` entries, which is how many there are.
            unsafe { libc::poll(fds.as_mut_ptr(), count, *millis) }.into()
        }
        Call::EpollCreate => {
            // SAFETY: takes a number only.
            unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }.into()
        }
        Call::PidfdOpen { pid } => {
            // SAFETY: takes numbers only.
            unsafe { libc::syscall(libc::SYS_pidfd_open, *pid, 0) }
        }
        Call::EpollAdd { epoll, fd } => {
            let events = libc::EPOLLIN.cast_unsigned();
            let mut event = libc::epoll_event { events, u64: 0 };
            let (set, fd, add) = (epoll.as_raw_fd(), fd.as_raw_fd(), libc::EPOLL_CTL_ADD);
            // SAFETY: the kernel reads one event, which lives past the call.
            unsafe { libc::epoll_ctl(set, add, fd, &raw mut event) }.into()
        }
        Call::Socket { domain, kind, protocol } => {
            // SAFETY: takes numbers only.
            unsafe { libc::socket(*domain, *kind | libc::SOCK_CLOEXEC, *protocol) }.into()
        }
        Call::Bind { fd, address } => {
            let (at, len) = (std::ptr::from_ref(*address).cast(), socklen(size_of_val(*address)));
            // SAFETY: the kernel reads `len` bytes of the address, which is its size.
            unsafe { libc::bind(fd.as_raw_fd(), at, len) }.into()
        }
        Call::SetSockOpt { fd, level, option, value, .. } => {
            let (at, len) = (value.as_ptr().cast(), socklen(value.len()));
            // SAFETY: the kernel reads `len` bytes of the value, which is its length.
            unsafe { libc::setsockopt(fd.as_raw_fd(), *level, *option, at, len) }.into()
        }
        Call::Send { fd, bytes } => {
            // SAFETY: the kernel reads `len` bytes of `bytes`.
            long(unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) })
        }
        Call::Recv { fd, buffer, flags } => {
            let (at, len) = (buffer.as_mut_ptr().cast(), buffer.len());
            // SAFETY: the kernel writes at most `len` bytes of `buffer`.
            long(unsafe { libc::recv(fd.as_raw_fd(), at, len, *flags) })
        }
        Call::InterfaceIndex { name } => {
            // SAFETY: reads a NUL-terminated string.
            match unsafe { libc::if_nametoindex(name.as_ptr()) } {
                0 => -1,
                index => index.into(),
            }
        }
        Call::InterfaceName { index, into } => {
            // SAFETY: writes a NUL-terminated string of at most `IF_NAMESIZE` bytes, the length of
            // the array.
            let name = unsafe { libc::if_indextoname(*index, into.as_mut_ptr().cast()) };
            if name.is_null() { -1 } else { 0 }
        }
        Call::FsOpen { fs_type } => {
            // SAFETY: reads a NUL-terminated string.
            unsafe { libc::syscall(libc::SYS_fsopen, fs_type.as_ptr(), FSOPEN_CLOEXEC) }
        }
        Call::FsCreate { context } => {
            let (fd, none) = (context.as_raw_fd(), std::ptr::null::<u8>());
            // SAFETY: this command takes no key and no value; both are null.
            unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, none, none, 0) }
        }
        Call::Unshare { flags } => {
            // SAFETY: takes flags only; memory stays as it is.
            unsafe { libc::unshare(*flags) }.into()
        }
        Call::ReadFile { path, into } => {
            // One byte more than is allowed tells a file that is too long.
            let read = File::open(path)?.take(FILE_BYTES + 1).read_to_end(into)?;
            if read as u64 > FILE_BYTES {
                return Err(io::Error::from_raw_os_error(libc::EFBIG));
            }
            return Ok(0);
        }
        Call::ReadLink { path, into } => {
            **into = std::fs::read_link(path)?;
            return Ok(0);
        }
        Call::MapFile { path, into } => {
            **into = map_file(path)?;
            return Ok(0);
        }
        Call::AppendFile { path, bytes } => {
            File::options().append(true).open(path)?.write_all(bytes)?;
            return Ok(0);
        }
        Call::FsMount { context } => {
            // SAFETY: takes numbers only.
            unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0) }
        }
    };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

fn long(ret: libc::ssize_t) -> libc::c_long {
    ret as libc::c_long
}

fn socklen(len: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(len).expect("options and addresses are small")
}

/// A file of sysfs as memory.
///
/// Of sysfs only: its files that can be mapped read-only and private are the kernel's own constant
/// data, while another file may change, or shrink, under its readers.
fn map_file(path: &Path) -> io::Result<&'static [u8]> {
    let no = |errno| io::Error::from_raw_os_error(errno);
    let file = File::open(path)?;
    let mut system = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: writes one `statfs` into storage of that type.
    if unsafe { libc::fstatfs(file.as_raw_fd(), system.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all-zero is a valid `statfs`, and the call filled it.
    let system = unsafe { system.assume_init() };
    if i128::from(system.f_type) != i128::from(libc::SYSFS_MAGIC) {
        return Err(no(libc::ENODEV));
    }
    let len = usize::try_from(file.metadata()?.len()).map_err(|_| no(libc::EFBIG))?;
    let (anywhere, fd) = (std::ptr::null_mut(), file.as_raw_fd());
    // SAFETY: a new mapping at an address of the kernel's choice touches none of our memory; a
    // length of 0 is refused.
    let at = unsafe { libc::mmap(anywhere, len, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `len` mapped bytes that are never unmapped and, in sysfs, never change.
    Ok(unsafe { std::slice::from_raw_parts(at.cast(), len) })
}
