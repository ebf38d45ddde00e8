//! Loading BTF.

use std::os::fd::OwnedFd;

use super::{SysError, addr, addr_mut, attr, bpf_fd, len32};

/// Loads a `.BTF` section; writes the kernel's log into `log` unless that is empty.
pub(crate) fn btf_load(btf: &[u8], log: &mut [u8]) -> Result<OwnedFd, SysError> {
    let mut attr = attr::BtfLoad(attr::BtfLoadAttr {
        btf: addr(btf),
        btf_size: len32(btf.len()),
        log_level: u32::from(!log.is_empty()),
        log_size: len32(log.len()),
        log_buf: addr_mut(log),
        ..Default::default()
    });
    // SAFETY: the kernel reads `btf_size` bytes of `btf` and writes at most `log_size` to `log`,
    // both borrowed past the call; the command returns a new descriptor.
    unsafe { bpf_fd(&mut attr) }
}
