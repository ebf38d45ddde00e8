//! What no machine at hand can do, by its exact request: offload to a network card, hardware
//! counters.

use std::fs::File;

use skep_abi::ProgType;
use skep_isa::Slot;
use skep_testing::require_kernel;

use crate::{
    AttachError, Program, ProgramLoad,
    link::{self, PerfEvent, Rate, XdpMode},
    probe,
    sys::fake::{Answer, Fake, Seen},
};

const ONE: [Slot; 2] = [
    Slot { code: 0xb7, dst: 0, src: 0, off: 0, imm: 1 },
    Slot { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
];

fn load(prog_type: ProgType, ifindex: u32) -> Result<Program, crate::LoadError> {
    Program::load(&ProgramLoad { ifindex, ..ProgramLoad::new("asked", prog_type, &ONE) })
}

/// The first call of this name.
fn call(fake: &Fake, name: &str) -> Seen {
    let seen = fake.seen();
    seen.into_iter().find(|seen| seen.name == name).unwrap_or_else(|| panic!("no {name}"))
}

/// The 32-bit numbers of a request.
fn words(seen: &Seen) -> Vec<u32> {
    seen.bytes.as_chunks().0.iter().map(|&chunk| u32::from_ne_bytes(chunk)).collect()
}

/// A descriptor of something that is not BPF.
fn any_fd() -> Answer {
    Answer::Fd(File::open("/dev/null").expect("it is everywhere").into())
}

#[test]
fn xdp_is_offloaded_by_the_program_and_by_the_link() {
    require_kernel!(probe::can_load().into_result());
    let fake = Fake::new(|call, _| match call.name() {
        "BPF_PROG_LOAD" | "BPF_LINK_CREATE" => any_fd(),
        _ => Answer::Kernel,
    });
    let program = load(ProgType::XDP, 7).unwrap();
    // `prog_type` and `prog_ifindex`.
    let loading = words(&call(&fake, "BPF_PROG_LOAD"));
    assert_eq!((loading[0], loading[16]), (6, 7));
    let link = link::attach_xdp(&program, 7, XdpMode::Offload).unwrap();
    // `target_ifindex`, `attach_type` BPF_XDP, `flags` XDP_FLAGS_HW_MODE.
    let linking = words(&call(&fake, "BPF_LINK_CREATE"));
    assert_eq!(linking[1..4], [7, 37, 8]);
    assert!(linking[4..].iter().all(|&word| word == 0), "{linking:?}");
    assert!(link.hook().contains("offload"), "{}", link.hook());
    drop(link);
    // Closing the descriptor is all it takes to detach.
    assert_eq!(fake.names(), ["BPF_PROG_LOAD", "if_indextoname", "BPF_LINK_CREATE"]);
}

#[test]
fn a_card_that_takes_no_programs_says_so() {
    require_kernel!(probe::can_load().into_result());
    let program = load(ProgType::XDP, 0).unwrap();
    let _fake = Fake::failing("BPF_LINK_CREATE", libc::EOPNOTSUPP);
    let error = link::attach_xdp(&program, 7, XdpMode::Offload).unwrap_err();
    let text = super::chain(&error);
    for part in ["program 'asked'", "offload", "BPF_LINK_CREATE", "a card that runs programs"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn hardware_counters_are_opened_by_cpu_or_process_with_period_or_frequency() {
    require_kernel!(probe::can_load().into_result());
    const HARDWARE: u32 = 0;
    const CACHE_MISSES: u64 = 3;
    const DISABLED: u64 = 1;
    const FREQUENCY: u64 = 1 << 10;
    let program = load(ProgType::PERF_EVENT, 0).unwrap();
    let cases = [
        (Rate::Period(100_000), None, Some(1), 100_000, DISABLED, "pid: -1, cpu: 1"),
        (Rate::Frequency(99), Some(5), None, 99, DISABLED | FREQUENCY, "pid: 5, cpu: -1"),
    ];
    for (rate, pid, cpu, sample, flags, whose) in cases {
        let fake = Fake::new(|call, _| match call.name() {
            "perf_event_open" | "BPF_LINK_CREATE" => any_fd(),
            _ => Answer::Number(0),
        });
        let clock = PerfEvent::cpu_clock(rate);
        let event = PerfEvent { event_type: HARDWARE, config: CACHE_MISSES, pid, cpu, ..clock };
        let link = link::attach_perf_event(&program, &event).unwrap();
        let asked = call(&fake, "perf_event_open");
        let long = |at: usize| u64::from_ne_bytes(asked.bytes[at..at + 8].try_into().unwrap());
        assert_eq!(words(&asked)[..2], [HARDWARE, 72]);
        assert_eq!([8, 16, 40].map(long), [CACHE_MISSES, sample, flags]);
        assert!(asked.text.contains(whose), "{}", asked.text);
        // `attach_type` BPF_PERF_EVENT.
        assert_eq!(words(&call(&fake, "BPF_LINK_CREATE"))[2], 41);
        let calls = ["perf_event_open", "BPF_LINK_CREATE", "PERF_EVENT_IOC_ENABLE"];
        assert_eq!(fake.names(), calls);
        drop(link);
    }
}

#[test]
fn a_machine_without_hardware_counters_says_so() {
    require_kernel!(probe::can_load().into_result());
    let program = load(ProgType::PERF_EVENT, 0).unwrap();
    let _fake = Fake::failing("perf_event_open", libc::ENOENT);
    let clock = PerfEvent::cpu_clock(Rate::Period(1));
    let event = PerfEvent { event_type: 0, cpu: Some(0), ..clock };
    let error = link::attach_perf_event(&program, &event).unwrap_err();
    assert!(
        matches!(&error, AttachError::Refused { source, .. } if source.errno() == libc::ENOENT)
    );
    let text = super::chain(&error);
    assert!(text.contains("perf event cycles") && text.contains("perf_event_open"), "{text}");
}
