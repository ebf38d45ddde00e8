//! Maps that programs and this process share: arenas, user ring buffers, storage, locks, timers.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::fd::AsFd as _,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use skep_abi::UpdateMode;
use skep_kernel::{
    LoadError, LoadOptions, Map, Object, Target, TestRunOptions, attach, pidfd, probe,
    ringbuf::RingSet, target, user_ringbuf::UserRing,
};
use skep_object::ObjectSpec;
use skep_testing::{Skip, repository, skip};

fn spec(name: &str) -> ObjectSpec {
    let bytes = fs::read(repository().join("tests/data/objects").join(name));
    ObjectSpec::parse(&bytes.expect("the object is committed")).expect("well-formed")
}

/// The object, or a skip where the kernel lacks one of its map types.
fn load(name: &str) -> Option<Object> {
    let able = probe::can_load()
        .into_result()
        .and_then(|()| target::vmlinux_btf().map(drop).map_err(|e| e.to_string()));
    if let Err(reason) = able {
        skip(Skip::Kernel, name, &reason);
        return None;
    }
    let resolved = target::resolve(spec(name)).expect("it resolves for every kernel with BTF");
    let options = LoadOptions { pin_root: None, ..LoadOptions::default() };
    match Object::load(&resolved, &options) {
        Ok(object) => Some(object),
        Err(LoadError::Map { map, source }) if source.errno() == EINVAL => {
            skip(Skip::Kernel, name, &format!("this kernel has no maps like {map}"));
            None
        }
        Err(e) => panic!("{name}: {e:?}"),
    }
}

const EINVAL: i32 = 22;

fn run(object: &Object, program: &str, context: &[u8]) -> u32 {
    let options = TestRunOptions { ctx: context, ..TestRunOptions::default() };
    let program = object.program(program).expect("the object has it");
    program.test_run(&options).expect("syscall programs run").retval
}

fn map<'a>(object: &'a Object, name: &str) -> &'a Arc<Map> {
    object.map(name).expect("the object has it")
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(*bytes.first_chunk().expect("8 bytes"))
}

#[test]
fn an_arena_is_shared_with_its_pointers() {
    let Some(object) = load("arena.bpf.o") else { return };
    let arena = map(&object, "arena").memory().expect("it is mapped since it was made");
    let word = |offset| {
        let mut word = [0; 8];
        assert!(arena.read(offset, &mut word), "{offset} is inside");
        u64::from_ne_bytes(word)
    };
    let spec = spec("arena.bpf.o");
    let variables = spec.maps.iter().flat_map(|m| &m.variables);
    let place = |name| {
        let found = variables.clone().find(|v| v.name == name);
        found.map(|v| v.offset as usize).expect("a variable of the arena")
    };
    assert_eq!((word(place("total")), word(place("head"))), (7, 0));

    assert_eq!(run(&object, "fill", &10_u32.to_ne_bytes()), 0);
    assert_eq!(word(place("total")), 7 + 45);
    let mut values = Vec::new();
    let mut at = word(place("head"));
    while let Some(offset) = arena.offset_of(at) {
        values.push(word(offset + 8));
        at = word(offset);
        assert!(values.len() <= 10, "the list ends");
    }
    assert_eq!(values, (0..10).rev().collect::<Vec<u64>>());
    assert_eq!(at, 0);

    // What user space writes, programs see.
    assert!(arena.write(place("total"), &100_u64.to_ne_bytes()));
    assert_eq!(run(&object, "fill", &3_u32.to_ne_bytes()), 0);
    assert_eq!(word(place("total")), 103);
    assert_eq!(run(&object, "empty", &[]), 0);
    assert_eq!(word(place("head")), 0);
}

#[test]
fn programs_drain_a_user_ring_and_answer_by_two_others() {
    let Some(object) = load("user_ring.bpf.o") else { return };
    let mut requests = UserRing::new(Arc::clone(map(&object, "requests"))).expect("it is one");
    let even_and_odd = ["even", "odd"].map(|name| Arc::clone(map(&object, name)));
    let mut answers = RingSet::new(even_and_odd).expect("they are ring buffers");
    assert_eq!(answers.poll(Duration::ZERO, |_, _| panic!("nothing was sent")), 0);

    for n in 1..=5_u64 {
        requests.send(&n.to_ne_bytes()).expect("there is room");
    }
    // A record that is dropped is never seen; one that is not submitted yet holds up what follows.
    drop(requests.reserve(8).expect("there is room"));
    let mut last = requests.reserve(8).expect("there is room");
    last.write(0, &6_u64.to_ne_bytes());
    assert_eq!(run(&object, "serve", &[]), 15);
    last.submit();
    assert_eq!(run(&object, "serve", &[]), 6);
    assert_eq!((requests.submitted(), requests.pending_bytes()), (6, 0));

    let mut seen = [Vec::new(), Vec::new()];
    let count = answers.poll(Duration::from_secs(5), |ring, record| {
        seen[ring].push(number(record));
    });
    assert_eq!((count, seen), (6, [vec![2, 4, 6], vec![1, 3, 5]]));

    // Full, until a program takes something out.
    while requests.send(&[0; 8]).is_ok() {}
    let full = requests.reserve_within(8, Duration::from_millis(5)).expect_err("nobody drains");
    assert_eq!(full.errno(), 28, "ENOSPC: {}", full.source);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            run(&object, "serve", &[])
        });
        let room = requests.reserve_within(8, Duration::from_secs(10)).expect("it is drained");
        room.submit();
    });
}

#[test]
fn values_belong_to_tasks() {
    let Some(object) = load("storage.bpf.o") else { return };
    let mut echo = Command::new("sh");
    echo.args(["-c", "while read line; do echo $line; done"]);
    echo.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = echo.spawn().expect("sh is there");
    let (mut to, from) = child.stdin.take().zip(child.stdout.take()).expect("both are pipes");
    let mut from = BufReader::new(from);
    let mut say_and_hear = || {
        to.write_all(b"line\n").expect("it reads");
        from.read_line(&mut String::new()).expect("it answers");
    };
    say_and_hear();
    let variables = map(&object, ".bss");
    variables.update(&[0; 4], &child.id().to_ne_bytes(), UpdateMode::Any).expect("one variable");

    let task = pidfd(child.id()).expect("it runs");
    let of_task = map(&object, "of_task");
    let count = || {
        let value = of_task.storage(task.as_fd()).expect("readable");
        value.map_or(0, |value| number(&value))
    };
    assert_eq!(count(), 0);
    let program = object.program("count").expect("the object has it");
    let link = attach(program, &Target::Section).expect("tracepoints with BTF attach");
    say_and_hear();
    let seen = count();
    assert!(seen > 0, "reading and writing are system calls");
    link.detach().expect("it detaches");
    let seen = count();
    say_and_hear();
    assert_eq!(count(), seen);
    of_task.delete_storage(task.as_fd()).expect("it is there");
    assert_eq!(count(), 0);
    drop(to);
    child.wait().expect("it ends with its input");
}

#[test]
fn values_lie_behind_locks_and_have_timers() {
    let Some(object) = load("storage.bpf.o") else { return };
    let locked = map(&object, "locked");
    let zero = 0_u32.to_ne_bytes();
    locked.update_locked(&zero, &[0; 12], UpdateMode::Exist).expect_err("no entry to lock yet");
    locked.update(&zero, &[0; 12], UpdateMode::NoExist).expect("there is room");
    assert_eq!(run(&object, "write_both", &7_u32.to_ne_bytes()), 0);
    let value = locked.lookup_locked(&zero).expect("readable").expect("just stored");
    assert_eq!(value[4..], [7, 0, 0, 0, 7, 0, 0, 0]);
    let other = [0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0];
    locked.update_locked(&zero, &other, UpdateMode::Exist).expect("there is an entry");
    assert_eq!(locked.lookup_vec(&zero).expect("readable").expect("stored"), other);

    assert_eq!(run(&object, "start_clock", &[]), 0);
    let clocks = map(&object, "clocks");
    let fired = || number(&clocks.lookup_vec(&zero).expect("readable").expect("an array")[16..]);
    let end = Instant::now() + Duration::from_secs(10);
    while fired() == 0 {
        assert!(Instant::now() < end, "the timer fires");
        std::thread::sleep(Duration::from_millis(1));
    }
}
