//! The same objects and packets on the embedded engine and in the kernel: same maps, same verdicts,
//! same bytes out.

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufReader,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use skep::{Engine, Loaded, Object, VariableError, packets::PcapReader, verdict};
use skep_testing::{require_kernel, sandbox};

/// Every example that packets are given to, and the program they go to.
const EXAMPLES: &[(&str, &str)] = &[
    ("classify", "classify"),
    ("rewrite", "rewrite"),
    ("rewrite", "rewrite_tcx"),
    ("composition", "composition"),
    ("legacy", "count_packet"),
];

/// What became of a packet: verdict and bytes.
type Fate = (u32, Vec<u8>);

/// Entries by key, per-CPU values summed word by word.
type Contents = BTreeMap<Vec<u8>, Vec<u64>>;

fn frames() -> Vec<Vec<u8>> {
    let path = skep_testing::repository().join("examples/traffic.pcap");
    let file = BufReader::new(File::open(path).expect("the trace is in the repository"));
    let mut reader = PcapReader::new(file).expect("the trace is a capture");
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet().expect("the trace is whole") {
        frames.push(packet.data.to_vec());
    }
    frames
}

fn load(example: &str, program: &str, engine: &Engine) -> Loaded {
    let path = skep_testing::repository().join(format!("examples/{example}.bpf.o"));
    let mut object = Object::open(path).expect("the example opens");
    object.pin_maps(false);
    object.select(&[program]).expect("the program is there");
    object.load(engine).expect("the example loads")
}

fn run(loaded: &Loaded, program: &str, frames: &[Vec<u8>]) -> Vec<Fate> {
    let program = loaded.program(program).expect("the program is loaded");
    let fate = |frame: &Vec<u8>| {
        let run = program.run_on_frame(frame).expect("the program runs");
        (run.retval, run.data)
    };
    frames.iter().map(fate).collect()
}

fn contents(loaded: &Loaded) -> BTreeMap<String, Contents> {
    let mut all = BTreeMap::new();
    for (spec, map) in loaded.maps() {
        let is_prog_array = spec.def.map_type == skep::abi::MapType::PROG_ARRAY;
        if is_prog_array || spec.def.map_type.is_map_in_map() {
            continue;
        }
        let words = |value: &[u8]| -> Vec<u64> {
            let word = |chunk: &[u8]| {
                let mut bytes = chunk.to_vec();
                bytes.resize(8, 0);
                u64::from_ne_bytes(bytes.try_into().expect("it was made 8 long"))
            };
            value.chunks(8).map(word).collect()
        };
        let mut found = Contents::new();
        for (key, value) in map.entries().expect("the map can be read") {
            let mut sum = vec![0u64; words(&vec![0; spec.def.value_size as usize]).len()];
            for cpu in map.split_cpus(&value) {
                sum.iter_mut().zip(words(cpu)).for_each(|(s, w)| *s = s.wrapping_add(w));
            }
            found.insert(key, sum);
        }
        all.insert(spec.name.clone(), found);
    }
    all
}

fn kernel() -> Option<Engine> {
    match Engine::kernel() {
        Ok(engine) => Some(engine),
        Err(e) => {
            skep_testing::skip(skep_testing::Skip::Kernel, "both_engines", &e.to_string());
            None
        }
    }
}

#[test]
fn examples_do_the_same_on_both_engines() {
    let Some(kernel) = kernel() else { return };
    let frames = frames();
    for (example, program) in EXAMPLES {
        let [here, there] = [Engine::embedded(), kernel.clone()].map(|engine| {
            let loaded = load(example, program, &engine);
            let fates = run(&loaded, program, &frames);
            (fates, contents(&loaded))
        });
        for (number, (ours, theirs)) in here.0.iter().zip(&there.0).enumerate() {
            assert_eq!(ours, theirs, "{example} {program}, packet {}", number + 1);
        }
        assert_eq!(here.1, there.1, "{example} {program}");
        // A test of equality must not be one of nothing.
        assert!(here.1.values().any(|map| map.values().flatten().any(|w| *w != 0)), "{example}");
    }
}

#[test]
fn a_variable_is_set_beside_counters_that_programs_raise() {
    const RUNS: u64 = 3000;
    let Some(kernel) = kernel() else { return };
    for engine in [Engine::embedded(), kernel] {
        let loaded = load("composition", "composition", &engine);
        let program = loaded.program("composition").expect("it is loaded");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    loaded.set_variable("largest", 1_u64).expect("it is in .bss");
                }
            });
            for _ in 0..RUNS {
                program.run_on_frame(&[0; 64]).expect("it runs");
            }
            done.store(true, Relaxed);
        });
        assert_eq!(loaded.variable::<u64>("packets").expect("it is there"), RUNS, "{engine:?}");
        loaded.set_variable("largest", 7_u64).expect("it is in .bss");
        assert_eq!(loaded.variable::<u64>("largest").expect("it is there"), 7, "{engine:?}");
        let frozen = loaded.set_variable("drop_odd_sums", 1_u8).expect_err(".rodata is frozen");
        assert!(matches!(frozen, VariableError::Map(_)), "{frozen}");
    }
}

#[test]
fn the_command_prints_the_same_for_both_engines() {
    if kernel().is_none() {
        return;
    }
    for example in ["classify", "rewrite", "composition", "legacy"] {
        let object = format!("examples/{example}.bpf.o");
        let [here, there] = ["embedded", "kernel"].map(|engine| {
            let file = common::Scratch::new(&format!("{example}-{engine}.pcap"));
            let ran = common::run(&[
                "run",
                &object,
                "--pcap",
                "examples/traffic.pcap",
                "--engine",
                engine,
                "--json",
                "--write-pcap",
                file.path(),
            ]);
            assert_eq!(ran.code, 0, "{example} {engine}: {}", ran.err);
            (ran.out, std::fs::read(&file.0).expect("the capture was written"))
        });
        assert!(here.0.contains("\"verdicts\""), "{example}");
        assert_eq!(here.0, there.0, "{example}");
        assert!(here.1 == there.1, "{example}: the captures differ");
    }
}

#[test]
fn verdicts_have_names_on_both_engines() {
    let Some(kernel) = kernel() else { return };
    for engine in [Engine::embedded(), kernel] {
        let loaded = load("classify", "classify", &engine);
        let program = loaded.program("classify").expect("the program is loaded");
        let run = program.run_on_frame(&[0; 60]).expect("the program runs");
        assert_eq!(verdict::name(program.prog_type(), run.retval), "XDP_PASS");
    }
}

#[test]
fn nothing_is_pinned_unless_a_place_is_named() {
    if kernel().is_none() {
        return;
    }
    let legacy = "examples/legacy.bpf.o";
    let traffic = "examples/traffic.pcap";
    require_kernel!(sandbox(|| {
        // A kernel may put files of its own there.
        let files = || -> BTreeSet<_> {
            let root = std::fs::read_dir("/sys/fs/bpf").expect("the sandbox mounts it");
            root.map(|e| e.expect("it can be read").file_name()).collect()
        };
        let before = files();
        let args = ["run", legacy, "--pcap", traffic, "--engine", "kernel"];
        let ran = common::run(&args);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let note = "note: maps not pinned: protocol_bytes (--pin-root DIR pins them in the kernel)";
        assert_eq!(ran.err.lines().filter(|l| *l == note).count(), 1, "{}", ran.err);
        assert_eq!(files(), before);

        let ran = common::run(&[&args[..], &["--pin-root", "/sys/fs/bpf"]].concat());
        assert_eq!((ran.code, ran.err.contains("pinned")), (0, false), "{}", ran.err);
        assert_eq!(files().len(), before.len() + 1, "{:?}", files());

        let ran = common::run(&[&args[..], &["--pin-root", "/proc"]].concat());
        assert_eq!(ran.code, 3, "{}", ran.err);
        assert!(ran.err.contains("hint: pins need a bpf file system"), "{}", ran.err);
    }));
}

#[test]
fn a_program_that_the_kernel_does_not_run_for_us_is_exit_code_3() {
    if kernel().is_none() {
        return;
    }
    let args = ["test-run", "examples/execsnoop.bpf.o", "--prog", "exit_execve"];
    let ran = common::run(&[&args[..], &["--engine", "kernel"]].concat());
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("hint: ") && ran.err.contains("--engine embedded"), "{}", ran.err);
}

#[test]
fn the_kernel_prints_somewhere_else_and_that_is_said() {
    if kernel().is_none() {
        return;
    }
    let args = ["run", "tests/data/objects/events.bpf.o", "--pcap", "examples/traffic.pcap"];
    let ran = common::run(&[&args[..], &["--engine", "kernel"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("note: lines of bpf_printk go to "), "{}", ran.err);
    assert!(!common::run(&args).err.contains("bpf_printk"));
}
