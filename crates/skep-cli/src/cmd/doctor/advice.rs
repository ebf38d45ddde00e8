//! What a missing thing costs, and the nearest substitute.

/// Group, name (`*` at one end stands for anything), cost, substitute. The first row that fits
/// counts.
#[rustfmt::skip]
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("system", "bpf(2) for this process",
     "nothing can be loaded into the kernel from here",
     "run as root (or with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN); `skep run --engine embedded` and `skep test-run --engine embedded` need no rights"),
    ("system", "kernel BTF",
     "no CO-RE relocations from this kernel, no BTF tracepoints, fentry or LSM",
     "give the kernel's types with `--btf FILE`; use tracepoints with fixed layouts"),
    ("system", "BTF of modules",
     "no CO-RE relocations against types that only modules have",
     "types of the kernel itself; tracepoints with fixed layouts"),
    ("system", "JIT",
     "programs are interpreted, several times slower",
     "sysctl net.core.bpf_jit_enable=1, where the kernel has a JIT"),
    ("system", "JIT without hardening",
     "constants are blinded: programs are larger and slower",
     "sysctl net.core.bpf_jit_harden=0, where nobody unprivileged loads programs"),
    ("system", "names of JIT code in /proc/kallsyms",
     "stacks and profiles show addresses in place of programs",
     "sysctl net.core.bpf_jit_kallsyms=1"),
    ("system", "kernel addresses in /proc/kallsyms",
     "objects that refer to kernel symbols do not resolve, stacks have no names",
     "sysctl kernel.kptr_restrict=1 and CAP_SYSLOG"),
    ("system", "unprivileged bpf(2)",
     "processes without CAP_BPF load nothing, not even socket filters",
     "CAP_BPF for those that must; classic filters (`skep cbpf`); the embedded engine"),
    ("system", "unprivileged perf events",
     "processes without CAP_PERFMON cannot even watch themselves",
     "CAP_PERFMON"),
    ("system", "reading kernel memory (lockdown)",
     "programs cannot read kernel memory, so tracing shows little",
     "boot without lockdown=confidentiality"),
    ("system", "bpf among the security modules",
     "LSM programs load and never run",
     "boot with bpf in lsm=; else fmod_ret on security_ functions, cgroup programs"),
    ("system", "memory charged to the cgroup, not to RLIMIT_MEMLOCK",
     "large maps fail with EPERM when the limit is low",
     "skep raises the limit where it may (CAP_SYS_RESOURCE); else ulimit -l"),
    ("system", "bpffs",
     "nothing can be pinned, and pinned maps are not found",
     "mount -t bpf bpf /sys/fs/bpf; or keep the process that holds the links running"),
    ("system", "tracefs",
     "names of tracepoints cannot be listed by other tools",
     "skep reads them through a mount of its own; mount -t tracefs tracefs /sys/kernel/tracing"),
    ("system", "cgroup v2",
     "cgroup programs have nothing to attach to",
     "mount -t cgroup2 none SOMEWHERE; or tc programs on the device"),
    ("system", "CAP_BPF",
     "only what unprivileged processes may load, if anything",
     "root; or the embedded engine"),
    ("system", "CAP_PERFMON",
     "no tracing programs and no stack traces",
     "root, or CAP_SYS_ADMIN"),
    ("system", "CAP_NET_ADMIN",
     "no XDP, tc, and other network programs",
     "root"),
    ("system", "CAP_SYS_ADMIN",
     "objects of others cannot be listed by id (skep prog, map, link list)",
     "pinned objects can still be opened by their path, where its permissions allow"),
    ("system", "CAP_NET_RAW",
     "no packets of an interface (skep run --iface) on the embedded engine",
     "a capture: skep run --pcap"),
    ("program types", "ext",
     "functions of loaded programs cannot be replaced",
     "tail calls through a program array"),
    ("program types", "lsm",
     "no decisions at security hooks",
     "cgroup programs for sockets, seccomp or Landlock for processes; tp_btf to observe"),
    ("program types", "struct_ops",
     "no congestion control, scheduler or queue by program",
     "sockops and setsockopt programs for TCP"),
    ("program types", "netfilter",
     "no program among the rules of netfilter",
     "tc or XDP on the device; cgroup programs on the sockets"),
    ("program types", "sk_lookup",
     "sockets cannot be chosen for addresses they are not bound to",
     "sk_assign in a tc program"),
    ("program types", "syscall",
     "no programs that make bpf(2) calls or are run once",
     "a raw tracepoint program with test_run"),
    ("program types", "tracing",
     "no programs by BTF: fentry, tp_btf, iterators",
     "the kernel's own tracing (tracefs), without programs"),
    ("program types", "lirc_mode2",
     "infrared receivers cannot be decoded by program",
     "the kernel's own decoders (ir-keytable)"),
    ("attach", "kprobe*",
     "kernel functions cannot be traced by kprobes",
     "the kernel's own tracing (tracefs), without programs"),
    ("attach", "uprobe.*",
     "many functions need a uprobe each",
     "system call tracepoints, filtered by pid"),
    ("attach", "uprobe",
     "functions of user programs cannot be traced",
     "system call tracepoints, filtered by pid"),
    ("attach", "fmod_ret",
     "return values of kernel functions cannot be changed",
     "seccomp or cgroup programs, which deny in their own places"),
    ("attach", "fsession",
     "entry and return of a function need two programs",
     "tracepoints before and after, with a map by thread between them"),
    ("attach", "fe*",
     "kernel functions cannot be traced by trampolines",
     "the kernel's own tracing (tracefs), without programs"),
    ("attach", "freplace",
     "functions of loaded programs cannot be replaced",
     "tail calls through a program array"),
    ("attach", "lsm",
     "no decisions at security hooks",
     "cgroup programs for sockets, seccomp or Landlock for processes; tp_btf to observe"),
    ("attach", "iter",
     "the kernel's objects cannot be walked by program",
     "files of /proc; a tracepoint that sees them come and go"),
    ("attach", "tp_btf",
     "arguments of tracepoints cannot be followed by type",
     "the kernel's own tracing (tracefs), without programs"),
    ("attach", "tracepoint",
     "no programs on tracepoints by their category and name",
     "the kernel's own tracing (tracefs), without programs"),
    ("attach", "perf_event, hardware counter",
     "no profiles by cycles, instructions or cache misses",
     "the software clock (cpu-clock), which samples by time"),
    ("attach to the network", "tcx/*",
     "tc programs share the clsact qdisc, and a killed process leaves them",
     "tc by clsact, which skep uses by itself"),
    ("attach to the network", "netfilter",
     "no program among the rules of netfilter",
     "tc or XDP on the device; cgroup programs on the sockets"),
    ("attach to a cgroup", "*_unix",
     "addresses of Unix sockets cannot be seen or changed",
     "Landlock or seccomp for the processes"),
    ("attach to a cgroup", "lsm_cgroup",
     "no security hooks for one cgroup",
     "the cgroup's socket hooks"),
    ("map types", "ringbuf",
     "no buffer that all CPUs share in order",
     "perf event arrays: one buffer per CPU, order across CPUs by a timestamp"),
    ("map types", "user_ringbuf",
     "no buffer from user space to programs",
     "a queue, or array entries that the program polls"),
    ("map types", "arena",
     "no memory shared with user space by address",
     "array maps with mmap"),
    ("map types", "bloom_filter",
     "no set that is asked without false negatives in constant memory",
     "an LRU hash"),
    ("map types", "*_storage",
     "no values that end with what they belong to",
     "a hash by its number (pid, cookie, inode), cleaned when it ends or by LRU"),
    ("helpers", "bpf_override_return",
     "errors cannot be injected into kernel functions",
     "seccomp, which returns an errno in place of a system call"),
    ("helpers", "bpf_probe_write_user",
     "memory of user programs cannot be written",
     "ptrace or process_vm_writev from user space"),
    ("helpers", "bpf_ringbuf_*",
     "no ring buffers",
     "bpf_perf_event_output into a perf event array"),
    ("helpers", "bpf_get_attach_cookie",
     "one program cannot tell its hooks apart",
     "one copy of the program for each hook"),
    ("helpers", "bpf_get_func_*",
     "a program for many functions cannot tell them apart",
     "cookies, or one program per function"),
    ("helpers", "bpf_loop",
     "loops must be bounded where the verifier sees it",
     "a bounded `for` with a constant limit"),
    ("helpers", "bpf_timer_init",
     "nothing runs later by itself",
     "polling from user space"),
    ("helpers", "bpf_dynptr_*",
     "memory of unknown size is read piece by piece",
     "bpf_probe_read_kernel with a constant bound"),
    ("kernel functions", "bpf_iter_*",
     "no loops over the kernel's objects inside programs",
     "bpf_loop; iterator programs, which are read"),
    ("kernel functions", "bpf_arena_*",
     "no memory shared with user space by address",
     "array maps with mmap"),
    ("kernel functions", "scx_*",
     "no schedulers by program",
     "nice, cgroup weights, sched_setattr"),
    ("instruction set", "v4*",
     "objects built with -mcpu=v4 may be refused",
     "build with -mcpu=v3; or the embedded engine, which knows v4"),
    ("instruction set", "v3*",
     "objects built with -mcpu=v3 may be refused",
     "build with -mcpu=v2; or the embedded engine"),
    ("instruction set", "beyond v4: may_goto",
     "loops without a provable end are refused",
     "bpf_loop, or a bounded `for`"),
    ("BTF", "BTF_KIND_*",
     "the kernel refuses such types in an object's BTF",
     "skep changes them for the kernel to what it knows"),
];

/// Group and name as in [`TABLE`], and substitutes that may be missing themselves: the check in
/// `attach` that says so, and the words. The first that works here counts, then the table's.
#[rustfmt::skip]
const ORDERED: &[(&str, &str, &[(&str, &str)])] = &[
    ("program types", "tracing", &[
        ("kprobe", "kprobes"),
        ("raw_tracepoint", "raw tracepoints with bpf_probe_read_kernel"),
        ("tracepoint", "tracepoints with fixed layouts")]),
    ("attach", "kprobe.*", &[
        ("kprobe", "kprobe, one program or link per function"),
        ("fentry", "fentry, one program per function"),
        ("tp_btf", NEAR_BTF),
        ("tracepoint", NEAR)]),
    ("attach", "kprobe*", &[
        ("kprobe", "kprobe, without tracefs"),
        ("fentry", "fentry of the same function"),
        ("tp_btf", NEAR_BTF),
        ("tracepoint", NEAR)]),
    ("attach", "fe*", &[
        ("kprobe", "kprobe of the same function"),
        ("tp_btf", NEAR_BTF),
        ("tracepoint", NEAR)]),
    ("attach", "fsession", &[
        ("fexit", "fentry and fexit with a map by thread between them"),
        ("kprobe", "kprobe and kretprobe with a map by thread between them")]),
    ("attach", "uprobe.*", &[("uprobe", "uprobe, one program or link per function")]),
    ("attach", "tp_btf", &[
        ("raw_tracepoint", "raw tracepoints with bpf_probe_read_kernel"),
        ("tracepoint", "tracepoints with fixed layouts")]),
    ("attach", "tracepoint", &[
        ("tp_btf", "BTF tracepoints"),
        ("raw_tracepoint", "raw tracepoints")]),
    ("attach to a cgroup", "*_unix", &[
        ("lsm", "LSM programs (unix_stream_connect)"),
        ("tracepoint", "system call tracepoints, to observe")]),
    ("attach to a cgroup", "lsm_cgroup", &[
        ("lsm", "lsm with a check of bpf_get_current_cgroup_id")]),
];

const NEAR_BTF: &str = "a BTF tracepoint near the function";
const NEAR: &str = "a tracepoint near the function";

/// The substitute that works here, of those of [`ORDERED`]; `works` knows the answers in `attach`.
pub(super) fn working(
    group: &str,
    name: &str,
    works: impl Fn(&str) -> bool,
) -> Option<&'static str> {
    let row = ORDERED.iter().find(|row| row.0 == group && fits(row.1, name))?;
    row.2.iter().find(|(check, _)| works(check)).map(|(_, words)| *words)
}

/// Cost and substitute of what is missing.
pub(super) fn of(group: &str, name: &str) -> Option<(&'static str, &'static str)> {
    let row = TABLE.iter().find(|row| row.0 == group && fits(row.1, name))?;
    Some((row.2, row.3))
}

fn fits(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(begin)) => name.starts_with(begin),
        _ => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_substitute_that_is_missing_itself_is_not_named() {
        let of = |name, here: &[&str]| working("attach", name, |check| here.contains(&check));
        assert_eq!(of("kprobe", &["fentry", "tp_btf"]), Some("fentry of the same function"));
        assert_eq!(of("kprobe", &["tp_btf"]), Some(NEAR_BTF));
        assert_eq!(of("fentry", &["kprobe"]), Some("kprobe of the same function"));
        assert_eq!(of("fentry", &[]), None);
        let all: Vec<_> = crate::cmd::doctor::groups().into_iter().flatten().collect();
        for (group, name, list) in ORDERED {
            assert!(TABLE.iter().any(|row| row.0 == *group && fits(row.1, name)), "{name}");
            for (check, _) in *list {
                let known = all.iter().any(|c| c.group == "attach" && c.name == *check);
                assert!(known, "{check} for {name}");
            }
        }
    }

    #[test]
    fn every_row_belongs_to_a_check_and_is_reached() {
        let all: Vec<_> = crate::cmd::doctor::groups().into_iter().flatten().collect();
        for row in TABLE {
            let meant = |c: &&crate::cmd::doctor::Check| c.group == row.0 && fits(row.1, &c.name);
            let found = all.iter().find(|c| meant(c));
            assert!(found.is_some(), "{}: {}", row.0, row.1);
            let first =
                all.iter().filter(meant).any(|c| of(c.group, &c.name) == Some((row.2, row.3)));
            assert!(first, "{}: {} stands behind a row that takes all of it", row.0, row.1);
        }
    }
}
