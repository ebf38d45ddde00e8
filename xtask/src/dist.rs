//! The one static binary.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, bail, ensure};
use object::{
    LittleEndian, elf,
    read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _},
};

use crate::tool;

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PATH: &str = "target/x86_64-unknown-linux-gnu/dist/skep";

/// Builds it, reads its headers to see that it needs nothing, and starts it once.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut cargo = tool::cargo();
    // Without an explicit target the flag would also reach build scripts and proc macros.
    cargo
        .current_dir(root)
        .args(["build", "--package", "skep-cli", "--profile", "dist", "--target", TARGET])
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    tool::run(&mut cargo)?;

    let binary = fs::read(root.join(PATH)).with_context(|| format!("cannot read {PATH}"))?;
    ensure_static(&binary).with_context(|| format!("{PATH} is not static"))?;
    let version = tool::output(Command::new(root.join(PATH)).arg("--version"))?;
    println!("{PATH}: static, {} bytes, {}", binary.len(), version.trim());
    Ok(())
}

/// A static binary names no interpreter and needs no library. It may still be position
/// independent, and then has a dynamic section.
pub(crate) fn ensure_static(binary: &[u8]) -> anyhow::Result<()> {
    let header = elf::FileHeader64::<LittleEndian>::parse(binary)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, binary)? {
        ensure!(segment.p_type(endian) != elf::PT_INTERP, "it names a program interpreter");
        let Some(entries) = segment.dynamic(endian, binary)? else { continue };
        for entry in entries {
            if entry.tag(endian) == elf::DT_NEEDED {
                bail!("it needs a shared library");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_binary_is_not_static_unless_built_so() {
        let me = fs::read(std::env::current_exe().expect("a test has a path")).expect("readable");
        assert_eq!(ensure_static(&me).is_ok(), cfg!(target_feature = "crt-static"));
    }
}
