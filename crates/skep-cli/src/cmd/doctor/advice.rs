//! What a missing thing costs, and the nearest substitute.

/// Group, name, cost, substitute.
const TABLE: &[(&str, &str, &str, &str)] = &[
    (
        "system",
        "bpf(2) for this process",
        "nothing can be loaded into the kernel from here",
        "run as root (or with CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN); `skep run --engine embedded` \
         and `skep test-run --engine embedded` need no rights",
    ),
    (
        "system",
        "kernel BTF",
        "no CO-RE relocations from this kernel, no BTF tracepoints, fentry or LSM",
        "give the kernel's types with `--btf FILE`; use tracepoints with fixed layouts",
    ),
    (
        "system",
        "JIT",
        "programs are interpreted, several times slower",
        "sysctl net.core.bpf_jit_enable=1, where the kernel has a JIT",
    ),
    (
        "system",
        "bpffs",
        "nothing can be pinned, and pinned maps are not found",
        "mount -t bpf bpf /sys/fs/bpf; or keep the process that holds the links running",
    ),
    (
        "system",
        "tracefs",
        "names of tracepoints cannot be listed by other tools",
        "skep reads them through a mount of its own; mount -t tracefs tracefs /sys/kernel/tracing",
    ),
    (
        "system",
        "cgroup v2",
        "cgroup programs have nothing to attach to",
        "mount -t cgroup2 none SOMEWHERE; or tc programs on the device",
    ),
    (
        "system",
        "CAP_BPF",
        "only what unprivileged processes may load, if anything",
        "root; or the embedded engine",
    ),
    ("system", "CAP_PERFMON", "no tracing programs and no stack traces", "root, or CAP_SYS_ADMIN"),
    ("system", "CAP_NET_ADMIN", "no XDP, tc, and other network programs", "root"),
    (
        "system",
        "CAP_SYS_ADMIN",
        "objects of others cannot be listed by id (skep prog, map, link list)",
        "pinned objects can still be opened by their path, where its permissions allow",
    ),
    (
        "program types",
        "lsm",
        "no decisions at security hooks",
        "cgroup programs for sockets, seccomp or Landlock for processes; tp_btf to observe",
    ),
    (
        "attach",
        "kprobe",
        "kernel functions cannot be traced by kprobes",
        "fentry, where it works; else a BTF tracepoint or tracepoint near the function",
    ),
    (
        "attach",
        "uprobe",
        "functions of user programs cannot be traced",
        "system call tracepoints, filtered by pid",
    ),
    (
        "attach",
        "fentry",
        "kernel functions cannot be traced by trampolines",
        "kprobe, where it works; else a BTF tracepoint or tracepoint near the function",
    ),
    (
        "attach",
        "fmod_ret",
        "return values of kernel functions cannot be changed",
        "seccomp or cgroup programs, which deny in their own places",
    ),
    (
        "attach",
        "tp_btf",
        "arguments of tracepoints cannot be followed by type",
        "raw tracepoints with bpf_probe_read_kernel, or tracepoints with fixed layouts",
    ),
    (
        "attach",
        "tracepoint",
        "no programs on tracepoints by their category and name",
        "raw tracepoints, or BTF tracepoints",
    ),
    (
        "map types",
        "ringbuf",
        "no buffer that all CPUs share in order",
        "perf event arrays: one buffer per CPU, order across CPUs by a timestamp",
    ),
    ("map types", "arena", "no memory shared with user space by address", "array maps with mmap"),
    (
        "map types",
        "task_storage",
        "no values that end with their task",
        "a hash by pid, cleaned at sched_process_exit",
    ),
    (
        "helpers",
        "bpf_override_return",
        "errors cannot be injected into kernel functions",
        "seccomp, which returns an errno in place of a system call",
    ),
    (
        "helpers",
        "bpf_probe_write_user",
        "memory of user programs cannot be written",
        "ptrace or process_vm_writev from user space",
    ),
    (
        "helpers",
        "bpf_ringbuf_output",
        "no ring buffers",
        "bpf_perf_event_output into a perf event array",
    ),
    (
        "helpers",
        "bpf_get_attach_cookie",
        "one program cannot tell its hooks apart",
        "one copy of the program for each hook",
    ),
    (
        "helpers",
        "bpf_loop",
        "loops must be bounded where the verifier sees it",
        "a bounded `for` with a constant limit",
    ),
    ("helpers", "bpf_timer_init", "nothing runs later by itself", "polling from user space"),
    (
        "instruction set",
        "v4 (sign extension, signed division, byte swaps, long jumps)",
        "objects built with -mcpu=v4 are refused",
        "build with -mcpu=v3; or the embedded engine, which knows v4",
    ),
    (
        "instruction set",
        "v3 (32-bit jumps, atomic fetch)",
        "objects built with -mcpu=v3 are refused",
        "build with -mcpu=v2; or the embedded engine",
    ),
];

/// Cost and substitute of what is missing.
pub(super) fn of(group: &str, name: &str) -> Option<(&'static str, &'static str)> {
    let row = TABLE.iter().find(|row| row.0 == group && row.1 == name)?;
    Some((row.2, row.3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::cmd::doctor::{attach, features, system};

    #[test]
    fn every_row_belongs_to_a_check() {
        let all = [
            system::checks(),
            features::programs(),
            attach::checks(),
            features::maps(),
            features::helpers(),
            features::isa(),
        ];
        let names: BTreeSet<(&str, String)> =
            all.into_iter().flatten().map(|c| (c.group, c.name)).collect();
        for (group, name, ..) in TABLE {
            assert!(names.contains(&(*group, (*name).to_owned())), "{group}: {name}");
        }
    }
}
