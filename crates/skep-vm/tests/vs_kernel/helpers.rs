//! Helpers with random arguments: the same return values, packets and contexts.

use skep_abi::ProgType;
use skep_isa::asm::assemble;
use skep_kernel::probe;
use skep_testing::require_kernel;

use super::{Random, embedded, kernel, udp_packet, vlan_packet};

/// A program with holes `{0}`, `{1}`… (`{+1}` with its sign apart) and what may go into each.
struct Case {
    name: &'static str,
    prog_type: ProgType,
    text: &'static str,
    holes: &'static [&'static [i64]],
}

const OFFSETS: &[i64] =
    &[0, 1, 2, 4, 13, 14, 15, 20, 40, 41, 42, 43, 60, 61, 62, 63, 64, 100, 65535, 65536, -1, -4];
const DELTAS: &[i64] = &[
    0, 1, 4, -1, -4, 8, -8, 14, -14, 20, -20, 28, -30, 32, 40, -40, 64, -64, -216, -217, -256, 252,
    256, 1000, 3400, 3500, 3600, -4096, 4095, 4096, 65536,
];
const FLAGS: &[i64] = &[0, 0, 0, 1, 2, 3, 4, 0x10, 0x20, 0x12, 0x14, 0x52, 0x100];
const NUMBERS: &[i64] = &[0, 1, 2, 0x0800, 0x86dd, 0x1234, 0xffff, 0x12345678, -1];

const CASES: &[Case] = &[
    Case {
        name: "xdp_adjust_head",
        prog_type: ProgType::XDP,
        text: "r2 = {0}\ncall 44\nexit",
        holes: &[DELTAS],
    },
    Case {
        name: "xdp_adjust_tail",
        prog_type: ProgType::XDP,
        text: "r2 = {0}\ncall 65\nexit",
        holes: &[DELTAS],
    },
    Case {
        name: "xdp_adjust_meta",
        prog_type: ProgType::XDP,
        text: "r6 = r1\nr2 = {0}\ncall 54\nr7 = r0\nr1 = r6\nr2 = {1}\ncall 44\nr0 <<= 8\nr0 ^= r7\nexit",
        holes: &[DELTAS, DELTAS],
    },
    Case {
        name: "xdp_load_bytes",
        prog_type: ProgType::XDP,
        text: "r2 = 0\n*(u64 *)(r10 - 8) = r2\nr2 = {0}\nr3 = r10\nr3 += -8\nr4 = {1}\ncall 189\n\
               r1 = *(u64 *)(r10 - 8)\nr0 ^= r1\nr1 >>= 32\nr0 += r1\nexit",
        holes: &[OFFSETS, &[1, 2, 3, 4, 8]],
    },
    Case {
        name: "xdp_store_bytes",
        prog_type: ProgType::XDP,
        text: "r2 = 0x12345678\n*(u64 *)(r10 - 8) = r2\nr2 = {0}\nr3 = r10\nr3 += -8\nr4 = {1}\n\
               call 190\nexit",
        holes: &[OFFSETS, &[1, 2, 3, 4, 8]],
    },
    Case { name: "xdp_buff_len", prog_type: ProgType::XDP, text: "call 188\nexit", holes: &[] },
    Case {
        name: "xdp_redirect",
        prog_type: ProgType::XDP,
        text: "r1 = {0}\nr2 = {1}\ncall 23\nexit",
        holes: &[&[0, 1, 2], FLAGS],
    },
    Case {
        name: "tc_redirect",
        prog_type: ProgType::SCHED_CLS,
        text: "r1 = {0}\nr2 = {1}\ncall 23\nexit",
        holes: &[&[0, 1, 2], FLAGS],
    },
    Case {
        name: "skb_store_bytes",
        prog_type: ProgType::SCHED_CLS,
        text: "r2 = 0x12345678\n*(u64 *)(r10 - 8) = r2\nr2 = {0}\nr3 = r10\nr3 += -8\nr4 = {1}\n\
               r5 = {2}\ncall 9\nexit",
        holes: &[OFFSETS, &[1, 2, 3, 4, 8], FLAGS],
    },
    Case {
        name: "skb_load_bytes",
        prog_type: ProgType::SOCKET_FILTER,
        text: "r2 = -1\n*(u64 *)(r10 - 8) = r2\nr2 = {0}\nr3 = r10\nr3 += -8\nr4 = {1}\n\
               call 26\nr1 = *(u64 *)(r10 - 8)\nr0 ^= r1\nr1 >>= 32\nr0 += r1\nexit",
        holes: &[OFFSETS, &[1, 2, 3, 4, 8]],
    },
    Case {
        name: "skb_load_bytes_relative",
        prog_type: ProgType::SCHED_CLS,
        text: "r2 = -1\n*(u64 *)(r10 - 8) = r2\nr2 = {0}\nr3 = r10\nr3 += -8\nr4 = {1}\nr5 = {2}\n\
               call 68\nr1 = *(u64 *)(r10 - 8)\nr0 ^= r1\nr1 >>= 32\nr0 += r1\nexit",
        holes: &[OFFSETS, &[1, 2, 4, 8], &[0, 1, 2]],
    },
    Case {
        name: "skb_load_bytes_relative to a hidden header",
        prog_type: ProgType::SOCKET_FILTER,
        text: "r2 = -1\n*(u64 *)(r10 - 8) = r2\nr2 = {0}\nr3 = r10\nr3 += -8\nr4 = {1}\nr5 = {2}\n\
               call 68\nr1 = *(u64 *)(r10 - 8)\nr0 ^= r1\nr1 >>= 32\nr0 += r1\nexit",
        holes: &[OFFSETS, &[1, 2, 4, 8], &[0, 1, 2]],
    },
    Case {
        name: "skb_change_tail",
        prog_type: ProgType::SCHED_CLS,
        text: "r2 = {0}\nr3 = {1}\ncall 38\nexit",
        holes: &[&[0, 1, 13, 14, 15, 33, 34, 42, 60, 62, 64, 100, 1500, 2000], &[0, 0, 0, 1]],
    },
    Case {
        name: "skb_change_head",
        prog_type: ProgType::SCHED_CLS,
        text: "r2 = {0}\nr3 = {1}\ncall 43\nexit",
        holes: &[&[0, 1, 2, 14, 20, 64, 100], &[0, 0, 0, 1]],
    },
    Case {
        name: "skb_adjust_room",
        prog_type: ProgType::SCHED_CLS,
        text: "r2 = {0}\nr3 = {1}\nr4 = {2}\ncall 50\nexit",
        holes: &[DELTAS, &[0, 1, 2], &[0, 0, 0, 0x20, 0x1000]],
    },
    Case {
        name: "skb_change_proto",
        prog_type: ProgType::SCHED_CLS,
        text: "r2 = {0}\nr3 = {1}\ncall 31\nexit",
        holes: &[&[0x0008, 0xdd86, 0x0800, 0], &[0, 0, 1]],
    },
    Case {
        name: "skb_change_type",
        prog_type: ProgType::SCHED_CLS,
        text: "r6 = r1\nr2 = {0}\ncall 32\nr1 = *(u32 *)(r6 + 4)\nr0 <<= 4\nr0 ^= r1\nexit",
        holes: &[&[0, 1, 2, 3, 4, 5, -1]],
    },
    Case {
        name: "skb_vlan",
        prog_type: ProgType::SCHED_CLS,
        text: "r6 = r1\nr2 = {0}\nr3 = {1}\ncall 18\nr7 = r0\n\
               r1 = *(u32 *)(r6 + 20)\nr7 ^= r1\nr1 = *(u32 *)(r6 + 24)\nr7 *= 31\nr7 += r1\n\
               r1 = *(u32 *)(r6 + 28)\nr7 *= 31\nr7 += r1\nr1 = *(u32 *)(r6 + 16)\nr7 *= 31\nr7 += r1\n\
               r1 = *(u32 *)(r6 + 0)\nr7 *= 31\nr7 += r1\nr0 = r7\nexit",
        holes: &[&[0x0081, 0xa888, 0], &[0, 1, 42, 0xffff, 0x12345]],
    },
    Case {
        name: "skb_vlan_twice_and_pop",
        prog_type: ProgType::SCHED_CLS,
        text: "r6 = r1\nr2 = 0x0081\nr3 = {0}\ncall 18\nr1 = r6\nr2 = 0xa888\nr3 = {1}\ncall 18\n\
               r1 = r6\ncall 19\nr7 = r0\n\
               r1 = *(u32 *)(r6 + 24)\nr7 *= 31\nr7 += r1\n\
               r1 = *(u32 *)(r6 + 28)\nr7 *= 31\nr7 += r1\nr1 = *(u32 *)(r6 + 16)\nr7 *= 31\nr7 += r1\n\
               r1 = *(u32 *)(r6 + 0)\nr7 *= 31\nr7 += r1\nr0 = r7\nexit",
        holes: &[&[0, 1, 42], &[7, 8]],
    },
    Case {
        name: "skb_vlan_pop",
        prog_type: ProgType::SCHED_CLS,
        text: "r6 = r1\ncall 19\nr7 = r0\n\
               r1 = *(u32 *)(r6 + 20)\nr7 *= 31\nr7 += r1\n\
               r1 = *(u32 *)(r6 + 16)\nr7 *= 31\nr7 += r1\n\
               r1 = *(u32 *)(r6 + 0)\nr7 *= 31\nr7 += r1\nr0 = r7\nexit",
        holes: &[],
    },
    Case {
        name: "l3_csum_replace",
        prog_type: ProgType::SCHED_CLS,
        text: "r2 = {0}\nr3 = {1}\nr4 = {2}\nr5 = {3}\ncall 10\nexit",
        holes: &[OFFSETS, &[0, 0, 1, 0x1234, 0xffff, 0x12345678, -1], NUMBERS, FLAGS],
    },
    Case {
        name: "l4_csum_replace",
        prog_type: ProgType::SCHED_CLS,
        text: "r2 = {0}\nr3 = {1}\nr4 = {2}\nr5 = {3}\ncall 11\nexit",
        holes: &[OFFSETS, &[0, 0, 1, 0x1234, 0xffff, 0x12345678, -1], NUMBERS, FLAGS],
    },
    Case {
        name: "csum_diff",
        prog_type: ProgType::SCHED_CLS,
        text: "r1 = {0}\n*(u32 *)(r10 - 16) = r1\nr1 = {1}\n*(u32 *)(r10 - 12) = r1\n\
               r1 = {2}\n*(u32 *)(r10 - 8) = r1\nr1 = {1}\n*(u32 *)(r10 - 4) = r1\n\
               r1 = r10\nr1 += -16\nr2 = {3}\nr3 = r10\nr3 += -8\nr4 = {4}\nr5 = {5}\ncall 28\nexit",
        holes: &[NUMBERS, NUMBERS, NUMBERS, &[0, 4, 8, 3], &[0, 4, 8, 1], NUMBERS],
    },
    Case {
        name: "csum_update",
        prog_type: ProgType::SCHED_CLS,
        text: "r2 = {0}\ncall 40\nexit",
        holes: &[NUMBERS],
    },
    Case {
        name: "csum_level",
        prog_type: ProgType::SCHED_CLS,
        text: "r2 = {0}\ncall 135\nexit",
        holes: &[&[0, 1, 2, 3, 4]],
    },
    Case {
        name: "skb_pull_data",
        prog_type: ProgType::SCHED_CLS,
        text: "r2 = {0}\ncall 39\nexit",
        holes: &[OFFSETS],
    },
    Case {
        name: "set_hash",
        prog_type: ProgType::SCHED_CLS,
        text: "r6 = r1\nr2 = {0}\ncall 48\nr1 = r6\ncall 34\nexit",
        holes: &[&[1, 2, 0x12345678]],
    },
    Case {
        name: "strtol",
        prog_type: ProgType::SYSCALL,
        text: "r6 = r1\nr2 = 0\n*(u64 *)(r10 - 8) = r2\nr1 = {0}\n*(u64 *)(r10 - 16) = r1\n\
               r1 = r10\nr1 += -16\nr2 = {1}\nr3 = {2}\nr4 = r10\nr4 += -8\ncall {3}\n\
               r1 = *(u64 *)(r10 - 8)\nr0 *= 31\nr0 += r1\nexit",
        holes: &[
            &[0x3433_3231, 0x3330, 0x6631_7830, 0x2d20_2020, 0x31_2d20, 0x78_3030, 0x3939_3939, 0],
            &[1, 2, 3, 4, 8],
            &[0, 8, 10, 16, 2],
            &[105, 106],
        ],
    },
    Case {
        name: "skb_legacy_loads",
        prog_type: ProgType::SOCKET_FILTER,
        text: "r6 = r1\nr7 = {0}\nr0 = *(u16 *)skb[r7 {+1}]\nr8 = r0\nr0 = *(u32 *)skb[{1}]\nr0 ^= r8\n\
               exit",
        holes: &[&[0, 1, 2, 30, 100, -1], &[0, 1, 12, 20, 40, -0x100000, -0x200000, -0x1ffff4]],
    },
    Case {
        name: "ctx_fields",
        prog_type: ProgType::SCHED_CLS,
        text: "r6 = r1\nr1 = *(u32 *)(r6 + {0})\nr0 = r1\nexit",
        holes: &[&[
            0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 84, 160, 164,
            176,
        ]],
    },
    Case {
        name: "ctx_writes",
        prog_type: ProgType::SCHED_CLS,
        text: "r6 = r1\nr1 = {1}\n*(u32 *)(r6 + {0}) = r1\nr0 = *(u32 *)(r6 + {0})\nexit",
        holes: &[&[8, 12, 32, 44, 48, 52, 64, 72], &[0, 1, 0x1234, 0xffff, 0x12345678, -1]],
    },
];

#[test]
fn helpers_agree() {
    require_kernel!(probe::can_load().into_result());
    let rounds: u64 = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let mut failures = Vec::new();
    for (case, seed) in CASES.iter().zip(1_u64..) {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut taken = 0;
        for _ in 0..rounds {
            let mut text = case.text.to_owned();
            for (n, hole) in case.holes.iter().enumerate() {
                let pick = usize::try_from(random.below(hole.len() as u64)).expect("small");
                let value = hole.get(pick).copied().unwrap_or_default();
                let sign = if value < 0 { '-' } else { '+' };
                let signed = format!("{sign} {}", value.unsigned_abs());
                text = text.replace(&format!("{{+{n}}}"), &signed);
                text = text.replace(&format!("{{{n}}}"), &value.to_string());
            }
            let slots = assemble(&text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", case.name));
            let data = match (case.prog_type, random.below(4)) {
                (ProgType::SYSCALL, _) => Vec::new(),
                (_, 0) => vlan_packet(20),
                (_, 1) => udp_packet(200),
                _ => udp_packet(20),
            };
            let ctx = if case.prog_type == ProgType::SYSCALL { vec![0; 8] } else { Vec::new() };
            let Some(want) = kernel(case.prog_type, &slots, &data, &ctx) else { continue };
            taken += 1;
            let found = embedded(case.prog_type, &slots, &data, &ctx);
            if found != want {
                failures
                    .push(format!("{}:\n{text}\n found {found:x?}\n want  {want:x?}", case.name));
                break;
            }
        }
        if taken == 0 {
            failures.push(format!("{}: the verifier took none", case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
