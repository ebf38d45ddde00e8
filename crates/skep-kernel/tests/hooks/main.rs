//! Each hook: load, attach, make the event happen, see it counted, detach, see that it is not
//! counted any more.

mod cgroup;
mod cookies;
mod events;
mod interface;
mod iterators;
mod kernel;
mod net;
mod on_program;
mod plan;
mod redirect;
mod route;
mod sockets;
mod struct_ops;
mod traffic;
mod usdt;
mod user;

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    sync::Mutex,
    time::{Duration, Instant},
};

use skep_abi::{AttachType, MapDef, MapFlags, MapType, ProgType};
use skep_isa::Slot;
use skep_kernel::{Link, Map, Program, ProgramLoad, inspect};

const fn slot(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Slot {
    Slot { code, dst, src, off, imm }
}

/// A program under test and the number it has counted.
#[derive(Debug)]
struct Counter {
    map: Map,
}

impl Counter {
    fn new() -> Self {
        let def = MapDef {
            map_type: MapType::ARRAY,
            key_size: 4,
            value_size: 8,
            max_entries: 1,
            flags: MapFlags(0),
            extra: 0,
            numa_node: 0,
        };
        Self { map: Map::create("count", def, None, None).expect("arrays are everywhere") }
    }

    fn get(&self) -> u64 {
        let value = self.map.lookup_vec(&[0; 4]).expect("readable").expect("arrays are full");
        u64::from_ne_bytes(value.try_into().expect("8 bytes"))
    }

    /// Counts every event, and returns `verdict`.
    fn all(&self, verdict: i32) -> Vec<Slot> {
        let mut insns = self.add_one().to_vec();
        insns.extend([slot(0xb7, 0, 0, 0, verdict), slot(0x95, 0, 0, 0, 0)]);
        insns
    }

    /// Counts what this process does, and returns 0: others' events are none of our business.
    fn own(&self) -> Vec<Slot> {
        let own = i32::try_from(std::process::id()).expect("pids are small");
        let mut insns = vec![
            slot(0x85, 0, 0, 0, 14),  // call get_current_pid_tgid
            slot(0x77, 0, 0, 0, 32),  // r0 >>= 32
            slot(0x55, 0, 0, 4, own), // if r0 != own goto out
        ];
        insns.extend(self.all(0));
        insns
    }

    /// Adds what lies at this offset of the context, and returns 0.
    fn add_field(&self, off: i16) -> Vec<Slot> {
        let [address, high, _, add] = self.add_one();
        let field = slot(0x79, 2, 1, off, 0); // r2 = *(u64 *)(r1 + off)
        vec![field, address, high, add, slot(0xb7, 0, 0, 0, 0), slot(0x95, 0, 0, 0, 0)]
    }

    /// Adds this attachment's cookie when this process makes the event, and returns 0.
    fn add_cookie(&self) -> Vec<Slot> {
        let own = i32::try_from(std::process::id()).expect("pids are small");
        let [address, high, _, add] = self.add_one();
        vec![
            slot(0xbf, 6, 1, 0, 0),   // r6 = ctx
            slot(0x85, 0, 0, 0, 14),  // call get_current_pid_tgid
            slot(0x77, 0, 0, 0, 32),  // r0 >>= 32
            slot(0x55, 0, 0, 6, own), // if r0 != own goto out
            slot(0xbf, 1, 6, 0, 0),   // r1 = ctx
            slot(0x85, 0, 0, 0, 174), // call get_attach_cookie
            slot(0xbf, 2, 0, 0, 0),   // r2 = cookie
            address,
            high,
            add,
            slot(0xb7, 0, 0, 0, 0),
            slot(0x95, 0, 0, 0, 0),
        ]
    }

    fn add_one(&self) -> [Slot; 4] {
        [
            slot(0x18, 1, 2, 0, self.map.as_fd().as_raw_fd()), // r1 = address of the value
            slot(0, 0, 0, 0, 0),
            slot(0xb7, 2, 0, 0, 1),
            slot(0xdb, 1, 2, 0, 0), // lock *(u64 *)(r1 + 0) += r2
        ]
    }
}

fn load(prog_type: ProgType, attach_type: Option<AttachType>, insns: &[Slot]) -> Program {
    let mut load = ProgramLoad::new("counter", prog_type, insns);
    load.attach_type = attach_type;
    Program::load(&load).expect("it is valid")
}

/// Sees `act` counted while the link lives, and not afterwards; recorded as `hook`, a row of the
/// table of hooks.
fn fires(hook: &str, counter: &Counter, link: Link, mut act: impl FnMut()) {
    let before = counter.get();
    act();
    // Packets are on their way for a moment.
    let begin = Instant::now();
    while counter.get() == before && begin.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (place, method) = (link.hook().to_owned(), link.method());
    assert!(counter.get() > before, "{place} by {method}: nothing was counted");
    detach(link);
    let at_end = counter.get();
    act();
    assert_eq!(counter.get(), at_end, "{place} by {method}: counted after it was detached");
    skep_testing::fired(hook, method);
}

/// Detaches, and sees that the link is gone. Who lists all links at this time holds it for a moment
/// longer.
fn detach(link: Link) {
    let id = link.id().ok().flatten();
    link.detach().expect("it detaches");
    let Some(id) = id else { return };
    let begin = Instant::now();
    while inspect::link(id).expect("links can be looked at").is_some() {
        assert!(begin.elapsed() < Duration::from_secs(10), "link {id} is left");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The process's own functions are counted: one test at a time, where they share some.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Is this a virtual machine made for these tests?
fn in_guest() -> bool {
    std::env::var_os("SKEP_GUEST").is_some()
}

/// Where the kernel refuses by lack of something: what it says, the same in every run.
fn or_lacking<T>(result: Result<T, skep_kernel::AttachError>, errnos: &[i32]) -> Result<T, String> {
    match result {
        Err(skep_kernel::AttachError::Refused { source, .. })
            if errnos.contains(&source.errno()) =>
        {
            Err(format!("{source}: {}", source.source))
        }
        other => Ok(other.expect("it attaches")),
    }
}

/// What is there to test a hook with; a refusal is recorded as that of `hook`, and skips it.
fn or_refused<T>(hook: &str, result: Result<T, String>) -> Option<T> {
    result.map_err(|reason| skep_testing::refused(hook, &reason)).ok()
}

/// As `require_kernel!`, for an answer that carries a value.
macro_rules! available {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(reason) => {
                let test = concat!(module_path!(), ":", line!());
                skep_testing::skip(skep_testing::Skip::Kernel, test, &reason);
                return;
            }
        }
    };
}
use available;
