//! `skep run` reaches each kind of hook: by defaults for all programs of a kind, by `--attach`, in a
//! cgroup, a network namespace and processes of the tests' own.

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use common::{interrupt, json, run, skep};
use serde_json::Value;
use skep::kernel::probe::{self, Support};
use skep_testing::{ip, require_kernel, sandbox};

const PLACES: &str = "tests/data/objects/places.bpf.o";

/// Runs the command with this and `--json` until its programs are attached, then `act`, then
/// interrupts it; what it printed, and what it said.
fn while_it_runs(args: &[&str], act: impl FnOnce()) -> (Vec<Value>, String) {
    let mut child = skep()
        .args(["run", PLACES, "--json", "--duration", "60s"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut err = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut said = String::new();
    while !said.contains("ends after") {
        let read = err.read_line(&mut said).expect("stderr is text");
        assert_ne!(read, 0, "{args:?} ended too early: {said}");
    }
    act();
    interrupt(&child);
    let output = child.wait_with_output().expect("the binary ends");
    assert_eq!(output.status.code(), Some(130), "{said}");
    (json(&String::from_utf8(output.stdout).expect("stdout is text")), said)
}

/// The counter of this name after a run.
fn counted(lines: &[Value], name: &str) -> u64 {
    let variables = lines.iter().find(|line| line["type"] == "variables");
    let value = variables.and_then(|line| line.get("variables")?.get(name)?.as_u64());
    value.expect("the object has such a counter")
}

/// A cgroup that is removed at the end.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/mounts").map_err(|e| e.to_string())?;
        let mount = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (place, kind) = (words.next()?, words.next()?);
            (kind == "cgroup2").then_some(place)
        });
        let mount = mount.ok_or("cgroup2 is not mounted")?;
        let path = Path::new(mount).join(format!("skep-test-{name}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("plain text")
    }

    /// Connects to this address as a process of the cgroup: this test binary, run again.
    fn connect(&self, listener: &TcpListener) {
        let status = Command::new(std::env::current_exe().expect("it runs"))
            .args(["--exact", "as_a_process_of_a_cgroup", "--nocapture"])
            .env("SKEP_TEST_CGROUP", &self.0)
            .env("SKEP_TEST_PORT", listener.local_addr().expect("bound").port().to_string())
            .stdout(Stdio::null())
            .status();
        assert!(status.expect("it starts").success());
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

/// The child: nothing unless a test started it.
#[test]
fn as_a_process_of_a_cgroup() {
    let variable = |name| std::env::var(name).ok();
    let (Some(cgroup), Some(port)) = (variable("SKEP_TEST_CGROUP"), variable("SKEP_TEST_PORT"))
    else {
        return;
    };
    let procs = Path::new(&cgroup).join("cgroup.procs");
    fs::write(procs, std::process::id().to_string()).expect("the cgroup is ours");
    let port: u16 = port.parse().expect("a number");
    TcpStream::connect(("127.0.0.1", port)).expect("connected");
}

#[test]
fn programs_attach_to_a_cgroup() {
    require_kernel!(probe::can_load().into_result());
    let cgroup = Cgroup::new("places");
    require_kernel!(cgroup.as_ref().map(drop).map_err(Clone::clone));
    let cgroup = cgroup.expect("made");
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    let here = format!("connect4=cgroup:{}", cgroup.path());
    let other_way = format!("connect4=cgroup/connect4:{}", cgroup.path());
    for args in [
        &["--prog", "connect4", "--cgroup", cgroup.path()][..],
        &["--attach", &here],
        &["--attach", &other_way],
    ] {
        let (lines, said) = while_it_runs(args, || {
            cgroup.connect(&listener);
            // Not in the cgroup: not counted.
            TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        });
        assert!(said.contains("attached 1 program;"), "{said}");
        assert_eq!(counted(&lines, "connects"), 1, "{args:?}");
    }
}

#[test]
fn programs_attach_to_a_network_namespace() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(sandbox(|| {
        ip("link set lo up").expect("the namespace is ours");
        let lookups = |args: &[&str]| {
            let (lines, _) = while_it_runs(args, || {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
                socket.send_to(b"x", "127.0.0.1:9").expect("sent");
            });
            counted(&lines, "lookups")
        };
        let own = format!("/proc/{}/task/{}/ns/net", std::process::id(), thread_id());
        assert!(lookups(&["--prog", "look", "--netns", &own]) > 0);
        assert!(lookups(&["--attach", &format!("look=netns:{own}")]) > 0);
    }));
}

/// The calling thread, which alone is in the test's namespaces.
fn thread_id() -> String {
    let link = fs::read_link("/proc/thread-self").expect("it is there");
    link.file_name().expect("PID/task/TID").to_string_lossy().into_owned()
}

#[test]
fn programs_attach_to_interfaces_netfilter_and_routes() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(sandbox(|| {
        ip("link set lo up").expect("the namespace is ours");
        let send = |to: &str| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
            socket.send_to(b"x", to).expect("sent");
        };
        let near = || send("127.0.0.1:9");
        let count = |args: &[&str], name: &str| counted(&while_it_runs(args, near).0, name);
        for args in [
            &["--prog", "frame", "--iface", "lo", "--engine", "kernel", "--xdp-mode", "generic"][..],
            &["--attach", "frame=xdp:lo", "--xdp-mode", "generic"],
            &["--type", "untyped=xdp", "--attach", "untyped=iface:lo", "--xdp-mode", "generic"],
            &["--attach", "untyped=xdp:lo", "--xdp-mode", "generic"],
        ] {
            assert!(count(args, "frames") > 0, "{args:?}");
        }
        if probe::prog_type(skep::abi::ProgType::NETFILTER).is_yes() {
            for args in [
                ["--prog", "filter", "--netfilter", "ip/output"].as_slice(),
                &["--attach", "filter=netfilter:ip/input@-100"],
            ] {
                assert!(count(args, "filtered") > 0, "{args:?}");
            }
        }
        let to_route = ["--attach", "route=route:10.77.0.0/16@lo"];
        let (lines, _) = while_it_runs(&to_route, || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("loopback is up");
            // Nobody has the address: what matters is that it left.
            socket.send_to(b"x", "10.77.0.1:9").ok();
        });
        assert!(counted(&lines, "routed") > 0, "{to_route:?}");
        let routes = ip("route show").expect("the namespace is ours");
        assert!(!routes.contains("10.77"), "the route is gone: {routes}");
    }));
}

#[test]
fn programs_attach_to_processes_and_perf_events() {
    require_kernel!(probe::can_load().into_result());
    let pid = std::process::id().to_string();
    let act = || {
        for _ in 0..5 {
            std::hint::black_box(std::os::unix::process::parent_id());
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    let args = ["--attach", "call=uprobe/libc:getppid", "--pid", &pid];
    assert_eq!(counted(&while_it_runs(&args, act).0, "calls"), 5);
    for args in [
        &["--prog", "tick", "--perf-event", "cpu-clock@200hz"][..],
        &["--attach", "tick=perf_event:cpu-clock@1000000"],
    ] {
        assert!(counted(&while_it_runs(args, act).0, "ticks") > 0, "{args:?}");
    }
    // Optional programs that nobody asks for stay where they are.
    let (lines, _) = while_it_runs(&["--attach", "tick=perf_event:cpu-clock@200hz"], act);
    assert_eq!(counted(&lines, "calls"), 0);
}

#[test]
fn a_program_for_messages_finds_its_socket_map() {
    require_kernel!(probe::can_load().into_result());
    let (_, said) = while_it_runs(&["--prog", "message"], || {});
    assert!(said.contains("attached 1 program;"), "{said}");
    let (_, said) = while_it_runs(&["--attach", "message=sk_msg:sockets"], || {});
    assert!(said.contains("attached 1 program;"), "{said}");
    let ran = run(&["run", PLACES, "--attach", "message=map:squares"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
}

#[test]
fn iterators_are_read_as_text_and_as_records() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(
        probe::tracing_hooks()
            .into_iter()
            .find(|h| h.0 == "iter")
            .map_or(Err("no iterators".into()), |(_, answer)| answer.into_result())
    );
    let own = format!("task {}\n", std::process::id());
    let ran = run(&["run", PLACES, "--prog", "tasks"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.lines().all(|line| line.starts_with("task ")), "{}", ran.out);
    assert!(ran.out.contains(&own) && ran.out.ends_with('\n'), "{}", ran.out);
    let one = format!("tasks=iter/task:pid={}", std::process::id());
    let ran = run(&["run", PLACES, "--attach", &one]);
    assert!(ran.out.lines().all(|line| line == own.trim()), "{}", ran.out);
    let lines = json(&run(&["run", PLACES, "--prog", "tasks", "--json"]).out);
    assert_eq!((lines.len(), &lines[0]["type"]), (1, &"iterator".into()));

    let over = ["--attach", "elements=over:map=squares", "--prog", "once"];
    let typed = ["--event-type", "elements=square", "--json"];
    let lines = json(&run(&[&["run", PLACES][..], &over, &typed].concat()).out);
    let records: Vec<&Value> = lines.iter().filter(|line| line["type"] == "record").collect();
    assert_eq!(records.len(), 3, "{lines:?}");
    assert_eq!(records[2]["record"], serde_json::json!({"root": 2, "square": 4}));
    assert!(lines.iter().any(|line| line["type"] == "ran" && line["retval"] == 7), "{lines:?}");
    let ran = run(&["run", PLACES, "--prog", "elements"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("elements needs a map (--attach PROG=over:map=MAP)"), "{}", ran.err);
}

#[test]
fn what_is_pinned_stays_until_its_file_goes() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(sandbox(|| {
        ip("link set lo up").expect("the namespace is ours");
        let place = "/sys/fs/bpf/kept";
        let args = ["run", PLACES, "--attach", "frame=xdp:lo", "--xdp-mode", "generic"];
        let ran = run(&[&args[..], &["--prog", "tasks", "--pin", place]].concat());
        assert_eq!((ran.code, ran.out.as_str()), (0, ""), "{}", ran.err);
        assert!(ran.err.contains("pinned 2 links below /sys/fs/bpf/kept"), "{}", ran.err);
        let lo = || ip("link show lo").expect("it is there");
        assert!(lo().contains("xdpgeneric"), "{}", lo());
        let tasks = fs::read_to_string(format!("{place}/tasks")).expect("it is read like a file");
        assert!(tasks.starts_with("task "), "{tasks}");
        // All or none: the second of these has no link.
        let two = ["--attach", "connect4=xdp:lo", "--pin", place];
        let ran = run(&[&["run", PLACES][..], &two].concat());
        assert_ne!(ran.code, 0);
        let ran = run(&["run", PLACES, "--prog", "tasks", "--pin", place]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains("kept/tasks: BPF_OBJ_PIN failed: File exists"), "{}", ran.err);
        let left = fs::read_dir(place).expect("it is there").count();
        assert_eq!(left, 2);
        let frame = format!("{place}/frame");
        assert_eq!(run(&["link", "detach", "pinned", &frame]).code, 0);
        assert!(!lo().contains("xdpgeneric"), "{}", lo());
        fs::remove_file(&frame).expect("a link without a hook is still a file");
        assert_eq!(run(&[&args[..], &["--pin", place]].concat()).code, 0);
        assert!(lo().contains("xdpgeneric"), "{}", lo());
        fs::remove_file(&frame).expect("it is ours");
        // The kernel takes a link away a moment after its last file.
        for _ in 0..100 {
            if !lo().contains("xdpgeneric") {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("still attached: {}", lo());
    }));
}

#[test]
fn pins_need_a_bpf_file_system() {
    require_kernel!(probe::can_load().into_result());
    let directory = std::env::temp_dir().join(format!("skep-no-bpffs-{}", std::process::id()));
    let place = directory.to_str().expect("plain text");
    let ran = run(&["run", PLACES, "--prog", "message", "--pin", place]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert!(ran.err.contains("hint: a bpf file system (mount -t bpf bpf DIR)"), "{}", ran.err);
    fs::remove_dir(&directory).expect("nothing is in it");
}

#[test]
fn kernel_functions_are_named_on_the_command_line() {
    require_kernel!(probe::can_load().into_result());
    let kprobes = probe::tracing_hooks().into_iter().find(|hook| hook.0 == "kprobe");
    let args = ["--attach", "call=kprobe/__x64_sys_getppid"];
    match kprobes.expect("it is asked").1 {
        Support::Yes => {
            let act = || {
                std::hint::black_box(std::os::unix::process::parent_id());
            };
            assert!(counted(&while_it_runs(&args, act).0, "calls") > 0);
        }
        _ => {
            let ran = run(&[&["run", PLACES][..], &args].concat());
            assert_eq!(ran.code, 3, "{}", ran.err);
            assert!(ran.err.contains("__x64_sys_getppid"), "{}", ran.err);
        }
    }
}

#[test]
fn what_is_said_wrongly_is_told_with_what_is_possible() {
    let usage = |args: &[&str], why: &str| {
        let ran = run(&[&["run", PLACES][..], args].concat());
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(why), "{args:?}: {}", ran.err);
    };
    usage(&["--attach", "tick=nowhere"], "places are iface:eth0, cgroup:/sys/fs/cgroup/x");
    usage(&["--attach", "tick"], "expected NAME=VALUE");
    usage(&["--attach", "tick=perf_event:clock"], "there are cpu-clock");
    usage(&["--perf-event", "clock"], "there are cpu-clock");
    usage(&["--netfilter", "ip/inside"], "FAMILY/HOOK@PRIORITY");
    usage(&["--cgroup", "/", "--engine", "embedded"], "--cgroup: the embedded engine has no hooks");
    let input = |args: &[&str], why: &str| {
        let ran = run(&[&["run", PLACES][..], args].concat());
        assert_eq!(ran.code, 1, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(why), "{args:?}: {}", ran.err);
    };
    input(&["--attach", "tock=pid:1"], "no program is called `tock`; did you mean `tick`");
    input(&["--type", "untyped=xpd"], "no section is called `xpd`");
    input(&["--no-attach", "tock"], "no program is called `tock`");
    require_kernel!(probe::can_load().into_result());
    usage(&["--prog", "connect4"], "connect4 needs a cgroup (--cgroup PATH)");
    usage(&["--prog", "look", "--prog", "tick"], "tick needs a perf event (--perf-event EVENT)");
    let ran = run(&["run", PLACES, "--prog", "tick", "--no-attach", "tick"]);
    assert_eq!((ran.code, ran.err.contains("nothing to attach")), (0, true), "{}", ran.err);
}

#[test]
fn sections_without_a_target_leave_their_programs_out_with_a_note() {
    const UNTOLD: &str = "tests/data/objects/untold.bpf.o";
    require_kernel!(probe::can_load().into_result());
    let args = ["run", UNTOLD, "--duration", "100ms", "--json"];
    let ran = run(&args);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.err.contains("attached 1 program"), "{}", ran.err);
    assert!(counted(&json(&ran.out), "runs") > 0, "{}", ran.out);
    for (program, needs) in [
        ("u", "u needs a function of a binary (--attach PROG=uprobe/BINARY:FUNCTION)"),
        ("many", "a function of a binary (--attach PROG=uprobe.multi/BINARY:FUNCTION)"),
        ("probe", "a static probe (--attach PROG=usdt/BINARY:PROVIDER:NAME)"),
        ("tp", "a tracepoint (--attach PROG=tracepoint/CATEGORY/NAME)"),
        ("raw", "a tracepoint (--attach PROG=raw_tp/NAME)"),
        ("k", "a function of the kernel (--attach PROG=kprobe/FUNCTION)"),
        ("sys", "a system call (--attach PROG=ksyscall/NAME)"),
        ("walk", "what it walks over (--attach PROG=iter/KIND)"),
        ("typed", "a tracepoint (--attach PROG=tp_btf/NAME)"),
        ("entry", "a function of the kernel (--attach PROG=fentry/FUNCTION)"),
    ] {
        assert!(ran.err.contains(needs), "{needs}: {}", ran.err);
        let alone = run(&["run", UNTOLD, "--prog", program]);
        assert_eq!(alone.code, 2, "{program}: {}", alone.err);
        assert!(alone.err.contains(&format!("error: not attached: {program} needs")), "{program}");
        assert!(alone.err.contains(needs), "{program}: {}", alone.err);
    }
    let ran = run(&[&args[..], &["--attach", "raw=raw_tp/sys_enter"]].concat());
    assert!(ran.err.contains("attached 2 programs"), "{}", ran.err);
    assert!(!ran.err.contains("raw_tp/NAME"), "{}", ran.err);
    let ran = run(&["run", UNTOLD, "--prog", "odd"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("section '?foo' names no program type"), "{}", ran.err);
    assert!(ran.err.contains("hint: skep run --type PROG=TYPE"), "{}", ran.err);
}

#[test]
fn optional_programs_alone_are_listed() {
    let ran = run(&["run", "examples/opens.bpf.o"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("choose with --prog NAME: by_fentry, by_kprobe"), "{}", ran.err);
}

#[test]
fn a_path_that_is_no_cgroup_is_named() {
    require_kernel!(probe::can_load().into_result());
    for args in
        [&["--prog", "connect4", "--cgroup", "/tmp"][..], &["--attach", "connect4=cgroup:/tmp"]]
    {
        let ran = run(&[&["run", PLACES][..], args].concat());
        assert_eq!(ran.code, 2, "{}", ran.err);
        let said = "/tmp is no directory of a cgroup v2 file system (";
        assert!(ran.err.contains(said), "{}", ran.err);
    }
}

#[test]
fn flags_that_nothing_takes_are_said() {
    let pcap = "examples/traffic.pcap";
    let classify = ["run", "examples/classify.bpf.o", "--pcap", pcap];
    let flags = ["--cgroup", "/x", "--netns", "/x", "--pid", "1", "--netfilter", "ip/input"];
    let ran = run(&[&classify[..], &flags].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    for flag in ["--cgroup", "--netns", "--pid", "--netfilter"] {
        assert!(ran.err.contains(&format!("note: {flag}: no program takes it")), "{}", ran.err);
    }
    for flag in [["--write-pcap", "/nowhere/x.pcap"], ["--repeat", "2"]] {
        let ran = run(&[&["run", "examples/classify.bpf.o", "--iface", "lo"][..], &flag].concat());
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains("goes with --pcap FILE only"), "{}", ran.err);
    }
    require_kernel!(probe::can_load().into_result());
    let (_, said) = while_it_runs(&["--prog", "message", "--pid", "1"], || {});
    assert!(said.contains("note: --pid: no program takes it"), "{said}");
    let pid = std::process::id().to_string();
    let args = ["--attach", "call=uprobe/libc:getppid", "--pid", &pid];
    let (_, said) = while_it_runs(&args, || {});
    assert!(!said.contains("--pid"), "{said}");
}

#[test]
fn sizes_that_the_kernel_refuses_are_said_with_its_rule() {
    require_kernel!(probe::can_load().into_result());
    let ran = run(&["run", PLACES, "--prog", "message", "--max-entries", "sockets=0"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let rule = "map 'sockets': sockhash map: max_entries is 0, expected at least 1";
    assert!(ran.err.contains(rule), "{}", ran.err);
    let large = "00".repeat(5000);
    for (data, said) in
        [("0011", "a packet of at least 14 bytes"), (&large, "packets of a memory page")]
    {
        let args = ["test-run", "examples/rewrite.bpf.o", "--engine", "kernel", "--data-in", data];
        let ran = run(&args);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains(said), "{}", ran.err);
    }
}

#[test]
fn a_typing_error_in_a_tracepoint_is_told_with_what_is_near() {
    if let Err(e) = skep::Engine::kernel() {
        return skep_testing::skip(skep_testing::Skip::Kernel, "tracepoint", &e.to_string());
    }
    let cases = [
        ("sched/sched_proces_exec", "(there is sched_process_exec", 1),
        ("shced/sched_process_exec", "(there is sched", 1),
        ("sched/zzzzqqqq", "no tracepoint sched/zzzzqqqq: ", 3),
    ];
    for (name, part, code) in cases {
        let attach = format!("follow_exec=tracepoint/{name}");
        let ran =
            run(&["run", "examples/execsnoop.bpf.o", "--duration", "1s", "--attach", &attach]);
        if ran.err.contains("tracefs is neither") {
            return skep_testing::skip(skep_testing::Skip::Kernel, "tracepoint", ran.err.trim());
        }
        assert_eq!(ran.code, code, "{name}: {ran:?}");
        assert!(ran.err.contains(part), "{name}: {ran:?}");
    }
}
