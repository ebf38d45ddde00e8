//! Listeners that share a port.

use std::{
    io,
    net::{SocketAddrV4, TcpListener},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// A TCP listener on an address that others may have too (`SO_REUSEPORT`): together they are a
/// group. Port 0 lets the kernel choose.
///
/// # Errors
///
/// The kernel's.
pub fn reuseport_listener(address: SocketAddrV4) -> io::Result<TcpListener> {
    // SAFETY: takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so this descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let fd = socket.as_raw_fd();
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads 4 bytes of `on`, which is its size.
    checked(unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, (&raw const on).cast(), 4)
    })?;
    let name = libc::sockaddr_in {
        sin_family: libc::AF_INET.try_into().expect("address families are small"),
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: the kernel reads 16 bytes of `name`, which is its size.
    checked(unsafe { libc::bind(fd, (&raw const name).cast(), 16) })?;
    // SAFETY: takes numbers only.
    checked(unsafe { libc::listen(fd, 16) })?;
    Ok(socket.into())
}

fn checked(ret: libc::c_int) -> io::Result<()> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
