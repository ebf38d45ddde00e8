//! Which right this process lacks, in words.

use crate::sys;

/// A capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    bit: u32,
    /// As the kernel's headers call it.
    pub name: &'static str,
    /// Does `CAP_SYS_ADMIN` stand for it, too?
    by_admin: bool,
}

impl Capability {
    /// Maps and programs at all.
    pub const BPF: Self = Self { bit: 39, name: "CAP_BPF", by_admin: true };
    /// Tracing.
    pub const PERFMON: Self = Self { bit: 38, name: "CAP_PERFMON", by_admin: true };
    /// What belongs to others: ids, mounts.
    pub const SYS_ADMIN: Self = Self { bit: 21, name: "CAP_SYS_ADMIN", by_admin: true };
    /// Packets and sockets.
    pub const NET_ADMIN: Self = Self { bit: 12, name: "CAP_NET_ADMIN", by_admin: false };

    fn is_in(self, set: u64) -> bool {
        let has = |bit: u32| set >> bit & 1 != 0;
        has(self.bit) || self.by_admin && has(Self::SYS_ADMIN.bit)
    }
}

/// Which of these capabilities this process lacks, in a sentence without its end: `this process
/// lacks CAP_BPF, and kernel.unprivileged_bpf_disabled is 2`. `None` when it has them all, or
/// `/proc` does not tell.
pub fn lacking(needs: &[Capability]) -> Option<String> {
    let status = sys::read_text("/proc/self/status").ok()?;
    let disabled = sys::read_text("/proc/sys/kernel/unprivileged_bpf_disabled");
    let uid_map = sys::read_text("/proc/self/uid_map").unwrap_or_default();
    sentence(needs, &status, &uid_map, disabled.ok().as_deref().map(str::trim))
}

fn sentence(
    needs: &[Capability],
    status: &str,
    uid_map: &str,
    disabled: Option<&str>,
) -> Option<String> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let set = u64::from_str_radix(line.trim(), 16).ok()?;
    let missing: Vec<&str> = needs.iter().filter(|c| !c.is_in(set)).map(|c| c.name).collect();
    if missing.is_empty() {
        return in_user_namespace(uid_map).then(|| {
            "this process has its capabilities in a user namespace, where they do not count for \
             bpf(2)"
                .into()
        });
    }
    let mut text = format!("this process lacks {}", missing.join(" and "));
    if missing.contains(&Capability::BPF.name)
        && let Some(value @ ("1" | "2")) = disabled
    {
        text += &format!(", and kernel.unprivileged_bpf_disabled is {value}");
    }
    Some(text)
}

/// In the first user namespace every number stands for itself.
fn in_user_namespace(uid_map: &str) -> bool {
    let words: Vec<&str> = uid_map.split_whitespace().collect();
    !words.is_empty() && words != ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_else_stands_in_the_way() {
        let needs = [Capability::BPF, Capability::NET_ADMIN];
        let say = |set: &str, uid_map: &str, disabled| {
            sentence(&needs, &format!("Name:\tx\nCapEff:\t{set}\n"), uid_map, disabled)
        };
        let first = "         0          0 4294967295\n";
        let cases = [
            ("0000000000000000", first, Some("0"), "lacks CAP_BPF and CAP_NET_ADMIN"),
            ("0000008000000000", first, Some("2"), "lacks CAP_NET_ADMIN"),
            ("0000000000001000", first, Some("2"), "lacks CAP_BPF, and kernel.unprivileged_bpf"),
            ("0000000000200000", first, None, "lacks CAP_NET_ADMIN"),
            ("000001ffffffffff", "0 1000 1\n", Some("2"), "in a user namespace"),
        ];
        for (set, uid_map, disabled, want) in cases {
            let text = say(set, uid_map, disabled).unwrap();
            assert!(text.contains(want), "{set}: {text}");
        }
        assert_eq!(say("000001ffffffffff", first, Some("2")), None);
        assert_eq!(sentence(&needs, "", first, None), None);
    }
}
