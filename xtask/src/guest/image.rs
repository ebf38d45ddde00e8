//! The guest's file system: a cpio archive ("newc") that the kernel unpacks into memory.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::modules::Module;
use crate::{dist::ensure_static, tool};

/// Mounts what tests expect (nothing over `/tmp` and `/run`: it is all memory already, and the
/// repository may lie there), runs the script with its output on the second serial port, says
/// how it ended, and reboots, which ends QEMU.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin HOME=/root TERM=dumb RUST_BACKTRACE=1 SKEP_TEST_LOG=/tmp/test-log SKEP_GUEST=1
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t debugfs dbg /sys/kernel/debug
mount -t tracefs trc /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cg /sys/fs/cgroup
ip link set lo up
stty -F /dev/ttyS1 raw -echo
exec </dev/null >/dev/ttyS1 2>&1
for module in /modules/*.ko; do
  [ -e "$module" ] && ! insmod "$module" && echo "cannot insert $module"
done
failed=0
. /script
[ -e /tmp/test-log ] && sort -u /tmp/test-log
echo "guest done failed=$failed"
sleep 0.2
reboot -f
"#;

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_000;

/// A static busybox of this machine.
pub(super) fn busybox() -> Option<PathBuf> {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let is_static = |path: &PathBuf| fs::read(path).is_ok_and(|file| ensure_static(&file).is_ok());
    places.into_iter().find(is_static)
}

/// An archive under construction.
#[derive(Debug)]
pub(super) struct Image {
    archive: Vec<u8>,
    directories: BTreeSet<PathBuf>,
    inode: u32,
}

impl Image {
    pub(super) fn new(busybox: &Path) -> anyhow::Result<Self> {
        let mut image = Self { archive: Vec::new(), directories: BTreeSet::new(), inode: 1 };
        for directory in ["dev", "proc", "sys", "tmp", "run", "root", "bin", "modules"] {
            image.add_directory(&Path::new("/").join(directory));
        }
        image.add_file(busybox, Path::new("/bin/busybox"), 0o755)?;
        image.add(Path::new("/init"), FILE | 0o755, INIT.as_bytes());
        image.add(Path::new("/etc/passwd"), FILE | 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
        Ok(image)
    }

    /// Adds a directory with everything in it, at its own absolute path. Absent is fine.
    pub(super) fn add_tree(&mut self, directory: &Path) -> anyhow::Result<()> {
        if !directory.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                self.add_tree(&path)?;
            } else {
                self.add_file(&path, &path, 0o644)?;
            }
        }
        Ok(())
    }

    pub(super) fn add_file(&mut self, from: &Path, to: &Path, mode: u32) -> anyhow::Result<()> {
        let bytes = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.add(to, FILE | mode, &bytes);
        Ok(())
    }

    /// Adds a program of this machine as `/bin/NAME`, with the libraries it loads.
    pub(super) fn add_program(&mut self, path: &Path) -> anyhow::Result<()> {
        let name = path.file_name().context("a program has a name")?;
        self.add_file(path, &Path::new("/bin").join(name), 0o755)?;
        // A static program has no libraries, and `ldd` fails to say so.
        let Ok(libraries) = tool::output(Command::new("ldd").arg(path)) else { return Ok(()) };
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            self.add_file(Path::new(library), Path::new(library), 0o755)?;
        }
        Ok(())
    }

    pub(super) fn add_module(&mut self, index: usize, module: &Module) {
        let path = format!("/modules/{index:03}-{}.ko", module.name);
        self.add(Path::new(&path), FILE | 0o644, &module.bytes);
    }

    /// What the guest runs, as lines of shell that set `failed` when something failed.
    pub(super) fn set_script(&mut self, script: &str) {
        self.add(Path::new("/script"), FILE | 0o644, script.as_bytes());
    }

    /// The finished archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.archive
    }

    fn add(&mut self, path: &Path, mode: u32, content: &[u8]) {
        if let Some(parent) = path.parent() {
            self.add_directory(parent);
        }
        let name = path.to_string_lossy();
        self.entry(name.trim_start_matches('/'), mode, content);
    }

    fn add_directory(&mut self, path: &Path) {
        let parents: Vec<&Path> = path.ancestors().collect();
        for directory in parents.into_iter().rev().filter(|d| d.parent().is_some()) {
            if self.directories.insert(directory.to_path_buf()) {
                let name = directory.to_string_lossy();
                self.entry(name.trim_start_matches('/'), DIRECTORY, &[]);
            }
        }
    }

    /// One entry: a header of hexadecimal numbers, the name, the content, each padded to four.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        let size = u32::try_from(content.len()).expect("files of a guest are small");
        let name_size = u32::try_from(name.len() + 1).expect("names are short");
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.archive.extend(b"070701");
        for field in fields {
            self.archive.extend(format!("{field:08x}").bytes());
        }
        self.archive.extend(name.bytes());
        self.archive.push(0);
        self.pad();
        self.archive.extend(content);
        self.pad();
        self.inode += 1;
    }

    fn pad(&mut self) {
        self.archive.resize(self.archive.len().next_multiple_of(4), 0);
    }
}
