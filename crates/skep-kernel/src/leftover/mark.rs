//! How what outlives its process says whose it was.
//!
//! Filters and probes have a name, and their name says it. A program that hangs on a device or a
//! cgroup has 15 bytes of one: there the program holds a small map that says it, for as long as the
//! program lives (`BPF_PROG_BIND_MAP`, Linux 5.10).

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, BorrowedFd},
};

use skep_abi::{MapDef, MapFlags, MapType, UpdateMode};

use super::Process;
use crate::{
    inspect::{self, Kind},
    map::Map,
    sys::{self, SysError},
};

/// What begins the name of a filter.
const PREFIX: &str = "skep:";
/// Stands behind the process when this process made the qdisc, too.
const QDISC: &str = "+qdisc";
/// What a program's map is called.
const MAP: &str = "skep_owner";
/// Bytes of the map's value: number, start, namespace.
const VALUE: u32 = 24;

/// The name of a filter of this process: `skep:PID_START_NAMESPACE:PROGRAM`.
pub(crate) fn filter_name(program: &str, made_qdisc: bool) -> String {
    let qdisc = if made_qdisc { QDISC } else { "" };
    format!("{PREFIX}{}{qdisc}:{program}", Process::own())
}

/// Whose filter has this name, if it is one of skep's, and whether its process made the qdisc.
pub(crate) fn of_filter_name(name: &str) -> Option<(Process, bool)> {
    let (process, _) = name.strip_prefix(PREFIX)?.split_once(':')?;
    let (process, made_qdisc) = match process.strip_suffix(QDISC) {
        Some(process) => (process, true),
        None => (process, false),
    };
    Some((process.parse().ok()?, made_qdisc))
}

/// Makes a program say whose it is. A kernel that cannot is no error.
#[doc(alias = "BPF_PROG_BIND_MAP")]
pub(crate) fn mark(program: BorrowedFd<'_>) -> Result<(), SysError> {
    let def = MapDef {
        map_type: MapType::ARRAY,
        key_size: 4,
        value_size: VALUE,
        max_entries: 1,
        flags: MapFlags(0),
        extra: 0,
        numa_node: 0,
    };
    let Process { pid, start, namespace } = Process::own();
    let words = [u64::from(pid), start, namespace];
    let value: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let map = Map::create(MAP, def, None, None).map_err(|e| e.source)?;
    map.update(&[0; 4], &value, UpdateMode::Any).map_err(|e| e.source)?;
    match sys::prog_bind_map(program, map.as_fd()) {
        Err(e) if e.errno() == libc::EINVAL => Ok(()),
        done => done,
    }
}

/// The processes that marked a program, by program.
pub(super) fn marked() -> Result<BTreeMap<u32, Vec<Process>>, SysError> {
    let mut maps = BTreeMap::new();
    for id in inspect::ids(Kind::Map)? {
        if let Some(process) = of_map(id) {
            maps.insert(id, process);
        }
    }
    let mut found = BTreeMap::new();
    if maps.is_empty() {
        return Ok(found);
    }
    for id in inspect::ids(Kind::Program)? {
        let Ok(Some(program)) = inspect::program(id) else { continue };
        let marks: Vec<_> =
            program.map_ids.iter().filter_map(|map| maps.get(map).copied()).collect();
        if !marks.is_empty() {
            found.insert(id, marks);
        }
    }
    Ok(found)
}

/// Whose mark a map is, if it is one.
fn of_map(id: u32) -> Option<Process> {
    let map = inspect::open_map(id).ok()??;
    if map.name() != MAP || map.def().value_size != VALUE {
        return None;
    }
    let value = map.lookup_vec(&[0; 4]).ok()??;
    let &[pid, start, namespace] = value.as_chunks().0 else { return None };
    let [pid, start, namespace] = [pid, start, namespace].map(u64::from_ne_bytes);
    Some(Process { pid: u32::try_from(pid).ok()?, start, namespace })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_filters_say_whose_they_are() {
        for made_qdisc in [false, true] {
            let name = filter_name("a:b", made_qdisc);
            assert_eq!(of_filter_name(&name), Some((Process::own(), made_qdisc)), "{name}");
        }
        for name in ["", "skep", "skep:", "skep:x", "cls:1_2_3:x", "skep:1_2:x", "skepper:1_2_3:x"]
        {
            assert_eq!(of_filter_name(name), None, "{name}");
        }
    }
}
