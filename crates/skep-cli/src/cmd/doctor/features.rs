//! Program types, map types, helpers, kernel functions, instructions, types: each by trying.

use skep::{
    abi::{MapType, ProgType, helper},
    kernel::probe::{self, INSTRUCTIONS, Support},
};

use super::{Answer, Check};

pub(super) const PROGRAMS: &str = "program types";
pub(super) const MAPS: &str = "map types";
pub(super) const HELPERS: &str = "helpers";
pub(super) const KFUNCS: &str = "kernel functions";
pub(super) const ISA: &str = "instruction set";
pub(super) const BTF: &str = "BTF";

pub(super) fn programs() -> Vec<Check> {
    let known = ProgType::ALL.iter().filter(|&&t| t != ProgType::UNSPEC);
    known.map(|&t| Check::tried(PROGRAMS, t.to_string(), || probe::prog_type(t))).collect()
}

pub(super) fn maps() -> Vec<Check> {
    let known = MapType::ALL.iter().filter(|&&t| t != MapType::UNSPEC);
    known.map(|&t| Check::tried(MAPS, t.to_string(), || probe::map_type(t))).collect()
}

/// A helper of each family.
const FAMILIES: &[&str] = &[
    "map_lookup_elem",
    "map_lookup_percpu_elem",
    "map_push_elem",
    "for_each_map_elem",
    "tail_call",
    "trace_printk",
    "trace_vprintk",
    "snprintf_btf",
    "perf_event_output",
    "ringbuf_output",
    "ringbuf_reserve_dynptr",
    "user_ringbuf_drain",
    "get_current_pid_tgid",
    "get_current_task_btf",
    "get_current_cgroup_id",
    "get_ns_current_pid_tgid",
    "get_attach_cookie",
    "get_func_ip",
    "get_func_arg",
    "get_stackid",
    "get_stack",
    "get_task_stack",
    "get_branch_snapshot",
    "perf_event_read_value",
    "probe_read",
    "probe_read_kernel",
    "probe_read_user_str",
    "copy_from_user",
    "probe_write_user",
    "override_return",
    "send_signal",
    "d_path",
    "ima_file_hash",
    "ktime_get_ns",
    "ktime_get_tai_ns",
    "spin_lock",
    "loop",
    "timer_init",
    "dynptr_from_mem",
    "kptr_xchg",
    "sk_storage_get",
    "inode_storage_get",
    "task_storage_get",
    "cgrp_storage_get",
    "skb_store_bytes",
    "skb_load_bytes",
    "csum_diff",
    "skb_adjust_room",
    "xdp_adjust_head",
    "xdp_load_bytes",
    "redirect",
    "redirect_map",
    "redirect_neigh",
    "redirect_peer",
    "fib_lookup",
    "skc_lookup_tcp",
    "sk_assign",
    "tcp_gen_syncookie",
    "check_mtu",
    "lwt_push_encap",
    "msg_push_data",
    "sk_redirect_map",
    "bind",
    "getsockopt",
    "setsockopt",
    "get_netns_cookie",
    "seq_write",
    "sysctl_get_name",
    "set_retval",
    "sys_bpf",
];

pub(super) fn helpers() -> Vec<Check> {
    let here = probe::helper_callers().len();
    let check = |&name: &&str| {
        let full = format!("bpf_{name}");
        if let Some(reason) = cannot_load() {
            return Check::new(HELPERS, full, Answer::Unknown, reason);
        }
        match helper::by_name(name).map(|row| u32::try_from(row.id)) {
            Some(Ok(id)) => match probe::helper_types(id) {
                types if types.len() == here && here > 0 => {
                    Check::new(HELPERS, full, Answer::Yes, "for every type of program")
                }
                types if types.is_empty() && probe::iterator_helper(id).is_yes() => {
                    Check::new(HELPERS, full, Answer::Yes, "for iterators (tracing)")
                }
                types => of_types(HELPERS, full, types),
            },
            _ => Check::new(HELPERS, full, Answer::Unknown, "skep does not know its number"),
        }
    };
    FAMILIES.iter().map(check).collect()
}

/// The answer with the types of programs that it is for.
fn of_types(group: &'static str, name: String, types: Vec<ProgType>) -> Check {
    if types.is_empty() {
        return Check::new(group, name, Answer::No, "no program type here may call it");
    }
    let names: Vec<String> = types.iter().map(ToString::to_string).collect();
    Check::new(group, name, Answer::Yes, format!("for {}", names.join(", ")))
}

fn cannot_load() -> Option<String> {
    match probe::can_load() {
        Support::Yes => None,
        Support::No(reason) | Support::Unknown(reason) => Some(reason),
    }
}

/// One function of each family, and what the family is.
const FUNCTIONS: &[(&str, &str)] = &[
    ("bpf_iter_num_new", "open-coded iterators"),
    ("bpf_iter_task_new", "iterators over tasks"),
    ("bpf_dynptr_from_skb", "dynptrs of packets"),
    ("bpf_dynptr_slice", "slices of dynptrs"),
    ("bpf_obj_new_impl", "own objects"),
    ("bpf_list_push_front_impl", "lists"),
    ("bpf_rbtree_add_impl", "trees"),
    ("bpf_task_acquire", "references to tasks"),
    ("bpf_cgroup_acquire", "references to cgroups"),
    ("bpf_cpumask_create", "CPU masks"),
    ("bpf_rcu_read_lock", "RCU sections"),
    ("bpf_preempt_disable", "sections without preemption"),
    ("bpf_local_irq_save", "sections without interrupts"),
    ("bpf_arena_alloc_pages", "arenas"),
    ("bpf_wq_init", "work queues"),
    ("bpf_throw", "exceptions"),
    ("bpf_get_file_xattr", "attributes of files"),
    ("bpf_crypto_ctx_create", "cryptography"),
    ("bpf_sock_destroy", "closing sockets"),
    ("bpf_xdp_ct_lookup", "connection tracking"),
    ("bpf_xdp_metadata_rx_hash", "XDP metadata"),
    ("hid_bpf_get_data", "input devices"),
    ("scx_bpf_task_cpu", "sched_ext"),
];

pub(super) fn kfuncs() -> Vec<Check> {
    let check = |&(name, what): &(&str, &str)| {
        let name = format!("{name} ({what})");
        let (function, _) = name.split_once(' ').unwrap_or_default();
        match cannot_load() {
            Some(reason) => Check::new(KFUNCS, name, Answer::Unknown, reason),
            None => match probe::kfunc_types(function) {
                Ok(types) => of_types(KFUNCS, name, types),
                Err(_) if probe::iterator_kfunc(function).is_yes() => {
                    Check::new(KFUNCS, name, Answer::Yes, "for iterators (tracing)")
                }
                Err(answer) => Check::of(KFUNCS, name, answer),
            },
        }
    };
    FUNCTIONS.iter().map(check).collect()
}

pub(super) fn isa() -> Vec<Check> {
    let check = |row: &probe::Instruction| {
        let level = row.level.map_or_else(|| "beyond v4".to_owned(), |level| format!("v{level}"));
        Check::of(ISA, format!("{level}: {}", row.name), row.probe())
    };
    INSTRUCTIONS.iter().map(check).collect()
}

pub(super) fn btf() -> Vec<Check> {
    let kinds = probe::btf_kinds().into_iter();
    kinds.map(|(name, support)| Check::tried(BTF, name, || support.clone())).collect()
}
