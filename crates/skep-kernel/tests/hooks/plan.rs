//! Plans: one measurement in four ways, of which each kernel takes the best it can.

use std::fs;

use skep_abi::UpdateMode;
use skep_kernel::{
    LoadOptions, Object, Target,
    plan::{Plan, PlanError, Reason, Taken, Way},
    probe, target,
};
use skep_object::{ObjectSpec, Resolved};
use skep_testing::{repository, require_kernel};

use super::alone;

const WAYS: &[Way<'_>] = &[
    Way { programs: &["by_fentry"], loses: "" },
    Way { programs: &["by_kprobe"], loses: "some time at each open" },
    Way { programs: &["by_tp_btf"], loses: "opens by other calls than openat" },
    Way { programs: &["by_tracepoint"], loses: "opens by other calls than openat" },
];
const OPENS: Plan<'_> = Plan { what: "files opened", ways: WAYS };

fn resolved() -> Resolved {
    let bytes = fs::read(repository().join("examples/opens.bpf.o")).expect("it is committed");
    target::resolve(ObjectSpec::parse(&bytes).expect("it is well-formed")).expect("it resolves")
}

/// `only_pid`, `only_tid`, then `opens`.
fn opens(object: &Object) -> u64 {
    let globals = object.map(".bss").expect("globals").lookup_vec(&[0; 4]).expect("readable");
    let globals = globals.expect("arrays are full");
    u64::from_ne_bytes(*globals.last_chunk().expect("8 bytes"))
}

fn attach(plan: &Plan<'_>) -> (Object, Result<Taken, PlanError>) {
    let (resolved, options) = (resolved(), LoadOptions { pin_root: None, ..Default::default() });
    let mut object = Object::load(&resolved, &options).expect("all its programs are optional");
    assert!(object.programs().is_empty());
    let mut globals = [0; 16];
    globals[..4].copy_from_slice(&std::process::id().to_ne_bytes());
    globals[4..8].copy_from_slice(&thread_id().to_ne_bytes());
    let map = object.map(".bss").expect("globals");
    map.update(&[0; 4], &globals, UpdateMode::Any).expect("it can be written");
    let taken = plan.attach(&mut object, resolved.spec(), &options, &Target::Section);
    (object, taken)
}

/// Tests beside this one, in other threads, open files too.
fn thread_id() -> u32 {
    let link = fs::read_link("/proc/thread-self").expect("proc is mounted");
    let number = link.file_name().and_then(|name| name.to_str()?.parse().ok());
    number.expect("its last part is a number")
}

fn open_five() {
    for _ in 0..5 {
        fs::File::open("/proc/self/status").expect("it is there");
    }
}

#[test]
fn the_first_way_that_works_is_taken() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    let (object, taken) = attach(&OPENS);
    let taken = taken.expect("tracepoints are everywhere");
    eprintln!("{taken}");
    assert_eq!(taken.links.len(), 1);
    assert_eq!(taken.failed.len(), taken.way, "each way before it was tried");
    let way = WAYS.get(taken.way).expect("one of them");
    assert_eq!(taken.loses, way.loses);
    let loaded: Vec<_> = object.programs().iter().map(|p| p.name()).collect();
    assert_eq!(loaded, way.programs, "what was tried in vain is not kept");
    // Every other way that works here counts the same.
    for (index, way) in WAYS.iter().enumerate() {
        let only = Plan { what: "files opened", ways: std::slice::from_ref(way) };
        let (other, alone) = attach(&only);
        let before = (opens(&object), opens(&other));
        open_five();
        match alone {
            Ok(alone) => {
                assert_eq!(opens(&other) - before.1, 5, "{alone}");
                assert!(index >= taken.way, "{alone} works, and {taken} was taken");
            }
            Err(e) => {
                assert!(index != taken.way, "{e}");
                assert!(other.programs().is_empty());
            }
        }
        assert_eq!(opens(&object) - before.0, 5, "{taken}");
    }
    drop(taken);
    let at_end = opens(&object);
    open_five();
    assert_eq!(opens(&object), at_end, "a plan that is dropped is detached");
}

#[test]
fn a_way_is_taken_as_a_whole_or_not_at_all() {
    require_kernel!(probe::can_load().into_result());
    let _alone = alone();
    // A BTF tracepoint works, and together with what has no section it does not.
    let ways = &[
        Way { programs: &["by_tracepoint", "by_fentry", "by_kprobe"], loses: "" },
        Way { programs: &[], loses: "everything between two looks" },
    ];
    let (object, taken) = attach(&Plan { what: "files opened", ways });
    let taken = taken.expect("no program always works");
    let text = taken.to_string();
    if taken.way == 0 {
        assert_eq!(taken.links.len(), 3, "{text}");
        return;
    }
    let [failed] = taken.failed.as_slice() else { panic!("{text}") };
    assert_ne!(failed.program, "by_tracepoint");
    assert!(matches!(failed.reason, Reason::Load(_) | Reason::Attach(_)));
    assert!(object.programs().is_empty(), "a part of a way was kept");
    assert!(text.contains("without a program; lost: everything"), "{text}");
    assert!(text.contains("; not by fentry/vfs_open: "), "{text}");
    let before = opens(&object);
    open_five();
    assert_eq!(opens(&object), before);
}

#[test]
fn what_cannot_be_done_is_told() {
    require_kernel!(probe::can_load().into_result());
    let wrong = Way { programs: &["no_such_program"], loses: "" };
    let typo = Plan { what: "files opened", ways: &[WAYS[3], wrong] };
    let (object, error) = attach(&typo);
    let error = error.expect_err("a name is wrong, though the first way works");
    assert!(matches!(&error, PlanError::NoProgram { program, .. } if program == "no_such_program"));
    assert!(object.programs().is_empty());
    let none = Plan { what: "files opened", ways: &[] }.without_programs(resolved().spec());
    assert!(matches!(none, Err(PlanError::NoWay { .. })));
}
