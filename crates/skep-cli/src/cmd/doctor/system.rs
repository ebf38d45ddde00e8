//! The machine and the process: rights, types, compiler, mounts.

use std::fs;

use skep::{
    abi::ProgType,
    isa::asm,
    kernel::{
        Program, ProgramLoad,
        probe::{self, Support},
        target,
    },
};

use super::{Answer, Check};

const GROUP: &str = "system";

/// Capabilities by their bit, what they are for, and whether CAP_SYS_ADMIN includes them.
const CAPABILITIES: &[(u32, &str, &str, bool)] = &[
    (39, "CAP_BPF", "maps and programs at all", true),
    (38, "CAP_PERFMON", "tracing", true),
    (12, "CAP_NET_ADMIN", "programs on packets and sockets", false),
    (21, "CAP_SYS_ADMIN", "objects of others, mounts, cgroup devices", false),
    (13, "CAP_NET_RAW", "packets of an interface on the embedded engine", false),
    (34, "CAP_SYSLOG", "addresses of kernel functions", true),
    (19, "CAP_SYS_PTRACE", "which process holds what", false),
    (24, "CAP_SYS_RESOURCE", "maps beyond RLIMIT_MEMLOCK before Linux 5.11", false),
];

const CAP_SYS_ADMIN: u32 = 21;

/// File systems by type.
const MOUNTS: &[(&str, &str)] = &[
    ("bpf", "bpffs"),
    ("tracefs", "tracefs"),
    ("debugfs", "debugfs"),
    ("securityfs", "securityfs"),
    ("cgroup2", "cgroup v2"),
];

/// Settings: file below /proc/sys, what "yes" is, and the values that are yes.
const SETTINGS: &[(&str, &str, &[&str])] = &[
    ("kernel/unprivileged_bpf_disabled", "unprivileged bpf(2)", &["0"]),
    ("kernel/perf_event_paranoid", "unprivileged perf events", &["-1", "0", "1", "2"]),
    ("kernel/kptr_restrict", "kernel addresses in /proc/kallsyms", &["0", "1"]),
    ("net/core/bpf_jit_harden", "JIT without hardening", &["0"]),
    ("net/core/bpf_jit_kallsyms", "names of JIT code in /proc/kallsyms", &["1"]),
];

/// bpf_ktime_get_coarse_ns came with the kernel that charges maps to the memory cgroup: 5.11.
const SINCE_5_11: u32 = 160;

pub(super) fn checks() -> Vec<Check> {
    let mut all = vec![
        Check::of(GROUP, "bpf(2) for this process", probe::can_load()),
        btf(),
        module_btf(),
        jit(),
        lockdown(),
        security_modules(),
        memory(),
    ];
    all.extend(SETTINGS.iter().map(|&(file, name, yes)| sysctl(file, name, yes)));
    all.extend(capabilities());
    all.extend(mounts());
    // The embedded engine needs nothing of the machine.
    all.push(Check::new(GROUP, "embedded engine", Answer::Yes, "needs no rights"));
    all
}

fn btf() -> Check {
    let support = match target::vmlinux_btf() {
        Ok(btf) => {
            let detail = format!("{} types", btf.len());
            return Check::new(GROUP, "kernel BTF", Answer::Yes, detail);
        }
        Err(e) => Support::No(e.to_string()),
    };
    Check::of(GROUP, "kernel BTF", support)
}

fn module_btf() -> Check {
    const NAME: &str = "BTF of modules";
    let Ok(entries) = fs::read_dir("/sys/kernel/btf") else {
        return Check::new(GROUP, NAME, Answer::No, "/sys/kernel/btf is not there");
    };
    let modules = entries.flatten().filter(|entry| entry.file_name() != "vmlinux").count();
    let loaded = fs::read_to_string("/proc/modules").map_or(0, |text| text.lines().count());
    match modules {
        0 if loaded > 0 => {
            let detail = format!("none of the {loaded} loaded modules shows any");
            Check::new(GROUP, NAME, Answer::No, detail)
        }
        0 => Check::new(GROUP, NAME, Answer::Unknown, "no module is loaded"),
        n => Check::new(GROUP, NAME, Answer::Yes, format!("{n} modules")),
    }
}

fn jit() -> Check {
    let slots = asm::assemble("r0 = 0\nexit").expect("the text is valid");
    let load = Program::load(&ProgramLoad::new("probe", ProgType::SOCKET_FILTER, &slots));
    let enabled = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or_default();
    let setting = format!("net.core.bpf_jit_enable is {}", enabled.trim());
    let (answer, detail) = match load.map(|p| p.info()) {
        Ok(Ok(info)) if info.jited_bytes > 0 => (Answer::Yes, setting),
        Ok(Ok(_)) => (Answer::No, "a program was loaded without machine code".into()),
        Ok(Err(e)) => (Answer::Unknown, e.to_string()),
        Err(_) => (Answer::Unknown, "no program can be loaded from here".into()),
    };
    Check::new(GROUP, "JIT", answer, detail)
}

/// "Yes" is that lockdown does not hinder BPF.
fn lockdown() -> Check {
    const NAME: &str = "reading kernel memory (lockdown)";
    let file = fs::read_to_string("/sys/kernel/security/lockdown");
    let Ok(text) = file else {
        let detail = "/sys/kernel/security/lockdown cannot be read; mount securityfs to know";
        return Check::new(GROUP, NAME, Answer::Unknown, detail);
    };
    let level = text.split(['[', ']']).nth(1).unwrap_or("none").to_owned();
    let answer = if level == "confidentiality" { Answer::No } else { Answer::Yes };
    Check::new(GROUP, NAME, answer, format!("lockdown is {level}"))
}

/// Whether such programs run is found by `attach: lsm`; this is what the kernel says.
fn security_modules() -> Check {
    const NAME: &str = "bpf among the security modules";
    let Ok(list) = fs::read_to_string("/sys/kernel/security/lsm") else {
        let detail = "/sys/kernel/security/lsm cannot be read; mount securityfs to know";
        return Check::new(GROUP, NAME, Answer::Unknown, detail);
    };
    let list = list.trim();
    let answer = if list.split(',').any(|m| m == "bpf") { Answer::Yes } else { Answer::No };
    Check::new(GROUP, NAME, answer, list)
}

fn memory() -> Check {
    const NAME: &str = "memory charged to the cgroup, not to RLIMIT_MEMLOCK";
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let limit = line.and_then(|line| line.split_whitespace().next()).unwrap_or("unknown");
    let detail = format!("RLIMIT_MEMLOCK is {limit}");
    match probe::helper(ProgType::SOCKET_FILTER, SINCE_5_11) {
        Support::Yes => Check::new(GROUP, NAME, Answer::Yes, detail),
        Support::No(_) if probe::can_load().is_yes() => Check::new(GROUP, NAME, Answer::No, detail),
        Support::No(reason) | Support::Unknown(reason) => {
            Check::new(GROUP, NAME, Answer::Unknown, reason)
        }
    }
}

fn sysctl(file: &str, name: &'static str, yes: &[&str]) -> Check {
    match fs::read_to_string(format!("/proc/sys/{file}")) {
        Ok(text) => {
            let value = text.trim();
            let answer = if yes.contains(&value) { Answer::Yes } else { Answer::No };
            Check::new(GROUP, name, answer, format!("{} is {value}", file.replace('/', ".")))
        }
        Err(e) => Check::new(GROUP, name, Answer::Unknown, format!("/proc/sys/{file}: {e}")),
    }
}

fn capabilities() -> Vec<Check> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let set = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let check = |&(bit, name, what, included): &(u32, &str, &str, bool)| match set {
        None => Check::new(GROUP, name, Answer::Unknown, "/proc/self/status does not tell"),
        Some(set) if set >> bit & 1 != 0 => Check::new(GROUP, name, Answer::Yes, what),
        Some(set) if included && set >> CAP_SYS_ADMIN & 1 != 0 => {
            let detail = format!("{what}: CAP_SYS_ADMIN includes it");
            Check::new(GROUP, name, Answer::Yes, detail)
        }
        Some(_) => Check::new(GROUP, name, Answer::No, format!("not here; it is for {what}")),
    };
    CAPABILITIES.iter().map(check).collect()
}

fn mounts() -> Vec<Check> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let place = |kind: &str| {
        let mut all = mounts.lines().map(|l| l.split(' ').skip(1));
        all.find_map(|mut words| words.next().filter(|_| words.next() == Some(kind)))
    };
    let check = |&(kind, name): &(&str, &str)| match place(kind) {
        Some(at) => Check::new(GROUP, name, Answer::Yes, at),
        None => Check::new(GROUP, name, Answer::No, "not mounted"),
    };
    MOUNTS.iter().map(check).collect()
}
