use skep_testing::require_kernel;

use super::*;

#[test]
fn a_hash_map_works_wherever_programs_do() {
    require_kernel!(can_load().into_result());
    assert!(map_type(MapType::HASH).is_yes());
    assert!(map_type(MapType::LPM_TRIE).is_yes());
    assert!(prog_type(ProgType::XDP).is_yes());
}

#[test]
fn every_type_is_decided() {
    require_kernel!(can_load().into_result());
    for &t in ProgType::ALL.iter().filter(|&&t| t != ProgType::UNSPEC) {
        let answer = prog_type(t);
        assert!(!matches!(answer, Support::Unknown(_)), "{t}: {answer:?}");
        eprintln!("{t}: {answer:?}");
    }
    for &t in MapType::ALL.iter().filter(|&&t| t != MapType::UNSPEC) {
        let answer = map_type(t);
        assert!(!matches!(answer, Support::Unknown(_)), "{t}: {answer:?}");
        eprintln!("{t}: {answer:?}");
    }
}

#[test]
fn helpers_are_known_by_type() {
    require_kernel!(can_load().into_result());
    let (map_lookup, redirect) = (1, 23);
    assert_eq!(helper(ProgType::SOCKET_FILTER, map_lookup), Support::Yes);
    assert!(helper(ProgType::XDP, redirect).is_yes());
    assert!(matches!(helper(ProgType::SOCKET_FILTER, redirect), Support::No(_)));
    assert!(matches!(helper(ProgType::XDP, 100_000), Support::No(_)));
    let types = helper_types(redirect);
    assert!(helper_types(100_000).is_empty());
    assert!(types.contains(&ProgType::SCHED_CLS) && !types.contains(&ProgType::SOCKET_FILTER));
}

#[test]
fn a_function_of_the_kernel_is_allowed_by_type() {
    require_kernel!(can_load().into_result());
    assert!(matches!(kfunc(ProgType::XDP, "no_such_function"), Support::No(_)));
    // It is in the kernel's BTF, and not for programs.
    assert!(matches!(kfunc(ProgType::XDP, "bpf_fentry_test1"), Support::No(_)));
}

#[test]
fn a_type_from_the_future_is_a_no() {
    require_kernel!(can_load().into_result());
    assert!(matches!(map_type(MapType(4000)), Support::No(_)));
    assert!(matches!(prog_type(ProgType(4000)), Support::No(_)));
}

#[test]
fn levels_of_instructions_do_not_skip_one() {
    require_kernel!(can_load().into_result());
    let answers: Vec<_> = INSTRUCTIONS.iter().map(|row| (row, row.probe())).collect();
    for (row, answer) in &answers {
        eprintln!("{}: {answer:?}", row.name);
        assert!(!matches!(answer, Support::Unknown(_)), "{}: {answer:?}", row.name);
    }
    let has = |level| answers.iter().filter(|(r, _)| r.level == Some(level)).all(|a| a.1.is_yes());
    assert!(has(1) && has(2), "every kernel with bpf links has them");
    assert!(!has(4) || has(3), "{answers:?}");
}

/// What is tried is gone afterwards, and the answers fit what loading says.
#[test]
fn ways_to_attach_are_tried_and_leave_nothing() {
    require_kernel!(can_load().into_result());
    let hooks: Vec<_> =
        [tracing_hooks(), cgroup_hooks(), network_hooks()].into_iter().flatten().collect();
    for (name, answer) in &hooks {
        eprintln!("{name}: {answer:?}");
    }
    let answer = |name: &str| &hooks.iter().find(|(n, _)| n == name).expect(name).1;
    for name in
        ["raw_tracepoint", "uprobe", "perf_event, software clock", "socket", "tc, by clsact"]
    {
        assert_eq!(answer(name), &Support::Yes, "{name}");
    }
    assert_eq!(answer("freplace").is_yes(), prog_type(ProgType::EXT).is_yes());
    let left = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let own = format!("skep-probe-{}", std::process::id());
    assert!(left.into_iter().all(|entry| entry.file_name() != own.as_str()));
}

#[test]
fn kinds_of_btf_are_told_apart() {
    require_kernel!(can_load().into_result());
    let kinds = btf_kinds();
    eprintln!("{kinds:?}");
    assert!(kinds[0].1.is_yes());
}

#[test]
fn what_only_iterators_may_call_is_asked_with_one() {
    require_kernel!(can_load().into_result());
    assert!(kfunc_types("bpf_sock_destroy").is_err(), "no ordinary program may");
    let (destroy, seq_write) = (iterator_kfunc("bpf_sock_destroy"), iterator_helper(127));
    assert!(seq_write.is_yes(), "{seq_write:?}");
    match destroy {
        Support::Yes => {}
        // Linux 6.5.
        Support::No(why) => assert_eq!(why, "this kernel has no bpf_sock_destroy"),
        Support::Unknown(why) => panic!("{why}"),
    }
}
