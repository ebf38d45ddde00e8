//! Coverage-guided fuzzing on a stable toolchain: libFuzzer, with the instrumentation asked for
//! by compiler flags instead of by a nightly option.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, ensure};

use crate::tool;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// LLVM's own names for what `cargo fuzz` turns on: counters per edge, a table of places, and
/// the operands of comparisons. One codegen unit, as the pass numbers edges per unit.
const FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];
/// Files of the repository that a target begins with: its name's beginning, directory, ending.
const SEEDS: &[(&str, &str, &str)] = &[
    ("object", "examples", ".bpf.o"),
    ("object", "tests/data/objects", ".bpf.o"),
    ("vm_pcap", "examples", ".pcap"),
    ("btf", "tests/data/btf", ".btf"),
    ("btf_ext", "tests/data/btf", ".bin"),
    ("isa_assemble", "tests/data/isa", ""),
];
/// What libFuzzer holds against a target: one input may not take longer, nor all more memory.
const LIMITS: &[&str] = &["-timeout=10", "-rss_limit_mb=2048", "-max_len=65536"];

/// Builds the targets and runs those named, all when none is, each for `seconds`.
pub(crate) fn run(root: &Path, seconds: &str, names: &[&str]) -> anyhow::Result<()> {
    let directory = root.join("fuzz");
    let mut cargo = tool::cargo();
    cargo
        .current_dir(&directory)
        .args(["build", "--release", "--target", TARGET])
        .env("RUSTFLAGS", FLAGS.join(" "));
    tool::run(&mut cargo)?;

    let all = targets(&directory)?;
    let names: Vec<&str> =
        if names.is_empty() { all.iter().map(String::as_str).collect() } else { names.to_vec() };
    let mut findings = Vec::new();
    for name in names {
        ensure!(all.iter().any(|known| known == name), "no target {name}; there are {all:?}");
        let corpus = directory.join("corpus").join(name);
        let artifacts = directory.join("artifacts").join(name);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        plant(root, name, &corpus)?;
        let binary = directory.join("target").join(TARGET).join("release").join(name);
        let mut fuzzer = Command::new(binary);
        fuzzer
            .args(LIMITS)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(&corpus);
        if let Err(error) = tool::run(&mut fuzzer) {
            findings.push(format!("{name}: {error:#}"));
        }
    }
    ensure!(findings.is_empty(), "findings:\n  {}", findings.join("\n  "));
    Ok(())
}

/// Copies the seeds of a target into its corpus.
fn plant(root: &Path, target: &str, corpus: &Path) -> anyhow::Result<()> {
    for (prefix, directory, suffix) in SEEDS {
        if !target.starts_with(prefix) {
            continue;
        }
        let Ok(files) = fs::read_dir(root.join(directory)) else { continue };
        for file in files {
            let file = file?;
            let name = file.file_name();
            if file.file_type()?.is_file() && name.to_string_lossy().ends_with(suffix) {
                fs::copy(file.path(), corpus.join(name))?;
            }
        }
    }
    Ok(())
}

/// The targets, which are the files of `fuzz_targets`.
fn targets(directory: &Path) -> anyhow::Result<Vec<String>> {
    let files = fs::read_dir(directory.join("fuzz_targets")).context("no fuzz targets")?;
    let mut names = Vec::new();
    for file in files {
        let path = file?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
