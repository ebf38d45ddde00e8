//! Iterators: every target that the running kernel has, with parameters, and pinned.

use std::{fs, io::Read as _, os::fd::AsFd as _, path::Path};

use skep_abi::{MapDef, MapFlags, MapType};
use skep_isa::Slot;
use skep_kernel::{
    Link, Map, Target, attach,
    link::{CgroupOrder, IterTarget, attach_iter, iter_targets},
    pidfd, probe, target,
};
use skep_testing::{fired, refused, require_kernel, sandbox};

use super::{Counter, available, cgroup::Cgroup, cookies::loaded, or_lacking, or_refused, slot};

/// Writes `text`, 4 bytes, for each that is not the end: `ctx->NAME` at this offset is not 0.
fn record(text: [u8; 4]) -> Vec<Slot> {
    vec![
        slot(0x79, 2, 1, 8, 0),
        slot(0x15, 2, 0, 7, 0),
        slot(0x62, 10, 0, -4, i32::from_le_bytes(text)),
        slot(0x79, 1, 1, 0, 0),
        slot(0x79, 1, 1, 0, 0),
        slot(0xbf, 2, 10, 0, 0),
        slot(0x07, 2, 0, 0, -4),
        slot(0xb7, 3, 0, 0, 4),
        slot(0x85, 0, 0, 0, 127),
        slot(0xb7, 0, 0, 0, 0),
        slot(0x95, 0, 0, 0, 0),
    ]
}

fn read(link: &Link) -> Vec<u8> {
    let mut bytes = Vec::new();
    link.read_iter().expect("an iterator").read_to_end(&mut bytes).expect("readable");
    bytes
}

fn sockets() -> Map {
    let def = MapDef {
        map_type: MapType::SOCKMAP,
        key_size: 4,
        value_size: 4,
        max_entries: 1,
        flags: MapFlags(0),
        extra: 0,
        numa_node: 0,
    };
    Map::create("sockets", def, None, None).expect("every kernel has this map")
}

#[test]
fn every_target_of_the_kernel_is_walked() {
    require_kernel!(probe::can_load().into_result());
    let targets = iter_targets();
    require_kernel!(targets.as_ref().map(drop).map_err(ToString::to_string));
    let targets = targets.expect("read");
    for known in ["task", "bpf_map", "bpf_map_elem"] {
        assert!(targets.iter().any(|target| target == known), "{targets:?}");
    }
    let cgroup = available!(Cgroup::new());
    let (array, sockets) = (Counter::new(), sockets());
    for target in &targets {
        let row = format!("iter/{target}");
        let counter = Counter::new();
        let object = loaded(&row, counter.all(0));
        let Some(object) = or_refused(&row, object) else { continue };
        let program = object.program("probe").expect("it is there");
        let parameter = match target.as_str() {
            "bpf_map_elem" => IterTarget::Map(&array.map),
            "sockmap" => IterTarget::Map(&sockets),
            "cgroup" => IterTarget::Cgroup(cgroup.fd()),
            // Its map holds what belongs to sockets, and needs types.
            "bpf_sk_storage_map" => {
                attach_iter(program, IterTarget::All).expect_err("it needs a map");
                continue;
            }
            _ => IterTarget::All,
        };
        let link = attach(program, &Target::Iter(parameter)).expect(target);
        drop(read(&link));
        if counter.get() > 0 {
            fired(&row, link.method());
        } else {
            // There is none of these, and the kernel does not show the end of nothing.
            assert!(!["task", "cgroup", "bpf_prog"].contains(&target.as_str()), "{row}");
        }
        let at_end = counter.get();
        link.detach().expect("it detaches");
        assert_eq!(counter.get(), at_end);
    }
}

#[test]
fn cgroups_are_walked_in_order() {
    require_kernel!(probe::can_load().into_result());
    let btf = target::vmlinux_btf();
    require_kernel!(btf.as_ref().map(drop).map_err(ToString::to_string));
    let above = available!(Cgroup::new());
    let below = above.below();
    let row = "iter/cgroup in order";
    let object = loaded("iter/cgroup", record(*b"cgrp"));
    let Some(object) = or_refused(row, object) else { return };
    let program = object.program("probe").expect("it is there");
    let count = |from, order| {
        let link = attach_iter(program, IterTarget::Cgroups(from, order)).expect("a cgroup");
        read(&link).len() / 4
    };
    assert_eq!(count(above.fd(), CgroupOrder::Itself), 1);
    assert_eq!(count(above.fd(), CgroupOrder::ParentsFirst), 2);
    assert_eq!(count(above.fd(), CgroupOrder::ChildrenFirst), 2);
    assert_eq!(count(below.fd(), CgroupOrder::ParentsFirst), 1);
    assert!(count(below.fd(), CgroupOrder::Upwards) >= 3, "itself, its parent, the root");
    fired(row, "link");
}

#[test]
fn threads_and_processes_are_chosen() {
    require_kernel!(probe::can_load().into_result());
    let btf = target::vmlinux_btf();
    require_kernel!(btf.as_ref().map(drop).map_err(ToString::to_string));
    let object = available!(loaded("iter/task", record(*b"task")));
    let program = object.program("probe").expect("it is there");
    let pid = std::process::id();
    let process = pidfd(pid);
    // Linux before 5.3 has none.
    let process = available!(process.map_err(|e| e.to_string()));
    for (row, parameter) in [
        ("iter/task of one thread", IterTarget::Thread(pid)),
        ("iter/task of a pidfd", IterTarget::Pidfd(process.as_fd())),
    ] {
        let link = or_lacking(attach_iter(program, parameter), &[libc::EINVAL, libc::E2BIG]);
        let Some(link) = or_refused(row, link) else { continue };
        let found = read(&link).len() / 4;
        // A test has its own thread beside the first one.
        let one = row.ends_with("thread");
        assert!(if one { found == 1 } else { found >= 1 }, "{row}: {found}");
        fired(row, link.method());
    }
}

#[test]
fn a_pinned_iterator_is_a_file() {
    require_kernel!(probe::can_load().into_result());
    let btf = target::vmlinux_btf();
    require_kernel!(btf.as_ref().map(drop).map_err(ToString::to_string));
    let done = sandbox(|| {
        let object = loaded("iter/bpf_map", record(*b"map\n")).expect("every kernel has it");
        let program = object.program("probe").expect("it is there");
        let link = attach(program, &Target::Section).expect("it needs nothing");
        let path = Path::new("/sys/fs/bpf/maps");
        link.pin(path).expect("a bpf file system of our own");
        drop((link, object));
        // One of its own, if there is no other.
        let map = Counter::new();
        let text = fs::read_to_string(path).expect("it is read like a file");
        assert!(!text.is_empty() && text.lines().all(|line| line == "map"), "{text:?}");
        let again = fs::read_to_string(path).expect("and again");
        assert!(!again.is_empty());
        drop(map);
        fs::remove_file(path).expect("it is ours");
    });
    match done {
        Ok(()) => fired("iter, pinned and read as a file", "link"),
        Err(reason) => refused("iter, pinned and read as a file", &reason),
    }
}
