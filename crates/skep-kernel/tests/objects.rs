//! Objects with something special, loaded into the running kernel.

use std::fs;

use skep_kernel::{ENOTSUPP, LoadError, LoadOptions, Object, TestRunOptions, probe};
use skep_object::ObjectSpec;
use skep_testing::{Skip, repository, require_kernel, skip};

#[test]
fn hidden_functions_are_verified_where_they_are_called() {
    require_kernel!(probe::can_load().into_result());
    let path = repository().join("tests/data/objects/hidden.bpf.o");
    let bytes = fs::read(path).expect("the object is committed");
    let spec = ObjectSpec::parse(&bytes).expect("the object is well-formed");
    let options = LoadOptions { pin_root: None, ..LoadOptions::default() };
    let object = Object::load_spec(&spec, &options).expect("no global function is in it");
    assert_eq!(object.programs().len(), 1);
}

#[test]
fn inner_maps_have_the_types_of_their_definition() {
    require_kernel!(probe::can_load().into_result());
    let path = repository().join("tests/data/objects/inner_lock.bpf.o");
    let bytes = fs::read(path).expect("the object is committed");
    let spec = ObjectSpec::parse(&bytes).expect("the object is well-formed");
    let options = LoadOptions { pin_root: None, ..LoadOptions::default() };
    let object = match Object::load_spec(&spec, &options) {
        // Locks in inner maps: Linux 6.2.
        Err(LoadError::Map { source, .. }) if source.errno() == ENOTSUPP => {
            skip(Skip::Kernel, "inner maps with a lock", &source.to_string());
            return;
        }
        loaded => loaded.expect("the lock is found by the types"),
    };
    let program = object.program("account").expect("it was loaded");
    let run = program.test_run(&TestRunOptions { data: &[0; 60], ..TestRunOptions::default() });
    assert_eq!(run.expect("XDP programs run").retval, 2, "XDP_PASS");
    let mut value = [0; 16];
    object.map("first").expect("it was made").lookup(&[0; 4], &mut value).expect("an array");
    assert_eq!(value[4..], [1, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0]);
}
