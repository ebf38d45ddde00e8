//! A user without rights, on a machine that lets everybody load socket filters.
//!
//! Only in a virtual machine: the setting is the whole machine's.

use std::{
    fs,
    net::UdpSocket,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{Command, Stdio},
    time::Duration,
};

use skep_abi::{MapDef, MapFlags, MapType, ProgType, UpdateMode};
use skep_isa::Slot;
use skep_kernel::{
    Map, Program, ProgramLoad,
    link::attach_socket_filter,
    probe,
    rights::{Capability, lacking},
};
use skep_testing::require_kernel;

const SETTING: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";
const NOBODY: u32 = 65534;

fn program(prog_type: ProgType, verdict: i32) -> Program {
    let insns = [
        Slot { code: 0xb7, dst: 0, src: 0, off: 0, imm: verdict },
        Slot { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
    ];
    Program::load(&ProgramLoad::new("nobody", prog_type, &insns)).expect("it is valid")
}

/// The user without rights: nothing unless the test below started it.
#[test]
fn as_nobody() {
    if std::env::var_os("SKEP_TEST_NOBODY").is_none() {
        return;
    }
    assert!(probe::can_load().is_yes(), "{:?}", probe::can_load());
    assert!(lacking(&[Capability::BPF]).is_some_and(|text| text.contains("CAP_BPF")));
    let def = MapDef {
        map_type: MapType::ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 1,
        flags: MapFlags(0),
        extra: 0,
        numa_node: 0,
    };
    let map = Map::create("nobody", def, None, None).expect("arrays are for everybody");
    map.update(&[0; 4], &[7; 8], UpdateMode::Any).expect("it is ours");

    let near = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
    near.set_read_timeout(Some(Duration::from_millis(200))).expect("settable");
    let to_itself = near.local_addr().expect("bound");
    let arrives = || {
        near.send_to(b"x", to_itself).expect("sent");
        near.recv(&mut [0; 8]).is_ok()
    };
    assert!(arrives());
    let none = program(ProgType::SOCKET_FILTER, 0);
    let link = attach_socket_filter(&none, near.as_fd()).expect("the socket is ours");
    assert!(!arrives(), "the filter keeps nothing");
    link.detach().expect("it is ours");
    assert!(arrives());

    let insns = [
        Slot { code: 0xb7, dst: 0, src: 0, off: 0, imm: 2 },
        Slot { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
    ];
    let refused = Program::load(&ProgramLoad::new("nobody", ProgType::XDP, &insns));
    let error = refused.expect_err("XDP is not for everybody").to_string();
    assert!(error.contains("CAP_"), "{error}");
}

#[test]
fn socket_filters_need_no_rights_where_the_machine_allows_it() {
    let in_guest = std::env::var_os("SKEP_GUEST").map(drop);
    require_kernel!(in_guest.ok_or("the setting is the whole machine's".to_owned()));
    let before = fs::read_to_string(SETTING).expect("every kernel has it");
    require_kernel!(fs::write(SETTING, "0").map_err(|e| format!("{SETTING}: {e}")));
    let status = Command::new(std::env::current_exe().expect("it runs"))
        .args(["--exact", "as_nobody", "--nocapture"])
        .env("SKEP_TEST_NOBODY", "1")
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    fs::write(SETTING, before.trim()).expect("it was written before");
    assert!(status.expect("it starts").success());
}
