//! `skep prog run`: a loaded program on bytes of the caller's.

use std::{
    fmt, fs,
    io::{self, Read as _, Write},
};

use anyhow::Context as _;
use serde::Serialize;
use skep::kernel::{
    TestRunOptions,
    inspect::{self, Kind},
};

use crate::{
    cmd::manage::{
        rights, select,
        words::{Words, unexpected},
    },
    exit::{DONE, usage},
    output::{Out, Print},
    show::hex,
};

/// Run a loaded program on given bytes, as BPF_PROG_TEST_RUN does.
///
/// Nothing is attached and no packet is sent. `-` as a file is standard input or output; on standard
/// output bytes are hex digits.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// `PROG [data_in FILE] [data_out FILE [data_size_out N]] [ctx_in FILE] [ctx_out FILE
    /// [ctx_size_out N]] [repeat N]`, where PROG is `id N`, `name NAME`, `tag TAG` or `pinned PATH`.
    #[arg(value_name = "PROG data_in FILE …", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    print: Print,
}

/// Room for bytes afterwards, as bpftool has it.
const ROOM: usize = 32 << 10;

/// What a run gave; fields named as bpftool's.
#[derive(Debug, Serialize)]
struct Outcome {
    retval: u32,
    /// Mean of the runs, in nanoseconds.
    duration: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_out: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ctx_out: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { retval, duration, .. } = self;
        write!(f, "Return value: {retval}, duration (average): {duration}ns")?;
        for (what, bytes) in [("Data", &self.data_out), ("Context", &self.ctx_out)] {
            if let Some(bytes) = bytes {
                write!(f, "\n{what} output: {bytes}")?;
            }
        }
        Ok(())
    }
}

/// What goes in or comes out.
#[derive(Debug, Default)]
struct Bytes<'a> {
    from: Option<&'a str>,
    to: Option<&'a str>,
    room: Option<usize>,
}

impl Bytes<'_> {
    fn read(&self) -> anyhow::Result<Vec<u8>> {
        match self.from {
            None => Ok(Vec::new()),
            Some("-") => {
                let mut bytes = Vec::new();
                io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
                Ok(bytes)
            }
            Some(path) => fs::read(path).with_context(|| format!("cannot read {path}")),
        }
    }

    /// Bytes that are wanted afterwards.
    fn room(&self) -> usize {
        if self.to.is_some() { self.room.unwrap_or(ROOM) } else { 0 }
    }

    /// Writes what came out to its file; what goes to standard output comes back.
    fn write(&self, bytes: &[u8]) -> anyhow::Result<Option<String>> {
        match self.to {
            None => Ok(None),
            Some("-") => Ok(Some(hex(bytes))),
            Some(path) => {
                fs::write(path, bytes).with_context(|| format!("cannot write {path}"))?;
                Ok(None)
            }
        }
    }
}

const EXPECTED: &str = "data_in, data_out, data_size_out, ctx_in, ctx_out, ctx_size_out or repeat";

impl Run {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = Words(&self.words);
        let id = select::take_one(Kind::Program, &mut words.0)?;
        let (mut data, mut ctx, mut repeat) = (Bytes::default(), Bytes::default(), 0);
        while let Some(word) = words.next() {
            match word {
                "data_in" => data.from = Some(words.value(word)?),
                "data_out" => data.to = Some(words.value(word)?),
                "data_size_out" => data.room = Some(words.number(word)?),
                "ctx_in" => ctx.from = Some(words.value(word)?),
                "ctx_out" => ctx.to = Some(words.value(word)?),
                "ctx_size_out" => ctx.room = Some(words.number(word)?),
                "repeat" => repeat = words.number(word)?,
                other => return Err(unexpected(other, EXPECTED)),
            }
        }
        if data.from == Some("-") && ctx.from == Some("-") {
            return Err(usage("standard input cannot be both data_in and ctx_in"));
        }
        if data.room().max(ctx.room()) > 1 << 26 {
            return Err(usage("no program gives more than 64 MiB"));
        }
        let (data_in, ctx_in) = (data.read()?, ctx.read()?);
        let program = rights("opening a program", inspect::open_program(id))?;
        let program = program.ok_or_else(|| select::gone(Kind::Program, id))?;
        let ran = program.test_run(&TestRunOptions {
            data: &data_in,
            ctx: &ctx_in,
            data_out_capacity: data.room(),
            ctx_out_capacity: ctx.room(),
            repeat,
            ..TestRunOptions::default()
        });
        let ran = rights("running a program", ran)?;
        let outcome = Outcome {
            retval: ran.retval,
            duration: ran.duration_ns,
            data_out: data.write(&ran.data_out)?,
            ctx_out: ctx.write(&ran.ctx_out)?,
        };
        Out::new(out, self.print.format()).emit(&outcome)?;
        Ok(DONE)
    }
}
