//! Binaries that are damaged on purpose: errors, never a panic, a hang or unbounded memory.

use skep_kernel::{
    fuzz::usdt_bytes,
    link::usdt::{Arch, Notes},
};

/// A binary of one code segment, with `.note.stapsdt` and `.stapsdt.base`.
fn binary(notes: &[u8]) -> Vec<u8> {
    const NAMES: &[u8] = b"\0.note.stapsdt\0.stapsdt.base\0.shstrtab\0";
    let (header, segment, section) = (64_u64, 56_u64, 64_u64);
    let data = header + segment;
    let names = data + notes.len() as u64;
    let sections = (names + NAMES.len() as u64).next_multiple_of(8);
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let mut put = |width: usize, number: u64| {
        out.extend(number.to_le_bytes().into_iter().take(width));
    };
    // Type ET_DYN, machine x86-64, version; entry, program and section headers; flags; sizes.
    for (width, number) in [(2, 3), (2, 62), (4, 1), (8, 0), (8, header), (8, sections), (4, 0)] {
        put(width, number);
    }
    for number in [header, segment, 1, section, 4, 3] {
        put(2, number);
    }
    // One PT_LOAD, readable and executable: all of the file at 0x1000.
    for (width, number) in [(4, 1), (4, 5), (8, 0), (8, 0x1000), (8, 0x1000)] {
        put(width, number);
    }
    for number in [names, names, 0x1000] {
        put(8, number);
    }
    out.extend_from_slice(notes);
    out.extend_from_slice(NAMES);
    out.resize(usize::try_from(sections).expect("small"), 0);
    let note_len = notes.len() as u64;
    // Name, type (none, SHT_NOTE, SHT_PROGBITS, SHT_STRTAB), address, place, length.
    for (name, kind, address, place, len) in [
        (0, 0, 0, 0, 0),
        (1, 7, 0, data, note_len),
        (15, 1, 0x2000, data, 1),
        (29, 3, 0, names, NAMES.len() as u64),
    ] {
        for (width, number) in [(4, name), (4, kind), (8, 0), (8, address), (8, place), (8, len)] {
            out.extend(u64::to_le_bytes(number).into_iter().take(width));
        }
        for (width, number) in [(4, 0), (4, 0), (8, 4_u64), (8, 0)] {
            out.extend(number.to_le_bytes().into_iter().take(width));
        }
    }
    out
}

fn note(address: u64, strings: &[u8]) -> Vec<u8> {
    let len = u32::try_from(24 + strings.len()).expect("small");
    let mut out: Vec<u8> = [8, len, 3].iter().flat_map(|n: &u32| n.to_le_bytes()).collect();
    out.extend_from_slice(b"stapsdt\0");
    out.extend([address, 0x2000, 0].iter().flat_map(|n| n.to_le_bytes()));
    out.extend_from_slice(strings);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

#[test]
fn damaged_binaries_are_errors() {
    let mut notes = note(0x1040, b"p\0first\08@%rdi -4@-8(%rbp)\0");
    notes.extend(note(0x1041, b"p\0second\0\0"));
    let whole = binary(&notes);
    let parsed = Notes::parse(&whole).expect("it is well-formed");
    let names: Vec<_> = parsed.probes.iter().map(|note| note.name.as_str()).collect();
    assert_eq!((names, parsed.arch), (vec!["first", "second"], Some(Arch::X86_64)));
    assert_eq!(parsed.code_offset(0x1040), Some(0x40));
    for len in 0..whole.len() {
        usdt_bytes(whole.get(..len).expect("shorter"));
    }
    for at in 0..whole.len() {
        for damage in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            *bytes.get_mut(at).expect("inside") ^= damage;
            usdt_bytes(&bytes);
            *bytes.get_mut(at).expect("inside") = damage;
            usdt_bytes(&bytes);
        }
    }
    // A note that is cut off is an error, not the end.
    let cut = binary(notes.get(..notes.len() - 4).expect("longer"));
    assert!(Notes::parse(&cut).is_err());
    let bad = binary(&note(0x1040, b"p\0"));
    assert!(Notes::parse(&bad).is_err());
}

#[test]
fn argument_texts_of_any_bytes_are_errors() {
    for text in [
        "@",
        "8@",
        "-",
        "8@(((((",
        "8@[[[[[",
        "]])))",
        "8@$",
        "8@%",
        "8@ 8@ 8@",
        "\u{fffd}@\u{fffd}",
        "8@-9223372036854775808(%rax,%rax,8)",
        "8@$-9223372036854775808",
        "8@$99999999999999999999",
    ] {
        usdt_bytes(text.as_bytes());
    }
    usdt_bytes("8@%rdi ".repeat(10_000).as_bytes());
    usdt_bytes("(".repeat(100_000).as_bytes());
}
