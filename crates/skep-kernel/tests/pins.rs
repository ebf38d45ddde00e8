//! Pins, in a bpf file system of the tests' own.

use std::{path::Path, sync::Arc};

use skep_abi::{MapDef, MapFlags, MapType, ProgType, UpdateMode};
use skep_isa::Slot;
use skep_kernel::{
    LoadError, LoadOptions, Map, Object, Program, ProgramLoad, link::attach_raw_tracepoint, probe,
};
use skep_object::{
    ObjectSpec,
    spec::{MapOrigin, MapSpec, Pinning, ProgramSpec},
};
use skep_testing::{require_kernel, sandbox};

const DEF: MapDef = MapDef {
    map_type: MapType::HASH,
    key_size: 4,
    value_size: 8,
    max_entries: 3,
    flags: MapFlags(0),
    extra: 0,
    numa_node: 0,
};

const RETURN_0: [Slot; 2] = [
    Slot { code: 0xb7, dst: 0, src: 0, off: 0, imm: 0 },
    Slot { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
];

fn object(pinning: Pinning, def: MapDef) -> ObjectSpec {
    let map = MapSpec {
        name: "shared_between_objects".into(),
        def,
        origin: MapOrigin::Btf,
        key_type: None,
        value_type: None,
        pinning,
        inner: None,
        autocreate: true,
        initial: Vec::new(),
        data: None,
        variables: Vec::new(),
    };
    ObjectSpec {
        license: String::new(),
        version: None,
        programs: Vec::new(),
        maps: vec![map],
        externs: Vec::new(),
        btf: None,
    }
}

#[test]
fn maps_programs_and_links_are_found_again() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(sandbox(|| {
        let root = Path::new("/sys/fs/bpf");
        let map = Map::create("kept", DEF, None, None).expect("hashes are everywhere");
        map.update(&[1; 4], &[2; 8], UpdateMode::Any).expect("there is room");
        map.pin(&root.join("map")).expect("pins");
        assert_eq!(map.pin(&root.join("map")).expect_err("taken").errno(), libc_eexist());
        drop(map);
        let map = Map::open_pinned(&root.join("map")).expect("it is there");
        assert_eq!((map.name(), map.def()), ("kept", &DEF));
        assert_eq!(map.lookup_vec(&[1; 4]).expect("readable"), Some(vec![2; 8]));
        assert!(Map::open_pinned(&root.join("nothing")).is_err());

        let load = ProgramLoad::new("kept_prog", ProgType::RAW_TRACEPOINT, &RETURN_0);
        let program = Program::load(&load).expect("it is valid");
        program.pin(&root.join("prog")).expect("pins");
        assert!(Map::open_pinned(&root.join("prog")).is_err(), "a program is no map");
        assert!(Program::open_pinned(&root.join("map")).is_err(), "a map is no program");
        let again = Program::open_pinned(&root.join("prog")).expect("it is there");
        assert_eq!((again.name(), again.prog_type()), ("kept_prog", ProgType::RAW_TRACEPOINT));

        // Links of raw tracepoints can be pinned since they are links: Linux 5.8.
        let link = attach_raw_tracepoint(&program, "sys_exit").expect("attached");
        link.pin(&root.join("link")).expect("pins");
        assert!(root.join("link").exists());
        let outside = map.pin(Path::new("/tmp/skep-no-such-place")).expect_err("not bpffs");
        assert!(!outside.to_string().is_empty());
    }));
}

/// `EEXIST` without a dependency for one number.
const fn libc_eexist() -> i32 {
    17
}

#[test]
fn objects_share_maps_that_are_pinned_by_name() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(sandbox(|| {
        for (pinning, path) in [
            (Pinning::ByName, "/sys/fs/bpf/shared_between_objects"),
            (Pinning::GlobalNs, "/sys/fs/bpf/tc/globals/shared_between_objects"),
        ] {
            let spec = object(pinning, DEF);
            let load = |spec: &ObjectSpec| Object::load_spec(spec, &LoadOptions::default());
            let first = load(&spec).expect("loads");
            assert!(Path::new(path).exists());
            let map =
                |o: &Object| Arc::clone(o.map("shared_between_objects").expect("by its name"));
            map(&first).update(&[5; 4], &[6; 8], UpdateMode::Any).expect("there is room");
            let second = load(&spec).expect("loads");
            assert_eq!(map(&second).lookup_vec(&[5; 4]).expect("readable"), Some(vec![6; 8]));
            assert_eq!(map(&first).id().expect("known"), map(&second).id().expect("known"));

            let other = object(spec.maps[0].pinning.clone(), MapDef { value_size: 16, ..DEF });
            let error = load(&other).expect_err("another shape");
            assert!(matches!(error, LoadError::PinMismatch { .. }), "{error}");
            assert!(error.to_string().contains("value 8 bytes"), "{error}");

            let alone = LoadOptions { pin_root: None, ..LoadOptions::default() };
            let third = Object::load_spec(&spec, &alone).expect("loads");
            assert_ne!(map(&first).id().expect("known"), map(&third).id().expect("known"));
        }
    }));
}

/// An object whose last program the kernel rejects.
fn rejected(pinning: Pinning) -> ObjectSpec {
    let mut spec = object(pinning, DEF);
    spec.programs = vec![ProgramSpec {
        name: "no_result".into(),
        section: "socket".into(),
        prog_type: Some(ProgType::SOCKET_FILTER),
        attach_type: None,
        attach_to: None,
        flags: 0,
        autoload: true,
        insns: RETURN_0[1..].to_vec(),
        subprogs: Vec::new(),
        relocs: Vec::new(),
        core_relos: Vec::new(),
        func_info: Vec::new(),
        line_info: Vec::new(),
        poisoned: Vec::new(),
    }];
    spec
}

#[test]
fn what_does_not_load_leaves_no_pin_behind() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(sandbox(|| {
        let path = Path::new("/sys/fs/bpf/shared_between_objects");
        let load = |spec: &ObjectSpec| Object::load_spec(spec, &LoadOptions::default());
        let error = load(&rejected(Pinning::ByName)).expect_err("R0 has no value");
        assert!(matches!(error, LoadError::Rejected { .. }), "{error}");
        assert!(!path.exists(), "made here, removed here");

        let first = load(&object(Pinning::ByName, DEF)).expect("loads");
        load(&rejected(Pinning::ByName)).expect_err("R0 has no value");
        assert!(path.exists(), "it was there before");
        drop(first);
    }));
}

#[test]
fn what_is_in_the_way_of_a_pin_is_told() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(sandbox(|| {
        let nowhere = Some("/proc/skep-no-such-place".into());
        let options = LoadOptions { pin_root: nowhere, ..LoadOptions::default() };
        let error = Object::load_spec(&object(Pinning::ByName, DEF), &options)
            .expect_err("nobody makes directories there");
        let LoadError::Pin { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.command, "mkdir");
        assert!(error.to_string().contains("/proc/skep-no-such-place/"), "{error}");
    }));
}

#[test]
fn a_pin_for_one_object_only_is_a_notice() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(sandbox(|| {
        let object = Object::load_spec(&object(Pinning::ObjectNs, DEF), &LoadOptions::default())
            .expect("loads");
        let [notice] = object.notices() else { panic!("{:?}", object.notices()) };
        assert!(notice.contains("shared_between_objects"), "{notice}");
        assert!(notice.contains("PIN_OBJECT_NS"), "{notice}");
    }));
}
