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

/// Capabilities by their bit.
const CAPABILITIES: &[(u32, &str)] =
    &[(39, "CAP_BPF"), (38, "CAP_PERFMON"), (12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

const CAP_SYS_ADMIN: u32 = 21;

/// File systems by type.
const MOUNTS: &[(&str, &str)] =
    &[("bpf", "bpffs"), ("tracefs", "tracefs"), ("cgroup2", "cgroup v2")];

pub(super) fn checks() -> Vec<Check> {
    let mut all = vec![
        Check::of(GROUP, "bpf(2) for this process", probe::can_load()),
        btf(),
        jit(),
        lockdown(),
        sysctl("kernel/unprivileged_bpf_disabled", "unprivileged bpf(2)", "0"),
    ];
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

fn jit() -> Check {
    let slots = asm::assemble("r0 = 0\nexit").expect("the text is valid");
    let load = Program::load(&ProgramLoad::new("probe", ProgType::SOCKET_FILTER, &slots));
    let (answer, detail) = match load.map(|p| p.info()) {
        Ok(Ok(info)) if info.jited_bytes > 0 => (Answer::Yes, String::new()),
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

fn sysctl(file: &str, name: &'static str, yes: &str) -> Check {
    match fs::read_to_string(format!("/proc/sys/{file}")) {
        Ok(text) => {
            let value = text.trim();
            let answer = if value == yes { Answer::Yes } else { Answer::No };
            Check::new(GROUP, name, answer, format!("{} is {value}", file.replace('/', ".")))
        }
        Err(e) => Check::new(GROUP, name, Answer::Unknown, e.to_string()),
    }
}

fn capabilities() -> Vec<Check> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let set = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let check = |&(bit, name): &(u32, &str)| match set {
        None => Check::new(GROUP, name, Answer::Unknown, "/proc/self/status does not tell"),
        Some(set) if set >> bit & 1 != 0 => Check::new(GROUP, name, Answer::Yes, ""),
        Some(set) if set >> CAP_SYS_ADMIN & 1 != 0 && bit != 12 => {
            Check::new(GROUP, name, Answer::Yes, "CAP_SYS_ADMIN includes it")
        }
        Some(_) => Check::new(GROUP, name, Answer::No, "this process does not have it"),
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
