//! Objects with something special, loaded into the running kernel.

use std::fs;

use skep_kernel::{LoadOptions, Object, probe};
use skep_object::ObjectSpec;
use skep_testing::{repository, require_kernel};

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
