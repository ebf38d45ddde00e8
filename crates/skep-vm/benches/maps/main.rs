//! Cost of map operations as a program pays it, beside the kernel's.
//!
//! `skep/…` calls the engine's functions directly. `kernel/…` runs a program that does the same
//! operations on the same keys (JIT where the kernel has it), timed by `BPF_PROG_TEST_RUN`; it is
//! left out without the right to load one. Each iteration does [`OPS`] operations. The time is that of
//! the CPU, not of the clock: the kernel is not interrupted while it measures, so neither may this be.

mod kernel;
#[path = "../../tests/maps_vs_kernel/sys.rs"]
#[expect(dead_code, reason = "the benchmark needs less of it than the comparison")]
mod sys;

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use skep_abi::{MapDef, MapFlags, MapType};
use skep_vm::maps::{Map, RingConsumer};

/// Operations per iteration.
const OPS: u32 = 256;
/// Entries of each map; all keys are there at the start.
const ENTRIES: u32 = 1024;

/// A map to measure.
struct Case {
    name: &'static str,
    map_type: MapType,
    key_size: u32,
    flags: MapFlags,
}

const fn case(name: &'static str, map_type: MapType, key_size: u32) -> Case {
    Case { name, map_type, key_size, flags: MapFlags(0) }
}

const CASES: &[Case] = &[
    case("array", MapType::ARRAY, 4),
    case("percpu_array", MapType::PERCPU_ARRAY, 4),
    case("hash key 4", MapType::HASH, 4),
    case("hash key 16", MapType::HASH, 16),
    case("percpu_hash", MapType::PERCPU_HASH, 4),
    case("lru_hash", MapType::LRU_HASH, 4),
    Case {
        name: "lpm_trie",
        map_type: MapType::LPM_TRIE,
        key_size: 8,
        flags: MapFlags::NO_PREALLOC,
    },
];

/// What one operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Lookup,
    Update,
    /// Delete, then update.
    Replace,
}

impl Case {
    fn def(&self) -> MapDef {
        MapDef {
            map_type: self.map_type,
            key_size: self.key_size,
            value_size: 8,
            max_entries: ENTRIES,
            flags: self.flags,
            extra: 0,
            numa_node: 0,
        }
    }

    /// The key with number `n`: `n` first, or behind the prefix length.
    fn key(&self, n: u32) -> Vec<u8> {
        let n = n.to_ne_bytes();
        let mut key = match self.map_type {
            MapType::LPM_TRIE => [32_u32.to_ne_bytes(), n].concat(),
            _ => n.to_vec(),
        };
        key.resize(self.key_size as usize, 0);
        key
    }

    fn has(&self, op: Op) -> bool {
        let array = matches!(self.map_type, MapType::ARRAY | MapType::PERCPU_ARRAY);
        op != Op::Replace || !array
    }
}

/// Key number of operation `n`, in an order that no prefetcher knows.
const fn spread(n: u32) -> u32 {
    n.wrapping_mul(0x9e37_79b1) >> 22
}

fn skep(map: &Map, keys: &[Vec<u8>], op: Op) {
    for key in keys {
        if op == Op::Lookup {
            black_box(map.lookup_ptr(key, 0));
        }
        if op == Op::Replace {
            let _absent = map.prog_delete(key);
        }
        if op != Op::Lookup {
            map.prog_update(key, &[1; 8], 0, 0).expect("there is room");
        }
    }
}

fn operations(c: &mut Criterion) {
    for op in [Op::Lookup, Op::Update, Op::Replace] {
        let mut group = c.benchmark_group(format!("{op:?}").to_lowercase());
        group.throughput(Throughput::Elements(OPS.into()));
        for case in CASES.iter().filter(|case| case.has(op)) {
            let map = Map::new("m", case.def(), None).expect("a good definition");
            let kernel = kernel::Bench::new(case, op, map.value_bytes()).ok();
            let value = vec![1; map.value_bytes()];
            for n in 0..ENTRIES {
                map.update_flags(&case.key(n), &value, 0).expect("there is room");
                kernel.iter().for_each(|k| k.fill(&case.key(n), &value));
            }
            let keys: Vec<_> = (1..=OPS).map(|n| case.key(spread(n))).collect();
            group.bench_function(format!("skep/{}", case.name), |b| {
                b.iter_custom(|times| kernel::cpu_time(times, || skep(&map, &keys, op)));
            });
            if let Some(kernel) = kernel {
                group.bench_function(format!("kernel/{}", case.name), |b| {
                    b.iter_custom(|times| kernel.run(times));
                });
            }
        }
        group.finish();
    }
}

fn keyless(c: &mut Criterion) {
    let mut group = c.benchmark_group("keyless");
    group.throughput(Throughput::Elements(OPS.into()));
    let def = |map_type, value_size, max_entries| {
        let case = case("", map_type, 0);
        MapDef { value_size, max_entries, ..case.def() }
    };
    let queue = Map::new("queue", def(MapType::QUEUE, 8, ENTRIES), None).expect("good");
    group.bench_function("skep/queue push and pop", |b| {
        let push_and_pop = || {
            for _ in 0..OPS {
                queue.prog_push(&[1; 8], 0).expect("there is room");
                queue.prog_pop(&mut [0; 8]).expect("there is one");
            }
        };
        b.iter_custom(|times| kernel::cpu_time(times, push_and_pop));
    });
    let ring = Map::new("ring", def(MapType::RINGBUF, 0, 1 << 18), None).expect("good");
    let mut consumer = RingConsumer::new(Arc::clone(&ring)).expect("a ring");
    group.bench_function("skep/ringbuf output and read, 64 bytes", |b| {
        let mut write_and_read = || {
            for _ in 0..OPS {
                ring.ring_output(&[1; 64], 0).expect("there is room");
            }
            while consumer.next().is_some() {}
        };
        b.iter_custom(|times| kernel::cpu_time(times, &mut write_and_read));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800));
    targets = operations, keyless
}
criterion_main!(benches);
