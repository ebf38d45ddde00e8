//! Bodies of the fuzz targets: properties that hold for every input.
//!
//! Plain functions, so that the same body runs under a fuzzer for hours and under `cargo test` for
//! a moment.

use crate::{
    Slot, asm,
    cbpf::{self, ConvertError, Filter, Packet, Raw},
    conformance::Case,
    decode,
    disasm::Listing,
    encode, slots_from_bytes,
};

/// Any bytes decode or are refused; what decodes encodes to the same bytes; and whatever the bytes
/// are, every form of listing assembles to them again.
///
/// # Panics
///
/// When the property does not hold.
pub fn decode_bytes(data: &[u8]) {
    let whole = data.len() - data.len() % Slot::SIZE;
    let slots = slots_from_bytes(data.get(..whole).unwrap_or_default())
        .expect("the length is a multiple of the slot's size");
    if let Ok(decoded) = decode(&slots) {
        let insns: Vec<_> = decoded.into_iter().map(|(_, insn)| insn).collect();
        assert_eq!(encode(&insns).as_ref(), Ok(&slots), "{insns:?}");
    }
    for (extra, labels) in [(false, false), (false, true), (true, false), (true, true)] {
        let text = Listing::new(&slots).pc(extra).bytes(extra).labels(labels).to_string();
        assert_eq!(asm::assemble(&text).as_ref(), Ok(&slots), "{text}");
    }
}

/// Any text assembles or is refused; what assembles survives the way through the disassembler. The
/// reader of conformance files refuses or reads it too.
///
/// # Panics
///
/// When the property does not hold.
pub fn assemble_text(text: &str) {
    if let Ok(slots) = asm::assemble(text) {
        let listing = Listing::new(&slots).labels(true).to_string();
        assert_eq!(asm::assemble(&listing).as_ref(), Ok(&slots), "{listing}");
    }
    // Only that it returns is asked here; what it returns is tested beside it.
    drop(Case::parse(text));
}

/// Any bytes are refused as a classic filter, or printed, run and converted. Each 8 bytes are
/// an instruction; the bytes also serve as the packet.
///
/// # Panics
///
/// When the conversion fails for another reason than an extension that has no counterpart.
pub fn classic(data: &[u8]) {
    let (chunks, rest) = data.as_chunks::<8>();
    let program: Vec<Raw> = chunks
        .iter()
        .map(|[c0, c1, jt, jf, k0, k1, k2, k3]| Raw {
            code: u16::from_le_bytes([*c0, *c1]),
            jt: *jt,
            jf: *jf,
            k: u32::from_le_bytes([*k0, *k1, *k2, *k3]),
        })
        .collect();
    drop(cbpf::listing(&program).to_string());
    let Ok(filter) = Filter::new(&program) else { return };
    for packet in [rest, data] {
        filter.run(&Packet::new(packet));
    }
    match filter.to_ebpf() {
        Ok(slots) => assert!(decode(&slots).is_ok()),
        Err(error) => assert!(matches!(error, ConvertError::Extension { .. }), "{error}"),
    }
}

#[cfg(test)]
mod tests {
    use arbtest::{arbitrary, arbtest};

    use super::*;
    use crate::opcode::Row;

    type Bytes<'a> = arbitrary::Unstructured<'a>;

    /// Slots that mostly are instructions.
    fn slots(u: &mut Bytes<'_>) -> arbitrary::Result<Vec<u8>> {
        let mut out = Vec::new();
        for _ in 0..u.int_in_range(1..=40)? {
            let operands = Slot {
                code: u.arbitrary()?,
                dst: u.int_in_range(0..=11)?,
                src: u.int_in_range(0..=11)?,
                off: if u.ratio(1, 2)? { u.int_in_range(-20..=20)? } else { u.arbitrary()? },
                imm: if u.ratio(1, 2)? { u.int_in_range(-20..=20)? } else { u.arbitrary()? },
            };
            let row = u.choose(Row::all())?;
            let slot = if u.ratio(1, 16)? { operands } else { row.fill(operands) };
            out.extend(slot.to_le_bytes());
            if slot.code == 0x18 && u.ratio(9, 10)? {
                let imm = if u.ratio(1, 2)? { 0 } else { u.arbitrary()? };
                out.extend(Slot { imm, ..Slot::default() }.to_le_bytes());
            }
        }
        Ok(out)
    }

    #[test]
    fn random_programs() {
        arbtest(|u| {
            decode_bytes(&slots(u)?);
            Ok(())
        })
        .budget_ms(800);
    }

    #[test]
    fn random_bytes() {
        arbtest(|u| {
            decode_bytes(u.bytes(u.len())?);
            Ok(())
        })
        .budget_ms(300);
    }

    /// Pieces of which texts are made: every token the assembler knows, and some it does not.
    const PIECES: &[&str] = &[
        "r0",
        "r1",
        "%r2",
        "w3",
        "r10",
        "r11",
        "=",
        "+=",
        "s>>=",
        "s/=",
        "-",
        "+",
        "5",
        "-1",
        "0x10",
        "0xffffffffffffffff",
        "99999999999999999999999999999999999999999",
        "*",
        "(",
        ")",
        "u8",
        "u32",
        "u64",
        "s16",
        "if",
        "goto",
        "gotol",
        "may_goto",
        "call",
        "callx",
        "exit",
        "lock",
        "fetch",
        "ll",
        "a",
        "a:",
        "b:",
        "<x+1>",
        "<",
        "skb",
        "[",
        "]",
        ",",
        "map",
        "fd",
        ":",
        "idx",
        "subprog",
        "var",
        "id",
        "btf",
        "pc",
        "local",
        "helper",
        "kfunc",
        "#",
        ";",
        "//",
        "1:",
        "(18)",
        ".slot",
        "be16",
        "add",
        "mov32",
        "jeq",
        "ja32",
        "ldxw",
        "stxdw",
        "lddw",
        "xchg",
        "cmpxchg_64",
        "atomic_fetch_add",
        "load_acquire",
        "store_release",
        "addr_space_cast",
        "-- asm",
        "-- mem",
        "-- result",
        "é",
        "\u{2028}",
        "\t",
        "%",
        "0x",
        "00 00 00 00 00 00 00 00",
    ];

    #[test]
    fn random_texts() {
        arbtest(|u| {
            let mut text = String::new();
            for _ in 0..u.int_in_range(0..=60)? {
                text.push_str(u.choose(PIECES)?);
                text.push_str(u.choose(&[" ", " ", " ", "", "\n"])?);
            }
            assemble_text(&text);
            Ok(())
        })
        .budget_ms(500);
    }

    /// Valid text with a few characters changed reaches deeper than pieces at random.
    #[test]
    fn damaged_listings() {
        arbtest(|u| {
            let bytes = slots(u)?;
            let text = Listing::new(&slots_from_bytes(&bytes).expect("whole slots"))
                .labels(u.arbitrary()?)
                .bytes(u.arbitrary()?)
                .to_string();
            let mut chars: Vec<char> = text.chars().collect();
            for _ in 0..u.int_in_range(1..=4)? {
                let at = u.choose_index(chars.len())?;
                chars[at] =
                    *u.choose(&['r', 'w', '0', '9', '-', '+', '(', ')', ' ', '\n', 'x', '='])?;
            }
            assemble_text(&chars.into_iter().collect::<String>());
            Ok(())
        })
        .budget_ms(500);
    }

    #[test]
    fn every_row_round_trips_as_text() {
        let second = Slot { imm: 0, ..Slot::default() };
        for row in Row::all() {
            for (dst, src, off, imm) in [
                (0, 0, 0, 0),
                (1, 2, 3, 4),
                (10, 9, -1, -1),
                (0, 10, i16::MIN, i32::MIN),
                (5, 0, i16::MAX, i32::MAX),
            ] {
                let slot = row.fill(Slot { code: 0, dst, src, off, imm });
                let mut bytes = slot.to_le_bytes().to_vec();
                if slot.code == 0x18 {
                    bytes.extend(second.to_le_bytes());
                }
                let slots = slots_from_bytes(&bytes).expect("whole slots");
                assert_eq!(decode(&slots).map(|insns| insns.len()), Ok(1), "{slot:?}");
                decode_bytes(&bytes);
            }
        }
    }
}
