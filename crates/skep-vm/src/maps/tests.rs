//! What every map must do, from both sides.

use std::{collections::BTreeMap, ops::ControlFlow, thread};

use skep_abi::{MapDef, MapFlags, MapType, UpdateMode};

use super::*;

fn def(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> MapDef {
    let flags = MapFlags::default();
    MapDef { map_type, key_size, value_size, max_entries, flags, extra: 0, numa_node: 0 }
}

fn map(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Arc<Map> {
    Map::with_cpus("m", def(map_type, key_size, value_size, max_entries), None, 4).unwrap()
}

const HASHES: &[MapType] =
    &[MapType::HASH, MapType::PERCPU_HASH, MapType::LRU_HASH, MapType::LRU_PERCPU_HASH];

#[test]
fn a_hash_does_what_an_ordered_map_does() {
    for &t in HASHES {
        for key_size in [1_usize, 3, 4, 8, 11, 16, 40] {
            let m = map(t, u32::try_from(key_size).unwrap(), 12, 300);
            let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let mut seed = 7_u64;
            for _ in 0..4000 {
                seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let n = (seed >> 33) % 200;
                let mut key = vec![0xa5; key_size];
                key[0] = n as u8;
                let value = vec![(seed >> 50 & 0xff) as u8; m.value_bytes()];
                match (seed >> 41) % 3 {
                    0 => {
                        m.update(&key, &value, UpdateMode::Any).unwrap();
                        model.insert(key, value);
                    }
                    1 => {
                        assert_eq!(m.delete(&key).is_ok(), model.remove(&key).is_some());
                    }
                    _ => {
                        let mut got = vec![0; m.value_bytes()];
                        let there = m.lookup(&key, &mut got).is_ok();
                        // the padding between CPUs is nobody's
                        let got = there.then_some(got[..12].to_vec());
                        assert_eq!(got, model.get(&key).map(|v| v[..12].to_vec()), "{t}");
                    }
                }
            }
            let mut keys = m.keys().unwrap();
            keys.sort();
            assert_eq!(keys, model.keys().cloned().collect::<Vec<_>>(), "{t}");
        }
    }
}

#[test]
fn programs_write_through_addresses_that_stay() {
    for t in [MapType::ARRAY, MapType::PERCPU_ARRAY, MapType::HASH, MapType::PERCPU_HASH] {
        let m = map(t, 4, 8, 16);
        let key = 3_u32.to_ne_bytes();
        m.prog_update(&key, &1_u64.to_ne_bytes(), 0, 2).unwrap();
        let p = m.lookup_ptr(&key, 2).unwrap();
        let span = m.value_span(p.as_ptr().addr() + 5).unwrap();
        assert_eq!(span, Span { start: p.as_ptr().addr(), len: 8, writable: true });
        for other in 0..10_u32 {
            m.update(&other.to_ne_bytes(), &vec![9; m.value_bytes()], UpdateMode::Exist).ok();
        }
        assert!(m.addr_range().contains(&p.as_ptr().addr()));
        let cpus = m.value_bytes() / 8;
        assert_eq!(m.lookup_vec(&key).unwrap(), vec![9; 8 * cpus], "{t}");
        assert_eq!(m.lookup_ptr(&key, 4).is_none(), t.is_percpu());
    }
}

#[test]
fn only_values_may_be_accessed() {
    for t in [MapType::ARRAY, MapType::PERCPU_ARRAY, MapType::HASH, MapType::PERCPU_HASH] {
        let m = map(t, 4, 12, 5);
        for key in 0..5_u32 {
            m.update(&key.to_ne_bytes(), &vec![0; m.value_bytes()], UpdateMode::Any).unwrap();
        }
        let granted = m.addr_range().filter(|a| m.value_span(*a).is_some()).count();
        let cpus = if t.is_percpu() { 4 } else { 1 };
        assert_eq!(granted, 5 * 12 * cpus, "{t}");
        assert_eq!(m.value_span(m.addr_range().start.wrapping_sub(1)), None);
        assert_eq!(m.value_span(m.addr_range().end), None);
    }
}

#[test]
fn a_program_sees_its_own_cpu_and_creates_zeros_for_the_others() {
    let m = map(MapType::PERCPU_HASH, 4, 8, 4);
    m.prog_update(&[1; 4], &[7; 8], 0, 1).unwrap();
    let mut want = vec![0; 32];
    want[8..16].fill(7);
    assert_eq!(m.lookup_vec(&[1; 4]).unwrap(), want);
}

#[test]
fn rights_and_flags_are_kept() {
    let mut d = def(MapType::ARRAY, 4, 4, 2);
    d.flags = MapFlags::RDONLY_PROG;
    let m = Map::new("ro", d, None).unwrap();
    m.update(&[0; 4], &[1; 4], UpdateMode::Any).unwrap();
    assert_eq!(m.prog_update(&[0; 4], &[1; 4], 0, 0).unwrap_err().errno(), libc::EACCES);
    let p = m.lookup_ptr(&[0; 4], 0).unwrap();
    assert!(!m.value_span(p.as_ptr().addr()).unwrap().writable);
    m.freeze().unwrap();
    assert_eq!(m.update(&[0; 4], &[1; 4], UpdateMode::Any).unwrap_err().errno(), libc::EPERM);
    assert_eq!(m.update_flags(&[0; 4], &[1; 3], 0).unwrap_err().errno(), libc::EPERM);
}

#[test]
fn callbacks_may_delete_what_they_see() {
    for &t in HASHES {
        let m = map(t, 4, 8, 100);
        for key in 0..100_u32 {
            m.update(&key.to_ne_bytes(), &vec![0; m.value_bytes()], UpdateMode::Any).unwrap();
        }
        let calls = m
            .for_each(0, &mut |key, _| {
                m.prog_delete(key).unwrap();
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!((calls, m.keys().unwrap().len()), (100, 0), "{t}");
    }
}

#[test]
fn a_full_lru_hash_keeps_what_is_used() {
    let m = map(MapType::LRU_HASH, 4, 8, 64);
    for key in 0..10_000_u32 {
        m.prog_update(&key.to_ne_bytes(), &[1; 8], 0, 0).unwrap();
        assert!(m.lookup_ptr(&0_u32.to_ne_bytes(), 0).is_some(), "key 0 evicted at {key}");
    }
    assert_eq!(m.keys().unwrap().len(), 64);
}

#[test]
fn a_huge_hash_costs_nothing_until_used() {
    let m = map(MapType::HASH, 8, 64, 1 << 27);
    m.update(&[1; 8], &[2; 64], UpdateMode::Any).unwrap();
    assert_eq!(m.lookup_vec(&[1; 8]).unwrap(), [2; 64]);
    let too_many = def(MapType::HASH, 8, 64, 1 << 31);
    assert_eq!(Map::new("m", too_many, None).unwrap_err().errno(), libc::E2BIG);
}

#[test]
fn threads_never_see_a_foreign_or_torn_value() {
    // 16 keys on 12 places: hashes fill up and LRU ones evict all the time
    for &t in HASHES {
        let m = map(t, 8, 32, 12);
        thread::scope(|scope| {
            for id in 0..4_u64 {
                let m = &m;
                scope.spawn(move || {
                    let mut seed = id + 1;
                    for _ in 0..100_000 {
                        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                        let key = ((seed >> 33) % 16) as u8;
                        let round = (seed >> 50 & 0xff) as u8;
                        match (seed >> 40) % 4 {
                            0 => drop(m.delete(&[key; 8])),
                            1 => {
                                let mut value = vec![round; m.value_bytes()];
                                value.chunks_mut(8).for_each(|w| w[0] = key);
                                let done = m.update(&[key; 8], &value, UpdateMode::Any);
                                assert!(matches!(done, Ok(()) | Err(MapError::Full { .. })));
                            }
                            2 => {
                                let Ok(value) = m.lookup_vec(&[key; 8]) else { continue };
                                for word in value.chunks(8) {
                                    assert_eq!((word[0], word[1]), (key, value[1]), "{t}");
                                }
                            }
                            _ => drop(m.lookup_ptr(&[key; 8], 0)),
                        }
                    }
                });
            }
        });
        let keys = m.keys().unwrap();
        assert!(keys.len() <= 12);
        keys.iter().for_each(|k| m.delete(k).unwrap());
        for key in 0..12_u8 {
            m.update(&[key; 8], &vec![0; m.value_bytes()], UpdateMode::NoExist).unwrap();
        }
        assert_eq!(m.keys().unwrap().len(), 12, "{t}: no element was lost");
    }
}
