//! `skep plugin`: the protocol of the bpf_conformance runner.
//!
//! Bytecode comes as one line of hex on stdin, memory as an argument; `r0` goes to stdout in hex.

use std::io::{BufRead as _, Write};

use anyhow::Context as _;

use crate::{
    exit::DONE,
    parse::{Hex, hex, hex_arg},
};

/// Run raw bytecode for the conformance suite: hex on stdin, r0 in hex on stdout.
#[derive(Debug, clap::Args)]
pub struct Plugin {
    /// Run in the interpreter; the default, and the only way so far.
    #[arg(long)]
    interpret: bool,
    /// Input memory as hex bytes; r1 points to it and r2 is its length.
    #[arg(value_name = "MEMHEX", value_parser = hex_arg)]
    memory: Option<Hex>,
}

impl Plugin {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        // The interpreter is the only way to run, so the flag changes nothing.
        let Self { interpret: _, memory } = self;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).context("cannot read bytecode from stdin")?;
        let code = hex(&line).map_err(|e| anyhow::anyhow!("bytecode: {e}"))?;
        let slots = skep::isa::slots_from_bytes(&code)?;
        let memory = memory.map_or(Vec::new(), |m| m.0);
        let r0 = skep::bare::run(&slots, &memory, [(UNWIND, first as skep::bare::Helper)])?;
        writeln!(out, "{r0:x}")?;
        Ok(DONE)
    }
}

/// The helper that the suite expects to exist; it hands back its first argument.
const UNWIND: i32 = 5;

fn first([first, ..]: [u64; 5]) -> u64 {
    first
}
