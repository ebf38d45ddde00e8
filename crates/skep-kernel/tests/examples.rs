//! The project's example objects, loaded into the running kernel.

use std::fs;

use skep_abi::ProgType;
use skep_kernel::{LoadOptions, Object, probe, target};
use skep_object::ObjectSpec;
use skep_testing::{repository, require_kernel};

fn load(name: &str) -> Object {
    let bytes =
        fs::read(repository().join("examples").join(name)).expect("the object is committed");
    let spec = ObjectSpec::parse(&bytes).expect("the example is well-formed");
    let resolved = target::resolve(spec).expect("it resolves for every kernel with BTF");
    let options = LoadOptions { pin_root: None, ..LoadOptions::default() };
    let object = Object::load(&resolved, &options);
    object.unwrap_or_else(|e| {
        let mut text = e.to_string();
        let mut cause: &dyn std::error::Error = &e;
        while let Some(next) = cause.source() {
            text = format!("{text}: {next}");
            cause = next;
        }
        panic!("{name}: {text}")
    })
}

#[test]
fn every_example_without_co_re_loads() {
    require_kernel!(probe::can_load().into_result());
    for name in ["classify.bpf.o", "rewrite.bpf.o", "legacy.bpf.o"] {
        let object = load(name);
        assert!(!object.programs().is_empty(), "{name}");
    }
}

#[test]
fn the_composition_loads_where_the_kernel_has_loops() {
    const LOOP: u32 = 181;
    require_kernel!(probe::can_load().into_result());
    require_kernel!(probe::helper(ProgType::XDP, LOOP).into_result());
    assert_eq!(load("composition.bpf.o").programs().len(), 3);
}

#[test]
fn execsnoop_resolves_and_loads() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(target::vmlinux_btf().map(drop).map_err(|e| e.to_string()));
    assert!(!load("execsnoop.bpf.o").programs().is_empty());
}
