//! Random straight-line programs: arithmetic, forward jumps, stack, atomics.

use skep_abi::ProgType;
use skep_isa::{AluOp, AtomicOp, CmpOp, Imm64, Insn, Operand, Reg, Size, SwapOp, Width, encode};
use skep_kernel::probe;
use skep_testing::require_kernel;

use super::{Random, embedded, kernel, udp_packet};

/// Bytes of stack in use.
const STACK: i16 = 64;

fn reg(n: u64) -> Reg {
    Reg::new(u8::try_from(n).expect("small")).expect("a register")
}

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    let index = usize::try_from(random.below(from.len() as u64)).expect("small");
    from.get(index).copied().expect("inside")
}

fn width(random: &mut Random) -> Width {
    pick(random, &[Width::W32, Width::W64])
}

/// Low 32 bits of an edgy number.
fn imm(random: &mut Random) -> i32 {
    let bytes = random.edgy().to_le_bytes();
    i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn alu(random: &mut Random) -> Insn {
    let (width, dst) = (width(random), reg(random.below(10)));
    let op = pick(random, AluOp::ALL);
    let bits = if width == Width::W64 { 64 } else { 32 };
    let shift = i32::try_from(random.below(bits)).expect("small");
    let src = match op {
        AluOp::Neg => Operand::Imm(0),
        AluOp::MovSx8 | AluOp::MovSx16 | AluOp::MovSx32 => Operand::Reg(reg(random.below(10))),
        _ if random.below(2) == 0 => Operand::Reg(reg(random.below(10))),
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => Operand::Imm(shift),
        AluOp::Div | AluOp::Mod | AluOp::SDiv | AluOp::SMod => Operand::Imm(imm(random) | 1),
        _ => Operand::Imm(imm(random)),
    };
    let width = if op == AluOp::MovSx32 { Width::W64 } else { width };
    Insn::Alu { width, op, dst, src }
}

fn swap(random: &mut Random) -> Insn {
    let op = pick(random, &[SwapOp::ToLe, SwapOp::ToBe, SwapOp::Bswap]);
    Insn::Swap { op, bits: pick(random, &[16, 32, 64]), dst: reg(random.below(10)) }
}

fn slot_of(random: &mut Random, size: Size) -> i16 {
    let bytes = i16::from(size.bytes());
    let n =
        i16::try_from(random.below(u64::try_from(STACK / bytes).expect("small"))).expect("small");
    -STACK + n * bytes
}

fn memory(random: &mut Random) -> Insn {
    let size = pick(random, &[Size::B, Size::H, Size::W, Size::Dw]);
    let off = slot_of(random, size);
    let (base, value) = (Reg::R10, reg(random.below(10)));
    match random.below(4) {
        0 => Insn::Store { size, base, off, src: Operand::Reg(value) },
        1 => Insn::Store { size, base, off, src: Operand::Imm(imm(random)) },
        2 if size != Size::Dw => Insn::Load { size, signed: true, dst: value, base, off },
        _ => Insn::Load { size, signed: false, dst: value, base, off },
    }
}

fn atomic(random: &mut Random) -> Insn {
    let op = pick(
        random,
        &[
            AtomicOp::Add,
            AtomicOp::Or,
            AtomicOp::And,
            AtomicOp::Xor,
            AtomicOp::Xchg,
            AtomicOp::CmpXchg,
        ],
    );
    let fetch = matches!(op, AtomicOp::Xchg | AtomicOp::CmpXchg) || random.below(2) == 0;
    let size = pick(random, &[Size::W, Size::Dw]);
    let off = slot_of(random, size);
    Insn::Atomic { op, fetch, size, base: Reg::R10, off, src: reg(random.below(10)) }
}

fn program(random: &mut Random) -> Vec<Insn> {
    let mut insns: Vec<Insn> = (0..10)
        .map(|n| Insn::LoadImm64 { dst: reg(n), imm: Imm64::Const(random.edgy()) })
        .collect();
    for off in (-STACK..0).step_by(8) {
        let src = Operand::Reg(reg(random.below(10)));
        insns.push(Insn::Store { size: Size::Dw, base: Reg::R10, off, src });
    }
    let len = 40 + random.below(40);
    let mut left = len;
    while left > 0 {
        left -= 1;
        insns.push(match random.below(10) {
            0 => swap(random),
            1 | 2 => memory(random),
            3 => atomic(random),
            4 if left > 0 => Insn::JumpIf {
                width: width(random),
                op: pick(random, CmpOp::ALL),
                dst: reg(random.below(10)),
                src: if random.below(2) == 0 {
                    Operand::Reg(reg(random.below(10)))
                } else {
                    Operand::Imm(imm(random))
                },
                off: i16::try_from(random.below(left.min(5))).expect("small"),
            },
            _ => alu(random),
        });
    }
    // Everything flows into the result.
    let into_r0 = |op, src| Insn::Alu { width: Width::W64, op, dst: Reg::R0, src };
    for n in 1..10 {
        insns.push(into_r0(AluOp::Mul, Operand::Imm(31)));
        insns.push(into_r0(AluOp::Xor, Operand::Reg(reg(n))));
    }
    for off in (-STACK..0).step_by(8) {
        insns.push(Insn::Load { size: Size::Dw, signed: false, dst: Reg::R1, base: Reg::R10, off });
        insns.push(into_r0(AluOp::Mul, Operand::Imm(31)));
        insns.push(into_r0(AluOp::Add, Operand::Reg(Reg::R1)));
    }
    insns.push(Insn::Alu {
        width: Width::W64,
        op: AluOp::Mov,
        dst: Reg::R1,
        src: Operand::Reg(Reg::R0),
    });
    insns.push(Insn::Alu {
        width: Width::W64,
        op: AluOp::Rsh,
        dst: Reg::R1,
        src: Operand::Imm(32),
    });
    insns.push(into_r0(AluOp::Xor, Operand::Reg(Reg::R1)));
    insns.push(Insn::Exit);
    insns
}

#[test]
fn random_programs_give_the_same_result() {
    require_kernel!(probe::can_load().into_result());
    let data = udp_packet(20);
    let rounds = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let mut ran = 0;
    for seed in 1..=rounds {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let slots = encode(&program(&mut random)).expect("all of these exist");
        let Some(want) = kernel(ProgType::SOCKET_FILTER, &slots, &data, &[]) else { continue };
        ran += 1;
        let found = embedded(ProgType::SOCKET_FILTER, &slots, &data, &[]);
        assert_eq!(found, want, "seed {seed}");
    }
    assert!(ran * 10 >= rounds * 9, "the verifier took {ran} of {rounds}");
}
