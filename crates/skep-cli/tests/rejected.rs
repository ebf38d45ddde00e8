//! A program that the kernel's verifier rejects: where, and how to see more.

mod common;

use common::{Ran, run};

const OBJECT: &str = "tests/data/objects/rejected.bpf.o";
/// The sentence, with its place; kernels before 6.10 do not tell file and number.
const PLACES: [&str; 2] = ["rejected.bpf.c:19 \"*count += 1;\"", "source \"*count += 1;\""];

/// Every command that loads it; none gets as far as to pin or attach.
const COMMANDS: [&[&str]; 4] = [
    &["run", OBJECT, "--engine", "kernel", "--pcap", "examples/traffic.pcap"],
    &["test-run", OBJECT, "--engine", "kernel", "--data-in", "00"],
    &["prog", "load", OBJECT, "/sys/fs/bpf/skep_rejected"],
    &["prog", "loadall", OBJECT, "/sys/fs/bpf/skep_rejected"],
];

fn lines(ran: &Ran) -> (&str, Option<&str>) {
    let find = |start: &str| ran.err.lines().find(|line| line.starts_with(start));
    (find("error: ").unwrap_or_default(), find("hint: "))
}

#[test]
fn a_rejection_names_its_line_and_the_way_to_the_log() {
    if let Err(e) = skep::Engine::kernel() {
        return skep_testing::skip(skep_testing::Skip::Kernel, "rejected", &e.to_string());
    }
    for command in COMMANDS {
        let ran = run(command);
        let (error, hint) = lines(&ran);
        assert_eq!(ran.code, 1, "{command:?}: {ran:?}");
        assert!(error.contains("program 'rejected' rejected by the kernel at insn "), "{ran:?}");
        assert!(PLACES.iter().any(|place| error.contains(place)), "{ran:?}");
        assert!(error.contains(": R0 invalid mem access 'map_value_or_null'"), "{ran:?}");
        assert_eq!(hint, Some("hint: --verifier-log prints the verifier's whole log"), "{ran:?}");
        assert!(!ran.err.contains("\nprocessed "), "{ran:?}");

        let ran = run(&[command, &["--verifier-log"]].concat());
        assert_eq!((ran.code, lines(&ran).1), (1, None), "{command:?}: {ran:?}");
        assert!(ran.err.contains("\nprocessed "), "{ran:?}");
    }
}
