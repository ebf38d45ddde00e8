//! `skep prog tracelog`: what programs print.

use std::{fmt, io::Write, time::Duration};

use serde::Serialize;
use skep::kernel::inspect::{self, Kind, Stream, TracePipe};

use crate::{
    cmd::manage::{Until, rights, select},
    exit::{DONE, usage},
    output::{Out, Print},
};

/// Print what programs print: the kernel's trace, or a stream of one program.
///
/// The trace is what `bpf_printk` writes to, with the lines of everybody else; each line goes to one
/// reader only. Streams (`bpf_stream_printk`, Linux 6.17) are a program's own, and the kernel reports
/// faults in `stderr`; what is there is printed, and the command ends.
#[derive(Debug, clap::Args)]
pub struct Tracelog {
    /// `stdout PROG` or `stderr PROG`, where PROG is `id N`, `name NAME`, `tag TAG` or `pinned PATH`;
    /// the trace without.
    #[arg(value_name = "STREAM PROG")]
    words: Vec<String>,
    #[command(flatten)]
    until: Until,
    #[command(flatten)]
    print: Print,
}

/// A line.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "printk")]
struct Line<'a> {
    text: &'a str,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// How long a wait is, before signals and the time are looked at.
const WAIT: Duration = Duration::from_millis(200);

/// A line that is longer is printed in parts.
const LONGEST: usize = 1 << 16;

/// Bytes become lines; what has no end yet waits.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn push(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            each(String::from_utf8_lossy(&line).trim_end_matches('\n'))?;
        }
        if self.rest.len() >= LONGEST { self.finish(each) } else { Ok(()) }
    }

    fn finish(&mut self, mut each: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() { Ok(()) } else { each(&String::from_utf8_lossy(&rest)) }
    }
}

impl Tracelog {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut out = Out::new(out, self.print.format());
        match self.words.split_first() {
            None => self.trace(&mut out),
            Some((word, rest)) => {
                let stream = match word.as_str() {
                    "stdout" => Stream::Stdout,
                    "stderr" => Stream::Stderr,
                    other => {
                        return Err(usage(format!(
                            "unexpected `{other}`: expected stdout or stderr"
                        )));
                    }
                };
                let mut rest = rest;
                let id = select::take_one(Kind::Program, &mut rest)?;
                select::done(rest)?;
                stream_of(id, stream, &mut out)
            }
        }
    }

    /// Ctrl-C is how this is meant to be ended.
    fn trace(&self, out: &mut Out<'_>) -> anyhow::Result<u8> {
        let mut watch = self.until.watch()?;
        let mut pipe = rights("reading the kernel's trace", TracePipe::open())?;
        let (mut lines, mut buffer) = (Lines::default(), vec![0; 1 << 14]);
        while watch.goes_on() {
            let read =
                rights("reading the kernel's trace", pipe.read(&mut buffer, watch.wait(WAIT)))?;
            let new = buffer.get(..read).unwrap_or_default();
            lines.push(new, |text| {
                if watch.goes_on() {
                    out.emit(&Line { text })?;
                    watch.line();
                }
                Ok(())
            })?;
            out.flush()?;
        }
        Ok(DONE)
    }
}

fn stream_of(id: u32, stream: Stream, out: &mut Out<'_>) -> anyhow::Result<u8> {
    let (mut lines, mut buffer) = (Lines::default(), vec![0; 1 << 14]);
    loop {
        let read = rights("reading a stream", inspect::read_stream(id, stream, &mut buffer))?;
        let read = read.ok_or_else(|| select::gone(Kind::Program, id))?;
        let new = buffer.get(..read).filter(|new| !new.is_empty());
        let Some(new) = new else { break };
        lines.push(new, |text| out.emit(&Line { text }))?;
    }
    lines.finish(|text| out.emit(&Line { text }))?;
    Ok(DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_from_parts() {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        let mut push = |bytes: &[u8]| {
            lines.push(bytes, |l| {
                seen.push(l.to_owned());
                Ok(())
            })
        };
        push(b"one\ntw").unwrap();
        push(b"o\n\nthr").unwrap();
        lines
            .finish(|l| {
                seen.push(l.to_owned());
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, ["one", "two", "", "thr"]);
    }
}
