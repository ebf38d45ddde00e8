//! The kernel's maps are the reference: the same random operations on both, the same results and
//! the same error numbers. Which entry an LRU hash evicts and the order of a hash are the only
//! freedoms.

mod sys;

use std::{collections::BTreeSet, sync::Arc};

use skep_abi::{MapDef, MapFlags, MapType};
use skep_vm::maps::{Map, possible_cpus};
use sys::{Answer, KernelMap};

/// A small generator: the same operations on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let x = self.0 ^ (self.0 >> 33);
        x.wrapping_mul(0xff51_afd7_ed55_8ccd) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("below a usize")
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        *from.get(self.below(from.len())).expect("below the length")
    }

    fn byte_below(&mut self, n: u8) -> u8 {
        u8::try_from(self.next() % u64::from(n)).expect("below a byte")
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.next() & 0xff) as u8).collect()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

fn def(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32, flags: u32) -> MapDef {
    let flags = MapFlags(flags);
    MapDef { map_type, key_size, value_size, max_entries, flags, extra: 0, numa_node: 0 }
}

fn kernel_is_there() -> Result<(), String> {
    let plain = def(MapType::ARRAY, 4, 4, 1, 0);
    KernelMap::new(&plain, None, 4)
        .map(drop)
        .map_err(|e| format!("no map of the kernel: errno {e}"))
}

fn value_bytes(def: &MapDef) -> usize {
    let one = def.value_size as usize;
    if def.map_type.is_percpu() { one.next_multiple_of(8) * possible_cpus() as usize } else { one }
}

const EVERY_TYPE: &[MapType] = &[
    MapType::HASH,
    MapType::ARRAY,
    MapType::PROG_ARRAY,
    MapType::PERF_EVENT_ARRAY,
    MapType::PERCPU_HASH,
    MapType::PERCPU_ARRAY,
    MapType::LRU_HASH,
    MapType::LRU_PERCPU_HASH,
    MapType::LPM_TRIE,
    MapType::DEVMAP,
    MapType::DEVMAP_HASH,
    MapType::CPUMAP,
    MapType::XSKMAP,
    MapType::QUEUE,
    MapType::STACK,
    MapType::RINGBUF,
    MapType::BLOOM_FILTER,
];

fn compare_creation(def: MapDef) {
    let kernel = KernelMap::new(&def, None, value_bytes(&def)).map(drop);
    let skep = Map::new("m", def, None);
    let text = skep.as_ref().map_or_else(ToString::to_string, |_| "made".into());
    assert_eq!(skep.map(drop).map_err(|e| e.errno()), kernel, "{def:?}: {text}");
}

#[test]
fn the_same_definitions_are_refused() {
    skep_testing::require_kernel!(kernel_is_there());
    let mut random = Random(1);
    for _ in 0..2000 {
        let t = random.pick(EVERY_TYPE);
        let key = match random.below(4) {
            0 => random.pick(&[0, 1, 3, 5, 8, 260, 261, 512]),
            _ if t == MapType::LPM_TRIE => random.pick(&[5, 8, 20]),
            _ if matches!(t, MapType::QUEUE | MapType::STACK) => 0,
            _ if matches!(t, MapType::RINGBUF | MapType::BLOOM_FILTER) => 0,
            _ => 4,
        };
        let value = match random.below(4) {
            0 => random.pick(&[0, 1, 3, 8, 12, 32 << 10, (32 << 10) + 1]),
            _ if t == MapType::RINGBUF => 0,
            _ => 4,
        };
        let entries = match random.below(4) {
            // how many CPUs a kernel is built for is its own affair
            _ if t == MapType::CPUMAP => random.pick(&[0, 1, 2]),
            0 => random.pick(&[0, 2, 3, 4095, 4096, 4097]),
            _ if t == MapType::RINGBUF => random.pick(&[4096, 8192, 4096 * 3]),
            _ => 1,
        };
        let mut flags = if t == MapType::LPM_TRIE { 1 } else { 0 };
        while random.one_in(2) {
            flags |= 1 << random.below(14);
        }
        let mut def = def(t, key, value, entries, flags);
        if random.one_in(8) {
            def.extra = random.pick(&[1, 15, 16, 1 << 40]);
        }
        compare_creation(def);
    }
}

#[test]
fn the_limits_are_the_same() {
    skep_testing::require_kernel!(kernel_is_there());
    const M: u32 = 4 << 20; // the slab allocator's largest object
    let edges = |around: u32| (around - 70..around + 10).collect::<Vec<_>>();
    for value in edges(M) {
        for t in [MapType::HASH, MapType::LRU_HASH, MapType::QUEUE, MapType::STACK] {
            let key = if matches!(t, MapType::QUEUE | MapType::STACK) { 0 } else { 4 };
            compare_creation(def(t, key, value, 1, 0));
        }
    }
    for value in (M - 320..M - 240).chain([M]) {
        compare_creation(def(MapType::LPM_TRIE, 8, value, 1, 1));
    }
    for entries in [1 << 27, (1 << 27) + 1, 1 << 31, (1 << 31) + 1, u32::MAX] {
        // without preallocation the kernel reserves buckets only
        if entries != 1 << 27 {
            compare_creation(def(MapType::HASH, 4, 4, entries, 1));
        }
        compare_creation(def(MapType::RINGBUF, 0, 0, entries.max(1 << 31), 0));
        compare_creation(def(MapType::CPUMAP, 4, 4, entries, 0));
    }
    for value in [(1 << 31) - 1, 1 << 31, u32::MAX] {
        if value > 1 << 30 {
            compare_creation(def(MapType::PERCPU_ARRAY, 4, value, 1, 0));
        }
    }
    compare_creation(def(MapType::ARRAY, 4, 1 << 31, 1, 0));
    compare_creation(def(MapType::BLOOM_FILTER, 0, u32::MAX, 1, 0));
}

/// The same map twice.
struct Pair {
    skep: Arc<Map>,
    kernel: KernelMap,
    def: MapDef,
}

impl Pair {
    fn new(def: MapDef) -> Self {
        let skep = Map::new("m", def, None).expect("skep makes it");
        let kernel = KernelMap::new(&def, None, skep.value_bytes()).expect("the kernel makes it");
        Self { skep, kernel, def }
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> (Answer<()>, Answer<()>) {
        let skep = self.skep.update_flags(key, value, flags).map_err(|e| e.errno());
        (skep, self.kernel.update(key, value, flags))
    }

    fn delete(&self, key: &[u8]) -> (Answer<()>, Answer<()>) {
        (self.skep.delete(key).map_err(|e| e.errno()), self.kernel.delete(key))
    }

    fn lookup(&self, key: &[u8], remove: bool) -> (Answer<Vec<u8>>, Answer<Vec<u8>>) {
        let mut ours = vec![0; self.skep.value_bytes()];
        let mut theirs = ours.clone();
        let (skep, kernel) = if remove {
            let skep = self.skep.lookup_and_delete(key, &mut ours);
            (skep, self.kernel.lookup_and_delete(key, &mut theirs))
        } else {
            (self.skep.lookup(key, &mut ours), self.kernel.lookup(key, &mut theirs))
        };
        (skep.map(|()| ours).map_err(|e| e.errno()), kernel.map(|()| theirs))
    }

    fn next_key(&self, key: Option<&[u8]>) -> (Answer<Vec<u8>>, Answer<Vec<u8>>) {
        let mut ours = vec![0; self.def.key_size as usize];
        let mut theirs = ours.clone();
        let skep = self.skep.next_key(key, &mut ours).map(|()| ours);
        let kernel = self.kernel.next_key(key, &mut theirs).map(|()| theirs);
        (skep.map_err(|e| e.errno()), kernel)
    }

    /// All keys of each side in byte order.
    fn key_sets(&self) -> (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>) {
        let mut key = None::<Vec<u8>>;
        let mut kernel = BTreeSet::new();
        loop {
            let mut next = vec![0; self.def.key_size as usize];
            if self.kernel.next_key(key.as_deref(), &mut next).is_err() {
                break;
            }
            assert!(kernel.insert(next.clone()), "the kernel repeats a key");
            key = Some(next);
        }
        let skep = self.skep.keys().expect("may be listed");
        let number = skep.len();
        let skep = BTreeSet::from_iter(skep);
        assert_eq!(skep.len(), number, "skep repeats a key");
        (skep, kernel)
    }
}

/// A key that is likely to be met again.
fn some_key(random: &mut Random, def: &MapDef) -> Vec<u8> {
    let size = def.key_size as usize;
    match def.map_type {
        MapType::QUEUE | MapType::STACK | MapType::BLOOM_FILTER | MapType::RINGBUF => Vec::new(),
        MapType::LPM_TRIE => {
            let max = (size - 4) * 8;
            let bits = if random.one_in(40) { max + 1 } else { random.below(max + 1) };
            let mut key = u32::try_from(bits).expect("few bits").to_ne_bytes().to_vec();
            let few = |random: &mut Random| random.pick(&[0, 1, 0x7f, 0x80, 0xc0, 0xff]);
            key.extend((4..size).map(|_| few(random)));
            key
        }
        MapType::HASH | MapType::PERCPU_HASH | MapType::LRU_HASH | MapType::LRU_PERCPU_HASH => {
            let n = random.byte_below(24);
            (0..size).map(|at| if at == size / 2 { n } else { 0x5a }).collect()
        }
        _ if random.one_in(30) => vec![0xff; 4],
        _ => {
            let n = random.below(def.max_entries as usize + 2);
            u32::try_from(n).expect("small").to_ne_bytes().to_vec()
        }
    }
}

fn some_flags(random: &mut Random) -> u64 {
    match random.below(10) {
        0 | 1 => 1,
        2 | 3 => 2,
        4 => random.pick(&[3, 4, 5, 6, 1 << 32, u64::MAX]),
        _ => 0,
    }
}

fn run(pair: &Pair, random: &mut Random, steps: usize) {
    let t = pair.def.map_type;
    let unordered = matches!(
        t,
        MapType::HASH
            | MapType::PERCPU_HASH
            | MapType::LRU_HASH
            | MapType::LRU_PERCPU_HASH
            | MapType::DEVMAP_HASH
    );
    let devices = matches!(t, MapType::DEVMAP | MapType::DEVMAP_HASH);
    for step in 0..steps {
        let key = some_key(random, &pair.def);
        let place = format!("{:?} step {step} key {key:x?}", pair.def);
        // values of these are descriptors
        let opaque = matches!(t, MapType::PROG_ARRAY | MapType::PERF_EVENT_ARRAY);
        match random.below(10) {
            0..4 if !opaque => {
                let value =
                    if devices { vec![1, 0, 0, 0] } else { random.bytes(value_bytes(&pair.def)) };
                let flags = some_flags(random);
                let (skep, kernel) = pair.update(&key, &value, flags);
                assert_eq!(skep, kernel, "update flags {flags:#x} {place}");
            }
            0..6 => {
                let (skep, kernel) = pair.lookup(&key, false);
                assert_eq!(skep, kernel, "lookup {place}");
            }
            6 => {
                let (skep, kernel) = pair.lookup(&key, true);
                assert_eq!(skep, kernel, "lookup and delete {place}");
            }
            7 => {
                let (skep, kernel) = pair.delete(&key);
                assert_eq!(skep, kernel, "delete {place}");
            }
            _ => {
                let key = (!key.is_empty() && !random.one_in(8)).then_some(key.as_slice());
                let (skep, kernel) = pair.next_key(key);
                if unordered && skep.is_ok() != kernel.is_ok() && key.is_some() {
                    // the last key of one is not the last of the other
                } else if unordered {
                    assert_eq!(skep.map(drop), kernel.map(drop), "next key {place}");
                } else {
                    assert_eq!(skep, kernel, "next key {place}");
                }
            }
        }
        if step % 50 == 0 && pair.next_key(None).0.is_ok() {
            let (skep, kernel) = pair.key_sets();
            assert_eq!(skep, kernel, "keys {place}");
        }
    }
}

#[test]
fn random_operations_agree() {
    skep_testing::require_kernel!(kernel_is_there());
    let mut random = Random(2);
    for round in 0..40 {
        for &t in EVERY_TYPE {
            let lru = matches!(t, MapType::LRU_HASH | MapType::LRU_PERCPU_HASH);
            let keyless = matches!(
                t,
                MapType::QUEUE | MapType::STACK | MapType::BLOOM_FILTER | MapType::RINGBUF
            );
            let fixed = matches!(
                t,
                MapType::PROG_ARRAY
                    | MapType::PERF_EVENT_ARRAY
                    | MapType::DEVMAP
                    | MapType::DEVMAP_HASH
            );
            if matches!(t, MapType::CPUMAP | MapType::XSKMAP | MapType::BLOOM_FILTER) {
                continue; // threads and sockets of the kernel; chance
            }
            let key = match t {
                _ if keyless => 0,
                MapType::LPM_TRIE => random.pick(&[5, 6, 8, 11, 12, 13, 20, 22]),
                MapType::HASH | MapType::PERCPU_HASH => random.pick(&[1, 2, 4, 7, 8, 12, 24]),
                _ => 4,
            };
            let value = match t {
                MapType::RINGBUF => 0,
                _ if fixed => 4,
                _ => random.pick(&[1, 4, 7, 8, 16, 33]),
            };
            let entries = match t {
                MapType::RINGBUF => 4096,
                _ if lru => 2000,
                _ => random.pick(&[1, 2, 5, 16, 30]),
            };
            let mut flags = match t {
                MapType::LPM_TRIE => 1,
                MapType::HASH | MapType::PERCPU_HASH => random.pick(&[0, 1]),
                _ => 0,
            };
            let rights = round % 8;
            if rights < 2 && t != MapType::RINGBUF {
                flags |= [MapFlags::RDONLY.0, MapFlags::WRONLY.0][rights];
            }
            let pair = Pair::new(def(t, key, value, entries, flags));
            run(&pair, &mut random, 400);
            let frozen = pair.skep.freeze().map_err(|e| e.errno());
            assert_eq!(frozen, pair.kernel.freeze(), "freeze {t}");
            run(&pair, &mut random, 30);
            let again = pair.skep.freeze().map_err(|e| e.errno());
            assert_eq!(again, pair.kernel.freeze(), "freeze again {t}");
        }
    }
}

#[test]
fn a_bloom_filter_never_says_no_falsely() {
    skep_testing::require_kernel!(kernel_is_there());
    let mut random = Random(3);
    for extra in [0, 1, 7, 15] {
        let mut def = def(MapType::BLOOM_FILTER, 0, 6, 50, 0);
        def.extra = extra;
        let pair = Pair::new(def);
        let mut pushed = Vec::new();
        for _ in 0..50 {
            let value = random.bytes(6);
            let flags = some_flags(&mut random);
            let (skep, kernel) = pair.update(&[], &value, flags);
            assert_eq!(skep, kernel, "flags {flags:#x}");
            skep.is_ok().then(|| pushed.push(value));
        }
        for value in &mut pushed {
            let skep = pair.skep.peek(&mut value.clone()).map_err(|e| e.errno());
            assert_eq!((skep, pair.kernel.lookup(&[], value)), (Ok(()), Ok(())));
        }
        let (mut ours, mut theirs) = (0, 0);
        for _ in 0..2000 {
            let mut value = random.bytes(6);
            ours += usize::from(pair.skep.peek(&mut value).is_ok());
            theirs += usize::from(pair.kernel.lookup(&[], &mut value).is_ok());
        }
        assert!(ours < 100 + 2 * theirs, "{ours} false answers of 2000, the kernel {theirs}");
        let (skep, kernel) = pair.delete(&[]);
        assert_eq!(skep, kernel);
        assert_eq!(pair.next_key(None).0, pair.next_key(None).1);
        let (skep, kernel) = pair.lookup(&[], true);
        assert_eq!(skep, kernel);
    }
}

#[test]
fn maps_of_maps_agree() {
    skep_testing::require_kernel!(kernel_is_there());
    let mut random = Random(4);
    let shapes = [
        def(MapType::ARRAY, 4, 4, 2, 0),
        def(MapType::ARRAY, 4, 4, 3, 0),
        def(MapType::ARRAY, 4, 8, 2, 0),
        def(MapType::ARRAY, 4, 4, 2, MapFlags::INNER_MAP.0),
        def(MapType::ARRAY, 4, 4, 9, MapFlags::INNER_MAP.0),
        def(MapType::HASH, 4, 4, 2, 0),
        def(MapType::HASH, 4, 4, 7, 0),
        def(MapType::HASH, 4, 4, 2, 1),
        def(MapType::LPM_TRIE, 8, 4, 2, 1),
        def(MapType::QUEUE, 0, 4, 2, 0),
        def(MapType::RINGBUF, 0, 0, 4096, 0),
        def(MapType::PERCPU_ARRAY, 4, 4, 2, 0),
        def(MapType::PROG_ARRAY, 4, 4, 2, 0),
        def(MapType::PERF_EVENT_ARRAY, 4, 4, 2, 0),
        def(MapType::DEVMAP, 4, 4, 2, 0),
        def(MapType::BLOOM_FILTER, 0, 4, 2, 0),
    ];
    let inner: Vec<Pair> = shapes.into_iter().map(Pair::new).collect();
    for shape in &inner {
        for (t, key) in [(MapType::ARRAY_OF_MAPS, 4), (MapType::HASH_OF_MAPS, 6)] {
            let outer = def(t, key, 4, 4, 0);
            let skep = Map::new("outer", outer, Some(shape.def)).map_err(|e| e.errno());
            let kernel = KernelMap::new(&outer, Some(&shape.kernel), 4);
            let (skep, kernel) = match (skep, kernel) {
                (Ok(skep), Ok(kernel)) => (skep, kernel),
                (skep, kernel) => {
                    assert_eq!(skep.map(drop), kernel.map(drop), "{t} of {:?}", shape.def);
                    continue;
                }
            };
            let nested = def(MapType::ARRAY_OF_MAPS, 4, 4, 1, 0);
            assert_eq!(
                Map::new("nested", nested, Some(outer)).map(drop).map_err(|e| e.errno()),
                KernelMap::new(&nested, Some(&kernel), 4).map(drop),
            );
            for _ in 0..60 {
                let key = [&[random.byte_below(6)], vec![0; key as usize - 1].as_slice()].concat();
                let other = &inner[random.below(inner.len())];
                let flags = some_flags(&mut random);
                let place = format!("{t} of {:?} key {key:?}", shape.def);
                match random.below(4) {
                    0 | 1 => {
                        let with = if random.one_in(2) { other } else { shape };
                        let fd = with.kernel.raw().to_ne_bytes();
                        let ours = skep.update_map_flags(&key, &with.skep, flags);
                        assert_eq!(
                            ours.map_err(|e| e.errno()),
                            kernel.update(&key, &fd, flags),
                            "update with {:?} flags {flags:#x} {place}",
                            with.def,
                        );
                    }
                    2 => {
                        let ours = skep.delete(&key).map_err(|e| e.errno());
                        assert_eq!(ours, kernel.delete(&key), "delete {place}");
                    }
                    _ => {
                        let mut id = [0; 4];
                        let ours = skep.lookup(&key, &mut id).map_err(|e| e.errno());
                        assert_eq!(ours, kernel.lookup(&key, &mut id), "lookup {place}");
                    }
                }
            }
        }
    }
}
