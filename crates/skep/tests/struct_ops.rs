//! Structures of functions as users of the library see them: changed before the load, attached,
//! replaced.

use skep::{ChangeError, Engine, Object};
use skep_testing::require_kernel;

fn object() -> Object {
    let path = skep_testing::repository().join("tests/data/objects/tcp_ca.bpf.o");
    Object::open(path).expect("the object opens")
}

#[test]
fn members_and_functions_are_set_before_the_load() {
    let mut object = object();
    assert_eq!(object.variable::<[u8; 16]>("first.name"), Ok(*b"skep_linked\0\0\0\0\0"));
    object.set_variable_text("first.name", "skep_facade").expect("it is text");
    object.set_variable("wrong_number.no_such_number", 0u64).expect("it is a number");
    let e = object.set_variable("first.nam", 0u64).expect_err("there is no such member");
    assert_eq!(e.to_string(), "no member is called `nam`; did you mean `name`?");

    object.set_function("plain.cong_avoid", Some("count_second")).expect("both are there");
    let e = object.set_function("inits", Some("count_second")).expect_err("it is a number");
    assert!(matches!(e, ChangeError::NoFunction { .. }), "{e}");
    assert!(object.set_function("plain.cong_avoid", Some("no_such_program")).is_err());
    object.set_function("first.init", None).expect("it is there");
    let spec = |o: &Object, name: &str| o.program(name).expect("it is there").autoload;
    assert!(spec(&object, "count_init"), "another structure holds it");
    object.set_function("second.init", None).expect("it is there");
    assert!(!spec(&object, "count_init"), "no structure holds it");
}

#[test]
fn a_selection_makes_the_structures_of_its_programs() {
    let mut object = object();
    object.select(&["count_second"]).expect("it is there");
    let made = |o: &Object, name: &str| o.map(name).expect("it is there").autocreate;
    assert!(made(&object, "second") && !made(&object, "first") && !made(&object, "plain"));
    object.create_map("first", true).expect("it is there");
    assert!(made(&object, "first"));
}

#[test]
fn a_structure_is_attached_and_replaced() {
    let engine = Engine::kernel();
    require_kernel!(engine.as_ref().map(drop).map_err(ToString::to_string));
    let mut object = object();
    for map in ["first", "second"] {
        object.set_variable_text(&format!("{map}.name"), "skep_facade").expect("it is text");
    }
    let loaded = match object.load(&engine.expect("asked above")) {
        Ok(loaded) => loaded,
        Err(e) => {
            let reason = format!("{e}: {:?}", std::error::Error::source(&e));
            skep_testing::skip(skep_testing::Skip::Kernel, "struct_ops", &reason);
            return;
        }
    };
    let [first, second, plain] = loaded.struct_ops() else { panic!("three are made") };
    assert!(first.has_link() && !plain.has_link());
    let link = first.attach().expect("it is whole");
    link.update_struct_ops(second).expect("it has the same name");
    assert!(link.update_struct_ops(plain).is_err(), "it is not for links");
    let listed = || std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    assert!(listed().expect("readable").contains("skep_facade"));
    link.detach().expect("it detaches");
    assert!(!listed().expect("readable").contains("skep_facade"));
}
