//! What is pinned where.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{Kind, pinned};
use crate::sys;

/// Nobody pins this much; ends walks through what others may be growing.
const MOST_ENTRIES: usize = 100_000;

/// Paths of all pinned objects in the bpf file systems that this process sees.
pub fn pins() -> BTreeMap<(Kind, u32), Vec<PathBuf>> {
    let mut found: BTreeMap<(Kind, u32), Vec<PathBuf>> = BTreeMap::new();
    let mounts = sys::read_text("/proc/mounts").unwrap_or_default();
    let mut rest: Vec<PathBuf> = mounts_of(&mounts, "bpf");
    let mut budget = MOST_ENTRIES;
    while let Some(directory) = rest.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let Some(left) = budget.checked_sub(1) else { return found };
            budget = left;
            match entry.file_type() {
                Ok(t) if t.is_dir() => rest.push(entry.path()),
                Ok(t) if t.is_file() => {
                    if let Ok(object) = pinned(&entry.path()) {
                        found.entry(object).or_default().push(entry.path());
                    }
                }
                _ => {}
            }
        }
    }
    for paths in found.values_mut() {
        paths.sort();
        paths.dedup();
    }
    found
}

/// Where file systems of a kind are mounted.
pub(super) fn mounts_of(mounts: &str, wanted: &str) -> Vec<PathBuf> {
    let place = |line: &str| {
        let mut words = line.split(' ').skip(1);
        let (place, kind) = (words.next()?, words.next()?);
        // Blanks in paths are written in octal.
        (kind == wanted).then(|| Path::new(&place.replace("\\040", " ")).to_path_buf())
    };
    mounts.lines().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bpf_mounts_are_walked() {
        let mounts =
            "bpf /sys/fs/bpf bpf rw 0 0\nx /a\\040b bpf rw 0 0\nproc /proc proc rw 0 0\nshort";
        let found = mounts_of(mounts, "bpf");
        assert_eq!(found, [Path::new("/sys/fs/bpf"), Path::new("/a b")]);
    }
}
