//! One look at all programs: what each did since the look before.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use skep::kernel::inspect::{
    self, Kind, Owner, ProgramInfo, RingPositions, RunStatistics, ring_positions,
};

use crate::cmd::manage::{
    Holder,
    sample::{Sample, count_runs, hundredths, per_second},
};

/// What one program did between two looks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Row {
    pub(super) id: u32,
    #[serde(rename = "type")]
    pub(super) prog_type: String,
    pub(super) name: String,
    /// Since the look before.
    pub(super) seconds: f64,
    pub(super) run_cnt: u64,
    pub(super) run_time_ns: u64,
    /// Of one CPU.
    pub(super) cpu_percent: f64,
    pub(super) runs_per_second: f64,
    pub(super) mean_ns: u64,
    /// Written to the ring buffers that the program uses.
    pub(super) ring_bytes_per_second: f64,
    /// How full the fullest of them is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ring_full_percent: Option<f64>,
    /// Runs that the program could not have.
    pub(super) missed: u64,
    pub(super) bytes_memlock: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) pids: Vec<Holder>,
}

/// Everything at one time.
#[derive(Debug)]
struct Look {
    programs: Sample,
    /// Missed runs of links, by program.
    missed: BTreeMap<u32, u64>,
    rings: BTreeMap<u32, RingPositions>,
}

/// Looks again and again; runs are counted while it lives.
#[derive(Debug)]
pub(super) struct Watcher {
    _counting: RunStatistics,
    /// Maps that are known to be no ring buffers. Ids are not used twice.
    others: BTreeSet<u32>,
    before: Look,
}

impl Watcher {
    pub(super) fn start() -> anyhow::Result<Self> {
        let counting = count_runs()?;
        let mut others = BTreeSet::new();
        let before = Look::take(&mut others)?;
        Ok(Self { _counting: counting, others, before })
    }

    /// What programs did since the last look, or the start.
    pub(super) fn look(&mut self) -> anyhow::Result<Vec<Row>> {
        let now = Look::take(&mut self.others)?;
        let owners = inspect::owners();
        let rows = now.rows(&self.before, &owners);
        self.before = now;
        Ok(rows)
    }
}

impl Look {
    fn take(others: &mut BTreeSet<u32>) -> anyhow::Result<Self> {
        let programs = Sample::take(None)?;
        let mut rings = BTreeMap::new();
        for id in programs.programs.values().flat_map(|p| &p.map_ids) {
            if others.contains(id) || rings.contains_key(id) {
                continue;
            }
            match ring_positions(*id) {
                Some(at) => _ = rings.insert(*id, at),
                None => _ = others.insert(*id),
            }
        }
        Ok(Self { programs, missed: missed(), rings })
    }

    fn rows(&self, before: &Self, owners: &BTreeMap<(Kind, u32), Vec<Owner>>) -> Vec<Row> {
        let row = |(&id, info): (&u32, &ProgramInfo)| {
            let work = self.programs.work(id, &before.programs)?;
            let earlier = |all: &BTreeMap<u32, u64>| all.get(&id).copied().unwrap_or(0);
            let probes = earlier(&self.missed).saturating_sub(earlier(&before.missed));
            let (written, full) = self.rings_of(info, before);
            let holders = owners.get(&(Kind::Program, id)).map_or(&[][..], Vec::as_slice);
            Some(Row {
                id,
                prog_type: info.prog_type.to_string(),
                name: info.name.clone(),
                seconds: hundredths(work.seconds),
                run_cnt: work.runs,
                run_time_ns: work.time_ns,
                cpu_percent: hundredths(work.cpu_percent()),
                runs_per_second: hundredths(work.runs_per_second()),
                mean_ns: work.mean_ns(),
                ring_bytes_per_second: hundredths(per_second(written, work.seconds)),
                ring_full_percent: full.map(hundredths),
                missed: work.recursion_misses.saturating_add(probes),
                bytes_memlock: info.memory_bytes.unwrap_or(0),
                pids: holders.iter().map(Holder::from).collect(),
            })
        };
        self.programs.programs.iter().filter_map(row).collect()
    }

    /// Bytes written to a program's ring buffers since `before`, and how full the fullest is.
    fn rings_of(&self, info: &ProgramInfo, before: &Self) -> (u64, Option<f64>) {
        let own = info.map_ids.iter().filter_map(|id| Some((id, self.rings.get(id)?)));
        own.fold((0, None), |(written, full), (id, now)| {
            // A buffer that was not there began at 0.
            let earlier = before.rings.get(id).map_or(0, |at| at.produced);
            let own = 100.0 * per_second(now.waiting(), f64::from(now.size));
            let fullest = full.map_or(own, |full: f64| full.max(own));
            (written + now.produced.saturating_sub(earlier), Some(fullest))
        })
    }
}

/// Missed runs of all links, by program; what cannot be asked is left out.
fn missed() -> BTreeMap<u32, u64> {
    let mut found = BTreeMap::new();
    for id in inspect::ids(Kind::Link).unwrap_or_default() {
        if let Ok(Some(link)) = inspect::link(id)
            && let Some(missed) = link.missed
        {
            *found.entry(link.prog_id).or_default() += missed;
        }
    }
    found
}
