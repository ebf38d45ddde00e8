//! The flows that are swept.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsFd as _,
    path::Path,
    sync::Arc,
    time::Duration,
};

use skep_abi::{AttachType, MapDef, MapFlags, MapRule, MapType, ProgType, UpdateMode};
use skep_isa::Slot;
use skep_object::ObjectSpec;
use skep_testing::{repository, require_kernel, sandbox, veth};

use super::{Outcome, sweep_alone};
use crate::{
    LoadError, LoadOptions, Map, Object, Program, ProgramLoad, TestRunOptions,
    inspect::{self, Kind},
    link::{
        self, Direction, IterTarget, Order, Owner, PerfEvent, Position, Rate, Route, Uprobe,
        XdpMode,
    },
    perf::PerfConsumer,
    probe,
    ringbuf::{RingConsumer, RingSet},
    sys::SysError,
    user_ringbuf::UserRing,
};

fn spec(path: &str) -> ObjectSpec {
    let bytes = std::fs::read(repository().join(path)).expect("the object is committed");
    ObjectSpec::parse(&bytes).expect("it is well-formed")
}

fn map(name: &str, map_type: MapType, (key_size, value_size, max_entries): (u32, u32, u32)) -> Map {
    let flags = MapFlags(0);
    let def = MapDef { map_type, key_size, value_size, max_entries, flags, extra: 0, numa_node: 0 };
    Map::create(name, def, None, None).expect("this type is everywhere")
}

/// `r0 = 1; exit`
const ONE: [Slot; 2] = [
    Slot { code: 0xb7, dst: 0, src: 0, off: 0, imm: 1 },
    Slot { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
];

fn program(prog_type: ProgType, attach_type: Option<AttachType>) -> Program {
    let mut load = ProgramLoad::new("swept", prog_type, &ONE);
    load.attach_type = attach_type;
    Program::load(&load).expect("it is valid")
}

const LOADING: &[(&str, i32, &str)] = &[
    ("BPF_BTF_LOAD", 0, "loaded without types"),
    ("BPF_OBJ_GET", libc::ENOENT, "nothing is pinned there"),
];

#[test]
fn loading_an_object_with_global_data() {
    require_kernel!(probe::can_load().into_result());
    let strncmp = 182;
    require_kernel!(probe::helper(ProgType::SCHED_CLS, strncmp).into_result());
    let spec = spec("tests/data/objects/data.bpf.o");
    let options = LoadOptions { pin_root: None, ..LoadOptions::default() };
    let load = || Ok(Object::load_spec(&spec, &options).map(drop)?);
    sweep_alone(load, &["map '", "program '"], LOADING);
}

#[test]
fn loading_an_object_with_every_kind_of_map_and_pins() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(probe::map_type(MapType::BLOOM_FILTER).into_result());
    let spec = spec("tests/data/objects/maps.bpf.o");
    let inside = sandbox(|| {
        let options =
            LoadOptions { pin_root: Some("/sys/fs/bpf/swept".into()), ..Default::default() };
        let load = || {
            let loaded = Object::load_spec(&spec, &options).map(drop);
            let mut pins = Vec::new();
            list(Path::new("/sys/fs/bpf/swept"), &mut pins);
            assert_eq!(pins.is_empty(), loaded.is_err(), "{pins:?}");
            pins.iter().for_each(|pin| std::fs::remove_file(pin).unwrap());
            Ok(loaded?)
        };
        // The verifier of Linux 7.2 refuses one of the programs ("slot poisoned by dead code
        // elimination").
        let rejected = match Object::load_spec(
            &spec,
            &LoadOptions { pin_root: None, ..LoadOptions::default() },
        ) {
            Err(e @ LoadError::Rejected { .. }) => Err(e.to_string()),
            _ => Ok(()),
        };
        require_kernel!(rejected);
        sweep_alone(load, &["map '", "program '"], LOADING);
    });
    require_kernel!(inside);
}

fn list(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type().is_ok_and(|t| t.is_dir()) {
            true => list(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

#[test]
fn reading_a_ring() {
    require_kernel!(probe::can_load().into_result());
    let ring = Arc::new(map("ring", MapType::RINGBUF, (0, 0, 4096)));
    let read = || {
        let mut consumer = RingConsumer::new(Arc::clone(&ring))?;
        assert_eq!(consumer.poll(Duration::ZERO), None);
        Ok(())
    };
    sweep_alone(read, &["'ring'"], &[("poll", 0, "a failed wait is an early end of it")]);
}

#[test]
fn reading_a_perf_buffer() {
    require_kernel!(probe::can_load().into_result());
    let events = Arc::new(map("events", MapType::PERF_EVENT_ARRAY, (4, 4, 1)));
    let read = || {
        let mut consumer = PerfConsumer::new(Arc::clone(&events), 4096)?;
        assert_eq!(consumer.poll(Duration::ZERO), None);
        assert_eq!(consumer.lost(), 0);
        Ok(())
    };
    let dispensable = [
        ("poll", 0, "a failed wait is an early end of it"),
        ("read", 0, "the number of lost events is then not known"),
        ("perf_event_open", libc::EINVAL, "the kernel does not count losses"),
        ("BPF_MAP_DELETE_ELEM", 0, "at the end, when nobody can be told"),
    ];
    sweep_alone(read, &["'events'"], &dispensable);
}

#[test]
fn entries_of_maps() {
    require_kernel!(probe::can_load().into_result());
    // Of a hash since Linux 5.14.
    let takes = map("hash", MapType::HASH, (4, 8, 1)).lookup_and_delete(&[0; 4]).is_ok();
    let each = || -> Outcome {
        let hash = map_or("swept_hash", MapType::HASH, (4, 8, 16))?;
        for n in 0..3_u32 {
            hash.update(&n.to_ne_bytes(), &[1; 8], UpdateMode::Any)?;
        }
        hash.lookup_vec(&[0; 4])?;
        hash.keys().collect::<Result<Vec<_>, _>>()?;
        hash.entries()?;
        hash.update_batch(&[7; 8], &[7; 16], UpdateMode::Any).1?;
        hash.delete_batch(&[7; 4]).1?;
        hash.drain_batch(16)?;
        hash.update(&[1; 4], &[1; 8], UpdateMode::NoExist)?;
        if takes {
            hash.lookup_and_delete(&[1; 4])?;
        }
        hash.update(&[2; 4], &[1; 8], UpdateMode::NoExist)?;
        hash.delete(&[2; 4])?;
        hash.freeze()?;
        let queue = map_or("swept_queue", MapType::QUEUE, (0, 8, 4))?;
        queue.push(&[1; 8], UpdateMode::Any)?;
        queue.peek()?;
        queue.pop()?;
        Ok(())
    };
    let dispensable = [
        ("BPF_MAP_LOOKUP_BATCH", 0, "one by one"),
        ("BPF_MAP_UPDATE_BATCH", libc::EINVAL, "one by one"),
        ("BPF_MAP_DELETE_BATCH", libc::EINVAL, "one by one"),
        ("BPF_MAP_LOOKUP_ELEM", libc::ENOENT, "it is not there"),
        ("BPF_MAP_GET_NEXT_KEY", libc::ENOENT, "there are no more"),
        ("BPF_MAP_LOOKUP_AND_DELETE_ELEM", libc::ENOENT, "it is not there"),
        ("BPF_MAP_LOOKUP_AND_DELETE_BATCH", libc::ENOENT, "there are no more"),
    ];
    sweep_alone(each, &["'swept_hash'", "'swept_queue'"], &dispensable);
}

#[test]
fn memory_of_maps() {
    require_kernel!(probe::can_load().into_result());
    let rule = |t| MapRule::of(t).expect("a type of the table").smallest(4096);
    let array = MapDef { flags: MapFlags::MMAPABLE, ..rule(MapType::ARRAY) };
    let user_rings = probe::map_type(MapType::USER_RINGBUF).is_yes();
    let def = rule(MapType::ARENA);
    let arenas = Map::create("arena", def, None, None).is_ok();
    let each = || -> Outcome {
        let rings = (0..2).map(|_| map_or("swept_ring", MapType::RINGBUF, (0, 0, 4096)));
        let rings = rings.map(|ring| ring.map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let mut set = RingSet::new(rings)?;
        set.poll(Duration::from_millis(1), |_, _| {});
        Map::create("swept_array", array, None, None)?.memory()?;
        if user_rings {
            let user = map_or("swept_user", MapType::USER_RINGBUF, (0, 0, 4096))?;
            UserRing::new(Arc::new(user))?.send(&[1; 8])?;
        }
        if arenas {
            Map::create("swept_arena", def, None, None)?.memory()?;
        }
        Ok(())
    };
    let names =
        ["'swept_ring'", "'swept_array'", "'swept_user'", "'swept_arena'", "'ring buffers'"];
    let dispensable = [
        ("poll", 0, "the wait ends early"),
        ("mmap", libc::EPERM, "read-only"),
        ("mmap", libc::EACCES, "read-only"),
    ];
    sweep_alone(each, &names, &dispensable);
}

fn map_or(name: &str, map_type: MapType, sizes: (u32, u32, u32)) -> Result<Map, crate::MapError> {
    let (key_size, value_size, max_entries) = sizes;
    let flags = MapFlags(0);
    let def = MapDef { map_type, key_size, value_size, max_entries, flags, extra: 0, numa_node: 0 };
    Map::create(name, def, None, None)
}

#[test]
fn test_runs() {
    require_kernel!(probe::can_load().into_result());
    let one = program(ProgType::XDP, None);
    let run = || {
        one.test_run(&TestRunOptions { data: &[0; 64], ..TestRunOptions::default() })?;
        one.info()?;
        Ok(())
    };
    sweep_alone(run, &["BPF_"], &[]);
}

#[test]
fn lists_of_what_is_loaded() {
    require_kernel!(probe::can_load().into_result());
    let one = program(ProgType::XDP, None);
    let own = one.info().unwrap().id;
    let array = map("swept_array", MapType::ARRAY, (4, 8, 1));
    let map_id = array.id().unwrap();
    let all = || {
        inspect::ids(Kind::Map)?;
        inspect::ids(Kind::Program)?;
        inspect::program(own)?.ok_or("BPF_PROG_GET_FD_BY_ID: not there")?;
        inspect::code(own)?;
        inspect::map(map_id)?.ok_or("BPF_MAP_GET_FD_BY_ID: not there")?;
        inspect::open_map(map_id)?.ok_or("BPF_MAP_GET_FD_BY_ID: not there")?;
        Ok(())
    };
    let dispensable = [
        ("BPF_MAP_GET_NEXT_ID", libc::ENOENT, "there are no more"),
        ("BPF_PROG_GET_NEXT_ID", libc::ENOENT, "there are no more"),
        ("BPF_PROG_GET_FD_BY_ID", libc::ENOENT, "it is gone"),
        ("reading a file", 0, "the memory of a map is not known"),
    ];
    sweep_alone(all, &["BPF_", "kind of a descriptor"], &dispensable);
}

const WITHOUT_LINKS: &[(&str, i32, &str)] = &[
    ("BPF_LINK_CREATE", libc::EINVAL, "the event is told the program"),
    ("BPF_LINK_CREATE", libc::ENOSYS, "the event is told the program"),
    ("BPF_LINK_CREATE", libc::EBADF, "the event is told the program"),
];

#[test]
fn tracepoints() {
    require_kernel!(probe::can_load().into_result());
    let program = program(ProgType::TRACEPOINT, None);
    let attach = || {
        link::attach_tracepoint(&program, "sched", "sched_process_fork")?.detach()?;
        Ok(())
    };
    sweep_alone(attach, &["program 'swept'", "tracepoint sched/"], WITHOUT_LINKS);
}

#[test]
fn raw_tracepoints() {
    require_kernel!(probe::can_load().into_result());
    let program = program(ProgType::RAW_TRACEPOINT, None);
    let attach = || Ok(link::attach_raw_tracepoint(&program, "sched_process_fork")?.detach()?);
    sweep_alone(attach, &["program 'swept'"], &[]);
}

#[test]
fn perf_events() {
    require_kernel!(probe::can_load().into_result());
    let program = program(ProgType::PERF_EVENT, None);
    let hourly = PerfEvent::cpu_clock(Rate::Period(3_600_000_000_000));
    let attach = || Ok(link::attach_perf_event(&program, &hourly)?.detach()?);
    sweep_alone(attach, &["program 'swept'"], WITHOUT_LINKS);
}

#[test]
fn uprobes() {
    require_kernel!(probe::can_load().into_result());
    let program = program(ProgType::KPROBE, None);
    let probe =
        Uprobe { pid: Some(std::process::id()), ..Uprobe::function("libc.so.6", "getdate_r") };
    let attach = || Ok(link::attach_uprobe(&program, &probe)?.detach()?);
    let in_tracefs = ("reading a file", libc::ENOENT, "a probe defined in tracefs");
    sweep_alone(attach, &["program 'swept'"], &[WITHOUT_LINKS, &[in_tracefs]].concat());
    let own = crate::leftover::Process::own();
    assert!(crate::leftover::leftovers().iter().all(|leftover| leftover.process != own));
}

#[test]
fn iterators() {
    require_kernel!(probe::can_load().into_result());
    let btf = crate::target::vmlinux_btf();
    require_kernel!(btf.as_ref().map(drop).map_err(ToString::to_string));
    let of_maps = btf.unwrap().find(skep_btf::KindTag::Func, "bpf_iter_bpf_map").next();
    let of_maps = of_maps.expect("every kernel with iterators has this one").0;
    let read = || {
        let insns = [Slot { imm: 0, ..ONE[0] }, ONE[1]];
        let mut load = ProgramLoad::new("swept", ProgType::TRACING, &insns);
        load.attach_type = Some(AttachType::TRACE_ITER);
        load.attach_btf_id = of_maps;
        let program = Program::load(&load)?;
        let link = link::attach_iter(&program, IterTarget::All)?;
        std::io::read_to_string(link.read_iter()?)?;
        Ok(())
    };
    sweep_alone(read, &["program 'swept'", "BPF_ITER_CREATE", "iterator"], &[]);
}

fn tool(name: &str, arguments: &str) -> String {
    let out = std::process::Command::new(name).args(arguments.split(' ')).output();
    String::from_utf8_lossy(&out.expect("it is installed").stdout).into_owned()
}

/// A device, and whether a flow on it left anything that it did not fail to take away.
fn on_device(flow: impl Fn(u32) -> Outcome + Sync, dispensable: &[(&str, i32, &str)]) {
    let inside = sandbox(|| {
        veth("left", "right").unwrap();
        let left = link::ifindex("left").unwrap();
        let clean = || {
            let ended = flow(left);
            let left = [tool("ip", "-d link show left"), tool("tc", "qdisc show dev left")];
            let dirty = left.iter().any(|text| text.contains("xdp") || text.contains("clsact"));
            if dirty {
                tool("ip", "link set left xdpgeneric off");
                tool("tc", "qdisc del dev left clsact");
            }
            // What could not be detached is there; what could not be attached is not.
            let detaching = ended.as_ref().is_err_and(|e| e.is::<SysError>());
            // Nor is it known who made the qdisc when the answer to making it is lost.
            let lost = ended.as_ref().is_err_and(|e| {
                let text = super::chain(e.as_ref());
                text.contains("RTM_NEWQDISC failed (recv")
            });
            assert!(!dirty || detaching || lost, "{left:#?} {ended:?}");
            ended
        };
        sweep_alone(clean, &["program 'swept'", "RTM_"], dispensable);
    });
    require_kernel!(inside);
}

/// In the calls of netlink: what the kernel has answered is still there.
const ANSWERED: (&str, i32, &str) = ("recv", 0, "an answer is received at the second attempt");
const OWNERLESS: (&str, i32, &str) =
    ("BPF_PROG_BIND_MAP", libc::EINVAL, "before Linux 5.10 programs hold no maps for others");
const WORDLESS: (&str, i32, &str) = ("NETLINK_EXT_ACK", 0, "errors without words");

#[test]
fn xdp() {
    require_kernel!(probe::can_load().into_result());
    let xdp = program(ProgType::XDP, None);
    let generic = ("BPF_LINK_CREATE", 0, "over netlink, or in generic mode");
    let attach = |on| Ok(link::attach_xdp(&xdp, on, XdpMode::Auto)?.detach()?);
    on_device(attach, &[generic, ANSWERED, WORDLESS, OWNERLESS]);
    let attach = |on| Ok(link::attach_xdp_netlink(&xdp, on, XdpMode::Generic)?.detach()?);
    on_device(attach, &[ANSWERED, WORDLESS, OWNERLESS]);
}

#[test]
fn tc() {
    require_kernel!(probe::can_load().into_result());
    let tc = program(ProgType::SCHED_CLS, None);
    let filter = ("BPF_LINK_CREATE", 0, "a filter of the clsact qdisc");
    let attach = |on| Ok(link::attach_tc(&tc, on, Direction::Ingress)?.detach()?);
    on_device(attach, &[filter, ANSWERED, WORDLESS]);
    let attach = |on| Ok(link::attach_tc_clsact(&tc, on, Direction::Egress)?.detach()?);
    on_device(attach, &[ANSWERED, WORDLESS]);
}

#[test]
fn places_among_others_and_another_program() {
    require_kernel!(probe::can_load().into_result());
    let tc = program(ProgType::SCHED_CLS, None);
    let first = Order::at(Position::First);
    let flow = |on| -> Outcome {
        let mut link = link::attach_tcx(&tc, on, Direction::Ingress, &first)?;
        link.update(&tc, Some(&tc))?;
        link::attached(Owner::Interface(on), AttachType::TCX_INGRESS)?;
        Ok(link.detach()?)
    };
    let inside = sandbox(|| {
        veth("left", "right").unwrap();
        let left = link::ifindex("left").unwrap();
        let tcx = link::attached(Owner::Interface(left), AttachType::TCX_INGRESS);
        require_kernel!(tcx.map(drop).map_err(|e| format!("no tcx: {e}")));
        let named = ["program 'swept'", "BPF_PROG_QUERY"];
        sweep_alone(|| flow(left), &named, &[]);
    });
    require_kernel!(inside);
}

#[test]
fn routes() {
    require_kernel!(probe::can_load().into_result());
    let lwt = program(ProgType::LWT_OUT, None);
    let inside = sandbox(|| {
        veth("left", "right").unwrap();
        let ifindex = link::ifindex("left").unwrap();
        let destination = Ipv4Addr::new(10, 9, 0, 0).into();
        let route = Route { destination, prefix: 24, ifindex, gateway: None, headroom: 0 };
        let flow = || {
            let attach = || -> Outcome { Ok(link::attach_route(&lwt, &route)?.detach()?) };
            let ended = attach();
            // What could not be detached is there; what could not be attached is not.
            let detaching = ended.as_ref().is_err_and(|e| e.is::<SysError>());
            let left = tool("ip", "route show").contains("10.9.0.0");
            if left {
                tool("ip", "route del 10.9.0.0/24");
            }
            assert!(!left || detaching, "{ended:?}");
            ended
        };
        sweep_alone(flow, &["program 'swept'", "RTM_"], &[ANSWERED, WORDLESS]);
    });
    require_kernel!(inside);
}

#[test]
fn socket_maps_and_groups() {
    require_kernel!(probe::can_load().into_result());
    let sockets = map("swept_sockets", MapType::SOCKMAP, (4, 4, 2));
    let verdict = program(ProgType::SK_MSG, Some(AttachType::SK_MSG_VERDICT));
    let flow = || Ok(link::attach_sockmap_without_link(&verdict, &sockets)?.detach()?);
    sweep_alone(flow, &["program 'swept'", "BPF_PROG_DETACH"], &[]);
    let chooser = program(ProgType::SOCKET_FILTER, None);
    let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let listener = skep_testing::reuseport_listener(any).unwrap();
    let flow = || Ok(link::attach_reuseport(&chooser, listener.as_fd())?.detach()?);
    sweep_alone(flow, &["program 'swept'", "SO_DETACH_REUSEPORT_BPF"], &[]);
}
