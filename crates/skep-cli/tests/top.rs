//! `skep top` on programs that the test runs.

mod common;

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{fails, json, ok, row, skep};
use serde_json::Value;
use skep::kernel::{Program, TestRunOptions, inspect, probe};
use skep_testing::{Skip, has_tool, require_kernel, sandbox};

/// A program that is pinned, by its id.
fn opened(path: &str) -> (u32, Program) {
    let shown = row(&format!("prog show pinned {path}"));
    let id = shown.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
    let id = id.expect("rows have ids");
    (id, inspect::open_program(id).expect("ids can be asked").expect("it is pinned"))
}

/// One look of two seconds, while `during` runs the program: the program's row. `during` begins
/// when runs count.
fn look(id: u32, program: &Program, during: impl Fn()) -> Value {
    let child = skep()
        .args(["top", "-n", "1", "-d", "2s", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let end = Instant::now() + Duration::from_secs(20);
    let counted = || program.info().expect("it is loaded").run_count;
    while counted() == 0 {
        assert!(Instant::now() < end, "counting is never turned on");
        let once = TestRunOptions { data: &[0; 64], ..Default::default() };
        program.test_run(&once).expect("it runs");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(300));
    during();
    let output = child.wait_with_output().expect("it ends");
    let rows = json(&String::from_utf8(output.stdout).expect("stdout is text"));
    let is_its = |row: &Value| row.get("id").and_then(Value::as_u64) == Some(id.into());
    rows.into_iter().find(is_its).expect("the program has a row")
}

#[test]
fn the_runs_of_a_program_are_those_that_it_had() {
    require_kernel!(probe::can_load().into_result());
    let done = sandbox(|| {
        ok("prog load examples/classify.bpf.o /sys/fs/bpf/p");
        let (id, program) = opened("/sys/fs/bpf/p");
        let seen = look(id, &program, || {
            let many = TestRunOptions { data: &[0; 64], repeat: 5000, ..Default::default() };
            program.test_run(&many).expect("it runs");
        });
        let (runs, time) = (&seen["run_cnt"], &seen["run_time_ns"]);
        let (runs, time) = (runs.as_u64().unwrap(), time.as_u64().unwrap());
        // The first ones may fall between turning on and looking.
        assert!((5000..5010).contains(&runs), "{seen}");
        assert_eq!(
            (&seen["name"], seen["mean_ns"].as_u64()),
            (&"classify".into(), Some(time / runs))
        );
        let seconds = seen["seconds"].as_f64().unwrap();
        assert!((2.0..8.0).contains(&seconds), "{seen}");
        let share = seen["cpu_percent"].as_f64().unwrap();
        #[expect(clippy::cast_precision_loss, reason = "times of a test are short")]
        let want = time as f64 / 1e7 / seconds;
        assert!((share - want).abs() < 0.02, "{seen}");
    });
    require_kernel!(done);
}

#[test]
fn a_full_ring_buffer_is_seen() {
    require_kernel!(probe::can_load().into_result());
    let done = sandbox(|| {
        let load = ["prog", "load", "tests/data/objects/events.bpf.o", "/sys/fs/bpf/p"];
        assert_eq!(common::run(&load).code, 0);
        let (id, program) = opened("/sys/fs/bpf/p");
        let seen = look(id, &program, || {
            for _ in 0..200 {
                let once = TestRunOptions { data: &[0; 64], ..Default::default() };
                program.test_run(&once).expect("it runs");
            }
        });
        assert!(seen["ring_full_percent"].as_f64() > Some(90.0), "{seen}");
        assert!(seen["ring_bytes_per_second"].as_f64() > Some(0.0), "{seen}");
    });
    require_kernel!(done);
}

#[test]
fn lines_are_printed_where_there_is_no_terminal() {
    require_kernel!(probe::can_load().into_result());
    let done = sandbox(|| {
        ok("prog load examples/classify.bpf.o /sys/fs/bpf/p");
        let out = ok("top -n 2 -d 60ms --filter classify --sort id");
        let heads: Vec<&str> = out.lines().filter(|l| l.contains("RUNS/S")).collect();
        assert_eq!(heads.len(), 2, "{out}");
        let (id, _) = opened("/sys/fs/bpf/p");
        assert!(out.contains(&format!("{id:>7} xdp              classify ")), "{out}");
        fails(2, "top --sort colour");
        fails(2, "top -d soon");
    });
    require_kernel!(done);
}

#[test]
fn a_terminal_is_taken_and_given_back() {
    require_kernel!(probe::can_load().into_result());
    if !has_tool("script") {
        skep_testing::skip(Skip::Tool, "top", "script (util-linux) is not installed");
        return;
    }
    let command = format!("{} top -d 60ms -n 2", env!("CARGO_BIN_EXE_skep"));
    let output =
        Command::new("timeout").args(["20", "script", "-qec", &command, "/dev/null"]).output();
    let output = output.expect("script starts");
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{out}");
    let (enter, leave) = ("\u{1b}[?1049h", "\u{1b}[?1049l");
    let (from, to) = (out.find(enter), out.rfind(leave));
    assert!(from.is_some() && from < to, "{out:?}");
    assert!(out.contains("skep top: ") && out.contains("q quit"), "{out:?}");
}
