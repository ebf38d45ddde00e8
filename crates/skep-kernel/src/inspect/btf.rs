//! BTF objects by id.

use std::os::fd::AsFd as _;

use skep_btf::Btf;

use super::{Kind, open};
use crate::{
    error::TargetError,
    sys::{self, SysError},
    target,
};

/// What the kernel tells of a BTF object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BtfInfo {
    /// Id, unique among BTF objects.
    pub id: u32,
    /// `vmlinux`, the name of a module, or empty.
    pub name: String,
    /// Does it describe the kernel or a module?
    pub kernel: bool,
    /// Bytes.
    pub size: u32,
}

/// A BTF object by its id; none when it is gone.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn btf(id: u32) -> Result<Option<BtfInfo>, SysError> {
    let Some(fd) = open(Kind::Btf, id)? else { return Ok(None) };
    let raw = sys::btf_bytes(fd.as_fd(), false)?;
    Ok(Some(BtfInfo { id: raw.id, name: raw.name, kernel: raw.kernel, size: raw.size }))
}

/// The types of a BTF object; none when it is gone, or cannot be read.
///
/// # Errors
///
/// When the kernel's own types, on which a module's build, cannot be read.
pub fn types(id: u32) -> Result<Option<Btf>, TargetError> {
    let Ok(Some(fd)) = open(Kind::Btf, id) else { return Ok(None) };
    let Ok(raw) = sys::btf_bytes(fd.as_fd(), true) else { return Ok(None) };
    if raw.kernel && raw.name != "vmlinux" {
        let base = target::vmlinux_btf()?;
        return Ok(Btf::parse_split(&raw.bytes, &base).ok());
    }
    Ok(Btf::parse_owned(raw.bytes).ok())
}
