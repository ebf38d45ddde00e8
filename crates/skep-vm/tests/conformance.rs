//! The vectors of the public conformance suite and skep's own, one test per file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use skep_abi::ProgType;
use skep_isa::conformance::{Case, Expect};
use skep_vm::context::{Context, Plain};
use skep_vm::{Program, Settings};

/// Files of the public suite.
const SUITE: usize = 313;
/// What the vectors may need that a bare program on the interpreter does not have.
const NOT_HERE: &[&str] = &["map", "kernel-variable", "loop"];

fn run(path: &Path) -> Result<(), Failed> {
    let case = Case::parse(&fs::read_to_string(path)?)?;
    // The suite's helper 5 returns its first argument.
    let host_helpers = BTreeMap::from([(5, (|[first, ..]: [u64; 5]| first) as fn(_) -> _)]);
    let settings = Arc::new(Settings { host_helpers, ..Settings::default() });
    let outcome = Program::from_slots("case", ProgType::UNSPEC, &case.program, &settings)
        .map_err(|e| e.to_string())
        .and_then(|program| {
            let memory = case.memory.as_deref().unwrap_or_default();
            let mut ctx = Context::from(Plain::memory(memory));
            program.run(&mut ctx).map(|o| o.retval).map_err(|e| e.to_string())
        });
    match (&case.expect, outcome) {
        (Expect::Result(want), Ok(found)) if found == *want => Ok(()),
        (Expect::Error(_), Err(_)) => Ok(()),
        (want, found) => Err(format!("{found:x?}, expected {want:x?}").into()),
    }
}

fn needs_more(path: &Path) -> bool {
    let case = fs::read_to_string(path).ok().and_then(|text| Case::parse(&text).ok());
    case.is_some_and(|case| case.needs.iter().any(|word| NOT_HERE.contains(&word.as_str())))
}

fn data_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("the directory can be listed")
        .map(|entry| entry.expect("the directory can be listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == "data"))
        .collect();
    files.sort();
    files
}

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let own = skep_testing::repository().join("tests/data/isa");
    let mut files = if own.is_dir() { data_files(&own) } else { Vec::new() };
    files.retain(|path| !needs_more(path));
    if let Some(dir) = skep_testing::shared("conformance", "data/bpf_conformance") {
        let suite = data_files(&dir);
        assert_eq!(suite.len(), SUITE, "the suite is complete");
        files.extend(suite);
    }
    let trials = files
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Trial::test(name, move || run(&path))
        })
        .collect();
    libtest_mimic::run(&args, trials).exit_code()
}
