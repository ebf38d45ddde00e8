//! The codec over every opcode byte and the field values that matter.

use super::*;
use crate::{AluOp, AtomicOp, CmpOp, Size, SwapOp, Width};

const OFFS: [i16; 14] = [0, 1, -1, 2, 3, 7, 8, 9, 16, 24, 32, 33, i16::MAX, i16::MIN];
const IMMS: [i32; 25] = [
    0,
    1,
    -1,
    2,
    16,
    32,
    64,
    0x40,
    0x41,
    0x50,
    0x51,
    0xa0,
    0xa1,
    0xe0,
    0xe1,
    0xf0,
    0xf1,
    0x100,
    0x101,
    0x110,
    0x111,
    0x1_0000,
    0x7fff_ffff,
    i32::MIN,
    0x0100_0007,
];
const NIBBLES: [u8; 4] = [0, 1, 10, 11];

/// Calls `f` with every slot of the product of the lists above.
fn each_slot(mut f: impl FnMut(Slot)) {
    for code in 0..=u8::MAX {
        for off in OFFS {
            for imm in IMMS {
                for dst in NIBBLES {
                    for src in [0, 1, 2, 3, 4, 5, 6, 7, 11] {
                        f(Slot { code, dst, src, off, imm });
                    }
                }
            }
        }
    }
}

#[test]
fn what_decodes_encodes_to_the_same_slots() {
    let mut accepted = std::collections::HashSet::new();
    let seconds = [0, 1, -1, i32::MIN].map(|imm| Slot { imm, ..Slot::default() });
    each_slot(|slot| {
        let nexts = if slot.code == 0x18 { &seconds[..] } else { &seconds[..1] };
        for &next in nexts {
            let Ok(insn) = Insn::decode(slot, Some(next)) else { continue };
            accepted.insert(insn.form());
            let want: &[Slot] = if insn.slots() == 2 { &[slot, next] } else { &[slot] };
            assert_eq!(insn.encode().as_deref(), Ok(want), "{insn:?}");
        }
    });
    let table: std::collections::HashSet<_> = Row::all().iter().map(|row| row.form).collect();
    assert_eq!(accepted.len(), Row::all().len(), "each row once");
    assert_eq!(accepted, table, "every row is reachable by decoding");
}

#[test]
fn every_form_that_is_not_in_the_table_has_no_encoding() {
    let reg = Operand::Reg(Reg::R1);
    let (r0, r1) = (Reg::R0, Reg::R1);
    let cases = [
        Insn::Alu { width: Width::W32, op: AluOp::MovSx32, dst: r0, src: reg },
        Insn::Alu { width: Width::W64, op: AluOp::MovSx8, dst: r0, src: Operand::Imm(1) },
        Insn::Alu { width: Width::W64, op: AluOp::Neg, dst: r0, src: reg },
        Insn::Alu { width: Width::W64, op: AluOp::Neg, dst: r0, src: Operand::Imm(1) },
        Insn::Swap { op: SwapOp::ToBe, bits: 8, dst: r0 },
        Insn::LoadPacket { size: Size::Dw, index: None, imm: 0 },
        Insn::Load { size: Size::Dw, signed: true, dst: r0, base: r1, off: 0 },
        Insn::Atomic { op: AtomicOp::Add, fetch: true, size: Size::H, base: r0, off: 0, src: r1 },
        Insn::Atomic { op: AtomicOp::Xchg, fetch: false, size: Size::W, base: r0, off: 0, src: r1 },
        Insn::Jump { off: 0x8000, long: false },
    ];
    for insn in cases {
        assert!(insn.encode().is_err(), "{insn:?}");
    }
}

#[test]
fn one_opcode_byte_selects_by_one_field_and_rows_do_not_overlap() {
    for code in 0..=u8::MAX {
        let rows = Row::with_code(code);
        let selectors = |row: &Row| {
            let fields = row.fields().into_iter();
            fields
                .filter_map(|(name, f)| if let Field::Is(v) = f { Some((name, v)) } else { None })
                .collect::<Vec<_>>()
        };
        let all: Vec<_> = rows.iter().map(selectors).collect();
        for (i, one) in all.iter().enumerate() {
            assert!(one.len() == 1 || one.is_empty() && rows.len() == 1, "{code:#x}: {one:?}");
            for other in all.iter().skip(i + 1) {
                assert_eq!(one.first().map(|s| s.0), other.first().map(|s| s.0), "{code:#x}");
                assert_ne!(one, other, "{code:#x}");
            }
        }
    }
}

/// Bytes in, instruction or sentence out.
#[test]
fn decode_table() {
    let (r1, r2) = (Reg::R1, Reg::R2);
    let cases: &[([u8; 8], Result<Insn, &str>)] = &[
        (
            [0x07, 0x01, 0, 0, 0x16, 0, 0, 0],
            Ok(Insn::Alu { width: Width::W64, op: AluOp::Add, dst: r1, src: Operand::Imm(22) }),
        ),
        (
            [0xa5, 0x01, 0xfe, 0xff, 3, 0, 0, 0],
            Ok(Insn::JumpIf {
                width: Width::W64,
                op: CmpOp::Lt,
                dst: r1,
                src: Operand::Imm(3),
                off: -2,
            }),
        ),
        (
            [0xd3, 0x21, 4, 0, 0, 1, 0, 0],
            Ok(Insn::LoadAcquire { size: Size::B, dst: r1, base: r2, off: 4 }),
        ),
        ([0x8d, 0x02, 0, 0, 0, 0, 0, 0], Ok(Insn::CallReg(r2))),
        ([0x00; 8], Err("opcode 0x00 is not defined")),
        ([0x8d, 0, 0, 0, 2, 0, 0, 0], Err("opcode 0x8d: immediate is 2, expected 0")),
        ([0x37, 0, 2, 0, 1, 0, 0, 0], Err("opcode 0x37: offset is 2, expected 0 or 1")),
        ([0xbc, 0, 32, 0, 0, 0, 0, 0], Err("opcode 0xbc: offset is 32, expected 0, 8 or 16")),
        (
            [0xcb, 0, 0, 0, 0, 0, 0, 0],
            Err("opcode 0xcb: immediate is 0x0, expected 0x100 or 0x110"),
        ),
        ([0x95, 0x10, 0, 0, 0, 0, 0, 0], Err("opcode 0x95: source is 1, expected 0")),
        (
            [0x07, 0x0b, 0, 0, 0, 0, 0, 0],
            Err("opcode 0x07: destination is register 11, expected 0 to 10"),
        ),
        ([0x18, 0, 0, 0, 0, 0, 0, 0], Err("second slot of lddw is missing")),
    ];
    for (bytes, want) in cases {
        let got = Insn::decode(Slot::from_le_bytes(*bytes), None).map_err(|e| e.to_string());
        assert_eq!(got, want.map_err(str::to_owned), "{bytes:02x?}");
    }
}

#[test]
fn errors_say_where() {
    let slots: Vec<Slot> = [[0x95, 0, 0, 0, 0, 0, 0, 0], [0x18, 0, 0, 0, 0, 0, 0, 0]]
        .map(Slot::from_le_bytes)
        .to_vec();
    let error = decode(&slots).unwrap_err();
    assert_eq!(error.to_string(), "insn 1: second slot of lddw is missing");
    let bad = [slots[1], Slot { code: 0x18, ..Slot::default() }];
    let error = decode(&bad).unwrap_err();
    assert_eq!(error.to_string(), "insn 0: second slot of lddw: opcode is 24, expected 0");
    let error = slots_from_bytes(&[0; 12]).unwrap_err();
    assert_eq!(error.to_string(), "code is 12 bytes, expected a multiple of 8 (4 left over)");
}

#[test]
fn lddw_takes_two_slots_and_positions_count_both() {
    let slots = [
        Slot { code: 0x18, imm: -1, ..Slot::default() },
        Slot { imm: 1, ..Slot::default() },
        Slot { code: 0x95, ..Slot::default() },
    ];
    let imm = Imm64::Const(0x1_ffff_ffff);
    let want = vec![(Pc(0), Insn::LoadImm64 { dst: Reg::R0, imm }), (Pc(2), Insn::Exit)];
    assert_eq!(decode(&slots), Ok(want));
}
