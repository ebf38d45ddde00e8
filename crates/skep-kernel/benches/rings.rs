//! How fast events are taken out of a ring buffer and a perf buffer while every CPU writes.
//!
//! `cargo bench -p skep-kernel --bench rings`. One thread per CPU runs a program that writes a
//! 64-byte record each time, first as fast as it can, then in bursts with a pause between; the main
//! thread takes them out; `ns_each` is that thread's processor time for each. `SKEP_BENCH_PEER` is
//! a program to compare with: it is started in turn with this one, gets the same arguments (object,
//! `ring` or `perf`, runs of each thread, runs of a burst, 0 for no pauses) and prints the same
//! lines.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use skep_kernel::{
    LoadOptions, Object, Program, TestRunOptions,
    perf::{PerfConsumer, PerfEvent},
    possible_cpus, probe,
    ringbuf::RingConsumer,
};
use skep_object::ObjectSpec;

const OBJECT: &str = "../../tests/data/objects/flood.bpf.o";
/// The argument that makes this program measure once and print.
const ONCE: &str = "--once";
/// Runs of each thread.
const RUNS: u32 = 2_000_000;
/// Runs in a burst, where there are bursts, and the pause after one.
const BURST: u32 = 2000;
const PAUSE: Duration = Duration::from_millis(1);
/// Of the perf buffer, for each CPU; the ring buffer's size is the object's.
const PERF_BYTES: usize = 1 << 19;
/// Bytes of a record that say which it is: its number on its CPU.
const NUMBER: usize = 8;

type Failure = Box<dyn Error>;
type Results = BTreeMap<String, f64>;

/// What came out of a buffer.
#[derive(Default)]
struct Taken {
    events: u64,
    /// Records whose number is not above the last one's of the same CPU.
    disorder: u64,
    last: BTreeMap<[u8; 4], u64>,
}

impl Taken {
    fn add(&mut self, record: &[u8]) {
        self.events += 1;
        let number = record.first_chunk::<NUMBER>().map_or(0, |&bytes| u64::from_ne_bytes(bytes));
        let cpu = record.get(NUMBER..).and_then(|rest| rest.first_chunk()).copied();
        let last = self.last.insert(cpu.unwrap_or_default(), number);
        self.disorder += u64::from(last.is_some_and(|last| last >= number));
    }
}

/// Either consumer.
enum Consumer {
    Ring(RingConsumer),
    Perf(PerfConsumer),
}

impl Consumer {
    /// Waits a moment for events, and takes all there are.
    fn take_all(&mut self, taken: &mut Taken) {
        let moment = Duration::from_millis(10);
        match self {
            Self::Ring(ring) => {
                let mut next = ring.poll(moment);
                while let Some(record) = next {
                    taken.add(record);
                    next = ring.next();
                }
            }
            Self::Perf(perf) => {
                let mut next = perf.poll(moment);
                while let Some(event) = next {
                    if let PerfEvent::Sample { data, .. } = event {
                        taken.add(data);
                    }
                    next = perf.next();
                }
            }
        }
    }
}

/// Processor time of this thread in nanoseconds.
#[expect(clippy::cast_precision_loss, reason = "a short time")]
fn thread_ns() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a `timespec` to be written; the clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut t) };
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}

/// Runs the program, in bursts or all at once.
fn produce(program: &Program, runs: u32, burst: u32) -> Result<(), skep_kernel::SysError> {
    let each = if burst == 0 { runs } else { burst };
    for _ in 0..runs.checked_div(each).unwrap_or(0) {
        let options = TestRunOptions { data: &[0; 60], repeat: each, ..Default::default() };
        program.test_run(&options)?;
        if burst != 0 {
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is its output")]
#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn once(object: &str, kind: &str, runs: u32, burst: u32) -> Result<(), Failure> {
    let spec = ObjectSpec::parse(&fs::read(object)?)?;
    let options = LoadOptions { pin_root: None, ..LoadOptions::default() };
    let object = Object::load_spec(&spec, &options)?;
    let map = Arc::clone(object.map(kind).ok_or("no such map")?);
    let program = object.program(&format!("flood_{kind}")).ok_or("no such program")?;
    let mut consumer = match kind {
        "ring" => Consumer::Ring(RingConsumer::new(map)?),
        _ => Consumer::Perf(PerfConsumer::new(map, PERF_BYTES)?),
    };
    let threads = possible_cpus()?;
    let running = AtomicUsize::new(threads);
    let mut taken = Taken::default();
    let (start, busy) = (Instant::now(), thread_ns());
    let failed = thread::scope(|scope| {
        let produce = || {
            let result = produce(program, runs, burst);
            running.fetch_sub(1, Ordering::Release);
            result
        };
        let producers: Vec<_> = (0..threads).map(|_| scope.spawn(produce)).collect();
        while running.load(Ordering::Acquire) != 0 {
            consumer.take_all(&mut taken);
        }
        consumer.take_all(&mut taken);
        producers.into_iter().filter_map(|thread| thread.join().ok()?.err()).next()
    });
    let seconds = start.elapsed().as_secs_f64();
    let busy = thread_ns() - busy;
    failed.map_or(Ok(()), Err)?;
    let tried = u64::from(runs) * threads as u64;
    println!("tried {tried}");
    println!("taken {}", taken.events);
    println!("lost {}", tried.saturating_sub(taken.events));
    println!("disorder {}", taken.disorder);
    println!("per_second {}", taken.events as f64 / seconds);
    println!("ns_each {}", busy / taken.events.max(1) as f64);
    Ok(())
}

/// Starts a program and reads the lines it prints.
fn round(program: &OsStr, args: &[&str]) -> Result<Results, Failure> {
    let out = Command::new(program).args(args).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8(out.stdout)?;
    let line = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    let results: Results = text.lines().filter_map(line).collect();
    if results.is_empty() || !out.status.success() {
        return Err(format!("{} measured nothing", program.display()).into());
    }
    Ok(results)
}

/// The median of each result over the rounds.
fn medians(rounds: &[Results]) -> Results {
    let median = |name: &String| {
        let mut all: Vec<f64> = rounds.iter().filter_map(|r| r.get(name).copied()).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let names = rounds.first().into_iter().flat_map(BTreeMap::keys);
    names.map(|name| (name.clone(), median(name))).collect()
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is its output")]
fn compare(kind: &str, runs: u32, burst: u32, rounds: usize) -> Result<(), Failure> {
    let object = Path::new(env!("CARGO_MANIFEST_DIR")).join(OBJECT).display().to_string();
    let (runs, burst) = (runs.to_string(), burst.to_string());
    let args = [&object, kind, &runs, &burst];
    let me = env::current_exe()?;
    let peer = env::var_os("SKEP_BENCH_PEER");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(round(me.as_os_str(), &[&[ONCE], args.as_slice()].concat())?);
        if let Some(peer) = &peer {
            theirs.push(round(peer, &args)?);
        }
    }
    let how = if burst == "0" { "without a pause" } else { "in bursts" };
    println!("{kind} buffer, {how}, median of {rounds}");
    for (who, rounds) in [("skep", ours), ("peer", theirs)] {
        for (name, number) in medians(&rounds) {
            println!("  {who} {name:10} {number:12.0}");
        }
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = env::args().collect();
    if let [_, first, object, kind, runs, burst] = args.as_slice()
        && first == ONCE
    {
        return once(object, kind, runs.parse()?, burst.parse()?);
    }
    if let Err(why) = probe::can_load().into_result() {
        eprintln!("SKIP: {why}");
        return Ok(());
    }
    let bench = args.iter().any(|arg| arg == "--bench");
    let (runs, rounds) = if bench { (RUNS, 9) } else { (BURST, 1) };
    for kind in ["ring", "perf"] {
        compare(kind, runs, 0, rounds)?;
        compare(kind, runs / 4, BURST, rounds)?;
    }
    Ok(())
}
