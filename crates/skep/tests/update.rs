//! A program in another's place, and loaded for an interface, as users of the library have it.

use skep::{
    Attach, AttachError, Direction, Engine, Loaded, Object, Program, XdpMode, ifindex,
    kernel::Device,
};
use skep_testing::{Skip, has_tool, require_kernel, sandbox, skip, veth};

fn object(programs: &[&str]) -> Object {
    let path = skep_testing::repository().join("tests/data/objects/redirect.bpf.o");
    let mut object = Object::open(path).expect("the object opens");
    object.select(programs).expect("they are there");
    object.pin_maps(false);
    object
}

fn program<'l>(loaded: &'l Loaded, name: &str) -> &'l Program {
    loaded.program(name).expect("it is there")
}

/// Runs a test on an interface of its own.
fn on_an_interface(test: impl FnOnce(&Engine, u32) + Send) {
    let engine = Engine::kernel();
    require_kernel!(engine.as_ref().map(drop).map_err(ToString::to_string));
    let engine = engine.expect("asked above");
    if !has_tool("ip") {
        skip(Skip::Tool, "update", "no ip command");
        return;
    }
    require_kernel!(sandbox(|| {
        veth("left", "right").expect("ip and veth are there");
        test(&engine, ifindex("left").expect("made"));
    }));
}

#[test]
fn a_link_takes_another_program() {
    on_an_interface(|engine, ifindex| {
        let loaded = object(&["pass", "drop"]).load(engine).expect("all kernels");
        let [pass, drop_all] = ["pass", "drop"].map(|name| program(&loaded, name));
        let mode = XdpMode::Generic;
        let mut link = pass.attach(Attach::Xdp { ifindex, mode }).expect("there is room");
        let wrong = link.update(drop_all, Some(drop_all)).expect_err("it is not the one");
        assert!(matches!(wrong, AttachError::Kernel(_)), "{wrong}");
        link.update(drop_all, Some(pass)).expect("it is the one");
        link.update(pass, Some(drop_all)).expect("it was put there");
        let embedded = object(&["pass"]).load(&Engine::embedded()).expect("it asks for nothing");
        let nowhere = link.update(program(&embedded, "pass"), None);
        assert!(matches!(nowhere, Err(AttachError::NoHooks { .. })), "{nowhere:?}");
        let tc = pass.attach(Attach::Tc { ifindex, direction: Direction::Ingress });
        assert!(tc.is_err(), "it is no TC program");
        link.detach().expect("it detaches");
    });
}

#[test]
fn an_object_is_loaded_for_an_interface() {
    on_an_interface(|engine, index| {
        let mut bound = object(&["pass"]);
        bound.for_device(Device { ifindex: index, offload: false });
        let loaded = bound.load(engine);
        require_kernel!(loaded.as_ref().map(drop).map_err(ToString::to_string));
        let loaded = loaded.expect("asked above");
        let pass = program(&loaded, "pass");
        let at = |ifindex| Attach::Xdp { ifindex, mode: XdpMode::Native };
        let other = ifindex("right").expect("made");
        assert!(pass.attach(at(other)).is_err(), "it is for another interface");
        pass.attach(at(index)).expect("it is for this one").detach().expect("it detaches");
    });
}
