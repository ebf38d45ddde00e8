use super::*;
use crate::{Array, Btf, Builder, Encoding, Enumerator, Member, TypeId};

fn member(name: &str, ty: TypeId, bit_offset: u32) -> Member<'_> {
    Member { name, ty, bit_offset, bitfield_size: 0 }
}

fn bits(name: &str, ty: TypeId, bit_offset: u32, bitfield_size: u8) -> Member<'_> {
    Member { name, ty, bit_offset, bitfield_size }
}

fn value(name: &str, value: i64) -> Enumerator<'_> {
    Enumerator { name, value: value.cast_unsigned(), signed: value < 0 }
}

/// What an object knows: `s { a, bits: 3, arr[2], tail[] }`, `s___old { gone }`, enumerations.
fn local() -> Btf {
    let mut b = Builder::new();
    let int = b.int("int", 4, Encoding::SIGNED);
    let u32_ = b.int("unsigned int", 4, Encoding::UNSIGNED);
    let long = b.int("long", 8, Encoding::SIGNED);
    let arr = b.array(Array { element: u32_, index: int, len: 2 });
    let tail = b.array(Array { element: int, index: int, len: 0 });
    b.structure(
        "s",
        24,
        &[
            member("a", u32_, 0),
            bits("low", int, 32, 3),
            member("arr", arr, 64),
            member("tail", tail, 128),
        ],
    );
    b.structure("s___old", 8, &[member("gone", long, 0)]);
    b.enumeration("e___mine", 4, &[value("ONE", 1), value("TWO___mine", 2)]);
    b.enumeration("only", 4, &[value("ONLY", 1)]);
    b.typedef("s_t", TypeId(6));
    b.structure("", 4, &[member("a", int, 0)]);
    b.structure("both", 4, &[member("x", int, 0), member("y", int, 32)]);
    let ptr = b.ptr(TypeId::VOID);
    b.structure("p", 8, &[member("ptr", ptr, 0)]);
    b.finish().unwrap()
}

/// The same names with another layout, in a kernel.
fn kernel() -> Btf {
    let mut b = Builder::new();
    let int = b.int("int", 4, Encoding::SIGNED);
    let u64_ = b.int("unsigned long", 8, Encoding::UNSIGNED);
    let u32_ = b.int("unsigned int", 4, Encoding::UNSIGNED);
    let arr = b.array(Array { element: u32_, index: int, len: 3 });
    let tail = b.array(Array { element: int, index: int, len: 0 });
    let inner = b.structure("", 16, &[member("arr", arr, 0), bits("low", u32_, 101, 3)]);
    let either = b.union("", 16, &[member("", inner, 0), member("all", u64_, 0)]);
    b.structure(
        "s",
        40,
        &[member("a", u64_, 64), member("", either, 128), member("tail", tail, 256)],
    );
    b.enumeration("e", 8, &[value("TWO", -5), value("ONE", 1 << 40)]);
    b.typedef("s_t", TypeId(8));
    b.structure("both", 8, &[member("x", int, 0), member("y", int, 32)]);
    b.structure(
        "both___2",
        8,
        &[member("x", int, 0), member("pad", int, 32), member("y", int, 64)],
    );
    let small = b.int("short", 2, Encoding::SIGNED);
    b.structure("p", 2, &[member("ptr", small, 0)]);
    b.finish().unwrap()
}

fn id(btf: &Btf, name: &str) -> TypeId {
    btf.ids().find(|&id| btf.name(id) == Some(name)).unwrap()
}

/// The outcome in one word or line.
fn outcome(root: &str, access: &str, kind: CoreKind) -> String {
    let (local, kernel) = (local(), kernel());
    let resolved = resolve(&local, id(&local, root), access, kind, Target::new(&kernel));
    match resolved {
        Err(e) => e.to_string(),
        Ok(Resolved { value: CoreValue::Poison, .. }) => "poison".to_owned(),
        Ok(Resolved { value: CoreValue::Patch(p), .. }) => {
            let width = match p.width {
                Width::Same => String::new(),
                Width::Change { from, to } => format!(" width {from} -> {to}"),
                Width::Unsafe { from, to } => format!(" unsafe {from} -> {to}"),
            };
            format!("{} -> {}{width}", p.orig.cast_signed(), p.new.cast_signed())
        }
    }
}

#[test]
fn kinds_and_accesses() {
    use CoreKind::*;
    let cases: &[(&str, &str, CoreKind, &str)] = &[
        ("s", "0:0", FieldByteOffset, "0 -> 8 width 4 -> 8"),
        ("s", "0:0", FieldByteSize, "4 -> 8"),
        ("s", "1:0", FieldByteOffset, "24 -> 48 width 4 -> 8"),
        ("s", "0:2", FieldByteOffset, "8 -> 16"),
        ("s", "0:2:1", FieldByteOffset, "12 -> 20"),
        ("s", "0:2:1", FieldExists, "1 -> 1"),
        ("s", "0:3:100", FieldByteOffset, "416 -> 432"),
        // Bit 37 of the structure at byte 16: 3 bits at bit 5 of the word at byte 28.
        ("s", "0:1", FieldByteOffset, "4 -> 28"),
        ("s", "0:1", FieldLshiftU64, "61 -> 56"),
        ("s", "0:1", FieldRshiftU64, "61 -> 61"),
        ("s", "0:1", FieldSigned, "1 -> 0"),
        ("s___old", "0:0", FieldExists, "1 -> 0"),
        ("s___old", "0:0", FieldByteOffset, "poison"),
        ("s___old", "0:0", FieldSigned, "poison"),
        ("s", "0", TypeSize, "24 -> 40"),
        ("s_t", "0", TypeExists, "1 -> 1"),
        ("s", "0", TypeIdLocal, "6 -> 6"),
        ("s", "0", TypeIdTarget, "6 -> 8"),
        ("s", "0", TypeMatches, "1 -> 0"),
        ("only", "0", TypeExists, "1 -> 0"),
        ("only", "0", TypeSize, "4 -> 0"),
        ("both", "0", TypeMatches, "1 -> 1"),
        ("e___mine", "0", EnumvalValue, "1 -> 1099511627776"),
        ("e___mine", "1", EnumvalValue, "2 -> -5"),
        ("e___mine", "1", EnumvalExists, "1 -> 1"),
        ("only", "0", EnumvalExists, "1 -> 0"),
        ("only", "0", EnumvalValue, "poison"),
        ("p", "0:0", FieldExists, "1 -> 0"),
        ("both", "0:0", FieldByteOffset, "0 -> 0"),
    ];
    for (root, access, kind, want) in cases {
        assert_eq!(outcome(root, access, *kind), *want, "{root} {access} {kind}");
    }
}

#[test]
fn relocations_that_make_no_sense_say_why() {
    use CoreKind::*;
    let cases: &[(&str, &str, CoreKind, &str)] = &[
        ("s", "", FieldExists, "access \"\" of struct s: not numbers separated by colons"),
        ("s", "0:", FieldExists, "access \"0:\" of struct s: not numbers separated by colons"),
        ("s", "0:+1", FieldExists, "access \"0:+1\" of struct s: not numbers separated by colons"),
        (
            "s",
            "0:2147483648",
            FieldExists,
            "access \"0:2147483648\" of struct s: not numbers separated by colons",
        ),
        ("s", "0:4", FieldExists, "access \"0:4\" of struct s: index 4 at position 1, there are 4"),
        (
            "s",
            "0:2:2",
            FieldExists,
            "access \"0:2:2\" of struct s: index 2 at position 2, there are 2",
        ),
        ("s", "0:0:0", FieldExists, "access \"0:0:0\" of struct s: position 2 goes into INT"),
        ("s", "1", TypeExists, "access \"1\" of struct s: a type as a whole is accessed by \"0\""),
        ("s", "0", EnumvalValue, "access \"0\" of struct s: not one number and an enumeration"),
        (
            "only",
            "1",
            EnumvalValue,
            "access \"1\" of enum only: index 1 at position 0, there are 1",
        ),
        ("s", "2147483647:0", FieldByteOffset, "offset does not fit in 32 bits"),
        (
            "s",
            "0:2:1",
            FieldSigned,
            "signed of an array element (struct s.arr[1] (0:2:1 @ offset 12)) does not exist",
        ),
        (
            "",
            "0",
            FieldByteOffset,
            "byte_off of an anonymous type (array <anonymous> (0 @ offset 0)) cannot be resolved",
        ),
        (
            "both",
            "0:1",
            FieldByteOffset,
            "struct both.y (0:1 @ offset 4) is ambiguous: struct both.y (0:1 @ offset 4) gives 4, \
             struct both___2.y (0:2 @ offset 8) gives 8",
        ),
    ];
    for (root, access, kind, want) in cases {
        assert_eq!(outcome(root, access, *kind), *want, "{root} {access} {kind}");
    }
    let (local, kernel) = (local(), kernel());
    let target = Target::new(&kernel);
    let missing = resolve(&local, TypeId(999), "0", TypeExists, target);
    assert_eq!(missing, Err(CoreError::NoSuchType(TypeId(999))));
}

#[test]
fn a_relocation_rules_out_candidates_for_those_after_it() {
    let mut b = Builder::new();
    let int = b.int("int", 4, Encoding::SIGNED);
    let root = b.structure(
        "both",
        12,
        &[
            member("x", int, 0),
            member("y", int, 32),
            member("pad", int, 64),
            member("none", int, 96),
        ],
    );
    let (local, kernel) = (b.finish().unwrap(), kernel());
    let mut resolver = Resolver::new(&local, Target::new(&kernel));
    let offset = CoreKind::FieldByteOffset;
    assert!(matches!(resolver.resolve(root, "0:1", offset), Err(CoreError::Ambiguous { .. })));
    // Nothing has it: nothing is ruled out.
    assert_eq!(resolver.resolve(root, "0:3", offset).unwrap().value, CoreValue::Poison);
    assert!(resolver.resolve(root, "0:1", offset).is_err());
    // Only one has it, so from now on that is the type.
    let found = resolver.resolve(root, "0:2", offset).unwrap().found.unwrap();
    assert_eq!(found.text, "struct both___2.pad (0:1 @ offset 4)");
    let found = resolver.resolve(root, "0:1", offset).unwrap().found.unwrap();
    assert_eq!(found.text, "struct both___2.y (0:2 @ offset 8)");
}

#[test]
fn modules_are_searched_when_the_kernel_has_no_such_type() {
    let (local, kernel) = (local(), kernel());
    let mut b = Builder::split(&kernel);
    b.enumeration("only", 4, &[value("ONLY", 9)]);
    b.structure("s", 4, &[]);
    let modules = [Builder::split(&kernel).finish().unwrap(), b.finish().unwrap()];
    let target = Target { kernel: &kernel, modules: &modules };
    let mut resolver = Resolver::new(&local, target);
    let resolved = resolver.resolve(id(&local, "only"), "0", CoreKind::EnumvalValue).unwrap();
    let found = resolved.found.unwrap();
    assert_eq!((found.module, found.text.as_str()), (Some(1), "enum only::ONLY = 9"));
    let resolved = resolver.resolve(id(&local, "s"), "0", CoreKind::TypeSize).unwrap();
    assert_eq!(resolved.found.unwrap().module, None);
}

#[test]
fn every_kind_has_its_number_and_name() {
    for (number, &kind) in (0..).zip(CoreKind::ALL) {
        assert_eq!(kind.number(), number);
        assert_eq!(CoreKind::from_number(number), Some(kind));
        assert!(CoreKind::ALL.iter().filter(|k| k.name() == kind.name()).count() == 1);
    }
    assert_eq!(CoreKind::from_number(13), None);
}
