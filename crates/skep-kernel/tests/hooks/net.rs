//! A network namespace's own hooks.

use std::{fs, net::UdpSocket, os::fd::AsFd as _};

use skep_kernel::{
    AttachError, Program, ProgramLoad, Target, attach,
    link::{
        Method, Netfilter, Owner, PacketSocket, attach_netfilter, attach_netns, attached, ifindex,
    },
    probe,
};
use skep_testing::{fired, ip, require_kernel, sandbox};

use super::{AttachType, Counter, ProgType, detach, fires, load, or_lacking, or_refused};

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
fn several_socket_lookups_run_until_one_decides() {
    in_own_namespace(|| {
        let counters = [(); 3].map(|()| Counter::new());
        let [pass, drop_all, unseen] = &counters;
        let kind = Some(AttachType::SK_LOOKUP);
        let programs = [(pass, 1), (drop_all, 0), (unseen, 1)]
            .map(|(counter, verdict)| load(ProgType::SK_LOOKUP, kind, &counter.all(verdict)));
        let netns = fs::File::open("/proc/thread-self/ns/net").expect("it is there");
        let links = programs
            .each_ref()
            .map(|program| attach_netns(program, netns.as_fd()).expect("every kernel has it"));
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
        let to = receiver.local_addr().expect("bound");
        receiver.send_to(b"x", to).expect("sent");
        // A drop counts against a pass, and does not end the walk. One packet is looked up for
        // more than once.
        let counts = counters.each_ref().map(Counter::get);
        let [first, ..] = counts;
        assert!(first > 0);
        assert_eq!(counts, [first; 3]);
        receiver.set_nonblocking(true).expect("settable");
        assert!(receiver.recv(&mut [0; 8]).is_err(), "one has dropped it");
        let query = attached(Owner::Netns(netns.as_fd()), AttachType::SK_LOOKUP);
        let found: Vec<u32> =
            query.expect("it is a namespace").programs.iter().map(|at| at.program).collect();
        assert_eq!(found, programs.map(|program| program.info().expect("known").id));
        for link in links {
            detach(link);
        }
        receiver.send_to(b"x", to).expect("sent");
        receiver.recv(&mut [0; 8]).expect("nobody drops it any more");
        assert_eq!(counters.each_ref().map(Counter::get), [first; 3]);
        fired("sk_lookup, several", Method::Link);
    });
}

/// Packets into a tunnel, whose outer port comes from a hash of the inner packet.
fn through_a_tunnel(tunnel: &PacketSocket) {
    let mut frame = [0; 60];
    frame[..12].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1]);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    tunnel.send(&frame).expect("sent");
    std::thread::sleep(std::time::Duration::from_millis(50));
}

#[test]
fn a_flow_dissector_fires() {
    const HOOK: &str = "flow_dissector";
    const BPF_OK: i32 = 0;
    in_own_namespace(|| {
        let counter = Counter::new();
        let kind = Some(AttachType::FLOW_DISSECTOR);
        let program = load(ProgType::FLOW_DISSECTOR, kind, &counter.all(BPF_OK));
        let netns = fs::File::open("/proc/thread-self/ns/net").expect("it is there");
        let mut link = attach_netns(&program, netns.as_fd()).expect("every kernel has it");
        let again = attach_netns(&program, netns.as_fd()).expect_err("there is one already");
        assert!(matches!(again, AttachError::Refused { .. }), "{again}");
        let made = ip("link add tunnel type vxlan id 7 remote 127.0.0.1 dstport 4789 dev lo");
        if let Some(_made) = or_refused(HOOK, made.map_err(|_| "no vxlan here".to_owned())) {
            ip("link set tunnel up").expect("ours");
            let tunnel = PacketSocket::open(ifindex("tunnel").expect("made")).expect("root may");
            through_a_tunnel(&tunnel);
            assert!(counter.get() > 0, "nothing was dissected");
            let other = Counter::new();
            let new = load(ProgType::FLOW_DISSECTOR, kind, &other.all(BPF_OK));
            link.update(&new, Some(&program)).expect("it has the old one");
            fires(HOOK, &other, link, || through_a_tunnel(&tunnel));
        }
        drop(attach_netns(&program, netns.as_fd()).expect("the first is gone"));
    });
}

fn netfilter(counter: &Counter) -> Result<Program, String> {
    let insns = counter.all(1);
    let mut new = ProgramLoad::new("counter", ProgType::NETFILTER, &insns);
    new.attach_type = Some(AttachType::NETFILTER);
    Program::load(&new).map_err(|e| e.to_string())
}

/// Priorities of one hook are each another's.
const LOCAL_OUT: Netfilter = Netfilter { family: 2, hook: 3, priority: -128, defragment: false };

#[test]
fn netfilter_fires_for_both_families() {
    in_own_namespace(|| {
        fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "0").ok();
        for (hook, family, to) in
            [("netfilter", 2, "127.0.0.1:9"), ("netfilter, IPv6", 10, "[::1]:9")]
        {
            let counter = Counter::new();
            let Some(program) = or_refused(hook, netfilter(&counter)) else { continue };
            let at = Netfilter { family, ..LOCAL_OUT };
            let link = attach(&program, &Target::Netfilter(at)).expect("it attaches");
            fires(hook, &counter, link, || {
                let near = if family == 2 { "127.0.0.1:0" } else { "[::1]:0" };
                let socket = UdpSocket::bind(near).expect("loopback is up");
                socket.send_to(b"x", to).expect("sent");
            });
        }
    });
}

#[test]
fn netfilter_programs_run_by_priority_and_a_drop_ends_the_walk() {
    const HOOK: &str = "netfilter, by priority";
    in_own_namespace(|| {
        let [first, last] = [(); 2].map(|()| Counter::new());
        let Some(late) = or_refused(HOOK, netfilter(&last)) else { return };
        let late = attach_netfilter(&late, &Netfilter { priority: 50, ..LOCAL_OUT });
        let late = late.expect("it attaches");
        let insns = first.all(0);
        let mut new = ProgramLoad::new("dropper", ProgType::NETFILTER, &insns);
        new.attach_type = Some(AttachType::NETFILTER);
        let dropper = Program::load(&new).expect("as the other");
        let early = attach_netfilter(&dropper, &Netfilter { priority: -50, ..LOCAL_OUT });
        let early = early.expect("it attaches");
        let taken = attach_netfilter(&dropper, &Netfilter { priority: -50, ..LOCAL_OUT });
        assert!(matches!(taken, Err(AttachError::Refused { .. })), "{taken:?}");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
        socket.send_to(b"x", "127.0.0.1:9").expect_err("it is dropped");
        assert_eq!((first.get(), last.get()), (1, 0));
        detach(early);
        fires(HOOK, &last, late, send);
    });
}

#[test]
fn netfilter_puts_fragments_together_first() {
    const HOOK: &str = "netfilter, defragmented";
    in_own_namespace(|| {
        ip("link set lo mtu 1500").expect("the namespace is ours");
        let at = Netfilter { hook: 0, ..LOCAL_OUT };
        let receiver = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
        let to = receiver.local_addr().expect("bound");
        for (defragment, packets) in [(false, 3), (true, 1)] {
            let counter = Counter::new();
            let Some(program) = or_refused(HOOK, netfilter(&counter)) else { return };
            let link = attach_netfilter(&program, &Netfilter { defragment, ..at });
            let link = or_lacking(link, &[libc::ENOENT, libc::EOPNOTSUPP]);
            let Some(link) = or_refused(HOOK, link) else { return };
            receiver.send_to(&[0; 4000], to).expect("sent");
            assert_eq!(counter.get(), packets, "{defragment}");
            detach(link);
        }
        fired(HOOK, Method::Link);
    });
}
