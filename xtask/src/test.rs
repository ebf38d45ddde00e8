//! All tests, with the counts and skips at the end.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::Stdio,
};

use anyhow::{Context as _, ensure};

use crate::{
    support::{self, Hooks},
    tool,
};

/// What a run of tests came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    passed: u64,
    failed: u64,
    ignored: u64,
    /// `SKIP name: reason`, sorted, each once.
    skips: BTreeSet<String>,
    /// What the hooks' tests saw.
    hooks: Hooks,
    /// Whether cargo itself said that all was well.
    success: bool,
}

impl Summary {
    /// Adds a line of cargo's output, if it is one of those that count.
    pub(crate) fn add_line(&mut self, line: &str) {
        if line.starts_with("SKIP ") {
            self.skips.insert(line.to_owned());
        }
        support::add_line(&mut self.hooks, line);
        let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split(';') {
            let Some((number, what)) = count.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    /// Records what the process that ran the tests said at its end.
    pub(crate) fn set_success(&mut self, success: bool) {
        self.success = success;
    }

    /// What the hooks' tests saw.
    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Whether nothing failed.
    pub(crate) fn ensure_success(&self) -> anyhow::Result<()> {
        ensure!(self.success && self.failed == 0, "tests failed");
        Ok(())
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for skip in &self.skips {
            writeln!(f, "{skip}")?;
        }
        // A skipped test returns early, which the harness counts as passed.
        let skips = u64::try_from(self.skips.len()).unwrap_or(u64::MAX);
        let passed = self.passed.saturating_sub(skips);
        write!(f, "{passed} passed, {} failed, {} skipped", self.failed, skips + self.ignored)
    }
}

/// Runs `cargo test` with `arguments`, of all crates when they name none.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> anyhow::Result<Summary> {
    let log = root.join("target/test-log.txt");
    fs::create_dir_all(root.join("target"))?;
    fs::write(&log, "").context("cannot write the log")?;

    let all = !arguments.iter().any(|word| ["-p", "--package"].contains(word));
    let mut child = tool::cargo()
        .current_dir(root)
        .args(["test", "--no-fail-fast"])
        .args(all.then_some("--workspace"))
        .args(arguments)
        .env("SKEP_TEST_LOG", &log)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo test")?;
    let mut summary = Summary::default();
    let output = child.stdout.take().context("standard output was asked for")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("cargo test printed something that is no text")?;
        println!("{line}");
        summary.add_line(&line);
    }
    summary.set_success(child.wait()?.success());
    // The harness shows what a test printed only when it fails; the log has all skips.
    for line in fs::read_to_string(&log).context("cannot read the log")?.lines() {
        summary.add_line(line);
    }
    println!("\n{summary}");
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_summed_and_others_are_not() {
        let mut summary = Summary::default();
        summary.add_line("running 3 tests");
        summary
            .add_line("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        summary.add_line(
            "test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 1 filtered out",
        );
        summary.skips.insert("SKIP a: no kernel".to_owned());
        assert_eq!((summary.passed, summary.failed, summary.ignored), (5, 4, 1));
        assert_eq!(summary.to_string(), "SKIP a: no kernel\n4 passed, 4 failed, 2 skipped");
        assert!(summary.ensure_success().is_err());
    }
}
