//! Which programs are shown, and in which order.

use std::cmp::Ordering;

use super::look::Row;

/// What rows are sorted by: the largest first, names and ids ascending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Sort {
    /// Share of a CPU.
    #[default]
    Cpu,
    /// Runs in a second.
    Runs,
    /// Mean time of a run.
    Mean,
    /// Bytes written to ring buffers.
    Ring,
    /// Missed runs.
    Missed,
    /// Memory.
    Memory,
    /// Name.
    Name,
    /// Id.
    Id,
}

impl Sort {
    /// All, with their keys and names.
    pub(super) const ALL: &[(Self, char, &str)] = &[
        (Self::Cpu, 'c', "cpu"),
        (Self::Runs, 'r', "runs"),
        (Self::Mean, 'm', "mean"),
        (Self::Ring, 'b', "ring"),
        (Self::Missed, 'x', "missed"),
        (Self::Memory, 'y', "memory"),
        (Self::Name, 'n', "name"),
        (Self::Id, 'i', "id"),
    ];

    /// Its name on the screen.
    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(sort, ..)| *sort == self).map_or("", |(_, _, name)| name)
    }

    fn order(self, a: &Row, b: &Row) -> Ordering {
        let by = match self {
            Self::Cpu => b.cpu_percent.total_cmp(&a.cpu_percent),
            Self::Runs => b.runs_per_second.total_cmp(&a.runs_per_second),
            Self::Mean => b.mean_ns.cmp(&a.mean_ns),
            Self::Ring => b.ring_bytes_per_second.total_cmp(&a.ring_bytes_per_second),
            Self::Missed => b.missed.cmp(&a.missed),
            Self::Memory => b.bytes_memlock.cmp(&a.bytes_memlock),
            Self::Name => a.name.cmp(&b.name),
            Self::Id => Ordering::Equal,
        };
        by.then(a.id.cmp(&b.id))
    }
}

/// What the user wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// Is a filter being typed?
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) help: bool,
    /// Rows that are scrolled away.
    pub(super) skipped: usize,
}

impl View {
    pub(super) fn new(sort: Sort, filter: String) -> Self {
        Self { sort, filter, ..Self::default() }
    }

    /// The rows that are wanted, in order.
    pub(super) fn rows(&self, mut rows: Vec<Row>) -> Vec<Row> {
        rows.retain(|row| self.fits(row));
        rows.sort_by(|a, b| self.sort.order(a, b));
        rows
    }

    fn fits(&self, row: &Row) -> bool {
        let has = |text: &str| text.contains(&self.filter);
        has(&row.name) || has(&row.prog_type) || row.pids.iter().any(|h| has(&h.comm))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: u32, name: &str, cpu_percent: f64, missed: u64) -> Row {
        Row { id, name: name.into(), cpu_percent, missed, ..Row::default() }
    }

    #[test]
    fn rows_are_sorted_and_filtered() {
        let rows = || vec![row(1, "b", 0.5, 9), row(2, "a", 2.0, 0), row(3, "ab", 0.5, 0)];
        let ids = |sort, filter: &str| {
            let view = View::new(sort, filter.into());
            view.rows(rows()).iter().map(|r| r.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(Sort::Cpu, ""), [2, 1, 3]);
        assert_eq!(ids(Sort::Missed, ""), [1, 2, 3]);
        assert_eq!(ids(Sort::Name, ""), [2, 3, 1]);
        assert_eq!(ids(Sort::Id, "a"), [2, 3]);
        assert_eq!(ids(Sort::Runs, "nothing"), [0; 0]);
    }

    #[test]
    fn every_order_has_a_key_and_a_name_of_its_own() {
        use clap::ValueEnum as _;
        for sort in Sort::value_variants() {
            let own: Vec<_> = Sort::ALL.iter().filter(|(s, ..)| s == sort).collect();
            let [(_, key, name)] = own.as_slice() else { panic!("{sort:?}") };
            assert_eq!(Sort::ALL.iter().filter(|(_, k, n)| k == key || n == name).count(), 1);
        }
    }
}
