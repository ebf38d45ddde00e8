//! The same operations as a program in the kernel.
#![expect(clippy::disallowed_methods, reason = "benchmark-only system calls")]

use std::{
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    time::Duration,
};

use skep_isa::{AluOp, Builder, CmpOp, Imm64, Reg, Size, Slot};

use super::{Case, OPS, Op, sys::KernelMap};

const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const XDP: u32 = 6;

#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u64; 2],
    rest: [u64; 2],
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> Result<libc::c_long, i32> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` of the size given; the addresses in it point to
    // buffers that the callers below keep alive.
    let r = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>()) };
    if r < 0 { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(r) }
}

/// CPU time of this thread for `times` calls.
pub(super) fn cpu_time(times: u64, mut call: impl FnMut()) -> Duration {
    let now = || {
        let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `t` is a `timespec` to be written; the clock is always there.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut t) };
        Duration::new(t.tv_sec.cast_unsigned(), u32::try_from(t.tv_nsec).expect("below a second"))
    };
    let start = now();
    for _ in 0..times {
        call();
    }
    now() - start
}

/// A map of the kernel and a program on it.
pub(super) struct Bench {
    map: KernelMap,
    program: OwnedFd,
}

impl Bench {
    /// The errno when this process may not.
    pub(super) fn new(case: &Case, op: Op, value_bytes: usize) -> Result<Self, i32> {
        let map = KernelMap::new(&case.def(), None, value_bytes)?;
        let code: Vec<[u8; 8]> = program(case, op, map.raw());
        let mut attr = Load {
            prog_type: XDP,
            insn_cnt: u32::try_from(code.len()).expect("a short program"),
            insns: code.as_ptr().addr() as u64,
            license: c"GPL".as_ptr().addr() as u64,
            ..Load::default()
        };
        let fd = RawFd::try_from(bpf(PROG_LOAD, &mut attr)?).expect("descriptors fit");
        // SAFETY: the system call just returned this descriptor and nobody else has it.
        Ok(Self { map, program: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    pub(super) fn fill(&self, key: &[u8], value: &[u8]) {
        self.map.update(key, value, 0).expect("there is room");
    }

    /// Time of `times` runs.
    pub(super) fn run(&self, times: u64) -> Duration {
        let data = [0_u8; 64];
        let mut attr = TestRun {
            prog_fd: u32::try_from(self.program.as_raw_fd()).expect("descriptors fit"),
            data_size_in: 64,
            data_in: data.as_ptr().addr() as u64,
            repeat: u32::try_from(times).expect("not that often"),
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attr).expect("the program runs");
        Duration::from_nanos(u64::from(attr.duration) * times)
    }
}

/// As the loop on the other side: keys `spread(1)` to `spread(OPS)`.
fn program(case: &Case, op: Op, map: RawFd) -> Vec<[u8; 8]> {
    let mut b = Builder::new();
    let key_at = -16_i16;
    let number_at = if case.key_size == 8 { key_at + 4 } else { key_at };
    b.mov(Reg::R6, i32::try_from(OPS).expect("few"));
    for at in [-24, -16, -8] {
        b.store(Size::Dw, Reg::R10, at, 0);
    }
    if case.key_size == 8 {
        b.store(Size::W, Reg::R10, key_at, 32);
    }
    let again = b.label();
    b.bind(again)
        .mov(Reg::R7, Reg::R6)
        .alu32(AluOp::Mul, Reg::R7, 0x9e37_79b1_u32.cast_signed())
        .alu32(AluOp::Rsh, Reg::R7, 22)
        .store(Size::W, Reg::R10, number_at, Reg::R7);
    let calls: &[i32] = match op {
        Op::Lookup => &[1],
        Op::Update => &[2],
        Op::Replace => &[3, 2],
    };
    for &helper in calls {
        b.load_imm64(Reg::R1, Imm64::MapFd(map)).mov(Reg::R2, Reg::R10).add_to(Reg::R2, -16);
        if helper == 2 {
            b.mov(Reg::R3, Reg::R10).add_to(Reg::R3, -24).mov(Reg::R4, 0);
        }
        b.call(helper);
    }
    b.alu(AluOp::Sub, Reg::R6, 1).jump_if(CmpOp::Ne, Reg::R6, 0, again).mov(Reg::R0, 2).exit();
    let slots = b.build().expect("a good program");
    slots.into_iter().map(Slot::to_le_bytes).collect()
}
