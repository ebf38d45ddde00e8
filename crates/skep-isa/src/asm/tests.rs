//! Both notations, listings, and what is wrong with other text.

use super::*;
use crate::{Pc, disasm::Listing};

fn text(source: &str) -> String {
    Listing::new(&assemble(source).unwrap_or_else(|e| panic!("{source:?}: {e}"))).to_string()
}

#[test]
fn both_notations_give_the_same_instructions() {
    let cases = [
        ("add %r1, 5", "r1 += 5"),
        ("add32 %r1, %r2", "w1 += w2"),
        ("sdiv32 %r1, -1", "w1 s/= -1"),
        ("mov %r1, 0xffffffff", "r1 = -1"),
        ("mov r1 r2", "r1 = r2"),
        ("movsx832 %r2, %r1", "w2 = (s8)w1"),
        ("movsx3264 %r2, %r1", "r2 = (s32)r1"),
        ("neg32 %r1", "w1 = -w1"),
        ("swap16 %r1", "r1 = bswap16 r1"),
        ("bswap64 %r1", "r1 = bswap64 r1"),
        ("be32 %r3", "r3 = be32 r3"),
        ("jeq %r1, 5, +1", "if r1 == 5 goto +1"),
        ("jset32 %r1, %r2, -1", "if w1 & w2 goto -1"),
        ("ja +0", "goto +0"),
        ("ja32 +70000", "gotol +70000"),
        ("ldxsw %r0, [%r1-0x10]", "r0 = *(s32 *)(r1 - 16)"),
        ("ldxb %r0, [%r1]", "r0 = *(u8 *)(r1 + 0)"),
        ("stdw [%r10-8], -1", "*(u64 *)(r10 - 8) = -1"),
        ("stxh [%r1+2], %r2", "*(u16 *)(r1 + 2) = r2"),
        ("lddw %r0, 0x8877665544332211", "r0 = 0x8877665544332211 ll"),
        ("lddw %r0, -1", "r0 = 0xffffffffffffffff ll"),
        ("lock add [%r10-8], %r1", "lock *(u64 *)(r10 - 8) += r1"),
        ("lock fetch or32 [%r10-4], %r3", "w3 = atomic_fetch_or((u32 *)(r10 - 4), w3)"),
        ("lock cmpxchg32 [%r10-8], %r1", "w0 = cmpxchg32_32(r10 - 8, w0, w1)"),
        ("lock xchg [%r10-8], %r1", "r1 = xchg_64(r10 - 8, r1)"),
        ("call 5", "call 5"),
        ("call helper 5", "call 5"),
        ("call runtime 5", "call kfunc 5"),
        ("call %r2", "callx r2"),
    ];
    for (prefix, infix) in cases {
        assert_eq!(text(prefix), format!("{infix}\n"), "{prefix}");
        assert_eq!(assemble(prefix), assemble(infix), "{prefix}");
    }
}

#[test]
fn lines_of_other_tools_are_read() {
    let cases = [
        ("       2:\t8d 03 00 00 00 00 00 00\tcallx r3", "callx r3"),
        ("     108:\t18 02 00 00 00 00 00 00 00 00 00 00 00 00 00 00\tr2 = 0x0 ll", "r2 = 0x0 ll"),
        ("     107:\tif w2 s> 0x4 goto +0x5 <lo+0x30>", "if w2 s> 4 goto +5"),
        ("     140:\t*(u64 *)(r4 - 0x10) = -0x5", "*(u64 *)(r4 - 16) = -5"),
        ("      79:\tw1 = *(u32 *)(r3 + 0)", "r1 = *(u32 *)(r3 + 0)"),
        ("12: (63) *(u32 *)(r10 -4) = r2  ; R2_w=1", "*(u32 *)(r10 - 4) = r2"),
        ("0: (18) r1 = 0xffff888", "r1 = 0xffff888 ll"),
        ("3: (b7) r1 = 1", "r1 = 1"),
        ("5: (85) call bpf_map_lookup_elem#1", "call 1"),
        ("6: (85) call pc+2", "call pc+2"),
        (
            "7: (db) r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)",
            "r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)",
        ),
        ("8: (c3) r2 = atomic_xchg((u32 *)(r1 +0), r2)", "w2 = xchg32_32(r1 + 0, w2)"),
        (
            "9: (db) r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)",
            "r0 = cmpxchg_64(r1 + 0, r0, r2)",
        ),
        ("0000000000000028 <atom>:\nexit", "exit"),
        ("r0 = *(u32 *)skb[r7 + 0]", "r0 = *(u32 *)skb[r7]"),
        ("lock *(u32 *)(r2 + 0x0) += r5", "lock *(u32 *)(r2 + 0) += w5"),
    ];
    for (line, want) in cases {
        assert_eq!(text(line), format!("{want}\n"), "{line}");
    }
}

#[test]
fn labels_and_comments() {
    let source = "\
        start: r0 = 0 # comment\n\
        ; a whole line\n\
        if r0 == 0 goto exit // the first exit\n\
        r1 = subprog[sub]\n\
        call local sub\n\
        a: b: goto start\n\
        exit\n\
        sub:\n\
        call sub\n\
        goto a\n";
    let want = "r0 = 0\nif r0 == 0 goto +4\nr1 = subprog[+4]\ncall pc+2\ngoto -6\nexit\n\
                call pc-1\ngoto -4\n";
    assert_eq!(text(source), want);
}

#[test]
fn a_listing_with_everything_reads_back() {
    let source = "l0: r1 = map[fd:3]\nr2 = map[fd:-1][0]+4294967295\nr3 = var[id:7][btf:2]\n\
                  r4 = map[idx:1]\nr5 = map[idx:1][0]+8\nif w1 s>= -5 goto l0\nr6 = subprog[end]\n\
                  goto far\nend: exit\nfar: .slot 0xff\ncall end\nmay_goto end\n";
    let slots = assemble(source).unwrap();
    for (pc, bytes, labels) in (0..8).map(|n| (n & 1 != 0, n & 2 != 0, n & 4 != 0)) {
        let listing = Listing::new(&slots).pc(pc).bytes(bytes).labels(labels).to_string();
        assert_eq!(assemble(&listing).as_ref(), Ok(&slots), "{listing}");
    }
}

#[test]
fn errors_say_line_column_expected_and_found() {
    let cases = [
        ("r0 = 0\n  r1 +-= 2", "line 2, column 6: expected `=` or another assignment, found '+'"),
        ("frob r1", "line 1, column 1: expected an instruction, found \"frob\""),
        ("r11 = 1", "line 1, column 1: register 11 does not exist, expected 0 to 10"),
        ("r1 = w2", "line 1, column 6: expected a 64-bit register (r0 to r10), found \"w2\""),
        ("r1 = 2 r3", "line 1, column 8: expected end of line, found \"r3\""),
        ("r1 =", "line 1, column 5: expected a value, found end of line"),
        (
            "r1 = 4294967295",
            "line 1, column 6: immediate is 4294967295, expected -2147483648 to 2147483647",
        ),
        ("ldxw %r1, [%r2+40000]", "line 1, column 15: offset is 40000, expected -32768 to 32767"),
        ("goto x", "line 1, column 6: label \"x\" is not defined"),
        ("x: x: exit", "line 1, column 4: label \"x\" is already defined at slot 0"),
        ("goto +40000", "line 1, column 6: offset is 40000, expected -32768 to 32767"),
        ("goto 3", "line 1, column 6: expected a label or an offset with its sign, found \"3\""),
        ("r1 = -r2", "line 1, column 7: expected the register on the left of `=`, found \"r2\""),
        ("*(s8 *)(r1 + 0) = 1", "line 1, column 3: expected an unsigned type, found \"s8\""),
        ("ldxsdw %r1, [%r2]", "line 1, column 1: no encoding for Load { size: Dw, signed: true }"),
        ("é", "line 1, column 1: expected an instruction, found 'é'"),
    ];
    for (source, want) in cases {
        let error = assemble(source).map(|slots| Listing::new(&slots).to_string()).unwrap_err();
        assert_eq!(error.to_string(), want, "{source}");
    }
}

#[test]
fn too_far_a_label_is_an_error_for_a_short_jump_only() {
    let body = "r0 = 0\n".repeat(0x8000);
    let long = assemble(&format!("gotol end\n{body}end: exit")).unwrap();
    assert_eq!(long[0].imm, 0x8000);
    let error = assemble(&format!("goto end\n{body}end: exit")).unwrap_err();
    let want = "line 1, column 6: target is 32768 slots away, expected -32768 to 32767";
    assert_eq!(error.to_string(), want);
    assert_eq!(crate::decode(&long).unwrap()[0].0, Pc(0));
}
