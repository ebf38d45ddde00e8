//! BTF from files: raw, an ELF file's `.BTF`, the running kernel's, or a directory of many kernels'.

use std::path::Path;

use skep::{btf::Btf, kernel::target};

/// Reads the BTF of a file, or of the running kernel's file in a directory; `vmlinux` is the running
/// kernel.
pub fn read(path: &Path) -> anyhow::Result<Btf> {
    if path.as_os_str() == "vmlinux" && !path.exists() {
        return Ok(target::vmlinux_btf()?);
    }
    Ok(target::types_from(path)?)
}
