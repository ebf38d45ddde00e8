//! `skep test-run`: one program on given bytes.

use std::{fmt, fs, io::Write, path::PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use skep::{Object, TestInput, verdict};

use super::{load::LoadArgs, run::EngineArgs};
use crate::{
    exit::{DONE, usage},
    output::{Format, Out},
    parse::{assignment, hex},
    show,
};

/// Run one program on given bytes, as BPF_PROG_TEST_RUN does.
///
/// Nothing is attached and no packet is sent.
#[derive(Debug, clap::Args)]
pub struct TestRun {
    /// ELF object built for the bpf target.
    #[arg(value_name = "OBJECT")]
    object: PathBuf,
    #[command(flatten)]
    engine: EngineArgs,
    /// The program; may be left out when the object has one.
    #[arg(long, value_name = "NAME")]
    prog: Option<String>,
    /// The packet: a file of raw bytes, or hex digits.
    #[arg(long, value_name = "FILE|HEX")]
    data_in: Option<String>,
    /// The context as user space lays it out: a file of raw bytes, or hex digits.
    #[arg(long, value_name = "FILE|HEX")]
    ctx_in: Option<String>,
    /// Run this many times and show the mean duration.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Set a global variable before the load; may be repeated.
    #[arg(long, value_name = "VAR=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Write the packet afterwards to this file.
    #[arg(long, value_name = "FILE")]
    data_out: Option<PathBuf>,
    #[command(flatten)]
    load: LoadArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What a run gave.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "test_run")]
struct Outcome {
    program: String,
    engine: &'static str,
    retval: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<String>,
    repeat: u32,
    duration_ns: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    data_out: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    ctx_out: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: returned {}", self.program, self.retval)?;
        self.verdict.iter().try_for_each(|v| write!(f, " ({v})"))?;
        if self.repeat > 1 {
            write!(f, ", {} ns a run over {} runs", self.duration_ns, self.repeat)?;
        }
        for (what, bytes) in [("data", &self.data_out), ("ctx", &self.ctx_out)] {
            if !bytes.is_empty() {
                write!(f, "\n{what}: {} bytes\n{}", bytes.len() / 2, lines(bytes))?;
            }
        }
        Ok(())
    }
}

/// Lines of bytes that the text shows.
const MOST_LINES: usize = 128;

/// Hex digits in lines of 16 bytes, and how many bytes there are more.
fn lines(digits: &str) -> String {
    let bytes: Vec<&str> =
        digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or("??")).collect();
    let line = |(i, row): (usize, &[&str])| format!("  {:04x}: {}", i * 16, row.join(" "));
    let mut lines: Vec<String> = bytes.chunks(16).enumerate().map(line).take(MOST_LINES).collect();
    if let Some(more) = bytes.len().checked_sub(MOST_LINES * 16).filter(|n| *n > 0) {
        lines.push(format!("  … {more} more (--json shows all)"));
    }
    lines.join("\n")
}

impl TestRun {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut object = Object::open(&self.object)?;
        self.engine.apply(&mut object)?;
        for (name, text) in &self.set {
            object.set_variable_text(name, text)?;
        }
        let name = self.program(&object)?;
        // What the program tail-calls must be loaded too; a selection keeps it.
        object.select(&[&name])?;
        let data = self.data_in.as_deref().map(bytes).transpose()?.unwrap_or_default();
        let ctx = self.ctx_in.as_deref().map(bytes).transpose()?.unwrap_or_default();
        let engine = self.engine.for_bytes()?;
        let loaded = self.load.load(object, &engine)?;
        self.engine.notify(&[&loaded]);
        let program = loaded.program(&name)?;
        let run = program.test_run(TestInput { data: &data, ctx: &ctx, repeat: self.repeat })?;
        if let Some(path) = &self.data_out {
            fs::write(path, &run.data)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let prog_type = program.prog_type();
        let named = verdict::takes_packets(prog_type);
        Out::new(out, Format::json_if(self.json)).emit(&Outcome {
            program: name,
            engine: engine.name(),
            retval: run.retval,
            verdict: named.then(|| verdict::name(prog_type, run.retval).into_owned()),
            repeat: self.repeat,
            duration_ns: run.duration_ns,
            data_out: show::hex(&run.data),
            ctx_out: show::hex(&run.ctx),
        })?;
        Ok(DONE)
    }

    /// The program that was named, or the only one that nothing tail-calls.
    fn program(&self, object: &Object) -> anyhow::Result<String> {
        if let Some(name) = &self.prog {
            return Ok(object.program(name)?.name.clone());
        }
        let called = object.tail_called();
        let programs = object.spec().programs.iter().enumerate();
        let entries: Vec<&str> = programs
            .filter(|(i, p)| p.autoload && !called.contains(i))
            .map(|(_, p)| p.name.as_str())
            .collect();
        match entries.as_slice() {
            [only] => Ok((*only).into()),
            [] => Err(usage("the object has no program to run; name one with --prog")),
            several => Err(usage(format!(
                "the object has several programs, choose one with --prog: {}",
                several.join(", ")
            ))),
        }
    }
}

/// The bytes of a file, or hex digits where there is no such file.
fn bytes(text: &str) -> anyhow::Result<Vec<u8>> {
    match fs::read(text) {
        Ok(bytes) => Ok(bytes),
        Err(file) => hex(text).map_err(|hex| {
            usage(format!("`{text}` is neither a file ({file}) nor hex digits ({hex})"))
        }),
    }
}
