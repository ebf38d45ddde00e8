//! Names of the functions that rewritten calls go to.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{BufRead as _, BufReader},
};

/// What calls to helpers and kernel functions are counted from, once the verifier has rewritten
/// them.
const BASE: &str = "__bpf_call_base";

/// Names by the distance from the base that a call carries. Empty when the kernel hides its
/// addresses.
#[derive(Debug, Default)]
pub(super) struct Calls(HashMap<i32, String>);

impl Calls {
    /// Looks for these distances in `/proc/kallsyms`.
    pub(super) fn find(wanted: &BTreeSet<i32>) -> Self {
        if wanted.is_empty() {
            return Self::default();
        }
        Self::read(wanted).unwrap_or_default()
    }

    fn read(wanted: &BTreeSet<i32>) -> Option<Self> {
        let base = lines()?.find_map(|(at, name)| (name == BASE).then_some(at))?;
        let found = lines()?.filter_map(|(at, name)| {
            let distance = i32::try_from(at.wrapping_sub(base).cast_signed()).ok()?;
            wanted.contains(&distance).then_some((distance, name))
        });
        // An address of 0 is one that this process may not see.
        (base != 0).then(|| Self(found.collect()))
    }

    pub(super) fn name(&self, distance: i32) -> Option<&str> {
        self.0.get(&distance).map(String::as_str)
    }
}

fn lines() -> Option<impl Iterator<Item = (u64, String)>> {
    let file = BufReader::with_capacity(1 << 16, File::open("/proc/kallsyms").ok()?);
    Some(file.lines().map_while(Result::ok).filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let at = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((at, words.nth(1)?.to_owned()))
    }))
}
