//! A network and mounts of a test's own, gone when the test ends.
//!
//! Linux gives each thread its own namespaces if it asks: the test's body runs in a thread that
//! has left those of the machine. Processes that it starts are in there too.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Runs `body` in a thread with a network namespace and a mount namespace of its own: a loopback
/// interface that is down, IPv6 switched off, an empty bpf file system at `/sys/fs/bpf`.
///
/// # Errors
///
/// Why there is no such thing here (mostly: not root), as `require_kernel!` wants it.
///
/// # Panics
///
/// As `body` does.
pub fn sandbox<T: Send>(body: impl FnOnce() -> T + Send) -> Result<T, String> {
    thread::scope(|scope| {
        let inside = scope.spawn(|| leave_the_machine().map(|()| body()));
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Runs `body` in a thread with a table of descriptors of its own: what `/proc/thread-self/fd` lists
/// there is what this body opened, and what was open before.
///
/// # Panics
///
/// As `body` does, and when the kernel refuses, which it has no reason for.
pub fn own_descriptors<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // SAFETY: takes flags only, and changes only the calling thread.
            let ret = unsafe { libc::unshare(libc::CLONE_FILES) };
            assert!(ret == 0, "unshare: {}", io::Error::last_os_error());
            body()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn leave_the_machine() -> Result<(), String> {
    let fail = |what: &str, e: io::Error| format!("no namespaces of its own: {what}: {e}");
    // SAFETY: takes flags only, and changes only the calling thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) } < 0 {
        return Err(fail("unshare", io::Error::last_os_error()));
    }
    let private = libc::MS_REC | libc::MS_PRIVATE;
    mount("none", "/", None, private).map_err(|e| fail("mount /", e))?;
    mount("bpf", "/sys/fs/bpf", Some("bpf"), 0).map_err(|e| fail("mount bpf", e))?;
    // A kernel without IPv6 has none to switch off.
    for scope in ["all", "default"] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1").ok();
    }
    Ok(())
}

fn mount(
    source: &str,
    target: &str,
    fs_type: Option<&str>,
    flags: libc::c_ulong,
) -> io::Result<()> {
    let c = |text: &str| CString::new(text).expect("no NUL in these");
    let (source, target, fs_type) = (c(source), c(target), fs_type.map(c));
    let fs_type = fs_type.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
    // SAFETY: all strings are NUL-terminated and live past the call; the last argument is null.
    let ret =
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), fs_type, flags, std::ptr::null()) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs `ip` with these arguments in the calling thread's namespaces, and returns what it prints.
///
/// # Errors
///
/// What `ip` says, or that it is not installed.
pub fn ip(arguments: &str) -> Result<String, String> {
    let mut command = Command::new("ip");
    let out = command.args(arguments.split_whitespace()).stdin(Stdio::null()).output();
    let out = out.map_err(|e| format!("ip: {e}"))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&out.stderr).trim()))
}

/// Makes two connected Ethernet interfaces, up, that change no frame on its way: no offloads. For
/// use in a [`sandbox`].
///
/// # Errors
///
/// As for [`ip`]; the kernel has no veth.
pub fn veth(left: &str, right: &str) -> Result<(), String> {
    ip(&format!("link add {left} type veth peer name {right}"))?;
    for name in [left, right] {
        without_offloads(name).map_err(|e| format!("offloads of {name}: {e}"))?;
        ip(&format!("link set {name} up"))?;
    }
    // The kernel starts an interface's queues a while after its cable is plugged in, and drops
    // what is sent before.
    let deadline = Instant::now() + Duration::from_secs(10);
    for name in [left, right] {
        while !ip(&format!("-o link show {name}"))?.contains("state UP") {
            if Instant::now() > deadline {
                return Err(format!("{name} does not come up"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(())
}

/// `struct ifreq` with an address in it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    data: *mut EthtoolValue,
    rest: [u8; 16],
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Commands that switch off what changes frames: receive and send checksums, scatter-gather, TSO,
/// GSO, GRO.
const OFF: &[u32] = &[0x15, 0x17, 0x19, 0x1f, 0x24, 0x2c];

fn without_offloads(name: &str) -> io::Result<()> {
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    // SAFETY: takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    for &command in OFF {
        let mut value = EthtoolValue { command, data: 0 };
        let mut request =
            InterfaceRequest { name: [0; libc::IFNAMSIZ], data: &raw mut value, rest: [0; 16] };
        for (to, from) in request.name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
            *to = from;
        }
        // A feature that the kernel does not have or lets nobody switch is not a reason to fail.
        // SAFETY: the kernel reads one `ifreq` and the value it points to; both live past the
        // call.
        unsafe { libc::ioctl(socket, SIOCETHTOOL, &raw mut request) };
    }
    // SAFETY: the socket is ours and not used any more.
    unsafe { libc::close(socket) };
    Ok(())
}

/// Chooses a TCP socket's congestion control by name.
///
/// # Errors
///
/// `ENOENT` when no such is registered.
pub fn set_congestion_control(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    let len = libc::socklen_t::try_from(name.len()).unwrap_or(libc::socklen_t::MAX);
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_CONGESTION);
    // SAFETY: the kernel reads `len` bytes of `name`, which lives past the call.
    let ret = unsafe { libc::setsockopt(fd, level, option, name.as_ptr().cast(), len) };
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
