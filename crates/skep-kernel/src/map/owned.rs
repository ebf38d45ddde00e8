//! Values that belong to something: a socket, an inode, a task, a cgroup.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use skep_abi::UpdateMode;

use super::Map;
use crate::error::MapError;

impl Map {
    /// What a storage map keeps beside `owner`: a socket, a file (for its inode), a pidfd (for its
    /// task) or the directory of a cgroup, as the map's type says. `None` when it has nothing.
    ///
    /// # Errors
    ///
    /// `EINVAL` or `EBADF` when the descriptor is of another kind.
    #[doc(alias = "BPF_MAP_TYPE_SK_STORAGE")]
    #[doc(alias = "BPF_MAP_TYPE_INODE_STORAGE")]
    #[doc(alias = "BPF_MAP_TYPE_TASK_STORAGE")]
    #[doc(alias = "BPF_MAP_TYPE_CGRP_STORAGE")]
    pub fn storage(&self, owner: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, MapError> {
        self.lookup_vec(&key(owner))
    }

    /// Stores what a storage map keeps beside `owner`.
    ///
    /// # Errors
    ///
    /// As for [`Map::storage`]; `EEXIST`, `ENOENT` by `mode`.
    pub fn set_storage(
        &self,
        owner: BorrowedFd<'_>,
        value: &[u8],
        mode: UpdateMode,
    ) -> Result<(), MapError> {
        self.update(&key(owner), value, mode)
    }

    /// Removes what a storage map keeps beside `owner`.
    ///
    /// # Errors
    ///
    /// As for [`Map::storage`]; `ENOENT` when it has nothing.
    pub fn delete_storage(&self, owner: BorrowedFd<'_>) -> Result<(), MapError> {
        self.delete(&key(owner))
    }
}

fn key(owner: BorrowedFd<'_>) -> [u8; 4] {
    owner.as_raw_fd().to_ne_bytes()
}
