//! From the kind of a program to how it is attached: one table.

use std::os::fd::{AsFd as _, BorrowedFd};

use skep_abi::{AttachType, ProgType};

use super::{
    AttachError, Direction, FilterPlace, IterTarget, Link, Netfilter, NetkitEnd, Order,
    PacketSocket, PerfEvent, Route, TracingMulti, XdpMode, attach_cgroup, attach_cgroup_ordered,
    attach_freplace, attach_infrared, attach_iter, attach_netfilter, attach_netkit, attach_netns,
    attach_perf_event, attach_perf_event_in, attach_reuseport, attach_route, attach_socket_filter,
    attach_sockmap, attach_tc, attach_tc_clsact_at, attach_tcx, attach_tracing_multi, attach_xdp,
    section::attach_probe,
    trace::{raw_tracepoint, tp_btf, tracepoint},
    tracing::loaded_for,
};
use crate::{map::Map, program::Program};

/// Where to attach, as far as the section name does not say it.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Target<'a> {
    /// The section name says it all (tracepoints).
    #[default]
    Section,
    /// A network interface of the current namespace: XDP, TC, packets for a socket filter.
    Interface {
        /// Its index.
        ifindex: u32,
        /// For XDP.
        mode: XdpMode,
        /// For TC programs whose section name has no direction.
        direction: Direction,
    },
    /// A place among the programs of an interface: tcx, netkit.
    Among {
        /// Its index.
        ifindex: u32,
        /// For TC programs whose section name has no direction.
        direction: Direction,
        /// The place.
        order: Order<'a>,
    },
    /// A place among the filters of an interface, also where it has tcx: TC, TC actions.
    Clsact {
        /// Its index.
        ifindex: u32,
        /// For TC programs whose section name has no direction.
        direction: Direction,
        /// The place.
        place: FilterPlace,
    },
    /// A socket, for a socket filter; any socket of a reuseport group.
    Socket(BorrowedFd<'a>),
    /// A socket map or socket hash.
    SocketMap(&'a Map),
    /// An infrared receiver, an open `/dev/lirc0`.
    Infrared(BorrowedFd<'a>),
    /// A route to be made.
    Route(Route),
    /// A cgroup (version 2), an open directory.
    Cgroup(BorrowedFd<'a>),
    /// The same, at a place among the programs there.
    CgroupAmong {
        /// The open directory.
        cgroup: BorrowedFd<'a>,
        /// The place.
        order: Order<'a>,
    },
    /// A network namespace, an open `/proc/PID/ns/net`: socket look-up, flow dissector.
    Netns(BorrowedFd<'a>),
    /// A place in netfilter of the current network namespace.
    Netfilter(Netfilter),
    /// A perf event.
    PerfEvent(PerfEvent),
    /// A perf event of the processes in a cgroup, an open directory.
    PerfEventIn(PerfEvent, BorrowedFd<'a>),
    /// One process, for uprobes; the section name says where in it.
    Process(u32),
    /// What an iterator walks over.
    Iter(IterTarget<'a>),
}

impl Target<'_> {
    /// A network interface, with the default mode and direction.
    pub const fn interface(ifindex: u32) -> Self {
        Self::Interface { ifindex, mode: XdpMode::Auto, direction: Direction::Ingress }
    }
}

/// What [`attach`] must be told beside the section name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Needs {
    /// Nothing, though it may be told more: a process for uprobes, what an iterator walks over.
    Nothing,
    /// [`Target::Interface`], or a place on one.
    Interface,
    /// [`Target::Interface`] or [`Target::Socket`].
    Packets,
    /// [`Target::Socket`].
    Socket,
    /// [`Target::SocketMap`].
    SocketMap,
    /// [`Target::Infrared`].
    Infrared,
    /// [`Target::Route`].
    Route,
    /// [`Target::Cgroup`].
    Cgroup,
    /// [`Target::Netns`].
    Netns,
    /// [`Target::Netfilter`].
    Netfilter,
    /// [`Target::PerfEvent`].
    PerfEvent,
}

impl Needs {
    /// In words: `a cgroup`.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Interface => "an interface",
            Self::Packets => "a socket or an interface",
            Self::Socket => "a socket of the group",
            Self::SocketMap => "a socket map",
            Self::Infrared => "an infrared receiver",
            Self::Route => "a route",
            Self::Cgroup => "a cgroup",
            Self::Netns => "a network namespace",
            Self::Netfilter => "a place in netfilter",
            Self::PerfEvent => "a perf event",
        }
    }
}

/// How programs of one kind are attached.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    prog_type: ProgType,
    /// The row is for this attach type only; `None` for those that no row above names.
    attach_type: Option<AttachType>,
    /// Its name in messages.
    pub name: &'static str,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Tracepoint,
    RawTracepoint,
    BtfTracepoint,
    Xdp,
    Tc,
    TcAction,
    Netkit(NetkitEnd),
    Route,
    SocketFilter,
    SocketMap,
    Reuseport,
    Infrared,
    /// A kprobe or uprobe: the section name says which.
    Probe,
    PerfEvent,
    Tracing,
    TracingMulti,
    Lsm,
    Replace,
    Iterator,
    Cgroup,
    Netns,
    Netfilter,
    /// Not here; what works instead.
    Not(&'static str),
}

impl Hook {
    /// Can [`attach`] do it?
    pub const fn is_supported(&self) -> bool {
        !matches!(self.how, How::Not(_))
    }

    /// What [`attach`] must be told beside the section name.
    pub const fn needs(&self) -> Needs {
        match self.how {
            How::Xdp | How::Tc | How::TcAction | How::Netkit(_) => Needs::Interface,
            How::SocketFilter => Needs::Packets,
            How::Reuseport => Needs::Socket,
            How::SocketMap => Needs::SocketMap,
            How::Infrared => Needs::Infrared,
            How::Route => Needs::Route,
            How::Cgroup => Needs::Cgroup,
            How::Netns => Needs::Netns,
            How::Netfilter => Needs::Netfilter,
            How::PerfEvent => Needs::PerfEvent,
            How::Tracepoint
            | How::RawTracepoint
            | How::BtfTracepoint
            | How::Probe
            | How::Tracing
            | How::TracingMulti
            | How::Lsm
            | How::Replace
            | How::Iterator
            | How::Not(_) => Needs::Nothing,
        }
    }

    /// What works instead, where this does not.
    pub const fn nearest(&self) -> Option<&'static str> {
        match self.how {
            How::Not(nearest) => Some(nearest),
            _ => None,
        }
    }
}

/// Rows of the table; an attach type of `-` is for all that no row above names.
macro_rules! hooks {
    ($( $prog:ident, $attach:tt, $name:literal, $how:expr; )+) => {
        const HOOKS: &[Hook] = &[$(
            Hook {
                prog_type: ProgType::$prog,
                attach_type: hooks!(@ $attach),
                name: $name,
                how: $how,
            },
        )+];
    };
    (@ -) => { None };
    (@ $attach:ident) => { Some(AttachType::$attach) };
}

const TEST_RUN: &str = "test_run";
const MAP: &str = "attaching the map that holds it";

hooks! {
    TRACEPOINT, -, "tracepoint", How::Tracepoint;
    RAW_TRACEPOINT, -, "raw tracepoint", How::RawTracepoint;
    RAW_TRACEPOINT_WRITABLE, -, "writable raw tracepoint", How::RawTracepoint;
    TRACING, TRACE_RAW_TP, "BTF tracepoint", How::BtfTracepoint;
    TRACING, TRACE_ITER, "iterator", How::Iterator;
    TRACING, TRACE_FENTRY_MULTI, "fentry of many functions", How::TracingMulti;
    TRACING, TRACE_FEXIT_MULTI, "fexit of many functions", How::TracingMulti;
    TRACING, TRACE_FSESSION_MULTI, "fsession of many functions", How::TracingMulti;
    TRACING, -, "fentry, fexit, fsession or fmod_ret", How::Tracing;
    KPROBE, -, "kprobe or uprobe", How::Probe;
    PERF_EVENT, -, "perf event", How::PerfEvent;
    XDP, XDP_DEVMAP, "XDP in a device map", How::Not("Map::set_device, which stores it in an entry of the map");
    XDP, XDP_CPUMAP, "XDP in a CPU map", How::Not("Map::set_cpu, which stores it in an entry of the map");
    XDP, -, "XDP", How::Xdp;
    SCHED_CLS, NETKIT_PRIMARY, "netkit", How::Netkit(NetkitEnd::Primary);
    SCHED_CLS, NETKIT_PEER, "netkit", How::Netkit(NetkitEnd::Peer);
    SCHED_CLS, -, "tc", How::Tc;
    SCHED_ACT, -, "tc action", How::TcAction;
    SOCKET_FILTER, -, "socket filter", How::SocketFilter;
    CGROUP_SKB, -, "cgroup packets", How::Cgroup;
    CGROUP_SOCK, -, "cgroup sockets", How::Cgroup;
    CGROUP_SOCK_ADDR, -, "cgroup socket addresses", How::Cgroup;
    CGROUP_SOCKOPT, -, "cgroup socket options", How::Cgroup;
    CGROUP_DEVICE, -, "cgroup devices", How::Cgroup;
    CGROUP_SYSCTL, -, "cgroup sysctl", How::Cgroup;
    SOCK_OPS, -, "socket operations", How::Cgroup;
    SK_SKB, -, "socket map streams", How::SocketMap;
    SK_MSG, -, "socket map messages", How::SocketMap;
    SK_LOOKUP, -, "socket lookup", How::Netns;
    SK_REUSEPORT, -, "reuseport groups", How::Reuseport;
    FLOW_DISSECTOR, -, "flow dissector", How::Netns;
    NETFILTER, -, "netfilter", How::Netfilter;
    LWT_IN, -, "routes", How::Route;
    LWT_OUT, -, "routes", How::Route;
    LWT_XMIT, -, "routes", How::Route;
    LWT_SEG6LOCAL, -, "routes", How::Route;
    LIRC_MODE2, -, "infrared receivers", How::Infrared;
    STRUCT_OPS, -, "struct_ops", How::Not(MAP);
    EXT, -, "replacing a BPF function", How::Replace;
    LSM, LSM_CGROUP, "LSM of a cgroup", How::Cgroup;
    LSM, -, "LSM", How::Lsm;
    SYSCALL, -, "nothing: it is run", How::Not(TEST_RUN);
}

/// The table's row for a kind of program; `None` for a program type without a name.
pub fn hook(prog_type: ProgType, attach_type: Option<AttachType>) -> Option<&'static Hook> {
    HOOKS.iter().find(|row| {
        row.prog_type == prog_type && (row.attach_type.is_none() || row.attach_type == attach_type)
    })
}

/// Attaches a program of an object where its section name says.
///
/// # Errors
///
/// [`AttachError::NeedsTarget`] when neither the section nor `target` says where;
/// [`AttachError::NotYet`] with the nearest thing that works; else as for the hook's own function.
pub fn attach(program: &Program, target: &Target<'_>) -> Result<Link, AttachError> {
    attach_with(program, target, 0)
}

/// As [`attach`], with a cookie: `bpf_get_attach_cookie` (for static probes `bpf_usdt_cookie`)
/// gives it to the program, so that one program can tell where it runs. Tracepoints and probes
/// have cookies from Linux 5.15 on, trampolines from 5.19, raw and BTF tracepoints from 6.10;
/// other hooks have none, and ignore it.
///
/// # Errors
///
/// As for [`attach`]; `EINVAL` when the kernel has no cookies for this hook.
#[doc(alias = "bpf_cookie")]
pub fn attach_with(
    program: &Program,
    target: &Target<'_>,
    cookie: u64,
) -> Result<Link, AttachError> {
    let not_yet =
        |hook, nearest| AttachError::NotYet { program: program.name().to_owned(), hook, nearest };
    let row = hook(program.prog_type(), program.attach_type())
        .ok_or_else(|| not_yet("this unknown program type", TEST_RUN))?;
    let needs = |needs| AttachError::NeedsTarget {
        program: program.name().to_owned(),
        hook: row.name,
        needs,
    };
    let to = || program.attach_to().filter(|name| !name.is_empty());
    match (row.how, target) {
        (How::Tracepoint, _) => {
            let parts = to().and_then(|to| to.split_once('/'));
            let (category, name) = parts.ok_or_else(|| needs("'category/name'"))?;
            tracepoint(program, category, name, cookie)
        }
        (How::RawTracepoint, _) => {
            raw_tracepoint(program, to().ok_or_else(|| needs("a tracepoint's name"))?, cookie)
        }
        (How::BtfTracepoint, _) => tp_btf(program, cookie),
        (How::Xdp, &Target::Interface { ifindex, mode, .. }) => attach_xdp(program, ifindex, mode),
        (How::Tc, &Target::Interface { ifindex, direction, .. }) => {
            attach_tc(program, ifindex, by_section(program).unwrap_or(direction))
        }
        (How::Tc, &Target::Among { ifindex, direction, ref order }) => {
            attach_tcx(program, ifindex, by_section(program).unwrap_or(direction), order)
        }
        (How::Tc | How::TcAction, &Target::Clsact { ifindex, direction, place }) => {
            let direction = by_section(program).unwrap_or(direction);
            attach_tc_clsact_at(program, ifindex, direction, place)
        }
        (How::TcAction, &Target::Interface { ifindex, direction, .. }) => {
            attach_tc_clsact_at(program, ifindex, direction, FilterPlace::default())
        }
        (How::Netkit(end), &Target::Interface { ifindex, .. }) => {
            attach_netkit(program, ifindex, end, &Order::default())
        }
        (How::Netkit(end), Target::Among { ifindex, order, .. }) => {
            attach_netkit(program, *ifindex, end, order)
        }
        (How::Route, Target::Route(route)) => attach_route(program, route),
        (How::SocketMap, &Target::SocketMap(map)) => attach_sockmap(program, map),
        (How::Infrared, &Target::Infrared(receiver)) => attach_infrared(program, receiver),
        (How::Reuseport, &Target::Socket(socket)) => attach_reuseport(program, socket),
        (How::SocketFilter, &Target::Socket(socket)) => attach_socket_filter(program, socket),
        (How::SocketFilter, &Target::Interface { ifindex, .. }) => {
            let socket = PacketSocket::open(ifindex).map_err(|source| AttachError::Refused {
                program: program.name().to_owned(),
                hook: format!("packets of interface {ifindex}"),
                source,
            })?;
            attach_socket_filter(program, socket.as_fd())
        }
        (How::Probe, &Target::Process(pid)) => attach_probe(program, Some(pid), cookie),
        (How::Probe, _) => attach_probe(program, None, cookie),
        (How::Tracing | How::Lsm, _) => loaded_for(program, cookie),
        (How::TracingMulti, _) => {
            let functions = &[to().ok_or_else(|| needs("a function's name, or a pattern"))?];
            attach_tracing_multi(program, &TracingMulti { functions, cookies: &[cookie] })
        }
        (How::Replace, _) => attach_freplace(program, None),
        (How::PerfEvent, Target::PerfEvent(event)) => {
            let cookie = if cookie == 0 { event.cookie } else { cookie };
            attach_perf_event(program, &PerfEvent { cookie, ..*event })
        }
        (How::PerfEvent, &Target::PerfEventIn(event, cgroup)) => {
            let cookie = if cookie == 0 { event.cookie } else { cookie };
            attach_perf_event_in(program, &PerfEvent { cookie, ..event }, cgroup)
        }
        (How::Iterator, &Target::Iter(target)) => attach_iter(program, target),
        (How::Iterator, _) => attach_iter(program, IterTarget::All),
        (How::Cgroup, &Target::Cgroup(cgroup)) => attach_cgroup(program, cgroup),
        (How::Cgroup, Target::CgroupAmong { cgroup, order }) => {
            attach_cgroup_ordered(program, *cgroup, order)
        }
        (How::Netns, &Target::Netns(netns)) => attach_netns(program, netns),
        (How::Netfilter, Target::Netfilter(at)) => attach_netfilter(program, at),
        (How::Not(nearest), _) => Err(not_yet(row.name, nearest)),
        _ => Err(needs(row.needs().words())),
    }
}

/// The direction that a TC program's section name gives.
fn by_section(program: &Program) -> Option<Direction> {
    match program.attach_type() {
        Some(AttachType::TCX_INGRESS) => Some(Direction::Ingress),
        Some(AttachType::TCX_EGRESS) => Some(Direction::Egress),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_type_and_every_section_has_a_row() {
        for &prog_type in ProgType::ALL.iter().filter(|&&t| t != ProgType::UNSPEC) {
            assert!(hook(prog_type, None).is_some(), "{prog_type}");
        }
        for section in skep_abi::section::SECTIONS {
            assert!(hook(section.prog_type, section.attach_type).is_some(), "{}", section.name);
        }
    }

    #[test]
    fn rows_are_reachable() {
        for (n, row) in HOOKS.iter().enumerate() {
            let first = hook(row.prog_type, row.attach_type).unwrap();
            assert!(std::ptr::eq(first, &raw const HOOKS[n]) || first.name == row.name, "{row:?}");
        }
    }
}
