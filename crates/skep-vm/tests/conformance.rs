//! The vectors of the public conformance suite, one test per file.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use skep_abi::ProgType;
use skep_isa::{Slot, asm};
use skep_vm::context::{Context, Plain};
use skep_vm::{Program, Settings};

/// A file of the suite, its sections without comments.
#[derive(Debug, Default)]
struct Case {
    asm: String,
    raw: Vec<u64>,
    mem: Vec<u8>,
    result: u64,
}

fn number(text: &str) -> Result<u64, Failed> {
    let text = text.trim();
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse::<u64>().or_else(|_| text.parse::<i64>().map(i64::cast_unsigned)),
    };
    parsed.map_err(|e| format!("{text}: {e}").into())
}

fn parse(text: &str) -> Result<Case, Failed> {
    let mut case = Case::default();
    let mut section = "";
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim_end();
        if line.contains("--") {
            section = ["asm", "raw", "mem", "result", "no register offset", "c"]
                .into_iter()
                .find(|name| line.contains(name))
                .ok_or_else(|| format!("unknown section {line}"))?;
            continue;
        }
        if line.trim().is_empty() {
            continue;
        }
        match section {
            "asm" => {
                case.asm.push_str(line);
                case.asm.push('\n');
            }
            "raw" => case.raw.push(number(line)?),
            "mem" => {
                for byte in line.split_whitespace() {
                    case.mem.push(u8::from_str_radix(byte, 16)?);
                }
            }
            "result" => case.result = number(line)?,
            _ => {}
        }
    }
    Ok(case)
}

fn run(path: &Path) -> Result<(), Failed> {
    let case = parse(&fs::read_to_string(path)?)?;
    let slots = if case.raw.is_empty() {
        asm::assemble(&case.asm)?
    } else {
        case.raw.iter().map(|w| Slot::from_le_bytes(w.to_le_bytes())).collect()
    };
    // The suite's helper 5 returns its first argument.
    let host_helpers = BTreeMap::from([(5, (|[first, ..]: [u64; 5]| first) as fn(_) -> _)]);
    let settings = Arc::new(Settings { host_helpers, ..Settings::default() });
    let program = Program::from_slots("case", ProgType::UNSPEC, &slots, &settings)?;
    let mut ctx = Context::from(Plain::memory(&case.mem));
    let found = program.run(&mut ctx)?.retval;
    if found == case.result {
        Ok(())
    } else {
        Err(format!("r0 is {found:#x}, expected {:#x}", case.result).into())
    }
}

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let Some(dir) = skep_testing::shared("conformance", "data/bpf_conformance") else {
        return ExitCode::SUCCESS;
    };
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("the directory can be listed")
        .map(|entry| entry.expect("the directory can be listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == "data"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 313, "the suite is complete");
    let trials = files
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Trial::test(name, move || run(&path))
        })
        .collect();
    libtest_mimic::run(&args, trials).exit_code()
}
