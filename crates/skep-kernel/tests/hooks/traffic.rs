//! Several programs on what an interface sends and receives: tcx, clsact, actions, netkit.

use skep_kernel::{
    AttachError, Link, Program, Target, attach,
    inspect::on_interfaces,
    link::{
        AttachedProgram, Direction, FilterPlace, Method, Neighbour, NetkitEnd, Order, Owner,
        PacketSocket, Position, attach_netkit, attach_tc_clsact_at, attach_tcx, attached, ifindex,
    },
};
use skep_testing::{fired, ip, refused};

use super::{
    AttachType, Counter, ProgType, detach, fires,
    interface::{SECOND, Wire, frame, has_clsact, on_a_wire, received},
    load,
    net::in_own_namespace,
    or_lacking, or_refused,
};

/// Goes on to the next program.
const NEXT: i32 = -1;
const SHOT: i32 = 2;

fn classifier(counter: &Counter, verdict: i32) -> Program {
    load(ProgType::SCHED_CLS, None, &counter.all(verdict))
}

fn id(program: &Program) -> u32 {
    program.info().expect("known").id
}

fn send(wire: &Wire) {
    wire.near.send(&frame(1)).expect("sent");
    received(&wire.far, SECOND).expect("arrived");
}

#[test]
fn tcx_programs_run_in_the_order_asked_for() {
    const HOOK: &str = "tcx, in order";
    on_a_wire(|wire| {
        let index = wire.far_index;
        let counters = [(); 4].map(|()| Counter::new());
        let [a, b, c, d] = counters.each_ref().map(|counter| classifier(counter, NEXT));
        let at = |program: &Program, position| {
            attach_tcx(program, index, Direction::Ingress, &Order::at(position))
        };
        let first = or_lacking(at(&a, Position::Usual), &[libc::EINVAL]);
        let Some(link_a) = or_refused(HOOK, first) else { return };
        let link_of = |link: &Link| link.id().expect("known").expect("it is a link");
        let link_b = at(&b, Position::Before(Neighbour::LinkId(link_of(&link_a)))).expect("a");
        let fd_b = link_b.fd().expect("it is a link");
        let link_c = at(&c, Position::After(Neighbour::Link(fd_b))).expect("b");
        let link_d = at(&d, Position::First).expect("tcx");
        let owner = Owner::Interface(index);
        let found = attached(owner, AttachType::TCX_INGRESS).expect("tcx");
        let expected = [(&d, &link_d), (&b, &link_b), (&c, &link_c), (&a, &link_a)];
        let expected = expected.map(|(program, link)| AttachedProgram {
            program: id(program),
            link: Some(link_of(link)),
        });
        assert_eq!(found.programs, expected);
        send(&wire);
        assert_eq!(counters.each_ref().map(Counter::get), [1; 4]);

        // Somebody who has seen an older state is told.
        let stale = Order { revision: found.revision - 1, ..Order::default() };
        let e = Counter::new();
        let program = classifier(&e, SHOT);
        let refusal = attach_tcx(&program, index, Direction::Ingress, &stale);
        let Err(AttachError::Refused { source, .. }) = refusal else { panic!("{refusal:?}") };
        assert_eq!(source.errno(), libc::ESTALE);
        let order = Order {
            revision: found.revision,
            ..Order::at(Position::Before(Neighbour::LinkId(link_of(&link_b))))
        };
        let shooter = attach_tcx(&program, index, Direction::Ingress, &order).expect("fresh");
        wire.near.send(&frame(2)).expect("sent");
        wire.far.send(&frame(3)).expect("sent");
        received(&wire.near, SECOND).expect("arrived");
        // It stands between d and b: those behind it see nothing.
        assert_eq!((counters.each_ref().map(Counter::get), e.get()), ([1, 1, 1, 2], 1));
        for link in [shooter, link_a, link_b, link_c, link_d] {
            detach(link);
        }
        send(&wire);
        assert_eq!((counters.each_ref().map(Counter::get), e.get()), ([1, 1, 1, 2], 1));
        let found = attached(owner, AttachType::TCX_INGRESS).expect("tcx");
        assert_eq!(found.programs, []);
        fired(HOOK, Method::Link);
    });
}

#[test]
fn a_place_is_a_target_and_a_link_takes_another_program() {
    const HOOK: &str = "tcx, updated";
    on_a_wire(|wire| {
        let (old_count, new_count) = (Counter::new(), Counter::new());
        let (old, new) = (classifier(&old_count, NEXT), classifier(&new_count, NEXT));
        let target = Target::Among {
            ifindex: wire.far_index,
            direction: Direction::Ingress,
            order: Order::at(Position::Last),
        };
        let link = or_lacking(attach(&old, &target), &[libc::EINVAL]);
        let Some(mut link) = or_refused(HOOK, link) else { return };
        send(&wire);
        let wrong = link.update(&new, Some(&new)).expect_err("it has the old one");
        let AttachError::Refused { source, .. } = wrong else { panic!("{wrong}") };
        assert_eq!(source.errno(), libc::EPERM);
        link.update(&new, Some(&old)).expect("it has the old one");
        send(&wire);
        assert_eq!((old_count.get(), new_count.get()), (1, 1));
        fires(HOOK, &new_count, link, || send(&wire));
    });
}

#[test]
fn filters_have_places_and_are_replaced_in_them() {
    on_a_wire(|wire| {
        let index = wire.far_index;
        let counters = [(); 3].map(|()| Counter::new());
        let [a, b, c] = counters.each_ref().map(|counter| classifier(counter, NEXT));
        let at = |program: &Program, priority, handle| {
            let place = FilterPlace { priority, handle };
            attach_tc_clsact_at(program, index, Direction::Ingress, place)
        };
        let mut late = at(&a, 20, 7).expect("every kernel has it");
        let early = at(&b, 10, 1).expect("every kernel has it");
        let taken = at(&c, 20, 7).expect_err("another is there");
        let AttachError::Refused { source, .. } = taken else { panic!("{taken}") };
        assert_eq!(source.errno(), libc::EEXIST);
        send(&wire);
        late.update(&c, None).expect("it takes another program");
        send(&wire);
        assert_eq!(counters.each_ref().map(Counter::get), [1, 2, 1]);
        // A verdict ends the walk: with the lowest number first, the other sees nothing.
        let shot = classifier(&Counter::new(), SHOT);
        let first = at(&shot, 1, 1).expect("every kernel has it");
        wire.near.send(&frame(2)).expect("sent");
        wire.far.send(&frame(3)).expect("sent");
        received(&wire.near, SECOND).expect("arrived");
        assert_eq!(counters.each_ref().map(Counter::get), [1, 2, 1]);
        detach(first);
        detach(early);
        let [_, _, last] = &counters;
        fires("tc, filter at a place, replaced", last, late, || send(&wire));
        assert!(!has_clsact(), "the qdisc goes with its last filter");
    });
}

#[test]
fn an_action_sees_every_packet() {
    const HOOK: &str = "action";
    on_a_wire(|wire| {
        let counter = Counter::new();
        let program = load(ProgType::SCHED_ACT, None, &counter.all(0));
        let link = attach(&program, &Target::interface(wire.far_index));
        let Some(link) = or_refused(HOOK, or_lacking(link, &[libc::ENOENT])) else { return };
        assert_eq!(link.method(), Method::Clsact);
        fires(HOOK, &counter, link, || send(&wire));
        assert!(!has_clsact(), "the qdisc goes with its last filter");
    });
}

#[test]
fn both_ends_of_a_netkit_pair_have_programs() {
    in_own_namespace(|| {
        const HOOKS: [&str; 2] = ["netkit/primary", "netkit/peer"];
        if let Err(reason) = ip("link add type netkit") {
            let reason = reason.split(": ").last().unwrap_or_default();
            for hook in HOOKS {
                refused(hook, reason);
            }
            return;
        }
        // Without options the first is the peer.
        let (peer, primary) = (ifindex("nk0").expect("made"), ifindex("nk1").expect("made"));
        for name in ["nk0", "nk1"] {
            ip(&format!("link set {name} up")).expect("ours");
        }
        let ends = [(NetkitEnd::Primary, primary), (NetkitEnd::Peer, peer)];
        for (hook, (end, sender)) in HOOKS.into_iter().zip(ends) {
            let (count, other) = (Counter::new(), Counter::new());
            let (program, first) = (classifier(&count, NEXT), classifier(&other, NEXT));
            let wrong = attach_netkit(&program, peer, end, &Order::default());
            let Err(AttachError::Refused { source, .. }) = wrong else { panic!("{wrong:?}") };
            assert_eq!(source.errno(), libc::EACCES);
            assert!(source.to_string().contains("name the primary"), "{source}");
            let usual = attach_netkit(&program, primary, end, &Order::default());
            let usual = usual.expect("it is the primary");
            let order = Order::at(Position::Before(Neighbour::Link(usual.fd().expect("a link"))));
            let before = attach_netkit(&first, primary, end, &order).expect("it is there");
            let kind = match end {
                NetkitEnd::Primary => AttachType::NETKIT_PRIMARY,
                NetkitEnd::Peer => AttachType::NETKIT_PEER,
            };
            let found = attached(Owner::Interface(primary), kind).expect("netkit");
            let programs: Vec<u32> = found.programs.iter().map(|at| at.program).collect();
            assert_eq!(programs, [id(&first), id(&program)]);
            // The peer, which the kernel does not let be asked, does not hide the rest.
            let listed = on_interfaces(None).expect("all interfaces");
            let listed: Vec<u32> = listed.iter().map(|found| found.program).collect();
            assert_eq!(listed, programs);
            let socket = PacketSocket::open(sender).expect("root may");
            let send = || socket.send(&frame(1)).expect("sent");
            send();
            assert_eq!(other.get(), count.get());
            detach(before);
            fires(hook, &count, usual, send);
            // By what the section says.
            let object = super::events::object(hook, count.all(NEXT));
            let program = object.program("probe").expect("it is there");
            let link = attach(program, &Target::interface(primary)).expect("it is the primary");
            fires(hook, &count, link, send);
        }
    });
}
