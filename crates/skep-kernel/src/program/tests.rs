//! Programs loaded into the running kernel.

use super::*;
use crate::probe;
use skep_testing::require_kernel;

fn slot(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Slot {
    Slot { code, dst, src, off, imm }
}

#[test]
fn a_trivial_program_loads_and_runs() {
    require_kernel!(probe::can_load().into_result());
    let insns = [slot(0xb7, 0, 0, 0, 2), slot(0x95, 0, 0, 0, 0)];
    let program = Program::load(&ProgramLoad::new("pass", ProgType::XDP, &insns)).unwrap();
    let packet = [0x5a; 60];
    let options = TestRunOptions {
        data: &packet,
        data_out_capacity: 256,
        repeat: 10,
        ..TestRunOptions::default()
    };
    let run = program.test_run(&options).unwrap();
    assert_eq!(run.retval, 2);
    assert_eq!(run.data_out, packet);
    let info = program.info().unwrap();
    assert_eq!(info.name, "pass");
    assert_eq!(info.prog_type, 6);
    assert!(info.id > 0);
}

#[test]
fn a_rejection_carries_the_verifiers_sentence() {
    require_kernel!(probe::can_load().into_result());
    let exit_only = [slot(0x95, 0, 0, 0, 0)];
    let error =
        Program::load(&ProgramLoad::new("bad", ProgType::SOCKET_FILTER, &exit_only)).unwrap_err();
    let LoadError::Rejected { errno, summary, log, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*errno, libc::EACCES);
    assert!(summary.starts_with("R0 !read_ok"), "{summary}");
    assert!(log.text.contains("processed"), "{}", log.text);
    assert!(!log.truncated);
}

#[test]
fn a_long_log_is_kept_whole() {
    require_kernel!(probe::can_load().into_result());
    // 60,000 additions, then a register nobody wrote: at level 1 every step is in the log.
    let mut insns = vec![slot(0xb7, 0, 0, 0, 0)];
    insns.extend(std::iter::repeat_n(slot(0x07, 0, 0, 0, 1), 60_000));
    insns.extend([slot(0xbf, 0, 7, 0, 0), slot(0x95, 0, 0, 0, 0)]);
    let load = ProgramLoad::new("long", ProgType::SOCKET_FILTER, &insns);
    let error = Program::load(&load).unwrap_err();
    let LoadError::Rejected { summary, log, .. } = &error else { panic!("{error:?}") };
    assert!(summary.starts_with("R7 !read_ok"), "{summary}");
    assert!(log.text.len() > LOG_BYTES[1], "{} bytes", log.text.len());
    assert!(!log.truncated);
    assert!(log.text.contains("29999: (07) r0 += 1"), "the middle is there");
}

#[test]
fn a_raw_tracepoint_program_runs_where_it_is_told_to() {
    require_kernel!(probe::can_load().into_result());
    // r0 = smp_processor_id() << 16 | first argument
    let insns = [
        slot(0x79, 6, 1, 0, 0),
        slot(0x85, 0, 0, 0, 8),
        slot(0x67, 0, 0, 0, 16),
        slot(0x4f, 0, 6, 0, 0),
        slot(0x95, 0, 0, 0, 0),
    ];
    let load = ProgramLoad::new("where", ProgType::RAW_TRACEPOINT, &insns);
    let program = Program::load(&load).unwrap();
    let ctx = 42_u64.to_ne_bytes();
    let on_cpu = |cpu| TestRunOptions { ctx: &ctx, flags: 1, cpu, ..TestRunOptions::default() };
    let run = program.test_run(&on_cpu(0)).unwrap();
    assert_eq!(run.retval, 42);
    assert_eq!(run.ctx_out, ctx);
    let nowhere = program.test_run(&on_cpu(1 << 20)).unwrap_err();
    assert!(nowhere.errno() == libc::EINVAL || nowhere.errno() == libc::ENXIO, "{nowhere}");
    let last = u32::try_from(sys::possible_cpus().unwrap()).unwrap() - 1;
    if let Ok(run) = program.test_run(&on_cpu(last)) {
        assert_eq!(run.retval, last << 16 | 42);
    }
}

#[test]
fn a_syscall_program_changes_its_context() {
    require_kernel!(probe::can_load().into_result());
    require_kernel!(probe::prog_type(ProgType::SYSCALL).into_result());
    let insns = [
        // From a register: before Linux 6.4 an immediate may not be stored to a context.
        slot(0xb7, 2, 0, 0, 77),
        slot(0x7b, 1, 2, 8, 0), // *(u64 *)(r1 + 8) = r2
        slot(0xb7, 0, 0, 0, 5),
        slot(0x95, 0, 0, 0, 0),
    ];
    let mut load = ProgramLoad::new("call", ProgType::SYSCALL, &insns);
    load.flags = skep_abi::section::BPF_F_SLEEPABLE;
    let program = Program::load(&load).unwrap();
    let options = TestRunOptions { ctx: &[1; 16], ..TestRunOptions::default() };
    let run = program.test_run(&options).unwrap();
    assert_eq!(run.retval, 5);
    assert_eq!(run.ctx_out[..8], [1; 8]);
    assert_eq!(run.ctx_out[8..], 77_u64.to_ne_bytes());
}

#[test]
fn a_log_of_a_good_program_is_kept_when_asked_for() {
    require_kernel!(probe::can_load().into_result());
    let insns = [slot(0xb7, 0, 0, 0, 0), slot(0x95, 0, 0, 0, 0)];
    let mut load = ProgramLoad::new("logged", ProgType::SOCKET_FILTER, &insns);
    load.log_level = 2;
    let program = Program::load(&load).unwrap();
    assert!(program.log().text.contains("exit"), "{}", program.log().text);
}

#[test]
fn an_unknown_type_is_refused_without_a_log() {
    require_kernel!(probe::can_load().into_result());
    let insns = [slot(0xb7, 0, 0, 0, 0), slot(0x95, 0, 0, 0, 0)];
    let error = Program::load(&ProgramLoad::new("t", ProgType(999), &insns)).unwrap_err();
    assert!(matches!(error, LoadError::Refused { hint: Some(_), .. }), "{error:?}");
}

#[test]
fn a_log_that_does_not_fit_does_not_refuse_the_program() {
    require_kernel!(probe::can_load().into_result());
    let mut insns = Vec::new();
    for _ in 0..100 {
        insns.extend(slot(0xb7, 0, 0, 0, 0).to_le_bytes());
    }
    insns.extend(slot(0x95, 0, 0, 0, 0).to_le_bytes());
    let good = sys::ProgLoad { prog_type: 1, insns: &insns, license: c"GPL", ..Default::default() };
    let (loaded, log) = load_with_log(&good, 2, &[128]);
    assert!(log.truncated && !log.text.is_empty(), "{log:?}");
    loaded.unwrap();

    let bad = sys::ProgLoad { insns: &insns[..800], ..good };
    let (refused, log) = load_with_log(&bad, 2, &[128]);
    assert!(log.truncated && !log.text.is_empty(), "{log:?}");
    assert_eq!(refused.unwrap_err().errno(), libc::EINVAL);
}
