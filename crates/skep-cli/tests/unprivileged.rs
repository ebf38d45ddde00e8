//! Every command as a user without rights: what needs none works, anything else says what is
//! missing.

mod common;

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    process::{Command, Output, Stdio},
};

use common::skep;
use skep_testing::require_kernel;

const NOBODY: u32 = 65534;

/// Runs the binary as nobody; the words are split at blanks.
fn try_as_nobody(words: &str) -> io::Result<Output> {
    let mut command: Command = skep();
    command.args(words.split(' ')).uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).output()
}

/// May the test become another user, and that user run the binary?
fn can_be_nobody() -> Result<(), String> {
    try_as_nobody("--version").map(drop).map_err(|e| format!("as another user: {e}"))?;
    let disabled = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    match disabled.map_err(|e| e.to_string())?.trim() {
        "0" => Err("here everybody may use bpf(2)".into()),
        _ => Ok(()),
    }
}

/// Command, exit code, and what standard output or standard error says.
const COMMANDS: &[(&str, i32, &str)] = &[
    ("inspect examples/classify.bpf.o", 0, "license"),
    ("disasm examples/classify.bpf.o", 0, "exit"),
    ("run examples/classify.bpf.o --pcap examples/traffic.pcap", 0, "734 packets"),
    (
        "test-run examples/classify.bpf.o --prog classify --data-in 0011223344556677889900112233",
        0,
        "returned",
    ),
    ("doctor", 0, "CAP_BPF"),
    ("run examples/classify.bpf.o --iface lo", 3, "CAP_NET_RAW"),
    ("run examples/execsnoop.bpf.o", 3, "CAP_BPF"),
    ("run examples/classify.bpf.o --iface lo --engine kernel", 3, "CAP_BPF"),
    ("test-run examples/classify.bpf.o --engine kernel --prog classify", 3, "CAP_BPF"),
    ("prog list", 3, "CAP_SYS_ADMIN"),
    ("prog show id 1", 3, "CAP_SYS_ADMIN"),
    ("prog dump xlated id 1", 3, "CAP_SYS_ADMIN"),
    ("prog profile id 1 duration 1", 3, "CAP_SYS_ADMIN"),
    ("prog load examples/classify.bpf.o /sys/fs/bpf/x", 3, "CAP_BPF"),
    ("map list", 3, "CAP_SYS_ADMIN"),
    ("map dump id 1", 3, "CAP_SYS_ADMIN"),
    ("map create /sys/fs/bpf/x type array key 4 value 4 entries 1", 3, "CAP_BPF"),
    ("link list", 3, "CAP_SYS_ADMIN"),
    ("link detach id 1", 3, "CAP_SYS_ADMIN"),
    ("perf show", 3, "CAP_SYS_ADMIN"),
    ("btf list", 3, "CAP_SYS_ADMIN"),
    ("net show", 3, "CAP_NET_ADMIN"),
    ("net clean", 3, "CAP_SYS_ADMIN"),
    ("cgroup tree", 3, "CAP_NET_ADMIN"),
];

#[test]
fn every_command_works_or_names_the_right_that_is_missing() {
    require_kernel!(can_be_nobody());
    for &(words, code, says) in COMMANDS {
        let ran = try_as_nobody(words).expect("it ran before");
        let text = [ran.stdout, ran.stderr].map(|t| String::from_utf8_lossy(&t).into_owned());
        let [out, err] = &text;
        assert_eq!(ran.status.code(), Some(code), "{words}: {err}");
        assert!(out.contains(says) || err.contains(says), "{words}: {err}");
        let refused = code == 3;
        assert_eq!(err.contains("hint: "), refused, "{words}: {err}");
        assert!(!err.contains("panicked"), "{words}: {err}");
    }
}

/// The capabilities of a user namespace are none for `bpf(2)`, whatever they look like.
#[test]
fn the_capabilities_of_a_user_namespace_do_not_count() {
    require_kernel!(can_be_nobody());
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", env!("CARGO_BIN_EXE_skep"), "prog", "list"]);
    let ran = command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).output();
    let ran = ran.map_err(|e| format!("unshare: {e}"));
    require_kernel!(ran.as_ref().map(drop).map_err(Clone::clone));
    let ran = ran.unwrap();
    let err = String::from_utf8_lossy(&ran.stderr);
    let forbidden = err.contains("unshare failed").then(|| err.to_string());
    require_kernel!(forbidden.map_or(Ok(()), Err));
    assert_eq!(ran.status.code(), Some(3), "{err}");
    assert!(err.contains("in a user namespace"), "{err}");
}
