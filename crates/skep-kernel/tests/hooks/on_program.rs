//! Programs on functions of other programs: extensions, fentry, fexit.

use std::sync::Arc;

use skep_kernel::{
    Link, LoadError, LoadOptions, Object, Program, ProgramTarget, Target, TestRunOptions, attach,
    link::attach_freplace, probe,
};
use skep_object::ObjectSpec;
use skep_testing::require_kernel;

use super::or_refused;

const TARGET: &[u8] = include_bytes!("../../../../tests/data/objects/target.bpf.o");
const OBJECT: &[u8] = include_bytes!("../../../../tests/data/objects/on_program.bpf.o");

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

fn target() -> Arc<Program> {
    let spec = ObjectSpec::parse(TARGET).expect("it is well-formed");
    let object = Object::load_spec(&spec, &LoadOptions::default()).expect("it asks for nothing");
    Arc::clone(object.program("entry").expect("it is there"))
}

fn run(program: &Program) -> u32 {
    let options = TestRunOptions { data: &[0; 64], ..TestRunOptions::default() };
    program.test_run(&options).expect("it runs").retval
}

/// The object with one of its programs, loaded for a function of `target`.
fn load(name: &str, target: ProgramTarget) -> Result<Object, LoadError> {
    let spec = ObjectSpec::parse(OBJECT).expect("it is well-formed");
    let options = LoadOptions {
        programs: Some(vec![name.to_owned()]),
        pin_root: None,
        targets: vec![(name.to_owned(), target)],
        ..LoadOptions::default()
    };
    Object::load_spec(&spec, &options)
}

/// As [`load`]; where the kernel refuses trampolines, that is recorded as its answer to `hook`.
fn loaded(hook: &str, name: &str, target: &Arc<Program>) -> Option<Object> {
    let target = ProgramTarget { program: Arc::clone(target), function: None };
    let refusal = |e| match e {
        LoadError::Refused { source, .. } => format!("{source}: {}", source.source),
        e => panic!("{e:?}"),
    };
    or_refused(hook, load(name, target).map_err(refusal))
}

fn count(object: &Object, variable: usize) -> u64 {
    let map = object.map(".bss").expect("it has counters");
    let value = map.lookup_vec(&[0; 4]).expect("readable").expect("arrays are full");
    let word = value.chunks(8).nth(variable).expect("three counters");
    u64::from_ne_bytes(word.try_into().expect("8 bytes"))
}

/// Sees `target` counted while the link lives, and not afterwards.
fn counted(hook: &str, object: &Object, variable: usize, target: &Program, link: Link) {
    let before = count(object, variable);
    run(target);
    assert!(count(object, variable) > before, "{}: nothing was counted", link.hook());
    let method = link.method();
    link.detach().expect("it detaches");
    let at_end = count(object, variable);
    run(target);
    assert_eq!(count(object, variable), at_end, "counted after it was detached");
    skep_testing::fired(hook, method);
}

#[test]
fn an_extension_replaces_a_function_of_one_program_and_then_of_another() {
    require_kernel!(probe::can_load().into_result());
    let (first, second) = (target(), target());
    let Some(object) = loaded("freplace", "new_verdict", &first) else { return };
    let program = object.program("new_verdict").expect("it is loaded");
    let link = attach(program, &Target::Section).expect("it was loaded for this");
    assert_eq!((run(&first), run(&second)), (XDP_TX, XDP_PASS));
    counted("freplace", &object, 0, &first, link);
    assert_eq!(run(&first), XDP_PASS);

    let function = second.function_id("verdict").expect("it is there");
    let link = attach_freplace(program, Some((&second, function))).expect("the shape is the same");
    assert_eq!((run(&first), run(&second)), (XDP_PASS, XDP_TX));
    counted("freplace, of another program", &object, 0, &second, link);
    assert_eq!(run(&second), XDP_PASS);
}

#[test]
fn fentry_and_fexit_see_functions_of_a_program() {
    require_kernel!(probe::can_load().into_result());
    let target = target();
    for (hook, name, variable) in
        [("fentry on a program", "on_entry", 1), ("fexit on a program", "on_exit", 2)]
    {
        let Some(object) = loaded(hook, name, &target) else { continue };
        let program = object.program(name).expect("it is loaded");
        let link = attach(program, &Target::Section).expect("it was loaded for this");
        counted(hook, &object, variable, &target, link);
    }
}

#[test]
fn targets_that_cannot_be_are_named() {
    require_kernel!(probe::can_load().into_result());
    let program = target();
    let function = Some("no_such_function".to_owned());
    let wrong = ProgramTarget { program: Arc::clone(&program), function };
    let error = load("on_entry", wrong).expect_err("there is no such function");
    let LoadError::Function { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(
        source.to_string(),
        "program 'entry' has no function 'no_such_function'; it has verdict, entry"
    );

    let spec = ObjectSpec::parse(OBJECT).expect("it is well-formed");
    let programs = Some(vec!["new_verdict".to_owned()]);
    let options = LoadOptions { programs, ..LoadOptions::default() };
    let error = Object::load_spec(&spec, &options).expect_err("nothing says which program");
    assert!(error.to_string().contains("say which program that is"), "{error}");
}
