//! Structures of functions: a congestion control of our own, used by connections over loopback.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use skep_kernel::{
    AttachError, LoadError, LoadOptions, Object, StructOps, StructOpsProblem, inspect, probe,
};
use skep_object::ObjectSpec;
use skep_testing::{Skip, ip, require_kernel, set_congestion_control, skip, veth};

use super::{MapType, in_guest, net::in_own_namespace, or_refused};

const OBJECT: &[u8] = include_bytes!("../../../../tests/data/objects/tcp_ca.bpf.o");
const SCHEDULER: &[u8] = include_bytes!("../../../../tests/data/objects/scheduler.bpf.o");
const QDISC: &[u8] = include_bytes!("../../../../tests/data/objects/qdisc.bpf.o");

/// The object, its structures registered as `skep_linked_TAG` and `skep_plain_TAG`: names are the
/// whole machine's, and tests run beside each other.
fn spec(tag: char) -> ObjectSpec {
    let mut spec = ObjectSpec::parse(OBJECT).expect("it is well-formed");
    for map in spec.maps.iter_mut().filter(|m| m.def.map_type == MapType::STRUCT_OPS) {
        let name = map.data.as_mut().and_then(|data| data.get_mut(..16)).expect("the first member");
        let end = name.iter().position(|&byte| byte == 0).expect("it has a NUL");
        let place = name.get_mut(end..end + 2).expect("there is room");
        place.copy_from_slice(&[b'_', u8::try_from(tag).expect("ASCII")]);
    }
    spec
}

fn load(spec: &ObjectSpec) -> Result<Object, LoadError> {
    Object::load_spec(spec, &LoadOptions { pin_root: None, ..LoadOptions::default() })
}

/// The object with these maps, where the kernel takes them.
fn loaded(hook: &str, tag: char, maps: &[&str]) -> Option<Object> {
    let lacking = |e: LoadError| match e {
        LoadError::StructOps { problem: StructOpsProblem::NoType { .. }, .. }
        | LoadError::MapDefinition { .. } => e.to_string(),
        e => panic!("{e:?}"),
    };
    let mut spec = spec(tag);
    for map in spec.maps.iter_mut().filter(|m| m.def.map_type == MapType::STRUCT_OPS) {
        map.autocreate = maps.contains(&map.name.as_str());
    }
    or_refused(hook, load(&spec).map_err(lacking))
}

/// All maps that are made without being asked for.
const ALL: &[&str] = &["first", "second", "plain"];

fn ops<'a>(object: &'a Object, name: &str) -> &'a StructOps {
    object.struct_ops().iter().find(|ops| ops.name() == name).expect("it is made")
}

/// Inits, acknowledgements seen by the first and by the second.
fn counts(object: &Object) -> [u64; 3] {
    let map = object.map(".bss").expect("it has counters");
    let value = map.lookup_vec(&[0; 4]).expect("readable").expect("arrays are full");
    let mut words = value.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8")));
    [(); 3].map(|()| words.next().unwrap_or_default())
}

/// A connection that sends some data by this congestion control.
fn talk(name: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut here = TcpStream::connect(listener.local_addr()?)?;
    set_congestion_control(here.as_fd(), name)?;
    let (mut there, _) = listener.accept()?;
    for _ in 0..10 {
        here.write_all(&[7; 4000])?;
        there.read_exact(&mut [0; 4000])?;
    }
    Ok(())
}

/// A structure of another subsystem, where programs can implement it.
fn others(hook: &str, object: &[u8]) -> Option<Object> {
    let spec = ObjectSpec::parse(object).expect("it is well-formed");
    let lacking = |e: LoadError| match e {
        LoadError::StructOps { problem: StructOpsProblem::NoType { .. }, .. } => e.to_string(),
        e => panic!("{e:?}"),
    };
    let resolved = skep_kernel::target::resolve(spec).expect("its types are known");
    or_refused(hook, Object::load(&resolved, &LoadOptions::default()).map_err(lacking))
}

/// Nobody holds these programs any more; who lists all programs does for a moment.
fn are_gone(ids: &[u32]) -> bool {
    let deadline = Instant::now() + Duration::from_secs(10);
    let gone = |id: &u32| inspect::program(*id).expect("it can be asked for").is_none();
    while !ids.iter().all(gone) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// Sees connections counted while the link lives, and no such congestion control afterwards.
fn used(hook: &str, object: &Object, map: &str, name: &str) {
    let unknown = talk(name).expect_err("it is not registered yet");
    assert_eq!(unknown.raw_os_error(), Some(libc::ENOENT));
    let link = ops(object, map).attach().expect("it is whole");
    let before = counts(object);
    talk(name).expect("it is registered");
    assert!(counts(object)[1] > before[1], "no acknowledgement was seen");
    let method = link.method();
    link.detach().expect("it detaches");
    let gone = talk(name).expect_err("it is not registered any more");
    assert_eq!(gone.raw_os_error(), Some(libc::ENOENT));
    skep_testing::fired(hook, method);
}

#[test]
fn a_congestion_control_is_used_by_link_and_by_value() {
    in_own_namespace(|| {
        let mut ids = Vec::new();
        for (hook, map, name) in
            [("struct_ops", "plain", "skep_plain_a"), ("struct_ops.link", "first", "skep_linked_a")]
        {
            let Some(object) = loaded(hook, 'a', &[map]) else { continue };
            ids.extend(object.programs().iter().map(|p| p.info().expect("it is loaded").id));
            used(hook, &object, map, name);
            let [inits, ..] = counts(&object);
            assert!(inits > 0 || map == "plain", "the optional function was not called");
        }
        assert!(are_gone(&ids), "programs are left behind");
    });
}

#[test]
fn a_link_takes_another_structure_without_a_gap() {
    in_own_namespace(|| {
        let hook = "struct_ops.link, updated";
        let Some(object) = loaded(hook, 'b', ALL) else { return };
        let (first, second, plain) =
            (ops(&object, "first"), ops(&object, "second"), ops(&object, "plain"));
        let link = first.attach().expect("it is whole");
        talk("skep_linked_b").expect("it is registered");
        assert_eq!(counts(&object)[2], 0);
        link.update_struct_ops(second).expect("it has the same name");
        let before = counts(&object);
        talk("skep_linked_b").expect("it is registered");
        let after = counts(&object);
        assert!(after[2] > 0 && after[1] == before[1], "{before:?}, {after:?}");
        let error = link.update_struct_ops(plain).expect_err("it is not for links");
        assert!(matches!(error, AttachError::StructOps { .. }), "{error}");
        let method = link.method();
        drop(link);
        talk("skep_linked_b").expect_err("it is not registered any more");
        skep_testing::fired(hook, method);
    });
}

#[test]
fn two_of_one_name_do_not_register() {
    in_own_namespace(|| {
        let Some(object) = loaded("struct_ops.link", 'c', ALL) else { return };
        let _first = ops(&object, "first").attach().expect("it is whole");
        let error = ops(&object, "second").attach().expect_err("the name is taken");
        assert!(error.to_string().contains("registered already"), "{error}");
    });
}

#[test]
fn members_that_the_kernel_lacks_must_be_zero() {
    in_own_namespace(|| {
        if loaded("struct_ops.link", 'd', ALL).is_none() {
            return;
        }
        for (map, member) in
            [("wrong_number", "no_such_number"), ("wrong_function", "no_such_function")]
        {
            let mut spec = spec('d');
            let wanted = spec.maps.iter_mut().find(|m| m.name == map).expect("it is there");
            wanted.autocreate = true;
            let error = load(&spec).expect_err("the kernel has no such member");
            assert_eq!(
                error.to_string(),
                format!(
                    "map '{map}': member '{member}' is set, and 'struct tcp_congestion_ops' of \
                     this kernel has none of that name"
                )
            );
        }
    });
}

#[test]
fn programs_follow_their_maps() {
    in_own_namespace(|| {
        let Some(object) = loaded("struct_ops.link", 'e', ALL) else { return };
        assert!(object.program("count_second").is_some() && object.program("nowhere").is_none());
        let mut spec = spec('e');
        for map in spec.maps.iter_mut().filter(|m| m.name == "second") {
            map.autocreate = false;
        }
        let object = load(&spec).expect("one map less");
        assert!(object.program("count_second").is_none(), "nothing holds it");
        assert!(object.program("count_first").is_some());
        assert_eq!(object.struct_ops().len(), 2);
        // One that no map holds is refused before the kernel is asked.
        spec.maps.retain(|m| m.def.map_type != MapType::STRUCT_OPS);
        let error = load(&spec).expect_err("the programs have no function to implement");
        assert!(error.to_string().contains("no struct_ops map holds it"), "{error}");
    });
}

/// Whole machines are scheduled by it: only in a guest.
#[test]
fn a_scheduler_runs_a_guest() {
    require_kernel!(probe::can_load().into_result());
    let hook = "struct_ops.link, sched_ext";
    let Some(object) = others(hook, SCHEDULER) else { return };
    if !in_guest() {
        let reason = "this machine is not made for another scheduler";
        skip(Skip::Kernel, "struct_ops::a_scheduler_runs_a_guest", reason);
        return;
    }
    let state = |file: &str| {
        std::fs::read_to_string(format!("/sys/kernel/sched_ext/{file}")).unwrap_or_default()
    };
    assert_eq!(state("state").trim(), "disabled");
    let link = ops(&object, "queue").attach().expect("it is whole");
    assert_eq!((state("state").trim(), state("root/ops").trim()), ("enabled", "skep_queue"));
    let before = counts(&object);
    let workers = [(); 4].map(|()| std::thread::spawn(std::thread::yield_now));
    workers.into_iter().for_each(|worker| worker.join().expect("it ends"));
    let after = counts(&object);
    assert!(after > before, "nobody stood in line: {before:?}, {after:?}");
    let method = link.method();
    link.detach().expect("it detaches");
    let deadline = Instant::now() + Duration::from_secs(10);
    while state("state").trim() != "disabled" {
        assert!(Instant::now() < deadline, "it stays: {}", state("state"));
        std::thread::sleep(Duration::from_millis(10));
    }
    let at_end = counts(&object);
    std::thread::yield_now();
    assert_eq!(counts(&object), at_end);
    skep_testing::fired(hook, method);
}

#[test]
fn a_queueing_discipline_drops_what_leaves_an_interface() {
    in_own_namespace(|| {
        let hook = "struct_ops, qdisc";
        let Some(object) = others(hook, QDISC) else { return };
        if !skep_testing::has_tool("tc") {
            return skip(Skip::Tool, "struct_ops::a_queueing_discipline", "no tc command");
        }
        let link = ops(&object, "drop").attach().expect("it is whole");
        require_kernel!(veth("left", "right"));
        let tc = |arguments: &str| {
            let mut tc = std::process::Command::new("tc");
            tc.args(arguments.split_whitespace()).status().expect("tc starts").success()
        };
        assert!(tc("qdisc add dev left root skep_drop"));
        ip("addr add 10.9.8.1/24 dev left").expect("the namespace is ours");
        let socket = std::net::UdpSocket::bind("10.9.8.1:0").expect("the address is ours");
        for _ in 0..3 {
            // What is dropped on its way out may be an error of the sender's.
            socket.send_to(b"x", "10.9.8.255:9").ok();
            socket.send_to(b"x", "10.9.8.2:9").ok();
        }
        let [dropped, ..] = counts(&object);
        assert!(dropped > 0, "no packet reached it");
        assert!(tc("qdisc del dev left root"));
        let method = link.method();
        link.detach().expect("nobody uses it any more");
        assert!(!tc("qdisc add dev left root skep_drop"), "it is not registered any more");
        skep_testing::fired(hook, method);
    });
}
