//! What the checked engine refuses, and in which words.

use std::sync::Arc;

use skep_abi::ProgType;
use skep_isa::asm::assemble;
use skep_isa::{Pc, Slot};
use skep_object::spec::{ExternKind, ExternSpec, ObjectSpec, ProgramSpec, Reloc, RelocTarget};
use skep_vm::context::{Context, Plain, SkBuff, Xdp};
use skep_vm::{LoadOptions, Object, Program, RunOutput, Settings};

fn load(prog_type: ProgType, text: &str) -> Result<Arc<Program>, String> {
    let slots = assemble(text).expect("test programs assemble");
    let settings = Arc::new(Settings { budget: 10_000, ..Settings::default() });
    Program::from_slots("t", prog_type, &slots, &settings).map_err(|e| e.to_string())
}

fn run_on(ctx: impl Into<Context>, prog_type: ProgType, text: &str) -> Result<RunOutput, String> {
    load(prog_type, text)?.run(&mut ctx.into()).map_err(|e| e.to_string())
}

fn xdp(text: &str) -> Result<u64, String> {
    run_on(Xdp::new(&[0xab; 60]), ProgType::XDP, text).map(|o| o.retval)
}

#[test]
fn structure_is_checked_before_the_first_run() {
    let cases = [
        ("r0 = 0", "program t: insn 0: execution falls off the end of the program"),
        (
            "goto +5\nexit",
            "program t: insn 0: jumps to 6, which is not an instruction of the program",
        ),
        (
            "goto -3\nexit",
            "program t: insn 0: jumps to -2, which is not an instruction of the program",
        ),
        (
            "goto +1\nr1 = 1 ll\nexit",
            "program t: insn 0: jumps to 2, which is not an instruction of the program",
        ),
        ("r10 = 1\nexit", "program t: insn 0: r10, the frame pointer, is read-only"),
        ("r0 = 0\ncall 9999\nexit", "program t: insn 1: no helper has number 9999"),
    ];
    for (text, want) in cases {
        assert_eq!(load(ProgType::XDP, text).map(|_| ()), Err(want.to_owned()), "{text}");
    }
}

#[test]
fn what_only_the_kernel_has_is_an_error_when_it_is_reached() {
    let text = "r6 = *(u32 *)(r1 + 16)\nif r6 == 0 goto +1\ncall 27\nr0 = 2\nexit";
    let program = load(ProgType::XDP, text).expect("it loads");
    let missing: Vec<_> = program.missing().map(|(at, what)| (at.0, what)).collect();
    assert_eq!(missing, [(2, "helper get_stackid (number 27)")]);
    let run = |queue| program.run(&mut Xdp::new(&[0; 60]).with_ingress(1, queue).into());
    assert_eq!(run(0).map(|o| o.retval), Ok(2));
    let error = run(1).expect_err("the call is reached");
    let want =
        "program t: insn 2: call 27: helper get_stackid (number 27) is not in the embedded engine";
    assert_eq!(error.to_string(), want);
    let by_register = xdp("r6 = 27\ncallx r6\nexit").unwrap_err();
    assert!(by_register.ends_with("(number 27) is not in the embedded engine"), "{by_register}");
}

#[test]
fn kernel_functions_are_errors_when_they_are_reached() {
    let text = "r6 = *(u32 *)(r1 + 16)\nif r6 == 0 goto +1\ncall 27\nr0 = 2\nexit";
    let mut insns = assemble(text).expect("it assembles");
    insns[2] = Slot { src: 2, imm: -1, ..insns[2] };
    let program = ProgramSpec {
        name: "t".into(),
        section: "xdp".into(),
        prog_type: Some(ProgType::XDP),
        attach_type: None,
        attach_to: None,
        flags: 0,
        autoload: true,
        insns,
        subprogs: Vec::new(),
        relocs: vec![Reloc { at: Pc(2), target: RelocTarget::Kfunc(0) }],
        core_relos: Vec::new(),
        func_info: Vec::new(),
        line_info: Vec::new(),
        poisoned: Vec::new(),
    };
    let kfunc = ExternSpec {
        name: "bpf_xdp_metadata_rx_hash".into(),
        weak: false,
        type_id: None,
        kind: ExternKind::Kfunc,
    };
    let spec = ObjectSpec {
        license: "GPL".into(),
        version: None,
        programs: vec![program],
        maps: Vec::new(),
        externs: vec![kfunc],
        btf: None,
    };
    let object = Object::load_spec(&spec, &LoadOptions::default()).expect("it loads");
    let program = object.program("t").expect("it is there");
    let run = |queue| program.run(&mut Xdp::new(&[0; 60]).with_ingress(1, queue).into());
    assert_eq!(run(0).map(|o| o.retval), Ok(2));
    let error = run(1).expect_err("the call is reached").to_string();
    let want = "kernel function bpf_xdp_metadata_rx_hash is not in the embedded engine";
    assert!(error.ends_with(want), "{error}");
}

#[test]
fn a_reason_is_said_once() {
    let texts = |e: &dyn std::error::Error| {
        std::iter::successors(Some(e), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>()
    };
    let slots = assemble("r0 = 0\ncall 9999\nexit").expect("it assembles");
    let settings = Arc::new(Settings::default());
    let error = Program::from_slots("t", ProgType::XDP, &slots, &settings).unwrap_err();
    assert_eq!(texts(&error).concat().matches("9999").count(), 1);
    let program = load(ProgType::XDP, "r2 = 8\nr0 = *(u64 *)(r2 + 0)\nexit").expect("it loads");
    let error = program.run(&mut Xdp::new(&[0; 60]).into()).unwrap_err();
    assert_eq!(texts(&error).concat().matches("null").count(), 1);
    let error = skep_vm::hooks::pcap::PcapReader::new(&[0_u8; 24][..]).unwrap_err();
    assert_eq!(texts(&error).concat().matches("magic").count(), 1);
}

#[test]
fn refused_accesses_are_told_relative_to_what_is_near() {
    let packet = "r2 = *(u32 *)(r1 + 0)\n";
    let cases = [
        (
            format!("{packet}r0 = *(u32 *)(r2 + 64)\nexit"),
            "read of 4 bytes at 4 bytes past the end of the packet (the packet is 60 bytes)",
        ),
        (
            format!("{packet}r0 = *(u32 *)(r2 + 58)\nexit"),
            "read of 4 bytes at offset 58 of the packet, 2 bytes past its end (the packet is 60 bytes)",
        ),
        (
            format!("{packet}r0 = *(u8 *)(r2 - 1)\nexit"),
            "read of 1 bytes at 1 bytes before the packet (the packet is 60 bytes)",
        ),
        (
            "*(u64 *)(r10 + 0) = 1\nexit".to_owned(),
            "write of 8 bytes at 0 bytes past the end of the stack (the stack is 512 bytes)",
        ),
        (
            "r2 = 0\nr0 = *(u64 *)(r2 + 8)\nexit".to_owned(),
            "read of 8 bytes at address 0x8 (a null pointer)",
        ),
        (
            "r2 = 0x1234567890 ll\nr0 = *(u64 *)(r2 + 0)\nexit".to_owned(),
            "read of 8 bytes at address 0x1234567890, which is nothing the program was given",
        ),
        (
            "*(u32 *)(r1 + 0) = 1\nexit".to_owned(),
            "write of 4 bytes at offset 0 of the context: no field that this program type may write",
        ),
        (
            "r0 = *(u16 *)(r1 + 0)\nexit".to_owned(),
            "read of 2 bytes at offset 0 of the context: reads a part of a pointer",
        ),
        (
            "r0 = *(u32 *)(r1 + 24)\nexit".to_owned(),
            "read of 4 bytes at 0 bytes past the end of the context",
        ),
    ];
    for (text, want) in cases {
        let error = xdp(&text).expect_err("the access is refused");
        assert!(error.contains(want), "{text}\n{error}\n{want}");
    }
}

#[test]
fn atomics_must_be_aligned() {
    let error = xdp("r2 = 1\n*(u64 *)(r10 - 16) = r2\nlock *(u64 *)(r10 - 12) += r2\nexit");
    assert!(error.unwrap_err().contains("is not aligned"));
}

#[test]
fn loops_and_recursion_end() {
    let error = xdp("r0 = 0\ngoto -2").unwrap_err();
    assert_eq!(error, "program t: insn 1: goto -2: the budget of 10000 instructions is used up");
    let error = xdp("call pc-1\nexit").unwrap_err();
    assert!(error.ends_with("calls are nested more than 8 deep"), "{error}");
}

#[test]
fn frames_are_cleared_and_callers_frames_can_be_passed() {
    // The callee writes through a pointer into the caller's frame.
    let text = "r1 = r10\nr1 += -8\ncall pc+2\nr0 = *(u64 *)(r10 - 8)\nexit\n\
                *(u64 *)(r1 + 0) = 42\nr0 = 0\nexit";
    assert_eq!(xdp(text), Ok(42));
    // What an earlier call left in its frame is not seen.
    let text = "r1 = 7\ncall pc+4\nr1 = 0\ncall pc+2\nexit\nexit\n\
                r0 = *(u64 *)(r10 - 8)\n*(u64 *)(r10 - 8) = r1\nexit";
    assert_eq!(xdp(text), Ok(0));
}

#[test]
fn packet_loads_outside_end_the_program_with_0() {
    let run = |text| {
        let skb = SkBuff::new(ProgType::SOCKET_FILTER, &[0xab; 60]);
        run_on(skb, ProgType::SOCKET_FILTER, text).map(|o| o.retval)
    };
    assert_eq!(run("r6 = r1\nr0 = *(u16 *)skb[58]\nexit"), Ok(0xabab));
    assert_eq!(run("r6 = r1\nr0 = *(u16 *)skb[59]\nr0 = 5\nexit"), Ok(0));
    assert!(xdp("r0 = *(u8 *)skb[0]\nexit").unwrap_err().contains("has no packet"));
}

#[test]
fn a_packet_load_outside_ends_only_the_function_it_is_in() {
    let text = "r6 = r1\ncall pc+2\nr0 += 7\nexit\nr6 = r1\nr0 = *(u8 *)skb[100]\nr0 = 1\nexit";
    let skb = SkBuff::new(ProgType::SOCKET_FILTER, &[0xab; 60]);
    assert_eq!(run_on(skb, ProgType::SOCKET_FILTER, text).map(|o| o.retval), Ok(7));
}

#[test]
fn callbacks_get_their_arguments_and_can_break() {
    // bpf_loop: the callback adds its index to the caller's stack and stops at 5.
    let text = "*(u64 *)(r10 - 8) = 0\nr1 = 100\nr2 = subprog[+9]\nr3 = r10\nr3 += -8\nr4 = 0\ncall 181\n\
                r1 = *(u64 *)(r10 - 8)\nr0 *= 1000\nr0 += r1\nexit\n\
                r3 = *(u64 *)(r2 + 0)\nr3 += r1\n*(u64 *)(r2 + 0) = r3\nr0 = 0\nif r1 != 5 goto +1\nr0 = 1\nexit";
    let slots = assemble(text).expect("it assembles");
    let settings = Arc::new(Settings::default());
    let program = Program::from_slots("t", ProgType::XDP, &slots, &settings).expect("valid");
    let run = program.run(&mut Xdp::new(&[0; 60]).into());
    assert_eq!(run.map(|o| o.retval), Ok(6015));
}

#[test]
fn bad_arguments_name_helper_and_argument() {
    let error = xdp("r1 = 5\nr2 = r10\nr2 += -4\ncall 1\nexit").unwrap_err();
    assert!(error.ends_with("argument 1 of map_lookup_elem: not a map"), "{error}");
    let error = xdp("r1 = 0\nr2 = 0\ncall 44\nexit").unwrap_err();
    assert!(error.ends_with("argument 1 of xdp_adjust_head: not the context"), "{error}");
    let error = xdp("r2 = 0\ncall 50\nexit").unwrap_err();
    assert!(error.ends_with("skb_adjust_room does not work in this kind of program"), "{error}");
}

#[test]
fn what_xdp_moves_is_what_the_program_then_sees() {
    let text = "r6 = r1\nr2 = 14\ncall 44\nr2 = *(u32 *)(r6 + 0)\nr3 = *(u32 *)(r6 + 4)\nr3 -= r2\nr0 = r3\nexit";
    assert_eq!(xdp(text), Ok(46));
    let stale = "r6 = r1\nr7 = *(u32 *)(r6 + 0)\nr2 = 14\ncall 44\nr0 = *(u8 *)(r7 + 0)\nexit";
    assert!(xdp(stale).unwrap_err().contains("14 bytes before the packet"));
}

#[test]
fn contexts_of_memory_are_checked_too() {
    let read = "r0 = *(u64 *)(r1 + 8)\nexit";
    let tracepoint = Plain::raw_tracepoint(&[1, 2]);
    assert_eq!(run_on(tracepoint, ProgType::RAW_TRACEPOINT, read).map(|o| o.retval), Ok(2));
    let write = "*(u64 *)(r1 + 8) = 3\nr0 = 0\nexit";
    let tracepoint = Plain::raw_tracepoint(&[1, 2]);
    let error = run_on(tracepoint, ProgType::RAW_TRACEPOINT, write).unwrap_err();
    assert!(error.contains("offset 8 of the tracepoint's arguments"), "{error}");
    assert!(error.ends_with("which is read-only"), "{error}");
    assert!(run_on(Plain::syscall(&[0; 16]), ProgType::SYSCALL, write).is_ok());
}
