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
        let mut err = "engine: embedded (packets from a file need no kernel)\n".to_owned();
        if *example == "legacy" {
            err +=
                "note: maps not pinned: protocol_bytes (--pin-root DIR pins them in the kernel)\n";
        }
        assert_eq!(text.err, err);
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
    let skip = |why: &str| {
        skep_testing::skip(skep_testing::Skip::Tool, "classify_counts_what_tcpdump_counts", why);
    };
    if !skep_testing::has_tool("tcpdump") {
        return skip("tcpdump is not installed");
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
        if !output.status.success() {
            // As root it wants to change its user, which a container may forbid.
            return skip(String::from_utf8_lossy(&output.stderr).trim());
        }
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

#[test]
fn of_many_entries_text_shows_some_unless_asked_for_all() {
    let listed = |text: &str| {
        let map = text.split("\n\n").find(|part| part.starts_with("map flows"));
        map.map_or(0, |map| map.lines().filter(|l| l.starts_with("  source=")).count())
    };
    let some = embedded("classify", &[]).out;
    assert!(some.contains("map flows (hash): 407 entries\n"), "{some}");
    assert!(some.contains("\n  … 387 more (--map flows shows all)\n"), "{some}");
    assert_eq!(listed(&some), 20);
    let all = embedded("classify", &["--map", "flows"]).out;
    assert_eq!((listed(&all), all.contains("more")), (407, false));
    let lines = json(&embedded("classify", &["--json"]).out);
    let flows = lines.iter().find(|l| l["map"] == "flows").expect("the map is printed");
    assert_eq!(flows["entries"].as_array().map(Vec::len), Some(407));
}

#[test]
fn addresses_are_compact_hex() {
    let out = embedded("classify", &["--map", "flows"]).out;
    assert!(out.contains("\n  source=00000000000000000000ffff0a010001 destination="), "{out}");
}

#[test]
fn verdicts_that_are_numbers_are_in_order_and_not_all_of_them() {
    let ran = run(&["run", "tests/data/objects/subprogs.bpf.o", "--pcap", TRAFFIC]);
    let head = "verdicts of main_a: 734 packets, 106785 bytes\n  43   1\n  61   12\n";
    assert!(ran.out.starts_with(head), "{}", ran.out);
    assert!(ran.out.contains("\n  … 171 more (--json shows all)\n"), "{}", ran.out);
}

#[test]
fn events_and_printk_lines_are_streamed() {
    let object = "tests/data/objects/events.bpf.o";
    let ran = run(&["run", object, "--pcap", TRAFFIC]);
    let first = "printk: 60 bytes of 806\n\
                 perf cpu=0 length=60 ethertype=2054 source=025e00000001 note=\"in\"\n\
                 ring length=60 ethertype=2054 source=025e00000001 note=\"in\"\n";
    assert!(ran.out.starts_with(first), "{}\n{}", ran.out, ran.err);
    let lines = json(&run(&["run", object, "--pcap", TRAFFIC, "--json"]).out);
    let count =
        |name: &str| lines.iter().filter(|l| l["map"] == name && l["type"] == "event").count();
    let printed = lines.iter().filter(|l| l["type"] == "printk").count();
    assert_eq!((count("ring"), count("perf"), printed), (734, 734, 734));
    for map in ["ring", "perf"] {
        let lost = lines.iter().find(|l| l["type"] == "lost" && l["map"] == map);
        assert_eq!(lost.map(|l| &l["events"]), Some(&0.into()), "{map}");
    }
}

#[test]
fn several_objects_are_told_apart() {
    let objects = ["examples/rewrite.bpf.o", "examples/composition.bpf.o"];
    let args = [&["run"][..], &objects, &["--pcap", TRAFFIC]].concat();
    let text = run(&args).out;
    for object in objects {
        assert!(text.contains(&format!("object {object}\n\nverdicts of ")), "{text}");
    }
    let lines = json(&run(&[&args[..], &["--json"]].concat()).out);
    for object in objects {
        assert!(lines.iter().any(|l| l["object"] == object && l["type"] == "verdicts"));
    }
    assert!(lines.iter().all(|l| l["object"].is_string()));
    assert!(!embedded("rewrite", &["--json"]).out.contains("\"object\""));
}

#[test]
fn what_was_counted_until_the_capture_broke_is_shown() {
    let path = skep_testing::repository().join(TRAFFIC);
    let whole = std::fs::read(path).expect("the trace is there");
    let cut = Scratch::with("cut.pcap", whole.get(..100_000).expect("the trace is longer"));
    let ran = run(&["run", "examples/rewrite.bpf.o", "--pcap", cut.path()]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("error: ") && ran.err.contains("cut.pcap"), "{}", ran.err);
    assert!(ran.out.starts_with("verdicts of rewrite: 639 packets, "), "{}", ran.out);
}

#[test]
fn an_empty_capture_has_verdicts_of_no_packets() {
    let path = skep_testing::repository().join(TRAFFIC);
    let whole = std::fs::read(path).expect("the trace is there");
    let empty = Scratch::with("empty.pcap", whole.get(..24).expect("the header is 24 bytes"));
    let ran = run(&["run", "examples/rewrite.bpf.o", "--pcap", empty.path()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.starts_with("verdicts of rewrite: 0 packets, 0 bytes\n"), "{}", ran.out);
}

#[test]
fn programs_that_do_not_run_are_named() {
    let ran = run(&[
        "run",
        "examples/rewrite.bpf.o",
        "tests/data/objects/core_target.bpf.o",
        "--pcap",
        TRAFFIC,
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err.contains("note: programs that take no packets and do not run: none\n"),
        "{}",
        ran.err
    );
}

#[test]
fn a_long_packet_is_cut_in_text_and_whole_in_json() {
    let data = "00".repeat(3000);
    let args = ["test-run", "examples/rewrite.bpf.o", "--data-in", &data];
    let text = run(&args);
    assert!(text.out.ends_with("\n  … 952 more (--json shows all)\n"), "{}", text.out);
    let lines = json(&run(&[&args[..], &["--json"]].concat()).out);
    let out = lines.first().and_then(|l| l["data_out"].as_str()).map(str::len);
    assert_eq!(out, Some(6000));
}
