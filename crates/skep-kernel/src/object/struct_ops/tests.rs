//! Layouts made by hand: what the object says, what the kernel has, what comes out.

use skep_abi::{MapDef, MapFlags, MapType};
use skep_btf::{Btf, Builder, Encoding, Member, Param, TypeId};
use skep_object::spec::{InitialEntry, InitialValue, MapOrigin, MapSpec, Pinning};

use super::layout::{Converted, KernelLayout, Slot, convert, structure_name};
use crate::error::StructOpsProblem as Problem;

/// A member: name, type, bit offset, bitfield size.
type Row = (&'static str, TypeId, u32, u8);

/// Types to build structures of.
struct Types {
    builder: Builder,
    int: TypeId,
    long: TypeId,
    function: TypeId,
    pointer: TypeId,
}

impl Types {
    fn new() -> Self {
        let mut builder = Builder::new();
        let int = builder.int("int", 4, Encoding::SIGNED);
        let long = builder.int("long", 8, Encoding::SIGNED);
        let proto = builder.func_proto(int, &[Param { name: "x", ty: int }]);
        let function = builder.ptr(proto);
        let pointer = builder.ptr(int);
        Self { builder, int, long, function, pointer }
    }

    fn structure(&mut self, name: &str, size: u32, members: &[Row]) -> TypeId {
        let member = |&(name, ty, bit_offset, bitfield_size): &Row| Member {
            name,
            ty,
            bit_offset,
            bitfield_size,
        };
        let members: Vec<Member<'_>> = members.iter().map(member).collect();
        self.builder.structure(name, size, &members)
    }

    fn btf(&self) -> Btf {
        Btf::parse(&self.builder.to_bytes()).unwrap()
    }
}

fn map(value_type: TypeId, data: &[u8], programs: &[(u32, usize)]) -> MapSpec {
    let entry = |&(index, program)| InitialEntry { index, value: InitialValue::Program(program) };
    MapSpec {
        name: "ops".into(),
        def: MapDef {
            map_type: MapType::STRUCT_OPS,
            key_size: 4,
            value_size: u32::try_from(data.len()).unwrap(),
            max_entries: 1,
            flags: MapFlags::LINK,
            extra: 0,
            numa_node: 0,
        },
        origin: MapOrigin::StructOps,
        key_type: None,
        value_type: Some(value_type),
        pinning: Pinning::None,
        inner: None,
        autocreate: true,
        initial: programs.iter().map(entry).collect(),
        data: Some(data.to_vec()),
        variables: Vec::new(),
    }
}

/// The kernel's: a head of 8 bytes, then `ops { f, flags, pad, p, b:3, deep { x } }`.
fn kernel() -> (Btf, TypeId, TypeId) {
    let mut types = Types::new();
    let deep = types.structure("deep", 8, &[("x", types.long, 0, 0)]);
    let (function, int, pointer) = (types.function, types.int, types.pointer);
    let members = [
        ("f", function, 0, 0),
        ("flags", int, 64, 0),
        ("p", pointer, 128, 0),
        ("bits", int, 192, 3),
        ("deep", deep, 256, 0),
    ];
    let ops = types.structure("ops", 40, &members);
    let head = [("common", types.long, 0, 0), ("data", ops, 64, 0)];
    let value = types.structure("bpf_struct_ops_ops", 48, &head);
    (types.btf(), value, ops)
}

type Make = fn(&mut Types) -> Vec<Row>;

fn converted(members: Make, data: &[u8], programs: &[(u32, usize)]) -> Result<Converted, Problem> {
    let mut types = Types::new();
    let members = members(&mut types);
    let local = types.structure("ops___old", u32::try_from(data.len()).unwrap(), &members);
    let (kernel, value, structure) = kernel();
    let layout = KernelLayout { btf: &kernel, value, structure };
    convert(&types.btf(), &map(local, data, programs), &layout)
}

#[test]
fn members_move_to_where_the_kernel_has_them() {
    let members: Make = |t| {
        let deep = t.structure("deep", 8, &[("x", t.long, 0, 0)]);
        vec![
            ("gone", t.long, 0, 0),
            ("deep", deep, 64, 0),
            ("flags", t.int, 128, 0),
            ("f", t.function, 192, 0),
        ]
    };
    let mut data = vec![0; 32];
    data[8..16].copy_from_slice(&5u64.to_ne_bytes());
    data[16..20].copy_from_slice(&7u32.to_ne_bytes());
    let Converted { bytes, slots } = converted(members, &data, &[(24, 3)]).unwrap();
    let mut want = vec![0; 48];
    want[16..20].copy_from_slice(&7u32.to_ne_bytes());
    want[40..48].copy_from_slice(&5u64.to_ne_bytes());
    assert_eq!(bytes, want);
    assert_eq!(slots, [Slot { offset: 8, program: 3, member: 0, name: "f".into() }]);
}

#[test]
fn what_does_not_fit_is_named() {
    let member = |text: &str| text.to_owned();
    let int = skep_btf::KindTag::Int;
    let pointer = skep_btf::KindTag::Ptr;
    let cases: &[(Make, [u8; 8], &[(u32, usize)], Problem)] = &[
        (
            |t| vec![("gone", t.long, 0, 0)],
            [1; 8],
            &[],
            Problem::NoMember { member: member("gone"), structure: "ops".into() },
        ),
        (
            |t| vec![("gone", t.function, 0, 0)],
            [0; 8],
            &[(0, 1)],
            Problem::NoMember { member: member("gone"), structure: "ops".into() },
        ),
        (
            |t| vec![("flags", t.long, 0, 0)],
            [1; 8],
            &[],
            Problem::Size { member: member("flags"), expected: 8, found: 4 },
        ),
        (
            |t| vec![("flags", t.pointer, 0, 0)],
            [0; 8],
            &[],
            Problem::Kind { member: member("flags"), expected: pointer, found: int },
        ),
        (
            |t| vec![("bits", t.int, 0, 0)],
            [0; 8],
            &[],
            Problem::Bitfield { member: member("bits") },
        ),
        (|t| vec![("f", t.int, 0, 5)], [0; 8], &[], Problem::Bitfield { member: member("f") }),
        (
            |t| vec![("p", t.pointer, 0, 0)],
            [0; 8],
            &[(0, 1)],
            Problem::NotFunction { member: member("p") },
        ),
        (
            |t| vec![("flags", t.int, 0, 0)],
            [0; 8],
            &[(0, 1)],
            Problem::NotFunction { member: member("flags") },
        ),
        (|t| vec![("p", t.pointer, 0, 0)], [1; 8], &[], Problem::Pointer { member: member("p") }),
        (|t| vec![("f", t.function, 0, 0)], [0; 8], &[(4, 1)], Problem::NoPlace { offset: 4 }),
        (
            |t| vec![("flags", t.int, 512, 0)],
            [0; 8],
            &[],
            Problem::NoSize { member: member("flags") },
        ),
    ];
    for (members, data, programs, want) in cases {
        let found = converted(*members, data, programs);
        assert_eq!(found.as_ref().err(), Some(want), "{found:?}");
    }
}

#[test]
fn flavors_do_not_count_in_names() {
    let mut types = Types::new();
    let (named, anonymous) = (types.structure("ops___x", 0, &[]), types.structure("", 0, &[]));
    let btf = types.btf();
    assert_eq!(structure_name(&btf, &map(named, &[], &[])), Ok("ops"));
    assert_eq!(structure_name(&btf, &map(anonymous, &[], &[])), Err(Problem::Anonymous));
}
