//! Bytes that are not what they should be: errors that say where, never a panic, hang or blow-up.
use std::fs;

use arbtest::arbtest;
use skep_btf::{Btf, BtfError, Builder, Encoding, Member, TypeId, ext::BtfExt, fuzz};

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
            b.array(skep_btf::Array { element: TypeId(1), index: TypeId(1), len: 2 });
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
                b.array(skep_btf::Array { element: TypeId(next), index: TypeId(19), len: 1 << 30 });
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
