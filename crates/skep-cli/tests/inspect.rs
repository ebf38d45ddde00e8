//! `skep inspect` and `skep disasm` of the examples, word by word; asm and disasm together.

mod common;

use common::{golden, json, run, run_with};

const EXAMPLES: &[&str] = &["classify", "rewrite", "composition", "legacy", "execsnoop"];

#[test]
fn examples_are_inspected_and_disassembled() {
    for example in EXAMPLES {
        let object = format!("examples/{example}.bpf.o");
        for command in ["inspect", "disasm"] {
            let text = run(&[command, &object]);
            assert_eq!((text.code, text.err.as_str()), (0, ""), "{command} {example}");
            golden(&format!("{command}/{example}.txt"), &text.out);
            let lines = run(&[command, &object, "--json"]);
            assert!(!json(&lines.out).is_empty());
        }
        golden(&format!("inspect/{example}.json"), &run(&["inspect", &object, "--json"]).out);
    }
}

#[test]
fn what_disasm_prints_asm_reads() {
    for example in EXAMPLES {
        let object = format!("examples/{example}.bpf.o");
        let programs = run(&["inspect", &object, "--json"]).out;
        let names = json(&programs).into_iter().filter(|l| l["type"] == "program");
        for name in names.map(|l| l["name"].as_str().expect("a name").to_owned()) {
            let lines = json(&run(&["disasm", &object, "--prog", &name, "--json"]).out);
            let field = |f: &str| {
                let column = lines.iter().map(|l| l[f].as_str().expect("text").to_owned());
                column.collect::<Vec<_>>()
            };
            let text = field("insn").join("\n");
            let ran = run_with(&["asm", "-"], text.as_bytes());
            assert_eq!(ran.out.trim(), field("bytes").join(" "), "{example} {name}: {}", ran.err);
            // The text for people too, with all it has beside the instructions.
            let listing = run(&["disasm", &object, "--prog", &name, "--bytes"]).out;
            let again = run_with(&["asm", "-"], listing.as_bytes());
            assert_eq!(again.out, ran.out, "{example} {name}: {}", again.err);
        }
    }
}

#[test]
fn jumps_and_calls_name_their_target() {
    let lines = json(&run(&["disasm", "examples/composition.bpf.o", "--json"]).out);
    let functions = lines.iter().filter(|l| l["function"] == "count_protocol");
    assert_eq!(functions.count(), 1);
    let call =
        lines.iter().find(|l| l["insn"].as_str().is_some_and(|i| i.starts_with("call pc+11")));
    assert_eq!(call.map(|l| &l["names"]), Some(&"count_protocol".into()));
    let jump = lines.iter().find(|l| l["insn"] == "if w0 s< 1 goto +3");
    let at = jump.and_then(|l| l["pc"].as_u64()).expect("the jump is there");
    assert_eq!(jump.map(|l| l["target"].clone()), Some((at + 4).into()));
}

#[test]
fn relocations_are_resolved_for_the_types_that_are_named() {
    let objects = "tests/data/objects";
    let (core, types) = (format!("{objects}/core.bpf.o"), format!("{objects}/core_target.bpf.o"));
    let found = json(&run(&["inspect", &core, "--btf", &types, "--json"]).out);
    let resolved = |program: &str, pc: u32| {
        let mut all = found.iter().filter(|l| l["type"] == "core_relocation");
        let line = all.find(|l| l["program"] == program && l["pc"] == pc);
        line.and_then(|l| l["resolved"].as_str()).expect("it is resolved").to_owned()
    };
    assert_eq!(resolved("fields", 6), "40 by struct moved.last (0:4 @ offset 40)");
    assert_eq!(resolved("nesting", 6), "0, not there");
    assert_eq!(resolved("nesting", 8), "not there: must not be reached");
    assert!(resolved("unsafe", 0).ends_with("of another size: must not be loaded"));
    assert!(!run(&["inspect", &core, "--json"]).out.contains("resolved"));
}

#[test]
fn an_assembled_object_runs() {
    let object = common::Scratch::new("assembled.o");
    let text = b"r2 = *(u32 *)(r1 + 0)\nr3 = *(u32 *)(r1 + 4)\nr3 -= r2\nr0 = r3\nexit\n";
    let args = ["asm", "-", "--format", "elf", "--section", "xdp", "-o", object.path()];
    let ran = run_with(&args, text);
    assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
    let ran = run(&["test-run", object.path(), "--data-in", &"00".repeat(60), "--json"]);
    assert_eq!(json(&ran.out).first().map(|l| l["retval"].clone()), Some(60.into()), "{}", ran.err);
}

#[test]
fn hex_is_disassembled() {
    let ran = run(&["disasm", "--bytes", "--hex", "b7 00 00 00 2a 00 00 00 9500000000000000"]);
    assert_eq!(
        ran.out,
        "   0: b7 00 00 00 2a 00 00 00 r0 = 42\n   1: 95 00 00 00 00 00 00 00 exit\n"
    );
}

#[test]
fn a_classic_filter_is_printed_and_converted() {
    let filter = b"4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n";
    let text = run_with(&["cbpf"], filter);
    assert!(text.out.starts_with("(000) ldh      [12]\n(001) jeq      #0x800"), "{}", text.out);
    let ebpf = run_with(&["cbpf", "--ebpf"], filter);
    assert_eq!(run_with(&["asm", "-"], ebpf.out.as_bytes()).code, 0);
}

#[test]
fn types_are_dumped_as_c_and_raw() {
    let object = "examples/execsnoop.bpf.o";
    let c = run(&["btf", "dump", object]).out;
    assert!(c.contains("struct event {") && c.contains("char comm[16];"), "{c}");
    let raw = run(&["btf", "dump", object, "--format", "raw"]).out;
    assert!(raw.contains("STRUCT 'event' size="), "{raw}");
}

#[test]
fn what_an_object_says_does_not_steer_the_terminal() {
    let directory = std::env::temp_dir().join(format!("skep-clean-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let object = directory.join("red.bpf.o").display().to_string();
    let license = "GPL \x1b[31m";
    let made = run_with(
        &["asm", "-", "--format", "elf", "--license", license, "--output", &object],
        b"r0 = 0\nexit\n",
    );
    assert_eq!((made.code, made.err.as_str()), (0, ""));
    let (text, lines) = (run(&["inspect", &object]), run(&["inspect", &object, "--json"]));
    std::fs::remove_dir_all(&directory).expect("the directory is ours");
    assert!(text.out.contains("GPL \\u001b[31m") && !text.out.contains('\x1b'), "{}", text.out);
    assert!(json(&lines.out).iter().any(|line| line["license"] == license), "{}", lines.out);
}
