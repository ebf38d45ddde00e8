//! `skep gen object` and `skep link objects`.

mod common;

use std::fs;

use common::{fails, ok, run};

fn temporary(name: &str) -> String {
    let file = format!("skep-{name}-{}.bpf.o", std::process::id());
    std::env::temp_dir().join(file).display().to_string()
}

const MAIN: &str = "tests/data/link/shared_main.bpf.o";
const LIB: &str = "tests/data/link/shared_lib.bpf.o";

#[test]
fn both_spellings_write_the_same_object() {
    let (first, second) = (temporary("gen"), temporary("link"));
    assert_eq!(ok(&format!("gen object {first} {MAIN} {LIB}")), "");
    assert_eq!(ok(&format!("link objects {MAIN} {LIB} -o {second}")), "");
    assert!(fs::read(&first).expect("written") == fs::read(&second).expect("written"));
    let shown = ok(&format!("inspect {first}"));
    assert!(shown.contains("main_prog") && shown.contains("lib_prog"), "{shown}");
    let ran = run(&["test-run", &first, "--prog", "main_prog", "--data-in", &"00".repeat(60)]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    [first, second].iter().for_each(|path| fs::remove_file(path).expect("it is ours"));
}

#[test]
fn what_is_open_is_a_note_and_what_contradicts_an_error() {
    let out = temporary("open");
    let ran = run(&["gen", "object", &out, MAIN]);
    let note = format!("note: {out} wants what none of the objects defines: ");
    assert_eq!(ran.err, format!("{note}counts, limit, settings, sort\n"));
    assert_eq!(ran.code, 0);
    fs::remove_file(&out).expect("it is ours");

    let text = fails(1, &format!("gen object {out} {LIB} tests/data/link/conflict_map.bpf.o"));
    let expected = format!(
        "error: counts is one thing in {LIB} and another in tests/data/link/conflict_map.bpf.o: \
         max_entries 4 against 8\n"
    );
    assert_eq!(text, expected);
    let text = fails(1, &format!("gen object {out} {LIB} {MAIN} {LIB}"));
    assert!(text.contains("sort is defined twice: .text in "), "{text}");
    assert!(!std::path::Path::new(&out).exists(), "nothing is written");
    fails(2, "gen object out.o");
    fails(2, &format!("link objects {LIB}"));
}
