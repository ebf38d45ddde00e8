//! Everything that is loaded, and who holds it, at one time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use skep::{
    abi::MapType,
    kernel::{
        SysError,
        inspect::{
            self, EventProgram, Kind, LinkInfo, MapInfo, NetProgram, Owner, ProgramInfo,
            event_programs, on_cgroup, on_interfaces, on_netns,
        },
    },
};

use crate::cmd::manage::rights;

/// Everything that can be seen. What vanishes meanwhile is left out.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) programs: BTreeMap<u32, ProgramInfo>,
    pub(super) maps: BTreeMap<u32, MapInfo>,
    pub(super) links: BTreeMap<u32, LinkInfo>,
    /// By process: its name, and what it holds by descriptors.
    pub(super) processes: BTreeMap<u32, (String, BTreeSet<(Kind, u32)>)>,
    pub(super) events: Vec<EventProgram>,
    pub(super) pins: BTreeMap<PathBuf, (Kind, u32)>,
    /// Programs at hooks of cgroups, interfaces, and this network namespace.
    pub(super) hooks: Vec<NetProgram>,
    /// Programs and maps that are values of maps: the map, the object.
    pub(super) values: Vec<(u32, (Kind, u32))>,
}

impl Snapshot {
    pub(super) fn take() -> anyhow::Result<Self> {
        let mut all = Self {
            programs: everything(Kind::Program, "programs", inspect::program)?,
            maps: everything(Kind::Map, "maps", inspect::map)?,
            links: everything(Kind::Link, "links", inspect::link)?,
            // What may not be asked leaves its objects without a holder.
            events: event_programs().unwrap_or_default(),
            ..Self::default()
        };
        for (object, owners) in inspect::owners() {
            for Owner { pid, comm } in owners {
                let (_, held) = all.processes.entry(pid).or_insert((comm, BTreeSet::new()));
                held.insert(object);
            }
        }
        for (object, paths) in inspect::pins() {
            all.pins.extend(paths.into_iter().map(|path| (path, object)));
        }
        all.hooks.extend(on_interfaces(None).unwrap_or_default());
        all.hooks.extend(on_netns().unwrap_or_default());
        for cgroup in inspect::cgroups() {
            all.hooks.extend(on_cgroup(&cgroup, false).unwrap_or_default());
        }
        for (&id, info) in &all.maps {
            let kind = match info.map_type {
                MapType::PROG_ARRAY => Kind::Program,
                t if t.is_map_in_map() => Kind::Map,
                _ => continue,
            };
            all.values.extend(values(id).into_iter().map(|value| (id, (kind, value))));
        }
        Ok(all)
    }
}

/// All objects of a kind by their ids.
fn everything<T>(
    kind: Kind,
    what: &str,
    one: impl Fn(u32) -> Result<Option<T>, SysError>,
) -> anyhow::Result<BTreeMap<u32, T>> {
    let what = format!("listing {what}");
    let mut found = BTreeMap::new();
    for id in rights(&what, inspect::ids(kind))? {
        if let Some(info) = rights(&what, one(id))? {
            found.insert(id, info);
        }
    }
    Ok(found)
}

/// Most entries of one map that are looked at.
const MOST_ENTRIES: usize = 4096;

/// Ids of the objects that a map holds.
fn values(map: u32) -> Vec<u32> {
    let Ok(Some(map)) = inspect::open_map(map) else { return Vec::new() };
    let keys = map.keys().take(MOST_ENTRIES).map_while(Result::ok);
    let value = |key: Vec<u8>| {
        let bytes = map.lookup_vec(&key).ok()??;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    keys.filter_map(value).collect()
}
