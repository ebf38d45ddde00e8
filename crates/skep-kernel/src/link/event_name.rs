//! Perf events by name, as `perf` spells them.

use super::{PerfEvent, Rate};

const HARDWARE: u32 = 0;
const SOFTWARE: u32 = 1;
const RAW: u32 = 4;

/// Name, `type` and `config`; `include/uapi/linux/perf_event.h`.
const NAMES: &[(&str, u32, u64)] = &[
    ("cpu-clock", SOFTWARE, 0),
    ("task-clock", SOFTWARE, 1),
    ("page-faults", SOFTWARE, 2),
    ("context-switches", SOFTWARE, 3),
    ("cpu-migrations", SOFTWARE, 4),
    ("minor-faults", SOFTWARE, 5),
    ("major-faults", SOFTWARE, 6),
    ("alignment-faults", SOFTWARE, 7),
    ("emulation-faults", SOFTWARE, 8),
    ("cgroup-switches", SOFTWARE, 11),
    ("cycles", HARDWARE, 0),
    ("instructions", HARDWARE, 1),
    ("cache-references", HARDWARE, 2),
    ("cache-misses", HARDWARE, 3),
    ("branches", HARDWARE, 4),
    ("branch-misses", HARDWARE, 5),
    ("bus-cycles", HARDWARE, 6),
    ("stalled-cycles-frontend", HARDWARE, 7),
    ("stalled-cycles-backend", HARDWARE, 8),
    ("ref-cycles", HARDWARE, 9),
];

/// How often where nothing is said: often enough to see, seldom enough not to disturb; beside the
/// frequencies at which timers of others run.
const CLOCK: Rate = Rate::Frequency(99);
const COUNTER: Rate = Rate::Frequency(99);
const EACH: Rate = Rate::Period(1);

/// A text names no perf event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventNameError {
    /// There is no such event.
    #[error("no perf event is called '{name}'; there are {}, and raw ones: rHEX", names())]
    Unknown {
        /// The name.
        name: String,
    },
    /// What stands behind the `@` is no rate.
    #[error("'{rate}' is no rate: expected '99hz', or a number of events between two runs")]
    Rate {
        /// The text.
        rate: String,
    },
}

fn names() -> String {
    NAMES.iter().map(|row| row.0).collect::<Vec<_>>().join(", ")
}

impl PerfEvent {
    /// `cpu-clock`, `cpu-clock@99hz`, `cache-misses@1000` (each thousandth), `r1c2@50hz` (a raw
    /// event, in hexadecimal): of all processes, on every CPU. Without a rate, clocks and counters
    /// of the hardware run a program 99 times in a second, other events each time.
    ///
    /// # Errors
    ///
    /// [`EventNameError`] says what is expected.
    pub fn parse(text: &str) -> Result<Self, EventNameError> {
        let (name, rate) = text.split_once('@').map_or((text, None), |(n, r)| (n, Some(r)));
        let raw = || Some((RAW, u64::from_str_radix(name.strip_prefix('r')?, 16).ok()?));
        let known = NAMES.iter().find(|row| row.0 == name).map(|row| (row.1, row.2)).or_else(raw);
        let (event_type, config) =
            known.ok_or_else(|| EventNameError::Unknown { name: name.to_owned() })?;
        let usual = match (event_type, config) {
            (SOFTWARE, 0 | 1) => CLOCK,
            (SOFTWARE, _) => EACH,
            _ => COUNTER,
        };
        let rate = rate
            .map_or(Some(usual), parse_rate)
            .ok_or_else(|| EventNameError::Rate { rate: rate.unwrap_or_default().to_owned() })?;
        Ok(Self { event_type, config, rate, pid: None, cpu: None, cookie: 0 })
    }
}

fn parse_rate(text: &str) -> Option<Rate> {
    let text = text.to_ascii_lowercase();
    let (number, rate): (_, fn(u64) -> Rate) = match text.strip_suffix("hz") {
        Some(number) => (number, Rate::Frequency),
        None => (text.as_str(), Rate::Period),
    };
    number.parse().ok().filter(|&n| n > 0).map(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_names_and_rates() {
        for (text, want) in [
            ("cpu-clock", (SOFTWARE, 0, Rate::Frequency(99))),
            ("cpu-clock@49Hz", (SOFTWARE, 0, Rate::Frequency(49))),
            ("page-faults", (SOFTWARE, 2, Rate::Period(1))),
            ("cache-misses@1000", (HARDWARE, 3, Rate::Period(1000))),
            ("r01c2@10hz", (RAW, 0x1c2, Rate::Frequency(10))),
        ] {
            let event = PerfEvent::parse(text).expect(text);
            assert_eq!((event.event_type, event.config, event.rate), want, "{text}");
            assert_eq!((event.pid, event.cpu), (None, None));
        }
        for text in ["cpu-clock@", "cpu-clock@0", "cpu-clock@fast", "cpu-clock@9khz"] {
            assert!(matches!(PerfEvent::parse(text), Err(EventNameError::Rate { .. })), "{text}");
        }
        let error = PerfEvent::parse("cpuclock").unwrap_err();
        assert!(error.to_string().contains("there are cpu-clock, "), "{error}");
        for text in ["", "@9hz", "r", "rxyz"] {
            assert!(
                matches!(PerfEvent::parse(text), Err(EventNameError::Unknown { .. })),
                "{text}"
            );
        }
    }
}
