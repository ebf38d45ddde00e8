//! What hangs on the network, what a killed process leaves there, and how it is removed.

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{fails, json, run, skep};
use serde_json::Value;
use skep::{
    abi::{AttachType, ProgType},
    isa::Slot,
    kernel::{
        Link, Program, ProgramLoad,
        inspect::{self, Kind, cgroup_root},
        link::{
            self, Direction, Sharing, XdpMode, attach_cgroup, attach_cgroup_without_link,
            attach_tc, attach_tc_clsact, attach_xdp, attach_xdp_netlink,
        },
        probe,
    },
};
use skep_testing::{require_kernel, sandbox, veth};

fn program(name: &str, prog_type: ProgType, attach: Option<AttachType>, verdict: i32) -> Program {
    let insns = [
        Slot { code: 0xb7, dst: 0, src: 0, off: 0, imm: verdict },
        Slot { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
    ];
    let mut load = ProgramLoad::new(name, prog_type, &insns);
    load.attach_type = attach;
    Program::load(&load).expect("it is valid")
}

fn tc(name: &str) -> Program {
    program(name, ProgType::SCHED_CLS, None, -1)
}

fn xdp(name: &str) -> Program {
    program(name, ProgType::XDP, None, 2)
}

fn skb(name: &str) -> Program {
    program(name, ProgType::CGROUP_SKB, Some(AttachType::CGROUP_INET_EGRESS), 1)
}

/// A cgroup of a test's own.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Result<Self, String> {
        let root = cgroup_root().ok_or("cgroup2 is not mounted")?;
        let path = root.join(format!("skep-{name}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }

    fn open(&self) -> fs::File {
        fs::File::open(&self.0).expect("the test made it")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

/// The process that is killed: nothing unless a test below started it.
#[test]
fn as_the_doomed() {
    let Some(cgroup) = std::env::var_os("SKEP_TEST_DOOMED") else { return };
    let interface = link::ifindex("left").expect("the test made it");
    let cgroup = fs::File::open(cgroup).expect("the test made it");
    let _links: [Link; 3] = [
        attach_tc_clsact(&tc("left_tc"), interface, Direction::Egress).expect("it attaches"),
        attach_xdp_netlink(&xdp("left_xdp"), interface, XdpMode::Generic).expect("it attaches"),
        attach_cgroup_without_link(&skb("left_skb"), cgroup.as_fd(), Sharing::Multi)
            .expect("it attaches"),
    ];
    writeln!(std::io::stdout(), "\nattached").expect("the test reads it");
    thread::sleep(Duration::from_secs(60));
}

/// A process that ends with the test, whatever becomes of that.
struct Doomed(Child);

impl Drop for Doomed {
    /// `SIGKILL`.
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

/// Starts a process that attaches in the old ways, and waits until it has.
fn doomed(cgroup: &Cgroup) -> Doomed {
    let exe = std::env::current_exe().expect("it runs");
    let child = Command::new(exe)
        .args(["--exact", "as_the_doomed", "--nocapture"])
        .env("SKEP_TEST_DOOMED", &cgroup.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = Doomed(child.expect("it starts"));
    let lines = BufReader::new(child.0.stdout.take().expect("piped")).lines();
    let attached = lines.map_while(Result::ok).any(|line| line.starts_with("attached"));
    assert!(attached, "the process ended before it was killed");
    child
}

/// Runs the binary with words that are split at blanks; it must succeed.
fn ok(words: &str) -> String {
    let ran = run(&words.split(' ').collect::<Vec<_>>());
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{words}: {}", ran.out);
    ran.out
}

/// Rows about this process's programs and devices: other tests have cgroups too.
fn rows(words: &str, field: &str, value: &Value) -> Vec<Value> {
    json(&ok(words)).into_iter().filter(|row| &row[field] == value).collect()
}

#[test]
fn what_hangs_where_is_shown_in_the_order_in_which_it_runs() {
    require_kernel!(probe::can_load().into_result());
    let cgroup = Cgroup::new("shown");
    require_kernel!(cgroup.as_ref().map(drop).map_err(Clone::clone));
    let cgroup = cgroup.unwrap();
    let inside = sandbox(|| {
        veth("left", "right").unwrap();
        let left = link::ifindex("left").unwrap();
        assert_eq!(ok("net show dev left"), "");
        let programs = [tc("first"), tc("second"), tc("filter"), xdp("early"), skb("group")];
        let [first, second, filter, early, group] = &programs;
        let _links = [
            attach_tc(first, left, Direction::Ingress).unwrap(),
            attach_tc(second, left, Direction::Ingress).unwrap(),
            attach_tc_clsact(filter, left, Direction::Ingress).unwrap(),
            attach_xdp(early, left, XdpMode::Generic).unwrap(),
            attach_cgroup(group, cgroup.open().as_fd()).unwrap(),
        ];
        let found = json(&ok("net show dev left --json"));
        let names: Vec<&str> = found.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["early", "first", "second", "filter"]);
        let tcx = link::attached(link::Owner::Interface(left), AttachType::TCX_INGRESS).is_ok();
        for (row, program) in found.iter().zip([early, first, second, filter]) {
            assert_eq!(row["prog_id"], program.info().unwrap().id);
            assert_eq!((&row["devname"], &row["ifindex"]), (&"left".into(), &left.into()));
        }
        assert_eq!((&found[0]["type"], &found[0]["mode"]), (&"xdp".into(), &"generic".into()));
        assert_eq!(found[0]["pids"][0]["pid"], std::process::id());
        if tcx {
            assert_eq!(found[1]["kind"], "tcx/ingress");
            assert!(found[1]["link_id"].is_u64() && found[0]["link_id"].is_u64());
        }
        assert_eq!(found[3]["kind"], "clsact/ingress");
        assert_eq!(found[3]["attached_by"]["pid"], std::process::id());
        assert_eq!(found[3]["attached_by"]["alive"], true);
        let text = ok("net show dev left");
        assert!(text.starts_with(&format!("xdp left({left}) generic prog_id ")), "{text}");

        let path = Value::from(cgroup.0.to_str().unwrap());
        let on_cgroup = format!("cgroup show {} --json", cgroup.0.display());
        for words in ["net show --json", "cgroup tree --json", &on_cgroup] {
            let [row] = rows(words, "cgroup", &path).try_into().unwrap();
            assert_eq!((&row["type"], &row["name"]), (&"cgroup".into(), &"group".into()));
            assert_eq!(row["attach_type"], "cgroup_inet_egress");
            assert!(row["link_id"].is_u64(), "{row}");
        }

        let ran = run(&["net", "show", "dev", "nowhere"]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains("no interface of this name"), "{}", ran.err);
        assert_eq!(run(&["net", "show", "left"]).code, 2);
        for command in ["show", "tree"] {
            for (path, want) in [("/proc", "/proc is not a cgroup"), ("/none", "cgroup /none: ")] {
                let why = fails(1, &format!("cgroup {command} {path}"));
                assert!(why.contains(want), "{why}");
            }
        }
    });
    require_kernel!(inside);
}

#[test]
fn what_a_killed_process_left_is_removed_on_demand_and_by_the_next_start() {
    require_kernel!(probe::can_load().into_result());
    let cgroup = Cgroup::new("clean");
    require_kernel!(cgroup.as_ref().map(drop).map_err(Clone::clone));
    let cgroup = cgroup.unwrap();
    let inside = sandbox(|| {
        veth("left", "right").unwrap();
        let on_left = || json(&ok("net show dev left --json"));
        let child = doomed(&cgroup);
        let pid = Value::from(child.0.id());
        assert_eq!(rows("net clean --json", "pid", &pid), [Value::Null; 0], "it lives");
        assert_eq!(on_left().len(), 2);
        drop(child);

        // Cgroups are everybody's: what is left there the start of another test may have removed.
        let dry = rows("net clean --dry-run --json", "pid", &pid);
        assert!((2..=3).contains(&dry.len()), "{dry:#?}");
        assert!(dry.iter().all(|row| row["removed"] == false && row["alive"] == false));
        assert!(on_left().iter().all(|row| row["attached_by"]["alive"] == false));
        let text = ok("net show dev left");
        assert!(text.contains(&format!("left behind by process {pid}")), "{text}");
        let done = rows("net clean --json", "pid", &pid);
        assert!((2..=3).contains(&done.len()), "{done:#?}");
        assert!(done.iter().all(|row| row["removed"] == true));
        let nothing = || {
            assert_eq!(on_left(), [Value::Null; 0]);
            assert_eq!(ok(&format!("cgroup show {}", cgroup.0.display())), "");
        };
        nothing();
        assert_eq!(rows("net clean --json", "pid", &pid), [Value::Null; 0]);

        // The same by the next start.
        let child = doomed(&cgroup);
        let pid = child.0.id();
        drop(child);
        let object = "examples/classify.bpf.o";
        let ran =
            run(&["run", object, "--iface", "right", "--engine", "kernel", "--duration", "50ms"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let notes = ran.err.matches(&format!("removed what process {pid} left behind")).count();
        assert!((2..=3).contains(&notes), "{}", ran.err);
        nothing();
    });
    require_kernel!(inside);
}

/// Programs that a process holds.
fn programs_of(pid: u32) -> Vec<u32> {
    let holds = |holders: &Vec<inspect::Owner>| holders.iter().any(|o| o.pid == pid);
    let all = inspect::owners();
    all.iter()
        .filter(|((k, _), o)| *k == Kind::Program && holds(o))
        .map(|((_, id), _)| *id)
        .collect()
}

#[test]
fn a_killed_run_leaves_nothing_attached_whenever_it_is_killed() {
    require_kernel!(probe::can_load().into_result());
    let inside = sandbox(|| {
        veth("left", "right").unwrap();
        let mut seen = 0;
        for moment in [0, 5, 10, 15, 20, 30, 40, 60, 80, 120, 200, 400] {
            let child = skep()
                .args(["run", "examples/classify.bpf.o", "examples/execsnoop.bpf.o"])
                .args(["--iface", "left", "--engine", "kernel"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let child = Doomed(child.expect("it starts"));
            thread::sleep(Duration::from_millis(moment));
            let programs = programs_of(child.0.id());
            seen = programs.len().max(seen);
            drop(child);
            let deadline = Instant::now() + Duration::from_secs(10);
            let left = |id: &u32| inspect::program(*id).expect("root").is_some();
            while programs.iter().any(left) {
                assert!(Instant::now() < deadline, "after {moment} ms programs are left");
                thread::sleep(Duration::from_millis(10));
            }
            // Kernels without tcx have a filter there, for the next start to remove.
            ok("net clean");
            assert_eq!(json(&ok("net show dev left --json")), [Value::Null; 0], "{moment} ms");
        }
        assert!(seen > 0, "it was always killed before it had loaded anything");
    });
    require_kernel!(inside);
}
