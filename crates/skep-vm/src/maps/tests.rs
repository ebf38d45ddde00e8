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

#[test]
fn a_trie_finds_the_longest_prefix() {
    let mut trie = def(MapType::LPM_TRIE, 6, 4, 1000);
    trie.flags = MapFlags::NO_PREALLOC;
    let m = Map::new("trie", trie, None).unwrap();
    let mut model: BTreeMap<(u32, u16), [u8; 4]> = BTreeMap::new();
    let mut seed = 3_u64;
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        (seed >> 33) % below
    };
    let cut = |bits: u32, data: u16| data & !0xffff_u16.checked_shr(bits).unwrap_or(0);
    for _ in 0..20_000 {
        let bits = u32::try_from(next(17)).unwrap();
        let data = u16::try_from(next(64) << 10 | next(4)).unwrap();
        let key = [&bits.to_ne_bytes()[..], &data.to_be_bytes()].concat();
        let value = u32::try_from(next(1 << 30)).unwrap().to_ne_bytes();
        match next(4) {
            0 => {
                m.update(&key, &value, UpdateMode::Any).unwrap();
                model.insert((bits, cut(bits, data)), value);
            }
            1 => {
                let was = model.remove(&(bits, cut(bits, data)));
                assert_eq!(m.delete(&key).is_ok(), was.is_some());
            }
            _ => {
                let covers = |n: &u32| model.get(&(*n, cut(*n, data)));
                let want = (0..=bits).rev().find_map(|n| covers(&n));
                assert_eq!(m.lookup_vec(&key).ok().as_deref(), want.map(|v| &v[..]), "{key:?}");
            }
        }
    }
    // more specific keys come before the ones that cover them, and each key once
    let keys = m.keys().unwrap();
    let split = |k: &[u8]| {
        let bits = u32::from_ne_bytes(k[..4].try_into().unwrap());
        (bits, cut(bits, u16::from_be_bytes(k[4..].try_into().unwrap())))
    };
    let keys: Vec<_> = keys.iter().map(|k| split(k)).collect();
    for (at, (bits, data)) in keys.iter().enumerate() {
        let late = keys[at..].iter().skip(1).any(|(b, d)| b > bits && cut(*bits, *d) == *data);
        assert!(!late, "{bits} {data:#x} comes before a key that it covers");
    }
    assert_eq!(keys.len(), model.len());
    for (bits, data) in model.into_keys() {
        m.delete(&[&bits.to_ne_bytes()[..], &data.to_be_bytes()].concat()).unwrap();
    }
    assert_eq!(m.keys().unwrap().len(), 0);
}

#[test]
fn tries_queues_and_stacks_hold_under_threads() {
    let mut trie = def(MapType::LPM_TRIE, 5, 16, 64);
    trie.flags = MapFlags::NO_PREALLOC;
    let trie = Map::new("trie", trie, None).unwrap();
    let queue = map(MapType::QUEUE, 0, 16, 8);
    let taken: usize = thread::scope(|scope| {
        let work = |id: u8| {
            let (trie, queue) = (&trie, &queue);
            scope.spawn(move || {
                let mut taken = 0;
                for n in 0..20_000_u32 {
                    let byte = (n.wrapping_mul(0x9e37_79b1) >> 24) as u8;
                    let key = [&8_u32.to_ne_bytes()[..], &[byte]].concat();
                    match n % 3 {
                        0 => drop(trie.update(&key, &[byte; 16], UpdateMode::Any)),
                        1 => drop(trie.delete(&key)),
                        _ => {
                            if let Ok(value) = trie.lookup_vec(&key) {
                                assert_eq!(value, [byte; 16]);
                            }
                        }
                    }
                    if id.is_multiple_of(2) {
                        while queue.push(&[byte; 16], UpdateMode::Any).is_err() {
                            thread::yield_now();
                        }
                    } else {
                        let mut value = [0; 16];
                        while queue.pop(&mut value).is_err() {
                            thread::yield_now();
                        }
                        assert!(value.iter().all(|b| *b == value[0]));
                        taken += 1;
                    }
                }
                taken
            })
        };
        let threads: Vec<_> = (0..4).map(work).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!(taken, 40_000);
    assert_eq!(queue.pop(&mut [0; 16]), Err(MapError::NoEntry));
}

#[test]
fn queues_and_stacks_keep_their_order() {
    for (t, want) in [(MapType::QUEUE, [1, 2, 3]), (MapType::STACK, [3, 2, 1])] {
        let m = map(t, 0, 4, 3);
        for n in 0..3 {
            m.prog_push(&[n; 4], 0).unwrap();
        }
        assert_eq!(m.prog_push(&[3; 4], 0).unwrap_err().errno(), libc::E2BIG);
        m.prog_push(&[3; 4], 2).unwrap(); // BPF_EXIST drops the oldest
        let mut out = [9; 4];
        for n in want {
            m.prog_peek(&mut out).unwrap();
            assert_eq!(out, [n; 4], "{t}");
            m.prog_pop(&mut out).unwrap();
            assert_eq!(out, [n; 4], "{t}");
        }
        assert_eq!((m.prog_pop(&mut out), out), (Err(MapError::NoEntry), [0; 4]));
    }
}

#[test]
fn a_part_of_a_value_is_changed_without_its_neighbours() {
    const ROUNDS: u32 = 500_000;
    let m = map(MapType::ARRAY, 4, 12, 2);
    let done = AtomicBool::new(false);
    let counted = thread::scope(|scope| {
        let program = scope.spawn(|| {
            // What a program does to a variable of its own, in the same word.
            let counter = m.lookup_ptr(&1_u32.to_ne_bytes(), 0).unwrap().cast::<AtomicU32>();
            // SAFETY: four aligned bytes of a map that outlives this thread.
            let counter = unsafe { counter.as_ref() };
            let mut counted = 0_u32;
            while !done.load(Relaxed) {
                counter.store(counter.load(Relaxed) + 1, Relaxed);
                counted += 1;
            }
            counted
        });
        for n in 0..ROUNDS {
            m.update_part(1, 4, &n.to_ne_bytes()).unwrap();
        }
        done.store(true, Relaxed);
        program.join().unwrap()
    });
    m.update_part(1, 9, &[9, 8, 7]).unwrap();
    let words = [counted, ROUNDS - 1].map(u32::to_ne_bytes).concat();
    assert_eq!(m.lookup_vec(&[1, 0, 0, 0]).unwrap(), [words, vec![0, 9, 8, 7]].concat());
    assert_eq!(m.lookup_vec(&[0; 4]).unwrap(), [0; 12]);

    assert_eq!(m.update_part(2, 0, &[]).unwrap_err().errno(), libc::E2BIG);
    for (offset, len) in [(9, 4), (12, 1), (usize::MAX, 1), (0, 13)] {
        let e = m.update_part(0, offset, &vec![1; len]).unwrap_err();
        assert!(matches!(e, MapError::ValueSize { expected: 12, .. }), "{e}");
    }
    m.freeze().unwrap();
    assert_eq!(m.update_part(0, 0, &[1]).unwrap_err().errno(), libc::EPERM);
    for t in [MapType::PERCPU_ARRAY, MapType::HASH] {
        assert_eq!(map(t, 4, 8, 1).update_part(0, 0, &[1]).unwrap_err().errno(), libc::EINVAL);
    }
}

#[test]
fn prog_arrays_do_not_keep_programs() {
    let m = map(MapType::PROG_ARRAY, 4, 4, 3);
    let program = Arc::new("a program".to_string());
    m.set_program(1, &program).unwrap();
    assert_eq!(m.program_at::<String>(1), Some(Arc::clone(&program)));
    assert_eq!(m.program_at::<u8>(1), None, "another type");
    assert_eq!(m.set_program(3, &program).unwrap_err().errno(), libc::E2BIG);
    drop(program);
    assert_eq!(m.program_at::<String>(1), None);
    m.delete(&1_u32.to_ne_bytes()).unwrap();
    assert_eq!(m.delete(&1_u32.to_ne_bytes()).unwrap_err().errno(), libc::ENOENT);
}

#[test]
fn maps_of_maps_check_the_shape_and_keep_the_map() {
    let shape = def(MapType::HASH, 4, 4, 10);
    for (t, key) in [(MapType::ARRAY_OF_MAPS, 4), (MapType::HASH_OF_MAPS, 3)] {
        let outer = Map::new("outer", def(t, key, 4, 2), Some(shape)).unwrap();
        let key = vec![0; key as usize];
        let e = outer.update_map(&key, &map(MapType::HASH, 8, 4, 10)).unwrap_err();
        assert_eq!(e.to_string(), "inner map: key_size is 8, expected 4");
        let inner = map(MapType::HASH, 4, 4, 99);
        outer.update_map(&key, &inner).unwrap();
        assert_eq!(outer.lookup_vec(&key).unwrap(), inner.id().to_ne_bytes());
        inner.update(&[1; 4], &[2; 4], UpdateMode::Any).unwrap();
        drop(inner);
        let found = outer.lookup_map(&key).unwrap();
        assert!(found.lookup_ptr(&[1; 4], 0).is_some());
        outer.delete(&key).unwrap();
        assert!(outer.lookup_map(&key).is_none());
        assert!(Map::new("outer", *outer.def(), None).is_err(), "no inner shape");
    }
}

#[test]
fn redirect_maps_keep_values_that_programs_may_only_read() {
    for t in [MapType::DEVMAP, MapType::DEVMAP_HASH, MapType::CPUMAP, MapType::XSKMAP] {
        let m = map(t, 4, 4, 4);
        assert!(m.lookup_ptr(&[0; 4], 0).is_none());
        m.update(&[0; 4], &7_u32.to_ne_bytes(), UpdateMode::Any).unwrap();
        let p = m.lookup_ptr(&[0; 4], 0).unwrap();
        assert!(!m.value_span(p.as_ptr().addr()).unwrap().writable, "{t}");
        m.delete(&[0; 4]).unwrap();
        assert!(m.lookup_ptr(&[0; 4], 0).is_none());
    }
}

#[test]
fn definitions_are_refused_with_a_reason() {
    let cases = [
        (def(MapType::ARRAY, 8, 4, 1), libc::EINVAL, "array map: key_size is 8, expected 4"),
        (def(MapType::HASH, 4, 4, 0), libc::EINVAL, "max_entries is 0, expected at least 1"),
        (def(MapType::LPM_TRIE, 8, 4, 1), libc::EINVAL, "expected no_prealloc among them"),
        (def(MapType::RINGBUF, 0, 0, 4097), libc::EINVAL, "a power of two, in bytes, of whole"),
        (def(MapType::PERCPU_ARRAY, 4, 32769, 1), libc::E2BIG, "value_size is 32769"),
        (def(MapType::ARRAY, 4, 1 << 30, u32::MAX), libc::ENOMEM, "cannot be mapped"),
        (def(MapType::QUEUE, 0, 1 << 22, u32::MAX), libc::ENOMEM, "cannot be mapped"),
        (
            def(MapType::SOCKMAP, 4, 4, 1),
            libc::EINVAL,
            "sockmap maps are not in the embedded engine",
        ),
        (
            def(MapType(77), 4, 4, 1),
            libc::EINVAL,
            "map type 77 maps are not in the embedded engine",
        ),
    ];
    for (def, errno, text) in cases {
        let e = Map::new("m", def, None).unwrap_err();
        assert_eq!(e.errno(), errno, "{e}");
        assert!(e.to_string().contains(text), "{e}");
    }
}
