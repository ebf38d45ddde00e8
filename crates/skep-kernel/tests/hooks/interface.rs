//! XDP, TC and socket filters on interfaces of the tests' own.

use std::{os::fd::AsFd as _, time::Duration};

use skep_kernel::{
    AttachError, Program, Target, attach,
    link::{
        Direction, FilterPlace, Method, PacketSocket, XdpMode, attach_socket_filter, attach_tc,
        attach_tc_clsact, attach_tc_clsact_at, attach_xdp, attach_xdp_netlink, ifindex,
    },
    probe,
};
use skep_testing::{fired, require_kernel, sandbox, veth};

use super::{Counter, ProgType, load};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MOMENT: Duration = Duration::from_millis(100);

/// A program that counts, and returns `verdict`.
fn counter(counter: &Counter, prog_type: ProgType, verdict: i32) -> Program {
    load(prog_type, None, &counter.all(verdict))
}

/// A frame of 60 bytes that no protocol claims: local experimental Ethertype.
pub(crate) fn frame(n: u8) -> [u8; 60] {
    let mut frame = [n; 60];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

/// Receives what arrives at `socket` among our frames.
pub(crate) fn received(socket: &PacketSocket, patience: Duration) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    while let Some(len) = socket.receive(&mut buffer, patience).expect("the interface is up") {
        if buffer.get(12..14) == Some(&[0x88, 0xb5]) {
            return Some(buffer.into_iter().take(len).collect());
        }
    }
    None
}

pub(crate) struct Wire {
    pub(crate) near: PacketSocket,
    pub(crate) far: PacketSocket,
    pub(crate) near_index: u32,
    pub(crate) far_index: u32,
}

/// Two ends of a cable: what is sent at the near end arrives at the far end.
pub(crate) fn wire() -> Wire {
    veth("near", "far").expect("ip and veth are there");
    let (near, far) = (ifindex("near").expect("made"), ifindex("far").expect("made"));
    let open = |index| PacketSocket::open(index).expect("root may");
    Wire { near: open(near), far: open(far), near_index: near, far_index: far }
}

/// Runs a test on a wire, or skips it.
pub(crate) fn on_a_wire(test: impl FnOnce(Wire) + Send) {
    require_kernel!(probe::can_load().into_result());
    if !skep_testing::has_tool("ip") {
        skep_testing::skip(skep_testing::Skip::Tool, "net", "no ip command");
        return;
    }
    require_kernel!(sandbox(|| test(wire())));
}

#[test]
fn a_frame_arrives_when_nobody_stops_it() {
    on_a_wire(|wire| {
        wire.near.send(&frame(1)).expect("sent");
        assert_eq!(received(&wire.far, SECOND).expect("arrived"), frame(1));
    });
}

#[test]
fn xdp_drops_in_every_mode_until_it_is_detached() {
    on_a_wire(|wire| {
        for mode in [XdpMode::Generic, XdpMode::Native, XdpMode::Auto] {
            let counted = Counter::new();
            let drop_all = counter(&counted, ProgType::XDP, 1);
            let link = attach_xdp(&drop_all, wire.far_index, mode).expect("veth has every mode");
            let busy = attach_xdp(&drop_all, wire.far_index, mode);
            let Err(AttachError::Occupied { by, .. }) = busy else { panic!("{busy:?}") };
            let runs = if mode == XdpMode::Generic { "generic" } else { "native" };
            let id = drop_all.info().expect("known").id;
            assert_eq!(&*by, format!("program 'counter' (id {id}, {runs})"));
            wire.near.send(&frame(2)).expect("sent");
            assert_eq!(received(&wire.far, MOMENT), None, "{mode}");
            assert_eq!(counted.get(), 1, "{mode}");
            let by = link.method();
            link.detach().expect("detaches");
            wire.near.send(&frame(3)).expect("sent");
            assert_eq!(received(&wire.far, SECOND).expect("arrived"), frame(3), "{mode}");
            assert_eq!(counted.get(), 1, "{mode}");
            fired(&format!("xdp, {mode}"), by);
        }
    });
}

#[test]
fn the_old_way_of_xdp_works_too() {
    on_a_wire(|wire| {
        for mode in [XdpMode::Generic, XdpMode::Native] {
            let counted = Counter::new();
            let drop_all = counter(&counted, ProgType::XDP, 1);
            let link = attach_xdp_netlink(&drop_all, wire.far_index, mode).expect("attached");
            assert_eq!(link.method(), Method::XdpNetlink);
            assert!(attach_xdp_netlink(&drop_all, wire.far_index, mode).is_err(), "{mode}");
            wire.near.send(&frame(2)).expect("sent");
            assert_eq!(received(&wire.far, MOMENT), None, "{mode}");
            drop(link);
            wire.near.send(&frame(3)).expect("sent");
            assert_eq!(received(&wire.far, SECOND).expect("arrived"), frame(3), "{mode}");
            assert_eq!(counted.get(), 1, "{mode}");
            fired(&format!("xdp, {mode}, without a link"), Method::XdpNetlink);
        }
    });
}

#[test]
fn tc_sees_both_directions_and_drops() {
    const SHOT: i32 = 2;
    on_a_wire(|wire| {
        let (arriving, leaving) = (Counter::new(), Counter::new());
        let ingress = counter(&arriving, ProgType::SCHED_CLS, SHOT);
        let egress = counter(&leaving, ProgType::SCHED_CLS, 0);
        let links = [
            attach_tc(&ingress, wire.far_index, Direction::Ingress).expect("attached"),
            attach_tc(&egress, wire.far_index, Direction::Egress).expect("attached"),
        ];
        assert!(matches!(links[0].method(), Method::Link | Method::Clsact));
        wire.near.send(&frame(4)).expect("sent");
        wire.far.send(&frame(5)).expect("sent");
        assert_eq!(received(&wire.near, SECOND).expect("arrived"), frame(5));
        assert_eq!((arriving.get(), leaving.get()), (1, 1));
        let by = links[0].method();
        drop(links);
        wire.near.send(&frame(6)).expect("sent");
        wire.far.send(&frame(7)).expect("sent");
        assert_eq!(received(&wire.near, SECOND).expect("arrived"), frame(7));
        assert_eq!((arriving.get(), leaving.get()), (1, 1));
        fired("tc, both directions", by);
    });
}

#[test]
fn the_old_way_of_tc_works_too_and_cleans_up() {
    on_a_wire(|wire| {
        let counted = Counter::new();
        let program = counter(&counted, ProgType::SCHED_CLS, 0);
        let attach = || {
            attach_tc_clsact(&program, wire.far_index, Direction::Ingress)
                .expect("clsact and cls_bpf are there")
        };
        let (first, second) = (attach(), attach());
        assert_eq!(first.method(), Method::Clsact);
        assert!(has_clsact() || !skep_testing::has_tool("tc"));
        wire.near.send(&frame(8)).expect("sent");
        assert!(received(&wire.far, SECOND).is_some());
        let both = counted.get();
        assert!(both >= 1);
        first.detach().expect("its filter goes, the qdisc stays for the other");
        wire.near.send(&frame(9)).expect("sent");
        assert!(received(&wire.far, SECOND).is_some());
        assert_eq!(counted.get(), both + 1);
        second.detach().expect("detaches");
        assert!(!has_clsact(), "the qdisc goes with its last filter");
        fired("tc, without a link", Method::Clsact);
    });
}

/// The qdisc may have been made here, and still have filters of others, on one protocol only.
#[test]
fn the_qdisc_stays_while_somebody_elses_filter_is_on_it() {
    on_a_wire(|wire| {
        if !skep_testing::has_tool("tc") {
            return skep_testing::skip(skep_testing::Skip::Tool, "clsact", "no tc command");
        }
        let pass = counter(&Counter::new(), ProgType::SCHED_CLS, -1);
        let link = attach_tc_clsact(&pass, wire.far_index, Direction::Ingress).expect("attached");
        tc("filter add dev far egress protocol ip pref 5 bpf bytecode 1,6_0_0_0");
        let theirs = || tc("filter show dev far egress");
        assert!(theirs().contains("pref 5"), "{}", theirs());
        link.detach().expect("detaches");
        assert!(theirs().contains("pref 5"), "it went with our filter");
        assert!(!tc("filter show dev far ingress").contains("skep"));
    });
}

/// Somebody has removed ours, and put theirs at the place that the kernel had chosen.
#[test]
fn a_filter_that_came_in_the_place_of_ours_stays() {
    on_a_wire(|wire| {
        if !skep_testing::has_tool("tc") {
            return skep_testing::skip(skep_testing::Skip::Tool, "clsact", "no tc command");
        }
        let pass = counter(&Counter::new(), ProgType::SCHED_CLS, -1);
        let place = FilterPlace { priority: 5, handle: 1 };
        let link = attach_tc_clsact_at(&pass, wire.far_index, Direction::Egress, place);
        let mut link = link.expect("attached");
        tc("filter del dev far egress pref 5");
        tc("filter add dev far egress pref 5 handle 1 bpf bytecode 1,6_0_0_0");
        let theirs = || tc("filter show dev far egress");
        assert!(theirs().contains("bytecode"), "{}", theirs());
        let update = link.update(&pass, None).expect_err("it is not ours");
        let AttachError::Refused { source, .. } = update else { panic!("{update}") };
        assert_eq!(source.errno(), libc::EPERM);
        assert_eq!(link.detach().expect_err("it is not ours").errno(), libc::ENOENT);
        assert!(theirs().contains("bytecode"), "it was taken for ours");
    });
}

/// Runs `tc`. A `_` is a blank inside an argument.
fn tc(arguments: &str) -> String {
    let mut command = std::process::Command::new("tc");
    let out = command.args(arguments.split(' ').map(|a| a.replace('_', " "))).output();
    String::from_utf8(out.expect("it is there").stdout).expect("it is text")
}

/// Interfaces of another namespace may have the same number: a link must not take away theirs.
#[test]
fn links_end_where_they_were_made() {
    on_a_wire(|here| {
        let counted = Counter::new();
        let drop_all = counter(&counted, ProgType::XDP, 1);
        let xdp = attach_xdp_netlink(&drop_all, here.far_index, XdpMode::Generic);
        let pass = counter(&counted, ProgType::SCHED_CLS, 0);
        let tc = attach_tc_clsact(&pass, here.near_index, Direction::Egress);
        let links = [xdp.expect("attached"), tc.expect("attached")];
        let elsewhere = sandbox(|| {
            let there = wire();
            assert_eq!(there.far_index, here.far_index, "the numbers are the same");
            let count_there = Counter::new();
            let stay = counter(&count_there, ProgType::XDP, 1);
            let stay = attach_xdp_netlink(&stay, there.far_index, XdpMode::Generic);
            for link in links {
                link.detach().expect("detaches");
            }
            there.near.send(&frame(13)).expect("sent");
            assert_eq!(received(&there.far, MOMENT), None, "this one stays");
            drop(stay);
        });
        elsewhere.expect("it worked before");
        let before = counted.get();
        here.near.send(&frame(14)).expect("sent");
        assert_eq!(received(&here.far, SECOND).expect("arrived"), frame(14));
        assert_eq!(counted.get(), before, "neither is left");
        assert!(!has_clsact());
    });
}

/// Is there a clsact qdisc in this namespace?
pub(crate) fn has_clsact() -> bool {
    let out = std::process::Command::new("tc").args(["qdisc", "show"]).output();
    out.is_ok_and(|out| String::from_utf8_lossy(&out.stdout).contains("clsact"))
}

#[test]
fn a_socket_filter_decides_what_a_socket_keeps() {
    on_a_wire(|wire| {
        let counted = Counter::new();
        let keep_20 = counter(&counted, ProgType::SOCKET_FILTER, 20);
        let link = attach_socket_filter(&keep_20, wire.far.as_fd()).expect("attached");
        assert_eq!(link.method(), Method::SocketOption);
        wire.near.send(&frame(10)).expect("sent");
        assert_eq!(received(&wire.far, SECOND).expect("arrived"), frame(10)[..20]);
        assert_eq!(counted.get(), 1);
        drop(link);
        wire.near.send(&frame(11)).expect("sent");
        assert_eq!(received(&wire.far, SECOND).expect("arrived"), frame(11));
        assert_eq!(counted.get(), 1);
        fired("socket", Method::SocketOption);
    });
}

#[test]
fn programs_attach_by_their_kind_to_an_interface() {
    on_a_wire(|wire| {
        for (prog_type, verdict) in
            [(ProgType::XDP, 2), (ProgType::SCHED_CLS, 0), (ProgType::SOCKET_FILTER, 0)]
        {
            let counted = Counter::new();
            let program = counter(&counted, prog_type, verdict);
            let nowhere = attach(&program, &Target::Section);
            assert!(matches!(nowhere, Err(AttachError::NeedsTarget { .. })), "{prog_type}");
            let link = attach(&program, &Target::interface(wire.far_index)).expect("attached");
            wire.near.send(&frame(12)).expect("sent");
            assert_eq!(received(&wire.far, SECOND).expect("arrived"), frame(12), "{prog_type}");
            assert_eq!(counted.get(), 1, "{prog_type}");
            drop(link);
        }
    });
}
