use super::*;
use crate::{Array, Btf, Builder, Encoding, Enumerator, Member, SecVar, TypeId, Var};

fn member(name: &str, ty: TypeId, bit_offset: u32) -> Member<'_> {
    Member { name, ty, bit_offset, bitfield_size: 0 }
}

fn value(name: &str, value: i64) -> Enumerator<'_> {
    Enumerator { name, value: value.cast_unsigned(), signed: value < 0 }
}

/// Types by name, for the tables below.
fn types() -> (Btf, impl Fn(&str) -> TypeId) {
    let mut b = Builder::new();
    let mut named = Vec::new();
    let mut add = |name: &'static str, id: TypeId| {
        named.push((name, id));
        id
    };
    let int = add("int", b.int("int", 4, Encoding::SIGNED));
    let u8_ = add("u8", b.int("unsigned char", 1, Encoding::UNSIGNED));
    let chr = add("char", b.int("char", 1, Encoding::SIGNED));
    let u64_ = add("u64", b.int("unsigned long", 8, Encoding::UNSIGNED));
    let _ = add("u128", b.int("unsigned __int128", 16, Encoding::UNSIGNED));
    let _ = add("bool", b.int("_Bool", 1, Encoding::BOOL));
    let _ = add("double", b.float("double", 8));
    let _ = add("ptr", b.ptr(int));
    let comm = add("comm", b.array(Array { element: chr, index: int, len: 8 }));
    let mac = add("mac", b.array(Array { element: u8_, index: int, len: 3 }));
    let color = add("color", b.enumeration("color", 4, &[value("RED", 1), value("NONE", -1)]));
    let _ = add("big", b.enumeration("big", 8, &[value("HUGE", 1 << 40)]));
    let inner = b.structure("", 8, &[member("lo", int, 0), member("hi", int, 32)]);
    let either = b.union("", 8, &[member("all", u64_, 0), member("", inner, 0)]);
    let flex = b.array(Array { element: int, index: int, len: 0 });
    let _ = add(
        "event",
        b.structure(
            "event",
            24,
            &[
                member("", either, 0),
                member("comm", comm, 64),
                member("color", color, 128),
                member("rest", flex, 192),
            ],
        ),
    );
    let bits =
        |name, bit_offset, bitfield_size| Member { name, ty: int, bit_offset, bitfield_size };
    let _ =
        add("bits", b.structure("bits", 4, &[bits("a", 0, 3), bits("b", 3, 7), bits("c", 10, 1)]));
    let var = b.var("x", Var { ty: mac, linkage: crate::Linkage::GLOBAL });
    let _ = add("data", b.data_sec(".data", 4, &[SecVar { var, offset: 1, size: 3 }]));
    let cycle = b.next_id();
    let cycle = add("cycle", b.array(Array { element: cycle, index: int, len: 2 }));
    let _ = add("cycle_struct", b.structure("s", 8, &[member("a", cycle, 0)]));
    let nested = b.next_id();
    let _ = add("nested", b.structure("n", 8, &[member("a", nested, 0), member("b", nested, 0)]));
    let btf = b.finish().unwrap();
    (btf, move |name: &str| named.iter().find(|(n, _)| *n == name).unwrap().1)
}

#[test]
fn bytes_read_as_their_type_says() {
    let (btf, id) = types();
    let cases: &[(&str, &[u8], &str)] = &[
        ("int", &[0xfe, 0xff, 0xff, 0xff], "-2"),
        ("u64", &[0xff; 8], "18446744073709551615"),
        ("u128", &[0xff; 16], "hex:ffffffffffffffffffffffffffffffff"),
        ("bool", &[1], "true"),
        ("double", &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f], "1.5"),
        ("ptr", &[0x10, 0, 0, 0, 0, 0, 0, 0x80], "0x8000000000000010"),
        ("comm", b"sh\0junk!", "\"sh\""),
        ("comm", b"abcdefgh", "\"abcdefgh\""),
        ("comm", b"a\x01cdefgh", "hex:6101636465666768"),
        ("mac", &[1, 2, 255], "[1, 2, 255]"),
        ("color", &[1, 0, 0, 0], "RED"),
        ("color", &[0xff; 4], "NONE"),
        ("color", &[7, 0, 0, 0], "7"),
        ("big", &[0, 0, 0, 0, 0, 1, 0, 0], "HUGE"),
        // a = 0b101 = -3, b = 0b0000011 = 3, c = 1 bit set = -1.
        ("bits", &[0b0001_1101, 0b0000_0100, 0, 0], "{a = -3, b = 3, c = -1}"),
        ("data", &[9, 1, 2, 3], "{x = [1, 2, 3]}"),
    ];
    for (name, bytes, want) in cases {
        assert_eq!(decode(&btf, id(name), bytes).unwrap().to_string(), *want, "{name} {bytes:x?}");
    }
}

#[test]
fn anonymous_members_are_flattened_and_a_flexible_array_takes_the_rest() {
    let (btf, id) = types();
    let mut bytes = vec![1, 0, 0, 0, 2, 0, 0, 0];
    bytes.extend(b"cat\0\0\0\0\0\x01\0\0\0\0\0\0\0");
    bytes.extend([5, 0, 0, 0, 6, 0, 0, 0, 99]);
    let value = decode(&btf, id("event"), &bytes).unwrap();
    assert_eq!(
        value.to_string(),
        "{all = 8589934593, lo = 1, hi = 2, comm = \"cat\", color = RED, rest = [5, 6]}"
    );
    assert_eq!(value.member("hi"), Some(&Value::Int(2)));
}

#[test]
fn hostile_types_and_short_bytes_are_errors() {
    let (btf, id) = types();
    for name in ["int", "u64", "comm", "event", "data"] {
        assert!(matches!(decode(&btf, id(name), &[]), Err(DecodeError::TooShort { .. })), "{name}");
    }
    for name in ["cycle", "cycle_struct", "nested"] {
        assert!(decode(&btf, id(name), &[0; 64]).is_err(), "{name}");
    }
    assert!(decode(&btf, TypeId(0), &[0; 8]).is_err());
    assert!(decode(&btf, TypeId(9999), &[0; 8]).is_err());
}

#[test]
fn text_becomes_bytes() {
    let (btf, id) = types();
    let cases: &[(&str, &str, &[u8])] = &[
        ("int", "-2", &[0xfe, 0xff, 0xff, 0xff]),
        ("int", "0x10", &[16, 0, 0, 0]),
        ("u8", "0b101", &[5]),
        ("char", "'a'", b"a"),
        ("char", "200", &[200]),
        ("bool", "true", &[1]),
        ("bool", "0", &[0]),
        ("double", "1.5", &[0, 0, 0, 0, 0, 0, 0xf8, 0x3f]),
        ("color", "NONE", &[0xff; 4]),
        ("color", "3", &[3, 0, 0, 0]),
        ("big", "HUGE", &[0, 0, 0, 0, 0, 1, 0, 0]),
        ("comm", "sh", b"sh\0\0\0\0\0\0"),
        ("comm", "\"a b\"", b"a b\0\0\0\0\0"),
        ("mac", "[1, 0xff]", &[1, 255, 0]),
        ("mac", "1,2,3", &[1, 2, 3]),
        ("mac", "hex:01 02 03", &[1, 2, 3]),
        ("bits", "hex:01020304", &[1, 2, 3, 4]),
    ];
    for (name, text, want) in cases {
        assert_eq!(encode(&btf, id(name), text).unwrap(), *want, "{name} {text}");
    }
}

#[test]
fn text_that_is_no_value_says_why() {
    let (btf, id) = types();
    let cases = [
        ("int", "x", "\"x\" is no number"),
        ("int", "--1", "\"--1\" is no number"),
        ("int", "", "\"\" is no number"),
        ("int", "2147483648", "2147483648 does not fit in 32 bits with sign"),
        ("u8", "-1", "-1 does not fit in 8 bits"),
        ("bool", "maybe", "\"maybe\" is no boolean"),
        ("color", "GREEN", "\"GREEN\" is no value of enum color"),
        ("comm", "abcdefgh", "\"abcdefgh\" is 9 long, there is room for 8"),
        ("mac", "1,2,3,4", "\"1,2,3,4\" is 4 long, there is room for 3"),
        ("mac", "hex:01", "1 bytes given, the type has 3"),
        ("mac", "hex:0", "\"0\" is no pairs of hexadecimal digits"),
        ("bits", "1", "a STRUCT can only be given as hexadecimal bytes, hex:0011..."),
        ("cycle", "1", "the type has no size"),
    ];
    for (name, text, want) in cases {
        assert_eq!(encode(&btf, id(name), text).unwrap_err().to_string(), want, "{name} {text}");
    }
}

/// rustc describes `()` as an integer of no bytes.
#[test]
fn a_unit_is_an_integer_without_bytes() {
    for encoding in [Encoding::UNSIGNED, Encoding::SIGNED] {
        let mut types = Builder::new();
        let unit = types.int("()", 0, encoding);
        let member = |name, bit_offset| Member { name, ty: unit, bit_offset, bitfield_size: 0 };
        let holder = types.structure("Holder", 0, &[member("a", 0), member("b", 0)]);
        let btf = types.finish().unwrap();
        assert_eq!((btf.size_of(unit), btf.align_of(holder)), (Ok(0), Ok(1)));
        assert_eq!(decode(&btf, unit, &[]).unwrap(), Value::Int(0));
        assert_eq!(encode(&btf, unit, "0").unwrap(), [0; 0]);
        assert!(encode(&btf, unit, "1").is_err());
        assert!(crate::c::header(&btf).to_string().contains("Holder"));
    }
}
