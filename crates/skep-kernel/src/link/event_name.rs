//! Perf events by name, as `perf` spells them.

use std::fmt;

use super::{Access, Breakpoint, PerfEvent, Rate};

const HARDWARE: u32 = 0;
const SOFTWARE: u32 = 1;
const CACHE: u32 = 3;
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
    ("dummy", SOFTWARE, 9),
    // Other names of some above.
    ("cs", SOFTWARE, 3),
    ("migrations", SOFTWARE, 4),
    ("faults", SOFTWARE, 2),
    ("cpu-cycles", HARDWARE, 0),
    ("branch-instructions", HARDWARE, 4),
];

/// Caches and their number, `enum perf_hw_cache_id`.
const CACHES: &[(&str, u64)] = &[
    ("L1-dcache", 0),
    ("L1-icache", 1),
    ("LLC", 2),
    ("dTLB", 3),
    ("iTLB", 4),
    ("branch", 5),
    ("node", 6),
];

/// What is done with a cache: `enum perf_hw_cache_op_id` in the second byte, and
/// `enum perf_hw_cache_op_result_id` in the third.
const CACHE_OPS: &[(&str, u64)] = &[
    ("loads", 0),
    ("load-misses", 1 << 16),
    ("stores", 1 << 8),
    ("store-misses", 1 << 16 | 1 << 8),
    ("prefetches", 2 << 8),
    ("prefetch-misses", 1 << 16 | 2 << 8),
];

fn cache(name: &str) -> Option<(u32, u64)> {
    CACHES.iter().find_map(|(cache, number)| {
        let what = name.strip_prefix(cache)?.strip_prefix('-')?;
        let op = CACHE_OPS.iter().find(|row| row.0 == what)?;
        Some((CACHE, number | op.1))
    })
}

/// `mem:ADDRESS`, `mem:ADDRESS/LEN`, `mem:ADDRESS/LEN:w`, with `w`, `rw` or `x`.
fn breakpoint(name: &str) -> Option<Breakpoint> {
    let rest = name.strip_prefix("mem:")?;
    let (place, on) = match rest.split_once(':') {
        None => (rest, Access::ReadWrite),
        Some((place, "w")) => (place, Access::Write),
        Some((place, "rw")) => (place, Access::ReadWrite),
        Some((place, "x")) => (place, Access::Execute),
        Some(_) => return None,
    };
    let usual = if on == Access::Execute { 8 } else { 4 };
    let (address, len) = match place.split_once('/') {
        None => (place, usual),
        Some((address, len)) => (address, len.parse().ok()?),
    };
    let address = match address.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => address.parse().ok()?,
    };
    matches!(len, 1 | 2 | 4 | 8).then_some(Breakpoint { address, len, on })
}

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
    #[error(
        "no perf event is called '{name}'; there are {}; caches, as in L1-dcache-load-misses; raw ones: \
             rHEX; and memory: mem:ADDRESS/LEN:rw",
        names()
    )]
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
    /// `cpu-clock`, `cpu-clock@99hz`, `cache-misses@1000` (each thousandth),
    /// `L1-dcache-load-misses`, `r1c2@50hz` (a raw event, in hexadecimal), `mem:0x7fff1000/8:w`
    /// (memory that is written to): of all processes, on every CPU. Without a rate, clocks and counters
    /// of the hardware run a program 99 times in a second, other events each time.
    ///
    /// # Errors
    ///
    /// [`EventNameError`] says what is expected.
    pub fn parse(text: &str) -> Result<Self, EventNameError> {
        let (name, rate) = text.split_once('@').map_or((text, None), |(n, r)| (n, Some(r)));
        let raw = || Some((RAW, u64::from_str_radix(name.strip_prefix('r')?, 16).ok()?));
        let rate_or = |usual| {
            let bad = || EventNameError::Rate { rate: rate.unwrap_or_default().to_owned() };
            rate.map_or(Some(usual), parse_rate).ok_or_else(bad)
        };
        if let Some(breakpoint) = breakpoint(name) {
            return Ok(Self { rate: rate_or(EACH)?, ..Self::breakpoint(breakpoint) });
        }
        let known = NAMES.iter().find(|row| row.0 == name).map(|row| (row.1, row.2));
        let known = known.or_else(|| cache(name)).or_else(raw);
        let (event_type, config) =
            known.ok_or_else(|| EventNameError::Unknown { name: name.to_owned() })?;
        let usual = match (event_type, config) {
            (SOFTWARE, 0 | 1) => CLOCK,
            (SOFTWARE, _) => EACH,
            _ => COUNTER,
        };
        Ok(Self::new(event_type, config, rate_or(usual)?))
    }
}

impl fmt::Display for PerfEvent {
    /// Its name, as [`PerfEvent::parse`] takes it where it has one; without the rate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Breakpoint { address, len, on }) = self.breakpoint {
            let on = match on {
                Access::Write => "w",
                Access::ReadWrite => "rw",
                Access::Execute => "x",
            };
            return write!(f, "mem:{address:#x}/{len}:{on}");
        }
        let is_this = |row: &&(&str, u32, u64)| (row.1, row.2) == (self.event_type, self.config);
        if let Some(row) = NAMES.iter().find(is_this) {
            return f.write_str(row.0);
        }
        let cache = CACHES.iter().find(|row| row.1 == self.config & 0xff);
        let op = CACHE_OPS.iter().find(|row| row.1 == self.config & !0xff);
        match (self.event_type, cache, op) {
            (CACHE, Some(cache), Some(op)) => write!(f, "{}-{}", cache.0, op.0),
            (RAW, ..) => write!(f, "r{:x}", self.config),
            (event_type, ..) => write!(f, "{event_type}:{:#x}", self.config),
        }
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
            ("cs", (SOFTWARE, 3, Rate::Period(1))),
            ("L1-dcache-loads", (CACHE, 0, Rate::Frequency(99))),
            ("LLC-prefetch-misses", (CACHE, 0x1_0202, Rate::Frequency(99))),
            ("branch-load-misses@5", (CACHE, 0x1_0005, Rate::Period(5))),
        ] {
            let event = PerfEvent::parse(text).expect(text);
            assert_eq!((event.event_type, event.config, event.rate), want, "{text}");
            assert_eq!((event.pid, event.cpu), (None, None));
            let again = PerfEvent::parse(&event.to_string()).expect(text);
            assert_eq!((again.event_type, again.config), (event.event_type, event.config));
        }
        for text in ["cpu-clock@", "cpu-clock@0", "cpu-clock@fast", "cpu-clock@9khz"] {
            assert!(matches!(PerfEvent::parse(text), Err(EventNameError::Rate { .. })), "{text}");
        }
        let error = PerfEvent::parse("cpuclock").unwrap_err();
        assert!(error.to_string().contains("there are cpu-clock, "), "{error}");
        let memory = |address, len, on| Breakpoint { address, len, on };
        for (text, want) in [
            ("mem:0x1000", memory(0x1000, 4, Access::ReadWrite)),
            ("mem:4096/8:w", memory(4096, 8, Access::Write)),
            ("mem:0x10/1:rw@5", memory(0x10, 1, Access::ReadWrite)),
            ("mem:0x400:x", memory(0x400, 8, Access::Execute)),
        ] {
            let event = PerfEvent::parse(text).expect(text);
            assert_eq!(event.breakpoint, Some(want), "{text}");
            let again = PerfEvent::parse(&event.to_string()).expect(text);
            assert_eq!(again.breakpoint, Some(want));
        }
        for text in [
            "",
            "@9hz",
            "r",
            "rxyz",
            "mem:",
            "mem:0x",
            "mem:1/3",
            "mem:1:q",
            "mem:1/",
            "L1-dcache",
            "L1-dcache-",
            "L9-loads",
        ] {
            assert!(
                matches!(PerfEvent::parse(text), Err(EventNameError::Unknown { .. })),
                "{text}"
            );
        }
    }
}
