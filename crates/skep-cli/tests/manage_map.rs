//! Maps that the management commands make and fill.

mod common;

use std::{fs, process::Stdio, thread, time::Duration};

use common::{fails, json, ok, row, run, skep};
use serde_json::Value;
use skep::{
    abi::{MapNeeds, MapRule, MapType},
    kernel::{self, inspect, probe},
};
use skep_testing::{Skip, has_tool, require_kernel, sandbox};

/// A private bpf file system, where the test pins.
fn with_pins(body: impl FnOnce() + Send) {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(sandbox(body));
}

/// bpftool's answer for what is pinned at a path.
fn bpftool(path: &str) -> Value {
    let mut command = std::process::Command::new("bpftool");
    let output = command.args(["-j", "map", "show", "pinned", path]).output();
    let output = output.expect("bpftool starts");
    serde_json::from_slice(&output.stdout).expect("bpftool prints JSON")
}

#[test]
fn every_type_of_map_is_made_by_its_rules() {
    with_pins(|| {
        ok("map create /sys/fs/bpf/inner type hash key 4 value 4 entries 1 name inner");
        let compare = has_tool("bpftool");
        if !compare {
            skep_testing::skip(Skip::Tool, "manage_map", "bpftool is not installed");
        }
        let mut made = Vec::new();
        for rule in MapType::ALL.iter().filter_map(|&t| MapRule::of(t)) {
            let name = rule.map_type.to_string();
            let def = rule.smallest(kernel::page_bytes());
            let (key, value, entries) = (def.key_size, def.value_size, def.max_entries);
            let path = format!("/sys/fs/bpf/{name}");
            let mut words = format!("map create {path} type {name} key {key} value {value}");
            words += &format!(" entries {entries} name m_{name} flags {}", def.flags.0);
            match rule.needs {
                MapNeeds::Inner => words += " inner_map pinned /sys/fs/bpf/inner",
                MapNeeds::KernelType => {
                    assert!(fails(2, &words).contains("comes with its programs"));
                    continue;
                }
                _ => {}
            }
            let ran = run(&words.split(' ').collect::<Vec<_>>());
            if ran.code != 0 {
                // Only what this kernel is too old for.
                let young = [MapType::INSN_ARRAY, MapType::RHASH, MapType::ARENA];
                assert!(young.contains(&rule.map_type), "{words}: {}", ran.err);
                continue;
            }
            let ours = row(&format!("map show pinned {path}"));
            assert_eq!(ours["type"], name.as_str());
            let sizes = [&ours["bytes_key"], &ours["bytes_value"], &ours["max_entries"]];
            assert_eq!(sizes, [key, value, entries], "{ours}");
            if compare {
                let theirs = bpftool(&path);
                for field in ["id", "name", "bytes_key", "bytes_value", "max_entries", "frozen"] {
                    assert_eq!(ours.get(field), theirs.get(field), "{name}: {ours} {theirs}");
                }
            }
            fs::remove_file(&path).expect("it was pinned");
            made.push(name);
        }
        assert!(made.len() >= 30, "{made:?}");
    });
}

#[test]
fn a_broken_rule_is_named_before_the_kernel_is_asked() {
    with_pins(|| {
        let cases = [
            ("type array key 8 value 4 entries 1", "key_size is 8, expected 4"),
            ("type lpm_trie key 8 value 4 entries 1", "expected no_prealloc among them"),
            ("type ringbuf entries 5000", "a power of two, in bytes, of whole pages"),
            ("type hash key 4 value 4 entries 0", "max_entries is 0, expected at least 1"),
            ("type cpumap value 4 entries 1 flags mmapable", "expected none but numa_node"),
            ("type percpu_array value 40000 entries 1", "value_size is 40000"),
        ];
        for (words, want) in cases {
            let why = fails(1, &format!("map create /sys/fs/bpf/never {words}"));
            assert!(why.contains(want), "{words}: {why}");
        }
        let why = fails(2, "map create /sys/fs/bpf/never type array_of_maps entries 1");
        assert!(why.contains("need `inner_map MAP`"), "{why}");
        assert!(!fs::exists("/sys/fs/bpf/never").unwrap());
    });
}

#[test]
fn queues_and_stacks_give_in_their_order() {
    with_pins(|| {
        ok("map create /sys/fs/bpf/q type queue value 4 entries 2 name q");
        ok("map create /sys/fs/bpf/s type stack value 4 entries 2 name s");
        let (queue, stack) = ("pinned /sys/fs/bpf/q", "pinned /sys/fs/bpf/s");
        for n in [7, 8] {
            ok(&format!("map enqueue {queue} value {n}"));
            ok(&format!("map push {stack} value {n}"));
        }
        assert_eq!(fails(1, &format!("map push {queue} value 9")).lines().count(), 1, "it is full");
        assert_eq!(ok(&format!("map peek {queue}")), "value: 7\n");
        assert_eq!(ok(&format!("map dequeue {queue}")), "value: 7\n");
        assert_eq!(row(&format!("map pop {stack}"))["value"], 8);
        ok(&format!("map pop {stack}"));
        assert_eq!(fails(1, &format!("map pop {stack}")), "s is empty\n");
        ok("map create /sys/fs/bpf/h type hash key 4 value 4 entries 1 name h");
        let why = fails(2, "map pop pinned /sys/fs/bpf/h");
        assert!(why.contains("its entries have keys"), "{why}");
    });
}

#[test]
fn a_frozen_map_is_read_only() {
    with_pins(|| {
        ok("map create /sys/fs/bpf/a type array value 4 entries 2 name a");
        ok("map update pinned /sys/fs/bpf/a key 1 value 5");
        ok("map freeze pinned /sys/fs/bpf/a");
        assert_eq!(row("map show pinned /sys/fs/bpf/a")["frozen"], 1);
        for words in ["update pinned /sys/fs/bpf/a key 1 value 6", "freeze pinned /sys/fs/bpf/a"] {
            let why = fails(1, &format!("map {words}"));
            assert!(why.contains("map 'a': ") && why.contains("the map is frozen"), "{why}");
        }
        assert_eq!(ok("map lookup pinned /sys/fs/bpf/a key 1"), "key: 1  value: 5\n");
    });
}

#[test]
fn what_is_wrong_with_a_path_or_a_key_is_said() {
    const CASES: &[(&str, &str)] = &[
        ("map create /sys/fs/bpf/h type hash key 4 value 4 entries 1", "pin at /sys/fs/bpf/h: "),
        ("map create /tmp/skep-h type hash key 4 value 4 entries 1", "not on a bpf file system"),
        ("map pin pinned /sys/fs/bpf/h /tmp/skep-h", "cannot pin at /tmp/skep-h: "),
        ("map pin pinned /sys/fs/bpf/h /sys/fs/bpf/no/h", "cannot pin at /sys/fs/bpf/no/h: "),
        ("map show pinned /sys/fs/bpf/none", "cannot open /sys/fs/bpf/none: "),
        ("map show pinned /proc/version", "cannot open /proc/version: "),
        ("link show pinned /sys/fs/bpf/h", "/sys/fs/bpf/h is a pinned map, expected a link"),
        ("map update pinned /sys/fs/bpf/h key 9 value 1 exist", "the key is not there"),
        ("map update pinned /sys/fs/bpf/h key 1 value 1 noexist", "it is there already"),
        ("map update pinned /sys/fs/bpf/h key 9 value 1", "a map without a name: "),
        ("map delete pinned /sys/fs/bpf/h key 9", "the key is not there"),
        ("map getnext pinned /sys/fs/bpf/h key 1", "the map has no further key"),
    ];
    with_pins(|| {
        ok("map create /sys/fs/bpf/h type hash key 4 value 4 entries 1");
        ok("map update pinned /sys/fs/bpf/h key 1 value 1");
        for (words, want) in CASES {
            let why = fails(1, words);
            assert!(why.contains(want) && !why.contains("run as root"), "{words}: {why}");
        }
    });
}

#[test]
fn maps_of_maps_take_maps() {
    with_pins(|| {
        ok("map create /sys/fs/bpf/inner type array value 4 entries 2 name inner");
        ok("map create /sys/fs/bpf/outer type hash_of_maps key 4 entries 3 name outer \
            inner_map pinned /sys/fs/bpf/inner");
        ok("map update pinned /sys/fs/bpf/outer key 9 value pinned /sys/fs/bpf/inner");
        let id = &row("map show pinned /sys/fs/bpf/inner")["id"];
        assert_eq!(row("map dump pinned /sys/fs/bpf/outer")["value"], *id);
    });
}

#[test]
fn records_are_piped_as_they_come() {
    with_pins(|| {
        let object = "tests/data/objects/events.bpf.o";
        let words = ["prog", "load", object, "/sys/fs/bpf/tell", "pinmaps", "/sys/fs/bpf/maps"];
        let loaded = run(&words);
        assert_eq!(loaded.code, 0, "{}", loaded.err);
        let frame = common::Scratch::with("event", &[7; 60]);
        for map in ["ring", "perf"] {
            let child = skep()
                .args(["map", "event_pipe", "pinned", &format!("/sys/fs/bpf/maps/{map}")])
                .args(["--lines", "3", "--duration", "20s", "--json"])
                .stdout(Stdio::piped())
                .spawn()
                .expect("the binary starts");
            let pid = child.id();
            let ended = thread::scope(|scope| {
                let waiting = scope.spawn(|| child.wait_with_output());
                while !waiting.is_finished() {
                    ok(&format!("prog run pinned /sys/fs/bpf/tell data_in {}", frame.path()));
                    thread::sleep(Duration::from_millis(50));
                }
                waiting.join().expect("nothing panics").expect("the binary ends")
            });
            let out = String::from_utf8(ended.stdout).unwrap();
            let events = json(&out);
            assert_eq!((ended.status.code(), events.len()), (Some(0), 3), "{map}: {out}");
            for event in &events {
                assert_eq!(event["type"], "sample", "{out}");
                // The record begins with the length of the frame.
                assert!(event["data"].as_str().unwrap().starts_with("3c000000"), "{out}");
                assert_eq!(event["cpu"].is_u64(), map == "perf", "{out}");
            }
            let mine = |o: &inspect::Owner| o.pid == pid;
            assert!(!inspect::owners().values().flatten().any(mine), "nothing is left behind");
        }
        let why = fails(2, "map event_pipe pinned /sys/fs/bpf/maps/_rodata --duration 1s");
        assert!(why.contains("no perf event array and no ring buffer"), "{why}");
    });
}

#[test]
fn types_of_what_is_loaded_are_printed() {
    with_pins(|| {
        ok("prog load examples/classify.bpf.o /sys/fs/bpf/p pinmaps /sys/fs/bpf/maps");
        let types = ok("btf dump map pinned /sys/fs/bpf/maps/flows kv --format raw");
        let heads: Vec<&str> = types.lines().filter(|l| l.starts_with('[')).collect();
        assert_eq!(heads.len(), 2, "{types}");
        assert!(types.contains("STRUCT 'flow' size=") && types.contains("STRUCT 'counter' size="));
        let all = ok("btf dump prog pinned /sys/fs/bpf/p format raw");
        assert!(heads.iter().all(|head| all.contains(head)), "{all}");
        let id = &row("prog show pinned /sys/fs/bpf/p")["btf_id"];
        assert_eq!(ok(&format!("btf dump id {id} format raw")), all);
        assert!(ok(&format!("btf dump id {id}")).contains("struct flow {"));
        fails(2, "btf dump map pinned /sys/fs/bpf/maps/flows kv");
        fails(2, "btf dump id x");
        fails(1, "btf dump map id 4294967290");
        if has_tool("bpftool") {
            let mut command = std::process::Command::new("bpftool");
            let output = command.args(["btf", "dump", "id", &id.to_string()]).output();
            let theirs = String::from_utf8(output.expect("bpftool starts").stdout).unwrap();
            let types = |text: &str| text.lines().filter(|l| l.starts_with('[')).count();
            assert_eq!(types(&theirs), types(&all));
        }
    });
}
