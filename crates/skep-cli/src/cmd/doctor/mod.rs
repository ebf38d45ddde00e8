//! `skep doctor`: what this machine can, found by doing it, and what to use where it cannot.

mod advice;
mod attach;
mod features;
mod system;

use std::{fmt, io::Write, thread};

use serde::Serialize;
use skep::kernel::probe::{self, Support};

use crate::{
    exit::DONE,
    output::{Out, Print},
};

/// Say what this machine and this process can do with eBPF, and what to use where they cannot.
///
/// Answers are found by doing: tiny programs are loaded and attached, on functions that nothing
/// calls, to this process, in a cgroup and a network namespace made for that; maps are made; all is
/// gone at the end. Nothing that exists is changed. "unknown" is what could not be found out.
///
/// Ends with code 0 whatever is missing.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// Print all answers; without it, answers of long lists that are yes are only counted.
    #[arg(long, short)]
    all: bool,
    #[command(flatten)]
    print: Print,
}

/// One answer.
#[derive(Clone, Debug, Serialize)]
struct Check {
    group: &'static str,
    name: String,
    answer: Answer,
    /// What was found, or the reason.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// What the missing thing costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<&'static str>,
    /// The nearest thing that works.
    #[serde(skip_serializing_if = "Option::is_none")]
    instead: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Yes,
    No,
    Unknown,
}

impl Answer {
    const fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

impl Check {
    fn new(
        group: &'static str,
        name: impl Into<String>,
        answer: Answer,
        detail: impl Into<String>,
    ) -> Self {
        let name = name.into();
        let advice = if answer == Answer::No { advice::of(group, &name) } else { None };
        let (cost, instead) = advice.unzip();
        Self { group, name, answer, detail: detail.into(), cost, instead }
    }

    /// As [`Check::of`], for what is tried with bpf(2): a process that may not try learns nothing.
    fn tried(group: &'static str, name: impl Into<String>, try_it: impl Fn() -> Support) -> Self {
        match probe::can_load() {
            Support::Yes => Self::of(group, name, try_it()),
            Support::No(reason) | Support::Unknown(reason) => {
                Self::new(group, name, Answer::Unknown, reason)
            }
        }
    }

    fn of(group: &'static str, name: impl Into<String>, support: Support) -> Self {
        match support {
            Support::Yes => Self::new(group, name, Answer::Yes, ""),
            Support::No(reason) => Self::new(group, name, Answer::No, reason),
            Support::Unknown(reason) => Self::new(group, name, Answer::Unknown, reason),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<8}{}", self.answer.name(), self.name)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        if let (Some(cost), Some(instead)) = (self.cost, self.instead) {
            write!(f, "\n          costs: {cost}\n          instead: {instead}")?;
        }
        Ok(())
    }
}

/// A line of text that is no answer.
#[derive(Debug, Serialize)]
struct Head(String);

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Groups whose yes answers are only counted.
const LONG: &[&str] = &[
    features::PROGRAMS,
    features::MAPS,
    features::HELPERS,
    features::KFUNCS,
    features::ISA,
    features::BTF,
    attach::CGROUP,
    attach::NETWORK,
];

/// The groups, in the order of the output.
const GROUPS: &[fn() -> Vec<Check>] = &[
    system::checks,
    features::btf,
    features::programs,
    attach::tracing,
    attach::network,
    attach::cgroup,
    features::maps,
    features::helpers,
    features::kfuncs,
    features::isa,
];

/// All groups. They wait for the kernel more than they compute, so they are asked side by side.
fn groups() -> Vec<Vec<Check>> {
    thread::scope(|scope| {
        let asked: Vec<_> = GROUPS.iter().map(|group| scope.spawn(group)).collect();
        let answer = |asked: thread::ScopedJoinHandle<'_, _>| {
            asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let mut groups: Vec<Vec<Check>> = asked.into_iter().map(answer).collect();
        let attach: Vec<Check> =
            groups.iter().flatten().filter(|c| c.group == attach::TRACING).cloned().collect();
        let works = |name: &str| attach.iter().any(|c| c.name == name && c.answer == Answer::Yes);
        for check in groups.iter_mut().flatten().filter(|c| c.instead.is_some()) {
            check.instead = advice::working(check.group, &check.name, works).or(check.instead);
        }
        groups
    })
}

impl Doctor {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut out = Out::new(out, self.print.format());
        for checks in groups() {
            if !out.is_text() {
                checks.iter().try_for_each(|c| out.emit(c))?;
                continue;
            }
            let Some(group) = checks.first().map(|c| c.group) else { continue };
            let yes = checks.iter().filter(|c| c.answer == Answer::Yes).count();
            out.section(&Head(format!("{group}: {yes} of {}", checks.len())))?;
            let short = LONG.contains(&group) && !self.all;
            if let Some(reason) = nothing_known(&checks) {
                out.emit(&Head(format!("  {:<8}{reason}", Answer::Unknown.name())))?;
                continue;
            }
            let shown = checks.iter().filter(|c| !short || c.answer != Answer::Yes);
            for check in shown {
                out.emit(check)?;
            }
        }
        Ok(DONE)
    }
}

/// The one reason why nothing is known of a whole group.
fn nothing_known(checks: &[Check]) -> Option<&str> {
    let reason = checks.first()?.detail.as_str();
    let same = |c: &Check| c.answer == Answer::Unknown && c.detail == reason;
    checks.iter().all(same).then_some(reason)
}
