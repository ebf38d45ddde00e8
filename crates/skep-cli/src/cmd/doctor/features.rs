//! Program types, map types, helpers, kernel functions, instructions: each by trying.

use skep::{
    abi::{MapType, ProgType, helper},
    btf::KindTag,
    isa::Slot,
    kernel::{
        LoadError, Program, ProgramLoad,
        probe::{self, Support},
        target,
    },
};

use super::Check;

pub(super) const PROGRAMS: &str = "program types";
pub(super) const MAPS: &str = "map types";
pub(super) const HELPERS: &str = "helpers";
pub(super) const KFUNCS: &str = "kernel functions";
pub(super) const ISA: &str = "instruction set";

pub(super) fn programs() -> Vec<Check> {
    let known = ProgType::ALL.iter().filter(|&&t| t != ProgType::UNSPEC);
    let support = |t| match probe::prog_type(t) {
        Support::Unknown(_) if t == ProgType::STRUCT_OPS => {
            Support::Unknown("needs a structure of the kernel to attach to; not tried".into())
        }
        other => other,
    };
    known.map(|&t| Check::tried(PROGRAMS, t.to_string(), || support(t))).collect()
}

pub(super) fn maps() -> Vec<Check> {
    let known = MapType::ALL.iter().filter(|t| t.0 != 0);
    known.map(|&t| Check::tried(MAPS, t.to_string(), || probe::map_type(t))).collect()
}

/// One helper of each family, with a type of program that uses it.
const FAMILIES: &[(&str, ProgType)] = &[
    ("bpf_ringbuf_output", ProgType::TRACEPOINT),
    ("bpf_perf_event_output", ProgType::TRACEPOINT),
    ("bpf_user_ringbuf_drain", ProgType::TRACEPOINT),
    ("bpf_get_stackid", ProgType::TRACEPOINT),
    ("bpf_get_attach_cookie", ProgType::TRACEPOINT),
    ("bpf_probe_read_kernel", ProgType::TRACEPOINT),
    ("bpf_probe_write_user", ProgType::TRACEPOINT),
    ("bpf_override_return", ProgType::KPROBE),
    ("bpf_send_signal", ProgType::TRACEPOINT),
    ("bpf_task_storage_get", ProgType::TRACEPOINT),
    ("bpf_snprintf_btf", ProgType::TRACEPOINT),
    ("bpf_loop", ProgType::XDP),
    ("bpf_for_each_map_elem", ProgType::XDP),
    ("bpf_timer_init", ProgType::XDP),
    ("bpf_dynptr_from_mem", ProgType::XDP),
    ("bpf_kptr_xchg", ProgType::XDP),
    ("bpf_fib_lookup", ProgType::XDP),
    ("bpf_redirect_map", ProgType::XDP),
    ("bpf_skc_lookup_tcp", ProgType::SCHED_CLS),
    ("bpf_redirect_neigh", ProgType::SCHED_CLS),
    ("bpf_setsockopt", ProgType::SOCK_OPS),
    ("bpf_sys_bpf", ProgType::SYSCALL),
];

pub(super) fn helpers() -> Vec<Check> {
    let check = |&(name, prog_type): &(&str, ProgType)| {
        let short = name.strip_prefix("bpf_").unwrap_or(name);
        let proto = helper::by_name(name).or_else(|| helper::by_name(short));
        Check::tried(HELPERS, name, || match proto.map(|p| u32::try_from(p.id)) {
            Some(Ok(id)) => probe::helper(prog_type, id),
            _ => Support::Unknown("skep does not know its number".into()),
        })
    };
    FAMILIES.iter().map(check).collect()
}

/// One function of each family, and what the family is.
const FUNCTIONS: &[(&str, &str)] = &[
    ("bpf_iter_num_new", "open-coded iterators"),
    ("bpf_dynptr_from_skb", "dynptrs of packets"),
    ("bpf_dynptr_slice", "slices of dynptrs"),
    ("bpf_obj_new_impl", "own objects"),
    ("bpf_rbtree_add_impl", "trees"),
    ("bpf_task_acquire", "references to tasks"),
    ("bpf_cgroup_acquire", "references to cgroups"),
    ("bpf_cpumask_create", "CPU masks"),
    ("bpf_rcu_read_lock", "RCU sections"),
    ("bpf_arena_alloc_pages", "arenas"),
    ("bpf_wq_init", "work queues"),
    ("bpf_xdp_ct_lookup", "connection tracking"),
    ("bpf_xdp_metadata_rx_hash", "XDP metadata"),
    ("scx_bpf_dsq_insert", "sched_ext"),
];

pub(super) fn kfuncs() -> Vec<Check> {
    let btf = target::vmlinux_btf();
    let check = |&(name, what): &(&str, &str)| {
        let support = match &btf {
            Ok(btf) if btf.find(KindTag::Func, name).next().is_some() => Support::Yes,
            Ok(_) => Support::No("not in the kernel's BTF".into()),
            Err(e) => Support::Unknown(e.to_string()),
        };
        Check::of(KFUNCS, format!("{name} ({what})"), support)
    };
    FUNCTIONS.iter().map(check).collect()
}

const fn slot(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Slot {
    Slot { code, dst, src, off, imm }
}

/// `r0 = 0`
const ZERO: Slot = slot(0xb7, 0, 0, 0, 0);
const EXIT: Slot = slot(0x95, 0, 0, 0, 0);
/// `*(u64 *)(r10 - 8) = 0`
const STORE: Slot = slot(0x7a, 10, 0, -8, 0);

/// A program that has an instruction of each level.
const LEVELS: &[(&str, &[Slot])] = &[
    ("v2 (unsigned and signed less-than jumps)", &[ZERO, slot(0xa5, 0, 0, 0, 1), EXIT]),
    (
        "v3 (32-bit jumps, atomic fetch)",
        &[ZERO, slot(0xa6, 0, 0, 0, 1), STORE, slot(0xdb, 10, 0, -8, 1), EXIT],
    ),
    (
        "v4 (sign extension, signed division, byte swaps, long jumps)",
        &[
            ZERO,
            slot(0xbf, 0, 0, 8, 0),
            slot(0x37, 0, 0, 1, 3),
            slot(0xd7, 0, 0, 0, 16),
            slot(0x06, 0, 0, 0, 0),
            EXIT,
        ],
    ),
    ("may_goto (Linux 6.9)", &[ZERO, slot(0xe5, 0, 0, 0, 0), EXIT]),
    (
        "load-acquire, store-release (Linux 6.15)",
        &[ZERO, STORE, slot(0xdb, 0, 10, -8, 0x100), EXIT],
    ),
];

pub(super) fn isa() -> Vec<Check> {
    let check = |&(name, slots): &(&str, &[Slot])| {
        let load = ProgramLoad::new("probe", ProgType::SOCKET_FILTER, slots);
        Check::tried(ISA, name, || loads(&load))
    };
    LEVELS.iter().map(check).collect()
}

/// Does the kernel take this program? When it takes none at all from this process, that says
/// nothing about this one.
pub(super) fn loads(load: &ProgramLoad<'_>) -> Support {
    match probe::can_load() {
        Support::Yes => {}
        Support::No(reason) | Support::Unknown(reason) => return Support::Unknown(reason),
    }
    match Program::load(load) {
        Ok(_) => Support::Yes,
        Err(e) => Support::No(reason(&e)),
    }
}

/// The kernel's own reason.
fn reason(e: &LoadError) -> String {
    let whole = match e {
        LoadError::Rejected { summary, .. } => summary.clone(),
        LoadError::Refused { source, hint: Some(hint), .. } => {
            format!("{} ({hint})", source.source)
        }
        LoadError::Refused { source, .. } => format!("BPF_PROG_LOAD: {}", source.source),
        _ => e.to_string(),
    };
    whole.trim().to_owned()
}
