//! LLVM as an independent reader and writer of the same encodings and the same text.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use skep_isa::{
    CallTarget, Imm64, Insn, Slot, asm, decode, disasm::Listing, opcode::Form, opcode::Row,
    slots_from_bytes,
};
use skep_testing::{Skip, has_tool, skip};

/// The release whose text and encodings are compared; older ones lack ISA v4.
const CLANG: &str = "clang-19";
const OBJDUMP: &str = "llvm-objdump-19";

/// Code that makes clang use every kind of instruction a C program can reach.
const SOURCE: &str = r"
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32;
typedef unsigned long u64; typedef signed char s8; typedef short s16; typedef int s32;
typedef long s64;

u64 shared_counter;

u64 through_pointer(u64 (*callee)(u64), u64 x) { return callee(x) + 1; }

__attribute__((noinline)) static u64 seven_times(u64 a) { return a * 7 ^ (a >> 3) | a << 5; }

u64 branches(u64 a, int b, unsigned c, s64 d) {
    if (b < 5) shared_counter = 0x123456789abcdef0;
    if (c >= 7) shared_counter++;
    if (a & 5) shared_counter += 2;
    if (d > 99) return seven_times(a);
    if (b == c || d <= b) shared_counter ^= a;
    return seven_times(a + 1) + ((u64 (*)(u64))5)(a);
}

u64 unsigned_arithmetic(u64 a, u64 b, u32 c, u32 d) {
    return a / b + a % b + c / d + c % d - a * b + (c * d | c & d) + (a >> (b & 63)) + (c << (d & 31));
}

s64 shifts(s64 a, s32 b, u32 n) { return (a >> (n & 63)) + (b >> (n & 31)) + (a >> 7) + (b >> 3); }

void stores(u8 *a, u16 *b, u32 *c, u64 *d, u64 v) {
    a[1] = 1; b[-1] = 2; c[3] = 4; d[-2] = -5;
    a[9] = v; b[9] = v; c[9] = v; d[9] = v;
}

u64 loads(u8 *a, u16 *b, u32 *c, u64 *d) { return a[1] + b[2] + c[-3] + d[4]; }
s64 signed_loads(s8 *a, s16 *b, s32 *c, s64 d) { return *a + *b + *c + (s8)d + (s16)d + (s32)d; }
s32 negate(s32 a, s64 b) { return -a ^ -b; }
u64 swap(u64 a, u32 b, u16 c) {
    return __builtin_bswap64(a) + __builtin_bswap32(b) + __builtin_bswap16(c);
}
#if __BPF_CPU_VERSION__ >= 3
u64 atomics(u64 *p, u32 *q, u64 v) {
    u64 a = __sync_fetch_and_add(p, v);
    a += __sync_fetch_and_or(p, a); a += __sync_fetch_and_and(p, a);
    a += __sync_fetch_and_xor(p, a); a += __sync_lock_test_and_set(p, a);
    a += __sync_val_compare_and_swap(p, v, a); a += __sync_fetch_and_add(q, a);
    a += __sync_fetch_and_or(q, a); a += __sync_lock_test_and_set(q, a);
    a += __sync_val_compare_and_swap(q, v, a);
    __sync_fetch_and_or(p, v); __sync_fetch_and_and(q, v); __sync_fetch_and_xor(q, v);
    __sync_fetch_and_add(p, v); __sync_fetch_and_add(q, v);
    return a;
}
#endif
#if __BPF_CPU_VERSION__ >= 4
s64 signed_division(s64 a, s64 b, s32 c, s32 d) { return a / b + a % b + c / d + c % d; }
#endif
";

/// A directory of this test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("skep-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A file that stays behind in the temporary directory is no reason to fail.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn tools(test: &str) -> bool {
    let missing = [CLANG, OBJDUMP].into_iter().find(|tool| !has_tool(tool));
    if let Some(tool) = missing {
        skip(Skip::Tool, test, &format!("{tool} is not installed"));
    }
    missing.is_none()
}

fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().expect("the tool starts");
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?}: {error}");
    String::from_utf8(out.stdout).expect("the tool writes text")
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("the temporary directory has a plain name")
}

/// A line of objdump: raw slots and text.
fn lines(dump: &str) -> Vec<(Vec<Slot>, String)> {
    let mut out = Vec::new();
    for line in dump.lines() {
        let Some((pc, rest)) = line.split_once(":\t") else { continue };
        if pc.trim().parse::<u32>().is_err() {
            continue;
        }
        let (raw, text) = rest.split_once('\t').expect("bytes, a tab, text");
        let bytes: Vec<u8> = raw
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).expect("a byte in hexadecimal"))
            .collect();
        out.push((slots_from_bytes(&bytes).expect("whole slots"), text.trim().to_owned()));
    }
    out
}

/// What objdump leaves out or writes otherwise, made equal: symbols behind jumps, 64-bit constants
/// in decimal, and that a call is local.
fn normal(text: &str, insn: &Insn) -> String {
    let text = match text.rsplit_once(" <") {
        Some((text, symbol)) if symbol.ends_with('>') => text,
        _ => text,
    };
    match insn {
        Insn::Call(CallTarget::Local(off)) => {
            assert_eq!(text, format!("call {off}"));
            format!("call pc{off:+}")
        }
        Insn::LoadImm64 { dst, imm: Imm64::Const(value) } => {
            assert_eq!(text, format!("{dst} = {} ll", value.cast_signed()));
            format!("{dst} = {value:#x} ll")
        }
        _ => text.to_owned(),
    }
}

#[test]
fn clang_objects_read_as_objdump_prints_them() {
    let test = "clang_objects_read_as_objdump_prints_them";
    if !tools(test) {
        return;
    }
    let dir = Scratch::new("isa-objdump");
    let source = dir.0.join("source.c");
    std::fs::write(&source, SOURCE).expect("the scratch directory is writable");
    let mut same = 0;
    for cpu in ["v1", "v2", "v3", "v4"] {
        let object = dir.0.join(format!("{cpu}.o"));
        let mcpu = format!("-mcpu={cpu}");
        let (source, object) = (text_of(&source), text_of(&object));
        run(CLANG, &["-target", "bpf", "-O2", "-w", &mcpu, "-c", source, "-o", object]);
        // Without a cpu, objdump calls registers of memory instructions r1, as we do, but does not
        // know all instructions; with v4 it knows all and calls some w1.
        let plain = lines(&run(OBJDUMP, &["-d", "--no-print-imm-hex", object]));
        let v4 = lines(&run(OBJDUMP, &["-d", "--no-print-imm-hex", "--mcpu=v4", object]));
        assert_eq!(plain.len(), v4.len());
        for ((slots, text), (_, text4)) in plain.iter().zip(&v4) {
            let decoded = decode(slots).unwrap_or_else(|e| panic!("{text4}: {e}"));
            let (_, insn) = decoded[0];
            // Of 32-bit atomics objdump knows one without a cpu; we name w1 in all of them, like v4.
            let text = if matches!(insn, Insn::Atomic { .. }) { text4 } else { text };
            if text != "<unknown>" {
                assert_eq!(normal(text, &insn), insn.to_string(), "{cpu} {slots:x?}");
                same += 1;
            }
            if !matches!(insn, Insn::Call(CallTarget::Local(_))) {
                assert_eq!(asm::assemble(text4).as_ref(), Ok(slots), "{cpu} {text4}");
            }
        }
    }
    assert!(same > 400, "only {same} lines were compared");
}

/// Forms whose text is our own, or newer than LLVM 19.
fn unknown_to_llvm(form: Form) -> bool {
    match form {
        Form::LoadAcquire { .. } | Form::StoreRelease { .. } => true,
        Form::Call { source } | Form::LoadImm64 { source } => source != 0,
        _ => false,
    }
}

#[test]
fn llvm_assembles_our_text_to_our_bytes() {
    let test = "llvm_assembles_our_text_to_our_bytes";
    if !tools(test) {
        return;
    }
    let dir = Scratch::new("isa-mc");
    let mut slots = Vec::new();
    for row in Row::all().iter().filter(|row| !unknown_to_llvm(row.form)) {
        for (dst, src, off, imm) in [(1, 2, 3, 4), (9, 0, -1, -7), (0, 10, 0, 0)] {
            // LLVM has no syntax for the offset of an indirect packet load.
            let indirect = matches!(row.form, Form::LoadPacket { indirect: true, .. });
            let imm = if indirect { 0 } else { imm };
            let slot = row.fill(Slot { code: 0, dst, src, off, imm });
            slots.push(slot);
            if slot.code == 0x18 {
                slots.push(Slot { imm, ..Slot::default() });
            }
        }
    }
    let (source, object) = (dir.0.join("source.s"), dir.0.join("object.o"));
    let text = Listing::new(&slots).to_string();
    std::fs::write(&source, &text).expect("the scratch directory is writable");
    let (source, object) = (text_of(&source), text_of(&object));
    run(CLANG, &["-target", "bpf", "-mcpu=v4", "-c", source, "-o", object]);
    let dump = lines(&run(OBJDUMP, &["-d", "--mcpu=v4", object]));
    let assembled: Vec<Slot> = dump.into_iter().flat_map(|(slots, _)| slots).collect();
    for ((line, want), got) in text
        .lines()
        .zip(decode(&slots).expect("rows decode"))
        .zip(decode(&assembled).expect("what LLVM assembles decodes"))
    {
        assert_eq!(want, got, "{line}");
    }
    assert_eq!(slots, assembled);
}
