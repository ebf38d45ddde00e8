//! The `skep` command.
//!
//! One file per command under `cmd`. A command computes values and hands them to an [`output::Out`],
//! which writes them as text or as JSON; this file alone prints errors and picks exit codes.
#![forbid(unsafe_code)]
#![expect(unreachable_pub, reason = "a binary has no outside: `pub` marks what a module offers")]

#[macro_use]
mod clean;

mod btf_file;
mod cli;
mod cmd;
mod exit;
mod output;
mod parse;
mod show;
mod signal;
mod typename;

use std::{io::Write, process::ExitCode};

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        // clap knows its own streams and codes: help and version go to stdout with 0, misuse is 2.
        Err(e) => {
            return match e.print() {
                Ok(()) => ExitCode::from(if e.use_stderr() { exit::USAGE } else { exit::DONE }),
                Err(io) if io.kind() == std::io::ErrorKind::BrokenPipe => {
                    ExitCode::from(exit::DONE)
                }
                Err(_) => ExitCode::from(exit::INPUT),
            };
        }
    };
    let stdout = std::io::BufWriter::new(std::io::stdout().lock());
    let mut out: Box<dyn Write> = match &cli.command {
        // Instructions may be binary.
        cli::Command::Asm(_) => Box::new(stdout),
        _ => Box::new(clean::Clean::new(stdout)),
    };
    let result = cli.command.run(&mut *out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) if exit::is_broken_pipe(&e) => ExitCode::from(exit::DONE),
        Err(e) => {
            // What was already said belongs before the error; a failing flush changes nothing now.
            drop(out.flush());
            say!("error: {}", exit::message(&e));
            if let Some(hint) = exit::hint(&e) {
                say!("hint: {hint}");
            }
            ExitCode::from(exit::code(&e))
        }
    }
}
