//! Kernel modules that the tests need, in the order in which they can be inserted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::kernel::decompress;

/// What the tests need: interfaces and filters, functions that programs call; built in where it is
/// not a module.
const WANTED: &[&str] = &[
    "veth",
    "vxlan",
    "sch_ingress",
    "cls_bpf",
    "cls_matchall",
    "act_bpf",
    "nf_defrag_ipv4",
    "nf_defrag_ipv6",
    "nf_conntrack",
    "nf_nat",
];

/// A module's bytes, decompressed.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// The wanted modules and what they depend on, dependencies first. What the package does not
/// have as a module is taken to be built in.
pub(super) fn in_order(home: &Path) -> anyhow::Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    find(&home.join("tree"), &mut files)?;
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for name in WANTED {
        take(name, &files, &mut seen, &mut order)?;
    }
    Ok(order)
}

fn take(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    seen: &mut BTreeSet<String>,
    order: &mut Vec<Module>,
) -> anyhow::Result<()> {
    let Some(path) = files.get(name) else { return Ok(()) };
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let mut bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if path.extension().is_some_and(|extension| extension == "xz") {
        bytes = decompress("xz", &bytes)?;
    }
    for other in dependencies(&bytes) {
        take(&other, files, seen, order)?;
    }
    order.push(Module { name: name.to_owned(), bytes });
    Ok(())
}

/// The `depends=` string of the module's `.modinfo` section, split at its commas.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let rest = module.get(at + KEY.len()..).unwrap_or_default();
    let value = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(underscored).collect()
}

/// Names use `-` in files and `_` in the kernel.
fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

fn find(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            find(&path, files)?;
        } else if let Some((stem, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(underscored(stem), path);
        }
    }
    Ok(())
}
