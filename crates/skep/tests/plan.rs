//! Plans through the library: chosen, loaded, attached, measured.

use skep::{
    Engine, Object,
    kernel::Target,
    plan::{Plan, PlanError, Way},
};
use skep_testing::require_kernel;

const OPENS: Plan<'_> = Plan {
    what: "files opened",
    ways: &[
        Way { programs: &["by_fentry"], loses: "" },
        Way { programs: &["by_kprobe"], loses: "" },
        Way { programs: &["by_tp_btf"], loses: "opens by other calls than openat" },
        Way { programs: &["by_tracepoint"], loses: "opens by other calls than openat" },
    ],
};

fn object() -> Object {
    let mut object = Object::open("../../examples/opens.bpf.o").expect("it is committed");
    object.leave_to(&OPENS).expect("its programs are there");
    object
}

#[test]
fn the_kernel_takes_the_best_it_can() {
    let engine = Engine::kernel().map_err(|e| e.to_string());
    require_kernel!(engine.as_ref().map(drop).map_err(Clone::clone));
    let mut loaded = object().load(&engine.unwrap()).unwrap();
    assert!(loaded.programs().is_empty());
    loaded.set_variable("only_pid", std::process::id()).unwrap();
    let taken = loaded.attach_plan(&OPENS, &Target::Section).unwrap();
    let names: Vec<_> = loaded.programs().iter().map(skep::Program::name).collect();
    assert_eq!(names, OPENS.ways[taken.way].programs);
    for _ in 0..3 {
        drop(std::fs::File::open("/proc/self/status").unwrap());
    }
    assert_eq!(loaded.variable::<u64>("opens").unwrap(), 3, "{taken}");
}

#[test]
fn an_engine_without_hooks_has_only_ways_without_programs() {
    let mut loaded = object().load(&Engine::embedded()).unwrap();
    let error = loaded.attach_plan(&OPENS, &Target::Section).unwrap_err();
    let text = error.to_string();
    assert!(matches!(&error, PlanError::NoWay { failed, .. } if failed.len() == 4), "{text}");
    assert!(text.contains("not by tp_btf/sys_enter: the embedded engine has no hooks"), "{text}");
    let polling = [OPENS.ways[0], Way { programs: &[], loses: "what is short" }];
    let plan = Plan { what: "files opened", ways: &polling };
    let taken = loaded.attach_plan(&plan, &Target::Section).unwrap();
    assert_eq!((taken.way, taken.links.len()), (1, 0));
}

#[test]
fn a_wrong_name_in_a_plan_is_told_before_anything_is_loaded() {
    let mut object = Object::open("../../examples/opens.bpf.o").unwrap();
    let ways = [Way { programs: &["by_fentri"], loses: "" }];
    let error = object.leave_to(&Plan { what: "files opened", ways: &ways }).unwrap_err();
    assert!(error.to_string().contains("by_fentry"), "{error}");
}
