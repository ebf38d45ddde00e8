//! Rows as lines of text, and a screen made of lines. Nothing here knows a terminal.

use std::fmt;

use super::{
    look::Row,
    view::{Sort, View},
};

/// Heads of the columns, in their widths.
const HEAD: &str = "     ID TYPE             NAME               CPU%     RUNS/S    MEAN ns     RING B/S  FULL    MISSED   MEMORY  HOLDER";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holder = self.pids.first().map(|h| format!("{}({})", h.comm, h.pid));
        let full = self.ring_full_percent.map_or_else(String::new, |full| format!("{full:.0}%"));
        let line = format!(
            "{:>7} {:<16} {:<15} {:>7.2} {:>10} {:>10} {:>12} {:>5} {:>9} {:>8}  {}",
            self.id,
            cut(&self.prog_type, 16),
            cut(&self.name, 15),
            self.cpu_percent,
            short(self.runs_per_second),
            self.mean_ns,
            short(self.ring_bytes_per_second),
            full,
            self.missed,
            memory(self.bytes_memlock),
            holder.unwrap_or_default(),
        );
        f.write_str(line.trim_end())
    }
}

/// One look in text, with the heads of the columns.
#[derive(Debug, serde::Serialize)]
pub(super) struct Lines<'a>(pub(super) &'a [Row]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEAD)?;
        self.0.iter().try_for_each(|row| write!(f, "\n{row}"))
    }
}

/// The first `width` characters.
fn cut(text: &str, width: usize) -> String {
    // What a program calls itself must not move the cursor.
    text.chars().map(|c| if c.is_control() { '?' } else { c }).take(width).collect()
}

/// A rate: with a decimal when it is small, in thousands when it is large.
fn short(rate: f64) -> String {
    match rate {
        r if r < 100.0 => format!("{r:.1}"),
        r if r < 1e7 => format!("{r:.0}"),
        r if r < 1e10 => format!("{:.0}k", r / 1e3),
        r => format!("{:.0}M", r / 1e6),
    }
}

fn memory(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes}"),
        1024..1_048_576 => format!("{}K", bytes >> 10),
        _ => format!("{}M", bytes >> 20),
    }
}

const KEYS: &str = "q quit  p pause  / filter  s next order  h help";

/// A screen of exactly `height` lines of at most `width` characters.
pub(super) fn draw(view: &View, rows: &[Row], width: usize, height: usize) -> Vec<String> {
    let mut lines = vec![status(view, rows)];
    if view.help {
        lines.extend(help());
    } else {
        lines.push(HEAD.to_owned());
        let room = height.saturating_sub(lines.len() + 1);
        lines.extend(rows.iter().skip(view.skipped).take(room).map(Row::to_string));
    }
    lines.truncate(height.saturating_sub(1));
    lines.resize(height.saturating_sub(1), String::new());
    let last = if view.typing { format!("filter: {}_", view.filter) } else { KEYS.to_owned() };
    lines.push(last);
    lines.truncate(height);
    lines.iter().map(|line| cut(line, width)).collect()
}

fn status(view: &View, rows: &[Row]) -> String {
    // Not `sum`, which is -0 of nothing.
    let cpu = rows.iter().fold(0.0, |all, row| all + row.cpu_percent);
    let mut text = format!("skep top: {} programs, {cpu:.2} % of one CPU", rows.len());
    text += &format!(", by {}", view.sort.name());
    if !view.filter.is_empty() {
        text += &format!(", only \"{}\"", view.filter);
    }
    if view.paused {
        text += ", PAUSED";
    }
    text
}

fn help() -> Vec<String> {
    let mut lines = vec![
        String::new(),
        "  q, Ctrl-C   quit".into(),
        "  p, space    pause and go on".into(),
        "  /           filter by name, type or holder; Enter keeps it, Esc drops it".into(),
        "  up, down    scroll".into(),
        "  s           next order".into(),
    ];
    lines
        .extend(Sort::ALL.iter().map(|(_, key, name)| format!("  {key}           sort by {name}")));
    lines.extend([
        String::new(),
        "  CPU%      time in the program, of one CPU".into(),
        "  RING B/S  written to the ring buffers that it uses, by all who use them".into(),
        "  FULL      how full the fullest of them is".into(),
        "  MISSED    runs it could not have: running already, or no room for the probe".into(),
    ]);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::manage::Holder;

    fn rows() -> Vec<Row> {
        let busy = Row {
            id: 7,
            prog_type: "tracing".into(),
            name: "on_switch".into(),
            cpu_percent: 1.234,
            runs_per_second: 20_500.0,
            mean_ns: 602,
            ring_bytes_per_second: 1_234_567.0,
            ring_full_percent: Some(37.5),
            missed: 3,
            bytes_memlock: 8192,
            pids: vec![Holder { pid: 12, comm: "skep".into() }],
            ..Row::default()
        };
        let idle = Row {
            id: 123_456,
            prog_type: "xdp".into(),
            name: "evil\x1b[2J".into(),
            ..Row::default()
        };
        vec![busy, idle]
    }

    #[test]
    fn a_screen_is_lines_of_its_size() {
        let got = draw(&View::default(), &rows(), 130, 6);
        let want = [
            "skep top: 2 programs, 1.23 % of one CPU, by cpu",
            "     ID TYPE             NAME               CPU%     RUNS/S    MEAN ns     RING B/S  FULL    MISSED   MEMORY  HOLDER",
            "      7 tracing          on_switch          1.23      20500        602      1234567   38%         3       8K  skep(12)",
            " 123456 xdp              evil?[2J           0.00        0.0          0          0.0               0        0",
            "",
            "q quit  p pause  / filter  s next order  h help",
        ];
        assert_eq!(got, want);
    }

    #[test]
    fn a_small_screen_has_what_fits() {
        for height in 0..6 {
            let got = draw(&View::default(), &rows(), 10, height);
            assert_eq!(got.len(), height);
            assert!(got.iter().all(|line| line.chars().count() <= 10), "{got:?}");
        }
        let view = View { skipped: 1, paused: true, filter: "x".into(), ..View::default() };
        let got = draw(&view, &rows(), 130, 4);
        assert!(got[0].ends_with(", only \"x\", PAUSED"), "{got:?}");
        assert!(got[2].starts_with(" 123456 "), "{got:?}");
        let help = View { help: true, ..View::default() };
        assert!(draw(&help, &rows(), 80, 30).iter().any(|line| line.contains("sort by missed")));
        let typing = View { typing: true, filter: "ab".into(), ..View::default() };
        assert_eq!(draw(&typing, &rows(), 80, 3)[2], "filter: ab_");
    }

    #[test]
    fn numbers_stay_short() {
        for (rate, want) in [(0.0, "0.0"), (99.94, "99.9"), (1e6, "1000000"), (3e8, "300000k")] {
            assert_eq!(short(rate), want);
        }
        for (bytes, want) in [(0, "0"), (4096, "4K"), (3 << 20, "3M")] {
            assert_eq!(memory(bytes), want);
        }
    }
}
