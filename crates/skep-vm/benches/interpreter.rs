//! The checked interpreter beside that of rbpf 0.4, which checks its accesses too.
//!
//! `cargo bench -p skep-vm --bench interpreter` measures each program on both engines and prints
//! a table of ratios at the end. Sources of the programs: `programs/*.c`, built with
//! `clang -O2 -mcpu=v3`; the `ctx64` form has 64-bit pointers in its context, for engines that do
//! not translate context accesses. Maps and their lookup are the same code for both.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use criterion::{BenchmarkId, Criterion};
use skep_abi::{MapDef, MapFlags, MapType, ProgType, UpdateMode};
use skep_isa::{Imm64, Insn, Pc, Slot, decode, slots_from_bytes};
use skep_object::spec::{MapOrigin, MapSpec, ObjectSpec, Pinning, ProgramSpec, Reloc, RelocTarget};
use skep_vm::context::{Context, Xdp};
use skep_vm::maps::Map;
use skep_vm::{LoadOptions, Object};

/// Program and the low 32 bits of its result.
const PROGRAMS: &[(&str, u32)] = &[
    ("simple", 42),
    ("parse", 140_053_869),
    ("prime", 168),
    ("log2", 1_567_639_928),
    ("switch", 2_046_982_628),
    ("hash64", 1_157_933_355),
    ("csum", 12_689),
    ("memcpy", 806_365_949),
    ("strcmp", 3_840),
    ("calls", 733_237_900),
    ("maparray", 101_554),
    ("maphash", 169_342),
];

/// Numbers in the programs that stand for the two maps.
const MAPS: [u64; 2] = [0x6d61_7030_3030_3030, 0x6d61_7031_3131_3131];

fn hex(name: &str) -> Option<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/programs");
    let text = std::fs::read_to_string(dir.join(name)).ok()?;
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let (pairs, _) = digits.as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}

fn map_spec(name: &str, map_type: MapType, max_entries: u32) -> MapSpec {
    let def = MapDef {
        map_type,
        key_size: 4,
        value_size: 8,
        max_entries,
        flags: MapFlags::default(),
        extra: 0,
        numa_node: 0,
    };
    MapSpec {
        name: name.to_owned(),
        def,
        origin: MapOrigin::Btf,
        key_type: None,
        value_type: None,
        pinning: Pinning::None,
        inner: None,
        autocreate: true,
        initial: Vec::new(),
        data: None,
        variables: Vec::new(),
    }
}

/// The program as an object with two maps.
fn spec(name: &str, slots: Vec<Slot>) -> ObjectSpec {
    let insns = decode(&slots).expect("the programs are valid");
    let reloc = |&(at, insn): &(Pc, Insn)| {
        let Insn::LoadImm64 { imm: Imm64::Const(magic), .. } = insn else { return None };
        let map = MAPS.iter().position(|&m| m == magic)?;
        Some(Reloc { at, target: RelocTarget::Map(map) })
    };
    let program = ProgramSpec {
        name: name.to_owned(),
        section: "xdp".to_owned(),
        prog_type: Some(ProgType::XDP),
        attach_type: None,
        attach_to: None,
        flags: 0,
        autoload: true,
        relocs: insns.iter().filter_map(reloc).collect(),
        insns: slots,
        subprogs: Vec::new(),
        core_relos: Vec::new(),
        func_info: Vec::new(),
        line_info: Vec::new(),
        poisoned: Vec::new(),
    };
    ObjectSpec {
        license: "GPL".to_owned(),
        version: None,
        programs: vec![program],
        maps: vec![map_spec("map0", MapType::ARRAY, 256), map_spec("map1", MapType::HASH, 1024)],
        externs: Vec::new(),
        btf: None,
    }
}

/// One engine, ready to run one program.
type Engine = Box<dyn FnMut() -> u64>;

fn skep(name: &str) -> (Object, Engine) {
    let slots = slots_from_bytes(&hex(&format!("{name}.hex")).expect("the file is here"))
        .expect("whole slots");
    let object = Object::load_spec(&spec(name, slots), &LoadOptions::default()).expect("it loads");
    for i in 0..1024_u32 {
        for (map, key, value) in [(0, i, 3 * i + 1), (1, 7 * i, 5 * i + 2)] {
            let (key, value) = (key.to_ne_bytes(), u64::from(value).to_ne_bytes());
            if let (Some(map), true) = (object.maps().get(map), map == 1 || i < 256) {
                map.update(&key, &value, UpdateMode::Any).expect("there is room");
            }
        }
    }
    let program = Arc::clone(object.program(name).expect("it was loaded"));
    let mut ctx = Context::from(Xdp::new(&hex("packet.hex").expect("the file is here")));
    let run = move || program.run(&mut ctx).expect("it runs").retval;
    (object, Box::new(run))
}

/// The maps that rbpf's helper looks in.
static RBPF_MAPS: OnceLock<[Arc<Map>; 2]> = OnceLock::new();

fn rbpf_lookup(map: u64, key: u64, _: u64, _: u64, _: u64) -> u64 {
    let index = MAPS.iter().position(|&m| m == map).unwrap_or_default();
    let map = RBPF_MAPS.get().and_then(|maps| maps.get(index));
    let key = std::ptr::with_exposed_provenance::<[u8; 4]>(usize::try_from(key).unwrap_or(0));
    // SAFETY: the programs pass the address of a 4-byte key on their stack.
    let key = unsafe { key.read_unaligned() };
    map.and_then(|map| map.lookup_ptr(&key, 0)).map_or(0, |value| value.addr().get() as u64)
}

/// rbpf, with what it borrows leaked: a benchmark ends soon.
fn rbpf(name: &str, object: &Object) -> Option<Engine> {
    let code = hex(&format!("{name}.ctx64.hex")).or_else(|| hex(&format!("{name}.hex")))?;
    let code: &'static [u8] = Vec::leak(code);
    let packet: &'static mut [u8] = Vec::leak(hex("packet.hex")?);
    let start = packet.as_mut_ptr().expose_provenance() as u64;
    let end = start + packet.len() as u64;
    let mut vm = rbpf::EbpfVmRaw::new(Some(code)).ok()?;
    vm.register_helper(1, rbpf_lookup).ok()?;
    vm.register_allowed_memory(start..end);
    let maps = object.maps();
    let pair = [Arc::clone(maps.first()?), Arc::clone(maps.get(1)?)];
    for map in RBPF_MAPS.get_or_init(|| pair) {
        let range = map.addr_range();
        vm.register_allowed_memory(range.start as u64..range.end as u64);
    }
    let ctx: Vec<u8> = [start, end].iter().flat_map(|p| p.to_le_bytes()).collect();
    let ctx = Vec::leak(ctx);
    let ctx_addr = ctx.as_mut_ptr();
    Some(Box::new(move || {
        // SAFETY: the context was leaked above and is used by one run at a time.
        let ctx: &'static mut [u8] = unsafe { std::slice::from_raw_parts_mut(ctx_addr, 16) };
        vm.execute_program(ctx).unwrap_or(u64::MAX)
    }))
}

/// Processor time of this thread in nanoseconds: other work on the machine does not count.
#[expect(clippy::cast_precision_loss, reason = "differences of short times")]
fn now() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a `timespec` to be written; the clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut t) };
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}

/// Nanoseconds of one run: the least of several rounds, the engines in turn.
fn measure(engines: &mut [&mut Engine]) -> Vec<f64> {
    let mut best = vec![f64::MAX; engines.len()];
    for _ in 0..15 {
        for (engine, best) in engines.iter_mut().zip(&mut best) {
            let (mut runs, begin) = (0_u32, now());
            while now() - begin < 20e6 {
                for _ in 0..8 {
                    black_box(engine());
                }
                runs += 8;
            }
            let each = (now() - begin) / f64::from(runs);
            *best = best.min(each);
        }
    }
    best
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is its output")]
fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = Vec::new();
    for &(name, want) in PROGRAMS {
        let (object, mut ours) = skep(name);
        assert_eq!(ours() & 0xffff_ffff, u64::from(want), "{name} on skep");
        let mut theirs = rbpf(name, &object).expect("rbpf takes the program");
        assert_eq!(theirs() & 0xffff_ffff, u64::from(want), "{name} on rbpf");
        let mut group = criterion.benchmark_group("interpreter");
        group.bench_function(BenchmarkId::new("skep", name), |b| b.iter(&mut ours));
        group.bench_function(BenchmarkId::new("rbpf", name), |b| b.iter(&mut theirs));
        group.finish();
        if !std::env::args().any(|arg| arg == "--test") {
            let times = measure(&mut [&mut ours, &mut theirs]);
            if let [ours, theirs] = times.as_slice() {
                table.push((name, *ours, *theirs));
            }
        }
    }
    println!("{:10} {:>12} {:>12} {:>8}", "program", "skep ns", "rbpf ns", "ratio");
    for (name, ours, theirs) in &table {
        println!("{name:10} {ours:12.1} {theirs:12.1} {:8.2}", ours / theirs);
    }
    let count = f64::from(u32::try_from(table.len()).unwrap_or(1).max(1));
    let mean = table.iter().map(|(_, a, b)| (a / b).ln()).sum::<f64>() / count;
    println!("geometric mean of the ratios: {:.3}", mean.exp());
}
