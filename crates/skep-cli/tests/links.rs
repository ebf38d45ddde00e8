//! One link of each kind that this kernel has, as `skep link` and bpftool show it.

mod common;

use std::{fs, os::fd::AsFd as _, path::PathBuf, process::Command};

use common::{json, ok, row};
use serde_json::{Value, json};
use skep::{
    Engine, Loaded, Object,
    kernel::{
        self, AttachError,
        inspect::{self, Kind},
        link::{
            IterTarget, Link, Netfilter, PerfEvent, Rate, Uprobe, attach_cgroup, attach_iter,
            attach_netfilter, attach_netns, attach_perf_event, attach_raw_tracepoint,
            attach_sockmap, attach_tc, attach_tp_btf, attach_tracepoint, attach_uprobe,
            attach_uprobe_multi, attach_xdp,
        },
        probe,
    },
};
use skep_testing::{Skip, has_tool, require_kernel, sandbox, veth};

/// The object with a program for each kind; programs that the kernel does not take are missing.
fn load(name: &str) -> Result<Loaded, String> {
    let path = skep_testing::repository().join("tests/data/objects/links.bpf.o");
    let mut object = Object::open(path).map_err(|e| e.to_string())?;
    object.select(&[name]).map_err(|e| e.to_string())?;
    object.load(&Engine::kernel().map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}

/// A cgroup of the test's own.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Self> {
        let path = inspect::cgroup_root()?.join(format!("skep-links-{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).ok();
    }
}

fn own_function() -> Uprobe<'static> {
    Uprobe::function("/proc/self/exe", "main")
}

/// Attaches the program of a kind.
fn attach(kind: &str, loaded: &Loaded, cgroup: Option<&Cgroup>) -> Result<Link, AttachError> {
    let program = &loaded.programs().first().expect("one was selected");
    let program = program.kernel().expect("it is in the kernel");
    let left = skep::ifindex("left").expect("it was made");
    match kind {
        "raw_tracepoint" => attach_raw_tracepoint(program, "sys_enter"),
        "tracing" => attach_tp_btf(program),
        "iter" => attach_iter(program, IterTarget::Process(std::process::id())),
        "cgroup" => {
            let cgroup = cgroup.expect("there is one");
            attach_cgroup(program, fs::File::open(&cgroup.0).expect("it was made").as_fd())
        }
        "netns" => {
            let namespace = fs::File::open("/proc/thread-self/ns/net").expect("it is there");
            attach_netns(program, namespace.as_fd())
        }
        "xdp" => attach_xdp(program, left, Default::default()),
        "tcx" => attach_tc(program, left, skep::Direction::Ingress),
        "netfilter" => {
            let at = Netfilter { family: 2, hook: 1, priority: 7, defragment: false };
            attach_netfilter(program, &at)
        }
        "uprobe_multi" => attach_uprobe_multi(program, &own_function()),
        "uprobe" => attach_uprobe(program, &own_function()),
        "tracepoint" => attach_tracepoint(program, "syscalls", "sys_enter_getpgid"),
        "clock" => {
            let rate = Rate::Period(1_000_000_000);
            let pid = Some(std::process::id());
            let (event_type, config, cookie) = (1, 3, 5);
            let breakpoint = None;
            let event = PerfEvent { event_type, config, rate, pid, cpu: None, cookie, breakpoint };
            attach_perf_event(program, &event)
        }
        "sockmap" => {
            let map = loaded.map("sockets").expect("it has this map");
            attach_sockmap(program, map.kernel().expect("it is in the kernel"))
        }
        other => panic!("{other}"),
    }
}

/// bpftool's answer for a link, when it is installed.
fn bpftool(id: &Value) -> Option<Value> {
    let mut command = Command::new("bpftool");
    let output = command.args(["-j", "link", "show", "id", &id.to_string()]).output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

/// Program of the object, type of its link, and what must be shown.
fn kinds(cgroup: Option<&Cgroup>) -> Vec<(&'static str, &'static str, Value)> {
    let left = skep::ifindex("left").expect("it was made");
    let cgroup = cgroup.and_then(|c| fs::metadata(&c.0).ok()).map(|m| {
        use std::os::unix::fs::MetadataExt as _;
        json!({"cgroup_id": m.ino(), "attach_type": "cgroup_sysctl"})
    });
    let me = std::process::id();
    let mut all = vec![
        ("raw_tracepoint", "raw_tracepoint", json!({"tp_name": "sys_enter"})),
        // A BTF tracepoint is a raw tracepoint, too.
        ("tracing", "raw_tracepoint", json!({"tp_name": "sys_enter"})),
        ("iter", "iter", json!({"target_name": "task", "pid": me})),
        ("netns", "netns", json!({"attach_type": "sk_lookup"})),
        ("xdp", "xdp", json!({"ifindex": left, "devname": "left"})),
        ("tcx", "tcx", json!({"ifindex": left, "devname": "left", "attach_type": "tcx_ingress"})),
        ("netfilter", "netfilter", json!({"pf": 2, "hook": 1, "prio": 7, "flags": 0})),
        ("uprobe_multi", "uprobe_multi", json!({"func_cnt": 1, "retprobe": false})),
        ("uprobe", "perf_event", json!({"event": "uprobe", "retprobe": false})),
        (
            "tracepoint",
            "perf_event",
            json!({"event": "tracepoint", "tracepoint": "sys_enter_getpgid", "cookie": 0}),
        ),
        (
            "clock",
            "perf_event",
            json!({"event_type": "software", "event_config": "context-switches", "cookie": 5}),
        ),
        ("sockmap", "sockmap", json!({"attach_type": "sk_msg_verdict"})),
    ];
    all.extend(cgroup.map(|want| ("cgroup", "cgroup", want)));
    all
}

#[test]
fn every_kind_of_link_tells_its_details() {
    require_kernel!(probe::can_load().into_result());
    let done = sandbox(|| {
        veth("left", "right")?;
        let cgroup = Cgroup::new();
        let compare = has_tool("bpftool");
        if !compare {
            skep_testing::skip(Skip::Tool, "links", "bpftool is not installed");
        }
        if cgroup.is_none() {
            skep_testing::skip(Skip::Kernel, "links: cgroup", "cgroups cannot be made here");
        }
        let mut shown = Vec::new();
        for (name, link_type, want) in kinds(cgroup.as_ref()) {
            let missing = |why: String| {
                skep_testing::skip(Skip::Kernel, &format!("links: {name}"), &why);
            };
            let loaded = match load(&format!("on_{name}")) {
                Ok(loaded) => loaded,
                Err(e) => {
                    missing(e);
                    continue;
                }
            };
            let before = inspect::ids(Kind::Link).expect("ids can be asked");
            let link = match attach(name, &loaded, cgroup.as_ref()) {
                Ok(link) if link.method() == kernel::link::Method::Link => link,
                Ok(link) => {
                    missing(format!("attached by {:?}", link.method()));
                    continue;
                }
                Err(e) => {
                    missing(e.to_string());
                    continue;
                }
            };
            let program = loaded.programs()[0].kernel().unwrap().info().unwrap().id;
            let rows = json(&ok("link list --json"));
            let is_new = |r: &&Value| {
                let id = r["id"].as_u64().and_then(|id| u32::try_from(id).ok());
                r["prog_id"] == program && id.is_some_and(|id| !before.contains(&id))
            };
            let [ours] = rows.iter().filter(is_new).collect::<Vec<_>>().try_into().unwrap();
            let ours: &Value = ours;
            assert_eq!(ours["type"], link_type, "{ours}");
            for (field, value) in want.as_object().unwrap() {
                assert_eq!(ours.get(field), Some(value), "{name}: {field} of {ours}");
            }
            assert!(!ours["pids"].as_array().unwrap().is_empty(), "{ours}");
            if compare && let Some(theirs) = bpftool(&ours["id"]) {
                // An older bpftool knows less of some kinds, but what it says must agree.
                for (field, value) in theirs.as_object().unwrap() {
                    if !["pids", "type", "devname"].contains(&field.as_str()) {
                        assert_eq!(ours.get(field), Some(value), "{name} {field}: {ours} {theirs}");
                    }
                }
            }
            let id = ours["id"].to_string();
            assert_eq!(row(&format!("link show id {id}"))["id"], ours["id"]);
            assert!(ok(&format!("link show id {id}")).starts_with(&format!("{id}: {link_type}  ")));
            drop(link);
            assert_eq!(common::run(&["link", "show", "id", &id]).code, 1, "{name} is left behind");
            shown.push(name);
        }
        assert!(shown.len() >= 8, "{shown:?}");
        Ok::<_, String>(())
    });
    require_kernel!(done.and_then(|inside| inside));
}

/// The loopback interface has the same index everywhere.
#[test]
fn interfaces_of_other_namespaces_have_no_name_here() {
    require_kernel!(probe::can_load().into_result());
    let elsewhere = sandbox(|| {
        let lo = skep::ifindex("lo").expect("every namespace has it");
        let mut held = Vec::new();
        for kind in ["xdp", "tcx"] {
            let Ok(loaded) = load(&format!("on_{kind}")) else { continue };
            let program = loaded.programs().first().and_then(|p| p.kernel());
            let program = program.expect("it is in the kernel");
            let link = match kind {
                "xdp" => attach_xdp(program, lo, kernel::link::XdpMode::Generic),
                _ => attach_tc(program, lo, skep::Direction::Ingress),
            };
            let Ok(link) = link else { continue };
            let Some(id) = link.id().ok().flatten() else { continue };
            assert_eq!(row(&format!("link show id {id}"))["devname"], "lo");
            held.push((id, link, loaded));
        }
        // The namespace lives as long as somebody holds it.
        (held, fs::File::open("/proc/thread-self/ns/net").expect("it has a namespace"))
    });
    require_kernel!(elsewhere.as_ref().map(drop).map_err(Clone::clone));
    let Ok((held, _namespace)) = elsewhere else { return };
    assert!(!held.is_empty(), "XDP works on every kernel");
    for (id, ..) in &held {
        let shown = row(&format!("link show id {id}"));
        assert_eq!((&shown["devname"], &shown["ifindex"]), (&Value::Null, &json!(1)), "{shown}");
    }
}
