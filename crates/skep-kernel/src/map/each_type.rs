//! A map of each type that the kernel has: made, used by what is special to it, gone afterwards.

use std::{
    collections::HashSet,
    fs::File,
    net::{TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use skep_abi::{AttachType, ProgType};
use skep_btf::{Builder, Encoding, TypeId};
use skep_isa::Slot;
use skep_testing::{Skip, require_kernel, skip};

use super::*;
use crate::{
    Btf, Program, ProgramLoad, perf::PerfConsumer, probe, ringbuf::RingConsumer,
    user_ringbuf::UserRing,
};

/// What is done with a map of the type.
type Use = fn(&Arc<Map>);

/// Type; bytes of key and value; entries; flags; its use.
const ROWS: &[(MapType, u32, u32, u32, MapFlags, Use)] = &[
    (MapType::HASH, 4, 8, 4, NONE, entries),
    (MapType::ARRAY, 4, 8, 4, MapFlags::MMAPABLE, array),
    (MapType::PROG_ARRAY, 4, 4, 4, NONE, programs),
    (MapType::PERF_EVENT_ARRAY, 4, 4, 0, NONE, perf_events),
    (MapType::PERCPU_HASH, 4, 4, 4, NONE, per_cpu),
    (MapType::PERCPU_ARRAY, 4, 4, 4, NONE, per_cpu),
    (MapType::STACK_TRACE, 4, 64, 4, NONE, nothing_yet),
    (MapType::CGROUP_ARRAY, 4, 4, 4, NONE, cgroups),
    (MapType::LRU_HASH, 4, 8, 4, NONE, entries),
    (MapType::LRU_PERCPU_HASH, 4, 4, 4, NONE, per_cpu),
    (MapType::LPM_TRIE, 8, 8, 4, MapFlags::NO_PREALLOC, prefixes),
    (MapType::ARRAY_OF_MAPS, 4, 4, 4, NONE, inner_maps),
    (MapType::HASH_OF_MAPS, 4, 4, 4, NONE, inner_maps),
    (MapType::DEVMAP, 4, 8, 4, NONE, devices),
    (MapType::SOCKMAP, 4, 8, 4, NONE, sockets),
    (MapType::CPUMAP, 4, 8, 1, NONE, cpus),
    (MapType::XSKMAP, 4, 4, 4, NONE, only_their_own_sockets),
    (MapType::SOCKHASH, 4, 4, 4, NONE, sockets),
    (MapType::CGROUP_STORAGE, 16, 8, 0, NONE, nothing_yet),
    (MapType::REUSEPORT_SOCKARRAY, 4, 8, 4, NONE, only_their_own_sockets),
    (MapType::PERCPU_CGROUP_STORAGE, 16, 8, 0, NONE, nothing_yet),
    (MapType::QUEUE, 0, 8, 4, NONE, queue),
    (MapType::STACK, 0, 8, 4, NONE, queue),
    (MapType::SK_STORAGE, 4, 8, 0, MapFlags::NO_PREALLOC, of_socket),
    (MapType::DEVMAP_HASH, 4, 8, 4, NONE, devices),
    (MapType::RINGBUF, 0, 0, 4096, NONE, ring),
    (MapType::INODE_STORAGE, 4, 8, 0, MapFlags::NO_PREALLOC, of_inode),
    (MapType::TASK_STORAGE, 4, 8, 0, MapFlags::NO_PREALLOC, of_task),
    (MapType::BLOOM_FILTER, 0, 8, 100, NONE, bloom),
    (MapType::USER_RINGBUF, 0, 0, 4096, NONE, user_ring),
    (MapType::CGRP_STORAGE, 4, 8, 0, MapFlags::NO_PREALLOC, of_cgroup),
    (MapType::ARENA, 0, 0, 4, MapFlags::MMAPABLE, arena),
    (MapType::INSN_ARRAY, 4, 16, 4, NONE, insns),
    (MapType::RHASH, 4, 8, 4, MapFlags::NO_PREALLOC, entries),
];

const NONE: MapFlags = MapFlags(0);

#[test]
fn every_type_is_in_the_table() {
    // Operations need their own structure of the kernel as value.
    let other = [MapType::UNSPEC, MapType::STRUCT_OPS];
    for t in MapType::ALL.iter().filter(|t| !other.contains(t)) {
        assert!(ROWS.iter().any(|row| row.0 == *t), "{t} has no row");
    }
}

#[test]
fn a_map_of_each_type_works_and_goes_away() {
    require_kernel!(probe::can_load().into_result());
    let mut types = Builder::new();
    let int = types.int("int", 4, Encoding::SIGNED);
    let long = types.int("long", 8, Encoding::SIGNED);
    let types = types.finish().unwrap();
    let loaded = Btf::load(&types, &[], &HashSet::<TypeId>::new()).unwrap();
    let with_types = MapBtf { btf: loaded.as_fd(), key: int.0, value: long.0 };
    let mut lacking = Vec::new();
    for &(map_type, key_size, value_size, max_entries, flags, act) in ROWS {
        let def =
            MapDef { map_type, key_size, value_size, max_entries, flags, extra: 0, numa_node: 0 };
        let inner = map_type.is_map_in_map().then(|| inner(1));
        let btf = needs_types(map_type).then_some(with_types);
        let map = match Map::create("each", def, inner.as_ref(), btf) {
            Ok(map) => Arc::new(map),
            // Types that came after Linux 5.10, whose oldest guest has to have the others.
            Err(e) if e.errno() == libc::EINVAL && map_type >= MapType::TASK_STORAGE => {
                lacking.push(map_type.to_string());
                continue;
            }
            Err(e) => panic!("{map_type}: {e}: {}", e.source),
        };
        let id = map.id().unwrap();
        eprintln!("{map_type}: {:?}", map.def());
        act(&map);
        drop(map);
        let end = Instant::now() + Duration::from_secs(10);
        while is_there(id) {
            assert!(Instant::now() < end, "{map_type} is still there");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    if !lacking.is_empty() {
        let reason = format!("this kernel has no {} maps", lacking.join(", "));
        skip(Skip::Kernel, "each_type::a_map_of_each_type_works_and_goes_away", &reason);
    }
}

/// Is there a map of this id? It is not opened: closing a program array twice before a worker of
/// the kernel has emptied it keeps it for ever (`prog_array_map_clear`, kernel/bpf/arraymap.c).
fn is_there(id: u32) -> bool {
    sys::next_id(sys::ObjectKind::Map, id - 1).unwrap() == Some(id)
}

fn key(n: u32) -> [u8; 4] {
    n.to_ne_bytes()
}

fn inner(entries: u32) -> Map {
    let def = MapDef {
        map_type: MapType::HASH,
        key_size: 4,
        value_size: 4,
        max_entries: entries,
        flags: NONE,
        extra: 0,
        numa_node: 0,
    };
    Map::create("inner", def, None, None).unwrap()
}

fn entries(map: &Arc<Map>) {
    map.update(&key(1), &[7; 8], UpdateMode::NoExist).unwrap();
    assert_eq!(map.lookup_vec(&key(1)).unwrap().unwrap(), [7; 8]);
    let (done, result) = map.update_batch(&key(2), &[9; 8], UpdateMode::Any);
    assert!(done == 1 && result.is_ok(), "{done} {result:?}");
    let mut all = map.entries().unwrap();
    all.sort();
    assert_eq!(all, [(key(1).to_vec(), vec![7; 8]), (key(2).to_vec(), vec![9; 8])]);
    let mut walked = map.entries_by_key().unwrap();
    walked.sort();
    assert_eq!(walked, all);
    map.delete(&key(1)).unwrap();
    assert_eq!(map.drain().unwrap(), [(key(2).to_vec(), vec![9; 8])]);
    map.update(&key(3), &[1; 8], UpdateMode::Any).unwrap();
    assert_eq!(map.drain_by_key().unwrap(), [(key(3).to_vec(), vec![1; 8])]);
    assert_eq!(map.lookup_and_delete(&key(3)).ok().flatten(), None);
}

fn array(map: &Arc<Map>) {
    let memory = map.memory().unwrap();
    assert!(memory.write(8, &[5; 8]) && memory.is_writable());
    assert_eq!(map.lookup_vec(&key(1)).unwrap().unwrap(), [5; 8]);
    drop(memory);
    map.freeze().unwrap();
    let frozen = map.memory().unwrap();
    let mut value = [0; 8];
    assert!(frozen.read(8, &mut value) && value == [5; 8]);
    assert!(!frozen.is_writable() && !frozen.write(8, &[6; 8]));
}

fn programs(map: &Arc<Map>) {
    let program = xdp(None);
    map.set_fd(&key(1), program.as_fd()).unwrap();
    let id = map.lookup_vec(&key(1)).unwrap().unwrap();
    assert_eq!(id, program.info().unwrap().id.to_ne_bytes());
    map.delete(&key(1)).unwrap();
    assert_eq!(map.lookup_vec(&key(1)).unwrap(), None);
}

fn xdp(attach_type: Option<AttachType>) -> Program {
    let insns =
        [Slot { code: 0xb7, imm: 2, ..Slot::default() }, Slot { code: 0x95, ..Slot::default() }];
    let mut load = ProgramLoad::new("pass", ProgType::XDP, &insns);
    load.attach_type = attach_type;
    Program::load(&load).unwrap()
}

fn perf_events(map: &Arc<Map>) {
    assert!(map.def().max_entries > 0, "an entry per CPU");
    let mut consumer = PerfConsumer::new(Arc::clone(map), 4096).unwrap();
    assert_eq!(consumer.next(), None);
    assert_eq!(consumer.lost(), 0);
}

fn per_cpu(map: &Arc<Map>) {
    let cpus = sys::possible_cpus().unwrap();
    map.update_all_cpus(&key(1), &[7; 4], UpdateMode::Any).unwrap();
    for cpu in 0..u32::try_from(cpus).unwrap() {
        assert_eq!(map.lookup_cpu(&key(1), cpu).unwrap().unwrap(), [7; 4]);
    }
    let missing = map.lookup_cpu(&key(1), 1 << 20).unwrap_err();
    assert_eq!(missing.errno(), libc::ERANGE);
    match map.update_cpu(&key(1), 0, &[9; 4], UpdateMode::Any) {
        Ok(()) => {
            assert_eq!(map.lookup_cpu(&key(1), 0).unwrap().unwrap(), [9; 4]);
            let all = map.lookup_vec(&key(1)).unwrap().unwrap();
            assert_eq!(all.get(8..12), (cpus > 1).then_some(&[7; 4][..]));
            eprintln!("  one CPU at a time");
        }
        Err(e) => {
            assert_eq!(e.errno(), libc::EINVAL, "{}", e.source);
            assert_eq!(map.lookup_cpu(&key(1), 0).unwrap().unwrap(), [7; 4]);
        }
    }
}

fn nothing_yet(map: &Arc<Map>) {
    let key = vec![0; map.def().key_size as usize];
    assert_eq!(map.lookup_vec(&key).unwrap(), None);
}

fn cgroups(map: &Arc<Map>) {
    let Some(root) = cgroup() else { return };
    map.set_fd(&key(1), root.as_fd()).unwrap();
    map.delete(&key(1)).unwrap();
    let no_cgroup = map.set_fd(&key(1), File::open("/").unwrap().as_fd()).unwrap_err();
    assert_eq!(no_cgroup.errno(), libc::EBADF);
}

/// The root of the cgroup v2 hierarchy, where there is one.
fn cgroup() -> Option<File> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    Some(File::open(line.split(' ').nth(1)?).unwrap())
}

fn prefixes(map: &Arc<Map>) {
    let key = |len: u32, last| [len.to_ne_bytes(), [10, 0, 0, last]].concat();
    map.update(&key(24, 0), &[1; 8], UpdateMode::Any).unwrap();
    assert_eq!(map.lookup_vec(&key(32, 9)).unwrap().unwrap(), [1; 8]);
    assert_eq!(map.entries().unwrap(), [(key(24, 0), vec![1; 8])]);
}

fn inner_maps(map: &Arc<Map>) {
    let same = inner(1);
    map.set_fd(&key(1), same.as_fd()).unwrap();
    let found = map.inner_map(&key(1)).unwrap().unwrap();
    assert_eq!(found.id().unwrap(), same.id().unwrap());
    let array = *found.def();
    let array = MapDef { map_type: MapType::ARRAY, ..array };
    let other = Map::create("other", array, None, None).unwrap();
    assert_eq!(map.set_fd(&key(2), other.as_fd()).unwrap_err().errno(), libc::EINVAL);
    map.delete(&key(1)).unwrap();
}

fn devices(map: &Arc<Map>) {
    let loopback = sys::interface_index("lo").unwrap();
    let program = xdp(Some(AttachType::XDP_DEVMAP));
    map.set_device(&key(1), loopback, Some(&program)).unwrap();
    let stored = map.lookup_vec(&key(1)).unwrap().unwrap();
    let id = program.info().unwrap().id;
    assert_eq!(stored, [loopback.to_ne_bytes(), id.to_ne_bytes()].concat());
    map.set_device(&key(2), loopback, None).unwrap();
    let wrong = map.set_device(&key(1), loopback, Some(&xdp(None))).unwrap_err();
    assert_eq!(wrong.errno(), libc::EINVAL);
    map.delete(&key(1)).unwrap();
}

fn cpus(map: &Arc<Map>) {
    let program = xdp(Some(AttachType::XDP_CPUMAP));
    map.set_cpu(&key(0), 64, Some(&program)).unwrap();
    let stored = map.lookup_vec(&key(0)).unwrap().unwrap();
    let id = program.info().unwrap().id;
    assert_eq!(stored, [64_u32.to_ne_bytes(), id.to_ne_bytes()].concat());
    map.delete(&key(0)).unwrap();
}

fn sockets(map: &Arc<Map>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    map.set_fd(&key(1), stream.as_fd()).unwrap();
    if map.value_bytes() == 8 {
        let cookie = map.lookup_vec(&key(1)).unwrap().unwrap();
        assert!(cookie.iter().any(|&b| b != 0));
    }
    map.delete(&key(1)).unwrap();
    assert!(map.set_fd(&key(1), File::open("/").unwrap().as_fd()).is_err());
}

/// AF_XDP sockets, or those that share a port: others are refused.
fn only_their_own_sockets(map: &Arc<Map>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let e = map.set_fd(&key(1), socket.as_fd()).unwrap_err();
    assert!([libc::EINVAL, libc::EOPNOTSUPP].contains(&e.errno()), "{}", e.source);
}

fn queue(map: &Arc<Map>) {
    map.push(&[1; 8], UpdateMode::Any).unwrap();
    assert_eq!(map.peek().unwrap().unwrap(), [1; 8]);
    assert_eq!(map.pop().unwrap().unwrap(), [1; 8]);
    assert_eq!(map.pop().unwrap(), None);
}

fn bloom(map: &Arc<Map>) {
    map.push(&[1; 8], UpdateMode::Any).unwrap();
    assert!(map.may_contain(&[1; 8]).unwrap());
    let five = MapDef { extra: 5, ..*map.def() };
    assert!(Map::create("bloom", five, None, None).is_ok(), "five hash functions");
    let more = MapDef { extra: 16, ..five };
    assert_eq!(Map::create("bloom", more, None, None).unwrap_err().errno(), libc::EINVAL);
}

fn ring(map: &Arc<Map>) {
    let mut consumer = RingConsumer::new(Arc::clone(map)).unwrap();
    assert_eq!(consumer.next(), None);
    assert_eq!(consumer.pending_bytes(), 0);
}

fn user_ring(map: &Arc<Map>) {
    let mut ring = UserRing::new(Arc::clone(map)).unwrap();
    for _ in 0..256 {
        ring.send(&[1; 8]).unwrap();
    }
    assert_eq!((ring.send(&[1; 8]).unwrap_err().errno(), ring.submitted()), (libc::ENOSPC, 256));
    assert_eq!(ring.send(&[1; 4096]).unwrap_err().errno(), libc::E2BIG);
    assert_eq!(ring.reserve(u32::MAX).unwrap_err().errno(), libc::E2BIG);
}

fn storage(map: &Arc<Map>, owner: BorrowedFd<'_>) {
    assert_eq!(map.storage(owner).unwrap(), None);
    map.set_storage(owner, &[3; 8], UpdateMode::NoExist).unwrap();
    assert_eq!(map.storage(owner).unwrap().unwrap(), [3; 8]);
    map.delete_storage(owner).unwrap();
    assert_eq!(map.delete_storage(owner).unwrap_err().errno(), libc::ENOENT);
}

fn of_socket(map: &Arc<Map>) {
    storage(map, UdpSocket::bind("127.0.0.1:0").unwrap().as_fd());
    assert!(map.storage(File::open("/").unwrap().as_fd()).is_err(), "a file is no socket");
}

fn of_inode(map: &Arc<Map>) {
    storage(map, File::open("/proc/self/exe").unwrap().as_fd());
}

fn of_task(map: &Arc<Map>) {
    storage(map, sys::pidfd(std::process::id()).unwrap().as_fd());
    assert_eq!(sys::pidfd(u32::MAX >> 1).unwrap_err().errno(), libc::ESRCH);
}

fn of_cgroup(map: &Arc<Map>) {
    let Some(root) = cgroup() else { return };
    storage(map, root.as_fd());
}

fn arena(map: &Arc<Map>) {
    let memory = map.memory().unwrap();
    assert_eq!(memory.len(), 4 * sys::page_bytes() as usize);
    assert!(memory.write(5000, &[1, 2, 3]));
    let again = map.memory().unwrap();
    let mut read = [0; 3];
    assert!(again.read(5000, &mut read) && read == [1, 2, 3]);
    assert_eq!(again.address(), memory.address());
    assert_eq!(memory.offset_of(memory.address() + 5000), Some(5000));
    assert_eq!(memory.offset_of(memory.address() - 1), None);

    let place = 1 << 44;
    let here = MapDef { extra: place, ..*map.def() };
    let first = Map::create("arena", here, None, None).unwrap();
    assert_eq!(first.memory().unwrap().address(), place);
    let second = Map::create("arena", here, None, None).unwrap_err();
    assert_eq!(second.errno(), libc::EEXIST, "{}", second.source);
    let fatal = MapDef { flags: here.flags.with(MapFlags::SEGV_ON_FAULT), extra: 0, ..here };
    let fatal = Map::create("arena", fatal, None, None).unwrap();
    assert_eq!(fatal.memory().unwrap_err().errno(), libc::EINVAL);
}

fn insns(map: &Arc<Map>) {
    let value = 1_u128.to_ne_bytes();
    map.update(&key(0), &value, UpdateMode::Any).unwrap();
    assert!(map.lookup_vec(&key(0)).unwrap().is_some());
    map.freeze().unwrap();
}
