//! `skep run examples/execsnoop.bpf.o` sees the processes that this test starts.

mod common;

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{interrupt, skep};
use serde_json::Value;

const ATTACHED: &str = "attached 5 programs";

/// Does this machine let us attach to tracepoints? Tried by doing it.
fn cannot() -> Option<String> {
    let ran = common::run(&["run", "examples/execsnoop.bpf.o", "--duration", "0s"]);
    (ran.code == 3).then_some(ran.err)
}

#[test]
fn started_processes_are_shown_with_their_arguments() {
    if let Some(why) = cannot() {
        return skep_testing::skip(skep_testing::Skip::Kernel, "execsnoop", why.trim());
    }
    let mut child = skep()
        .args(["run", "examples/execsnoop.bpf.o", "--duration", "3s", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut err = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut line = String::new();
    while !line.starts_with(ATTACHED) {
        line.clear();
        assert_ne!(err.read_line(&mut line).expect("stderr is text"), 0, "it ended too early");
    }
    // Each process carries a word that no other test's processes have.
    let word = format!("skep-execsnoop-{}", std::process::id());
    let started: Vec<u32> = (0..3)
        .map(|i| {
            let mut echo = Command::new("echo");
            echo.args([&word, &i.to_string()]).stdout(Stdio::null());
            let mut echo = echo.spawn().expect("echo starts");
            echo.wait().expect("echo ends");
            echo.id()
        })
        .collect();
    let missing = Command::new(format!("/nonexistent/{word}")).spawn();
    assert!(missing.is_err());
    let output = child.wait_with_output().expect("the binary ends");
    assert_eq!(output.status.code(), Some(0));
    let lines = common::json(&String::from_utf8(output.stdout).expect("stdout is text"));
    let ours: Vec<&Value> = lines
        .iter()
        .filter(|l| l["type"] == "event" && l["event"]["args"].to_string().contains(&word))
        .map(|l| &l["event"])
        .collect();
    for (i, pid) in started.iter().enumerate() {
        // A search along PATH may fail before it succeeds.
        let event = ours.iter().find(|e| e["pid"] == *pid && e["retval"] == 0);
        let event = event.expect("each process is shown");
        assert_eq!(event["ppid"], std::process::id(), "{event}");
        assert_eq!(event["comm"], "echo");
        assert_eq!(event["args"], format!("echo {word} {i}"));
        assert_eq!(event["args_count"], 3);
    }
    let file = format!("/nonexistent/{word}");
    let failed = ours.iter().find(|e| e["filename"] == file).expect("failures are shown too");
    assert_eq!(failed["retval"], -2, "ENOENT");
}

#[test]
fn ctrl_c_detaches_and_is_exit_code_130() {
    if let Some(why) = cannot() {
        return skep_testing::skip(skep_testing::Skip::Kernel, "execsnoop", why.trim());
    }
    let mut child = skep()
        .args(["run", "examples/execsnoop.bpf.o"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut err = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut line = String::new();
    while !line.starts_with(ATTACHED) {
        line.clear();
        assert_ne!(err.read_line(&mut line).expect("stderr is text"), 0, "it ended too early");
    }
    interrupt(&child);
    let asked = Instant::now();
    let output = child.wait_with_output().expect("the binary ends");
    assert!(asked.elapsed() < Duration::from_secs(10), "the end took {:?}", asked.elapsed());
    assert_eq!(output.status.code(), Some(130));
    let out = String::from_utf8(output.stdout).expect("stdout is text");
    assert!(out.contains("variables of .bss"), "maps are printed at the end:\n{out}");
}
