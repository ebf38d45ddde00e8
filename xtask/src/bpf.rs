//! The committed BPF objects: every `X.bpf.c` in the repository has its `X.bpf.o` beside it.
//!
//! Whoever has the recorded compiler rebuilds and compares bytes. For everybody else a manifest
//! holds a hash of source and flags and one of the object: enough to notice that somebody
//! changed a source and forgot the object, which is all it is for.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};

use crate::tool;

const CLANG: &str = "clang-19";
const STRIP: &str = "llvm-strip-19";
/// What every source is compiled with. `-ffile-compilation-dir` keeps this machine's paths out.
const FLAGS: &[&str] = &[
    "-target",
    "bpf",
    "-mcpu=v3",
    "-O2",
    "-g",
    "-Wall",
    "-Werror",
    "-ffile-compilation-dir=.",
    "-I.",
    "-idirafter",
    "/usr/include/x86_64-linux-gnu",
];
/// A line of a source that starts like this adds flags of its own.
const OWN_FLAGS: &str = "// build: ";
const MANIFEST: &str = "xtask/objects.txt";
/// Directories that hold no sources of ours.
const NOT_OURS: &[&str] = &["target", ".git", "node_modules"];

/// Rebuilds all objects and the manifest.
pub(crate) fn build(root: &Path) -> anyhow::Result<()> {
    let version = clang_version().with_context(|| format!("{CLANG} is needed to build objects"))?;
    let mut manifest = format!(
        "# Made by `cargo xtask bpf`: source, hash of source and flags, hash of object.\n\
         compiler {version}\n"
    );
    for source in sources(root)? {
        let object = source.with_extension("o");
        compile(root, &source, &root.join(&object))?;
        writeln!(manifest, "{}", row(root, &source)?)?;
        println!("{}", object.display());
    }
    fs::write(root.join(MANIFEST), manifest).with_context(|| format!("cannot write {MANIFEST}"))
}

/// Compares the committed objects with what the sources give.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let manifest = fs::read_to_string(root.join(MANIFEST))
        .with_context(|| format!("cannot read {MANIFEST}"))?;
    let rows: Vec<&str> = manifest.lines().filter(|line| !line.starts_with('#')).collect();
    let (compiler, rows) = rows.split_first().context("the manifest is empty")?;
    let compiler = compiler.strip_prefix("compiler ").context("the manifest names no compiler")?;
    let sources = sources(root)?;

    let mut stale = Vec::new();
    for source in &sources {
        let row = row(root, source)?;
        if !rows.contains(&row.as_str()) {
            stale.push(format!("{}: source and object do not belong together", source.display()));
        }
    }
    if rows.len() != sources.len() {
        stale.push(format!("{} rows for {} sources", rows.len(), sources.len()));
    }

    match clang_version() {
        Ok(version) if version == compiler => {
            let scratch = root.join("target/xtask-bpf");
            fs::create_dir_all(&scratch)?;
            for source in &sources {
                let fresh = scratch.join("fresh.bpf.o");
                compile(root, source, &fresh)?;
                if fs::read(&fresh)? != fs::read(root.join(source.with_extension("o")))? {
                    stale.push(format!("{}: a rebuild gives other bytes", source.display()));
                }
            }
            println!("{} objects rebuilt with clang {version}", sources.len());
        }
        Ok(version) => println!("hashes only: clang is {version}, the objects' is {compiler}"),
        Err(_) => println!("hashes only: {CLANG} is not installed"),
    }
    ensure!(stale.is_empty(), "run `cargo xtask bpf`:\n  {}", stale.join("\n  "));
    Ok(())
}

fn row(root: &Path, source: &Path) -> anyhow::Result<String> {
    let text = read(root, source)?;
    let object = read(root, &source.with_extension("o"))?;
    let flags = FLAGS.join(" ");
    let source_hash = fnv(flags.bytes().chain(text));
    Ok(format!("{} {source_hash:016x} {:016x}", source.display(), fnv(object.into_iter())))
}

fn read(root: &Path, path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(root.join(path)).with_context(|| format!("cannot read {}", path.display()))
}

/// FNV-1a: short, and nobody attacks a list of our own files.
fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Compiles in the source's own directory, so that only relative names end up in the object.
fn compile(root: &Path, source: &Path, object: &Path) -> anyhow::Result<()> {
    let full = root.join(source);
    let text = fs::read_to_string(&full)?;
    let own = text.lines().filter_map(|line| line.strip_prefix(OWN_FLAGS));
    let own: Vec<&str> = own.flat_map(str::split_whitespace).collect();
    let directory = full.parent().context("a source lies in a directory")?;
    let name = full.file_name().context("a source has a name")?;

    let mut clang = Command::new(CLANG);
    clang.current_dir(directory).args(FLAGS).args(own).arg("-c").arg(name).arg("-o").arg(object);
    tool::run(&mut clang)?;
    tool::run(Command::new(STRIP).arg("-g").arg(object))
}

fn clang_version() -> anyhow::Result<String> {
    let text = tool::output(Command::new(CLANG).arg("--version"))?;
    let rest = text.split("clang version ").nth(1).context("clang does not say its version")?;
    match rest.split([' ', '\n', '-']).next() {
        Some(version) if !version.is_empty() => Ok(version.to_owned()),
        _ => bail!("clang does not say its version"),
    }
}

/// All sources, relative to the root and sorted.
fn sources(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let path = directory.join(name);
            let kind = entry.file_type()?;
            if kind.is_dir() && !NOT_OURS.contains(&name) {
                directories.push(path);
            } else if kind.is_file() && name.ends_with(".bpf.c") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_is_the_published_function() {
        assert_eq!(fnv(b"".iter().copied()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv(b"a".iter().copied()), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn every_source_has_its_row_and_object() {
        let root = skep_testing::repository();
        let manifest = fs::read_to_string(root.join(MANIFEST)).expect("a manifest");
        for source in sources(&root).expect("readable directories") {
            let row = row(&root, &source).expect("source and object");
            assert!(manifest.lines().any(|line| line == row), "run `cargo xtask bpf`: {row}");
        }
    }
}
