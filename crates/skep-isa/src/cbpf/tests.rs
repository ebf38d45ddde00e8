//! Text against libpcap's, checks against the kernel's, the interpreter against the conversion.

use std::process::Command;

use arbtest::{arbitrary, arbtest};
use skep_testing::{Skip, has_tool, skip};

use super::*;
use crate::{Slot, Width};

/// Code, jt, jf, k, position, and what libpcap 1.10's `bpf_image` prints for them.
#[test]
fn text_is_libpcaps() {
    #[rustfmt::skip]
    let cases: &[(u16, u8, u8, u32, usize, &str)] = &[
        (0x0, 1, 2, 0x5, 7, "(007) ld       #0x5"),
        (0x1, 1, 2, 0x5, 7, "(007) ldx      #0x5"),
        (0x2, 1, 2, 0x5, 7, "(007) st       M[5]"),
        (0x3, 1, 2, 0x5, 7, "(007) stx      M[5]"),
        (0x4, 1, 2, 0x5, 7, "(007) add      #5"),
        (0x5, 1, 2, 0x5, 7, "(007) ja       13"),
        (0x6, 1, 2, 0x5, 7, "(007) ret      #5"),
        (0x7, 1, 2, 0x5, 7, "(007) tax      "),
        (0xc, 1, 2, 0x5, 7, "(007) add      x"),
        (0x14, 1, 2, 0x5, 7, "(007) sub      #5"),
        (0x15, 1, 2, 0x5, 7, "(007) jeq      #0x5             jt 9\tjf 10"),
        (0x16, 1, 2, 0x5, 7, "(007) ret      "),
        (0x1c, 1, 2, 0x5, 7, "(007) sub      x"),
        (0x1d, 1, 2, 0x5, 7, "(007) jeq      x                jt 9\tjf 10"),
        (0x20, 1, 2, 0x5, 7, "(007) ld       [5]"),
        (0x24, 1, 2, 0x5, 7, "(007) mul      #5"),
        (0x25, 1, 2, 0x5, 7, "(007) jgt      #0x5             jt 9\tjf 10"),
        (0x28, 1, 2, 0x5, 7, "(007) ldh      [5]"),
        (0x2c, 1, 2, 0x5, 7, "(007) mul      x"),
        (0x2d, 1, 2, 0x5, 7, "(007) jgt      x                jt 9\tjf 10"),
        (0x30, 1, 2, 0x5, 7, "(007) ldb      [5]"),
        (0x34, 1, 2, 0x5, 7, "(007) div      #5"),
        (0x35, 1, 2, 0x5, 7, "(007) jge      #0x5             jt 9\tjf 10"),
        (0x3c, 1, 2, 0x5, 7, "(007) div      x"),
        (0x3d, 1, 2, 0x5, 7, "(007) jge      x                jt 9\tjf 10"),
        (0x40, 1, 2, 0x5, 7, "(007) ld       [x + 5]"),
        (0x44, 1, 2, 0x5, 7, "(007) or       #0x5"),
        (0x45, 1, 2, 0x5, 7, "(007) jset     #0x5             jt 9\tjf 10"),
        (0x48, 1, 2, 0x5, 7, "(007) ldh      [x + 5]"),
        (0x4c, 1, 2, 0x5, 7, "(007) or       x"),
        (0x4d, 1, 2, 0x5, 7, "(007) jset     x                jt 9\tjf 10"),
        (0x50, 1, 2, 0x5, 7, "(007) ldb      [x + 5]"),
        (0x54, 1, 2, 0x5, 7, "(007) and      #0x5"),
        (0x5c, 1, 2, 0x5, 7, "(007) and      x"),
        (0x60, 1, 2, 0x5, 7, "(007) ld       M[5]"),
        (0x61, 1, 2, 0x5, 7, "(007) ldx      M[5]"),
        (0x64, 1, 2, 0x5, 7, "(007) lsh      #5"),
        (0x6c, 1, 2, 0x5, 7, "(007) lsh      x"),
        (0x74, 1, 2, 0x5, 7, "(007) rsh      #5"),
        (0x7c, 1, 2, 0x5, 7, "(007) rsh      x"),
        (0x80, 1, 2, 0x5, 7, "(007) ld       #pktlen"),
        (0x84, 1, 2, 0x5, 7, "(007) neg      "),
        (0x87, 1, 2, 0x5, 7, "(007) txa      "),
        (0x94, 1, 2, 0x5, 7, "(007) mod      #5"),
        (0x9c, 1, 2, 0x5, 7, "(007) mod      x"),
        (0xa4, 1, 2, 0x5, 7, "(007) xor      #0x5"),
        (0xac, 1, 2, 0x5, 7, "(007) xor      x"),
        (0xb1, 1, 2, 0x5, 7, "(007) ldxb     4*([5]&0xf)"),
        (0x20, 0, 0, 0xfffff000, 0, "(000) ld       [proto]"),
        (0x20, 0, 0, 0xfffff004, 0, "(000) ld       [type]"),
        (0x20, 0, 0, 0xfffff008, 0, "(000) ld       [ifidx]"),
        (0x20, 0, 0, 0xfffff00c, 0, "(000) ld       [nla]"),
        (0x20, 0, 0, 0xfffff010, 0, "(000) ld       [nlan]"),
        (0x20, 0, 0, 0xfffff014, 0, "(000) ld       [mark]"),
        (0x20, 0, 0, 0xfffff018, 0, "(000) ld       [queue]"),
        (0x20, 0, 0, 0xfffff01c, 0, "(000) ld       [hatype]"),
        (0x20, 0, 0, 0xfffff020, 0, "(000) ld       [rxhash]"),
        (0x20, 0, 0, 0xfffff024, 0, "(000) ld       [cpu]"),
        (0x20, 0, 0, 0xfffff028, 0, "(000) ld       [xor_x]"),
        (0x20, 0, 0, 0xfffff02c, 0, "(000) ld       [vlan_tci]"),
        (0x20, 0, 0, 0xfffff030, 0, "(000) ld       [vlanp]"),
        (0x20, 0, 0, 0xfffff034, 0, "(000) ld       [poff]"),
        (0x20, 0, 0, 0xfffff038, 0, "(000) ld       [random]"),
        (0x20, 0, 0, 0xfffff03c, 0, "(000) ld       [vlan_tpid]"),
        (0x20, 0, 0, 0xfffff002, 0, "(000) ld       [-4094]"),
        (0x20, 0, 0, 0xfffff040, 0, "(000) ld       [-4032]"),
        (0x30, 0, 0, 0xfff00009, 0, "(000) ldb      [-1048567]"),
        (0x28, 0, 0, 0xffe0000c, 0, "(000) ldh      [-2097140]"),
        (0x40, 0, 0, 0xfff00000, 0, "(000) ld       [x + -1048576]"),
        (0xb1, 0, 0, 0xfff00000, 0, "(000) ldxb     4*([-1048576]&0xf)"),
        (0x6, 0, 0, 0xffffffff, 0, "(000) ret      #-1"),
        (0x4, 0, 0, 0xffffffff, 0, "(000) add      #-1"),
        (0x54, 0, 0, 0xfffffff0, 0, "(000) and      #0xfffffff0"),
        (0x15, 0, 0, 0xdeadbeef, 0, "(000) jeq      #0xdeadbeef      jt 1\tjf 1"),
        (0x0, 0, 0, 0xffffffff, 0, "(000) ld       #0xffffffff"),
        (0xff, 3, 4, 0x9, 1234, "(1234) unimp    0xff"),
        (0xfd, 3, 4, 0x9, 1234, "(1234) unimp    0xfd             jt 1238\tjf 1239"),
        (0x55, 3, 4, 0x9, 1234, "(1234) unimp    0x55             jt 1238\tjf 1239"),
        (0x1234, 3, 4, 0x9, 1234, "(1234) unimp    0x1234"),
        (0x5, 0, 0, 0x12c, 4000, "(4000) ja       4301"),
    ];
    for &(code, jt, jf, k, at, want) in cases {
        let mut program = vec![Raw::default(); at];
        program.push(Raw { code, jt, jf, k });
        let text = listing(&program).to_string();
        assert_eq!(text.lines().last(), Some(want), "{code:#x}");
    }
    // Every row of the table is among them but the one that libpcap does not know.
    let missing = ROWS.iter().filter(|row| !cases.iter().any(|case| case.0 == row.code));
    assert_eq!(missing.map(|row| row.op).collect::<Vec<_>>(), [Op::LoadXLen]);
}

#[test]
fn rows_are_sorted_and_round_trip() {
    assert!(ROWS.is_sorted_by(|a, b| a.code < b.code));
    for row in ROWS {
        let raw = Raw { code: row.code, jt: 1, jf: 2, k: 3 };
        assert_eq!(Insn::decode(raw).and_then(|insn| insn.encode()), Some(raw));
    }
    let known = (0..=u16::MAX).filter(|code| Row::find(*code).is_some()).count();
    assert_eq!(known, ROWS.len());
}

/// Filters of many shapes, for tcpdump to compile.
const FILTERS: &[&str] = &[
    "ip",
    "tcp port 80",
    "not tcp port 22 and (udp or icmp)",
    "vlan 5 and ip",
    "inbound",
    "len > 100 and ip[0] & 0xf != 5",
    "ifindex 3",
    "ip6 and tcp[tcpflags] & tcp-syn != 0",
    "ether[0] << 2 == 4 and ip[2:2] % 5 = 3 and -ip[1] = 4 and ip[1] ^ 3 = 5",
    "ip[ip[5]] / ip[6] = 3",
    "src net 10.0.0.0/8 and dst host 192.0.2.7",
    "portrange 1000-2000",
    "ip[2:2] * 7 > tcp[4:4] | 3",
    "ether host 02:00:00:00:00:01",
    "greater 1000 or broadcast",
];

#[test]
fn listings_are_tcpdumps() {
    let test = "listings_are_tcpdumps";
    if !has_tool("tcpdump") {
        return skip(Skip::Tool, test, "tcpdump is not installed");
    }
    let mut compared = 0;
    for filter in FILTERS {
        // -y compiles for a link type, -i lo for an interface: only that opens Linux extensions.
        for link in [["-y", "EN10MB"], ["-y", "RAW"], ["-i", "lo"]] {
            let run = |flag| {
                let out = Command::new("tcpdump").args(link).args([flag, *filter]).output();
                let out = out.expect("tcpdump starts");
                out.status.success().then(|| String::from_utf8(out.stdout).expect("text"))
            };
            // Not every filter exists for every link, and an interface needs rights.
            let (Some(text), Some(numbers)) = (run("-d"), run("-ddd")) else { continue };
            let program = parse(&numbers).expect("tcpdump writes numbers");
            assert_eq!(listing(&program).to_string(), text, "{link:?} {filter}");
            let filter = Filter::new(&program).expect("tcpdump writes filters");
            assert_eq!(filter.to_string(), text);
            filter.to_ebpf().expect("tcpdump uses no extension that cannot be converted");
            compared += 1;
        }
    }
    assert!(compared >= FILTERS.len(), "only {compared} filters were compared");
}

fn raw(code: u16, jt: u8, jf: u8, k: u32) -> Raw {
    Raw { code, jt, jf, k }
}

#[test]
fn checks_are_the_kernels() {
    let ret = raw(0x06, 0, 0, 1);
    let cases: &[(&[Raw], &str)] = &[
        (&[], "insn 0: program has 0 instructions, expected 1 to 4096"),
        (&[ret; 4097], "insn 0: program has 4097 instructions, expected 1 to 4096"),
        (&[raw(0x99, 0, 0, 0), ret], "insn 0: opcode 0x0099 is not defined"),
        (&[raw(0x100, 0, 0, 0), ret], "insn 0: opcode 0x0100 is not defined"),
        (&[ret, raw(0, 0, 0, 0)], "insn 1: program ends without ret"),
        (&[raw(5, 0, 0, 1), ret], "insn 0: jump to 2, expected a target below 2"),
        (&[raw(5, 0, 0, u32::MAX), ret], "insn 0: jump to 4294967296, expected a target below 2"),
        (&[raw(0x15, 0, 1, 0), ret], "insn 0: jump to 2, expected a target below 2"),
        (&[raw(0x15, 1, 0, 0), ret], "insn 0: jump to 2, expected a target below 2"),
        (&[raw(0x34, 0, 0, 0), ret], "insn 0: division by constant 0"),
        (&[raw(0x94, 0, 0, 0), ret], "insn 0: division by constant 0"),
        (&[raw(0x64, 0, 0, 32), ret], "insn 0: shift by 32, expected 0 to 31"),
        (&[raw(0x02, 0, 0, 16), ret], "insn 0: M[16] does not exist, expected M[0] to M[15]"),
        (&[raw(0x60, 0, 0, 3), ret], "insn 0: M[3] is read before it is written"),
        // Written on one of two paths only.
        (
            &[raw(0x15, 0, 1, 0), raw(2, 0, 0, 3), raw(0x60, 0, 0, 3), ret],
            "insn 2: M[3] is read before it is written",
        ),
        (&[raw(0x20, 0, 0, 0xffff_f002), ret], "insn 0: extension at offset 0x2 is not defined"),
        (&[raw(0x30, 0, 0, u32::MAX), ret], "insn 0: extension at offset 0xfff is not defined"),
    ];
    for (program, want) in cases {
        assert_eq!(Filter::new(program).unwrap_err().to_string(), *want, "{program:?}");
    }
    let fine: &[&[Raw]] = &[
        &[ret; 4096],
        &[raw(0x60, 0, 0, 0), ret][1..],
        // Written on both paths.
        &[
            raw(0x15, 0, 2, 0),
            raw(2, 0, 0, 3),
            raw(5, 0, 0, 1),
            raw(3, 0, 0, 3),
            raw(0x61, 0, 0, 3),
            ret,
        ],
        &[raw(0x20, 0, 0, 0xffff_efff), raw(0x40, 0, 0, u32::MAX), ret],
    ];
    for program in fine {
        Filter::new(program).unwrap();
    }
}

#[test]
fn numbers_that_are_no_filter_are_errors() {
    let cases = [
        ("", "line 1: \"\" instead of the number of instructions"),
        ("1\n6 0 0", "line 2: \"\" instead of a 32-bit operand"),
        ("1\n6 0 256 1", "line 2: \"256\" instead of a jump distance (0 to 255)"),
        ("1,6 0 0 1 9", "line 2: \"9\" instead of end of line"),
        ("2,6 0 0 1", "1 instructions, but the count in front is 2"),
    ];
    for (text, want) in cases {
        assert_eq!(parse(text).unwrap_err().to_string(), want);
    }
    assert_eq!(parse("1,6 0 0 4294967295,"), Ok(vec![raw(6, 0, 0, u32::MAX)]));
}

#[test]
fn what_has_no_counterpart_in_ebpf_is_a_named_error() {
    let program = [raw(0, 0, 0, 1), raw(0x20, 0, 0, EXTENSIONS_AT + 28), raw(0x16, 0, 0, 0)];
    let error = Filter::new(&program).unwrap().to_ebpf().unwrap_err().to_string();
    assert_eq!(error, "insn 1: extension \"hatype\" has no counterpart in __sk_buff");
}

#[test]
fn loads_from_everywhere() {
    let data = [0x10, 0x21, 0x32, 0x43, 0x54, 0x65, 0x76, 0x87];
    let extensions = Extensions::default().with(Extension::Mark, 77);
    let packet = Packet { data: &data, len: 100, network: 2, extensions };
    // An instruction that loads A, and A then.
    let cases: &[(Raw, u32)] = &[
        (raw(0x20, 0, 0, 1), 0x2132_4354),
        (raw(0x28, 0, 0, 6), 0x7687),
        (raw(0x30, 0, 0, 7), 0x87),
        (raw(0x28, 0, 0, 7), 0),
        (raw(0x30, 0, 0, 8), 0),
        (raw(0x30, 0, 0, NETWORK_AT), 0x32),
        (raw(0x30, 0, 0, NETWORK_AT + 6), 0),
        (raw(0x28, 0, 0, LINK_AT + 1), 0x2132),
        (raw(0x30, 0, 0, 0x8000_0000), 0),
        (raw(0x50, 0, 0, u32::MAX), 0),
        (raw(0x80, 0, 0, 0), 100),
        (raw(0x20, 0, 0, EXTENSIONS_AT + 20), 77),
        (raw(0x20, 0, 0, EXTENSIONS_AT + 24), 0),
    ];
    for (load, want) in cases {
        let filter = Filter::new(&[*load, raw(0x16, 0, 0, 0)]).unwrap();
        assert_eq!(filter.run(&packet), *want, "{load:x?}");
    }
    let header = [raw(0xb1, 0, 0, 5), raw(0x87, 0, 0, 0), raw(0x16, 0, 0, 0)];
    assert_eq!(Filter::new(&header).unwrap().run(&packet), 5 * 4);
}

#[test]
fn netlink_attributes_are_found() {
    let attribute = |kind: u16, body: &[u8]| {
        let len = u16::try_from(body.len() + 4).expect("short");
        let mut out = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        out.extend(body);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    };
    let inner = [attribute(7, &[1]), attribute(9, &[2, 3])].concat();
    let data = [vec![0; 8], attribute(1, &[1, 2, 3, 4, 5]), attribute(2, &inner)].concat();
    let find = |off, at, kind| {
        let program = [
            raw(0x00, 0, 0, at),
            raw(0x01, 0, 0, kind),
            raw(0x20, 0, 0, EXTENSIONS_AT + off),
            raw(0x16, 0, 0, 0),
        ];
        Filter::new(&program).unwrap().run(&Packet::new(&data))
    };
    assert_eq!((find(12, 8, 1), find(12, 8, 2), find(12, 8, 3)), (8, 20, 0));
    assert_eq!((find(16, 20, 7), find(16, 20, 9), find(16, 20, 2)), (24, 32, 0));
    assert_eq!((find(12, u32::MAX, 1), find(12, 9, 1)), (0, 0));
}

/// A random program that passes the checks.
fn program(u: &mut arbitrary::Unstructured<'_>) -> arbitrary::Result<Vec<Raw>> {
    let len = u.int_in_range(1..=24)?;
    let mut out = Vec::new();
    // All words are written first, so that reading them is fine everywhere.
    for k in 0..4 {
        out.push(raw(0x02, 0, 0, k));
    }
    for at in 0..len {
        let left = len - at; // instructions behind this one, with the return
        let row = u.choose(ROWS)?;
        let k = match row.op {
            Op::Jump => u.int_in_range(0..=left - 1)?,
            Op::Store | Op::StoreX | Op::LoadMem | Op::LoadXMem => u.int_in_range(0..=3)?,
            Op::Alu(AluOp::Div | AluOp::Mod, Src::K) => u.int_in_range(1..=u32::MAX)?,
            Op::Alu(AluOp::Lsh | AluOp::Rsh, Src::K) => u.int_in_range(0..=31)?,
            Op::LoadAbs(_) | Op::LoadInd(_) | Op::LoadXHeader => u.int_in_range(0..=80)?,
            _ if u.ratio(1, 2)? => u.int_in_range(0..=20)?,
            _ => u.arbitrary()?,
        };
        let skip = u8::try_from(left - 1).expect("short programs");
        let (jt, jf) = (u.int_in_range(0..=skip)?, u.int_in_range(0..=skip)?);
        out.push(raw(row.code, jt, jf, k));
    }
    out.push(raw(0x16, 0, 0, 0));
    Ok(out)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
fn low(value: u64) -> u32 {
    value as u32
}

/// What the converted program returns: an evaluator of just the instructions the conversion uses.
fn evaluate(slots: &[Slot], packet: &Packet<'_>) -> u64 {
    use crate::{Insn as I, Operand};
    let mut regs = [0xdead_beef_dead_beef_u64; 11];
    let mut stack = [0u8; 512];
    let (mut at, mut steps) = (0usize, 0);
    loop {
        steps += 1;
        assert!(steps < 10_000, "the converted program does not end");
        let insn = I::decode(slots[at], None).unwrap();
        at += 1;
        let value = |operand, regs: &[u64; 11]| match operand {
            Operand::Reg(reg) => regs[reg.index()],
            Operand::Imm(imm) => i64::from(imm).cast_unsigned(),
        };
        let jump = |off: i16| at.checked_add_signed(off.into()).unwrap();
        match insn {
            I::Alu { width, op, dst, src } => {
                let (a, b) = (regs[dst.index()], value(src, &regs));
                let (a32, b32) = (low(a), low(b));
                regs[dst.index()] = match (width, op) {
                    (Width::W64, AluOp::Mov) => b,
                    (Width::W64, _) => panic!("{insn}"),
                    (Width::W32, AluOp::Mov) => b32.into(),
                    (Width::W32, AluOp::Neg) => a32.wrapping_neg().into(),
                    (Width::W32, AluOp::Add) => a32.wrapping_add(b32).into(),
                    (Width::W32, AluOp::Sub) => a32.wrapping_sub(b32).into(),
                    (Width::W32, AluOp::Mul) => a32.wrapping_mul(b32).into(),
                    (Width::W32, AluOp::Div) => a32.checked_div(b32).unwrap().into(),
                    (Width::W32, AluOp::Mod) => a32.checked_rem(b32).unwrap().into(),
                    (Width::W32, AluOp::And) => (a32 & b32).into(),
                    (Width::W32, AluOp::Or) => (a32 | b32).into(),
                    (Width::W32, AluOp::Xor) => (a32 ^ b32).into(),
                    (Width::W32, AluOp::Lsh) => (a32 << (b32 & 31)).into(),
                    (Width::W32, AluOp::Rsh) => (a32 >> (b32 & 31)).into(),
                    _ => panic!("{insn}"),
                };
            }
            I::LoadPacket { size, index, imm } => {
                let index = index.map_or(0, |reg| low(regs[reg.index()]));
                let start = index.wrapping_add(imm.cast_unsigned()) as usize;
                let Some(bytes) = packet.data.get(start..start + usize::from(size.bytes())) else {
                    return 0;
                };
                regs[0] = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
            }
            I::Load { dst, base, off, .. } if base == crate::Reg::R10 => {
                let start = 512usize.checked_add_signed(off.into()).unwrap();
                let bytes = stack[start..].first_chunk::<4>().unwrap();
                regs[dst.index()] = u32::from_le_bytes(*bytes).into();
            }
            // The context: only the length is used.
            I::Load { dst, base, off: 0, .. } if base == crate::Reg::R6 => {
                regs[dst.index()] = packet.len.into();
            }
            I::Store { base, off, src, .. } if base == crate::Reg::R10 => {
                let start = 512usize.checked_add_signed(off.into()).unwrap();
                let bytes = low(value(src, &regs)).to_le_bytes();
                stack[start..start + 4].copy_from_slice(&bytes);
            }
            I::Jump { off, long: false } => at = jump(i16::try_from(off).unwrap()),
            I::JumpIf { width: Width::W64, op, dst, src, off } => {
                let (a, b) = (regs[dst.index()], value(src, &regs));
                let holds = match op {
                    CmpOp::Eq => a == b,
                    CmpOp::Ne => a != b,
                    CmpOp::Gt => a > b,
                    CmpOp::Ge => a >= b,
                    CmpOp::Lt => a < b,
                    CmpOp::Le => a <= b,
                    CmpOp::Set => a & b != 0,
                    _ => panic!("{insn}"),
                };
                if holds {
                    at = jump(off);
                }
            }
            I::Exit => return regs[0],
            _ => panic!("{insn}"),
        }
    }
}

#[test]
fn a_converted_filter_answers_the_same() {
    let answers = std::cell::RefCell::new(std::collections::HashSet::new());
    arbtest(|u| {
        let program = program(u)?;
        let filter = Filter::new(&program).unwrap_or_else(|e| panic!("{e}\n{}", listing(&program)));
        let slots = filter.to_ebpf().expect("no extensions in it");
        let data: [u8; 64] = u.arbitrary()?;
        for len in [0, 5, 64] {
            let packet = Packet::new(&data[..len]);
            let (want, got) = (filter.run(&packet), evaluate(&slots, &packet));
            let text = crate::disasm::Listing::new(&slots).pc(true).labels(true);
            assert_eq!(u64::from(want), got, "{filter}{text}");
            answers.borrow_mut().insert(want);
        }
        Ok(())
    })
    .budget_ms(1000);
    let answers = answers.borrow().len();
    assert!(answers > 10, "only {answers} different answers: the programs are too dull");
}

/// Values at which comparisons and arithmetic change their mind.
const EDGES: [u32; 10] =
    [0, 1, 2, 5, 31, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xffff_fffe, 0xffff_ffff];

#[test]
fn every_operation_converts_at_every_edge() {
    let packet = Packet::new(&[]);
    let same = |program: &[Raw]| {
        // Some rows refuse a constant, for example to divide by 0.
        let Ok(filter) = Filter::new(program) else { return 0 };
        let slots = filter.to_ebpf().expect("no extensions in it");
        assert_eq!(u64::from(filter.run(&packet)), evaluate(&slots, &packet), "{filter}");
        1
    };
    let mut count = 0;
    for row in ROWS {
        for a in EDGES {
            for b in EDGES {
                let set = [raw(0x00, 0, 0, a), raw(0x01, 0, 0, b)];
                match row.op {
                    Op::Alu(..) | Op::Neg | Op::Tax | Op::Txa => {
                        let op = raw(row.code, 0, 0, b);
                        count += same(&[set[0], set[1], op, raw(0x16, 0, 0, 0)]);
                    }
                    Op::JumpIf(..) => {
                        for (jt, jf) in [(0, 1), (1, 0), (1, 2), (2, 1), (0, 0)] {
                            let op = raw(row.code, jt, jf, b);
                            let rets = [1, 2, 3].map(|k| raw(0x06, 0, 0, k));
                            count += same(&[set[0], set[1], op, rets[0], rets[1], rets[2]]);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(count > 5000, "only {count} programs were compared");
}

#[test]
fn the_longest_filter_converts() {
    // The worst case for the conversion: every instruction becomes many, one jump spans them all.
    let mut program = vec![raw(0x05, 0, 0, 4093)];
    program.resize(4094, raw(0xb1, 0, 0, 0));
    program.extend([raw(0x06, 0, 0, 7), raw(0x06, 0, 0, 9)]);
    let filter = Filter::new(&program).unwrap();
    let slots = filter.to_ebpf().unwrap();
    assert_eq!(evaluate(&slots, &Packet::new(&[])), 7);
}

#[test]
fn random_programs_never_panic() {
    arbtest(|u| {
        crate::fuzz::classic(u.bytes(u.len())?);
        Ok(())
    })
    .budget_ms(300);
}
