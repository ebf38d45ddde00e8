//! BTF from files: raw, an ELF file's `.BTF`, or the running kernel's.

use std::{fs, path::Path};

use anyhow::Context as _;
use skep::{Object, btf::Btf};

/// Where the running kernel shows its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Reads the BTF of a file; `vmlinux` is the running kernel.
pub fn read(path: &Path) -> anyhow::Result<Btf> {
    let path =
        if path.as_os_str() == "vmlinux" && !path.exists() { VMLINUX.as_ref() } else { path };
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.starts_with(b"\x7fELF") {
        let object = Object::parse(&path.display().to_string(), &bytes)?;
        return object.into_spec().btf.with_context(|| format!("{} has no .BTF", path.display()));
    }
    Btf::parse_owned(bytes).with_context(|| format!("{} is no BTF", path.display()))
}
