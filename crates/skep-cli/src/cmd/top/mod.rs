//! `skep top`: what the programs of this machine do right now.
//!
//! [`look`] asks the kernel, [`view`] is what is shown of it and how, [`screen`] draws lines, and
//! [`live`] is the terminal.

mod keys;
mod live;
mod look;
mod screen;
mod view;

use std::{
    io::{self, IsTerminal as _, Write},
    time::{Duration, Instant},
};

use self::{
    look::Watcher,
    screen::Lines,
    view::{Sort, View},
};
use crate::{
    exit::DONE,
    output::{Format, Out, Print},
    parse::duration,
    signal::Stop,
};

/// Show what loaded programs do: how often they run, how long, what they write, what they miss.
///
/// On a terminal the view is live: `h` shows its keys. Elsewhere, and with --json, each look is
/// printed. The kernel counts runs only while the command runs, which makes each run of any program a
/// little slower.
///
/// `RING B/S` is what was written to the ring buffers that a program uses, and `FULL` how full the
/// fullest is: programs that share a buffer show the same. `MISSED` are runs that a program could not
/// have, because it was running already or its probe had no room. What programs lose at full buffers
/// only they and their readers know.
#[derive(Debug, clap::Args)]
pub struct Top {
    /// Time between two looks: 3s, 500ms.
    #[arg(short = 'd', long, value_name = "TIME", value_parser = duration, default_value = "1s")]
    interval: Duration,
    /// End after this many looks.
    #[arg(short = 'n', long, value_name = "N")]
    looks: Option<u64>,
    /// What to sort by.
    #[arg(long, value_name = "COLUMN", value_enum, default_value_t)]
    sort: Sort,
    /// Only programs whose name, type or holder has this text.
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    #[command(flatten)]
    print: Print,
}

/// The shortest time between two looks; each reads all programs.
const SHORTEST: Duration = Duration::from_millis(50);

/// How long a wait is, before signals are looked at.
const SLICE: Duration = Duration::from_millis(100);

impl Top {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let interval = self.interval.max(SHORTEST);
        let view = View::new(self.sort, self.filter);
        let mut watcher = Watcher::start()?;
        let stop = Stop::listen()?;
        let format = self.print.format();
        if format == Format::Text && io::stdout().is_terminal() && io::stdin().is_terminal() {
            live::run(view, &mut watcher, interval, self.looks, &stop)?;
            return Ok(DONE);
        }
        let mut out = Out::new(out, format);
        let mut left = self.looks;
        while left != Some(0) && sleep(interval, &stop) {
            let rows = view.rows(watcher.look()?);
            if format == Format::Text {
                out.section(&Lines(&rows))?;
            } else {
                rows.iter().try_for_each(|row| out.emit(row))?;
            }
            out.flush()?;
            left = left.map(|n| n - 1);
        }
        // Ctrl-C is how the command is meant to be ended.
        Ok(DONE)
    }
}

/// Sleeps; false when a signal arrived.
fn sleep(time: Duration, stop: &Stop) -> bool {
    let end = Instant::now() + time;
    while !stop.asked() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(SLICE));
    }
    false
}
