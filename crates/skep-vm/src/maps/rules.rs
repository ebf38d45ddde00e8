//! What the kernel asks of a map definition, type by type.

use skep_abi::{MapDef, MapFlags, MapType};

use super::{MapError, error::ENOTSUPP, storage::round8};

/// Largest allocation of the kernel's slab allocator, `KMALLOC_MAX_SIZE`.
const KMALLOC_MAX: u64 = 4 << 20;
/// Largest per-CPU allocation, `PCPU_MIN_UNIT_SIZE`.
const PERCPU_MAX: u64 = 32 << 10;
/// Bytes that the kernel puts before the key of a hash element.
const HASH_HEADER: u64 = 48;
/// Bytes of the longest prefix an LPM trie stores.
const LPM_DATA_MAX: u64 = 256;
/// Bytes of the kernel's trie node without data.
const LPM_NODE: u64 = 24;
/// `BPF_F_ZERO_SEED`.
const ZERO_SEED: u32 = 1 << 6;
/// `BPF_F_PRESERVE_ELEMS`.
const PRESERVE_ELEMS: u32 = 1 << 11;

const RIGHTS_PROG: u32 = MapFlags::RDONLY_PROG.0 | MapFlags::WRONLY_PROG.0;
const RIGHTS_USER: u32 = MapFlags::RDONLY.0 | MapFlags::WRONLY.0;
const COMMON: u32 = MapFlags::NUMA_NODE.0 | RIGHTS_PROG | RIGHTS_USER;
const HASH_FLAGS: u32 = COMMON | MapFlags::NO_PREALLOC.0 | MapFlags::NO_COMMON_LRU.0 | ZERO_SEED;

/// What a size must be.
#[derive(Clone, Copy, Debug)]
enum Size {
    /// Exactly this.
    Is(u32),
    /// One of two.
    Either(u32, u32),
    /// At least this.
    AtLeast(u32),
    /// From and to, both included.
    Within(u32, u32),
}

impl Size {
    const fn holds(self, n: u32) -> bool {
        match self {
            Self::Is(m) => n == m,
            Self::Either(a, b) => n == a || n == b,
            Self::AtLeast(m) => n >= m,
            Self::Within(a, b) => n >= a && n <= b,
        }
    }
}

/// One map type's rules; breaking one is `EINVAL`.
#[derive(Clone, Copy, Debug)]
struct Rule {
    map_type: MapType,
    key: Size,
    value: Size,
    entries: Size,
    /// Flags that may be set.
    flags: u32,
}

const fn rule(map_type: MapType, key: Size, value: Size, entries: Size, flags: u32) -> Rule {
    Rule { map_type, key, value, entries, flags }
}

/// Every map type of the embedded engine.
#[rustfmt::skip] // one row per line
const RULES: &[Rule] = {
    use MapType as T;
    use Size::{AtLeast, Either, Is, Within};
    const SOME: Size = AtLeast(1);
    const FD: Size = Is(4);
    const MMAP: u32 = MapFlags::MMAPABLE.0;
    const INNER: u32 = MapFlags::INNER_MAP.0;
    const LAZY: u32 = MapFlags::NO_PREALLOC.0;
    &[
        rule(T::HASH,             SOME,          SOME,         SOME,   HASH_FLAGS),
        rule(T::ARRAY,            Is(4),         SOME,         SOME,   COMMON | MMAP | INNER),
        rule(T::PROG_ARRAY,       Is(4),         FD,           SOME,   COMMON & !RIGHTS_PROG),
        rule(T::PERF_EVENT_ARRAY, Is(4),         FD,           SOME,   (COMMON | PRESERVE_ELEMS) & !RIGHTS_PROG),
        rule(T::PERCPU_HASH,      SOME,          SOME,         SOME,   HASH_FLAGS),
        rule(T::PERCPU_ARRAY,     Is(4),         SOME,         SOME,   COMMON),
        rule(T::LRU_HASH,         SOME,          SOME,         SOME,   HASH_FLAGS),
        rule(T::LRU_PERCPU_HASH,  SOME,          SOME,         SOME,   HASH_FLAGS),
        rule(T::LPM_TRIE,         Within(5, 260), SOME,        SOME,   COMMON | LAZY),
        rule(T::ARRAY_OF_MAPS,    Is(4),         FD,           SOME,   COMMON & !RIGHTS_PROG),
        rule(T::HASH_OF_MAPS,     SOME,          FD,           SOME,   HASH_FLAGS),
        rule(T::DEVMAP,           Is(4),         Either(4, 8), SOME,   COMMON & !RIGHTS_PROG),
        rule(T::DEVMAP_HASH,      Is(4),         Either(4, 8), SOME,   COMMON & !RIGHTS_PROG),
        rule(T::CPUMAP,           Is(4),         Either(4, 8), SOME,   MapFlags::NUMA_NODE.0),
        rule(T::XSKMAP,           Is(4),         Is(4),        SOME,   MapFlags::NUMA_NODE.0 | RIGHTS_USER),
        rule(T::QUEUE,            Is(0),         SOME,         SOME,   COMMON),
        rule(T::STACK,            Is(0),         SOME,         SOME,   COMMON),
        rule(T::RINGBUF,          Is(0),         Is(0),        SOME,   MapFlags::NUMA_NODE.0),
        rule(T::BLOOM_FILTER,     Is(0),         SOME,         SOME,   COMMON | ZERO_SEED),
    ]
};

/// Checks `def` and fills in what the kernel rounds.
pub(super) fn check(def: MapDef, ncpus: u32) -> Result<MapDef, MapError> {
    let t = def.map_type;
    let rule =
        RULES.iter().find(|r| r.map_type == t).ok_or(MapError::NotInEngine { map_type: t })?;
    let bad = |field, found, expected, errno| MapError::Definition {
        map_type: t,
        field,
        found,
        expected,
        errno,
    };
    let flags = def.flags.0;
    let set = |bits: u32| flags & bits == bits;
    let invalid = |field, found: u32, expected| bad(field, found.into(), expected, libc::EINVAL);
    if flags & !rule.flags != 0 {
        return Err(invalid("map_flags", flags, "no flag that the type does not have"));
    }
    if set(RIGHTS_PROG) || set(RIGHTS_USER) {
        return Err(invalid("map_flags", flags, "not read-only and write-only at once"));
    }
    if def.extra & !0xf != 0 || (def.extra != 0 && t != MapType::BLOOM_FILTER) {
        return Err(bad(
            "map_extra",
            def.extra,
            "at most 15 hashes, bloom filters only",
            libc::EINVAL,
        ));
    }
    let lru = matches!(t, MapType::LRU_HASH | MapType::LRU_PERCPU_HASH);
    if set(MapFlags::NO_COMMON_LRU.0) && !lru {
        return Err(invalid("map_flags", flags, "BPF_F_NO_COMMON_LRU on LRU maps only"));
    }
    if lru && set(MapFlags::NO_PREALLOC.0) {
        return Err(bad("map_flags", flags.into(), "no BPF_F_NO_PREALLOC on LRU maps", ENOTSUPP));
    }
    if t == MapType::LPM_TRIE && !set(MapFlags::NO_PREALLOC.0) {
        return Err(invalid("map_flags", flags, "BPF_F_NO_PREALLOC"));
    }
    if set(MapFlags::NUMA_NODE.0) && (t.is_percpu() || set(MapFlags::NO_COMMON_LRU.0)) {
        return Err(invalid("map_flags", flags, "no BPF_F_NUMA_NODE on per-CPU maps"));
    }
    if !rule.key.holds(def.key_size) {
        return Err(invalid("key_size", def.key_size, size_text(rule.key)));
    }
    if !rule.value.holds(def.value_size) {
        return Err(invalid("value_size", def.value_size, size_text(rule.value)));
    }
    if !rule.entries.holds(def.max_entries) {
        return Err(invalid("max_entries", def.max_entries, size_text(rule.entries)));
    }
    let (value, limit) = value_limit(&def);
    if value > limit {
        let errno = if t == MapType::LPM_TRIE { libc::EINVAL } else { libc::E2BIG };
        return Err(bad("value_size", def.value_size.into(), "less (kernel's limit)", errno));
    }
    if t == MapType::RINGBUF && !(def.max_entries.is_power_of_two() && def.max_entries >= 4096) {
        return Err(invalid("max_entries", def.max_entries, "a power of two and whole pages"));
    }
    if t == MapType::CPUMAP && def.max_entries > 8192 {
        return Err(bad("max_entries", def.max_entries.into(), "no more than CPUs", libc::E2BIG));
    }
    let mut def = def;
    if matches!(t, MapType::DEVMAP | MapType::DEVMAP_HASH) {
        def.flags = def.flags.with(MapFlags::RDONLY_PROG);
    }
    if set(MapFlags::NO_COMMON_LRU.0) {
        let whole = def.max_entries.checked_next_multiple_of(ncpus);
        def.max_entries = whole.unwrap_or(def.max_entries - def.max_entries % ncpus);
    }
    Ok(def)
}

/// What the kernel limits, and to how much: `E2BIG` above.
fn value_limit(def: &MapDef) -> (u64, u64) {
    let value = u64::from(def.value_size);
    match def.map_type {
        t if t.is_percpu() => (round8(def.value_size as usize) as u64, PERCPU_MAX),
        MapType::HASH | MapType::LRU_HASH | MapType::HASH_OF_MAPS => {
            (u64::from(def.key_size) + value, KMALLOC_MAX - HASH_HEADER - 1)
        }
        MapType::LPM_TRIE => (value, KMALLOC_MAX - LPM_DATA_MAX - LPM_NODE),
        MapType::QUEUE | MapType::STACK => (value, KMALLOC_MAX),
        _ => (value, i32::MAX as u64),
    }
}

const fn size_text(size: Size) -> &'static str {
    match size {
        Size::Is(0) => "0",
        Size::Is(4) => "4",
        Size::Is(_) => "the size of the type",
        Size::Either(..) => "4 or 8",
        Size::AtLeast(_) => "at least 1",
        Size::Within(..) => "5 to 260",
    }
}
