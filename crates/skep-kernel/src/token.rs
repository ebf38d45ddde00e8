//! BPF tokens: rights that a bpf file system delegates to a user namespace.
//!
//! Whoever may mount bpffs for a container says in its mount options which commands, map types,
//! program types and attach types programs inside may use; a token made from that mount carries
//! them (Linux 6.9).

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use crate::sys::{self, SysError};

/// The delegated rights of one mount of bpffs. What is made with it keeps no reference to it.
#[derive(Debug)]
pub struct Token {
    fd: OwnedFd,
}

impl Token {
    /// Makes a token from the root directory of a bpf file system.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` in the first user namespace, whose processes need no token; `ENOENT` when the
    /// mount delegates nothing; `EPERM` when it belongs to another user namespace, or `CAP_BPF` in
    /// this one is missing; `EINVAL` when it is no bpffs, or the kernel has no tokens.
    #[doc(alias = "BPF_TOKEN_CREATE")]
    pub fn create(bpffs: &Path) -> Result<Self, SysError> {
        let directory = File::open(bpffs).map_err(|e| SysError::new("open", e))?;
        sys::token_create(directory.as_fd()).map(|fd| Self { fd })
    }
}

impl AsFd for Token {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
