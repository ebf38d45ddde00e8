//! `skep prog profile`: how often a program runs, and for how long.

use std::{fmt, io::Write, thread, time::Duration};

use serde::Serialize;
use skep::kernel::inspect::Kind;

use crate::{
    cmd::manage::{
        Until,
        sample::{Sample, Work, count_runs, hundredths},
        select,
        words::Words,
    },
    exit::{DONE, usage},
    output::{Out, Print},
    parse::duration,
};

/// Count the runs of programs and the time they take.
///
/// Counting is on while the command runs, and makes each run of any program a little slower. Hardware
/// counters (cycles, cache misses) are not read.
#[derive(Debug, clap::Args)]
pub struct Profile {
    /// `id N`, `name NAME`, `tag TAG` or `pinned PATH`, then `duration SECONDS`; until Ctrl-C
    /// without.
    #[arg(value_name = "PROG", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    print: Print,
}

/// What a program did.
#[derive(Debug, Serialize)]
struct Row {
    id: u32,
    #[serde(rename = "type")]
    prog_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    seconds: f64,
    run_cnt: u64,
    run_time_ns: u64,
    mean_ns: u64,
    runs_per_second: f64,
    /// Of one CPU.
    cpu_percent: f64,
    recursion_misses: u64,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}  name {}", self.id, self.prog_type, self.name)?;
        writeln!(
            f,
            "\t{} runs in {:.2} s, {:.1} a second",
            self.run_cnt, self.seconds, self.runs_per_second
        )?;
        write!(
            f,
            "\t{} ns, {} ns a run, {:.2} % of one CPU",
            self.run_time_ns, self.mean_ns, self.cpu_percent
        )?;
        if self.recursion_misses != 0 {
            write!(f, "\n\t{} runs left out: it was running already", self.recursion_misses)?;
        }
        Ok(())
    }
}

/// bpftool's words for hardware counters.
const COUNTERS: &[&str] =
    &["cycles", "instructions", "l1d_loads", "llc_misses", "itlb_misses", "dtlb_misses"];

impl Profile {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut words = Words(&self.words);
        let ids = select::take(Kind::Program, &mut words.0)?.unwrap_or_default();
        let mut time = None;
        while let Some(word) = words.next() {
            match word {
                "duration" => {
                    time = Some(duration(words.value(word)?).map_err(usage)?);
                }
                counter if COUNTERS.contains(&counter) => {
                    let why = "hardware counters are not read, only runs and their time";
                    return Err(usage(format!("`{counter}`: {why}")));
                }
                other => return Err(crate::cmd::manage::words::unexpected(other, "duration TIME")),
            }
        }
        let watch = Until::time(time).watch()?;
        let counting = count_runs()?;
        let before = Sample::take(Some(&ids))?;
        while watch.goes_on() {
            thread::sleep(watch.wait(Duration::from_millis(100)));
        }
        let after = Sample::take(Some(&ids))?;
        drop(counting);
        let mut out = Out::new(out, self.print.format());
        for (&id, program) in &after.programs {
            let Some(work) = after.work(id, &before) else { continue };
            out.emit(&row(id, program.prog_type.to_string(), program.name.clone(), work))?;
        }
        // Ctrl-C is how the command is meant to be ended.
        Ok(DONE)
    }
}

fn row(id: u32, prog_type: String, name: String, work: Work) -> Row {
    Row {
        id,
        prog_type,
        name,
        seconds: hundredths(work.seconds),
        run_cnt: work.runs,
        run_time_ns: work.time_ns,
        mean_ns: work.mean_ns(),
        runs_per_second: hundredths(work.runs_per_second()),
        cpu_percent: hundredths(work.cpu_percent()),
        recursion_misses: work.recursion_misses,
    }
}
