//! `skep prog show`: programs with what the kernel tells of them.

use std::{
    fmt,
    io::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::Serialize;
use skep::kernel::inspect::{self, Kind, ProgramInfo};

use crate::{
    cmd::manage::{Holder, Holders, commas, rights, select, tail},
    exit::DONE,
    output::{Out, Print},
    show::hex,
};

/// List all programs, or those that are selected.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// `id N`, `name NAME`, `tag TAG` or `pinned PATH`; all without.
    #[arg(value_name = "PROG")]
    words: Vec<String>,
    #[command(flatten)]
    print: Print,
}

/// One program of the list; fields named as bpftool's.
#[derive(Debug, Serialize)]
struct Row {
    id: u32,
    #[serde(rename = "type")]
    prog_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    tag: String,
    gpl_compatible: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_time_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_cnt: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recursion_misses: Option<u64>,
    /// Seconds since 1970.
    loaded_at: u64,
    uid: u32,
    bytes_xlated: u32,
    jited: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_jited: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_memlock: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    map_ids: Vec<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    btf_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach_btf_obj_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach_btf_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ifindex: Option<u32>,
    /// Instructions the verifier walked (not in bpftool).
    #[serde(skip_serializing_if = "Option::is_none")]
    verified_insns: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pinned: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pids: Vec<Holder>,
}

impl Row {
    fn new(info: ProgramInfo, holders: &Holders, started: SystemTime) -> Self {
        let ran = (info.run_count != 0).then_some(info.run_count);
        let loaded = started + Duration::from_nanos(info.loaded_ns);
        Self {
            prog_type: info.prog_type.to_string(),
            name: info.name,
            tag: hex(&info.tag),
            gpl_compatible: info.gpl,
            run_time_ns: ran.map(|_| info.run_time_ns),
            run_cnt: ran,
            recursion_misses: (info.recursion_misses != 0).then_some(info.recursion_misses),
            loaded_at: loaded.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            uid: info.uid,
            bytes_xlated: info.xlated_bytes,
            jited: info.jited_bytes != 0,
            bytes_jited: (info.jited_bytes != 0).then_some(info.jited_bytes),
            bytes_memlock: info.memory_bytes,
            map_ids: info.map_ids,
            btf_id: info.btf_id,
            attach_btf_obj_id: info.attach_btf.map(|(object, _)| object),
            attach_btf_id: info.attach_btf.map(|(_, ty)| ty.0),
            ifindex: info.ifindex,
            verified_insns: (info.verified_insns != 0).then_some(info.verified_insns),
            pinned: holders.pinned(Kind::Program, info.id),
            pids: holders.pids(Kind::Program, info.id),
            id: info.id,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}  ", self.id, self.prog_type)?;
        if !self.name.is_empty() {
            write!(f, "name {}  ", self.name)?;
        }
        write!(f, "tag {}", self.tag)?;
        if self.gpl_compatible {
            f.write_str("  gpl")?;
        }
        if let (Some(time), Some(runs)) = (self.run_time_ns, self.run_cnt) {
            write!(f, " run_time_ns {time} run_cnt {runs}")?;
        }
        if let Some(misses) = self.recursion_misses {
            write!(f, " recursion_misses {misses}")?;
        }
        write!(f, "\n\tloaded_at {}  uid {}", utc(self.loaded_at), self.uid)?;
        write!(f, "\n\txlated {}B  ", self.bytes_xlated)?;
        match self.bytes_jited {
            Some(bytes) => write!(f, "jited {bytes}B")?,
            None => f.write_str("not jited")?,
        }
        if let Some(bytes) = self.bytes_memlock {
            write!(f, "  memlock {bytes}B")?;
        }
        if !self.map_ids.is_empty() {
            write!(f, "  map_ids {}", commas(&self.map_ids))?;
        }
        if let Some(id) = self.btf_id {
            write!(f, "\n\tbtf_id {id}")?;
        }
        f.write_str(&tail(&self.pinned, &self.pids))
    }
}

impl Show {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let ids = select::all_or(Kind::Program, &self.words)?;
        let (holders, started) = (Holders::now(), machine_start());
        let mut out = Out::new(out, self.print.format());
        for id in ids {
            if let Some(info) = rights("reading a program", inspect::program(id))? {
                out.emit(&Row::new(info, &holders, started))?;
            }
        }
        Ok(DONE)
    }
}

/// When the machine was started.
fn machine_start() -> SystemTime {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = text.split(' ').next().and_then(|t| t.parse().ok()).unwrap_or(0.0);
    let up = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    SystemTime::now().checked_sub(up).unwrap_or(UNIX_EPOCH)
}

/// Seconds since 1970 as a date and time of day.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+0000")
}

/// Year, month and day of a number of days since 1970. Years are counted from March, so that the
/// leap day is the last one; 400 of them have 146,097 days.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, in_era) = (days / 146_097, days % 146_097);
    let year = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let in_year = in_era - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let day = in_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let cases = [
            (0, "1970-01-01T00:00:00+0000"),
            (951_782_400, "2000-02-29T00:00:00+0000"),
            (1_709_251_199, "2024-02-29T23:59:59+0000"),
            (1_767_225_600, "2026-01-01T00:00:00+0000"),
        ];
        for (seconds, want) in cases {
            assert_eq!(utc(seconds), want);
        }
    }
}
