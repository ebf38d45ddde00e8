//! Development tasks: `cargo xtask TASK`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "these are command-line tools")]

mod arrows;
mod bpf;
mod ci;
mod dist;
mod docs;
mod fuzz;
mod guest;
mod pcap;
mod support;
mod test;
mod tool;

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::bail;

const USAGE: &str = "\
cargo xtask TASK

  test [ARGUMENT…]   all tests (arguments go to cargo test), then skips and counts
  ci                 everything CI checks, in its order
  bpf [--check]      rebuild the committed BPF objects, or see that they are up to date
  pcap [--check]     write examples/traffic.pcap, or see that it is up to date
  dist               build the one static binary and see that it is static
  arrows             see that crates depend only on what the architecture allows
  guests [KERNEL…]   run the tests that need a kernel under other kernels, in QEMU
  support [host|KERNEL…]  run them here and there, and write down which hooks fired
  docs [--check]     write the generated parts of docs/kernel-support.md, or see that they are up to date
  fuzz SECONDS [TARGET…]  run the fuzz targets, each that long";

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
        ["test", rest @ ..] => test::run(&root, rest)?.ensure_success(),
        ["ci"] => ci::run(&root),
        ["bpf"] => bpf::build(&root),
        ["bpf", "--check"] => bpf::check(&root),
        ["pcap"] => pcap::run(&root, false),
        ["pcap", "--check"] => pcap::run(&root, true),
        ["dist"] => dist::run(&root),
        ["arrows"] => arrows::check(&root),
        ["docs"] => docs::run(&root, false),
        ["docs", "--check"] => docs::run(&root, true),
        ["support", kernels @ ..] => support::run(&root, kernels),
        ["guest" | "guests", kernels @ ..] => {
            let guests = guest::run(&root, kernels)?;
            for guest in &guests {
                println!("{guest}");
            }
            guest::ensure_success(&guests)
        }
        ["fuzz", seconds, names @ ..] => fuzz::run(&root, seconds, names),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("this task is not known\n\n{USAGE}"),
    }
}

/// The root of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("xtask is one level down").to_path_buf()
}
