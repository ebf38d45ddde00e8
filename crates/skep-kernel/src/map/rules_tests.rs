//! The kernel's rules for new maps, as `skep_abi` has them, against the running kernel.

use skep_abi::{MapNeeds, MapRule};
use skep_testing::require_kernel;

use super::*;
use crate::probe;

/// Changes that a rule may forbid.
fn changes(def: MapDef) -> Vec<MapDef> {
    let mut all = Vec::new();
    for n in [0, 1, 2, 4, 5, 8, 16, 261, 513] {
        all.push(MapDef { key_size: n, ..def });
        all.push(MapDef { value_size: n, ..def });
    }
    for n in [0, 1, 4096, 5000] {
        all.push(MapDef { max_entries: n, ..def });
    }
    for &(flag, _) in MapFlags::ALL {
        // These ask for a descriptor that is not given.
        if ![MapFlags::VTYPE_BTF_OBJ_FD, MapFlags::TOKEN_FD].contains(&flag) {
            all.push(MapDef { flags: def.flags.with(flag), ..def });
        }
    }
    all.push(MapDef { flags: MapFlags(0), ..def });
    all.push(MapDef { extra: 1, ..def });
    all
}

/// Made without filling anything in.
fn make(def: MapDef, inner: Option<&Map>) -> Result<MapFd, SysError> {
    MapFd::create(&sys::MapCreate {
        name: "rule",
        def,
        inner: inner.map(Map::as_fd),
        btf: None,
        kernel_value: None,
        token: None,
        ifindex: 0,
    })
}

/// Every change of every type that needs no more than its definition: the kernel refuses what
/// breaks a rule, with the errno that the rule names, and makes the rest.
#[test]
fn the_kernel_keeps_the_same_rules() {
    require_kernel!(probe::can_load().into_result());
    let inner = Map::create(
        "inner",
        MapRule::of(MapType::HASH).unwrap().smallest(sys::page_bytes()),
        None,
        None,
    )
    .unwrap();
    let mut compared = 0;
    let mut differ = Vec::new();
    for rule in MapType::ALL.iter().filter_map(|&t| MapRule::of(t)) {
        let inner = match rule.needs {
            MapNeeds::Nothing => None,
            MapNeeds::Inner => Some(&inner),
            _ => continue,
        };
        let whole = rule.smallest(sys::page_bytes());
        if make(whole, inner).is_err() {
            assert!(!probe::map_type(rule.map_type).is_yes(), "{whole:?}");
            continue;
        }
        for def in changes(whole) {
            let want = def.check(sys::page_bytes()).err().map(|broken| broken.errno);
            let got = make(def, inner).err().map(|e| e.errno());
            compared += 1;
            // A flag that this kernel does not know yet, or that the machine has no use for.
            let young = got == Some(libc::EINVAL) && want.is_none() && def.flags != whole.flags;
            // How many CPUs a kernel may have is a matter of its configuration.
            let cpus = got == Some(libc::E2BIG) && def.map_type == MapType::CPUMAP;
            // Before Linux 5.11 the key of a hash was put on the stack.
            let stack = got == Some(libc::E2BIG) && def.key_size > 512;
            if got != want && !young && !cpus && !stack {
                differ.push(format!("{def:?}: kernel {got:?}, rule {want:?}"));
            }
        }
    }
    assert_eq!(differ, [""; 0], "of {compared}");
    assert!(compared > 500, "{compared}");
}
