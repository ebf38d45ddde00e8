//! What a process leaves behind that is killed: nothing where links and perf events hold programs;
//! elsewhere what says whose it is, and is found and removed.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::fd::AsFd as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use skep_abi::{AttachType, MapType, ProgType};
use skep_isa::Slot;
use skep_kernel::{
    Link, LoadError, LoadOptions, Object, Program, ProgramLoad,
    inspect::{self, Kind, cgroup_root},
    leftover::{Leftover, Life, Place, leftovers},
    link::{
        self, Direction, Kprobe, PerfEvent, Rate, Route, Sharing, Uprobe, XdpMode, attach_cgroup,
        attach_cgroup_without_link, attach_kprobe, attach_kprobe_by_tracefs, attach_perf_event,
        attach_raw_tracepoint, attach_route, attach_tc, attach_tc_clsact, attach_tracepoint,
        attach_uprobe, attach_uprobe_by_tracefs, attach_xdp, attach_xdp_netlink,
    },
    probe,
};
use skep_object::ObjectSpec;
use skep_testing::{ip, require_kernel, sandbox, veth};

/// What this test's programs are called; those of tests at the same time have another name.
fn name() -> String {
    let own = || format!("doom{}", std::process::id());
    std::env::var("SKEP_TEST_NAME").unwrap_or_else(|_| own())
}

fn program(prog_type: ProgType, attach: Option<AttachType>, verdict: i32) -> Program {
    let insns = [
        Slot { code: 0xb7, dst: 0, src: 0, off: 0, imm: verdict },
        Slot { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
    ];
    let name = name();
    let mut load = ProgramLoad::new(&name, prog_type, &insns);
    load.attach_type = attach;
    Program::load(&load).expect("it is valid")
}

/// `XDP_PASS`, `TC_ACT_UNSPEC` is -1, and a cgroup's "let it pass".
fn attach(what: &str, cgroup: &str) -> Link {
    let interface = || link::ifindex("left").expect("the test made it");
    let egress = Some(AttachType::CGROUP_INET_EGRESS);
    let directory = || fs::File::open(cgroup).expect("the test made it");
    let xdp = || program(ProgType::XDP, None, 2);
    let tc = || program(ProgType::SCHED_CLS, None, -1);
    let skb = || program(ProgType::CGROUP_SKB, egress, 1);
    let kprobe = || program(ProgType::KPROBE, None, 0);
    let link = match what {
        "xdp" => attach_xdp(&xdp(), interface(), XdpMode::Generic),
        "tcx" => attach_tc(&tc(), interface(), Direction::Ingress),
        "cgroup" => attach_cgroup(&skb(), directory().as_fd()),
        "uprobe" => attach_uprobe(&kprobe(), &Uprobe::function("libc.so.6", "getdate_r")),
        "kprobe" => attach_kprobe(&kprobe(), &Kprobe::function("do_exit")),
        "tracepoint" => {
            let program = program(ProgType::TRACEPOINT, None, 0);
            attach_tracepoint(&program, "sched", "sched_process_fork")
        }
        "raw tracepoint" => {
            let program = program(ProgType::RAW_TRACEPOINT, None, 0);
            attach_raw_tracepoint(&program, "sched_process_fork")
        }
        "clock" => {
            let program = program(ProgType::PERF_EVENT, None, 0);
            attach_perf_event(&program, &PerfEvent::cpu_clock(Rate::Period(1_000_000_000)))
        }
        "clsact" => attach_tc_clsact(&tc(), interface(), Direction::Egress),
        "route" => {
            let destination = std::net::Ipv4Addr::new(10, 9, 0, 0).into();
            let ifindex = interface();
            let route = Route { destination, prefix: 24, ifindex, gateway: None, headroom: 0 };
            attach_route(&program(ProgType::LWT_OUT, None, 0), &route)
        }
        "netlink xdp" => attach_xdp_netlink(&xdp(), interface(), XdpMode::Generic),
        "cgroup without link" => {
            attach_cgroup_without_link(&skb(), directory().as_fd(), Sharing::Multi)
        }
        "uprobe in tracefs" => {
            attach_uprobe_by_tracefs(&kprobe(), &Uprobe::function("libc.so.6", "getdate_r"))
        }
        "struct_ops" => {
            let object = congestion_control().expect("the test has loaded it before");
            object.struct_ops().first().expect("it is made").attach()
        }
        "kprobe in tracefs" => attach_kprobe_by_tracefs(&kprobe(), &Kprobe::function("do_exit")),
        other => panic!("nothing called {other}"),
    };
    link.unwrap_or_else(|e| panic!("{what}: {e:?}"))
}

/// The process that is killed: nothing unless a test below started it.
#[test]
fn as_the_doomed() {
    let Some(what) = std::env::var_os("SKEP_TEST_DOOMED") else { return };
    let cgroup = std::env::var("SKEP_TEST_CGROUP").unwrap_or_default();
    let links: Vec<Link> =
        what.to_str().expect("text").split(',').map(|what| attach(what, &cgroup)).collect();
    writeln!(std::io::stdout(), "\nattached {}", links.len()).expect("the test reads it");
    thread::sleep(Duration::from_secs(60));
}

/// Programs are looked for by a name that the tests of this process share.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process that attaches.
fn doom(what: &str, cgroup: &str) -> Doomed {
    let exe = std::env::current_exe().expect("it runs");
    let child = Command::new(exe)
        .args(["--exact", "as_the_doomed", "--nocapture"])
        .env("SKEP_TEST_DOOMED", what)
        .env("SKEP_TEST_CGROUP", cgroup)
        .env("SKEP_TEST_NAME", name())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    Doomed(child.expect("it starts"))
}

/// Starts a process that attaches, and waits until it has.
fn doomed(what: &str, cgroup: &str) -> Doomed {
    let mut child = doom(what, cgroup);
    let lines = BufReader::new(child.0.stdout.take().expect("piped")).lines();
    let attached = lines.map_while(Result::ok).any(|line| line.starts_with("attached"));
    assert!(attached, "{what}: the process ended before it was killed");
    child
}

/// A process that ends with the test, whatever becomes of that.
struct Doomed(Child);

impl Doomed {
    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Doomed {
    /// `SIGKILL`.
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

fn leftovers_of(pid: u32) -> Vec<Leftover> {
    leftovers().into_iter().filter(|l| l.process.pid == pid).collect()
}

/// Ids of the programs that the doomed load.
fn programs() -> Vec<u32> {
    let ids = inspect::ids(Kind::Program).expect("root");
    let name = name();
    let doomed = |id: &u32| inspect::program(*id).ok().flatten().is_some_and(|p| p.name == name);
    ids.into_iter().filter(doomed).collect()
}

/// The kernel frees programs a moment after their last holder is gone.
fn none_is_left() {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !programs().is_empty() {
        assert!(Instant::now() < deadline, "programs are left: {:?}", programs());
        thread::sleep(Duration::from_millis(10));
    }
}

struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Result<Self, String> {
        let root = cgroup_root().ok_or("cgroup2 is not mounted")?;
        let path = root.join(format!("skep-{name}-{}", std::process::id()));
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("text")
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

const HELD: &str = "xdp,tcx,cgroup,uprobe,tracepoint,raw tracepoint,clock";

#[test]
fn nothing_is_left_of_what_links_and_perf_events_hold() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let cgroup = Cgroup::new("held");
    require_kernel!(cgroup.as_ref().map(drop).map_err(Clone::clone));
    let cgroup = cgroup.unwrap();
    let inside = sandbox(|| {
        veth("left", "right").unwrap();
        let mut all = HELD.split(',').collect::<Vec<_>>();
        let kprobes = std::path::Path::new("/sys/bus/event_source/devices/kprobe").exists();
        all.extend(kprobes.then_some("kprobe"));
        // Kernels before 6.6 have no tcx: there the same program would be a filter, and stay.
        all.retain(|what| *what != "tcx" || probe_tcx());
        let child = doomed(&all.join(","), cgroup.path());
        assert_eq!(programs().len(), all.len());
        let pid = child.pid();
        drop(child);
        none_is_left();
        assert!(!ip("-d link show left").unwrap().contains("prog/xdp"));
        assert_eq!(leftovers_of(pid), []);
    });
    require_kernel!(inside);
}

fn probe_tcx() -> bool {
    let interface = link::ifindex("left").expect("the test made it");
    link::attached(link::Owner::Interface(interface), AttachType::TCX_INGRESS).is_ok()
}

#[test]
fn what_the_older_ways_leave_is_known_and_removed() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let cgroup = Cgroup::new("left");
    require_kernel!(cgroup.as_ref().map(drop).map_err(Clone::clone));
    let cgroup = cgroup.unwrap();
    let inside = sandbox(|| {
        veth("left", "right").unwrap();
        let in_guest = std::env::var_os("SKEP_GUEST").is_some();
        let mut what =
            vec!["clsact", "netlink xdp", "route", "cgroup without link", "uprobe in tracefs"];
        what.extend(in_guest.then_some("kprobe in tracefs"));
        let child = doomed(&what.join(","), cgroup.path());
        let pid = child.pid();
        let ours = || leftovers_of(pid);

        // Of a process that lives: found, and not to be removed.
        let lives = ours();
        assert_eq!(lives.len(), what.len(), "{lives:#?}");
        assert!(lives.iter().all(|l| l.life == Life::Alive), "{lives:#?}");

        drop(child);
        let dead = ours();
        assert!(dead.iter().all(|l| l.life == Life::Dead), "{dead:#?}");
        let place = |fits: fn(&Place) -> bool| dead.iter().any(|l| fits(&l.place));
        assert!(place(|p| matches!(p, Place::Filter { made_qdisc: true, .. })));
        assert!(place(|p| matches!(p, Place::Xdp { mode: XdpMode::Generic, .. })));
        assert!(place(|p| matches!(p, Place::Route { prefix: 24, .. })));
        // What is not on this test's own interfaces, another test that starts may have removed.
        let everywhere = lives.iter().filter(|l| !dead.iter().any(|d| d.place == l.place));
        let others = |l: &Leftover| matches!(l.place, Place::Cgroup { .. } | Place::Probe { .. });
        assert!(everywhere.clone().all(others), "{dead:#?}");

        for leftover in &dead {
            leftover.remove().unwrap_or_else(|e| panic!("{}: {e:?}", leftover.place));
        }
        assert!(ours().is_empty(), "{:#?}", ours());
        none_is_left();
        let device = ip("-d link show left").unwrap();
        assert!(!ip("route show").unwrap().contains("10.9.0.0"));
        assert!(!device.contains("prog/xdp") && !device.contains("clsact"), "{device}");
    });
    require_kernel!(inside);
}

#[test]
fn at_whatever_moment_a_process_is_killed_all_it_leaves_is_found() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let cgroup = Cgroup::new("moment");
    require_kernel!(cgroup.as_ref().map(drop).map_err(Clone::clone));
    let cgroup = cgroup.unwrap();
    let inside = sandbox(|| {
        veth("left", "right").unwrap();
        let what = "tracepoint,clsact,netlink xdp,xdp,cgroup without link,cgroup,uprobe,tcx";
        let what = if probe_tcx() { what } else { &what[..what.len() - 4] };
        let what = what.replace("netlink xdp,xdp", "netlink xdp");
        let mut found = 0;
        // An emulated machine is some twenty times slower.
        let in_guest = std::env::var_os("SKEP_GUEST").is_some();
        let moments = if in_guest { (0..600).step_by(60) } else { (0..30).step_by(1) };
        for moment in moments {
            let child = doom(&what, cgroup.path());
            thread::sleep(Duration::from_millis(moment));
            let pid = child.pid();
            drop(child);
            let dead = leftovers_of(pid);
            found += dead.len();
            for leftover in dead {
                assert_eq!(leftover.life, Life::Dead, "{leftover:#?}");
                leftover.remove().unwrap_or_else(|e| panic!("{}: {e:?}", leftover.place));
            }
            none_is_left();
        }
        // Else it was always killed before it began.
        assert!(found > 0);
    });
    require_kernel!(inside);
}

/// A congestion control that its map's value registers, under [`name()`].
fn congestion_control() -> Result<Object, LoadError> {
    const OBJECT: &[u8] = include_bytes!("../../../tests/data/objects/tcp_ca.bpf.o");
    let mut spec = ObjectSpec::parse(OBJECT).expect("it is well-formed");
    for map in spec.maps.iter_mut().filter(|map| map.def.map_type == MapType::STRUCT_OPS) {
        map.autocreate = map.name == "plain";
        let place = map.data.as_mut().and_then(|data| data.get_mut(..16)).expect("its name");
        place.fill(0);
        place.iter_mut().zip(name().bytes()).for_each(|(byte, new)| *byte = new);
    }
    Object::load_spec(&spec, &LoadOptions { pin_root: None, ..LoadOptions::default() })
}

fn registered() -> bool {
    let all = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    all.expect("it is there").split_whitespace().any(|one| one == name())
}

#[test]
fn a_structure_of_functions_is_known_and_removed() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    require_kernel!(congestion_control().map(drop).map_err(|e| e.to_string()));
    let child = doomed("struct_ops", "");
    let pid = child.pid();
    let lives = leftovers_of(pid);
    assert!(matches!(&lives[..], [Leftover { life: Life::Alive, .. }]), "{lives:#?}");
    let place = |l: &Leftover| matches!(&l.place, Place::StructOps { map, .. } if map == "plain");
    assert!(lives.iter().all(place), "{lives:#?}");
    assert!(registered());

    drop(child);
    // Another test that starts may have removed it.
    for dead in leftovers_of(pid) {
        assert_eq!((dead.life, &dead.place), (Life::Dead, &lives[0].place));
        dead.remove().expect("it is ours");
        dead.remove().expect("what is gone is no error");
    }
    assert!(!registered());
    assert_eq!(leftovers_of(pid), []);
}

/// Of a process that lives, here this one, nothing is left over.
#[test]
fn what_a_living_process_attached_is_not_left_over() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let inside = sandbox(|| {
        veth("left", "right").unwrap();
        let interface = link::ifindex("left").unwrap();
        let tc = program(ProgType::SCHED_CLS, None, -1);
        let own = attach_tc_clsact(&tc, interface, Direction::Ingress).unwrap();
        let found = leftovers_of(std::process::id());
        assert!(matches!(&found[..], [Leftover { life: Life::Alive, .. }]), "{found:#?}");
        own.detach().unwrap();
        assert_eq!(leftovers_of(std::process::id()), []);
    });
    require_kernel!(inside);
}
