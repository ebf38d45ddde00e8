//! What programs did between two looks at their counters.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use skep::kernel::inspect::{self, Kind, ProgramInfo, RunStatistics};

use super::rights;

/// The counters of programs at one time.
#[derive(Clone, Debug)]
pub(in crate::cmd) struct Sample {
    at: Instant,
    pub(in crate::cmd) programs: BTreeMap<u32, ProgramInfo>,
}

/// What a program did in a while.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::cmd) struct Work {
    pub(in crate::cmd) runs: u64,
    pub(in crate::cmd) time_ns: u64,
    /// Runs left out because the program was running already.
    pub(in crate::cmd) recursion_misses: u64,
    pub(in crate::cmd) seconds: f64,
}

/// Turns counting on; it ends when the value is dropped.
pub(in crate::cmd) fn count_runs() -> anyhow::Result<RunStatistics> {
    rights("counting runs", RunStatistics::enable())
}

impl Sample {
    /// Looks at some programs, or at all. Those that are gone are left out.
    pub(in crate::cmd) fn take(ids: Option<&[u32]>) -> anyhow::Result<Self> {
        let all;
        let ids = match ids {
            Some(ids) => ids,
            None => {
                all = rights("listing programs", inspect::ids(Kind::Program))?;
                &all
            }
        };
        let at = Instant::now();
        let mut programs = BTreeMap::new();
        for &id in ids {
            if let Some(info) = rights("reading a program", inspect::program(id))? {
                programs.insert(id, info);
            }
        }
        Ok(Self { at, programs })
    }

    /// Time between two looks.
    pub(in crate::cmd) fn since(&self, before: &Self) -> Duration {
        self.at.saturating_duration_since(before.at)
    }

    /// What a program did since an earlier look; a program that was not there then began at 0.
    pub(in crate::cmd) fn work(&self, id: u32, before: &Self) -> Option<Work> {
        let now = self.programs.get(&id)?;
        let earlier = before.programs.get(&id);
        let grown =
            |count: fn(&ProgramInfo) -> u64| count(now).saturating_sub(earlier.map_or(0, count));
        Some(Work {
            runs: grown(|p| p.run_count),
            time_ns: grown(|p| p.run_time_ns),
            recursion_misses: grown(|p| p.recursion_misses),
            seconds: self.since(before).as_secs_f64(),
        })
    }
}

impl Work {
    /// Nanoseconds of one run.
    pub(in crate::cmd) fn mean_ns(&self) -> u64 {
        self.time_ns.checked_div(self.runs).unwrap_or(0)
    }

    pub(in crate::cmd) fn runs_per_second(&self) -> f64 {
        per_second(self.runs, self.seconds)
    }

    /// Share of the time of one CPU, in percent.
    pub(in crate::cmd) fn cpu_percent(&self) -> f64 {
        per_second(self.time_ns, self.seconds) / 1e7
    }
}

/// A count by the second, rounded to hundredths; 0 when no time has passed.
#[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 52 bits")]
pub(in crate::cmd) fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

/// Rounded to hundredths, for output.
pub(in crate::cmd) fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_from_counts_and_time() {
        let work = Work { runs: 10, time_ns: 5_000_000, recursion_misses: 0, seconds: 0.5 };
        assert_eq!((work.mean_ns(), work.runs_per_second()), (500_000, 20.0));
        assert_eq!(hundredths(work.cpu_percent()), 1.0);
        let nothing = Work::default();
        assert_eq!((nothing.mean_ns(), nothing.runs_per_second()), (0, 0.0));
    }
}
