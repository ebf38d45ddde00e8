//! Map types, definitions, flags.

use std::fmt;

macro_rules! map_types {
    ($( $name:ident = $n:literal, $text:literal, $alias:literal; )+) => {
        impl MapType {
            $(
                #[doc = concat!("`", $alias, "`")]
                #[doc(alias = $alias)]
                pub const $name: Self = Self($n);
            )+

            /// Every map type in the table.
            pub const ALL: &[Self] = &[$( Self::$name, )+];

            /// bpftool's name, or `None` for a number outside the table.
            pub const fn name(self) -> Option<&'static str> {
                match self { $( Self::$name => Some($text), )+ _ => None }
            }
        }
    };
}

/// Kind of a map, `enum bpf_map_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapType(pub u32);

map_types! {
    UNSPEC = 0, "unspec", "BPF_MAP_TYPE_UNSPEC";
    HASH = 1, "hash", "BPF_MAP_TYPE_HASH";
    ARRAY = 2, "array", "BPF_MAP_TYPE_ARRAY";
    PROG_ARRAY = 3, "prog_array", "BPF_MAP_TYPE_PROG_ARRAY";
    PERF_EVENT_ARRAY = 4, "perf_event_array", "BPF_MAP_TYPE_PERF_EVENT_ARRAY";
    PERCPU_HASH = 5, "percpu_hash", "BPF_MAP_TYPE_PERCPU_HASH";
    PERCPU_ARRAY = 6, "percpu_array", "BPF_MAP_TYPE_PERCPU_ARRAY";
    STACK_TRACE = 7, "stack_trace", "BPF_MAP_TYPE_STACK_TRACE";
    CGROUP_ARRAY = 8, "cgroup_array", "BPF_MAP_TYPE_CGROUP_ARRAY";
    LRU_HASH = 9, "lru_hash", "BPF_MAP_TYPE_LRU_HASH";
    LRU_PERCPU_HASH = 10, "lru_percpu_hash", "BPF_MAP_TYPE_LRU_PERCPU_HASH";
    LPM_TRIE = 11, "lpm_trie", "BPF_MAP_TYPE_LPM_TRIE";
    ARRAY_OF_MAPS = 12, "array_of_maps", "BPF_MAP_TYPE_ARRAY_OF_MAPS";
    HASH_OF_MAPS = 13, "hash_of_maps", "BPF_MAP_TYPE_HASH_OF_MAPS";
    DEVMAP = 14, "devmap", "BPF_MAP_TYPE_DEVMAP";
    SOCKMAP = 15, "sockmap", "BPF_MAP_TYPE_SOCKMAP";
    CPUMAP = 16, "cpumap", "BPF_MAP_TYPE_CPUMAP";
    XSKMAP = 17, "xskmap", "BPF_MAP_TYPE_XSKMAP";
    SOCKHASH = 18, "sockhash", "BPF_MAP_TYPE_SOCKHASH";
    CGROUP_STORAGE = 19, "cgroup_storage", "BPF_MAP_TYPE_CGROUP_STORAGE";
    REUSEPORT_SOCKARRAY = 20, "reuseport_sockarray", "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY";
    PERCPU_CGROUP_STORAGE = 21, "percpu_cgroup_storage", "BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE";
    QUEUE = 22, "queue", "BPF_MAP_TYPE_QUEUE";
    STACK = 23, "stack", "BPF_MAP_TYPE_STACK";
    SK_STORAGE = 24, "sk_storage", "BPF_MAP_TYPE_SK_STORAGE";
    DEVMAP_HASH = 25, "devmap_hash", "BPF_MAP_TYPE_DEVMAP_HASH";
    STRUCT_OPS = 26, "struct_ops", "BPF_MAP_TYPE_STRUCT_OPS";
    RINGBUF = 27, "ringbuf", "BPF_MAP_TYPE_RINGBUF";
    INODE_STORAGE = 28, "inode_storage", "BPF_MAP_TYPE_INODE_STORAGE";
    TASK_STORAGE = 29, "task_storage", "BPF_MAP_TYPE_TASK_STORAGE";
    BLOOM_FILTER = 30, "bloom_filter", "BPF_MAP_TYPE_BLOOM_FILTER";
    USER_RINGBUF = 31, "user_ringbuf", "BPF_MAP_TYPE_USER_RINGBUF";
    CGRP_STORAGE = 32, "cgrp_storage", "BPF_MAP_TYPE_CGRP_STORAGE";
    ARENA = 33, "arena", "BPF_MAP_TYPE_ARENA";
}

impl MapType {
    /// Does each CPU have its own value?
    pub const fn is_percpu(self) -> bool {
        matches!(
            self,
            Self::PERCPU_HASH
                | Self::PERCPU_ARRAY
                | Self::LRU_PERCPU_HASH
                | Self::PERCPU_CGROUP_STORAGE
        )
    }

    /// Do the values name other maps?
    pub const fn is_map_in_map(self) -> bool {
        matches!(self, Self::ARRAY_OF_MAPS | Self::HASH_OF_MAPS)
    }
}

impl fmt::Display for MapType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "map type {}", self.0),
        }
    }
}

/// Creation flags of a map, `BPF_F_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MapFlags(pub u32);

impl MapFlags {
    /// Do not reserve memory for all entries of a hash at creation.
    #[doc(alias = "BPF_F_NO_PREALLOC")]
    pub const NO_PREALLOC: Self = Self(1 << 0);
    /// Each CPU has its own LRU list.
    #[doc(alias = "BPF_F_NO_COMMON_LRU")]
    pub const NO_COMMON_LRU: Self = Self(1 << 1);
    /// `numa_node` is set.
    #[doc(alias = "BPF_F_NUMA_NODE")]
    pub const NUMA_NODE: Self = Self(1 << 2);
    /// System calls may only read.
    #[doc(alias = "BPF_F_RDONLY")]
    pub const RDONLY: Self = Self(1 << 3);
    /// System calls may only write.
    #[doc(alias = "BPF_F_WRONLY")]
    pub const WRONLY: Self = Self(1 << 4);
    /// Programs may only read.
    #[doc(alias = "BPF_F_RDONLY_PROG")]
    pub const RDONLY_PROG: Self = Self(1 << 7);
    /// Programs may only write.
    #[doc(alias = "BPF_F_WRONLY_PROG")]
    pub const WRONLY_PROG: Self = Self(1 << 8);
    /// User space may map the values of an array.
    #[doc(alias = "BPF_F_MMAPABLE")]
    pub const MMAPABLE: Self = Self(1 << 10);
    /// The inner maps of an array of maps may differ in `max_entries`.
    #[doc(alias = "BPF_F_INNER_MAP")]
    pub const INNER_MAP: Self = Self(1 << 12);

    /// Are all of `other`'s bits set?
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With `other`'s bits set too.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Shape of a map, fixed at creation. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapDef {
    /// Kind.
    pub map_type: MapType,
    /// Key size in bytes.
    pub key_size: u32,
    /// Value size in bytes; of one CPU for per-CPU maps.
    pub value_size: u32,
    /// Most entries the map may hold; bytes for ring buffers.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: MapFlags,
    /// `map_extra`: number of hash functions of a bloom filter, address of an arena.
    pub extra: u64,
    /// NUMA node, with [`MapFlags::NUMA_NODE`].
    pub numa_node: u32,
}

impl MapDef {
    /// Fills in what loaders leave to the machine: a perf event array without a size has an entry
    /// per possible CPU, and a ring buffer's size becomes the next power of two of whole pages. A
    /// size that has none is left for the engine to refuse.
    #[must_use]
    pub fn for_machine(mut self, cpus: u32, page_bytes: u32) -> Self {
        match self.map_type {
            MapType::PERF_EVENT_ARRAY if self.max_entries == 0 => self.max_entries = cpus,
            MapType::RINGBUF | MapType::USER_RINGBUF if self.max_entries != 0 => {
                let pages = self.max_entries.max(page_bytes).checked_next_power_of_two();
                self.max_entries = pages.unwrap_or(self.max_entries);
            }
            _ => {}
        }
        self
    }
}

/// What `update` does when the key is or is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpdateMode {
    /// `BPF_ANY`: create or replace.
    #[default]
    Any,
    /// `BPF_NOEXIST`: create only.
    NoExist,
    /// `BPF_EXIST`: replace only.
    Exist,
}

impl UpdateMode {
    /// As the `flags` argument of `bpf(2)` and of the helpers.
    pub const fn flags(self) -> u64 {
        match self {
            Self::Any => 0,
            Self::NoExist => 1,
            Self::Exist => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_decides_sizes_that_loaders_leave_open() {
        let size = |map_type, max_entries| {
            let def = MapDef {
                map_type,
                key_size: 0,
                value_size: 0,
                max_entries,
                flags: MapFlags(0),
                extra: 0,
                numa_node: 0,
            };
            def.for_machine(3, 4096).max_entries
        };
        for (asked, want) in [(0, 0), (1, 4096), (4096, 4096), (5000, 8192), (u32::MAX, u32::MAX)] {
            assert_eq!(size(MapType::RINGBUF, asked), want, "{asked}");
            assert_eq!(size(MapType::USER_RINGBUF, asked), want, "{asked}");
            assert_eq!(size(MapType::HASH, asked), asked);
        }
        assert_eq!(size(MapType::PERF_EVENT_ARRAY, 0), 3);
        assert_eq!(size(MapType::PERF_EVENT_ARRAY, 8), 8);
    }

    #[test]
    fn map_types_are_numbered_without_gaps() {
        for (n, t) in (0..).zip(MapType::ALL) {
            assert_eq!(t.0, n, "{t}");
            assert!(t.name().is_some());
        }
    }
}
