//! `docs/cli.md` names every field of every line of JSON, and every command.

mod common;

use std::collections::BTreeSet;

use common::{json, run};
use serde_json::Value;
use skep::kernel::probe;

/// Commands that together print every kind of line.
const RUNS: &[(&str, &[&str])] = &[
    ("run", &["run", "tests/data/objects/events.bpf.o", "--pcap", "examples/traffic.pcap"]),
    ("run", &["run", "tests/data/objects/maps.bpf.o", "--pcap", "examples/traffic.pcap"]),
    ("run", &["run", "examples/classify.bpf.o", "--pcap", "examples/traffic.pcap", "--per-cpu"]),
    (
        "test-run",
        &["test-run", "examples/classify.bpf.o", "--data-in", "000000000000000000000000000000"],
    ),
    ("inspect", &["inspect", "tests/data/objects/externs.bpf.o"]),
    (
        "inspect",
        &["inspect", "examples/execsnoop.bpf.o", "--btf", "tests/data/objects/core_target.bpf.o"],
    ),
    ("disasm", &["disasm", "examples/composition.bpf.o"]),
];

/// The same, of lines that only the kernel engine has reason to print.
const KERNEL_RUNS: &[(&str, &[&str])] = &[
    ("run", &["run", "tests/data/objects/places.bpf.o", "--prog", "tasks", "--prog", "once"]),
    (
        "run",
        &[
            "run",
            "tests/data/objects/places.bpf.o",
            "--attach",
            "elements=over:map=squares",
            "--event-type",
            "elements=square",
        ],
    ),
];
const KERNEL_KINDS: &[&str] = &["iterator", "record", "ran"];

fn page() -> String {
    let path = skep_testing::repository().join("docs/cli.md");
    std::fs::read_to_string(path).expect("the page is in the repository")
}

/// The rows of the table: command, type, and the text that names the fields.
fn rows(page: &str) -> Vec<(String, String, String)> {
    let mut command = String::new();
    let table = page.lines().skip_while(|l| !l.starts_with("| command | `type`")).skip(2);
    let row = |line: &str| {
        let line = line.replace("\\|", "/");
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [first, kind, fields] = cells.as_slice() else { panic!("{line}") };
        if !first.is_empty() {
            command = first.trim_matches('`').into();
        }
        (command.clone(), kind.trim_matches('`').into(), (*fields).to_owned())
    };
    table.take_while(|l| l.starts_with('|')).map(row).collect()
}

/// Names in backquotes, without the marks of what may be absent.
fn names(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.map(|n| n.trim_end_matches("/null").trim_end_matches('?').to_owned()).collect()
}

#[test]
fn every_field_is_in_the_table_and_every_kind_of_line_is_seen() {
    let rows = rows(&page());
    let mut seen = BTreeSet::new();
    let kernel = probe::can_load().is_yes();
    for (command, args) in RUNS.iter().chain(KERNEL_RUNS.iter().filter(|_| kernel)) {
        let ran = run(&[args, &["--json"][..]].concat());
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        for line in json(&ran.out) {
            let kind = line["type"].as_str().expect("each line has a type").to_owned();
            let row = rows.iter().find(|(c, k, _)| c == command && *k == kind);
            let known = names(&row.unwrap_or_else(|| panic!("no row for {command} {kind}")).2);
            let mut check = |value: &Value| {
                let fields = value.as_object().expect("a line is an object").keys();
                let missing = fields.filter(|f| *f != "type" && !known.contains(*f)).count();
                assert_eq!(missing, 0, "{command} {kind}: {value}");
            };
            check(&line);
            if let (Some(entries), "run") = (line["entries"].as_array(), *command) {
                entries.iter().for_each(&mut check);
            }
            if line["source"].is_object() {
                check(&line["source"]);
            }
            seen.insert(((*command).to_owned(), kind));
        }
    }
    let listed = rows.into_iter().map(|(command, kind, _)| (command, kind));
    let listed: BTreeSet<_> =
        listed.filter(|(_, kind)| kernel || !KERNEL_KINDS.contains(&kind.as_str())).collect();
    assert_eq!(seen, listed);
}

#[test]
fn every_command_has_its_row() {
    let page = page();
    let help = run(&["--help"]).out;
    let listed = help.lines().skip_while(|l| *l != "Commands:").skip(1);
    for line in listed.take_while(|l| !l.is_empty()) {
        let name = line.split_whitespace().next().expect("a command has a name");
        assert!(name == "help" || page.contains(&format!("skep {name}")), "{name}");
    }
}
