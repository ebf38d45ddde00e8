//! Objects made by hand, loaded into the running kernel.

use skep_abi::{MapDef, MapFlags, MapType, ProgType};
use skep_isa::{Pc, Slot};
use skep_object::spec::{
    ExternKind, ExternSpec, InitialEntry, InitialValue, MapOrigin, MapSpec, Pinning, ProgramSpec,
    Reloc, RelocTarget, Subprog,
};
use skep_testing::require_kernel;

use super::*;
use crate::{
    TestRunOptions, probe,
    sys::{
        Call,
        fake::{Answer, Fake},
    },
};

fn slot(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Slot {
    Slot { code, dst, src, off, imm }
}

fn map(name: &str, map_type: MapType, max_entries: u32) -> MapSpec {
    MapSpec {
        name: name.into(),
        def: MapDef {
            map_type,
            key_size: 4,
            value_size: 8,
            max_entries,
            flags: MapFlags(0),
            extra: 0,
            numa_node: 0,
        },
        origin: MapOrigin::Btf,
        key_type: None,
        value_type: None,
        pinning: Pinning::None,
        inner: None,
        autocreate: true,
        initial: Vec::new(),
        data: None,
        variables: Vec::new(),
    }
}

fn program(name: &str, insns: Vec<Slot>, relocs: &[(u32, RelocTarget)]) -> ProgramSpec {
    let len = u32::try_from(insns.len()).unwrap();
    ProgramSpec {
        name: name.into(),
        section: "xdp".into(),
        prog_type: Some(ProgType::XDP),
        attach_type: None,
        attach_to: None,
        flags: 0,
        autoload: true,
        insns,
        subprogs: vec![Subprog { name: name.into(), start: Pc(0), len, local: false }],
        relocs: relocs.iter().map(|&(at, target)| Reloc { at: Pc(at), target }).collect(),
        core_relos: Vec::new(),
        func_info: Vec::new(),
        line_info: Vec::new(),
        poisoned: Vec::new(),
    }
}

fn spec(programs: Vec<ProgramSpec>, maps: Vec<MapSpec>) -> ObjectSpec {
    ObjectSpec {
        license: "GPL".into(),
        version: None,
        programs,
        maps,
        externs: Vec::new(),
        btf: None,
    }
}

fn run(object: &Object, name: &str) -> u32 {
    let options = TestRunOptions { data: &[0; 64], ..TestRunOptions::default() };
    object.program(name).unwrap().test_run(&options).unwrap().retval
}

/// `r0 = *(u64 *)(map value + offset)`
fn read_global() -> Vec<Slot> {
    vec![
        slot(0x18, 1, 0, 0, 0),
        slot(0, 0, 0, 0, 0),
        slot(0x79, 0, 1, 0, 0),
        slot(0x95, 0, 0, 0, 0),
    ]
}

#[test]
fn global_data_has_its_initial_value_and_rodata_is_frozen() {
    require_kernel!(probe::can_load().into_result());
    let mut rodata = map(".rodata", MapType::ARRAY, 1);
    rodata.def.value_size = 16;
    rodata.def.flags = MapFlags::RDONLY_PROG;
    rodata.origin = MapOrigin::Rodata;
    rodata.data = Some([[7; 8], [9, 0, 0, 0, 0, 0, 0, 0]].concat());
    let target = RelocTarget::MapValue { map: 0, offset: 8 };
    let spec = spec(vec![program("read", read_global(), &[(0, target)])], vec![rodata]);
    let object = Object::load_spec(&spec, &LoadOptions::default()).unwrap();
    assert_eq!(run(&object, "read"), 9);
    let map = object.map(".rodata").unwrap();
    let frozen = map.update(&[0; 4], &[0; 16], skep_abi::UpdateMode::Any).unwrap_err();
    assert_eq!(frozen.errno(), libc::EPERM);
}

#[test]
fn tail_calls_and_inner_maps_are_filled_in() {
    require_kernel!(probe::can_load().into_result());
    let mut progs = map("progs", MapType::PROG_ARRAY, 4);
    progs.def.value_size = 4;
    progs.initial = vec![
        InitialEntry { index: 1, value: InitialValue::Program(1) },
        InitialEntry { index: 2, value: InitialValue::Program(2) },
    ];
    let inner = map("inner", MapType::ARRAY, 1);
    let mut outer = map("outer", MapType::ARRAY_OF_MAPS, 2);
    outer.def.value_size = 4;
    outer.inner = Some(Box::new(inner.clone()));
    outer.initial = vec![InitialEntry { index: 1, value: InitialValue::Map(1) }];
    let jump = vec![
        slot(0x18, 2, 0, 0, 0),
        slot(0, 0, 0, 0, 0),
        slot(0xb7, 3, 0, 0, 1),
        slot(0x85, 0, 0, 0, 12),
        slot(0xb7, 0, 0, 0, 0),
        slot(0x95, 0, 0, 0, 0),
    ];
    let two = vec![slot(0xb7, 0, 0, 0, 2), slot(0x95, 0, 0, 0, 0)];
    let mut sleeping = program("sleeping", two.clone(), &[]);
    sleeping.autoload = false;
    let programs = vec![
        program("jump", jump, &[(0, RelocTarget::Map(0))]),
        program("two", two, &[]),
        sleeping,
    ];
    let spec = spec(programs, vec![progs, inner, outer]);
    let object = Object::load_spec(&spec, &LoadOptions::default()).unwrap();
    assert_eq!(run(&object, "jump"), 2);
    assert!(object.program("sleeping").is_none());
    let stored = object.map("outer").unwrap().lookup_vec(&[1, 0, 0, 0]).unwrap().unwrap();
    assert_eq!(stored, object.map("inner").unwrap().id().unwrap().to_ne_bytes());

    let chosen = LoadOptions { programs: Some(vec!["sleeping".into()]), ..LoadOptions::default() };
    let object = Object::load_spec(&spec, &chosen).unwrap();
    let names: Vec<_> = object.programs().iter().map(|p| p.name()).collect();
    assert_eq!(names, ["sleeping"]);
    let wrong = LoadOptions { programs: Some(vec!["nobody".into()]), ..LoadOptions::default() };
    assert!(matches!(Object::load_spec(&spec, &wrong), Err(LoadError::Program { .. })));
}

#[test]
fn kernel_functions_are_found_and_weak_ones_may_be_absent() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(crate::target::vmlinux_btf().map(drop).map_err(|e| e.to_string()));
    let weak = |name: &str, kind| ExternSpec { name: name.into(), weak: true, type_id: None, kind };
    // `if (absent) call absent; return absent ? 1 : 3`
    let insns = vec![
        slot(0x18, 1, 0, 0, 5),
        slot(0, 0, 0, 0, 5),
        slot(0x15, 1, 0, 3, 0),
        slot(0x85, 0, 2, 0, -1),
        slot(0xb7, 0, 0, 0, 1),
        slot(0x95, 0, 0, 0, 0),
        slot(0xb7, 0, 0, 0, 3),
        slot(0x95, 0, 0, 0, 0),
    ];
    let relocs = [(0, RelocTarget::Ksym(0)), (3, RelocTarget::Kfunc(0))];
    let mut object = spec(vec![program("absent", insns, &relocs)], vec![]);
    object.externs = vec![weak("no_such_kernel_function", ExternKind::Kfunc)];
    let live = Object::load_spec(&object, &LoadOptions::default()).unwrap();
    assert_eq!(run(&live, "absent"), 3);

    object.externs[0].weak = false;
    let error = Object::load_spec(&object, &LoadOptions::default()).unwrap_err();
    assert!(matches!(error, LoadError::NoSymbol { .. }), "{error}");
}

#[test]
fn kernel_functions_are_called() {
    require_kernel!(probe::can_load().into_result());
    let btf = crate::target::vmlinux_btf();
    require_kernel!(btf.as_ref().map(drop).map_err(ToString::to_string));
    let (lock, unlock) = ("bpf_rcu_read_lock", "bpf_rcu_read_unlock");
    let known = btf.unwrap().find(skep_btf::KindTag::Func, unlock).next();
    require_kernel!(known.map(drop).ok_or_else(|| format!("this kernel has no {unlock}")));
    let call = slot(0x85, 0, 2, 0, -1);
    let insns = vec![call, call, slot(0xb7, 0, 0, 0, 4), slot(0x95, 0, 0, 0, 0)];
    let relocs = [(0, RelocTarget::Kfunc(0)), (1, RelocTarget::Kfunc(1))];
    let mut tp = program("locks", insns, &relocs);
    tp.section = "tp_btf/sched_switch".into();
    tp.prog_type = Some(ProgType::TRACING);
    tp.attach_type = Some(skep_abi::AttachType::TRACE_RAW_TP);
    tp.attach_to = Some("sched_switch".into());
    let mut object = spec(vec![tp], vec![]);
    let kfunc = |name: &str| ExternSpec {
        name: name.into(),
        weak: false,
        type_id: None,
        kind: ExternKind::Kfunc,
    };
    object.externs = vec![kfunc(lock), kfunc(unlock)];
    Object::load_spec(&object, &LoadOptions::default()).unwrap();
}

#[test]
fn btf_attach_targets_come_from_the_kernel() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(crate::target::vmlinux_btf().map(drop).map_err(|e| e.to_string()));
    let mut tp = program("tp", vec![slot(0xb7, 0, 0, 0, 0), slot(0x95, 0, 0, 0, 0)], &[]);
    tp.section = "tp_btf/sched_switch".into();
    tp.prog_type = Some(ProgType::TRACING);
    tp.attach_type = Some(skep_abi::AttachType::TRACE_RAW_TP);
    tp.attach_to = Some("sched_switch".into());
    let mut nowhere = tp.clone();
    Object::load_spec(&spec(vec![tp], vec![]), &LoadOptions::default()).unwrap();
    nowhere.attach_to = Some("no_such_tracepoint".into());
    let error = Object::load_spec(&spec(vec![nowhere], vec![]), &LoadOptions::default());
    assert!(matches!(error, Err(LoadError::NoSymbol { what: "tracepoint", .. })));
}

#[test]
fn a_map_in_map_without_template_is_an_error_before_the_kernel_is_asked() {
    let outer = map("outer", MapType::HASH_OF_MAPS, 2);
    let error = Object::load_spec(&spec(vec![], vec![outer]), &LoadOptions::default());
    assert!(matches!(error, Err(LoadError::MapDefinition { .. })));
}

/// As on a kernel before 5.5.
#[test]
fn variables_work_where_arrays_cannot_be_mapped() {
    require_kernel!(probe::can_load().into_result());
    let mut data = map(".data", MapType::ARRAY, 1);
    data.def.flags = MapFlags::MMAPABLE;
    (data.origin, data.data) = (MapOrigin::Data, Some(7u64.to_ne_bytes().to_vec()));
    let relocs = [(0, RelocTarget::MapValue { map: 0, offset: 0 })];
    let object = spec(vec![program("reads", read_global(), &relocs)], vec![data]);
    let flags =
        |attr: &[u8]| attr.get(16..20).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    let fake = Fake::new(move |call, _| match call {
        Call::Bpf { name: "BPF_MAP_CREATE", attr, .. }
            if flags(attr).is_some_and(|f| f & MapFlags::MMAPABLE.0 != 0) =>
        {
            Answer::Errno(libc::EINVAL)
        }
        _ => Answer::Kernel,
    });
    let live = Object::load_spec(&object, &LoadOptions::default()).unwrap();
    drop(fake);
    assert_eq!(run(&live, "reads"), 7);
}
