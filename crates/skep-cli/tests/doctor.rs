//! What the doctor says: everything is answered, quickly, with and without rights.

mod common;

use common::{json, run, skep};
use serde_json::Value;
use skep::kernel::probe;
use skep_testing::require_kernel;

fn answer<'a>(rows: &'a [Value], group: &str, name: &str) -> &'a Value {
    let found = rows.iter().find(|r| r["group"] == group && r["name"] == name);
    found.unwrap_or_else(|| panic!("{group}: {name} is answered"))
}

#[test]
fn answers_are_what_the_probes_find() {
    let ran = run(&["doctor", "--json"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let rows = json(&ran.out);
    for row in &rows {
        let answer = row["answer"].as_str().expect("an answer is text");
        assert!(["yes", "no", "unknown"].contains(&answer), "{row}");
        let reason = row["detail"].as_str().is_some_and(|d| !d.is_empty());
        assert!(answer == "yes" || reason, "a reason is given: {row}");
        assert_eq!(row["cost"].is_string(), row["instead"].is_string(), "{row}");
    }
    assert_eq!(answer(&rows, "system", "embedded engine")["answer"], "yes");
    require_kernel!(probe::can_load().into_result());
    for (group, name) in [
        ("system", "bpf(2) for this process"),
        ("program types", "xdp"),
        ("map types", "hash"),
        ("attach", "raw_tracepoint"),
        ("attach", "uprobe"),
        ("attach to the network", "socket"),
        ("BTF", "BPF_BTF_LOAD"),
        ("helpers", "bpf_seq_write"),
        ("instruction set", "v2: less-than jumps"),
    ] {
        assert_eq!(answer(&rows, group, name)["answer"], "yes", "{name}");
    }
}

#[test]
fn text_counts_and_names_what_is_missing() {
    let ran = run(&["doctor"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for group in ["system: ", "\nprogram types: ", "\nmap types: ", "\nattach: ", "\nhelpers: "] {
        assert!(ran.out.contains(group), "{group}: {}", ran.out);
    }
    let all = run(&["doctor", "--all"]).out;
    assert!(all.lines().count() >= ran.out.lines().count());
}

#[test]
fn without_rights_it_says_what_it_cannot_tell_and_what_works() {
    use std::os::unix::process::CommandExt as _;
    let Ok(output) = skep().args(["doctor", "--json"]).uid(65_534).gid(65_534).output() else {
        require_kernel!(Err::<(), _>("this process cannot become another user".to_owned()));
        return;
    };
    assert_eq!(output.status.code(), Some(0));
    let rows = json(&String::from_utf8(output.stdout).expect("output is text"));
    assert_eq!(answer(&rows, "system", "embedded engine")["answer"], "yes");
    let cap = answer(&rows, "system", "CAP_BPF");
    assert_eq!(cap["answer"], "no", "{cap}");
    let network = rows.iter().filter(|r| r["group"] == "attach to the network");
    let unshare = |r: &&Value| r["detail"].as_str().is_some_and(|d| d.ends_with("unshare failed"));
    assert_eq!(network.filter(unshare).count(), 0, "the reason is said");
    let isa = rows.iter().filter(|r| r["group"] == "attach" || r["group"] == "instruction set");
    assert!(isa.clone().count() > 5);
    let bpf = answer(&rows, "system", "bpf(2) for this process");
    if bpf["answer"] != "yes" {
        assert!(bpf["instead"].as_str().is_some_and(|t| t.contains("--engine embedded")), "{bpf}");
        let known = |r: &Value| r["answer"] == "yes" && r["detail"].is_null();
        assert!(!isa.clone().any(known), "nothing was tried, so nothing is known");
        let btf = rows.iter().filter(|r| r["group"] == "BTF");
        assert!(btf.clone().count() > 3 && btf.clone().all(|r| r["answer"] == "unknown"));
    }
}

/// Where bpftool's answers are known to be wrong, and why.
const NOT_AS_BPFTOOL: &[(&str, &str)] =
    &[("tracing", "bpftool loads it without anything to attach to")];

/// Program and map types only: of helpers an older bpftool says yes to every one that newer
/// kernels refuse, whose words it does not know.
#[test]
fn types_are_answered_as_bpftool_answers_them() {
    require_kernel!(probe::can_load().into_result());
    let bpftool = std::process::Command::new("bpftool").args(["-j", "feature", "probe"]).output();
    let Ok(bpftool) = bpftool else {
        skep_testing::skip(skep_testing::Skip::Tool, "doctor", "bpftool is not installed");
        return;
    };
    let theirs: Value = serde_json::from_slice(&bpftool.stdout).expect("it prints JSON");
    let rows = json(&run(&["doctor", "--json"]).out);
    let mut compared = 0;
    for (key, group, end) in
        [("program_types", "program types", "_prog_type"), ("map_types", "map types", "_map_type")]
    {
        for (name, yes) in theirs[key].as_object().expect("one answer by name") {
            let name = name.strip_prefix("have_").and_then(|n| n.strip_suffix(end));
            let name = name.expect("names are built like this");
            if NOT_AS_BPFTOOL.iter().any(|row| row.0 == name) {
                continue;
            }
            let answer = answer(&rows, group, name)["answer"] == "yes";
            assert_eq!(Some(answer), yes.as_bool(), "{group}: {name}");
            compared += 1;
        }
    }
    assert!(compared > 50, "{compared} types");
}

#[test]
fn it_ends_and_leaves_nothing() {
    require_kernel!(probe::can_load().into_result());
    // Against probes that hang. How long it takes is in docs/manage.md.
    let begin = std::time::Instant::now();
    assert_eq!(run(&["doctor"]).code, 0);
    let took = begin.elapsed();
    assert!(took < std::time::Duration::from_secs(60), "{took:?}");
    let ids = |kind: &str| -> Vec<Value> {
        let rows = json(&run(&[kind, "list", "--json"]).out);
        rows.into_iter().filter(|row| row["name"] == "probe").collect()
    };
    // What a process held is freed a moment after its end.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while !(ids("prog").is_empty() && ids("map").is_empty()) {
        assert!(std::time::Instant::now() < until, "{:?} {:?}", ids("prog"), ids("map"));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
