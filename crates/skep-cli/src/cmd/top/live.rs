//! The live view: draws on a terminal and hears its keys.

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{self, Event, KeyEventKind},
    queue,
    style::{Attribute, Print, SetAttribute},
    terminal::{
        self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode,
    },
};

use super::{
    SLICE,
    keys::{Asked, press},
    look::{Row, Watcher},
    screen,
    view::View,
};
use crate::signal::Stop;

/// A terminal of our own, given back on drop.
struct Terminal;

impl Terminal {
    fn take() -> anyhow::Result<Self> {
        enable_raw_mode().context("cannot take the terminal")?;
        let taken = Self;
        queue!(io::stdout(), EnterAlternateScreen, Hide).context("cannot take the terminal")?;
        Ok(taken)
    }

    /// Draws lines from the top; the second one stands out.
    fn draw(lines: &[String]) -> io::Result<()> {
        let mut out = io::BufWriter::new(io::stdout());
        for (n, line) in (0..).zip(lines) {
            queue!(out, MoveTo(0, n))?;
            if n == 1 {
                queue!(out, SetAttribute(Attribute::Reverse))?;
            }
            queue!(
                out,
                Print(line),
                SetAttribute(Attribute::Reset),
                Clear(ClearType::UntilNewLine)
            )?;
        }
        out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing else to do.
        queue!(io::stdout(), Show, LeaveAlternateScreen).ok();
        io::stdout().flush().ok();
        disable_raw_mode().ok();
    }
}

/// Shows looks until the user quits, a signal arrives, or `looks` are over.
pub(super) fn run(
    mut view: View,
    watcher: &mut Watcher,
    interval: Duration,
    looks: Option<u64>,
    stop: &Stop,
) -> anyhow::Result<()> {
    let _terminal = Terminal::take()?;
    let mut left = looks;
    let mut all: Vec<Row> = Vec::new();
    let mut shown = Vec::new();
    let mut next = Instant::now() + interval;
    loop {
        let rows = view.rows(all.clone());
        // A terminal that was never told its size has none.
        let size = terminal::size().ok().filter(|&(width, height)| width != 0 && height != 0);
        let (width, height) = size.unwrap_or((80, 24));
        let lines = screen::draw(&view, &rows, width.into(), height.into());
        if lines != shown {
            Terminal::draw(&lines)?;
            shown = lines;
        }
        if stop.asked() || left == Some(0) {
            return Ok(());
        }
        let wait = next.saturating_duration_since(Instant::now()).min(SLICE);
        if event::poll(wait).context("cannot read keys")?
            && let Event::Key(key) = event::read().context("cannot read keys")?
            && key.kind != KeyEventKind::Release
            && press(&mut view, key, rows.len()) == Asked::Quit
        {
            return Ok(());
        }
        if Instant::now() >= next {
            next = Instant::now() + interval;
            // A paused view stands still; what happens meanwhile is in the first look behind it.
            if !view.paused {
                all = watcher.look()?;
                left = left.map(|n| n - 1);
            }
        }
    }
}
