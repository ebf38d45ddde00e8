//! A network namespace's own hooks.

use std::{fs, net::UdpSocket, os::fd::AsFd as _};

use skep_kernel::{
    Target, attach,
    link::{Netfilter, attach_netfilter, attach_netns},
    probe,
};
use skep_testing::{ip, require_kernel, sandbox};

use super::{AttachType, Counter, ProgType, fires, load, or_lacking, or_refused};

/// Loopback datagram whose port nobody listens at.
fn send() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
    socket.send_to(b"x", "127.0.0.1:9").expect("sent");
}

pub(super) fn in_own_namespace(test: impl FnOnce() + Send) {
    require_kernel!(probe::can_load().into_result());
    if !skep_testing::has_tool("ip") {
        skep_testing::skip(skep_testing::Skip::Tool, "hooks::net", "no ip command");
        return;
    }
    require_kernel!(sandbox(|| {
        ip("link set lo up").expect("the namespace is ours");
        test();
    }));
}

#[test]
fn socket_lookup_fires() {
    in_own_namespace(|| {
        let counter = Counter::new();
        let kind = Some(AttachType::SK_LOOKUP);
        let program = load(ProgType::SK_LOOKUP, kind, &counter.all(1));
        let netns = fs::File::open("/proc/thread-self/ns/net").expect("it is there");
        let link = attach_netns(&program, netns.as_fd()).expect("every kernel has it");
        fires("sk_lookup", &counter, link, send);
        let object = super::events::object("sk_lookup", counter.all(1));
        let program = object.program("probe").expect("it is there");
        let link = attach(program, &Target::Netns(netns.as_fd())).expect("every kernel has it");
        fires("sk_lookup", &counter, link, send);
    });
}

#[test]
fn a_flow_dissector_attaches_and_detaches() {
    in_own_namespace(|| {
        let counter = Counter::new();
        let kind = Some(AttachType::FLOW_DISSECTOR);
        let program = load(ProgType::FLOW_DISSECTOR, kind, &counter.all(0));
        let netns = fs::File::open("/proc/thread-self/ns/net").expect("it is there");
        let link = attach_netns(&program, netns.as_fd()).expect("every kernel has it");
        let again = attach_netns(&program, netns.as_fd()).expect_err("there is one already");
        assert!(matches!(again, skep_kernel::AttachError::Refused { .. }), "{again}");
        link.detach().expect("it detaches");
        drop(attach_netns(&program, netns.as_fd()).expect("the first is gone"));
    });
}

#[test]
fn netfilter_fires() {
    in_own_namespace(|| {
        let counter = Counter::new();
        let insns = counter.all(1);
        let mut new = skep_kernel::ProgramLoad::new("counter", ProgType::NETFILTER, &insns);
        new.attach_type = Some(AttachType::NETFILTER);
        let program = skep_kernel::Program::load(&new).map_err(|e| e.to_string());
        let Some(program) = or_refused("netfilter", program) else { return };
        let at = Netfilter { family: 2, hook: 3, priority: -128, defragment: false };
        let link = or_lacking(attach_netfilter(&program, &at), &[]).expect("it attaches");
        fires("netfilter", &counter, link, send);
    });
}
