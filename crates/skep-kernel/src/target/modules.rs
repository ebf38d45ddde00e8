//! Types of the loaded kernel modules, each split on the kernel's own.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use skep_btf::Btf;

use crate::sys::{self, ObjectKind};

/// The types of one loaded module, and the descriptor by which programs refer to them.
#[derive(Debug)]
pub(crate) struct ModuleBtf {
    /// The module.
    pub(crate) name: String,
    /// Its types; numbers below [`Btf::first_id`] are the kernel's.
    pub(crate) btf: Btf,
    fd: OwnedFd,
}

impl AsFd for ModuleBtf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Most BTF objects that are looked at: programs have theirs too.
const MOST_OBJECTS: usize = 1 << 16;

/// The BTF of the loaded modules, as the kernel lists it. Empty without `CAP_SYS_ADMIN`, and on
/// kernels before 5.11, whose modules have none; what is unloaded meanwhile is left out.
pub(crate) fn modules(kernel: &Btf) -> Vec<ModuleBtf> {
    let next = |id: &u32| sys::next_id(ObjectKind::Btf, *id).ok().flatten();
    let ids = std::iter::successors(next(&0), next).take(MOST_OBJECTS);
    ids.filter_map(|id| module(id, kernel)).collect()
}

fn module(id: u32, kernel: &Btf) -> Option<ModuleBtf> {
    let fd = sys::open_id(ObjectKind::Btf, id).ok()?;
    let known = sys::btf_bytes(fd.as_fd(), false).ok()?;
    if !known.kernel || known.name == "vmlinux" {
        return None;
    }
    let whole = sys::btf_bytes(fd.as_fd(), true).ok()?;
    let btf = Btf::parse_split(&whole.bytes, kernel).ok()?;
    Some(ModuleBtf { name: whole.name, btf, fd })
}

/// As [`modules`], the types alone: what sysfs shows needs no rights.
pub(crate) fn module_types(kernel: &Btf) -> Vec<Btf> {
    let listed = modules(kernel);
    if !listed.is_empty() {
        return listed.into_iter().map(|module| module.btf).collect();
    }
    let Ok(entries) = fs::read_dir("/sys/kernel/btf") else { return Vec::new() };
    let files = entries.flatten().filter(|entry| entry.file_name() != "vmlinux");
    files
        .filter_map(|entry| Btf::parse_split(&sys::read_file(entry.path()).ok()?, kernel).ok())
        .collect()
}
