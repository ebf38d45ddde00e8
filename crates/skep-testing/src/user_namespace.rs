//! A process in a user namespace of its own, to which a bpf file system is delegated.
//!
//! A user namespace is for processes of one thread, so that a test starts its own binary again, for
//! itself alone. The one inside makes the file system's context, the one outside, who has the
//! right, says what is delegated, and the one inside mounts it.
#![expect(clippy::disallowed_methods, reason = "these system calls have no wrappers")]

use std::{
    env,
    ffi::{CStr, CString},
    io::{self, BufRead as _, BufReader, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Which of the two processes the caller is.
#[derive(Debug)]
pub enum Side {
    /// In the namespace; the file system is mounted here.
    Inside(PathBuf),
    /// Outside; the other has ended.
    Outside,
}

const INSIDE: &str = "SKEP_INSIDE_USER_NAMESPACE";

/// Runs the test `name` (as `--exact` takes it) again in a user and a mount namespace of its own,
/// where it is root, with a bpffs to which everything is delegated.
///
/// # Errors
///
/// Why there is no such thing here, as `require_kernel!` wants it.
///
/// # Panics
///
/// When the test fails inside.
pub fn with_delegated_bpffs(name: &str) -> Result<Side, String> {
    if env::var_os(INSIDE).is_some() {
        return Ok(Side::Inside(mount_inside().expect("the one outside has prepared it")));
    }
    let mut child = start(name).map_err(|e| format!("no user namespace: {e}"))?;
    let prepared = prepare(&mut child);
    if prepared.is_err() {
        child.kill().ok();
    }
    let status = child.wait().expect("it was started");
    prepared?;
    assert!(status.success(), "the test failed in its user namespace");
    Ok(Side::Outside)
}

fn start(name: &str) -> io::Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    // SAFETY: the closure makes system calls on constants only: no allocation, no lock.
    unsafe { command.pre_exec(become_root_inside) };
    command.spawn()
}

/// Between fork and exec. Who is nobody in the new namespace has no rights there after exec.
fn become_root_inside() -> io::Result<()> {
    // SAFETY: takes flags only; there is one thread.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } < 0 {
        return Err(io::Error::last_os_error());
    }
    write_constant(c"/proc/self/setgroups", b"deny")?;
    write_constant(c"/proc/self/uid_map", b"0 0 1")?;
    write_constant(c"/proc/self/gid_map", b"0 0 1")
}

fn write_constant(path: &'static CStr, text: &'static [u8]) -> io::Result<()> {
    // SAFETY: a NUL-terminated path that lives for ever.
    let fd = owned(unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) }.into())?;
    // SAFETY: the kernel reads as many bytes as the text has.
    match unsafe { libc::write(fd.as_raw_fd(), text.as_ptr().cast(), text.len()) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Outside: makes the child's file system one with everything delegated.
fn prepare(child: &mut Child) -> Result<(), String> {
    let fail = |what: &'static str| move |e: io::Error| format!("{what}: {e}");
    let mut stdin = child.stdin.take().expect("it was asked for");
    let mut lines = BufReader::new(child.stdout.take().expect("it was asked for"));
    let context = loop {
        let mut line = String::new();
        let read = lines.read_line(&mut line).map_err(fail("the child's output"))?;
        assert!(read != 0, "the test ended early in its user namespace");
        // The test runner may have begun the line.
        if let Some((_, number)) = line.split_once("context ") {
            break number.trim().parse::<i64>().map_err(|e| e.to_string())?;
        }
    };
    let context = borrow_descriptor(child.id(), context).map_err(fail("pidfd_getfd"))?;
    for option in ["delegate_cmds", "delegate_maps", "delegate_progs", "delegate_attachs"] {
        configure(&context, Some(option)).map_err(fail("fsconfig"))?;
    }
    configure(&context, None).map_err(fail("fsconfig"))?;
    writeln!(stdin).map_err(fail("the child's input"))?;
    // What it prints from now on is shown; reading it also keeps it from blocking.
    io::copy(&mut lines, &mut io::stderr()).map_err(fail("the child's output"))?;
    Ok(())
}

/// Inside: a context of bpffs, prepared by the one outside, then mounted.
fn mount_inside() -> io::Result<PathBuf> {
    let name = CString::new("bpf")?;
    // SAFETY: a NUL-terminated name that lives past the call; returns a new descriptor.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), 0) })?;
    writeln!(io::stdout(), "\ncontext {}", context.as_raw_fd())?;
    io::stdin().read_line(&mut String::new())?;
    let raw = context.as_raw_fd();
    // SAFETY: takes numbers only; returns a new descriptor.
    let mount = owned(unsafe { libc::syscall(libc::SYS_fsmount, raw, 0, 0) })?;
    let place = Path::new("/sys/fs/bpf");
    let (empty, target) = (CString::default(), CString::new("/sys/fs/bpf")?);
    const MOVE_MOUNT_F_EMPTY_PATH: i32 = 4;
    let (from, to) = (mount.as_raw_fd(), libc::AT_FDCWD);
    // SAFETY: both paths are NUL-terminated and live past the call.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from,
            empty.as_ptr(),
            to,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if moved < 0 { Err(io::Error::last_os_error()) } else { Ok(place.into()) }
}

fn owned(ret: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(ret) {
        // SAFETY: the caller has just got this descriptor from a call that returns a new one.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A descriptor of another process.
fn borrow_descriptor(pid: u32, number: i64) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only; returns a new descriptor.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let raw = process.as_raw_fd();
    // SAFETY: takes numbers only; returns a new descriptor.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, raw, number, 0) })
}

/// Delegates all of an option's things, or makes the file system.
fn configure(context: &OwnedFd, option: Option<&str>) -> io::Result<()> {
    const SET_STRING: u32 = 1;
    const CREATE: u32 = 6;
    let key = option.map(CString::new).transpose()?;
    let any = CString::new("any")?;
    let (command, key, value) = match &key {
        Some(key) => (SET_STRING, key.as_ptr(), any.as_ptr()),
        None => (CREATE, std::ptr::null(), std::ptr::null()),
    };
    let raw = context.as_raw_fd();
    // SAFETY: key and value are null or NUL-terminated, and live past the call.
    match unsafe { libc::syscall(libc::SYS_fsconfig, raw, command, key, value, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
