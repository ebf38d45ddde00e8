//! `skep run` attaches structures of functions, and takes them away at the end.

mod common;

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
};

use common::{interrupt, json, ok, run, skep};
use serde_json::Value;

fn registered(name: &str) -> bool {
    let list = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    list.expect("readable").split_whitespace().any(|known| known == name)
}

#[test]
fn a_congestion_control_is_registered_while_it_runs() {
    let names = ["skep_run_1", "skep_run_2", "skep_run_3"];
    let sets = ["first", "second", "plain"].into_iter().zip(names);
    let sets: Vec<String> = sets.map(|(map, name)| format!("{map}.name={name}")).collect();
    let mut command = skep();
    command.args(["run", "tests/data/objects/tcp_ca.bpf.o", "--duration", "60s"]);
    for set in &sets {
        command.args(["--set", set]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut err = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut said = String::new();
    while !said.contains("attached ") {
        if err.read_line(&mut said).expect("stderr is text") == 0 {
            child.wait().expect("it has ended");
            return skep_testing::skip(skep_testing::Skip::Kernel, "run struct_ops", said.trim());
        }
    }
    assert!(said.contains("attached 3 struct_ops maps"), "{said}");
    assert!(names.iter().all(|name| registered(name)));
    // Their values have types of the kernel's.
    let maps = json(&ok("map list name plain --json"));
    let dumped =
        maps.iter().flat_map(|map| json(&ok(&format!("map dump id {} --json", map["id"]))));
    let named: Vec<Value> = dumped.map(|entry| entry["value"]["data"]["name"].clone()).collect();
    assert!(named.contains(&names[2].into()), "{named:?}");
    // A name can be registered once.
    let mut again = vec!["run", "tests/data/objects/tcp_ca.bpf.o", "--duration", "1s"];
    again.extend(sets.iter().flat_map(|set| ["--set", set]));
    let again = run(&again);
    assert_eq!(again.code, 1, "{again:?}");
    assert!(
        again.err.contains("registered already") && again.err.contains("skep map list"),
        "{again:?}"
    );
    interrupt(&child);
    let output = child.wait_with_output().expect("the binary ends");
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(!names.iter().any(|name| registered(name)));
}
