//! Exit codes and messages when something is wrong.

mod common;

use std::{
    io::Read as _,
    process::{Command, Stdio},
};

use common::{Scratch, run, run_with, skep};

const CLASSIFY: &str = "examples/classify.bpf.o";
const EXECSNOOP: &str = "examples/execsnoop.bpf.o";
const EVENTS: &str = "tests/data/objects/events.bpf.o";
const TRAFFIC: &str = "examples/traffic.pcap";

/// Arguments, exit code, what the message must contain.
const CASES: &[(&[&str], i32, &[&str])] = &[
    (&[], 2, &["Usage: skep"]),
    (&["frobnicate"], 2, &["unrecognized subcommand"]),
    (&["run"], 2, &["<OBJECT>..."]),
    (&["run", CLASSIFY, "--nonsense"], 2, &["unexpected argument '--nonsense'"]),
    (&["run", CLASSIFY, "--duration", "soon"], 2, &["unknown unit `soon`"]),
    (&["run", CLASSIFY, "--engine", "jit"], 2, &["[possible values: auto, embedded, kernel]"]),
    (&["run", CLASSIFY, "--write-pcap", "x.pcap"], 2, &["--pcap"]),
    (&["run", CLASSIFY, "--pcap", TRAFFIC, "--iface", "lo"], 2, &["cannot be used with"]),
    (&["run", CLASSIFY, "--pcap", TRAFFIC, "--repeat", "0"], 2, &["0 is not in 1.."]),
    (&["run", CLASSIFY], 2, &["--pcap FILE or --iface IF"]),
    (
        &["run", CLASSIFY, "--pcap", TRAFFIC, "--prog", "clasify"],
        1,
        &["no program is called `clasify`; did you mean `classify`?"],
    ),
    (
        &["run", CLASSIFY, "--pcap", TRAFFIC, "--map", "flow"],
        1,
        &["no map is called `flow`; did you mean `flows`?"],
    ),
    (
        &["run", CLASSIFY, "--pcap", TRAFFIC, "--set", "drop_port=1"],
        1,
        &["no variable is called `drop_port`; did you mean `drop_udp_port`?"],
    ),
    (
        &["run", CLASSIFY, "--pcap", TRAFFIC, "--set", "drop_udp_port=70000"],
        1,
        &["variable `drop_udp_port`: ", "70000", "16 bits"],
    ),
    (&["run", CLASSIFY, "--pcap", TRAFFIC, "--set", "drop_udp_port"], 2, &["NAME=VALUE"]),
    (
        &["run", CLASSIFY, "--pcap", TRAFFIC, "--max-entries", "flows=many"],
        2,
        &["--max-entries flows=many: expected a number"],
    ),
    (&["run", CLASSIFY, "--pcap", "nowhere.pcap"], 1, &["cannot read nowhere.pcap: No such file"]),
    (&["run", CLASSIFY, "--pcap", CLASSIFY], 1, &[CLASSIFY]),
    (&["run", "nowhere.o"], 1, &["cannot read nowhere.o: No such file"]),
    (
        &["run", "README.md"],
        1,
        &[
            "README.md is not a BPF object that can be used: it starts with 23 20 73 6b, an ELF file",
        ],
    ),
    (
        &["run", CLASSIFY, "--pcap", TRAFFIC, "--event-type", "counter"],
        2,
        &["--event-type counter: there is no map that programs write events to"],
    ),
    (
        &["run", EVENTS, "--pcap", TRAFFIC, "--map", "ring"],
        2,
        &["--map ring: a map of type ringbuf has no entries to show"],
    ),
    (
        &["run", EXECSNOOP, "--iface", "lo", "--engine", "embedded"],
        2,
        &["--iface: no program of the objects takes packets"],
    ),
    (
        &["run", EVENTS, "--pcap", TRAFFIC, "--event-type", "ring=evnt"],
        2,
        &["--event-type ring=evnt: the BTF has no structure or typedef `evnt`"],
    ),
    (&["inspect", "examples"], 1, &["cannot read examples: Is a directory"]),
    (&["disasm", CLASSIFY, "--prog", "x"], 1, &["no program is called `x`; there is `classify`"]),
    (&["disasm", "--hex", "b7"], 1, &["1"]),
    (&["disasm", "--hex", "zz"], 2, &["`z` is not a hex digit"]),
    (&["disasm", "--hex", "ff00000000000000"], 1, &["0xff"]),
    (
        &["test-run", "examples/composition.bpf.o", "--prog", "sum"],
        1,
        &["did you mean `sum_bytes`?"],
    ),
    (
        &["test-run", CLASSIFY, "--data-in", "xyz"],
        2,
        &["`xyz` is neither a file", "`x` is not a hex digit"],
    ),
    (&["test-run", CLASSIFY, "--data-in", "00"], 1, &["1 bytes, expected an Ethernet header"]),
    (&["btf", "dump", "Cargo.toml"], 1, &["Cargo.toml"]),
    (
        &["run", EXECSNOOP, "--engine", "embedded"],
        3,
        &["the programs attach to the kernel, the embedded engine has no hooks\nhint: "],
    ),
];

#[test]
fn mistakes_have_their_exit_codes_and_messages() {
    for (args, code, parts) in CASES {
        let ran = run(args);
        assert_eq!(ran.code, *code, "{args:?}: {ran:?}");
        for part in *parts {
            assert!(ran.err.contains(part), "{args:?} lacks {part:?}:\n{}", ran.err);
        }
        assert_eq!(ran.out, "", "{args:?}");
    }
}

#[test]
fn an_error_says_each_thing_once() {
    for (args, _, _) in CASES.iter().filter(|(_, code, _)| *code == 1) {
        let err = run(args).err;
        let line = err.lines().find(|l| l.starts_with("error: ")).expect("there is an error");
        let parts: Vec<&str> = line.split(": ").collect();
        for pair in parts.windows(2) {
            assert_ne!(pair[0], pair[1], "{args:?}: {line}");
        }
    }
}

#[test]
fn broken_objects_are_errors_not_crashes() {
    let path = skep_testing::repository().join(CLASSIFY);
    let whole = std::fs::read(path).expect("the example is there");
    for len in (0..whole.len()).step_by(whole.len() / 40) {
        let cut = Scratch::with(&format!("cut-{len}.o"), &whole[..len]);
        for command in ["inspect", "disasm", "run"] {
            let ran = run(&[command, cut.path()]);
            assert_eq!(ran.code, 1, "{command}, {len} bytes: {ran:?}");
            assert!(ran.err.starts_with("error: "), "{ran:?}");
        }
    }
}

#[test]
fn text_that_does_not_assemble_names_its_place() {
    let ran = run_with(&["asm", "-"], b"r0 = 1\nr0 = = 2\nexit\n");
    assert_eq!(ran.code, 1);
    assert!(ran.err.starts_with("error: stdin: line 2, column 6: "), "{}", ran.err);
}

#[test]
fn output_that_finds_no_room_is_an_error() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        let (kind, why) = (skep_testing::Skip::Tool, "there is no /dev/full");
        return skep_testing::skip(kind, "output_that_finds_no_room", why);
    };
    let output = skep().args(["inspect", CLASSIFY]).stdout(full).output().expect("it starts");
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.starts_with("error: cannot write the output: No space left"), "{err}");
}

#[test]
fn a_reader_that_goes_away_is_success() {
    let mut child = skep()
        .args(["run", CLASSIFY, "--pcap", TRAFFIC, "--json", "--repeat", "2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut some = [0; 1];
    child.stdout.take().expect("stdout is piped").read_exact(&mut some).expect("there is output");
    assert_eq!(child.wait().expect("the binary ends").code(), Some(0));
}

#[test]
fn without_rights_the_kernel_engine_is_exit_code_3_with_a_way_out() {
    // Where we have the rights, setpriv takes them away.
    let mut command = match skep::Engine::kernel() {
        Err(_) => skep(),
        Ok(_) if skep_testing::has_tool("setpriv") => {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set=-all", "--inh-caps=-all", env!("CARGO_BIN_EXE_skep")]);
            command
        }
        Ok(_) => {
            let (kind, why) = (skep_testing::Skip::Tool, "setpriv is not installed");
            return skep_testing::skip(kind, "without_rights", why);
        }
    };
    let output = command
        .args(["run", CLASSIFY, "--engine", "kernel", "--pcap", TRAFFIC])
        .current_dir(skep_testing::repository())
        .output()
        .expect("the binary starts");
    let err = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let (kind, why) = (skep_testing::Skip::Kernel, "everybody may load programs here");
        return skep_testing::skip(kind, "without_rights", why);
    }
    assert_eq!(output.status.code(), Some(3), "{err}");
    assert!(err.contains("CAP_BPF") && err.contains("--engine embedded"), "{err}");
}
