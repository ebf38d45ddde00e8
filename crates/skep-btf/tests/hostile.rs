//! Bytes that are not what they should be: errors that say where, never a panic, hang or blow-up.
use std::fs;

use arbtest::arbtest;
use skep_btf::core::{CoreError, CoreKind, Resolver, Target};
use skep_btf::{
    Array, Btf, BtfError, Builder, Encoding, Enumerator, Member, TypeId, ext::BtfExt, fuzz,
};

/// BTF and BTF.ext of a real object, as the fuzz target takes them: the length of the first, both.
fn seeds() -> Vec<Vec<u8>> {
    let dir = skep_testing::repository().join("tests/data/btf");
    let mut seeds: Vec<_> = fs::read_dir(dir)
        .expect("part of the repository")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|e| e == "bin"))
        .map(|path| fs::read(path).expect("readable"))
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 2);
    seeds
}

/// The BTF and the BTF.ext of a seed.
fn split(seed: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = seed.split_first_chunk::<2>().expect("two bytes of length");
    rest.split_at(usize::from(u16::from_le_bytes(*length)))
}

#[test]
fn every_prefix_is_an_error_or_complete() {
    for seed in seeds() {
        let (btf, ext) = split(&seed);
        for end in 0..btf.len() {
            assert!(Btf::parse(&btf[..end]).is_err(), "{end} of {} bytes", btf.len());
        }
        let btf = Btf::parse(btf).expect("a whole file");
        for end in 0..ext.len() {
            assert!(BtfExt::parse(&ext[..end], &btf).is_err(), "{end} of {} bytes", ext.len());
        }
        BtfExt::parse(ext, &btf).expect("a whole file");
    }
}

#[test]
fn every_word_may_be_anything() {
    for seed in seeds() {
        let (btf, ext) = split(&seed);
        for (is_ext, bytes) in [(false, btf), (true, ext)] {
            for at in (0..bytes.len().min(1500)).step_by(4) {
                for value in [0u32, 1, 0xffff, 0x00ff_ffff, 0x7fff_ffff, 0xffff_ffff] {
                    let mut bytes = bytes.to_vec();
                    let word = value.to_le_bytes();
                    bytes[at..].iter_mut().zip(word).for_each(|(b, v)| *b = v);
                    if is_ext {
                        let whole = Btf::parse(btf).expect("a whole file");
                        drop(BtfExt::parse(&bytes, &whole));
                    } else {
                        drop(Btf::parse(&bytes));
                    }
                }
            }
        }
    }
}

#[test]
fn seeds_and_their_mutations_survive_the_fuzz_bodies() {
    let seeds = seeds();
    for seed in &seeds {
        fuzz::btf_ext_bytes(seed);
        fuzz::btf_bytes(split(seed).0);
    }
    arbtest(|u| {
        let mut seed = u.choose(&seeds)?.clone();
        for _ in 0..u.int_in_range(1..=8)? {
            let at = u.choose_index(seed.len())?;
            seed[at] = *u.choose(&[0, 1, 2, 3, 4, 5, 16, 0x7f, 0x80, 0xff])?;
        }
        fuzz::btf_ext_bytes(&seed);
        if seed.len() > 2 + usize::from(u16::from_le_bytes([seed[0], seed[1]])) {
            fuzz::btf_bytes(split(&seed).0);
        }
        Ok(())
    })
    .budget_ms(1000);
}

#[test]
fn types_inside_themselves_are_walked_to_an_end() {
    // Each is a cycle or grows by doubling; the next type is always the one after.
    let cases: &[(&str, fn(&mut Builder))] = &[
        ("typedef of itself", |b| _ = b.typedef("t", TypeId(1))),
        ("const of itself", |b| _ = b.constant(TypeId(1))),
        ("array of itself", |b| {
            b.array(Array { element: TypeId(1), index: TypeId(1), len: 2 });
        }),
        ("structure in itself", |b| {
            b.structure("s", 8, &[member(TypeId(1), 0), member(TypeId(1), 0)]);
        }),
        ("anonymous structures, doubling", |b| {
            for next in 2..60 {
                b.structure("", 8, &[nameless(TypeId(next)), nameless(TypeId(next))]);
            }
            b.int("int", 4, Encoding::SIGNED);
        }),
        ("prototypes, doubling", |b| {
            for next in (3..90).step_by(2) {
                let param = skep_btf::Param { name: "", ty: TypeId(next) };
                b.ptr(TypeId(next - 1));
                b.func_proto(TypeId(0), &[param, param]);
            }
            b.int("int", 4, Encoding::SIGNED);
            b.typedef("root", TypeId(1));
        }),
        ("a chain of typedefs", |b| {
            for next in 2..50_000 {
                b.typedef("t", TypeId(next));
            }
            b.int("int", 4, Encoding::SIGNED);
        }),
        ("arrays of arrays, too large", |b| {
            for next in 2..20 {
                b.array(Array { element: TypeId(next), index: TypeId(19), len: 1 << 30 });
            }
            b.int("int", 4, Encoding::SIGNED);
        }),
    ];
    for (name, build) in cases {
        let mut builder = Builder::new();
        build(&mut builder);
        let bytes = builder.to_bytes();
        assert!(Btf::parse(&bytes).is_ok(), "{name}");
        let start = std::time::Instant::now();
        fuzz::btf_bytes(&bytes);
        assert!(start.elapsed().as_secs() < 20, "{name} took {:?}", start.elapsed());
    }
}

/// In proportion to the bytes, each takes a moment; multiplied, minutes or all memory.
fn in_time(what: &str, body: impl FnOnce()) {
    let start = std::time::Instant::now();
    body();
    assert!(start.elapsed().as_secs() < 30, "{what} took {:?}", start.elapsed());
}

#[test]
fn large_structures_without_end_are_laid_out_once() {
    const COUNT: u32 = 4_000;
    let mut b = Builder::new();
    let int = b.int("int", 4, Encoding::SIGNED);
    let own = b.next_id();
    let mut members: Vec<_> = (0..COUNT).map(|n| member(int, n * 32)).collect();
    members.push(member(own, COUNT * 32));
    b.structure("endless", 8, &members);
    let members: Vec<_> = (0..COUNT).map(|n| member(own, n * 64)).collect();
    b.structure("many", 8 * COUNT, &members);
    let btf = b.finish().expect("valid");
    in_time("the header", || drop(skep_btf::c::header(&btf)));
}

#[test]
fn long_names_that_are_repeated_are_left_out_of_the_header() {
    let mut b = Builder::new();
    let int = b.int("int", 4, Encoding::SIGNED);
    let long = "long".repeat(1000);
    let mut inner = b.structure("", 4, &[Member { name: &long, ..member(int, 0) }]);
    for _ in 0..16 {
        inner = b.union("", 4, &[nameless(inner), nameless(inner)]);
    }
    b.structure("root", 4, &[nameless(inner)]);
    let btf = b.finish().expect("valid");
    let header = skep_btf::c::header(&btf).to_string();
    assert!(header.contains("the rest is left out"));
    assert!(header.len() < 4 << 20, "{} bytes of {}", header.len(), btf.to_bytes().len());
}

#[test]
fn values_cost_what_their_types_make_of_them() {
    const COUNT: u32 = 1 << 18;
    let mut b = Builder::new();
    let byte = b.int("char", 1, Encoding::SIGNED);
    let flexible = b.array(Array { element: byte, index: byte, len: 0 });
    let tail = b.structure("tail", 1, &[member(byte, 0), member(flexible, 0)]);
    let long = "long".repeat(1000);
    let named = b.structure("named", 1, &[Member { name: &long, ..member(byte, 0) }]);
    let value = |n: u64| Enumerator { name: "v", value: n + 256, signed: false };
    let values: Vec<_> = (0..20_000).map(value).collect();
    let large = b.enumeration("large", 1, &values);
    let array = |b: &mut Builder, element| b.array(Array { element, index: byte, len: COUNT });
    let types = [tail, named, large].map(|element| array(&mut b, element));
    let btf = b.finish().expect("valid");
    let bytes = vec![0xff; COUNT as usize];
    for id in types {
        in_time("decoding", || {
            let value = skep_btf::value::decode(&btf, id, &bytes);
            assert_eq!(value.map(|_| ()), Err(skep_btf::value::DecodeError::TooLarge));
        });
    }
}

#[test]
fn candidates_of_many_flavors_are_counted() {
    const COUNT: u32 = 3_000;
    let mut b = Builder::new();
    let roots: Vec<_> = (0..COUNT).map(|n| b.structure(&format!("s___{n}"), 0, &[])).collect();
    let btf = b.finish().expect("valid");
    let mut resolver = Resolver::new(&btf, Target::new(&btf));
    in_time("relocating", || {
        let mut results =
            roots.iter().map(|&root| resolver.resolve(root, "0", CoreKind::TypeExists));
        assert!(results.next().expect("one").is_ok());
        assert_eq!(results.last().expect("many"), Err(CoreError::TooMuchWork));
    });
}

#[test]
fn descriptions_of_accesses_stay_short() {
    let mut b = Builder::new();
    let long = "long".repeat(1000);
    let mut inner = b.int("int", 4, Encoding::SIGNED);
    for _ in 0..40 {
        inner = b.structure(&long, 4, &[Member { name: &long, ..member(inner, 0) }]);
    }
    let btf = b.finish().expect("valid");
    let resolver = Resolver::new(&btf, Target::new(&btf));
    let access = ["0"; 41].join(":");
    let text = resolver.describe(inner, &access, CoreKind::FieldByteOffset);
    assert!(text.starts_with("struct longlong") && text.len() < 1000, "{} bytes", text.len());
}

fn member(ty: TypeId, bit_offset: u32) -> Member<'static> {
    Member { name: "m", ty, bit_offset, bitfield_size: 0 }
}

fn nameless(ty: TypeId) -> Member<'static> {
    Member { name: "", ..member(ty, 0) }
}

/// One integer, then words to break: header of 24 bytes, type of 16, strings of 5.
fn int() -> Vec<u8> {
    let mut builder = Builder::new();
    builder.int("int", 4, Encoding::SIGNED);
    builder.to_bytes()
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    let cases: &[(usize, &[u8], &str)] = &[
        (0, &[1, 2], ".BTF starts with 0x0201, not with the magic number 0xeb9f"),
        (2, &[2], ".BTF has format version 2, expected 1"),
        (4, &[8], ".BTF header says it is 8 bytes long, expected 24 to 45"),
        (4, &[0xff; 4], ".BTF header says it is 4294967295 bytes long, expected 24 to 45"),
        (
            12,
            &[0xff; 4],
            "type section is at bytes 0x18..0x100000017, outside of the 0x2d bytes there are",
        ),
        (12, &[14], "type section at offset 0x18 with 0xe bytes is not aligned to 4 bytes"),
        (20, &[4], "string section at offset 0x28 does not start and end with a NUL byte"),
        (12, &[12], "type [1] at offset 0x18 needs 16 bytes, 12 are left"),
        (24, &[5], "type [1] at offset 0x18 names string 0x5, which is no name"),
        (24, &[0xff; 4], "type [1] at offset 0x18 names string 0xffffffff, which is no name"),
        (31, &[20], "type [1] at offset 0x18 has kind 20, known are 1 to 19"),
        (31, &[0], "type [1] at offset 0x18 has kind 0, known are 1 to 19"),
        (28, &[1], "type [1] at offset 0x18 is INT with an element count of 1"),
        (32, &[3], "type [1] at offset 0x18 is INT with a size of 3"),
        (36, &[33], "type [1] at offset 0x18 is INT with more bits than its size has: 33"),
        // The same bytes as a structure with 2^24 - 1 members, and as a pointer to type 4.
        (28, &[0xff, 0xff, 0xff, 4], "type [1] at offset 0x18 needs 201326592 bytes, 16 are left"),
        (31, &[2], "type [2] at offset 0x24 needs 12 bytes, 4 are left"),
    ];
    for (at, bytes, want) in cases {
        let mut all = int();
        all[*at..*at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(Btf::parse(&all).map(|_| ()).unwrap_err().to_string(), *want, "{at} {bytes:?}");
    }
    let mut forward = Builder::new();
    forward.ptr(TypeId(7));
    let error = Btf::parse(&forward.to_bytes()).map(|_| ()).unwrap_err();
    assert_eq!(error, BtfError::BadTypeRef { id: TypeId(1), offset: 24, target: 7, count: 2 });
}
