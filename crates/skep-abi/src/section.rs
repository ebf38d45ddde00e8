//! Section names: which program type, attach type and flags `SEC("…")` asks for.
//!
//! The rows are libbpf's (its strict rules, the only ones since libbpf 1.0). A name outside the
//! table is not an error here: iproute2's objects, for one, name their sections freely.

use crate::{AttachType, ProgType};

/// How a section name is compared with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The name is exactly the row's. libbpf writes `xdp`.
    Exact,
    /// The name is the row's, or the row's and `/target`. libbpf writes `kprobe+`.
    PlainOrSlash,
}

/// What a section name says about its programs beside their types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SectionFlags(u32);

impl SectionFlags {
    const NONE: u32 = 0;
    const ATTACH_TYPE_OPTIONAL: u32 = 1 << 0;
    const ATTACHABLE: u32 = 1 << 1;
    const ATTACH_BTF: u32 = 1 << 2;
    const SLEEPABLE: u32 = 1 << 3;
    const XDP_FRAGS: u32 = 1 << 4;
    const USDT: u32 = 1 << 5;

    const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }

    /// A kernel that does not know the attach type loads the program without it.
    pub const fn attach_type_optional(self) -> bool {
        self.has(Self::ATTACH_TYPE_OPTIONAL)
    }

    /// Attached with `BPF_PROG_ATTACH` in its time.
    pub const fn attachable(self) -> bool {
        self.has(Self::ATTACHABLE)
    }

    /// The target is a BTF id of the kernel or of another program, needed at load.
    pub const fn needs_attach_btf(self) -> bool {
        self.has(Self::ATTACH_BTF)
    }

    /// The program may sleep: `BPF_F_SLEEPABLE` at load.
    #[doc(alias = "BPF_F_SLEEPABLE")]
    pub const fn sleepable(self) -> bool {
        self.has(Self::SLEEPABLE)
    }

    /// The program takes multi-buffer packets: `BPF_F_XDP_HAS_FRAGS` at load.
    #[doc(alias = "BPF_F_XDP_HAS_FRAGS")]
    pub const fn xdp_frags(self) -> bool {
        self.has(Self::XDP_FRAGS)
    }

    /// A user-space static probe: a uprobe whose place comes from a note in the binary.
    pub const fn usdt(self) -> bool {
        self.has(Self::USDT)
    }

    /// `prog_flags` of `BPF_PROG_LOAD`.
    pub const fn load_flags(self) -> u32 {
        let sleepable = if self.sleepable() { BPF_F_SLEEPABLE } else { 0 };
        let frags = if self.xdp_frags() { BPF_F_XDP_HAS_FRAGS } else { 0 };
        sleepable | frags
    }
}

/// `prog_flags`: the program may sleep.
pub const BPF_F_SLEEPABLE: u32 = 1 << 4;
/// `prog_flags`: the XDP program takes multi-buffer packets.
pub const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// How libbpf attaches by section name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoAttach {
    /// It does not: the target (interface, cgroup, socket…) is not in the name.
    None,
    /// kprobe or kretprobe at `function[+offset]`.
    Kprobe,
    /// uprobe or uretprobe at `binary:function[+offset]`.
    Uprobe,
    /// Many kprobes at once, by pattern.
    KprobeMulti,
    /// Many uprobes at once, `binary:pattern`.
    UprobeMulti,
    /// The kprobe of a system call, whatever its function is called on this machine.
    Ksyscall,
    /// `binary:provider:name`.
    Usdt,
    /// `category/name`.
    Tracepoint,
    /// Raw tracepoint by name.
    RawTracepoint,
    /// fentry, fexit, fmod_ret, tp_btf, freplace: by BTF id.
    Tracing,
    /// Many fentry or fexit at once, by pattern.
    TracingMulti,
    /// LSM hook, by BTF id.
    Lsm,
    /// Iterator, by name.
    Iter,
}

/// One row: a section name and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionDef {
    /// Name, without `?` and target.
    pub name: &'static str,
    /// How it is compared.
    pub rule: Match,
    /// Program type.
    pub prog_type: ProgType,
    /// Expected attach type; `None` where the name does not fix one.
    pub attach_type: Option<AttachType>,
    /// The rest.
    pub flags: SectionFlags,
    /// How it attaches by name.
    pub attach: AutoAttach,
}

impl SectionDef {
    /// What stands behind the row's name: `Some(None)` for the plain name, `None` for no match.
    fn target<'n>(&self, name: &'n str) -> Option<Option<&'n str>> {
        let rest = name.strip_prefix(self.name)?;
        match (self.rule, rest.strip_prefix('/')) {
            _ if rest.is_empty() => Some(None),
            (Match::PlainOrSlash, Some(target)) => Some(Some(target)),
            _ => None,
        }
    }
}

/// A section name that a row knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionMatch<'n> {
    /// The row.
    pub def: &'static SectionDef,
    /// What stands behind `name/`: function, tracepoint, path…
    pub target: Option<&'n str>,
    /// False for `?name`: the program is loaded only when asked for.
    pub autoload: bool,
}

/// Splits the `?` off a section name: the rest, and whether the program loads by itself.
pub fn split_autoload(name: &str) -> (&str, bool) {
    name.strip_prefix('?').map_or((name, true), |rest| (rest, false))
}

/// Finds the row for an ELF section name as written (`?xdp.frags/devmap`).
pub fn find(name: &str) -> Option<SectionMatch<'_>> {
    let (name, autoload) = split_autoload(name);
    SECTIONS
        .iter()
        .find_map(|def| def.target(name).map(|target| SectionMatch { def, target, autoload }))
}

macro_rules! attach_type {
    (-) => {
        None
    };
    ($name:ident) => {
        Some(AttachType::$name)
    };
}

macro_rules! sections {
    ($( $name:literal, $rule:ident, $prog:ident, $attach:tt, $($flag:ident)|+, $auto:ident; )+) => {
        /// Every section name that libbpf knows, by program type. At most one row matches a name.
        pub const SECTIONS: &[SectionDef] = &[$(
            SectionDef {
                name: $name,
                rule: Match::$rule,
                prog_type: ProgType::$prog,
                attach_type: attach_type!($attach),
                flags: SectionFlags($( SectionFlags::$flag )|+),
                attach: AutoAttach::$auto,
            },
        )+];
    };
}

sections! {
    "socket", Exact, SOCKET_FILTER, -, NONE, None;
    "kprobe", PlainOrSlash, KPROBE, -, NONE, Kprobe;
    "kprobe.multi", PlainOrSlash, KPROBE, TRACE_KPROBE_MULTI, NONE, KprobeMulti;
    "kprobe.session", PlainOrSlash, KPROBE, TRACE_KPROBE_SESSION, NONE, KprobeMulti;
    "kretprobe", PlainOrSlash, KPROBE, -, NONE, Kprobe;
    "kretprobe.multi", PlainOrSlash, KPROBE, TRACE_KPROBE_MULTI, NONE, KprobeMulti;
    "kretsyscall", PlainOrSlash, KPROBE, -, NONE, Ksyscall;
    "ksyscall", PlainOrSlash, KPROBE, -, NONE, Ksyscall;
    "uprobe", PlainOrSlash, KPROBE, -, NONE, Uprobe;
    "uprobe.multi", PlainOrSlash, KPROBE, TRACE_UPROBE_MULTI, NONE, UprobeMulti;
    "uprobe.multi.s", PlainOrSlash, KPROBE, TRACE_UPROBE_MULTI, SLEEPABLE, UprobeMulti;
    "uprobe.s", PlainOrSlash, KPROBE, -, SLEEPABLE, Uprobe;
    "uprobe.session", PlainOrSlash, KPROBE, TRACE_UPROBE_SESSION, NONE, UprobeMulti;
    "uprobe.session.s", PlainOrSlash, KPROBE, TRACE_UPROBE_SESSION, SLEEPABLE, UprobeMulti;
    "uretprobe", PlainOrSlash, KPROBE, -, NONE, Uprobe;
    "uretprobe.multi", PlainOrSlash, KPROBE, TRACE_UPROBE_MULTI, NONE, UprobeMulti;
    "uretprobe.multi.s", PlainOrSlash, KPROBE, TRACE_UPROBE_MULTI, SLEEPABLE, UprobeMulti;
    "uretprobe.s", PlainOrSlash, KPROBE, -, SLEEPABLE, Uprobe;
    "usdt", PlainOrSlash, KPROBE, -, USDT, Usdt;
    "usdt.s", PlainOrSlash, KPROBE, -, USDT | SLEEPABLE, Usdt;
    "classifier", Exact, SCHED_CLS, -, NONE, None;
    "netkit/peer", Exact, SCHED_CLS, NETKIT_PEER, NONE, None;
    "netkit/primary", Exact, SCHED_CLS, NETKIT_PRIMARY, NONE, None;
    "tc", Exact, SCHED_CLS, -, NONE, None;
    "tc/egress", Exact, SCHED_CLS, TCX_EGRESS, NONE, None;
    "tc/ingress", Exact, SCHED_CLS, TCX_INGRESS, NONE, None;
    "tcx/egress", Exact, SCHED_CLS, TCX_EGRESS, NONE, None;
    "tcx/ingress", Exact, SCHED_CLS, TCX_INGRESS, NONE, None;
    "action", Exact, SCHED_ACT, -, NONE, None;
    "tp", PlainOrSlash, TRACEPOINT, -, NONE, Tracepoint;
    "tp.s", PlainOrSlash, TRACEPOINT, -, SLEEPABLE, Tracepoint;
    "tracepoint", PlainOrSlash, TRACEPOINT, -, NONE, Tracepoint;
    "tracepoint.s", PlainOrSlash, TRACEPOINT, -, SLEEPABLE, Tracepoint;
    "xdp", Exact, XDP, XDP, ATTACHABLE | ATTACH_TYPE_OPTIONAL, None;
    "xdp.frags", Exact, XDP, XDP, XDP_FRAGS, None;
    "xdp.frags/cpumap", Exact, XDP, XDP_CPUMAP, XDP_FRAGS, None;
    "xdp.frags/devmap", Exact, XDP, XDP_DEVMAP, XDP_FRAGS, None;
    "xdp/cpumap", Exact, XDP, XDP_CPUMAP, ATTACHABLE, None;
    "xdp/devmap", Exact, XDP, XDP_DEVMAP, ATTACHABLE, None;
    "perf_event", Exact, PERF_EVENT, -, NONE, None;
    "cgroup/skb", Exact, CGROUP_SKB, -, NONE, None;
    "cgroup_skb/egress", Exact, CGROUP_SKB, CGROUP_INET_EGRESS, ATTACHABLE | ATTACH_TYPE_OPTIONAL, None;
    "cgroup_skb/ingress", Exact, CGROUP_SKB, CGROUP_INET_INGRESS, ATTACHABLE | ATTACH_TYPE_OPTIONAL, None;
    "cgroup/post_bind4", Exact, CGROUP_SOCK, CGROUP_INET4_POST_BIND, ATTACHABLE, None;
    "cgroup/post_bind6", Exact, CGROUP_SOCK, CGROUP_INET6_POST_BIND, ATTACHABLE, None;
    "cgroup/sock", Exact, CGROUP_SOCK, CGROUP_INET_SOCK_CREATE, ATTACHABLE | ATTACH_TYPE_OPTIONAL, None;
    "cgroup/sock_create", Exact, CGROUP_SOCK, CGROUP_INET_SOCK_CREATE, ATTACHABLE, None;
    "cgroup/sock_release", Exact, CGROUP_SOCK, CGROUP_INET_SOCK_RELEASE, ATTACHABLE, None;
    "lwt_in", Exact, LWT_IN, -, NONE, None;
    "lwt_out", Exact, LWT_OUT, -, NONE, None;
    "lwt_xmit", Exact, LWT_XMIT, -, NONE, None;
    "sockops", Exact, SOCK_OPS, CGROUP_SOCK_OPS, ATTACHABLE | ATTACH_TYPE_OPTIONAL, None;
    "sk_skb", Exact, SK_SKB, -, NONE, None;
    "sk_skb/stream_parser", Exact, SK_SKB, SK_SKB_STREAM_PARSER, ATTACHABLE | ATTACH_TYPE_OPTIONAL, None;
    "sk_skb/stream_verdict", Exact, SK_SKB, SK_SKB_STREAM_VERDICT, ATTACHABLE | ATTACH_TYPE_OPTIONAL, None;
    "sk_skb/verdict", Exact, SK_SKB, SK_SKB_VERDICT, ATTACHABLE | ATTACH_TYPE_OPTIONAL, None;
    "cgroup/dev", Exact, CGROUP_DEVICE, CGROUP_DEVICE, ATTACHABLE | ATTACH_TYPE_OPTIONAL, None;
    "sk_msg", Exact, SK_MSG, SK_MSG_VERDICT, ATTACHABLE | ATTACH_TYPE_OPTIONAL, None;
    "raw_tp", PlainOrSlash, RAW_TRACEPOINT, -, NONE, RawTracepoint;
    "raw_tp.s", PlainOrSlash, RAW_TRACEPOINT, -, SLEEPABLE, RawTracepoint;
    "raw_tracepoint", PlainOrSlash, RAW_TRACEPOINT, -, NONE, RawTracepoint;
    "raw_tracepoint.s", PlainOrSlash, RAW_TRACEPOINT, -, SLEEPABLE, RawTracepoint;
    "cgroup/bind4", Exact, CGROUP_SOCK_ADDR, CGROUP_INET4_BIND, ATTACHABLE, None;
    "cgroup/bind6", Exact, CGROUP_SOCK_ADDR, CGROUP_INET6_BIND, ATTACHABLE, None;
    "cgroup/connect4", Exact, CGROUP_SOCK_ADDR, CGROUP_INET4_CONNECT, ATTACHABLE, None;
    "cgroup/connect6", Exact, CGROUP_SOCK_ADDR, CGROUP_INET6_CONNECT, ATTACHABLE, None;
    "cgroup/connect_unix", Exact, CGROUP_SOCK_ADDR, CGROUP_UNIX_CONNECT, ATTACHABLE, None;
    "cgroup/getpeername4", Exact, CGROUP_SOCK_ADDR, CGROUP_INET4_GETPEERNAME, ATTACHABLE, None;
    "cgroup/getpeername6", Exact, CGROUP_SOCK_ADDR, CGROUP_INET6_GETPEERNAME, ATTACHABLE, None;
    "cgroup/getpeername_unix", Exact, CGROUP_SOCK_ADDR, CGROUP_UNIX_GETPEERNAME, ATTACHABLE, None;
    "cgroup/getsockname4", Exact, CGROUP_SOCK_ADDR, CGROUP_INET4_GETSOCKNAME, ATTACHABLE, None;
    "cgroup/getsockname6", Exact, CGROUP_SOCK_ADDR, CGROUP_INET6_GETSOCKNAME, ATTACHABLE, None;
    "cgroup/getsockname_unix", Exact, CGROUP_SOCK_ADDR, CGROUP_UNIX_GETSOCKNAME, ATTACHABLE, None;
    "cgroup/recvmsg4", Exact, CGROUP_SOCK_ADDR, CGROUP_UDP4_RECVMSG, ATTACHABLE, None;
    "cgroup/recvmsg6", Exact, CGROUP_SOCK_ADDR, CGROUP_UDP6_RECVMSG, ATTACHABLE, None;
    "cgroup/recvmsg_unix", Exact, CGROUP_SOCK_ADDR, CGROUP_UNIX_RECVMSG, ATTACHABLE, None;
    "cgroup/sendmsg4", Exact, CGROUP_SOCK_ADDR, CGROUP_UDP4_SENDMSG, ATTACHABLE, None;
    "cgroup/sendmsg6", Exact, CGROUP_SOCK_ADDR, CGROUP_UDP6_SENDMSG, ATTACHABLE, None;
    "cgroup/sendmsg_unix", Exact, CGROUP_SOCK_ADDR, CGROUP_UNIX_SENDMSG, ATTACHABLE, None;
    "lwt_seg6local", Exact, LWT_SEG6LOCAL, -, NONE, None;
    "lirc_mode2", Exact, LIRC_MODE2, LIRC_MODE2, ATTACHABLE | ATTACH_TYPE_OPTIONAL, None;
    "sk_reuseport", Exact, SK_REUSEPORT, SK_REUSEPORT_SELECT, ATTACHABLE, None;
    "sk_reuseport/migrate", Exact, SK_REUSEPORT, SK_REUSEPORT_SELECT_OR_MIGRATE, ATTACHABLE, None;
    "flow_dissector", Exact, FLOW_DISSECTOR, FLOW_DISSECTOR, ATTACHABLE | ATTACH_TYPE_OPTIONAL, None;
    "cgroup/sysctl", Exact, CGROUP_SYSCTL, CGROUP_SYSCTL, ATTACHABLE, None;
    "raw_tp.w", PlainOrSlash, RAW_TRACEPOINT_WRITABLE, -, NONE, RawTracepoint;
    "raw_tracepoint.w", PlainOrSlash, RAW_TRACEPOINT_WRITABLE, -, NONE, RawTracepoint;
    "cgroup/getsockopt", Exact, CGROUP_SOCKOPT, CGROUP_GETSOCKOPT, ATTACHABLE, None;
    "cgroup/setsockopt", Exact, CGROUP_SOCKOPT, CGROUP_SETSOCKOPT, ATTACHABLE, None;
    "fentry", PlainOrSlash, TRACING, TRACE_FENTRY, ATTACH_BTF, Tracing;
    "fentry.multi", PlainOrSlash, TRACING, TRACE_FENTRY_MULTI, NONE, TracingMulti;
    "fentry.multi.s", PlainOrSlash, TRACING, TRACE_FENTRY_MULTI, SLEEPABLE, TracingMulti;
    "fentry.s", PlainOrSlash, TRACING, TRACE_FENTRY, ATTACH_BTF | SLEEPABLE, Tracing;
    "fexit", PlainOrSlash, TRACING, TRACE_FEXIT, ATTACH_BTF, Tracing;
    "fexit.multi", PlainOrSlash, TRACING, TRACE_FEXIT_MULTI, NONE, TracingMulti;
    "fexit.multi.s", PlainOrSlash, TRACING, TRACE_FEXIT_MULTI, SLEEPABLE, TracingMulti;
    "fexit.s", PlainOrSlash, TRACING, TRACE_FEXIT, ATTACH_BTF | SLEEPABLE, Tracing;
    "fmod_ret", PlainOrSlash, TRACING, MODIFY_RETURN, ATTACH_BTF, Tracing;
    "fmod_ret.s", PlainOrSlash, TRACING, MODIFY_RETURN, ATTACH_BTF | SLEEPABLE, Tracing;
    "fsession", PlainOrSlash, TRACING, TRACE_FSESSION, ATTACH_BTF, Tracing;
    "fsession.multi", PlainOrSlash, TRACING, TRACE_FSESSION_MULTI, NONE, TracingMulti;
    "fsession.multi.s", PlainOrSlash, TRACING, TRACE_FSESSION_MULTI, SLEEPABLE, TracingMulti;
    "fsession.s", PlainOrSlash, TRACING, TRACE_FSESSION, ATTACH_BTF | SLEEPABLE, Tracing;
    "iter", PlainOrSlash, TRACING, TRACE_ITER, ATTACH_BTF, Iter;
    "iter.s", PlainOrSlash, TRACING, TRACE_ITER, ATTACH_BTF | SLEEPABLE, Iter;
    "tp_btf", PlainOrSlash, TRACING, TRACE_RAW_TP, ATTACH_BTF, Tracing;
    "tp_btf.s", PlainOrSlash, TRACING, TRACE_RAW_TP, ATTACH_BTF | SLEEPABLE, Tracing;
    "struct_ops", PlainOrSlash, STRUCT_OPS, -, NONE, None;
    "struct_ops.s", PlainOrSlash, STRUCT_OPS, -, SLEEPABLE, None;
    "freplace", PlainOrSlash, EXT, -, ATTACH_BTF, Tracing;
    "lsm", PlainOrSlash, LSM, LSM_MAC, ATTACH_BTF, Lsm;
    "lsm.s", PlainOrSlash, LSM, LSM_MAC, ATTACH_BTF | SLEEPABLE, Lsm;
    "lsm_cgroup", PlainOrSlash, LSM, LSM_CGROUP, ATTACH_BTF, None;
    "sk_lookup", Exact, SK_LOOKUP, SK_LOOKUP, ATTACHABLE, None;
    "syscall", Exact, SYSCALL, -, SLEEPABLE, None;
    "netfilter", Exact, NETFILTER, NETFILTER, NONE, None;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_its_names_and_by_no_other_row() {
        for def in SECTIONS {
            let own = find(def.name).unwrap();
            assert_eq!((own.def, own.target, own.autoload), (def, None, true), "{}", def.name);

            let optional = format!("?{}/some/target+0x4", def.name);
            let found = find(&optional).filter(|m| m.def.name == def.name);
            match def.rule {
                Match::Exact => assert_eq!(found, None, "{}", def.name),
                Match::PlainOrSlash => {
                    let found = found.unwrap();
                    assert_eq!(found.target, Some("some/target+0x4"));
                    assert!(!found.autoload);
                }
            }
            for name in [def.name.to_owned(), format!("{}/x", def.name)] {
                let rows = SECTIONS.iter().filter(|d| d.target(&name).is_some()).count();
                assert!(rows <= 1, "{rows} rows match {name}");
            }
        }
    }

    #[test]
    fn names_outside_the_table_are_not_guessed() {
        for name in ["", "?", "xdp/", "xdp_prog", "socket1", "kprobe.", "kprobes/x", "1/0", ".text"]
        {
            assert_eq!(find(name), None, "{name}");
        }
        assert_eq!(find("kprobe/").unwrap().target, Some(""));
    }

    #[test]
    fn flags_become_load_flags() {
        let flags = |name| find(name).unwrap().def.flags.load_flags();
        assert_eq!(flags("fentry.s/do_unlinkat"), BPF_F_SLEEPABLE);
        assert_eq!(flags("xdp.frags/devmap"), BPF_F_XDP_HAS_FRAGS);
        assert_eq!(flags("syscall"), BPF_F_SLEEPABLE);
        assert_eq!(flags("xdp"), 0);
        assert!(find("lsm_cgroup/file_open").unwrap().def.flags.needs_attach_btf());
        assert!(find("usdt/libc.so:libc:setjmp").unwrap().def.flags.usdt());
    }

    #[test]
    fn attach_types_come_with_the_section() {
        let cases = [
            ("xdp", ProgType::XDP, Some(AttachType::XDP)),
            ("tc", ProgType::SCHED_CLS, None),
            ("tcx/egress", ProgType::SCHED_CLS, Some(AttachType::TCX_EGRESS)),
            ("cgroup/skb", ProgType::CGROUP_SKB, None),
            ("cgroup/connect6", ProgType::CGROUP_SOCK_ADDR, Some(AttachType::CGROUP_INET6_CONNECT)),
            ("tp_btf/sched_switch", ProgType::TRACING, Some(AttachType::TRACE_RAW_TP)),
            ("kprobe.session/x*", ProgType::KPROBE, Some(AttachType::TRACE_KPROBE_SESSION)),
        ];
        for (name, prog, attach) in cases {
            let m = find(name).unwrap();
            assert_eq!((m.def.prog_type, m.def.attach_type), (prog, attach), "{name}");
        }
    }
}
