//! Which maps the embedded engine makes, and what creation fills in.

use skep_abi::{MapDef, MapFlags, MapType};

use super::MapError;

/// Page of the machine whose rules are followed.
const PAGE_BYTES: u32 = 4096;
/// The most CPUs that Debian's kernels have, and entries of a CPU map.
const MOST_CPUS: u32 = 8192;

/// Every map type of the embedded engine.
const TYPES: &[MapType] = &[
    MapType::HASH,
    MapType::ARRAY,
    MapType::PROG_ARRAY,
    MapType::PERF_EVENT_ARRAY,
    MapType::PERCPU_HASH,
    MapType::PERCPU_ARRAY,
    MapType::LRU_HASH,
    MapType::LRU_PERCPU_HASH,
    MapType::LPM_TRIE,
    MapType::ARRAY_OF_MAPS,
    MapType::HASH_OF_MAPS,
    MapType::DEVMAP,
    MapType::DEVMAP_HASH,
    MapType::CPUMAP,
    MapType::XSKMAP,
    MapType::QUEUE,
    MapType::STACK,
    MapType::RINGBUF,
    MapType::BLOOM_FILTER,
];

/// Checks `def` by the kernel's rules and fills in what the kernel rounds.
pub(super) fn check(def: MapDef, ncpus: u32) -> Result<MapDef, MapError> {
    let t = def.map_type;
    if !TYPES.contains(&t) {
        return Err(MapError::NotInEngine { map_type: t });
    }
    def.check(PAGE_BYTES).map_err(|broken| MapError::Definition {
        map_type: t,
        field: broken.field,
        found: broken.found,
        expected: broken.expected,
        errno: broken.errno,
    })?;
    let bad = |field, found: u32, expected: &'static str, errno| MapError::Definition {
        map_type: t,
        field,
        found: found.into(),
        expected: expected.into(),
        errno,
    };
    if def.flags.contains(MapFlags::RB_OVERWRITE) {
        return Err(bad("map_flags", def.flags.0, "no rb_overwrite", libc::EINVAL));
    }
    if t == MapType::CPUMAP && def.max_entries > MOST_CPUS {
        return Err(bad("max_entries", def.max_entries, "no more than CPUs", libc::E2BIG));
    }
    let mut def = def;
    if matches!(t, MapType::DEVMAP | MapType::DEVMAP_HASH) {
        def.flags = def.flags.with(MapFlags::RDONLY_PROG);
    }
    if def.flags.contains(MapFlags::NO_COMMON_LRU) {
        let whole = def.max_entries.checked_next_multiple_of(ncpus);
        def.max_entries = whole.unwrap_or(def.max_entries - def.max_entries % ncpus);
    }
    Ok(def)
}
