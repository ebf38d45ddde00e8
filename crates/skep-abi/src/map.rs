//! Map types, definitions, flags.

use std::fmt;

use crate::prog::{Release, release};

macro_rules! map_types {
    ($( $name:ident = $n:literal, $text:literal, $alias:literal, $since:tt; )+) => {
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

            /// First kernel release that has it, where known.
            pub const fn since(self) -> Option<Release> {
                match self { $( Self::$name => release!($since), )+ _ => None }
            }
        }
    };
}

/// Kind of a map, `enum bpf_map_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapType(pub u32);

map_types! {
    UNSPEC = 0, "unspec", "BPF_MAP_TYPE_UNSPEC", -;
    HASH = 1, "hash", "BPF_MAP_TYPE_HASH", (3, 19);
    ARRAY = 2, "array", "BPF_MAP_TYPE_ARRAY", (3, 19);
    PROG_ARRAY = 3, "prog_array", "BPF_MAP_TYPE_PROG_ARRAY", (4, 2);
    PERF_EVENT_ARRAY = 4, "perf_event_array", "BPF_MAP_TYPE_PERF_EVENT_ARRAY", (4, 3);
    PERCPU_HASH = 5, "percpu_hash", "BPF_MAP_TYPE_PERCPU_HASH", (4, 6);
    PERCPU_ARRAY = 6, "percpu_array", "BPF_MAP_TYPE_PERCPU_ARRAY", (4, 6);
    STACK_TRACE = 7, "stack_trace", "BPF_MAP_TYPE_STACK_TRACE", (4, 6);
    CGROUP_ARRAY = 8, "cgroup_array", "BPF_MAP_TYPE_CGROUP_ARRAY", (4, 8);
    LRU_HASH = 9, "lru_hash", "BPF_MAP_TYPE_LRU_HASH", (4, 10);
    LRU_PERCPU_HASH = 10, "lru_percpu_hash", "BPF_MAP_TYPE_LRU_PERCPU_HASH", (4, 10);
    LPM_TRIE = 11, "lpm_trie", "BPF_MAP_TYPE_LPM_TRIE", (4, 11);
    ARRAY_OF_MAPS = 12, "array_of_maps", "BPF_MAP_TYPE_ARRAY_OF_MAPS", (4, 12);
    HASH_OF_MAPS = 13, "hash_of_maps", "BPF_MAP_TYPE_HASH_OF_MAPS", (4, 12);
    DEVMAP = 14, "devmap", "BPF_MAP_TYPE_DEVMAP", (4, 14);
    SOCKMAP = 15, "sockmap", "BPF_MAP_TYPE_SOCKMAP", (4, 14);
    CPUMAP = 16, "cpumap", "BPF_MAP_TYPE_CPUMAP", (4, 15);
    XSKMAP = 17, "xskmap", "BPF_MAP_TYPE_XSKMAP", (4, 18);
    SOCKHASH = 18, "sockhash", "BPF_MAP_TYPE_SOCKHASH", (4, 18);
    CGROUP_STORAGE = 19, "cgroup_storage", "BPF_MAP_TYPE_CGROUP_STORAGE", (4, 19);
    REUSEPORT_SOCKARRAY = 20, "reuseport_sockarray", "BPF_MAP_TYPE_REUSEPORT_SOCKARRAY", (4, 19);
    PERCPU_CGROUP_STORAGE = 21, "percpu_cgroup_storage", "BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE", (4, 20);
    QUEUE = 22, "queue", "BPF_MAP_TYPE_QUEUE", (4, 20);
    STACK = 23, "stack", "BPF_MAP_TYPE_STACK", (4, 20);
    SK_STORAGE = 24, "sk_storage", "BPF_MAP_TYPE_SK_STORAGE", (5, 2);
    DEVMAP_HASH = 25, "devmap_hash", "BPF_MAP_TYPE_DEVMAP_HASH", (5, 4);
    STRUCT_OPS = 26, "struct_ops", "BPF_MAP_TYPE_STRUCT_OPS", (5, 6);
    RINGBUF = 27, "ringbuf", "BPF_MAP_TYPE_RINGBUF", (5, 8);
    INODE_STORAGE = 28, "inode_storage", "BPF_MAP_TYPE_INODE_STORAGE", (5, 10);
    TASK_STORAGE = 29, "task_storage", "BPF_MAP_TYPE_TASK_STORAGE", (5, 11);
    BLOOM_FILTER = 30, "bloom_filter", "BPF_MAP_TYPE_BLOOM_FILTER", (5, 16);
    USER_RINGBUF = 31, "user_ringbuf", "BPF_MAP_TYPE_USER_RINGBUF", (6, 1);
    CGRP_STORAGE = 32, "cgrp_storage", "BPF_MAP_TYPE_CGRP_STORAGE", (6, 2);
    ARENA = 33, "arena", "BPF_MAP_TYPE_ARENA", (6, 9);
    INSN_ARRAY = 34, "insn_array", "BPF_MAP_TYPE_INSN_ARRAY", (6, 19);
    RHASH = 35, "rhash", "BPF_MAP_TYPE_RHASH", -;
}

impl MapType {
    /// The type that bpftool calls this.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|t| t.name() == Some(name))
    }

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

macro_rules! map_flags {
    ($( $(#[doc = $doc:literal])+ $name:ident = $bit:literal, $text:literal, $alias:literal; )+) => {
        impl MapFlags {
            $(
                $(#[doc = $doc])+
                #[doc(alias = $alias)]
                pub const $name: Self = Self(1 << $bit);
            )+

            /// Every flag in the table with its name.
            pub const ALL: &[(Self, &str)] = &[$( (Self::$name, $text), )+];
        }
    };
}

/// Creation flags of a map, `BPF_F_*`. They print by name: `no_prealloc|mmapable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MapFlags(pub u32);

map_flags! {
    /// Do not reserve memory for all entries of a hash at creation.
    NO_PREALLOC = 0, "no_prealloc", "BPF_F_NO_PREALLOC";
    /// Each CPU has its own LRU list.
    NO_COMMON_LRU = 1, "no_common_lru", "BPF_F_NO_COMMON_LRU";
    /// `numa_node` is set.
    NUMA_NODE = 2, "numa_node", "BPF_F_NUMA_NODE";
    /// System calls may only read.
    RDONLY = 3, "rdonly", "BPF_F_RDONLY";
    /// System calls may only write.
    WRONLY = 4, "wronly", "BPF_F_WRONLY";
    /// Stacks are build ids and offsets, not addresses.
    STACK_BUILD_ID = 5, "stack_build_id", "BPF_F_STACK_BUILD_ID";
    /// Hash without a random seed.
    ZERO_SEED = 6, "zero_seed", "BPF_F_ZERO_SEED";
    /// Programs may only read.
    RDONLY_PROG = 7, "rdonly_prog", "BPF_F_RDONLY_PROG";
    /// Programs may only write.
    WRONLY_PROG = 8, "wronly_prog", "BPF_F_WRONLY_PROG";
    /// An accepted socket gets a copy of the listener's value.
    CLONE = 9, "clone", "BPF_F_CLONE";
    /// User space may map the values of an array.
    MMAPABLE = 10, "mmapable", "BPF_F_MMAPABLE";
    /// Perf events stay when the descriptor that stored them is closed.
    PRESERVE_ELEMS = 11, "preserve_elems", "BPF_F_PRESERVE_ELEMS";
    /// The inner maps of an array of maps may differ in `max_entries`.
    INNER_MAP = 12, "inner_map", "BPF_F_INNER_MAP";
    /// A `struct_ops` map is attached by a link.
    LINK = 13, "link", "BPF_F_LINK";
    /// The value's type lies in a module's BTF.
    VTYPE_BTF_OBJ_FD = 15, "vtype_btf_obj_fd", "BPF_F_VTYPE_BTF_OBJ_FD";
    /// The map is made by the rights of a token.
    TOKEN_FD = 16, "token_fd", "BPF_F_TOKEN_FD";
    /// A fault of user space in an arena is a signal, not a new page.
    SEGV_ON_FAULT = 17, "segv_on_fault", "BPF_F_SEGV_ON_FAULT";
    /// Pointers in an arena are not translated for user space.
    NO_USER_CONV = 18, "no_user_conv", "BPF_F_NO_USER_CONV";
    /// A full ring buffer overwrites its oldest records.
    RB_OVERWRITE = 19, "rb_overwrite", "BPF_F_RB_OVERWRITE";
}

impl MapFlags {
    /// Are all of `other`'s bits set?
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With `other`'s bits set too.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The flag of this name: `no_prealloc`, or as the kernel writes it.
    pub fn by_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let short = name.strip_prefix("bpf_f_").unwrap_or(&name);
        Self::ALL.iter().find(|(_, known)| *known == short).map(|(flag, _)| *flag)
    }
}

impl fmt::Display for MapFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        let mut gap = "";
        for (flag, name) in Self::ALL.iter().filter(|(flag, _)| self.contains(*flag)) {
            rest &= !flag.0;
            write!(f, "{gap}{name}")?;
            gap = "|";
        }
        match (rest, gap) {
            (0, "") => f.write_str("none"),
            (0, _) => Ok(()),
            _ => write!(f, "{gap}{rest:#x}"),
        }
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
    fn flags_print_and_are_found_by_name() {
        let both = MapFlags::NO_PREALLOC.with(MapFlags::MMAPABLE);
        assert_eq!(both.to_string(), "no_prealloc|mmapable");
        assert_eq!(MapFlags(0).to_string(), "none");
        assert_eq!(MapFlags(1 << 31).to_string(), "0x80000000");
        assert_eq!(MapFlags::by_name("BPF_F_MMAPABLE"), Some(MapFlags::MMAPABLE));
        assert_eq!(MapFlags::by_name("mmap"), None);
    }

    #[test]
    fn map_types_are_numbered_without_gaps() {
        for (n, t) in (0..).zip(MapType::ALL) {
            assert_eq!(t.0, n, "{t}");
            assert!(t.name().is_some());
        }
    }
}
