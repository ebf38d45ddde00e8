//! Objects that are damaged on purpose: errors, never a panic, a hang or unbounded memory.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use skep_object::fuzz::object_bytes;
use skep_object::{ObjectError, ObjectSpec, RelocProblem};

/// Time for each kind of damage; the rest of the objects' bytes waits for the fuzzer.
const BUDGET: Duration = Duration::from_secs(2);
/// One input of some kilobytes takes milliseconds; a busy machine may stop for a second or two.
const SLOW: Duration = Duration::from_secs(10);

fn object(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/objects").join(name);
    fs::read(path).expect("in the repository")
}

fn objects() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/objects");
    let files = fs::read_dir(dir).expect("in the repository");
    let mut paths: Vec<_> = files.map(|f| f.expect("readable").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "o"));
    paths.sort();
    paths.iter().map(|p| fs::read(p).expect("readable")).collect()
}

fn run(bytes: &[u8], what: &str) {
    let start = Instant::now();
    object_bytes(bytes);
    let took = start.elapsed();
    assert!(took < SLOW, "{what} took {took:?}");
}

/// Numbers that look random and are the same on every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }
}

#[test]
fn every_prefix_of_an_object_is_an_error() {
    let bytes = object("sections.bpf.o");
    for len in 0..bytes.len() {
        let prefix = bytes.get(..len).expect("shorter");
        assert!(ObjectSpec::parse(prefix).is_err(), "{len} of {} bytes", bytes.len());
    }
    assert!(ObjectSpec::parse(&bytes).is_ok());
}

#[test]
fn flipped_bits_are_harmless() {
    let start = Instant::now();
    let objects = objects();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    while start.elapsed() < BUDGET {
        let mut bytes = objects.get(numbers.below(objects.len())).expect("below").clone();
        let seed = numbers.0;
        for _ in 0..=numbers.below(6) {
            let at = numbers.below(bytes.len());
            let bit = numbers.below(8);
            *bytes.get_mut(at).expect("below") ^= 1 << bit;
        }
        run(&bytes, &format!("seed {seed:#x}"));
    }
}

#[test]
fn words_replaced_by_extreme_values_are_harmless() {
    const VALUES: &[u64] =
        &[0, 1, 7, 8, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX, 1 << 63, 1 << 32];
    let start = Instant::now();
    let objects = objects();
    let mut numbers = Numbers(0x0123_4567_89ab_cdef);
    while start.elapsed() < BUDGET {
        let mut bytes = objects.get(numbers.below(objects.len())).expect("below").clone();
        let seed = numbers.0;
        for _ in 0..=numbers.below(3) {
            let width = [1, 2, 4, 8].get(numbers.below(4)).copied().expect("below");
            let at = numbers.below(bytes.len() / width) * width;
            let value = VALUES.get(numbers.below(VALUES.len())).expect("below").to_le_bytes();
            let place = bytes.get_mut(at..at + width).expect("inside");
            place.copy_from_slice(value.get(..width).expect("at most 8"));
        }
        run(&bytes, &format!("seed {seed:#x}"));
    }
}

/// Offset in the file of a field of a section's header.
fn header_field(bytes: &[u8], section: &str, field: usize) -> usize {
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 8).expect("inside").try_into().expect("eight");
        usize::try_from(u64::from_le_bytes(bytes)).expect("small")
    };
    let half = |at: usize| {
        usize::from(u16::from_le_bytes(
            bytes.get(at..at + 2).expect("inside").try_into().expect("two"),
        ))
    };
    let (table, count, names) = (word(0x28), half(0x3c), half(0x3e));
    let names = word(table + names * 64 + 24);
    (0..count)
        .map(|n| table + n * 64)
        .find(|&header| {
            let name = names + (word(header) & 0xffff_ffff);
            let rest = bytes.get(name..).expect("inside");
            rest.starts_with(section.as_bytes()) && rest.get(section.len()) == Some(&0)
        })
        .expect("the section is there")
        + field
}

fn with(name: &str, section: &str, field: usize, value: &[u8]) -> Result<ObjectSpec, ObjectError> {
    let mut bytes = object(name);
    let at = header_field(&bytes, section, field);
    bytes.get_mut(at..at + value.len()).expect("inside").copy_from_slice(value);
    ObjectSpec::parse(&bytes)
}

const SH_TYPE: usize = 4;
const SH_OFFSET: usize = 24;
const SH_SIZE: usize = 32;
const SH_INFO: usize = 44;
const SH_ENTSIZE: usize = 56;

#[test]
fn sections_outside_of_the_file_are_named() {
    let huge = u64::MAX.to_le_bytes();
    for field in [SH_OFFSET, SH_SIZE] {
        let error = with("maps.bpf.o", "tc", field, &huge).expect_err("outside");
        assert!(
            matches!(&error, ObjectError::Truncated { part, .. } if part.contains("(tc)")),
            "{error}"
        );
    }
    let error = with("maps.bpf.o", ".symtab", SH_ENTSIZE, &[23]).expect_err("wrong");
    assert!(matches!(error, ObjectError::Field { field: "entry size", found: 23, .. }), "{error}");
    let error = with("maps.bpf.o", ".symtab", SH_TYPE, &[1]).expect_err("not a symbol table");
    assert_eq!(error, ObjectError::Missing { part: "symbol table" });
    let error = with("maps.bpf.o", ".rel.maps", SH_TYPE, &[4]).expect_err("addends");
    assert!(matches!(error, ObjectError::Field { field: "sh_type", .. }), "{error}");
}

#[test]
fn huge_sections_of_variables_are_refused() {
    let size = (1_u64 << 40).to_le_bytes();
    let error = with("data.bpf.o", ".bss.scratch", SH_SIZE, &size).expect_err("a terabyte");
    assert!(
        matches!(&error, ObjectError::Data { section, .. } if section == ".bss.scratch"),
        "{error}"
    );
}

#[test]
fn relocations_that_fit_nothing_are_named() {
    // Relocations of one section applied to another.
    let bytes = object("maps.bpf.o");
    let tc = header_field(&bytes, "tc", 0);
    let table = usize::try_from(u64::from_le_bytes(
        bytes.get(0x28..0x30).expect("inside").try_into().expect("eight"),
    ))
    .expect("small");
    let index = u32::try_from((tc - table) / 64).expect("small").to_le_bytes();
    let error = with("maps.bpf.o", ".rel.maps", SH_INFO, &index).expect_err("two sets");
    assert!(
        matches!(
            &error,
            ObjectError::Reloc {
                section,
                problem: RelocProblem::Twice | RelocProblem::NoInsn | RelocProblem::Kind { .. },
                ..
            } if section == "tc"
        ),
        "{error}"
    );
}

#[test]
fn other_files_are_told_apart() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "ELF header"),
        (
            b"#!/bin/sh\nexit 0\n# and some more",
            "it starts with 23 21 2f 62, an ELF file with 7f 45 4c 46",
        ),
        (&[0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], "class of ELF header"),
        (&[0x7f, b'E', b'L', b'F', 2, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], "byte order"),
    ];
    for (bytes, expected) in cases {
        let error = ObjectSpec::parse(bytes).expect_err("not an object").to_string();
        assert!(error.contains(expected), "{error}");
    }
    // This test itself is ELF of another machine.
    let own = std::env::current_exe().and_then(fs::read).expect("readable");
    let error = ObjectSpec::parse(&own).expect_err("not BPF").to_string();
    assert!(error.contains("machine of ELF header"), "{error}");
}

/// The object without its types: sections of another name are not read.
fn without_types(name: &str) -> Vec<u8> {
    let mut bytes = object(name);
    let needle = b".BTF";
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|b| b.windows(4).position(|w| w == needle)) {
        at += found;
        bytes.get_mut(at..at + 4).expect("just found").copy_from_slice(b".XTF");
    }
    bytes
}

/// Changes words of the section `maps`, given by their index.
fn with_words(name: &str, words: &[(usize, u32)]) -> Result<ObjectSpec, ObjectError> {
    let mut bytes = without_types(name);
    let at = header_field(&bytes, "maps", SH_OFFSET);
    let offset = bytes.get(at..at + 8).expect("inside").try_into().expect("eight");
    let offset = usize::try_from(u64::from_le_bytes(offset)).expect("small");
    for &(word, value) in words {
        let at = offset + word * 4;
        bytes.get_mut(at..at + 4).expect("inside").copy_from_slice(&value.to_le_bytes());
    }
    ObjectSpec::parse(&bytes)
}

#[test]
fn legacy_maps_are_told_apart_without_types() {
    use skep_object::spec::MapOrigin;

    let origins =
        |spec: &ObjectSpec| -> Vec<MapOrigin> { spec.maps.iter().map(|m| m.origin).collect() };
    // 28 bytes with zeros behind the common words: the form does not matter.
    let spec = with_words("legacy_libbpf.bpf.o", &[]).expect("as built");
    assert_eq!(origins(&spec), [MapOrigin::Legacy; 2]);
    assert!(spec.btf.is_none());
    // 28 bytes with an id: iproute2's older form.
    let spec = with_words("legacy_libbpf.bpf.o", &[(5, 9)]).expect("a shorter bpf_elf_map");
    let first = MapOrigin::Iproute2 { id: 9, inner_id: 0, inner_idx: 0 };
    assert_eq!(origins(&spec).first(), Some(&first));
    // 36 bytes are iproute2's.
    let spec = with_words("legacy_iproute2.bpf.o", &[]).expect("as built");
    assert_eq!(spec.maps.len(), 3);
    assert!(origins(&spec).iter().all(|o| matches!(o, MapOrigin::Iproute2 { .. })));

    let cases: &[(&str, &[(usize, u32)], &str)] = &[
        ("legacy_libbpf.bpf.o", &[(0, 0)], "map counters: there is no type"),
        ("legacy_iproute2.bpf.o", &[(6, 3)], "map jumps: pinning is 3, expected"),
        ("legacy_iproute2.bpf.o", &[(5, 5)], "map inner: id 5 is also that of another map"),
        ("legacy_iproute2.bpf.o", &[(25, 8)], "map outer: inner map with id 8 is not defined"),
    ];
    for (name, words, expected) in cases {
        let error = with_words(name, words).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn btf_maps_need_types() {
    let error = ObjectSpec::parse(&without_types("maps.bpf.o")).expect_err("no types").to_string();
    assert!(error.contains("section .BTF, which describes the maps"), "{error}");
    let error = ObjectSpec::parse(&without_types("externs.bpf.o")).expect_err("no types");
    assert!(error.to_string().contains("extern CONFIG_VETH is not known"), "{error}");
}
