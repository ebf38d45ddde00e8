//! XDP by an object that clang made: redirected to another interface and to a CPU, replaced, bound
//! to an interface.

use std::fs;

use skep_kernel::{
    AttachError, Device, LoadError, LoadOptions, Object, Program, ProgramLoad,
    link::{Method, PacketSocket, XdpMode, attach_xdp, attach_xdp_netlink, ifindex},
};
use skep_object::ObjectSpec;
use skep_testing::{fired, repository, veth};

use super::{
    Counter, ProgType, detach,
    interface::{MOMENT, SECOND, Wire, frame, on_a_wire, received},
    or_refused,
    sockets::{map, object, seen},
};

/// Entries of the map `seen`.
const REDIRECTED: u32 = 0;
const AT_DEVICE: u32 = 1;
const AT_CPU: u32 = 2;

fn program<'o>(object: &'o Object, name: &str) -> &'o Program {
    object.program(name).expect("it is there")
}

fn arrives(wire: &Wire) -> bool {
    wire.near.send(&frame(1)).expect("sent");
    received(&wire.far, MOMENT).is_some()
}

#[test]
fn a_program_in_a_device_map_sees_what_is_redirected() {
    const HOOK: &str = "xdp/devmap";
    on_a_wire(|wire| {
        let object = object("redirect.bpf.o", &["pass", "to_device", "at_device"]);
        let Some(object) = or_refused(HOOK, object) else { return };
        veth("out", "outer").expect("ip and veth are there");
        let (out, outer) = (ifindex("out").expect("made"), ifindex("outer").expect("made"));
        // What is redirected to a veth arrives only if its other end has a program.
        let receives = attach_xdp(program(&object, "pass"), outer, XdpMode::Native).expect("veth");
        let redirects = attach_xdp(program(&object, "to_device"), wire.far_index, XdpMode::Native);
        let redirects = redirects.expect("veth");
        let arrived = PacketSocket::open(outer).expect("root may");
        let devices = map(&object, "devices");
        let runs = |count| {
            wire.near.send(&frame(1)).expect("sent");
            received(&arrived, SECOND).expect("it goes out there");
            assert_eq!(seen(&object, AT_DEVICE), count);
        };
        let at_device = program(&object, "at_device");
        devices.set_device(&[0; 4], out, Some(at_device)).expect("it fits");
        runs(1);
        devices.set_device(&[0; 4], out, None).expect("it fits");
        runs(1);
        assert_eq!(seen(&object, REDIRECTED), 2);
        let wrong = devices.set_device(&[0; 4], out, Some(program(&object, "pass")));
        assert_eq!(wrong.expect_err("it is not for device maps").errno(), libc::EINVAL);
        drop((receives, redirects));
        fired(HOOK, "map entry");
    });
}

#[test]
fn a_program_in_a_cpu_map_sees_what_is_redirected() {
    const HOOK: &str = "xdp/cpumap";
    on_a_wire(|wire| {
        let object = object("redirect.bpf.o", &["to_cpu", "at_cpu"]);
        let Some(object) = or_refused(HOOK, object) else { return };
        let redirects = attach_xdp(program(&object, "to_cpu"), wire.far_index, XdpMode::Native);
        let redirects = redirects.expect("veth");
        let cpus = map(&object, "cpus");
        let runs = |count| {
            wire.near.send(&frame(1)).expect("sent");
            received(&wire.far, SECOND).expect("it goes on from there");
            assert_eq!(seen(&object, AT_CPU), count);
        };
        cpus.set_cpu(&[0; 4], 64, Some(program(&object, "at_cpu"))).expect("it fits");
        runs(1);
        cpus.set_cpu(&[0; 4], 64, None).expect("it fits");
        runs(1);
        detach(redirects);
        assert!(arrives(&wire));
        assert_eq!(seen(&object, REDIRECTED), 2);
        fired(HOOK, "map entry");
    });
}

#[test]
fn packets_in_fragments_are_seen() {
    const HOOK: &str = "xdp.frags";
    on_a_wire(|wire| {
        let object = or_refused(HOOK, object("redirect.bpf.o", &["whole"]));
        let Some(object) = object else { return };
        let link = attach_xdp(program(&object, "whole"), wire.far_index, XdpMode::Native);
        let link = link.expect("veth has it");
        assert!(arrives(&wire));
        assert_eq!(seen(&object, REDIRECTED), 1);
        detach(link);
        assert!(arrives(&wire));
        assert_eq!(seen(&object, REDIRECTED), 1, "counted after it was detached");
        fired(HOOK, Method::Link);
    });
}

#[test]
fn xdp_is_replaced_only_by_who_knows_what_is_there() {
    on_a_wire(|wire| {
        let object = object("redirect.bpf.o", &["pass", "drop", "to_cpu"]).expect("all kernels");
        let [pass, drop_all, other] = ["pass", "drop", "to_cpu"].map(|n| program(&object, n));
        let mut link = attach_xdp(pass, wire.far_index, XdpMode::Native).expect("veth");
        assert!(arrives(&wire));
        let wrong = link.update(drop_all, Some(other)).expect_err("another is there");
        assert!(matches!(wrong, AttachError::Refused { .. }), "{wrong}");
        assert!(arrives(&wire));
        link.update(drop_all, Some(pass)).expect("it is the one");
        assert!(!arrives(&wire));
        link.update(pass, None).expect("whatever is there");
        assert!(arrives(&wire));
        detach(link);
        fired("xdp, updated", Method::Link);
    });
}

#[test]
fn xdp_over_netlink_is_replaced_and_removed_only_while_it_is_ours() {
    on_a_wire(|wire| {
        let object = object("redirect.bpf.o", &["pass", "drop"]).expect("all kernels");
        let [pass, drop_all] = ["pass", "drop"].map(|name| program(&object, name));
        let mode = XdpMode::Generic;
        let mut ours = attach_xdp_netlink(pass, wire.far_index, mode).expect("every device");
        ours.update(drop_all, None).expect("ours is there");
        assert!(!arrives(&wire));
        ours.detach().expect("ours is there");
        assert!(arrives(&wire));

        let mut gone = attach_xdp_netlink(pass, wire.far_index, mode).expect("every device");
        skep_testing::ip("link set dev far xdpgeneric off").expect("somebody takes it away");
        let theirs = attach_xdp_netlink(drop_all, wire.far_index, mode).expect("there is room");
        assert!(gone.update(pass, None).is_err(), "another is there");
        gone.detach().expect("nothing of ours is left");
        assert!(!arrives(&wire), "the other's stays");
        drop(theirs);
        assert!(arrives(&wire));
        fired("xdp, updated, without a link", Method::XdpNetlink);
    });
}

#[test]
fn a_program_bound_to_an_interface_goes_nowhere_else() {
    const HOOK: &str = "xdp, bound to an interface";
    on_a_wire(|wire| {
        let path = repository().join("tests/data/objects/redirect.bpf.o");
        let spec = ObjectSpec::parse(&fs::read(path).expect("committed")).expect("well-formed");
        let load = |ifindex, offload| {
            let options = LoadOptions {
                programs: Some(vec!["drop".into()]),
                pin_root: None,
                device: Some(Device { ifindex, offload }),
                ..LoadOptions::default()
            };
            Object::load_spec(&spec, &options)
        };
        let offloaded = load(wire.far_index, true).expect_err("veth runs no programs");
        assert!(matches!(offloaded, LoadError::Map { .. }), "{offloaded:?}");
        let bound = load(wire.far_index, false).map_err(|e| e.to_string());
        let Some(object) = or_refused(HOOK, bound) else { return };
        let drop_all = program(&object, "drop");
        let elsewhere = attach_xdp(drop_all, wire.near_index, XdpMode::Native);
        assert!(matches!(elsewhere, Err(AttachError::Refused { .. })), "{elsewhere:?}");
        let link = attach_xdp(drop_all, wire.far_index, XdpMode::Native).expect("its own");
        assert!(!arrives(&wire));
        detach(link);
        assert!(arrives(&wire));
        let hardware = attach_xdp(drop_all, wire.far_index, XdpMode::Offload);
        let Err(error @ AttachError::Refused { .. }) = hardware else { panic!("{hardware:?}") };
        let source = std::error::Error::source(&error).expect("the kernel's").to_string();
        assert!(source.contains("needs a card"), "{source}");
        fired(HOOK, Method::Link);
    });
}

/// libxdp calls its program so, and puts others into it: taking its place would take all of theirs.
#[test]
fn a_dispatcher_is_left_alone_and_the_error_says_what_to_do() {
    on_a_wire(|wire| {
        let counter = Counter::new();
        let insns = counter.all(2);
        let dispatcher = ProgramLoad::new("xdp_dispatcher", ProgType::XDP, &insns);
        let dispatcher = Program::load(&dispatcher).expect("it is valid");
        let mode = XdpMode::Generic;
        let there = attach_xdp(&dispatcher, wire.far_index, mode).expect("every device");
        let ours = super::load(ProgType::XDP, None, &insns);
        for refusal in [
            attach_xdp(&ours, wire.far_index, mode),
            attach_xdp_netlink(&ours, wire.far_index, mode),
        ] {
            let Err(error @ AttachError::Occupied { .. }) = refusal else { panic!("{refusal:?}") };
            let text = error.to_string();
            assert!(text.contains("'xdp_dispatcher'") && text.contains("xdp-loader"), "{text}");
        }
        detach(there);
        detach(attach_xdp(&ours, wire.far_index, mode).expect("there is room now"));
    });
}
