//! Loading an object into the running kernel, in a fresh process each: from the file to programs that
//! could be attached, and the memory that takes.
//!
//! `cargo bench -p skep-kernel --bench load` measures objects of this repository.
//! `SKEP_BENCH_OBJECTS` names others, separated by `:`. `SKEP_BENCH_PEER` is a program to compare
//! with: it is started in turn with this one, gets the object's path, and prints lines of a name and
//! milliseconds of processor time; a name that begins with `=` is something else, and not added up.
//! `SKEP_BENCH_ROUNDS` is how often.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    ffi::OsStr,
    fs,
    hint::black_box,
    path::Path,
    process::{Command, Stdio},
};

use skep_kernel::{LoadOptions, Object, probe, target};
use skep_object::ObjectSpec;

const OWN: &[&str] = &["../../examples/execsnoop.bpf.o", "../../examples/classify.bpf.o"];
/// The argument that makes this program measure once and print.
const ONCE: &str = "--once";

type Failure = Box<dyn Error>;
/// Step and milliseconds.
type Steps = Vec<(String, f64)>;

/// Processor time of this thread in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "a short time in nanoseconds")]
fn now() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a `timespec` to be written; the clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut t) };
    t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
}

/// A number of kilobytes of this process: `VmHWM` is the most memory that it ever had, `RssFile`
/// what of files it has now, which is its code.
fn kilobytes(key: &str) -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or_else(|| format!("no {key}"))?.parse()?)
}

/// Reads, resolves and loads one object, as its first user in the process does.
#[expect(clippy::print_stdout, reason = "a benchmark's result is its output")]
fn once(path: &Path) -> Result<(), Failure> {
    let start = now();
    let spec = ObjectSpec::parse(&fs::read(path)?)?;
    let opened = now();
    let resolved = target::resolve(spec)?;
    let fits = now();
    let options = LoadOptions { pin_root: None, ..LoadOptions::default() };
    let loaded = black_box(Object::load(&resolved, &options)?);
    let end = now();
    println!("open {}", opened - start);
    println!("resolve {}", fits - opened);
    println!("load {}", end - fits);
    println!("=peak_kb {}", kilobytes("VmHWM")?);
    println!("=code_kb {}", kilobytes("RssFile")?);
    eprintln!("{} programs, {} relocations", loaded.programs().len(), resolved.core().len());
    Ok(())
}

/// Starts a program on an object and reads the lines it prints.
fn round(program: &OsStr, args: &[&str], path: &Path) -> Result<Steps, Failure> {
    let out = Command::new(program).args(args).arg(path).stderr(Stdio::null()).output()?;
    let text = String::from_utf8(out.stdout)?;
    let line = |line: &str| {
        let (name, time) = line.split_once(' ')?;
        Some((name.to_owned(), time.trim().parse().ok()?))
    };
    let steps: Steps = text.lines().filter_map(line).collect();
    if steps.is_empty() || !out.status.success() {
        return Err(format!("{} measured nothing on {}", program.display(), path.display()).into());
    }
    Ok(steps)
}

/// A row more: the sum of the times.
fn with_sum(mut steps: Steps) -> Steps {
    let times = steps.iter().filter(|(name, _)| !name.starts_with('='));
    let sum = times.map(|(_, time)| time).sum();
    steps.push(("sum".to_owned(), sum));
    steps
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median of each step over the rounds.
fn medians(rounds: &[Steps]) -> Steps {
    let Some(first) = rounds.first() else { return Vec::new() };
    let of = |i: usize| rounds.iter().filter_map(|steps| Some(steps.get(i)?.1)).collect();
    first.iter().enumerate().map(|(i, (name, _))| (name.clone(), median(of(i)))).collect()
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is its output")]
fn compare(path: &Path, rounds: usize) -> Result<(), Failure> {
    let me = env::current_exe()?;
    let peer = env::var_os("SKEP_BENCH_PEER");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut ratios = BTreeMap::<_, Vec<f64>>::new();
    for _ in 0..rounds {
        let mine = with_sum(round(me.as_os_str(), &[ONCE], path)?);
        if let Some(peer) = &peer {
            let other = with_sum(round(peer, &[], path)?);
            for (step, a) in &mine {
                let same = other.iter().filter(|(name, _)| name == step);
                same.for_each(|(_, b)| ratios.entry(step.clone()).or_default().push(a / b));
            }
            theirs.push(other);
        }
        ours.push(mine);
    }
    println!("{}, milliseconds or kB, median of {rounds}", path.display());
    for (who, rounds) in [("skep", ours), ("peer", theirs)] {
        for (step, time) in medians(&rounds) {
            println!("  {who} {step:10} {time:9.3}");
        }
    }
    for (step, ratios) in ratios {
        println!("  ratio {step:10} {:.3}, round by round", median(ratios));
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let args: Vec<_> = env::args().collect();
    if let [_, first, path] = args.as_slice()
        && first == ONCE
    {
        return once(Path::new(path));
    }
    if let Err(why) = probe::can_load().into_result() {
        eprintln!("SKIP: {why}");
        return Ok(());
    }
    let rounds = match env::var("SKEP_BENCH_ROUNDS") {
        Ok(rounds) => rounds.parse()?,
        Err(_) if args.iter().any(|arg| arg == "--bench") => 21,
        Err(_) => 1,
    };
    let named = env::var("SKEP_BENCH_OBJECTS").unwrap_or_default();
    let own = if named.is_empty() { OWN } else { &[] };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = own.iter().map(|path| dir.join(path));
    for path in named.split(':').filter(|path| !path.is_empty()).map(Into::into).chain(own) {
        compare(&path, rounds)?;
    }
    Ok(())
}
