//! Classic filters, converted to eBPF and run by the interpreter: the answer is that of the classic
//! machine, and the context's fields are what the extensions mean.

use std::sync::Arc;

use skep_abi::ProgType;
use skep_isa::cbpf::{self, Extension, Extensions, Filter, Packet};
use skep_vm::{
    Program, Settings,
    context::{Context, SkBuff},
};

/// Name, and the filter in numbers.
const FILTERS: &[(&str, &str)] = &[
    (
        "TCP port 80 over IPv4",
        "11,40 0 0 12,21 0 8 2048,48 0 0 23,21 0 6 6,40 0 0 20,69 4 0 8191,\
     177 0 0 14,72 0 0 16,21 0 1 80,6 0 0 262144,6 0 0 0",
    ),
    ("length behind an index from the packet", "5,48 0 0 14,7 0 0 0,80 0 0 2,20 0 0 1,22 0 0 0"),
    ("division by what the packet says", "5,48 0 0 3,7 0 0 0,0 0 0 100000,60 0 0 0,22 0 0 0"),
    (
        "scratch memory and shifts",
        "9,32 0 0 0,2 0 0 15,48 0 0 5,7 0 0 0,96 0 0 15,108 0 0 0,132 0 0 0,\
     116 0 0 3,22 0 0 0",
    ),
    ("comparison with the sign bit", "4,32 0 0 2,53 0 1 2147483648,6 0 0 1,6 0 0 2"),
    ("length of the packet", "2,128 0 0 0,22 0 0 0"),
    ("protocol", "2,40 0 0 4294963200,22 0 0 0"),
    ("mark", "2,32 0 0 4294963220,22 0 0 0"),
    ("interface", "2,32 0 0 4294963208,22 0 0 0"),
    ("exclusive or of both registers", "4,32 0 0 0,1 0 0 4042322160,32 0 0 4294963240,22 0 0 0"),
];

/// Packets of all lengths to 64 bytes, from a generator without a seed from outside.
fn packets() -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..400).map(move |n| {
        let mut packet: Vec<u8> = (0..n % 65).map(|_| byte()).collect();
        // Every second one looks like TCP over IPv4, so that filters get past their first test.
        let fixed = [(12, 8), (13, 0), (14, 0x45), (20, 0), (21, 0), (23, 6), (36, 0), (37, 80)];
        for (at, value) in fixed.into_iter().filter(|_| n % 2 == 0) {
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
        packet
    })
}

#[test]
fn converted_filters_answer_like_the_classic_machine() {
    const MARK: u32 = 0xdead_0001;
    const INTERFACE: u32 = 7;
    let settings = Arc::new(Settings::default());
    for (name, numbers) in FILTERS {
        let raw = cbpf::parse(numbers).expect("the table holds filters");
        let filter = Filter::new(&raw).expect("the table holds filters");
        let slots = filter.to_ebpf().expect("no extension without a counterpart");
        let program = Program::from_slots(name, ProgType::SOCKET_FILTER, &slots, &settings)
            .expect("a converted filter is a program");
        let mut answers = std::collections::BTreeSet::new();
        for data in packets() {
            let protocol = data.get(12..14).map_or(0, |b| u32::from(b[0]) << 8 | u32::from(b[1]));
            let mut packet = Packet::new(&data);
            packet.extensions = Extensions::default()
                .with(Extension::Protocol, protocol)
                .with(Extension::Mark, MARK)
                .with(Extension::IfIndex, INTERFACE);
            let skb = SkBuff::new(ProgType::SOCKET_FILTER, &data).with_ifindex(INTERFACE);
            let mut ctx = Context::from(skb);
            let Context::SkBuff(skb) = &mut ctx else { unreachable!("made from one") };
            assert!(skb.set_field("mark", MARK.into()));
            let got = program.run(&mut ctx).unwrap_or_else(|e| panic!("{name}: {e}")).retval;
            let want = filter.run(&packet);
            assert_eq!(got, u64::from(want), "{name}, {data:02x?}\n{filter}");
            answers.insert(want);
        }
        let constant = matches!(*name, "mark" | "interface");
        assert!(constant || answers.len() > 1, "{name} always answers {answers:?}");
    }
}
