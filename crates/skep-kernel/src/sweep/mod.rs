//! What happens when a system call fails: each flow of this crate, with each errno at each call.
//!
//! A flow runs once to see its calls. Then it runs again for each call and errno, with that one
//! failing, and for each name and errno, with all calls of that name failing. It must not panic,
//! must leave no descriptor and no mapping behind, and must end in an error that names the call and
//! the object, unless the flow's table says that it does without the call.

mod flows;
mod replies;
mod requests;

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    panic::AssertUnwindSafe,
};

use skep_testing::own_descriptors;

use crate::sys::fake::{Answer, Fake, Seen};

type Outcome = Result<(), Box<dyn Error>>;

const ERRNOS: &[i32] = &[
    libc::EINTR,
    libc::EAGAIN,
    libc::ENOMEM,
    libc::EPERM,
    libc::E2BIG,
    libc::EINVAL,
    libc::ENOSYS,
    libc::EBADF,
    libc::ENOSPC,
    libc::ENOENT,
    libc::EMFILE,
];

/// After these a call is made again; failing once does no harm.
const AGAIN: &[(&str, i32)] = &[
    ("BPF_PROG_LOAD", libc::EAGAIN),
    ("BPF_MAP_LOOKUP_BATCH", libc::EINTR),
    ("perf_event_open", libc::EINTR),
    ("read", libc::EINTR),
    ("read", libc::EAGAIN),
    ("send", libc::EINTR),
    ("recv", libc::EINTR),
    ("fsopen", libc::EINTR),
    ("fsconfig", libc::EINTR),
    ("fsmount", libc::EINTR),
];

/// A thing that the crate does.
struct Flow<'a> {
    run: &'a dyn Fn() -> Outcome,
    /// Words one of which an error must have: the map, program, hook or file.
    objects: &'a [&'a str],
    /// Calls that may fail without the flow failing, with the errno (0 for any) and the reason.
    dispensable: &'a [(&'a str, i32, &'a str)],
}

/// Targets of the descriptors in this thread's table.
fn descriptors() -> Vec<String> {
    let entries = fs::read_dir("/proc/thread-self/fd").expect("proc is mounted");
    let target = |e: fs::DirEntry| fs::read_link(e.path()).ok().map(|t| t.display().to_string());
    // The listing's own descriptor leads to this directory.
    let mut open: Vec<_> =
        entries.flatten().filter_map(target).filter(|t| !t.ends_with("/fd")).collect();
    open.sort();
    open
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// Runs a flow once; returns how it ended, and its calls. What it leaves behind is a fault.
fn once(flow: &Flow<'_>, fake: Fake) -> Result<(Option<String>, Vec<Seen>), String> {
    let mut rest = descriptors();
    let ended = std::panic::catch_unwind(AssertUnwindSafe(flow.run));
    let seen = fake.seen();
    drop(fake);
    let outcome = ended.map_err(|_| "it panicked".to_owned())?;
    let error = outcome.err().map(|e| chain(e.as_ref()));
    let now = descriptors();
    let new = |one: &&String| match rest.iter().position(|other| other == *one) {
        Some(at) => {
            rest.swap_remove(at);
            false
        }
        None => true,
    };
    let leaked: Vec<_> = now.iter().filter(new).collect();
    if !leaked.is_empty() {
        return Err(format!("descriptors are left: {leaked:?}"));
    }
    let made = |name: &str| seen.iter().filter(|s| s.name == name && s.errno == 0).count();
    if made("mmap") != made("munmap") {
        return Err("a mapping is left".into());
    }
    Ok((error, seen))
}

/// What is wrong with how a flow ended whose call `name` failed with `errno`.
fn fault(flow: &Flow<'_>, name: &str, errno: i32, ended: Option<&str>) -> Option<String> {
    let listed = flow.dispensable.iter().any(|row| row.0 == name && (row.1 == 0 || row.1 == errno));
    // The name of an interface is for words only: its number stands for it.
    let row = listed || name == "if_indextoname";
    // Without the errno's own words, which differ.
    let ended = ended.map(|text| text.rsplit_once(": ").map_or(text, |(start, _)| start));
    // Reading a file is called by what it is for.
    let named = |text: &str| text.contains(name) || name.ends_with("a file");
    match ended {
        None if row => None,
        None => Some("it succeeded".into()),
        Some(text) if !named(text) => Some(format!("the call is not named: {text}")),
        Some(text) if !flow.objects.iter().any(|object| text.contains(object)) => {
            Some(format!("the object is not named: {text}"))
        }
        Some(_) => None,
    }
}

/// Is there a second attempt when this call fails once?
fn recovers(name: &str, errno: i32) -> bool {
    // What is rejected is verified again for its log, and a map whose types are refused is made
    // without them.
    AGAIN.contains(&(name, errno)) || matches!(name, "BPF_PROG_LOAD" | "BPF_MAP_CREATE")
}

/// Sweeps a flow over its calls.
fn sweep(flow: &Flow<'_>) {
    let (error, calls) = once(flow, Fake::watching()).expect("nothing is left");
    // What another kernel lacks, a flow leaves out or skips by itself.
    assert_eq!(error, None, "without any failure");
    // Numbers stay for one run to the next only if nothing is remembered: once more.
    let (_, calls) = once(flow, Fake::watching()).map_or((None, calls), |again| again);
    let names: BTreeSet<_> =
        calls.iter().map(|call| call.name).filter(|&n| n != "munmap").collect();
    let mut faults: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    let mut runs = 0;
    // An emulated machine is slow, and its kernel another: what differs are the ways around.
    let in_guest = std::env::var_os("SKEP_GUEST").is_some();
    let errnos = if in_guest { &[libc::EINVAL][..] } else { ERRNOS };
    for &errno in errnos {
        for (n, first) in calls.iter().enumerate() {
            let fake = Fake::new(move |call, at| match at == n && call.name() != "munmap" {
                true => Answer::Errno(errno),
                false => Answer::Kernel,
            });
            runs += 1;
            let (name, found) = match once(flow, fake) {
                Err(fault) => (first.name, Some(fault)),
                // Others load and unload meanwhile: the call that failed is not always the same.
                Ok((ended, seen)) => match (seen.get(n), ended) {
                    (Some(call), None) if recovers(call.name, errno) => continue,
                    // Most kernels have no such file.
                    (Some(call), None) if call.bytes == b"/proc/version_signature" => continue,
                    (Some(call), ended) if call.errno != 0 => {
                        (call.name, fault(flow, call.name, errno, ended.as_deref()))
                    }
                    _ => continue,
                },
            };
            if let Some(fault) = found {
                faults.entry(format!("{name} once: {fault}")).or_default().insert(errno);
            }
        }
        for &name in &names {
            runs += 1;
            let found = match once(flow, Fake::failing(name, errno)) {
                Err(fault) => Some(fault),
                Ok((ended, _)) => fault(flow, name, errno, ended.as_deref()),
            };
            if let Some(fault) = found {
                faults.entry(format!("{name} always: {fault}")).or_default().insert(errno);
            }
        }
    }
    eprintln!("{} calls, {runs} runs", calls.len());
    assert!(faults.is_empty(), "faults, and the errnos that lead to them: {faults:#?}");
}

/// As [`sweep`], with descriptors of its own to count.
fn sweep_alone(flow: impl Fn() -> Outcome + Sync, objects: &[&str], rows: &[(&str, i32, &str)]) {
    own_descriptors(|| sweep(&Flow { run: &flow, objects, dispensable: rows }));
}
