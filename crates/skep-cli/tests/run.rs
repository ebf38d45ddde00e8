//! `skep run` on captures: exact output, JSON, packets written.

mod common;

use std::{collections::BTreeMap, process::Command};

use common::{Scratch, golden, json, run};

const TRAFFIC: &str = "examples/traffic.pcap";

/// Every example that packets are given to, and which of its maps are compared word by word.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("classify", &["--map", "protocols", "--map", "protocols_percpu", "--map", ".bss"]),
    ("rewrite", &[]),
    ("composition", &[]),
    ("legacy", &[]),
];

fn embedded(example: &str, more: &[&str]) -> common::Ran {
    let object = format!("examples/{example}.bpf.o");
    run(&[&["run", &object, "--pcap", TRAFFIC], more].concat())
}

#[test]
fn examples_print_as_expected() {
    for (example, maps) in EXAMPLES {
        let text = embedded(example, maps);
        assert_eq!(text.code, 0, "{example}: {}", text.err);
        assert_eq!(text.err, "engine: embedded (packets from a file need no kernel)\n");
        golden(&format!("run/{example}.txt"), &text.out);
        let lines = embedded(example, &[maps, &["--json"][..]].concat());
        assert!(json(&lines.out).iter().all(|line| line["type"].is_string()));
        golden(&format!("run/{example}.json"), &lines.out);
    }
}

/// The counters of `protocols` by name.
#[expect(clippy::indexing_slicing, reason = "what is not there is null")]
fn protocols(out: &str) -> BTreeMap<String, u64> {
    let lines = json(out);
    let map = lines.iter().find(|l| l["map"] == "protocols").expect("the map is printed");
    let entries = map["entries"].as_array().expect("entries are a list");
    let mut counts = BTreeMap::new();
    for entry in entries {
        let name = entry["key"].as_str().expect("keys are enumerators");
        let packets = entry["value"]["packets"].as_u64().expect("counters are numbers");
        counts.insert(name.to_owned(), packets);
    }
    counts
}

#[test]
fn classify_counts_what_tcpdump_counts() {
    if !skep_testing::has_tool("tcpdump") {
        let (kind, why) = (skep_testing::Skip::Tool, "tcpdump is not installed");
        return skep_testing::skip(kind, "classify_counts_what_tcpdump_counts", why);
    }
    let counted = protocols(&embedded("classify", &["--json"]).out);
    for (name, packets) in counted {
        let filter = match name.as_str() {
            "eth" => String::new(),
            "qinq" => "vlan and vlan".into(),
            name => name.replace("vlan_", "vlan and "),
        };
        let output = Command::new("tcpdump")
            .args(["-n", "-r", TRAFFIC, &filter])
            .current_dir(skep_testing::repository())
            .output()
            .expect("tcpdump starts");
        let lines = output.stdout.iter().filter(|b| **b == b'\n').count() as u64;
        assert_eq!(packets, lines, "{name}");
    }
}

#[test]
fn variables_and_sizes_are_set_before_the_load() {
    let none = embedded("classify", &["--json", "--set", "drop_udp_port=0"]);
    let verdicts = &json(&none.out)[0];
    assert_eq!(verdicts["verdicts"]["XDP_PASS"], verdicts["packets"]);
    let small = embedded("classify", &["--json", "--max-entries", "flows=8", "--map", "flows"]);
    let flows = &json(&small.out)[1];
    assert_eq!(
        (&flows["max_entries"], flows["entries"].as_array().map(Vec::len)),
        (&8.into(), Some(8))
    );
}

#[test]
fn repeat_feeds_the_capture_again() {
    let twice = embedded("classify", &["--json", "--repeat", "2"]);
    let once = embedded("classify", &["--json"]);
    let packets = |out: &str| json(out)[0]["packets"].as_u64().expect("a number");
    assert_eq!(packets(&twice.out), 2 * packets(&once.out));
}

#[test]
fn what_passes_is_written_and_reads_back() {
    let file = Scratch::new("passed.pcap");
    let ran = embedded("classify", &["--json", "--write-pcap", file.path()]);
    let passed = json(&ran.out)[0]["verdicts"]["XDP_PASS"].clone();
    let again = run(&["run", "examples/classify.bpf.o", "--pcap", file.path(), "--json"]);
    let verdicts = &json(&again.out)[0];
    assert_eq!((&verdicts["packets"], &verdicts["verdicts"]["XDP_PASS"]), (&passed, &passed));
}

#[test]
fn per_cpu_values_add_up_to_the_sum() {
    let ran = embedded("classify", &["--json", "--per-cpu", "--map", "protocols_percpu"]);
    let map = &json(&ran.out)[1];
    for entry in map["entries"].as_array().expect("entries are a list") {
        let cpus = entry["per_cpu"].as_array().expect("one value for each CPU");
        let sum: u64 = cpus.iter().filter_map(|v| v["packets"].as_u64()).sum();
        assert_eq!(entry["value"]["packets"], sum);
    }
}
