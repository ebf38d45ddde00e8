//! What the kernel asks of a new map, type by type.
//!
//! From the `map_alloc_check` functions below `kernel/bpf` and `net` of Linux 7.2. Limits that
//! depend on the kernel's configuration are left to the kernel.

use std::fmt;

use crate::{MapDef, MapFlags, MapType};

const EINVAL: i32 = 22;
const E2BIG: i32 = 7;
/// The kernel's own, of no C library.
const ENOTSUPP: i32 = 524;

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
/// Bytes of an arena that the kernel takes: 32 bits of address.
const ARENA_MAX: u64 = 1 << 32;
/// Bytes of the largest stack, and of a socket hash's largest key.
const STACK_BYTES: u64 = 512;

/// What a size or a number of entries must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Size {
    /// One of these.
    Is(&'static [u32]),
    /// At least this.
    AtLeast(u32),
    /// From and to, both included.
    Within(u32, u32),
    /// A multiple of this, not 0.
    MultipleOf(u32),
    /// A power of two of whole pages, in bytes.
    Pages,
}

impl Size {
    fn holds(self, n: u32, page_bytes: u32) -> bool {
        match self {
            Self::Is(all) => all.contains(&n),
            Self::AtLeast(least) => n >= least,
            Self::Within(least, most) => (least..=most).contains(&n),
            Self::MultipleOf(of) => n != 0 && n.is_multiple_of(of),
            Self::Pages => n.is_power_of_two() && n >= page_bytes,
        }
    }

    fn least(self, page_bytes: u32) -> u32 {
        match self {
            Self::Is(all) => all.first().copied().unwrap_or(0),
            Self::AtLeast(n) | Self::Within(n, _) | Self::MultipleOf(n) => n,
            Self::Pages => page_bytes,
        }
    }

    /// The only number that fits, where there is one.
    pub const fn only(self) -> Option<u32> {
        match self {
            Self::Is(&[one]) => Some(one),
            _ => None,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(all) => {
                let words: Vec<String> = all.iter().map(u32::to_string).collect();
                f.write_str(&words.join(" or "))
            }
            Self::AtLeast(least) => write!(f, "at least {least}"),
            Self::Within(least, most) => write!(f, "{least} to {most}"),
            Self::MultipleOf(of) => write!(f, "a multiple of {of}"),
            Self::Pages => f.write_str("a power of two, in bytes, of whole pages"),
        }
    }
}

/// What a map needs beside its definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapNeeds {
    /// Nothing.
    Nothing,
    /// A map that says what its inner maps look like.
    Inner,
    /// BTF types of key and value.
    Types,
    /// A type of the kernel's own BTF for the value.
    KernelType,
}

/// What the kernel asks of a new map of one type.
#[derive(Clone, Copy, Debug)]
pub struct MapRule {
    /// The type.
    pub map_type: MapType,
    /// Bytes of a key.
    pub key: Size,
    /// Bytes of a value, of one CPU.
    pub value: Size,
    /// `max_entries`.
    pub entries: Size,
    /// Flags that must be set.
    pub required: MapFlags,
    /// Flags that may be set, with those that must.
    pub flags: MapFlags,
    /// What else it takes.
    pub needs: MapNeeds,
}

const RIGHTS_PROG: u32 = MapFlags::RDONLY_PROG.0 | MapFlags::WRONLY_PROG.0;
const RIGHTS_USER: u32 = MapFlags::RDONLY.0 | MapFlags::WRONLY.0;
const NUMA: u32 = MapFlags::NUMA_NODE.0;
/// Flags of most types.
const COMMON: u32 = NUMA | RIGHTS_PROG | RIGHTS_USER;
/// Those of maps whose values are no memory of programs.
const NO_PROG: u32 = NUMA | RIGHTS_USER;
const LAZY: u32 = MapFlags::NO_PREALLOC.0;
const HASH: u32 = COMMON | LAZY | MapFlags::NO_COMMON_LRU.0 | MapFlags::ZERO_SEED.0;
const STORAGE: u32 = LAZY | MapFlags::CLONE.0;
const ARRAY: u32 = COMMON | MapFlags::MMAPABLE.0 | MapFlags::INNER_MAP.0;
const PERF: u32 = NO_PROG | MapFlags::PRESERVE_ELEMS.0;
const STACKS: u32 = NO_PROG | MapFlags::STACK_BUILD_ID.0;
const BLOOM: u32 = COMMON | MapFlags::ZERO_SEED.0;
const OPS: u32 = MapFlags::LINK.0 | MapFlags::VTYPE_BTF_OBJ_FD.0;
const RING: u32 = NUMA | MapFlags::RB_OVERWRITE.0;
const MMAP: u32 = MapFlags::MMAPABLE.0;
const ARENA: u32 = MMAP | MapFlags::SEGV_ON_FAULT.0 | MapFlags::NO_USER_CONV.0;

const NONE: Size = Size::Is(&[0]);
const SOME: Size = Size::AtLeast(1);
/// A number of an array's entry, and a descriptor.
const INT: Size = Size::Is(&[4]);
const INT_OR_LONG: Size = Size::Is(&[4, 8]);

macro_rules! rules {
    ($( $name:ident: $key:expr, $value:expr, $entries:expr, $required:expr, $flags:expr, $needs:ident; )+) => {
        const RULES: &[MapRule] = &[$(
            MapRule {
                map_type: MapType::$name,
                key: $key,
                value: $value,
                entries: $entries,
                required: MapFlags($required),
                flags: MapFlags($flags),
                needs: MapNeeds::$needs,
            },
        )+];
    };
}

#[rustfmt::skip] // one row per line
rules! {
    HASH:                  SOME, SOME, SOME, 0, HASH, Nothing;
    ARRAY:                 INT, SOME, SOME, 0, ARRAY, Nothing;
    PROG_ARRAY:            INT, INT, SOME, 0, NO_PROG, Nothing;
    PERF_EVENT_ARRAY:      INT, INT, SOME, 0, PERF, Nothing;
    PERCPU_HASH:           SOME, SOME, SOME, 0, HASH, Nothing;
    PERCPU_ARRAY:          INT, SOME, SOME, 0, COMMON, Nothing;
    STACK_TRACE:           INT, Size::MultipleOf(8), SOME, 0, STACKS, Nothing;
    CGROUP_ARRAY:          INT, INT, SOME, 0, NO_PROG, Nothing;
    LRU_HASH:              SOME, SOME, SOME, 0, HASH, Nothing;
    LRU_PERCPU_HASH:       SOME, SOME, SOME, 0, HASH, Nothing;
    LPM_TRIE:              Size::Within(5, 260), SOME, SOME, LAZY, COMMON | LAZY, Nothing;
    ARRAY_OF_MAPS:         INT, INT, SOME, 0, NO_PROG, Inner;
    HASH_OF_MAPS:          SOME, INT, SOME, 0, HASH, Inner;
    DEVMAP:                INT, INT_OR_LONG, SOME, 0, NO_PROG, Nothing;
    SOCKMAP:               INT, INT_OR_LONG, SOME, 0, NO_PROG, Nothing;
    CPUMAP:                INT, INT_OR_LONG, SOME, 0, NUMA, Nothing;
    XSKMAP:                INT, INT, SOME, 0, NO_PROG, Nothing;
    SOCKHASH:              SOME, INT_OR_LONG, SOME, 0, NO_PROG, Nothing;
    CGROUP_STORAGE:        Size::Is(&[8, 16]), SOME, NONE, 0, COMMON, Nothing;
    REUSEPORT_SOCKARRAY:   INT, INT_OR_LONG, SOME, 0, COMMON, Nothing;
    PERCPU_CGROUP_STORAGE: Size::Is(&[8, 16]), SOME, NONE, 0, COMMON, Nothing;
    QUEUE:                 NONE, SOME, SOME, 0, COMMON, Nothing;
    STACK:                 NONE, SOME, SOME, 0, COMMON, Nothing;
    SK_STORAGE:            INT, SOME, NONE, LAZY, STORAGE, Types;
    DEVMAP_HASH:           INT, INT_OR_LONG, SOME, 0, NO_PROG, Nothing;
    STRUCT_OPS:            INT, SOME, Size::Is(&[1]), 0, OPS, KernelType;
    RINGBUF:               NONE, NONE, Size::Pages, 0, RING, Nothing;
    INODE_STORAGE:         INT, SOME, NONE, LAZY, STORAGE, Types;
    TASK_STORAGE:          INT, SOME, NONE, LAZY, STORAGE, Types;
    BLOOM_FILTER:          NONE, SOME, SOME, 0, BLOOM, Nothing;
    USER_RINGBUF:          NONE, NONE, Size::Pages, 0, NUMA, Nothing;
    CGRP_STORAGE:          INT, SOME, NONE, LAZY, STORAGE, Types;
    ARENA:                 NONE, NONE, SOME, MMAP, ARENA, Nothing;
    INSN_ARRAY:            INT, Size::Is(&[16]), SOME, 0, 0, Nothing;
    RHASH:                 Size::Within(1, 0xffff), SOME, SOME, LAZY, COMMON | LAZY, Nothing;
}

impl MapRule {
    /// The rules of a type; none for a number outside the table.
    pub fn of(map_type: MapType) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.map_type == map_type)
    }

    /// The smallest map of this type.
    pub fn smallest(&self, page_bytes: u32) -> MapDef {
        MapDef {
            map_type: self.map_type,
            key_size: self.key.least(page_bytes),
            value_size: self.value.least(page_bytes),
            max_entries: self.entries.least(page_bytes),
            flags: self.required,
            extra: 0,
            numa_node: 0,
        }
    }
}

/// What a field of a definition must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// A number.
    Size(Size),
    /// No other flags than these.
    NoneBut(MapFlags),
    /// These flags and maybe others.
    With(MapFlags),
    /// In words.
    Words(&'static str),
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => write!(f, "{size}"),
            Self::NoneBut(MapFlags(0)) => f.write_str("none"),
            Self::NoneBut(flags) => write!(f, "none but {flags}"),
            Self::With(flags) => write!(f, "{flags} among them"),
            Self::Words(words) => f.write_str(words),
        }
    }
}

impl From<&'static str> for Expected {
    fn from(words: &'static str) -> Self {
        Self::Words(words)
    }
}

/// The rule of the kernel that a definition breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRule {
    /// The type.
    pub map_type: MapType,
    /// The field: `key_size`, `value_size`, `max_entries`, `map_flags`, `map_extra`.
    pub field: &'static str,
    /// What it is.
    pub found: u64,
    /// What it must be.
    pub expected: Expected,
    /// What the kernel would say.
    pub errno: i32,
}

impl fmt::Display for BrokenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { map_type, field, expected, .. } = self;
        write!(f, "{map_type} map: {field} is ")?;
        match *field {
            "map_flags" => {
                let flags = MapFlags(u32::try_from(self.found).unwrap_or(u32::MAX));
                write!(f, "{flags}")?;
            }
            "map_extra" => write!(f, "{:#x}", self.found)?,
            _ => write!(f, "{}", self.found)?,
        }
        write!(f, ", expected {expected}")
    }
}

impl std::error::Error for BrokenRule {}

impl MapDef {
    /// Would the kernel's rules for the type allow this map? What a newer kernel brings, and a
    /// type that is not in the table, is left to the kernel.
    ///
    /// # Errors
    ///
    /// The first rule that is broken.
    pub fn check(&self, page_bytes: u32) -> Result<(), BrokenRule> {
        let Some(rule) = MapRule::of(self.map_type) else { return Ok(()) };
        // The kernel looks at this one before the type does, unless the type has a use for it.
        let extra =
            matches!(self.map_type, MapType::BLOOM_FILTER | MapType::ARENA | MapType::RHASH);
        if !extra {
            self.check_extra(page_bytes)?;
        }
        self.check_flags(rule)?;
        for (field, found, size) in [
            ("key_size", self.key_size, rule.key),
            ("value_size", self.value_size, rule.value),
            ("max_entries", self.max_entries, rule.entries),
        ] {
            if !size.holds(found, page_bytes) {
                // The kernel looks at this one as a limit.
                let long = self.map_type == MapType::RHASH && field == "key_size" && found != 0;
                let errno = if long { E2BIG } else { EINVAL };
                return Err(self.broken(field, found.into(), Expected::Size(size), errno));
            }
        }
        self.check_extra(page_bytes)?;
        self.check_limit(page_bytes)
    }

    fn check_flags(&self, rule: &MapRule) -> Result<(), BrokenRule> {
        let set = |flag: MapFlags| self.flags.contains(flag);
        let broken =
            |expected, errno| Err(self.broken("map_flags", self.flags.0.into(), expected, errno));
        let bad = |words, errno| broken(Expected::Words(words), errno);
        // The token is taken before the type looks.
        let flags = self.flags.0 & !MapFlags::TOKEN_FD.0;
        if flags & !rule.flags.0 != 0 {
            return broken(Expected::NoneBut(rule.flags), EINVAL);
        }
        if !set(rule.required) {
            return broken(Expected::With(rule.required), EINVAL);
        }
        if set(MapFlags(RIGHTS_PROG)) || set(MapFlags(RIGHTS_USER)) {
            return bad("not read-only and write-only at once", EINVAL);
        }
        let lru = matches!(self.map_type, MapType::LRU_HASH | MapType::LRU_PERCPU_HASH);
        if set(MapFlags::NO_COMMON_LRU) && !lru {
            return bad("no_common_lru on LRU maps only", EINVAL);
        }
        if set(MapFlags::NO_PREALLOC) && lru {
            return bad("no no_prealloc on LRU maps", ENOTSUPP);
        }
        // The kernel does not look here for the last one.
        let per_cpu = (self.map_type.is_percpu() || set(MapFlags::NO_COMMON_LRU))
            && self.map_type != MapType::PERCPU_CGROUP_STORAGE;
        if set(MapFlags::NUMA_NODE) && per_cpu {
            return bad("no numa_node on per-CPU maps", EINVAL);
        }
        Ok(())
    }

    fn check_extra(&self, page_bytes: u32) -> Result<(), BrokenRule> {
        let bad =
            |words, errno| Err(self.broken("map_extra", self.extra, Expected::Words(words), errno));
        match self.map_type {
            MapType::BLOOM_FILTER if self.extra > 0xf => {
                bad("the number of hash functions, at most 15", EINVAL)
            }
            MapType::ARENA if !self.extra.is_multiple_of(page_bytes.max(1).into()) => {
                bad("the address of a page", EINVAL)
            }
            MapType::RHASH if self.extra > u64::from(self.max_entries) => {
                bad("a first size of no more than max_entries", EINVAL)
            }
            MapType::RHASH if self.extra > 0xffff => bad("at most 65535", E2BIG),
            MapType::BLOOM_FILTER | MapType::ARENA | MapType::RHASH => Ok(()),
            _ if self.extra != 0 => bad("0", EINVAL),
            _ => Ok(()),
        }
    }

    /// What the kernel limits, and to how much.
    fn check_limit(&self, page_bytes: u32) -> Result<(), BrokenRule> {
        let (key, value) = (u64::from(self.key_size), u64::from(self.value_size));
        let per_cpu = value.next_multiple_of(8);
        let bytes = u64::from(self.max_entries) * u64::from(page_bytes);
        let (field, found, size, most, errno) = match self.map_type {
            MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => {
                ("value_size", value, value, page_bytes.into(), E2BIG)
            }
            t if t.is_percpu() => ("value_size", value, per_cpu, PERCPU_MAX, E2BIG),
            MapType::HASH | MapType::LRU_HASH | MapType::HASH_OF_MAPS | MapType::RHASH => {
                ("value_size", value, key + value, KMALLOC_MAX - HASH_HEADER - 1, E2BIG)
            }
            MapType::LPM_TRIE => {
                ("value_size", value, value, KMALLOC_MAX - LPM_DATA_MAX - LPM_NODE, EINVAL)
            }
            MapType::QUEUE | MapType::STACK => ("value_size", value, value, KMALLOC_MAX, E2BIG),
            MapType::SOCKHASH => ("key_size", key, key, STACK_BYTES, E2BIG),
            MapType::ARENA => ("max_entries", self.max_entries.into(), bytes, ARENA_MAX, E2BIG),
            _ => ("value_size", value, value, i32::MAX as u64, E2BIG),
        };
        if size <= most {
            return Ok(());
        }
        Err(self.broken(field, found, Expected::Words("less (the kernel's limit)"), errno))
    }

    fn broken(
        &self,
        field: &'static str,
        found: u64,
        expected: Expected,
        errno: i32,
    ) -> BrokenRule {
        BrokenRule { map_type: self.map_type, field, found, expected, errno }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(map_type: MapType, sizes: [u32; 3], flags: MapFlags) -> MapDef {
        let [key_size, value_size, max_entries] = sizes;
        MapDef { map_type, key_size, value_size, max_entries, flags, extra: 0, numa_node: 0 }
    }

    #[test]
    fn every_type_has_its_rules() {
        for t in MapType::ALL.iter().filter(|&&t| t != MapType::UNSPEC) {
            let rule = MapRule::of(*t).unwrap_or_else(|| panic!("{t} has no row"));
            assert!(rule.flags.contains(rule.required), "{t}");
            assert_eq!(rule.smallest(4096).check(4096), Ok(()), "{t}");
        }
        assert_eq!(RULES.len(), MapType::ALL.len() - 1);
    }

    #[test]
    fn a_broken_rule_says_which_field_and_what_was_expected() {
        let none = MapFlags(0);
        let cases = [
            (def(MapType::HASH, [4, 4, 1], none), None),
            (def(MapType::ARRAY, [8, 4, 1], none), Some("array map: key_size is 8, expected 4")),
            (
                def(MapType::LPM_TRIE, [8, 4, 1], none),
                Some("lpm_trie map: map_flags is none, expected no_prealloc among them"),
            ),
            (
                def(MapType::CPUMAP, [4, 4, 1], MapFlags::MMAPABLE),
                Some("cpumap map: map_flags is mmapable, expected none but numa_node"),
            ),
            (
                def(MapType::RINGBUF, [0, 0, 5000], none),
                Some(
                    "ringbuf map: max_entries is 5000, expected a power of two, in bytes, of \
                     whole pages",
                ),
            ),
            (
                def(MapType::DEVMAP, [4, 5, 1], none),
                Some("devmap map: value_size is 5, expected 4 or 8"),
            ),
        ];
        for (def, want) in cases {
            let got = def.check(4096).map_err(|e| e.to_string());
            assert_eq!(got.err().as_deref(), want, "{def:?}");
        }
    }

    #[test]
    fn limits_are_told_from_wrong_values() {
        let big = def(MapType::PERCPU_ARRAY, [4, 40_000, 1], MapFlags(0));
        assert_eq!(big.check(4096).unwrap_err().errno, E2BIG);
        let lru = def(MapType::LRU_HASH, [4, 4, 1], MapFlags::NO_PREALLOC);
        assert_eq!(lru.check(4096).unwrap_err().errno, ENOTSUPP);
        let mut arena = def(MapType::ARENA, [0, 0, 1 << 21], MapFlags::MMAPABLE);
        assert_eq!(arena.check(4096).unwrap_err().field, "max_entries");
        (arena.max_entries, arena.extra) = (1, 7);
        assert_eq!(arena.check(4096).unwrap_err().field, "map_extra");
    }
}
