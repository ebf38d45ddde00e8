//! When a command that watches ends: after a time, after so many lines, or on a signal.

use std::time::{Duration, Instant};

use crate::{parse::duration, signal::Stop};

/// Flags of commands that go on until they are told to stop.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Until {
    /// Stop after this time: 3s, 500ms, 2m.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// Stop after this many lines or records.
    #[arg(long, value_name = "N")]
    lines: Option<u64>,
}

impl Until {
    /// After a time, or on a signal only.
    pub(super) const fn time(duration: Option<Duration>) -> Self {
        Self { duration, lines: None }
    }

    /// Starts the time, and listens for Ctrl-C.
    pub(super) fn watch(self) -> anyhow::Result<Watch> {
        let end = self.duration.and_then(|d| Instant::now().checked_add(d));
        Ok(Watch { end, left: self.lines, stop: Stop::listen()? })
    }
}

/// How far a command has come.
pub(super) struct Watch {
    end: Option<Instant>,
    left: Option<u64>,
    stop: Stop,
}

impl Watch {
    pub(super) fn goes_on(&self) -> bool {
        let over = self.end.is_some_and(|end| Instant::now() >= end);
        !over && self.left != Some(0) && !self.stop.asked()
    }

    /// One line or record was printed.
    pub(super) fn line(&mut self) {
        self.left = self.left.map(|left| left.saturating_sub(1));
    }

    /// The time to wait for something: `most`, or what is left.
    pub(super) fn wait(&self, most: Duration) -> Duration {
        let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
        left.map_or(most, |left| left.min(most))
    }

    pub(super) fn interrupted(&self) -> bool {
        self.stop.asked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_time_end_a_watch() {
        let mut by_lines = Until { duration: None, lines: Some(1) }.watch().unwrap();
        assert!(by_lines.goes_on());
        by_lines.line();
        assert!(!by_lines.goes_on());
        let by_time = Until { duration: Some(Duration::ZERO), lines: None }.watch().unwrap();
        assert!(!by_time.goes_on());
        assert_eq!(by_time.wait(Duration::from_secs(1)), Duration::ZERO);
    }
}
