//! Development tasks: `cargo xtask TASK`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "these are command-line tools")]

mod pcap;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::bail;

const USAGE: &str = "\
cargo xtask TASK

  pcap [--check]    write examples/traffic.pcap, or compare it with what would be written";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> anyhow::Result<()> {
    let root = root();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["pcap"] => pcap::run(&root, false),
        ["pcap", "--check"] => pcap::run(&root, true),
        _ => bail!("usage: {USAGE}"),
    }
}

/// The root of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask is one level down").to_path_buf()
}
