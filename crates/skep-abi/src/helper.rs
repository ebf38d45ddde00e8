//! Helper prototypes: number, name, and what the arguments are.
//!
//! Every helper of the kernel has a row. The rows of helpers that the embedded engine implements
//! also say what their arguments are; nothing checks the others yet.

use crate::Release;

/// What a helper's argument is. Names after the kernel's `enum bpf_arg_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arg {
    /// Any number.
    Scalar,
    /// The program's context.
    Ctx,
    /// A map.
    ConstMap,
    /// A key of the map before: `key_size` readable bytes.
    MapKey,
    /// A value of the map before: `value_size` readable bytes.
    MapValue,
    /// Room for a value of the map before: `value_size` writable bytes.
    MapValueUninit,
    /// Readable bytes; how many says the next argument.
    Mem,
    /// As [`Arg::Mem`], or null.
    MemOrNull,
    /// Writable bytes; how many says the next argument.
    UninitMem,
    /// As [`Arg::UninitMem`], or null.
    UninitMemOrNull,
    /// Size of the memory before, at least 1.
    Size,
    /// Size of the memory before.
    SizeOrZero,
    /// 4 writable bytes.
    Fixed4,
    /// 8 writable bytes.
    Fixed8,
    /// A NUL-terminated string in read-only memory.
    ConstStr,
    /// A function of the program.
    Func,
    /// An address for a callback, passed through; may be null.
    StackOrNull,
    /// A record reserved in a ring buffer.
    Record,
    /// A `struct bpf_spin_lock` in a map value.
    SpinLock,
}

/// What a helper returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ret {
    /// A number, often a negative errno.
    Int,
    /// Nothing of use.
    Void,
    /// The address of a map value, or null.
    MapValueOrNull,
    /// The address of a ring-buffer record, or null.
    RecordOrNull,
}

/// A helper's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proto {
    /// `BPF_FUNC_*` number.
    pub id: i32,
    /// Name without `bpf_`.
    pub name: &'static str,
    /// Arguments, where this table has them.
    pub args: Option<&'static [Arg]>,
    /// Return value, where this table has it.
    pub ret: Option<Ret>,
}

/// The first helper of each release that brought some: numbers are given in order.
const RELEASES: &[(i32, Release)] = &[
    (1, Release(3, 19)),
    (4, Release(4, 1)),
    (12, Release(4, 2)),
    (17, Release(4, 3)),
    (23, Release(4, 4)),
    (26, Release(4, 5)),
    (27, Release(4, 6)),
    (31, Release(4, 8)),
    (37, Release(4, 9)),
    (42, Release(4, 10)),
    (45, Release(4, 11)),
    (46, Release(4, 12)),
    (48, Release(4, 13)),
    (51, Release(4, 14)),
    (54, Release(4, 15)),
    (58, Release(4, 16)),
    (60, Release(4, 17)),
    (65, Release(4, 18)),
    (81, Release(4, 19)),
    (84, Release(4, 20)),
    (91, Release(5, 0)),
    (93, Release(5, 1)),
    (99, Release(5, 2)),
    (109, Release(5, 3)),
    (110, Release(5, 4)),
    (111, Release(5, 5)),
    (116, Release(5, 6)),
    (119, Release(5, 7)),
    (125, Release(5, 8)),
    (136, Release(5, 9)),
    (142, Release(5, 10)),
    (156, Release(5, 11)),
    (163, Release(5, 12)),
    (164, Release(5, 13)),
    (166, Release(5, 14)),
    (169, Release(5, 15)),
    (176, Release(5, 16)),
    (180, Release(5, 17)),
    (186, Release(5, 18)),
    (194, Release(5, 19)),
    (204, Release(6, 0)),
    (208, Release(6, 1)),
    (210, Release(6, 2)),
];

impl Proto {
    /// First kernel release that has it.
    pub fn since(&self) -> Release {
        let before = RELEASES.iter().rev().find(|(first, _)| *first <= self.id);
        before.map_or(Release(3, 19), |(_, release)| *release)
    }
}

macro_rules! protos {
    (@args $name:ident) => { (None, None) };
    (@args $name:ident ($($arg:ident),*) $ret:ident) => {
        (Some(&[$(Arg::$arg),*]), Some(Ret::$ret))
    };
    ($( $id:literal $name:ident $(($($arg:ident),*) -> $ret:ident)?; )+) => {
        /// Every helper of the kernel, by number from 1.
        pub static PROTOS: &[Proto] = &[$({
            let (args, ret): (Option<&'static [Arg]>, Option<Ret>) =
                protos!(@args $name $(($($arg),*) $ret)?);
            Proto { id: $id, name: stringify!($name), args, ret }
        },)+];
    };
}

protos! {
    1 map_lookup_elem(ConstMap, MapKey) -> MapValueOrNull;
    2 map_update_elem(ConstMap, MapKey, MapValue, Scalar) -> Int;
    3 map_delete_elem(ConstMap, MapKey) -> Int;
    4 probe_read(UninitMem, Size, Scalar) -> Int;
    5 ktime_get_ns() -> Int;
    6 trace_printk(Mem, Size, Scalar, Scalar, Scalar) -> Int;
    7 get_prandom_u32() -> Int;
    8 get_smp_processor_id() -> Int;
    9 skb_store_bytes(Ctx, Scalar, Mem, Size, Scalar) -> Int;
    10 l3_csum_replace(Ctx, Scalar, Scalar, Scalar, Scalar) -> Int;
    11 l4_csum_replace(Ctx, Scalar, Scalar, Scalar, Scalar) -> Int;
    12 tail_call(Ctx, ConstMap, Scalar) -> Void;
    13 clone_redirect(Ctx, Scalar, Scalar) -> Int;
    14 get_current_pid_tgid() -> Int;
    15 get_current_uid_gid() -> Int;
    16 get_current_comm(UninitMem, Size) -> Int;
    17 get_cgroup_classid(Ctx) -> Int;
    18 skb_vlan_push(Ctx, Scalar, Scalar) -> Int;
    19 skb_vlan_pop(Ctx) -> Int;
    20 skb_get_tunnel_key;
    21 skb_set_tunnel_key;
    22 perf_event_read;
    23 redirect(Scalar, Scalar) -> Int;
    24 get_route_realm(Ctx) -> Int;
    25 perf_event_output(Ctx, ConstMap, Scalar, Mem, SizeOrZero) -> Int;
    26 skb_load_bytes(Ctx, Scalar, UninitMem, Size) -> Int;
    27 get_stackid;
    28 csum_diff(MemOrNull, SizeOrZero, MemOrNull, SizeOrZero, Scalar) -> Int;
    29 skb_get_tunnel_opt;
    30 skb_set_tunnel_opt;
    31 skb_change_proto(Ctx, Scalar, Scalar) -> Int;
    32 skb_change_type(Ctx, Scalar) -> Int;
    33 skb_under_cgroup;
    34 get_hash_recalc(Ctx) -> Int;
    35 get_current_task() -> Int;
    36 probe_write_user;
    37 current_task_under_cgroup;
    38 skb_change_tail(Ctx, Scalar, Scalar) -> Int;
    39 skb_pull_data(Ctx, Scalar) -> Int;
    40 csum_update(Ctx, Scalar) -> Int;
    41 set_hash_invalid(Ctx) -> Void;
    42 get_numa_node_id() -> Int;
    43 skb_change_head(Ctx, Scalar, Scalar) -> Int;
    44 xdp_adjust_head(Ctx, Scalar) -> Int;
    45 probe_read_str(UninitMem, SizeOrZero, Scalar) -> Int;
    46 get_socket_cookie(Ctx) -> Int;
    47 get_socket_uid(Ctx) -> Int;
    48 set_hash(Ctx, Scalar) -> Int;
    49 setsockopt;
    50 skb_adjust_room(Ctx, Scalar, Scalar, Scalar) -> Int;
    51 redirect_map(ConstMap, Scalar, Scalar) -> Int;
    52 sk_redirect_map;
    53 sock_map_update;
    54 xdp_adjust_meta(Ctx, Scalar) -> Int;
    55 perf_event_read_value;
    56 perf_prog_read_value;
    57 getsockopt;
    58 override_return;
    59 sock_ops_cb_flags_set;
    60 msg_redirect_map;
    61 msg_apply_bytes;
    62 msg_cork_bytes;
    63 msg_pull_data;
    64 bind;
    65 xdp_adjust_tail(Ctx, Scalar) -> Int;
    66 skb_get_xfrm_state;
    67 get_stack;
    68 skb_load_bytes_relative(Ctx, Scalar, UninitMem, Size, Scalar) -> Int;
    69 fib_lookup(Ctx, Mem, Size, Scalar) -> Int;
    70 sock_hash_update;
    71 msg_redirect_hash;
    72 sk_redirect_hash;
    73 lwt_push_encap;
    74 lwt_seg6_store_bytes;
    75 lwt_seg6_adjust_srh;
    76 lwt_seg6_action;
    77 rc_repeat;
    78 rc_keydown;
    79 skb_cgroup_id(Ctx) -> Int;
    80 get_current_cgroup_id() -> Int;
    81 get_local_storage;
    82 sk_select_reuseport;
    83 skb_ancestor_cgroup_id;
    84 sk_lookup_tcp;
    85 sk_lookup_udp;
    86 sk_release;
    87 map_push_elem(ConstMap, MapValue, Scalar) -> Int;
    88 map_pop_elem(ConstMap, MapValueUninit) -> Int;
    89 map_peek_elem(ConstMap, MapValueUninit) -> Int;
    90 msg_push_data;
    91 msg_pop_data;
    92 rc_pointer_rel;
    93 spin_lock(SpinLock) -> Void;
    94 spin_unlock(SpinLock) -> Void;
    95 sk_fullsock;
    96 tcp_sock;
    97 skb_ecn_set_ce(Ctx) -> Int;
    98 get_listener_sock;
    99 skc_lookup_tcp;
    100 tcp_check_syncookie;
    101 sysctl_get_name;
    102 sysctl_get_current_value;
    103 sysctl_get_new_value;
    104 sysctl_set_new_value;
    105 strtol(Mem, Size, Scalar, Fixed8) -> Int;
    106 strtoul(Mem, Size, Scalar, Fixed8) -> Int;
    107 sk_storage_get;
    108 sk_storage_delete;
    109 send_signal;
    110 tcp_gen_syncookie;
    111 skb_output(Ctx, ConstMap, Scalar, Mem, SizeOrZero) -> Int;
    112 probe_read_user(UninitMem, SizeOrZero, Scalar) -> Int;
    113 probe_read_kernel(UninitMem, SizeOrZero, Scalar) -> Int;
    114 probe_read_user_str(UninitMem, SizeOrZero, Scalar) -> Int;
    115 probe_read_kernel_str(UninitMem, SizeOrZero, Scalar) -> Int;
    116 tcp_send_ack;
    117 send_signal_thread;
    118 jiffies64() -> Int;
    119 read_branch_records;
    120 get_ns_current_pid_tgid(Scalar, Scalar, UninitMem, Size) -> Int;
    121 xdp_output(Ctx, ConstMap, Scalar, Mem, SizeOrZero) -> Int;
    122 get_netns_cookie;
    123 get_current_ancestor_cgroup_id;
    124 sk_assign;
    125 ktime_get_boot_ns() -> Int;
    126 seq_printf;
    127 seq_write;
    128 sk_cgroup_id;
    129 sk_ancestor_cgroup_id;
    130 ringbuf_output(ConstMap, Mem, SizeOrZero, Scalar) -> Int;
    131 ringbuf_reserve(ConstMap, Scalar, Scalar) -> RecordOrNull;
    132 ringbuf_submit(Record, Scalar) -> Void;
    133 ringbuf_discard(Record, Scalar) -> Void;
    134 ringbuf_query(ConstMap, Scalar) -> Int;
    135 csum_level(Ctx, Scalar) -> Int;
    136 skc_to_tcp6_sock;
    137 skc_to_tcp_sock;
    138 skc_to_tcp_timewait_sock;
    139 skc_to_tcp_request_sock;
    140 skc_to_udp6_sock;
    141 get_task_stack;
    142 load_hdr_opt;
    143 store_hdr_opt;
    144 reserve_hdr_opt;
    145 inode_storage_get;
    146 inode_storage_delete;
    147 d_path;
    148 copy_from_user;
    149 snprintf_btf;
    150 seq_printf_btf;
    151 skb_cgroup_classid;
    152 redirect_neigh(Scalar, MemOrNull, SizeOrZero, Scalar) -> Int;
    153 per_cpu_ptr;
    154 this_cpu_ptr;
    155 redirect_peer(Scalar, Scalar) -> Int;
    156 task_storage_get;
    157 task_storage_delete;
    158 get_current_task_btf() -> Int;
    159 bprm_opts_set;
    160 ktime_get_coarse_ns() -> Int;
    161 ima_inode_hash;
    162 sock_from_file;
    163 check_mtu(Ctx, Scalar, Fixed4, Scalar, Scalar) -> Int;
    164 for_each_map_elem(ConstMap, Func, StackOrNull, Scalar) -> Int;
    165 snprintf(UninitMemOrNull, SizeOrZero, ConstStr, MemOrNull, SizeOrZero) -> Int;
    166 sys_bpf;
    167 btf_find_by_name_kind;
    168 sys_close;
    169 timer_init;
    170 timer_set_callback;
    171 timer_start;
    172 timer_cancel;
    173 get_func_ip(Ctx) -> Int;
    174 get_attach_cookie(Ctx) -> Int;
    175 task_pt_regs;
    176 get_branch_snapshot;
    177 trace_vprintk(Mem, Size, MemOrNull, SizeOrZero) -> Int;
    178 skc_to_unix_sock;
    179 kallsyms_lookup_name;
    180 find_vma;
    181 loop(Scalar, Func, StackOrNull, Scalar) -> Int;
    182 strncmp(Mem, Size, ConstStr) -> Int;
    183 get_func_arg;
    184 get_func_ret;
    185 get_func_arg_cnt;
    186 get_retval() -> Int;
    187 set_retval;
    188 xdp_get_buff_len(Ctx) -> Int;
    189 xdp_load_bytes(Ctx, Scalar, UninitMem, Size) -> Int;
    190 xdp_store_bytes(Ctx, Scalar, Mem, Size) -> Int;
    191 copy_from_user_task;
    192 skb_set_tstamp(Ctx, Scalar, Scalar) -> Int;
    193 ima_file_hash;
    194 kptr_xchg;
    195 map_lookup_percpu_elem(ConstMap, MapKey, Scalar) -> MapValueOrNull;
    196 skc_to_mptcp_sock;
    197 dynptr_from_mem;
    198 ringbuf_reserve_dynptr;
    199 ringbuf_submit_dynptr;
    200 ringbuf_discard_dynptr;
    201 dynptr_read;
    202 dynptr_write;
    203 dynptr_data;
    204 tcp_raw_gen_syncookie_ipv4;
    205 tcp_raw_gen_syncookie_ipv6;
    206 tcp_raw_check_syncookie_ipv4;
    207 tcp_raw_check_syncookie_ipv6;
    208 ktime_get_tai_ns() -> Int;
    209 user_ringbuf_drain;
    210 cgrp_storage_get;
    211 cgrp_storage_delete;
}

/// The row with this number.
pub fn proto(id: i32) -> Option<&'static Proto> {
    let index = usize::try_from(id).ok()?.checked_sub(1)?;
    PROTOS.get(index)
}

/// The row with this name, with or without `bpf_`.
pub fn by_name(name: &str) -> Option<&'static Proto> {
    let name = name.strip_prefix("bpf_").unwrap_or(name);
    PROTOS.iter().find(|p| p.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_gaps_and_names_are_unique() {
        for (id, p) in (1..).zip(PROTOS) {
            assert_eq!(p.id, id, "{}", p.name);
            assert_eq!(proto(id), Some(p));
            assert_eq!(by_name(p.name).map(|q| q.id), Some(id), "{}", p.name);
        }
        assert_eq!(PROTOS.len(), 211);
        assert_eq!(proto(0), None);
        assert_eq!(proto(212), None);
        assert_eq!(proto(-1), None);
        assert_eq!(by_name("bpf_redirect_map").map(|p| p.id), Some(51));
    }

    #[test]
    fn releases_ascend_and_every_helper_has_one() {
        assert!(RELEASES.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
        let since = |name| by_name(name).map(Proto::since);
        assert_eq!(since("map_lookup_elem"), Some(Release(3, 19)));
        assert_eq!(since("get_smp_processor_id"), Some(Release(4, 1)));
        assert_eq!(since("ringbuf_output"), Some(Release(5, 8)));
        assert_eq!(since("cgrp_storage_delete"), Some(Release(6, 2)));
    }

    #[test]
    fn a_size_follows_each_memory_argument_and_nothing_else() {
        for p in PROTOS {
            let args = p.args.unwrap_or_default();
            for (i, arg) in args.iter().enumerate() {
                let before = i.checked_sub(1).and_then(|i| args.get(i));
                let memory = |a: &Arg| {
                    use Arg::{Mem, MemOrNull, UninitMem, UninitMemOrNull};
                    matches!(a, Mem | MemOrNull | UninitMem | UninitMemOrNull)
                };
                let sized = matches!(arg, Arg::Size | Arg::SizeOrZero);
                assert_eq!(before.is_some_and(memory), sized, "{} argument {i}", p.name);
            }
        }
    }

    #[test]
    fn a_key_or_value_comes_after_its_map() {
        for p in PROTOS {
            let mut map = false;
            for arg in p.args.unwrap_or_default() {
                match arg {
                    Arg::ConstMap => map = true,
                    Arg::MapKey | Arg::MapValue | Arg::MapValueUninit => {
                        assert!(map, "{}", p.name);
                    }
                    _ => {}
                }
            }
        }
    }
}
