//! Program types, attach types and link types.
//!
//! The number is the kernel's, the name is libbpf's and bpftool's, the version is the first
//! kernel release that has it (`-` where this table does not know).

use std::fmt;

/// A kernel release, major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release(pub u32, pub u32);

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

macro_rules! release {
    (-) => {
        None
    };
    (($major:literal, $minor:literal)) => {
        Some(Release($major, $minor))
    };
}
pub(crate) use release;

macro_rules! kernel_enum {
    ($ty:ident, $what:literal;
     $( $name:ident = $n:literal, $text:literal, $alias:literal, $since:tt; )+) => {
        impl $ty {
            $(
                #[doc = concat!("`", $alias, "`")]
                #[doc(alias = $alias)]
                pub const $name: Self = Self($n);
            )+

            /// Every row of the table, in the kernel's order.
            pub const ALL: &[Self] = &[$( Self::$name, )+];

            /// libbpf's and bpftool's name, or `None` for a number outside the table.
            pub const fn name(self) -> Option<&'static str> {
                match self { $( Self::$name => Some($text), )+ _ => None }
            }

            /// The kernel's constant, or `None` for a number outside the table.
            pub const fn kernel_name(self) -> Option<&'static str> {
                match self { $( Self::$name => Some($alias), )+ _ => None }
            }

            /// First kernel release that has it, where known.
            pub const fn since(self) -> Option<Release> {
                match self { $( Self::$name => release!($since), )+ _ => None }
            }

            /// The row with this [`name`](Self::name) or [`kernel_name`](Self::kernel_name).
            pub fn by_name(name: &str) -> Option<Self> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|t| t.name() == Some(name) || t.kernel_name() == Some(name))
            }
        }

        impl fmt::Display for $ty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!($what, " type {}"), self.0),
                }
            }
        }
    };
}

/// Kind of a program, `enum bpf_prog_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgType(pub u32);

/// Where a program attaches, `enum bpf_attach_type`.
///
/// The kernel's enum has no "none": 0 is [`AttachType::CGROUP_INET_INGRESS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachType(pub u32);

/// What a link is made of, `enum bpf_link_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkType(pub u32);

kernel_enum! { LinkType, "link";
    UNSPEC = 0, "unspec", "BPF_LINK_TYPE_UNSPEC", -;
    RAW_TRACEPOINT = 1, "raw_tracepoint", "BPF_LINK_TYPE_RAW_TRACEPOINT", (5, 8);
    TRACING = 2, "tracing", "BPF_LINK_TYPE_TRACING", (5, 8);
    CGROUP = 3, "cgroup", "BPF_LINK_TYPE_CGROUP", (5, 8);
    ITER = 4, "iter", "BPF_LINK_TYPE_ITER", (5, 8);
    NETNS = 5, "netns", "BPF_LINK_TYPE_NETNS", (5, 8);
    XDP = 6, "xdp", "BPF_LINK_TYPE_XDP", (5, 9);
    PERF_EVENT = 7, "perf_event", "BPF_LINK_TYPE_PERF_EVENT", (5, 15);
    KPROBE_MULTI = 8, "kprobe_multi", "BPF_LINK_TYPE_KPROBE_MULTI", (5, 18);
    STRUCT_OPS = 9, "struct_ops", "BPF_LINK_TYPE_STRUCT_OPS", (6, 4);
    NETFILTER = 10, "netfilter", "BPF_LINK_TYPE_NETFILTER", (6, 4);
    TCX = 11, "tcx", "BPF_LINK_TYPE_TCX", (6, 6);
    UPROBE_MULTI = 12, "uprobe_multi", "BPF_LINK_TYPE_UPROBE_MULTI", (6, 6);
    NETKIT = 13, "netkit", "BPF_LINK_TYPE_NETKIT", (6, 7);
    SOCKMAP = 14, "sockmap", "BPF_LINK_TYPE_SOCKMAP", (6, 10);
    TRACING_MULTI = 15, "tracing_multi", "BPF_LINK_TYPE_TRACING_MULTI", -;
}

kernel_enum! { ProgType, "program";
    UNSPEC = 0, "unspec", "BPF_PROG_TYPE_UNSPEC", -;
    SOCKET_FILTER = 1, "socket_filter", "BPF_PROG_TYPE_SOCKET_FILTER", (3, 19);
    KPROBE = 2, "kprobe", "BPF_PROG_TYPE_KPROBE", (4, 1);
    SCHED_CLS = 3, "sched_cls", "BPF_PROG_TYPE_SCHED_CLS", (4, 1);
    SCHED_ACT = 4, "sched_act", "BPF_PROG_TYPE_SCHED_ACT", (4, 1);
    TRACEPOINT = 5, "tracepoint", "BPF_PROG_TYPE_TRACEPOINT", (4, 7);
    XDP = 6, "xdp", "BPF_PROG_TYPE_XDP", (4, 8);
    PERF_EVENT = 7, "perf_event", "BPF_PROG_TYPE_PERF_EVENT", (4, 9);
    CGROUP_SKB = 8, "cgroup_skb", "BPF_PROG_TYPE_CGROUP_SKB", (4, 10);
    CGROUP_SOCK = 9, "cgroup_sock", "BPF_PROG_TYPE_CGROUP_SOCK", (4, 10);
    LWT_IN = 10, "lwt_in", "BPF_PROG_TYPE_LWT_IN", (4, 10);
    LWT_OUT = 11, "lwt_out", "BPF_PROG_TYPE_LWT_OUT", (4, 10);
    LWT_XMIT = 12, "lwt_xmit", "BPF_PROG_TYPE_LWT_XMIT", (4, 10);
    SOCK_OPS = 13, "sock_ops", "BPF_PROG_TYPE_SOCK_OPS", (4, 13);
    SK_SKB = 14, "sk_skb", "BPF_PROG_TYPE_SK_SKB", (4, 14);
    CGROUP_DEVICE = 15, "cgroup_device", "BPF_PROG_TYPE_CGROUP_DEVICE", (4, 15);
    SK_MSG = 16, "sk_msg", "BPF_PROG_TYPE_SK_MSG", (4, 17);
    RAW_TRACEPOINT = 17, "raw_tracepoint", "BPF_PROG_TYPE_RAW_TRACEPOINT", (4, 17);
    CGROUP_SOCK_ADDR = 18, "cgroup_sock_addr", "BPF_PROG_TYPE_CGROUP_SOCK_ADDR", (4, 17);
    LWT_SEG6LOCAL = 19, "lwt_seg6local", "BPF_PROG_TYPE_LWT_SEG6LOCAL", (4, 18);
    LIRC_MODE2 = 20, "lirc_mode2", "BPF_PROG_TYPE_LIRC_MODE2", (4, 18);
    SK_REUSEPORT = 21, "sk_reuseport", "BPF_PROG_TYPE_SK_REUSEPORT", (4, 19);
    FLOW_DISSECTOR = 22, "flow_dissector", "BPF_PROG_TYPE_FLOW_DISSECTOR", (4, 20);
    CGROUP_SYSCTL = 23, "cgroup_sysctl", "BPF_PROG_TYPE_CGROUP_SYSCTL", (5, 2);
    RAW_TRACEPOINT_WRITABLE = 24, "raw_tracepoint_writable", "BPF_PROG_TYPE_RAW_TRACEPOINT_WRITABLE", (5, 2);
    CGROUP_SOCKOPT = 25, "cgroup_sockopt", "BPF_PROG_TYPE_CGROUP_SOCKOPT", (5, 3);
    TRACING = 26, "tracing", "BPF_PROG_TYPE_TRACING", (5, 5);
    STRUCT_OPS = 27, "struct_ops", "BPF_PROG_TYPE_STRUCT_OPS", (5, 6);
    EXT = 28, "ext", "BPF_PROG_TYPE_EXT", (5, 6);
    LSM = 29, "lsm", "BPF_PROG_TYPE_LSM", (5, 7);
    SK_LOOKUP = 30, "sk_lookup", "BPF_PROG_TYPE_SK_LOOKUP", (5, 9);
    SYSCALL = 31, "syscall", "BPF_PROG_TYPE_SYSCALL", (5, 14);
    NETFILTER = 32, "netfilter", "BPF_PROG_TYPE_NETFILTER", (6, 4);
}

kernel_enum! { AttachType, "attach";
    CGROUP_INET_INGRESS = 0, "cgroup_inet_ingress", "BPF_CGROUP_INET_INGRESS", (4, 10);
    CGROUP_INET_EGRESS = 1, "cgroup_inet_egress", "BPF_CGROUP_INET_EGRESS", (4, 10);
    CGROUP_INET_SOCK_CREATE = 2, "cgroup_inet_sock_create", "BPF_CGROUP_INET_SOCK_CREATE", (4, 10);
    CGROUP_SOCK_OPS = 3, "cgroup_sock_ops", "BPF_CGROUP_SOCK_OPS", (4, 13);
    SK_SKB_STREAM_PARSER = 4, "sk_skb_stream_parser", "BPF_SK_SKB_STREAM_PARSER", (4, 14);
    SK_SKB_STREAM_VERDICT = 5, "sk_skb_stream_verdict", "BPF_SK_SKB_STREAM_VERDICT", (4, 14);
    CGROUP_DEVICE = 6, "cgroup_device", "BPF_CGROUP_DEVICE", (4, 15);
    SK_MSG_VERDICT = 7, "sk_msg_verdict", "BPF_SK_MSG_VERDICT", (4, 17);
    CGROUP_INET4_BIND = 8, "cgroup_inet4_bind", "BPF_CGROUP_INET4_BIND", (4, 17);
    CGROUP_INET6_BIND = 9, "cgroup_inet6_bind", "BPF_CGROUP_INET6_BIND", (4, 17);
    CGROUP_INET4_CONNECT = 10, "cgroup_inet4_connect", "BPF_CGROUP_INET4_CONNECT", (4, 17);
    CGROUP_INET6_CONNECT = 11, "cgroup_inet6_connect", "BPF_CGROUP_INET6_CONNECT", (4, 17);
    CGROUP_INET4_POST_BIND = 12, "cgroup_inet4_post_bind", "BPF_CGROUP_INET4_POST_BIND", (4, 17);
    CGROUP_INET6_POST_BIND = 13, "cgroup_inet6_post_bind", "BPF_CGROUP_INET6_POST_BIND", (4, 17);
    CGROUP_UDP4_SENDMSG = 14, "cgroup_udp4_sendmsg", "BPF_CGROUP_UDP4_SENDMSG", (4, 18);
    CGROUP_UDP6_SENDMSG = 15, "cgroup_udp6_sendmsg", "BPF_CGROUP_UDP6_SENDMSG", (4, 18);
    LIRC_MODE2 = 16, "lirc_mode2", "BPF_LIRC_MODE2", (4, 18);
    FLOW_DISSECTOR = 17, "flow_dissector", "BPF_FLOW_DISSECTOR", (4, 20);
    CGROUP_SYSCTL = 18, "cgroup_sysctl", "BPF_CGROUP_SYSCTL", (5, 2);
    CGROUP_UDP4_RECVMSG = 19, "cgroup_udp4_recvmsg", "BPF_CGROUP_UDP4_RECVMSG", (5, 2);
    CGROUP_UDP6_RECVMSG = 20, "cgroup_udp6_recvmsg", "BPF_CGROUP_UDP6_RECVMSG", (5, 2);
    CGROUP_GETSOCKOPT = 21, "cgroup_getsockopt", "BPF_CGROUP_GETSOCKOPT", (5, 3);
    CGROUP_SETSOCKOPT = 22, "cgroup_setsockopt", "BPF_CGROUP_SETSOCKOPT", (5, 3);
    TRACE_RAW_TP = 23, "trace_raw_tp", "BPF_TRACE_RAW_TP", (5, 5);
    TRACE_FENTRY = 24, "trace_fentry", "BPF_TRACE_FENTRY", (5, 5);
    TRACE_FEXIT = 25, "trace_fexit", "BPF_TRACE_FEXIT", (5, 5);
    MODIFY_RETURN = 26, "modify_return", "BPF_MODIFY_RETURN", (5, 7);
    LSM_MAC = 27, "lsm_mac", "BPF_LSM_MAC", (5, 7);
    TRACE_ITER = 28, "trace_iter", "BPF_TRACE_ITER", (5, 8);
    CGROUP_INET4_GETPEERNAME = 29, "cgroup_inet4_getpeername", "BPF_CGROUP_INET4_GETPEERNAME", (5, 8);
    CGROUP_INET6_GETPEERNAME = 30, "cgroup_inet6_getpeername", "BPF_CGROUP_INET6_GETPEERNAME", (5, 8);
    CGROUP_INET4_GETSOCKNAME = 31, "cgroup_inet4_getsockname", "BPF_CGROUP_INET4_GETSOCKNAME", (5, 8);
    CGROUP_INET6_GETSOCKNAME = 32, "cgroup_inet6_getsockname", "BPF_CGROUP_INET6_GETSOCKNAME", (5, 8);
    XDP_DEVMAP = 33, "xdp_devmap", "BPF_XDP_DEVMAP", (5, 8);
    CGROUP_INET_SOCK_RELEASE = 34, "cgroup_inet_sock_release", "BPF_CGROUP_INET_SOCK_RELEASE", (5, 9);
    XDP_CPUMAP = 35, "xdp_cpumap", "BPF_XDP_CPUMAP", (5, 9);
    SK_LOOKUP = 36, "sk_lookup", "BPF_SK_LOOKUP", (5, 9);
    XDP = 37, "xdp", "BPF_XDP", (5, 9);
    SK_SKB_VERDICT = 38, "sk_skb_verdict", "BPF_SK_SKB_VERDICT", (5, 13);
    SK_REUSEPORT_SELECT = 39, "sk_reuseport_select", "BPF_SK_REUSEPORT_SELECT", (5, 14);
    SK_REUSEPORT_SELECT_OR_MIGRATE = 40, "sk_reuseport_select_or_migrate", "BPF_SK_REUSEPORT_SELECT_OR_MIGRATE", (5, 14);
    PERF_EVENT = 41, "perf_event", "BPF_PERF_EVENT", (5, 15);
    TRACE_KPROBE_MULTI = 42, "trace_kprobe_multi", "BPF_TRACE_KPROBE_MULTI", (5, 18);
    LSM_CGROUP = 43, "lsm_cgroup", "BPF_LSM_CGROUP", (6, 0);
    STRUCT_OPS = 44, "struct_ops", "BPF_STRUCT_OPS", (6, 4);
    NETFILTER = 45, "netfilter", "BPF_NETFILTER", (6, 4);
    TCX_INGRESS = 46, "tcx_ingress", "BPF_TCX_INGRESS", (6, 6);
    TCX_EGRESS = 47, "tcx_egress", "BPF_TCX_EGRESS", (6, 6);
    TRACE_UPROBE_MULTI = 48, "trace_uprobe_multi", "BPF_TRACE_UPROBE_MULTI", (6, 6);
    CGROUP_UNIX_CONNECT = 49, "cgroup_unix_connect", "BPF_CGROUP_UNIX_CONNECT", (6, 7);
    CGROUP_UNIX_SENDMSG = 50, "cgroup_unix_sendmsg", "BPF_CGROUP_UNIX_SENDMSG", (6, 7);
    CGROUP_UNIX_RECVMSG = 51, "cgroup_unix_recvmsg", "BPF_CGROUP_UNIX_RECVMSG", (6, 7);
    CGROUP_UNIX_GETPEERNAME = 52, "cgroup_unix_getpeername", "BPF_CGROUP_UNIX_GETPEERNAME", (6, 7);
    CGROUP_UNIX_GETSOCKNAME = 53, "cgroup_unix_getsockname", "BPF_CGROUP_UNIX_GETSOCKNAME", (6, 7);
    NETKIT_PRIMARY = 54, "netkit_primary", "BPF_NETKIT_PRIMARY", (6, 7);
    NETKIT_PEER = 55, "netkit_peer", "BPF_NETKIT_PEER", (6, 7);
    TRACE_KPROBE_SESSION = 56, "trace_kprobe_session", "BPF_TRACE_KPROBE_SESSION", (6, 10);
    TRACE_UPROBE_SESSION = 57, "trace_uprobe_session", "BPF_TRACE_UPROBE_SESSION", (6, 13);
    TRACE_FSESSION = 58, "trace_fsession", "BPF_TRACE_FSESSION", -;
    TRACE_FENTRY_MULTI = 59, "trace_fentry_multi", "BPF_TRACE_FENTRY_MULTI", -;
    TRACE_FEXIT_MULTI = 60, "trace_fexit_multi", "BPF_TRACE_FEXIT_MULTI", -;
    TRACE_FSESSION_MULTI = 61, "trace_fsession_multi", "BPF_TRACE_FSESSION_MULTI", -;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_types_are_numbered_without_gaps_and_found_by_name() {
        for (n, &t) in (0..).zip(ProgType::ALL) {
            assert_eq!(t.0, n, "{t}");
            assert_eq!(ProgType::by_name(t.name().unwrap()), Some(t));
            assert_eq!(ProgType::by_name(t.kernel_name().unwrap()), Some(t));
            assert_eq!(t.since().is_none(), t == ProgType::UNSPEC, "{t}");
        }
        assert_eq!(ProgType(999).to_string(), "program type 999");
    }

    #[test]
    fn attach_types_are_numbered_without_gaps_and_found_by_name() {
        for (n, &t) in (0..).zip(AttachType::ALL) {
            assert_eq!(t.0, n, "{t}");
            assert_eq!(AttachType::by_name(t.name().unwrap()), Some(t));
            assert_eq!(AttachType::by_name(t.kernel_name().unwrap()), Some(t));
        }
        assert_eq!(AttachType::XDP.name(), Some("xdp"));
    }
}
