//! Maps made in the running kernel.

use super::*;
use crate::probe;
use skep_testing::require_kernel;

fn map(map_type: MapType, key: u32, value: u32, max_entries: u32) -> Map {
    let flags = if map_type == MapType::LPM_TRIE { MapFlags::NO_PREALLOC } else { MapFlags(0) };
    let def = MapDef {
        map_type,
        key_size: key,
        value_size: value,
        max_entries,
        flags,
        extra: 0,
        numa_node: 0,
    };
    Map::create("t", def, None, None).unwrap()
}

#[test]
fn hash_and_array_keep_entries() {
    require_kernel!(probe::can_load().into_result());
    let m = map(MapType::HASH, 4, 8, 2);
    assert_eq!(m.lookup_vec(&[1; 4]).unwrap(), None);
    m.update(&[1; 4], &[7; 8], UpdateMode::NoExist).unwrap();
    let again = m.update(&[1; 4], &[7; 8], UpdateMode::NoExist).unwrap_err();
    assert_eq!(again.errno(), libc::EEXIST);
    assert_eq!(m.update(&[2; 4], &[7; 8], UpdateMode::Exist).unwrap_err().errno(), 2);
    m.update(&[2; 4], &[8; 8], UpdateMode::Any).unwrap();
    assert_eq!(m.update(&[3; 4], &[8; 8], UpdateMode::Any).unwrap_err().errno(), libc::E2BIG);
    let mut keys: Vec<_> = m.keys().map(Result::unwrap).collect();
    keys.sort();
    assert_eq!(keys, [vec![1; 4], vec![2; 4]]);
    m.delete(&[1; 4]).unwrap();
    assert_eq!(m.delete(&[1; 4]).unwrap_err().errno(), libc::ENOENT);
    assert_eq!(m.entries().unwrap(), [(vec![2; 4], vec![8; 8])]);

    let m = map(MapType::ARRAY, 4, 4, 3);
    m.update(&2_u32.to_ne_bytes(), &[9; 4], UpdateMode::Any).unwrap();
    assert_eq!(m.lookup_vec(&2_u32.to_ne_bytes()).unwrap().unwrap(), [9; 4]);
    assert_eq!(m.keys().count(), 3);
    assert!(m.delete(&2_u32.to_ne_bytes()).is_err());
    m.freeze().unwrap();
    let frozen = m.update(&2_u32.to_ne_bytes(), &[9; 4], UpdateMode::Any).unwrap_err();
    assert_eq!(frozen.errno(), libc::EPERM);
}

#[test]
fn wrong_lengths_never_reach_the_kernel() {
    require_kernel!(probe::can_load().into_result());
    let m = map(MapType::HASH, 4, 8, 2);
    assert_eq!(m.lookup(&[0; 4], &mut [0; 7]).unwrap_err().errno(), libc::EINVAL);
    assert_eq!(m.lookup(&[0; 3], &mut [0; 8]).unwrap_err().errno(), libc::EINVAL);
    assert_eq!(m.update(&[], &[0; 8], UpdateMode::Any).unwrap_err().errno(), libc::EINVAL);
    assert_eq!(m.update_batch(&[0; 8], &[0; 8], UpdateMode::Any).0, 0);
    assert!(m.next_key(None, &mut [0; 5]).is_err());
}

#[test]
fn per_cpu_values_hold_all_cpus() {
    require_kernel!(probe::can_load().into_result());
    for t in [MapType::PERCPU_HASH, MapType::PERCPU_ARRAY, MapType::LRU_PERCPU_HASH] {
        let m = map(t, 4, 4, 2);
        assert_eq!(m.value_bytes(), 8 * sys::possible_cpus().unwrap());
        let value = vec![3; m.value_bytes()];
        m.update(&[0; 4], &value, UpdateMode::Any).unwrap();
        let read = m.lookup_vec(&[0; 4]).unwrap().unwrap();
        assert_eq!(read.len(), value.len(), "{t}");
        assert_eq!(read[..4], [3; 4], "{t}");
    }
}

#[test]
fn queue_stack_and_bloom_filter_have_no_keys() {
    require_kernel!(probe::can_load().into_result());
    let (queue, stack) = (map(MapType::QUEUE, 0, 4, 2), map(MapType::STACK, 0, 4, 2));
    for m in [&queue, &stack] {
        assert_eq!(m.pop().unwrap(), None);
        m.push(&[1; 4], UpdateMode::Any).unwrap();
        m.push(&[2; 4], UpdateMode::Any).unwrap();
        assert_eq!(m.push(&[3; 4], UpdateMode::Any).unwrap_err().errno(), libc::E2BIG);
    }
    assert_eq!(queue.peek().unwrap().unwrap(), [1; 4]);
    assert_eq!(queue.pop().unwrap().unwrap(), [1; 4]);
    assert_eq!(stack.pop().unwrap().unwrap(), [2; 4]);
    require_kernel!(probe::map_type(MapType::BLOOM_FILTER).into_result());
    let bloom = map(MapType::BLOOM_FILTER, 0, 4, 100);
    bloom.push(&[5; 4], UpdateMode::Any).unwrap();
    assert!(bloom.may_contain(&[5; 4]).unwrap());
    assert!(!bloom.may_contain(&[6; 4]).unwrap());
}

#[test]
fn batches_move_whole_maps() {
    require_kernel!(probe::can_load().into_result());
    let m = map(MapType::HASH, 4, 8, 1000);
    let keys: Vec<u8> = (0..1000_u32).flat_map(u32::to_ne_bytes).collect();
    let values: Vec<u8> = (0..1000_u64).flat_map(u64::to_ne_bytes).collect();
    let (done, result) = m.update_batch(&keys, &values, UpdateMode::Any);
    result.unwrap();
    assert_eq!(done, 1000);
    let mut read = m.entries_by_batch().unwrap();
    read.sort();
    let mut walked = m.entries_by_key().unwrap();
    walked.sort();
    assert_eq!(read.len(), 1000);
    assert_eq!(read, walked);
    assert_eq!(m.delete_batch(&keys[..400]).0, 100);
    let again = m.delete_batch(&keys[..400]);
    assert_eq!((again.0, again.1.unwrap_err().errno()), (0, libc::ENOENT));
    assert_eq!(m.drain_batch(1000).unwrap().len(), 900);
    assert_eq!(m.keys().count(), 0);
}

/// The kernel says "no more" together with a batch that fills the room to the last entry.
#[test]
fn a_batch_that_fills_its_room_is_not_lost() {
    require_kernel!(probe::can_load().into_result());
    for entries in [1, 255, 256, 257, 512] {
        let m = map(MapType::HASH, 4, 8, entries);
        let keys: Vec<u8> = (0..entries).flat_map(u32::to_ne_bytes).collect();
        let values: Vec<u8> = (0..u64::from(entries)).flat_map(u64::to_ne_bytes).collect();
        m.update_batch(&keys, &values, UpdateMode::Any).1.unwrap();
        let entries = entries as usize;
        assert_eq!(m.entries().unwrap().len(), entries);
        assert_eq!(m.drain_batch(entries).unwrap().len(), entries);
        assert_eq!(m.entries().unwrap().len(), 0);
    }
}

#[test]
fn batches_have_room_for_no_more_than_the_map() {
    require_kernel!(probe::can_load().into_result());
    let room = |entries, value| map(MapType::HASH, 4, value, entries).batch_room();
    assert_eq!(room(1, 1 << 20), 1, "a value of a MiB, once");
    assert_eq!(room(64, 1 << 20), 1);
    assert_eq!(room(100, 8), 100);
    assert_eq!(room(1000, 8), 256);
}

#[test]
fn longest_prefix_wins() {
    require_kernel!(probe::can_load().into_result());
    let m = map(MapType::LPM_TRIE, 8, 1, 10);
    let key = |len: u32, ip: [u8; 4]| [len.to_ne_bytes(), ip].concat();
    m.update(&key(8, [10, 0, 0, 0]), &[1], UpdateMode::Any).unwrap();
    m.update(&key(24, [10, 1, 2, 0]), &[2], UpdateMode::Any).unwrap();
    assert_eq!(m.lookup_vec(&key(32, [10, 1, 2, 3])).unwrap().unwrap(), [2]);
    assert_eq!(m.lookup_vec(&key(32, [10, 9, 2, 3])).unwrap().unwrap(), [1]);
    assert_eq!(m.lookup_vec(&key(32, [11, 1, 2, 3])).unwrap(), None);
    assert_eq!(m.entries().unwrap().len(), 2);
}

#[test]
fn memory_is_the_map() {
    require_kernel!(probe::can_load().into_result());
    let mut def = *map(MapType::ARRAY, 4, 12, 2).def();
    assert!(Map::create("t", def, None, None).unwrap().memory().is_err());
    def.flags = MapFlags::MMAPABLE;
    let m = Map::create("t", def, None, None).unwrap();
    let memory = m.memory().unwrap();
    assert_eq!(memory.len(), 32);
    assert!(memory.write(16, &[1, 2, 3, 4, 5, 6, 7, 8]));
    assert!(memory.write(25, &[9, 10, 11]));
    let want = [1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 10, 11];
    assert_eq!(m.lookup_vec(&[1, 0, 0, 0]).unwrap().unwrap(), want);
    for len in 0..=12 {
        let mut read = vec![0; len];
        assert!(memory.read(16, &mut read));
        assert_eq!(read, want[..len]);
    }
    assert!(!memory.read(30, &mut [0; 3]) && !memory.write(usize::MAX, &[1]));
    m.update(&[0; 4], &[5; 12], UpdateMode::Any).unwrap();
    let mut two = [0; 2];
    assert!(memory.read(2, &mut two));
    assert_eq!(two, [5, 5]);
    assert_eq!(m.freeze().unwrap_err().errno(), libc::EBUSY);
}

#[test]
fn inner_maps_are_named_by_id_when_read() {
    require_kernel!(probe::can_load().into_result());
    let inner = map(MapType::HASH, 4, 4, 1);
    let mut def = *map(MapType::ARRAY, 4, 4, 2).def();
    def.map_type = MapType::ARRAY_OF_MAPS;
    let outer = Map::create("outer", def, Some(&inner), None).unwrap();
    outer.set_fd(&[0; 4], inner.as_fd()).unwrap();
    let id = outer.lookup_vec(&[0; 4]).unwrap().unwrap();
    assert_eq!(id, inner.id().unwrap().to_ne_bytes());
    assert!(outer.lookup_vec(&[1, 0, 0, 0]).unwrap().is_none());
    let found = outer.inner_map(&[0; 4]).unwrap().unwrap();
    found.update(&[1; 4], &[2; 4], UpdateMode::Any).unwrap();
    assert_eq!(inner.lookup_vec(&[1; 4]).unwrap().unwrap(), [2; 4]);
}
