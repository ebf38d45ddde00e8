//! Programs that the management commands load, run, measure and listen to.

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{fails, interrupt, json, ok, row, run, skep};
use serde_json::Value;
use skep::kernel::{TestRunOptions, inspect, probe};
use skep_testing::{require_kernel, sandbox};

const CLASSIFY: &str = "examples/classify.bpf.o";
const STREAM: &str = "tests/data/objects/stream.bpf.o";

/// A private bpf file system, where the test pins.
fn with_pins(body: impl FnOnce() + Send) {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(sandbox(body));
}

fn id(row: &Value) -> u32 {
    row["id"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("rows have ids")
}

fn is_loaded(id: u32) -> bool {
    inspect::program(id).expect("ids can be asked").is_some()
}

#[test]
fn an_object_is_loaded_pinned_run_and_unloaded() {
    with_pins(|| {
        ok(&format!("prog load {CLASSIFY} /sys/fs/bpf/classify pinmaps /sys/fs/bpf/maps"));
        let program = row("prog show pinned /sys/fs/bpf/classify");
        assert_eq!((&program["name"], &program["type"]), (&"classify".into(), &"xdp".into()));
        let flows = row("map show pinned /sys/fs/bpf/maps/flows");
        assert!(program["map_ids"].as_array().unwrap().contains(&flows["id"]), "{program}");

        let frame = common::Scratch::with("frame", &[0; 64]);
        let words = format!("prog run pinned /sys/fs/bpf/classify data_in {}", frame.path());
        let outcome = row(&format!("{words} data_out - repeat 10"));
        assert_eq!(outcome["retval"], 2, "XDP_PASS: {outcome}");
        assert_eq!(outcome["data_out"].as_str().map(str::len), Some(128));
        let after = common::Scratch::new("after");
        let said = ok(&format!("{words} data_out {}", after.path()));
        assert!(said.starts_with("Return value: 2, duration (average): "), "{said}");
        assert_eq!(fs::read(&after.0).unwrap().len(), 64);
        let counted = row("map lookup pinned /sys/fs/bpf/maps/protocols key 0");
        // 11 packets: the kernel keeps no types of this map, whose keys are enumerators.
        assert!(counted["value"].as_str().unwrap().starts_with("0b00000000000000"), "{counted}");

        // The other object uses the first one's map.
        ok(&format!(
            "prog load {CLASSIFY} /sys/fs/bpf/other map name flows pinned /sys/fs/bpf/maps/flows"
        ));
        let other = row("prog show pinned /sys/fs/bpf/other");
        assert!(other["map_ids"].as_array().unwrap().contains(&flows["id"]), "{other}");
        let wrong = "map name flows pinned /sys/fs/bpf/maps/protocols";
        let why = fails(1, &format!("prog load {CLASSIFY} /sys/fs/bpf/third {wrong}"));
        assert!(why.contains("of type array with keys of 4"), "{why}");

        fs::remove_file("/sys/fs/bpf/classify").unwrap();
        assert!(!is_loaded(id(&program)) && is_loaded(id(&other)));
    });
}

#[test]
fn all_programs_are_pinned_by_their_names_or_none() {
    with_pins(|| {
        ok("prog loadall examples/composition.bpf.o /sys/fs/bpf/all");
        let pinned = || {
            let entries = fs::read_dir("/sys/fs/bpf/all").expect("the directory was made");
            let mut names: Vec<_> =
                entries.flatten().map(|e| e.file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(pinned(), ["composition", "measure_length", "sum_bytes"]);
        // The last one's name is taken: those before it are not left behind.
        fs::remove_file("/sys/fs/bpf/all/composition").unwrap();
        let why = fails(1, "prog loadall examples/composition.bpf.o /sys/fs/bpf/all");
        assert!(why.contains("cannot pin program"), "{why}");
        assert_eq!(pinned(), ["measure_length", "sum_bytes"]);
    });
}

#[test]
fn a_link_is_pinned_when_the_section_says_where() {
    with_pins(|| {
        ok("prog load examples/execsnoop.bpf.o /sys/fs/bpf/exec autoattach");
        let link = row("link show pinned /sys/fs/bpf/exec");
        assert_eq!(link["tracepoint"], "sys_enter_execve", "{link}");
        let prog_id = u32::try_from(link["prog_id"].as_u64().unwrap()).unwrap();
        assert!(is_loaded(prog_id));
        fs::remove_file("/sys/fs/bpf/exec").unwrap();
        assert_eq!(inspect::link(id(&link)).unwrap(), None, "nothing is left behind");
        // A program that wants an interface is pinned itself.
        let ran = run(&["prog", "load", CLASSIFY, "/sys/fs/bpf/classify", "autoattach"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(
            ran.err.starts_with("note: program classify is pinned, not attached"),
            "{}",
            ran.err
        );
        row("prog show pinned /sys/fs/bpf/classify");
    });
}

#[test]
fn instructions_and_machine_code_are_shown_by_function_and_line() {
    with_pins(|| {
        ok(&format!("prog load {CLASSIFY} /sys/fs/bpf/p"));
        let plain = ok("prog dump xlated pinned /sys/fs/bpf/p linum opcodes");
        assert!(plain.contains(" [classify.bpf.c:"), "{plain}");
        assert!(plain.contains("\n      b7 "), "{plain}");
        let graph = ok("prog dump xlated pinned /sys/fs/bpf/p visual");
        assert!(graph.starts_with("digraph program {"), "{graph}");
        assert!(graph.contains("label=\"classify\";") && graph.contains("\tb0 -> b"), "{graph}");
        let file = common::Scratch::new("xlated");
        ok(&format!("prog dump xlated pinned /sys/fs/bpf/p file {}", file.path()));
        let size = row("prog show pinned /sys/fs/bpf/p")["bytes_xlated"].as_u64();
        assert_eq!(fs::metadata(&file.0).ok().map(|m| m.len()), size);

        let shown = run(&["prog", "dump", "jited", "pinned", "/sys/fs/bpf/p", "--json"]);
        if shown.code == 3 {
            require_kernel!(Err::<(), _>(shown.err));
            return;
        }
        let lines = json(&shown.out);
        let hex: String = lines.iter().filter_map(|l| l["bytes"].as_str()).collect();
        let size = row("prog show pinned /sys/fs/bpf/p")["bytes_jited"].as_u64();
        assert_eq!(u64::try_from(hex.len() / 2).ok(), size);
        assert_eq!(lines[0]["function"], "classify");
        assert!(lines.iter().any(|l| l["line"].as_u64() > Some(0)), "{}", shown.out);
        assert_eq!(fails(2, "prog dump jited pinned /sys/fs/bpf/p visual").lines().count(), 1);
    });
}

/// Waits for a child that ends by itself.
fn output(child: Child) -> String {
    let output = child.wait_with_output().expect("the binary ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("stdout is text")
}

#[test]
fn runs_and_their_time_are_counted() {
    with_pins(|| {
        ok(&format!("prog load {CLASSIFY} /sys/fs/bpf/p"));
        let program = inspect::open_program(id(&row("prog show pinned /sys/fs/bpf/p")));
        let program = program.unwrap().expect("it is pinned");
        let run_it = |repeat| {
            program
                .test_run(&TestRunOptions { data: &[0; 64], repeat, ..Default::default() })
                .expect("it runs");
        };
        let counted = || program.info().unwrap().run_count;
        let child = skep()
            .args(["prog", "profile", "pinned", "/sys/fs/bpf/p", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        // Counting is on when a run counts.
        let end = Instant::now() + Duration::from_secs(20);
        while counted() == 0 {
            assert!(Instant::now() < end, "counting is never turned on");
            run_it(1);
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(Duration::from_millis(500));
        run_it(1000);
        interrupt(&child);
        let [seen] = json(&output(child)).try_into().unwrap();
        let seen: Value = seen;
        let runs = seen["run_cnt"].as_u64().unwrap();
        // The first one may fall between turning on and looking.
        assert!((1000..1010).contains(&runs), "{seen}");
        let (time, mean) = (seen["run_time_ns"].as_u64(), seen["mean_ns"].as_u64());
        assert_eq!(mean, time.map(|t| t / runs), "{seen}");
        assert!(time > Some(0) && seen["cpu_percent"].as_f64() > Some(0.0), "{seen}");
        let why = fails(2, "prog profile pinned /sys/fs/bpf/p duration 1 cycles");
        assert!(why.contains("hardware counters are not read"), "{why}");
    });
}

#[test]
fn streams_of_a_program_are_read_once() {
    with_pins(|| {
        ok(&format!("prog load {STREAM} /sys/fs/bpf/speaks"));
        let spoken = &row("prog run pinned /sys/fs/bpf/speaks")["retval"];
        if spoken != 0 {
            // 1: this kernel has no streams; else an errno: it has no memory for them here.
            require_kernel!(Err::<(), _>(format!("bpf_stream_vprintk_impl gives {spoken}")));
            return;
        }
        let out = ok("prog tracelog stdout pinned /sys/fs/bpf/speaks");
        assert_eq!(out, "the answer is 42\n");
        assert_eq!(ok("prog tracelog stdout pinned /sys/fs/bpf/speaks"), "", "it was read");
        let line = row("prog tracelog stderr pinned /sys/fs/bpf/speaks");
        assert_eq!(line["text"], "nothing is wrong");
    });
}

#[test]
fn what_a_program_prints_is_heard() {
    with_pins(|| {
        let loaded = run(&["prog", "loadall", STREAM, "/sys/fs/bpf/s"]);
        assert_eq!(loaded.code, 0, "{}", loaded.err);
        let frame = common::Scratch::with("printed", &[0; 77]);
        let mut child = skep()
            .args(["prog", "tracelog", "--duration", "20s", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        // Each line goes to one reader, and others may read: it is printed until it comes here.
        let done = AtomicBool::new(false);
        let heard = thread::scope(|scope| {
            scope.spawn(|| {
                let end = Instant::now() + Duration::from_secs(20);
                while Instant::now() < end && !done.load(Ordering::Relaxed) {
                    ok(&format!("prog run pinned /sys/fs/bpf/s/traces data_in {}", frame.path()));
                    thread::sleep(Duration::from_millis(100));
                }
            });
            let heard = stdout.lines().map_while(Result::ok).any(|l| l.contains("skep prints 63"));
            done.store(true, Ordering::Relaxed);
            heard
        });
        child.kill().expect("it was started here");
        child.wait().expect("it ends");
        assert!(heard, "the line was never printed");
    });
}

#[test]
fn a_program_is_attached_to_a_socket_map_and_taken_off() {
    with_pins(|| {
        let slots = skep::isa::asm::assemble("r0 = 1\nexit").unwrap();
        let kind = skep::abi::ProgType::SK_MSG;
        let mut new = skep::kernel::ProgramLoad::new("verdict", kind, &slots);
        new.attach_type = Some(skep::abi::AttachType::SK_MSG_VERDICT);
        let program = skep::kernel::Program::load(&new).expect("it loads");
        program.pin("/sys/fs/bpf/verdict".as_ref()).unwrap();
        ok("map create /sys/fs/bpf/sockets type sockmap value 4 entries 2 name sockets");
        let map = inspect::open_map(id(&row("map show pinned /sys/fs/bpf/sockets")));
        let map = map.unwrap().expect("it is pinned");
        let attached = || {
            let owner = skep::kernel::link::Owner::Map(std::os::fd::AsFd::as_fd(&map));
            let at = skep::abi::AttachType::SK_MSG_VERDICT;
            skep::kernel::link::attached(owner, at).map(|a| a.programs.len())
        };
        let words = "pinned /sys/fs/bpf/verdict sk_msg_verdict pinned /sys/fs/bpf/sockets";
        ok(&format!("prog attach {words}"));
        let before = attached();
        ok(&format!("prog detach {words}"));
        if let Ok(before) = before {
            assert_eq!((before, attached().unwrap()), (1, 0));
        }
        let why = fails(2, "prog attach pinned /sys/fs/bpf/verdict sideways");
        assert!(why.contains("sk_skb_stream_parser"), "{why}");
    });
}
