//! `skep plugin`: the protocol of the conformance suite, and the suite itself through it.

mod common;

use common::{run, run_with};

#[test]
fn memory_is_an_argument_and_may_be_absent() {
    let asm = |text: &str| run_with(&["asm", "-"], text.as_bytes()).out;
    let first = asm("r0 = *(u8 *)(r1 + 0)\nr0 += r2\nexit");
    assert_eq!(run_with(&["plugin", "--interpret", "0a 0b 0c"], first.as_bytes()).out, "d\n");
    assert_eq!(run_with(&["plugin", "0a0b0c"], first.as_bytes()).out, "d\n");
    let length = asm("r0 = r2\nexit");
    assert_eq!(run_with(&["plugin"], length.as_bytes()).out, "0\n");
    let negative = asm("r0 = -1\nexit");
    assert_eq!(run_with(&["plugin"], negative.as_bytes()).out, "ffffffffffffffff\n");
}

#[test]
fn faults_and_nonsense_are_errors() {
    let out_of_bounds = run_with(&["asm", "-"], b"r0 = *(u64 *)(r1 + 0)\nexit").out;
    let ran = run_with(&["plugin", "00 00"], out_of_bounds.as_bytes());
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("insn 0: ") && ran.err.contains("read of 8 bytes"), "{}", ran.err);
    assert_eq!(run_with(&["plugin"], b"zz").code, 1);
    assert_eq!(run_with(&["plugin"], b"").code, 1);
    assert_eq!(run(&["plugin", "0"]).code, 2);
}
