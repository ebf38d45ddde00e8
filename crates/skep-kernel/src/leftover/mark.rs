//! How what outlives its process says whose it was.
//!
//! Filters and probes have a name, and their name says it. A program that hangs on a device or a
//! cgroup has 15 bytes of one: there the program holds a small map that says it, for as long as the
//! program lives (`BPF_PROG_BIND_MAP`, Linux 5.10). A structure of functions has nothing of its own
//! to say it with: one of its programs does, and says the structure's map, too.

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
/// Bytes of the map's value: number, start, namespace, and the map of the structure of functions
/// that the program is in, 0 for none.
const VALUE: u32 = 32;

/// What a program's map says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Who attached it.
    pub(super) process: Process,
    /// The map of the structure of functions that was attached.
    pub(super) structure: Option<u32>,
}

/// Marks by program.
pub(super) type Marked = BTreeMap<u32, Vec<Mark>>;

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
    mark_with(program, 0)
}

/// As [`mark()`], of a structure of functions: one of its programs, and the id of its map.
pub(crate) fn mark_structure(program: BorrowedFd<'_>, map: u32) -> Result<(), SysError> {
    mark_with(program, map)
}

fn mark_with(program: BorrowedFd<'_>, structure: u32) -> Result<(), SysError> {
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
    let words = [u64::from(pid), start, namespace, u64::from(structure)];
    let value: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let map = Map::create(MAP, def, None, None).map_err(|e| e.source)?;
    map.update(&[0; 4], &value, UpdateMode::Any).map_err(|e| e.source)?;
    match sys::prog_bind_map(program, map.as_fd()) {
        Err(e) if e.errno() == libc::EINVAL => Ok(()),
        done => done,
    }
}

/// What the marks of all programs say.
pub(super) fn marked() -> Result<Marked, SysError> {
    let mut maps = BTreeMap::new();
    for id in inspect::ids(Kind::Map)? {
        if let Some(mark) = of_map(id) {
            maps.insert(id, mark);
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

/// What a map says, if it is a mark.
fn of_map(id: u32) -> Option<Mark> {
    let map = inspect::open_map(id).ok()??;
    if map.name() != MAP || map.def().value_size != VALUE {
        return None;
    }
    let value = map.lookup_vec(&[0; 4]).ok()??;
    let &[pid, start, namespace, structure] = value.as_chunks().0 else { return None };
    let [pid, start, namespace, structure] =
        [pid, start, namespace, structure].map(u64::from_ne_bytes);
    let process = Process { pid: u32::try_from(pid).ok()?, start, namespace };
    let structure = u32::try_from(structure).ok()?;
    Some(Mark { process, structure: (structure != 0).then_some(structure) })
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
