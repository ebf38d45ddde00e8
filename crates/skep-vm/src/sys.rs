//! System calls: clocks, who runs, packet sockets.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

/// A clock in nanoseconds.
pub(crate) fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for a timespec; an unknown clock only gives an error.
    if unsafe { libc::clock_gettime(clock, &raw mut now) } != 0 {
        return 0;
    }
    let sec = u64::try_from(now.tv_sec).unwrap_or_default();
    sec.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(now.tv_nsec).unwrap_or_default())
}

/// A random number, not for secrets.
pub(crate) fn random_u32() -> u32 {
    use std::cell::Cell;
    use std::hash::{BuildHasher as _, RandomState};
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        u32::try_from(x >> 32).unwrap_or_default()
    })
}

/// Process and thread number as `bpf_get_current_pid_tgid` gives them.
pub(crate) fn pid_tgid() -> u64 {
    // SAFETY: takes nothing and cannot fail.
    let thread = unsafe { libc::gettid() };
    u64::from(std::process::id()) << 32 | u64::from(thread.cast_unsigned())
}

/// User and group as `bpf_get_current_uid_gid` gives them.
pub(crate) fn uid_gid() -> u64 {
    // SAFETY: takes nothing and cannot fail.
    let gid = unsafe { libc::getgid() };
    // SAFETY: takes nothing and cannot fail.
    let uid = unsafe { libc::getuid() };
    u64::from(gid) << 32 | u64::from(uid)
}

/// `ETH_P_ALL` in network order.
const ETH_P_ALL_BE: u16 = 3_u16.to_be();

/// The result of a call that returns -1 for an error.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A socket type's size, as the system wants it.
fn size_as_socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("socket structures are small")
}

/// The index of an interface by name.
pub(crate) fn interface_index(name: &CStr) -> io::Result<u32> {
    // SAFETY: `name` is NUL-terminated.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// A raw packet socket bound to one interface.
pub(crate) fn packet_socket(ifindex: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // Protocol 0: nothing arrives before the socket is bound to its interface.
    // SAFETY: takes numbers only.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: `fd` was just opened and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let on: libc::c_int = 1;
    // SAFETY: the number is live and as long as the call is told.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_AUXDATA,
            (&raw const on).cast(),
            size_as_socklen::<libc::c_int>(),
        )
    })?;
    // SAFETY: all zeros is a valid `sockaddr_ll`.
    let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    addr.sll_family = u16::try_from(libc::AF_PACKET).expect("17 fits");
    addr.sll_protocol = ETH_P_ALL_BE;
    addr.sll_ifindex = i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?;
    let size = size_as_socklen::<libc::sockaddr_ll>();
    // SAFETY: the address is a live `sockaddr_ll` of the size given.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const addr).cast(), size) })?;
    Ok(socket)
}

/// Waits until the descriptor can be read; false after the time or a signal.
pub(crate) fn readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let ms = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `poll` is one live `pollfd`.
    match check(unsafe { libc::poll(&raw mut poll, 1, ms) }) {
        Ok(n) => Ok(n > 0),
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(e) => Err(e),
    }
}

/// What a packet socket says of a packet besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    /// Bytes of the whole packet, which the buffer may have cut.
    pub(crate) len: usize,
    /// Did this machine send it?
    pub(crate) outgoing: bool,
    /// The VLAN tag that the kernel took out of it: protocol and control information.
    pub(crate) tag: Option<(u16, u16)>,
}

/// Takes one packet.
pub(crate) fn receive(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Option<Received>> {
    // SAFETY: all zeros is a valid `sockaddr_ll`.
    let mut addr: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut control = [0_u64; 16]; // words, for a control message is aligned to them
    let mut part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: all zeros is a valid `msghdr`, of nothing.
    let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
    msg.msg_name = (&raw mut addr).cast();
    msg.msg_namelen = size_as_socklen::<libc::sockaddr_ll>();
    msg.msg_iov = &raw mut part;
    msg.msg_iovlen = 1;
    msg.msg_control = control.as_mut_ptr().cast();
    msg.msg_controllen = size_of_val(&control);
    // SAFETY: buffer, address and control are live and as long as `msg` says.
    let n = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut msg, libc::MSG_TRUNC) };
    match usize::try_from(n) {
        Ok(len) => {
            let outgoing = addr.sll_pkttype == libc::PACKET_OUTGOING;
            // SAFETY: just filled, and `control` is live.
            let tag = unsafe { vlan_tag(&msg) };
            Ok(Some(Received { len, outgoing, tag }))
        }
        Err(_) => match io::Error::last_os_error() {
            e if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(None)
            }
            e => Err(e),
        },
    }
}

/// The VLAN tag in the control message that `PACKET_AUXDATA` asked for.
///
/// # Safety
///
/// `recvmsg` has filled `msg`, and its control memory is live.
unsafe fn vlan_tag(msg: &libc::msghdr) -> Option<(u16, u16)> {
    const ETH_P_8021Q: u16 = 0x8100;
    let wanted = size_of::<libc::tpacket_auxdata>();
    // SAFETY: the control memory is live and as long as `msg` says.
    let header = unsafe { libc::CMSG_FIRSTHDR(msg) };
    // SAFETY: null, or a header inside of the control memory, which nothing changes.
    let header = unsafe { header.as_ref() }?;
    // SAFETY: computes a length only.
    let needed = unsafe { libc::CMSG_LEN(u32::try_from(wanted).ok()?) } as usize;
    let ours = header.cmsg_level == libc::SOL_PACKET && header.cmsg_type == libc::PACKET_AUXDATA;
    if !ours || header.cmsg_len < needed {
        return None;
    }
    // SAFETY: the data stands behind the header.
    let data = unsafe { libc::CMSG_DATA(header) }.cast::<libc::tpacket_auxdata>();
    // SAFETY: the message is long enough for the structure, as was just compared.
    let aux = unsafe { data.read_unaligned() };
    let has = |bit| aux.tp_status & bit != 0;
    let protocol =
        if has(libc::TP_STATUS_VLAN_TPID_VALID) { aux.tp_vlan_tpid } else { ETH_P_8021Q };
    has(libc::TP_STATUS_VLAN_VALID).then_some((protocol, aux.tp_vlan_tci))
}

/// Packets seen and dropped by a packet socket since the last call.
pub(crate) fn packet_statistics(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut size = size_as_socklen::<libc::tpacket_stats>();
    // SAFETY: the structure is live and as long as the call is told.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut size,
        )
    })?;
    Ok((stats.tp_packets, stats.tp_drops))
}
