//! `skep tree` on objects that the test holds, pins and attaches.

mod common;

use std::{os::fd::AsFd as _, process::Command};

use common::{fails, json, ok};
use serde_json::Value;
use skep::{
    Engine, Object,
    kernel::{self, ProgramLoad, probe},
};
use skep_testing::{Skip, has_tool, require_kernel, sandbox, veth};

/// The trees, as JSON.
fn trees(words: &str) -> Vec<Value> {
    json(&ok(format!("tree --json {words}").trim_end()))
}

/// The objects of a node.
fn below(node: &Value) -> &[Value] {
    node.get("objects").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Text of a field.
fn text<'a>(node: &'a Value, field: &str) -> &'a str {
    node.get(field).and_then(Value::as_str).unwrap_or("")
}

#[test]
fn a_process_holds_links_links_programs_programs_maps() {
    require_kernel!(probe::can_load().into_result());
    let object = Object::open(skep_testing::repository().join("examples/execsnoop.bpf.o")).unwrap();
    let loaded = object.load(&Engine::kernel().unwrap()).unwrap();
    let program = loaded
        .programs()
        .iter()
        .find(|p| p.section().starts_with("tp/") || p.section().starts_with("tracepoint/"))
        .expect("it has a tracepoint");
    let held = program.attach(skep::Attach::Section).unwrap();
    let me = std::process::id();
    let [root] = trees(&format!("--pid {me}")).try_into().unwrap();
    let root: Value = root;
    assert_eq!((text(&root, "type"), root["pid"].as_u64()), ("process", Some(me.into())));
    let links: Vec<_> = below(&root).iter().filter(|n| n["kind"] == "link").collect();
    let [link] = links.as_slice() else { panic!("{root}") };
    assert!(text(link, "name").contains("tracepoint sys_enter_exec"), "{link}");
    let [program_node] = below(link) else { panic!("{link}") };
    assert_eq!(text(program_node, "kind"), "prog");
    assert_eq!(text(program_node, "name"), program.name().get(..15).unwrap_or(program.name()));
    assert!(!below(program_node).is_empty(), "it uses maps: {program_node}");
    assert!(below(program_node).iter().all(|n| n["kind"] == "map"), "{program_node}");
    // The others have no link, and each stands once.
    let programs = below(&root).iter().filter(|n| n["kind"] == "prog").count();
    assert_eq!(programs, loaded.programs().len() - 1, "{root}");
    let drawn = ok(&format!("tree --pid {me}"));
    assert!(drawn.contains(&format!("({me})\n├─ link ")), "{drawn}");
    drop(held);
    let why = fails(1, "tree --pid 4294967295");
    assert_eq!(why, "error: there is no process 4294967295\n");
    let after = trees(&format!("--pid {me}"));
    assert!(after.iter().flat_map(below).all(|n| n["kind"] != "link"), "{after:?}");
}

#[test]
fn names_of_others_do_not_steer_the_terminal() {
    require_kernel!(probe::can_load().into_result());
    let def = skep::abi::MapDef {
        map_type: skep::abi::MapType::ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        flags: skep::abi::MapFlags::default(),
        extra: 0,
        numa_node: 0,
    };
    let map = kernel::Map::create("held", def, None, None).unwrap();
    let before = std::fs::read("/proc/self/comm").unwrap();
    std::fs::write("/proc/self/comm", "\x1b[31mred").unwrap();
    let me = std::process::id();
    let shown = [ok(&format!("tree --pid {me}")), ok("map show")];
    let missing = fails(1, "map show name \u{9b}2J\x1b");
    std::fs::write("/proc/self/comm", before).unwrap();
    drop(map);
    for text in &shown {
        assert!(text.contains("\\u001b[31mred"), "{text}");
    }
    for text in shown.iter().chain([&missing]) {
        assert!(!text.contains(['\x1b', '\u{9b}']), "{text:?}");
    }
    assert!(missing.contains("\\u009b2J\\u001b"), "{missing}");
}

/// Has bpftool done this? It attaches and holds nothing, which skep does not.
fn bpftool(words: &str) -> bool {
    if !has_tool("bpftool") {
        skep_testing::skip(Skip::Tool, "tree", "bpftool is not installed");
        return false;
    }
    let status = Command::new("bpftool").args(words.split(' ')).status();
    assert!(status.expect("bpftool starts").success(), "{words}");
    true
}

#[test]
fn pins_hooks_and_maps_hold_what_no_process_does() {
    require_kernel!(probe::can_load().into_result());
    let done = sandbox(|| {
        veth("left", "right")?;
        let slots = skep::isa::asm::assemble("r0 = 2\nexit").unwrap();
        let load = |name: &str, kind| {
            kernel::Program::load(&ProgramLoad::new(name, kind, &slots)).expect("it loads")
        };
        let on_device = load("tree_xdp", skep::abi::ProgType::XDP);
        let left = skep::ifindex("left").unwrap();
        on_device.pin("/sys/fs/bpf/on_device".as_ref()).unwrap();
        let on = bpftool("net attach xdpgeneric pinned /sys/fs/bpf/on_device dev left");
        std::fs::remove_file("/sys/fs/bpf/on_device").unwrap();
        let pinned = load("tree_pinned", skep::abi::ProgType::XDP);
        pinned.pin("/sys/fs/bpf/tree".as_ref()).unwrap();
        let called = load("tree_called", skep::abi::ProgType::XDP);
        ok("map create /sys/fs/bpf/calls type prog_array entries 1 name calls");
        let calls = kernel::Map::open_pinned("/sys/fs/bpf/calls".as_ref()).unwrap();
        calls.set_fd(&[0; 4], called.as_fd()).unwrap();
        drop((on_device, pinned, called));

        let all = trees("");
        let holding = |name: &str| {
            let has = |r: &&Value| below(r).iter().any(|n| text(n, "name") == name);
            all.iter().filter(has).collect::<Vec<_>>()
        };
        let [pin] = holding("tree_pinned").try_into().unwrap();
        assert_eq!((text(pin, "type"), text(pin, "path")), ("pin", "/sys/fs/bpf/tree"));
        let [map] = holding("tree_called").try_into().unwrap();
        assert_eq!((text(map, "type"), text(map, "name")), ("map", "calls"));
        if on {
            let hooks: Vec<&str> = holding("tree_xdp").iter().map(|r| text(r, "hook")).collect();
            assert_eq!(hooks, [format!("interface left({left}) xdp")]);
            assert!(bpftool("net detach xdpgeneric dev left"));
            assert!(!trees("").iter().any(|r| text(r, "hook").starts_with("interface left")));
        }
        Ok::<_, String>(())
    });
    require_kernel!(done.and_then(|inside| inside));
}
