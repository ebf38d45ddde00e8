//! Programs on functions of other programs, as users of the library load them.

use skep::{Engine, Object, TargetProgram, TargetProgramError};
use skep_testing::require_kernel;

fn object(name: &str) -> Object {
    let path = skep_testing::repository().join(format!("tests/data/objects/{name}.bpf.o"));
    Object::open(path).expect("the object opens")
}

#[test]
fn a_target_is_a_program_of_the_kernel() {
    let embedded = object("target").load(&Engine::embedded()).expect("it asks for nothing");
    let program = embedded.program("entry").expect("it is there");
    let e = TargetProgram::of(program).expect_err("nothing attaches there");
    assert!(matches!(e, TargetProgramError::Embedded(_)), "{e}");
    assert!(TargetProgram::pinned("/sys/fs/bpf/no/such/pin").is_err());

    let engine = Engine::kernel();
    require_kernel!(engine.as_ref().map(drop).map_err(ToString::to_string));
    let engine = engine.expect("asked above");
    assert!(matches!(TargetProgram::by_id(u32::MAX - 1), Err(TargetProgramError::NoSuchId(_))));
    let loaded = object("target").load(&engine).expect("it asks for nothing");
    let target = TargetProgram::of(loaded.program("entry").expect("it is there"));
    let target = target.expect("it is in the kernel");

    let mut on_program = object("on_program");
    assert!(on_program.attach_to("no_such_program", target.clone()).is_err());
    on_program.select(&["on_entry"]).expect("it is there");
    on_program.attach_to("on_entry", target.function("no_such_function")).expect("it is there");
    let error = on_program.load(&engine).expect_err("there is no such function");
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source());
    let text: Vec<String> = causes.map(ToString::to_string).collect();
    assert!(text.join(": ").contains("no function 'no_such_function'; it has"), "{text:?}");
}
