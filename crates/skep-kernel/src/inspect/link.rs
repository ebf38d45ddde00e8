//! Links by id.

use std::os::fd::AsFd as _;

use skep_abi::AttachType;
pub use skep_abi::LinkType;

use super::{Kind, open, some};
use crate::sys::{self, SysError};

/// What the kernel tells of a link. Only what links of its type have is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkInfo {
    /// Id, unique among links.
    pub id: u32,
    /// Kind, as the kernel's number.
    pub link_type: u32,
    /// The program that is attached.
    pub prog_id: u32,
    /// Where at its target.
    pub attach_type: Option<AttachType>,
    /// Tracepoint, function, file, or the target of an iterator.
    pub target_name: Option<String>,
    /// BTF object, or program, that a tracing program is attached to.
    pub target_obj_id: Option<u32>,
    /// The function there.
    pub target_btf_id: Option<u32>,
    /// The cgroup.
    pub cgroup_id: Option<u64>,
    /// Inode number of the network namespace.
    pub netns_ino: Option<u32>,
    /// The device.
    pub ifindex: Option<u32>,
    /// The map of a `struct_ops` or socket map link.
    pub map_id: Option<u32>,
    /// Number of functions of a multi-link.
    pub func_count: Option<u32>,
    /// The functions, as far as they may be seen.
    pub functions: Vec<Probed>,
    /// Does a probe run at the return of its function?
    pub returns: Option<bool>,
    /// Runs that a kernel probe could not have: it was running already, or there was no room to
    /// remember a return.
    pub missed: Option<u64>,
    /// Process that a user probe is limited to, or thread group that an iterator walks.
    pub pid: Option<u32>,
    /// Thread that an iterator walks.
    pub tid: Option<u32>,
    /// Order in which an iterator walks over cgroups, `enum bpf_cgroup_iter_order`.
    pub order: Option<u32>,
    /// Protocol family, hook, priority and flags of a netfilter link.
    pub netfilter: Option<(u32, u32, i32, u32)>,
    /// Kind of a perf event: `uprobe`, `kretprobe`, `tracepoint`…
    pub event: Option<&'static str>,
    /// Type and configuration of an event that is no probe and no tracepoint.
    pub event_config: Option<(u32, u64)>,
    /// Offset from the function or in the file.
    pub offset: Option<u32>,
    /// Address of a kernel probe; 0 when hidden.
    pub address: Option<u64>,
    /// Where in a file a user probe's reference counter lies; 0 for none.
    pub reference_counter: Option<u64>,
    /// The number that the program reads with `bpf_get_attach_cookie`; 0 when there is none.
    pub cookie: Option<u64>,
}

/// One function of a link that has several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// Address in the kernel, or offset in the file.
    pub at: u64,
    /// Where in the file the reference counter lies; 0 for none, and in the kernel.
    pub reference_counter: u64,
    /// The number that the program reads.
    pub cookie: u64,
}

impl LinkInfo {
    /// Kind.
    pub const fn kind(&self) -> LinkType {
        LinkType(self.link_type)
    }
}

/// `enum bpf_perf_event_type`.
const EVENTS: &[&str] =
    &["unspec", "uprobe", "uretprobe", "kprobe", "kretprobe", "tracepoint", "event"];

/// `BPF_F_KPROBE_MULTI_RETURN` and `BPF_F_UPROBE_MULTI_RETURN`.
const MULTI_RETURN: u32 = 1;

/// A link by its id; none when it is gone.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn link(id: u32) -> Result<Option<LinkInfo>, SysError> {
    let Some(fd) = open(Kind::Link, id)? else { return Ok(None) };
    Ok(Some(of_raw(sys::link_raw(fd.as_fd())?)))
}

/// Takes a link off its hook, whoever holds it; false when it is gone.
///
/// # Errors
///
/// `EOPNOTSUPP` for kinds that end only with their last holder; `EPERM` without rights.
#[doc(alias = "BPF_LINK_DETACH")]
pub fn detach(id: u32) -> Result<bool, SysError> {
    let Some(fd) = open(Kind::Link, id)? else { return Ok(false) };
    sys::link_detach(fd.as_fd()).map(|()| true)
}

/// Functions from the kernel's lists: addresses and cookies, or offsets, counters and cookies.
pub(super) fn functions(lists: &[Vec<u64>]) -> Vec<Probed> {
    match lists {
        [at, cookies] => {
            let all = at.iter().zip(cookies);
            all.map(|(&at, &cookie)| Probed { at, reference_counter: 0, cookie }).collect()
        }
        [at, counters, cookies] => {
            let all = at.iter().zip(counters).zip(cookies);
            let one =
                |((&at, &reference_counter), &cookie)| Probed { at, reference_counter, cookie };
            all.map(one).collect()
        }
        _ => Vec::new(),
    }
}

fn of_raw(raw: sys::RawLink) -> LinkInfo {
    let mut info = LinkInfo {
        id: raw.id,
        link_type: raw.link_type,
        prog_id: raw.prog_id,
        target_name: (!raw.text.is_empty()).then_some(raw.text),
        functions: functions(&raw.lists),
        ..Default::default()
    };
    let word = |n: usize| raw.words.get(n).copied().unwrap_or(0);
    let long = |n: usize| {
        let (a, b) = (word(n).to_ne_bytes(), word(n + 1).to_ne_bytes());
        let [a0, a1, a2, a3] = a;
        let [b0, b1, b2, b3] = b;
        u64::from_ne_bytes([a0, a1, a2, a3, b0, b1, b2, b3])
    };
    let attach = |n: usize| Some(AttachType(word(n)));
    let cookie = |n: usize| Some(long(n));
    match info.kind().name().unwrap_or("") {
        "raw_tracepoint" => info.cookie = cookie(4),
        "tracing" => {
            info.attach_type = attach(0);
            (info.target_obj_id, info.target_btf_id) = (Some(word(1)), Some(word(2)));
            info.cookie = cookie(4);
        }
        "cgroup" => (info.cgroup_id, info.attach_type) = (Some(long(0)), attach(2)),
        "iter" => {
            let target = info.target_name.as_deref().unwrap_or("");
            match target {
                "bpf_map_elem" | "bpf_sk_storage_map" => info.map_id = Some(word(3)),
                "cgroup" => (info.cgroup_id, info.order) = (Some(long(4)), Some(word(6))),
                "task" | "task_file" | "task_vma" => {
                    (info.tid, info.pid) = (some(word(4)), some(word(5)));
                }
                _ => {}
            }
        }
        "netns" => (info.netns_ino, info.attach_type) = (Some(word(0)), attach(1)),
        "xdp" => info.ifindex = Some(word(0)),
        "perf_event" => {
            let kind = EVENTS.get(word(0) as usize).copied();
            info.event = kind.filter(|&k| k != "unspec");
            let returns = matches!(info.event, Some("uretprobe" | "kretprobe"));
            match info.event {
                Some("uprobe" | "uretprobe") => {
                    (info.returns, info.offset) = (Some(returns), Some(word(5)));
                    (info.cookie, info.reference_counter) = (cookie(6), Some(long(8)));
                }
                Some("kprobe" | "kretprobe") => {
                    (info.returns, info.offset) = (Some(returns), Some(word(5)));
                    (info.address, info.missed) = (Some(long(6)), Some(long(8)));
                    info.cookie = cookie(10);
                }
                Some("tracepoint") => info.cookie = cookie(6),
                Some("event") => {
                    info.event_config = Some((word(4), long(2)));
                    info.cookie = cookie(6);
                }
                _ => {}
            }
        }
        "kprobe_multi" => {
            info.func_count = Some(word(2));
            info.returns = Some(word(3) & MULTI_RETURN != 0);
            info.missed = Some(long(4));
        }
        "struct_ops" => info.map_id = Some(word(0)),
        "netfilter" => {
            info.netfilter = Some((word(0), word(1), word(2).cast_signed(), word(3)));
        }
        "tcx" | "netkit" => (info.ifindex, info.attach_type) = (Some(word(0)), attach(1)),
        "uprobe_multi" => {
            info.func_count = Some(word(9));
            info.returns = Some(word(10) & MULTI_RETURN != 0);
            info.pid = Some(word(11));
        }
        "sockmap" => (info.map_id, info.attach_type) = (Some(word(0)), attach(1)),
        _ => {}
    }
    info
}
