//! Loading BTF; tokens.

use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use super::{SysError, addr, addr_mut, attr, bpf_fd, len32, raw};

/// A command's flag that says that there is a token; map, program and BTF flags share it.
pub(super) const BPF_F_TOKEN_FD: u32 = 1 << 16;

/// A token as attribute blocks carry it, with the flag that says so.
pub(super) fn token(token: Option<BorrowedFd<'_>>) -> (i32, u32) {
    token.map_or((0, 0), |fd| (fd.as_raw_fd(), BPF_F_TOKEN_FD))
}

/// Makes a token from the root directory of a bpffs.
pub(crate) fn token_create(bpffs: BorrowedFd<'_>) -> Result<OwnedFd, SysError> {
    let block = attr::TokenCreateAttr { flags: 0, bpffs_fd: raw(bpffs) };
    // SAFETY: takes numbers only; the command returns a new descriptor.
    unsafe { bpf_fd(&mut attr::TokenCreate(block)) }
}

/// Loads a `.BTF` section; writes the kernel's log into `log` unless that is empty.
pub(crate) fn btf_load(
    btf: &[u8],
    by: Option<BorrowedFd<'_>>,
    log: &mut [u8],
) -> Result<OwnedFd, SysError> {
    let (token_fd, btf_flags) = token(by);
    let mut attr = attr::BtfLoad(attr::BtfLoadAttr {
        btf: addr(btf),
        btf_size: len32(btf.len()),
        log_level: u32::from(!log.is_empty()),
        log_size: len32(log.len()),
        log_buf: addr_mut(log),
        btf_flags,
        token_fd,
        ..Default::default()
    });
    // SAFETY: the kernel reads `btf_size` bytes of `btf` and writes at most `log_size` to `log`,
    // both borrowed past the call; the command returns a new descriptor.
    unsafe { bpf_fd(&mut attr) }
}
