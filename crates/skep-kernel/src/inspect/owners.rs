//! Which process holds what.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{Kind, field};

/// A process that holds an object by a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Process id.
    pub pid: u32,
    /// Its name, as in `/proc/PID/comm`.
    pub comm: String,
}

/// Holders of all objects, by descriptor. Processes of others cannot be looked into without
/// rights; they are left out.
///
/// A program that a perf event, a socket or a hook holds has no descriptor of its own, and may
/// have no owner here.
pub fn owners() -> BTreeMap<(Kind, u32), Vec<Owner>> {
    let mut found: BTreeMap<(Kind, u32), Vec<Owner>> = BTreeMap::new();
    for (pid, process) in processes().into_iter().flatten() {
        let mut held = of_process(&process);
        held.sort_unstable();
        held.dedup();
        if held.is_empty() {
            continue;
        }
        let comm = fs::read_to_string(process.join("comm")).unwrap_or_default();
        for object in held {
            let owner = Owner { pid, comm: comm.trim_end().to_owned() };
            found.entry(object).or_default().push(owner);
        }
    }
    for holders in found.values_mut() {
        holders.sort_by_key(|o| o.pid);
    }
    found
}

/// All processes and their directories.
pub(crate) fn processes() -> io::Result<impl Iterator<Item = (u32, PathBuf)>> {
    let entries = fs::read_dir("/proc")?.flatten();
    Ok(entries.filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path()))))
}

fn of_process(process: &Path) -> Vec<(Kind, u32)> {
    let Ok(fds) = fs::read_dir(process.join("fd")) else { return Vec::new() };
    let object = |fd: fs::DirEntry| {
        let kind = Kind::of_link(&fs::read_link(fd.path()).ok()?)?;
        let text = fs::read_to_string(process.join("fdinfo").join(fd.file_name())).ok()?;
        Some((kind, field(&text, kind.in_proc().1)?.parse().ok()?))
    };
    fds.flatten().filter_map(object).collect()
}
