//! Objects that no compiler made: specs put together by hand, written and read back.

mod text;

use skep_abi::{AttachType, MapDef, MapFlags, MapType, ProgType};
use skep_btf::{Builder, Encoding};
use skep_isa::{Pc, Slot};
use skep_object::ObjectSpec;
use skep_object::spec::{
    InitialEntry, InitialValue, MapOrigin, MapSpec, Pinning, ProgramSpec, Reloc, RelocTarget,
    Subprog,
};
use skep_object::write::{ObjectWriter, WriteError};

fn map(name: &str, map_type: MapType, sizes: (u32, u32, u32)) -> MapSpec {
    let (key_size, value_size, max_entries) = sizes;
    MapSpec {
        name: name.to_owned(),
        def: MapDef {
            map_type,
            key_size,
            value_size,
            max_entries,
            flags: MapFlags::default(),
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

fn slot(code: u8, dst: u8, src: u8, imm: i32) -> Slot {
    Slot { code, dst, src, off: 0, imm }
}

/// `r1 = map; r0 = 2; call the subprogram at 7; exit; subprogram: r0 = 1; exit`
fn program(name: &str, section: &str, map: usize) -> ProgramSpec {
    ProgramSpec {
        name: name.to_owned(),
        section: section.to_owned(),
        prog_type: Some(ProgType::XDP),
        attach_type: Some(AttachType::XDP),
        attach_to: None,
        flags: 0,
        autoload: true,
        insns: vec![
            slot(0x18, 1, 1, 0),
            slot(0, 0, 0, 0),
            slot(0xb7, 0, 0, 2),
            slot(0x85, 0, 1, 1),
            slot(0x95, 0, 0, 0),
            slot(0xb7, 0, 0, 1),
            slot(0x95, 0, 0, 0),
        ],
        subprogs: vec![
            Subprog { name: name.to_owned(), start: Pc(0), len: 5, local: false },
            Subprog { name: "one".to_owned(), start: Pc(5), len: 2, local: true },
        ],
        relocs: vec![Reloc { at: Pc(0), target: RelocTarget::Map(map) }],
        core_relos: Vec::new(),
        func_info: Vec::new(),
        line_info: Vec::new(),
        poisoned: Vec::new(),
    }
}

fn object() -> ObjectSpec {
    let mut types = Builder::new();
    let number = types.int("unsigned int", 4, Encoding::UNSIGNED);
    let mut typed = map("typed", MapType::HASH, (4, 4, 16));
    (typed.key_type, typed.value_type) = (Some(number), Some(number));
    typed.def.flags = MapFlags::NO_PREALLOC;
    typed.pinning = Pinning::ByName;
    let mut bloom = map("bloom", MapType::BLOOM_FILTER, (0, 8, 100));
    bloom.def.extra = 3;
    let inner = map("outer.inner", MapType::ARRAY, (4, 8, 1));
    let mut outer = map("outer", MapType::ARRAY_OF_MAPS, (4, 4, 4));
    outer.inner = Some(Box::new(inner));
    outer.initial = vec![InitialEntry { index: 2, value: InitialValue::Map(2) }];
    let mut jumps = map("jumps", MapType::PROG_ARRAY, (4, 4, 4));
    jumps.initial = vec![InitialEntry { index: 1, value: InitialValue::Program(1) }];
    let mut data = map(".data", MapType::ARRAY, (4, 3, 1));
    data.origin = MapOrigin::Data;
    data.data = Some(b"abc".to_vec());
    ObjectSpec {
        license: "GPL".to_owned(),
        version: Some(7),
        programs: vec![program("first", "xdp", 0), program("second", "xdp", 3)],
        // libbpf before 1.4 makes maps in this order: inner ones come first.
        maps: vec![typed, bloom, map("in_it", MapType::ARRAY, (4, 8, 1)), outer, jumps, data],
        externs: Vec::new(),
        btf: Some(types.finish().expect("one type")),
    }
}

#[test]
fn specs_made_by_hand_read_back() {
    let spec = object();
    let bytes = ObjectWriter::new(&spec).to_bytes().expect("writable");
    let again = ObjectSpec::parse(&bytes).expect("an object");
    assert_eq!(text::of_spec(&spec), text::of_spec(&again));
    if let Some(path) = std::env::var_os("KEEP") {
        std::fs::write(path, bytes).expect("writable");
    }
}

#[test]
fn large_extra_values_are_kept() {
    let mut spec = object();
    let arena = spec.maps.get_mut(1).expect("five maps");
    arena.def.map_type = MapType::ARENA;
    arena.def.extra = 1 << 44;
    let bytes = ObjectWriter::new(&spec).to_bytes().expect("writable");
    let again = ObjectSpec::parse(&bytes).expect("an object");
    assert_eq!(text::of_spec(&spec), text::of_spec(&again));
}

#[test]
fn objects_without_types_or_maps_are_objects() {
    let mut spec = object();
    spec.maps.clear();
    spec.btf = None;
    for program in &mut spec.programs {
        program.relocs.clear();
    }
    let bytes = ObjectWriter::new(&spec).to_bytes().expect("writable");
    let again = ObjectSpec::parse(&bytes).expect("an object");
    assert_eq!(text::of_spec(&spec), text::of_spec(&again));
    assert!(again.btf.is_none());
}

#[test]
fn functions_of_one_name_that_differ_are_kept_apart() {
    let mut spec = object();
    let second = spec.programs.get_mut(1).expect("two programs");
    second.insns.get_mut(5).expect("of the subprogram").imm = 77;
    let bytes = ObjectWriter::new(&spec).to_bytes().expect("writable");
    let again = ObjectSpec::parse(&bytes).expect("an object");
    assert_eq!(text::of_spec(&spec), text::of_spec(&again));
}

#[test]
fn references_to_nothing_are_errors() {
    let mut spec = object();
    spec.programs.get_mut(1).expect("two programs").relocs =
        vec![Reloc { at: Pc(0), target: RelocTarget::Map(99) }];
    let error = ObjectWriter::new(&spec).to_bytes().expect_err("no such map");
    assert_eq!(error, WriteError::Reference { program: "second".to_owned(), slot: 0 });

    let mut spec = object();
    spec.programs.first_mut().expect("two programs").insns.get_mut(3).expect("the call").imm = 2;
    let error = ObjectWriter::new(&spec).to_bytes().expect_err("into the middle of a function");
    assert_eq!(error, WriteError::Reference { program: "first".to_owned(), slot: 3 });

    let mut spec = object();
    let inner = spec.maps.get_mut(3).and_then(|m| m.inner.as_mut()).expect("a map of maps");
    inner.pinning = Pinning::ByName;
    let error = ObjectWriter::new(&spec).to_bytes().expect_err("inner maps have no pin");
    assert!(matches!(error, WriteError::Map { problem: "pinning", .. }), "{error}");
}
