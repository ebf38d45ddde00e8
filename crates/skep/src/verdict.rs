//! What packet programs decide, by name.

use std::borrow::Cow;

use skep_abi::ProgType;

/// One row: what a return value of a program type means.
struct Row {
    value: i32,
    name: &'static str,
    /// Does the packet go on its way?
    passes: bool,
}

const fn row(value: i32, name: &'static str, passes: bool) -> Row {
    Row { value, name, passes }
}

const XDP: &[Row] = &[
    row(0, "XDP_ABORTED", false),
    row(1, "XDP_DROP", false),
    row(2, "XDP_PASS", true),
    row(3, "XDP_TX", true),
    row(4, "XDP_REDIRECT", true),
];

const TC: &[Row] = &[
    row(-1, "TC_ACT_UNSPEC", true),
    row(0, "TC_ACT_OK", true),
    row(1, "TC_ACT_RECLASSIFY", true),
    row(2, "TC_ACT_SHOT", false),
    row(3, "TC_ACT_PIPE", true),
    row(4, "TC_ACT_STOLEN", false),
    row(5, "TC_ACT_QUEUED", false),
    row(6, "TC_ACT_REPEAT", true),
    row(7, "TC_ACT_REDIRECT", true),
    row(8, "TC_ACT_TRAP", false),
];

const LWT: &[Row] = &[
    row(0, "BPF_OK", true),
    row(2, "BPF_DROP", false),
    row(7, "BPF_REDIRECT", true),
    row(128, "BPF_LWT_REROUTE", true),
];

const SK: &[Row] = &[row(0, "SK_DROP", false), row(1, "SK_PASS", true)];

const CGROUP: &[Row] = &[row(0, "deny", false), row(1, "allow", true)];

fn rows(prog_type: ProgType) -> &'static [Row] {
    match prog_type {
        ProgType::XDP => XDP,
        ProgType::SCHED_CLS | ProgType::SCHED_ACT => TC,
        ProgType::LWT_IN | ProgType::LWT_OUT | ProgType::LWT_XMIT => LWT,
        ProgType::SK_SKB | ProgType::SK_MSG | ProgType::SK_LOOKUP | ProgType::SK_REUSEPORT => SK,
        ProgType::CGROUP_SKB => CGROUP,
        _ => &[],
    }
}

/// Does this type of program get packets?
pub fn takes_packets(prog_type: ProgType) -> bool {
    matches!(prog_type, ProgType::XDP | ProgType::SCHED_CLS | ProgType::SOCKET_FILTER)
}

/// The name of a verdict: `XDP_PASS`; the number, where it has none.
///
/// ```
/// use skep::{abi::ProgType, verdict};
///
/// assert_eq!(verdict::name(ProgType::XDP, 2), "XDP_PASS");
/// assert_eq!(verdict::name(ProgType::SCHED_CLS, u32::MAX), "TC_ACT_UNSPEC");
/// assert_eq!(verdict::name(ProgType::SOCKET_FILTER, 96), "keep");
/// ```
pub fn name(prog_type: ProgType, verdict: u32) -> Cow<'static, str> {
    if prog_type == ProgType::SOCKET_FILTER {
        return if verdict == 0 { "drop".into() } else { "keep".into() };
    }
    let value = verdict.cast_signed();
    match rows(prog_type).iter().find(|r| r.value == value) {
        Some(row) => row.name.into(),
        None => value.to_string().into(),
    }
}

/// Does the packet go on its way after this verdict? An unknown number means no for XDP, as in the
/// kernel (it warns and drops), and yes elsewhere.
pub fn passes(prog_type: ProgType, verdict: u32) -> bool {
    if prog_type == ProgType::SOCKET_FILTER {
        return verdict != 0;
    }
    let known = rows(prog_type).iter().find(|r| r.value == verdict.cast_signed());
    known.map_or(prog_type != ProgType::XDP, |r| r.passes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_have_the_kernels_names_and_effects() {
        let cases = [
            (ProgType::XDP, 0, "XDP_ABORTED", false),
            (ProgType::XDP, 3, "XDP_TX", true),
            (ProgType::XDP, 77, "77", false),
            (ProgType::SCHED_CLS, 2, "TC_ACT_SHOT", false),
            (ProgType::SCHED_CLS, 99, "99", true),
            (ProgType::CGROUP_SKB, 1, "allow", true),
        ];
        for (prog_type, verdict, want, goes_on) in cases {
            assert_eq!(name(prog_type, verdict), want);
            assert_eq!(passes(prog_type, verdict), goes_on, "{want}");
        }
    }
}
