//! What this kernel and this process can, found by doing it.

use std::{
    collections::HashMap,
    io,
    os::fd::AsFd as _,
    sync::{Mutex, OnceLock},
};

use skep_abi::{
    AttachType, MapDef, MapNeeds, MapRule, MapType, ProgType, section::BPF_F_SLEEPABLE,
};
use skep_btf::KindTag;
use skep_isa::Slot;

use crate::{
    error::LoadError,
    map::Map,
    program::{Program, ProgramLoad},
    sys::{self, LinkExtra, LinkTarget},
    target,
};

/// Outcome of a probe. "Could not tell" is its own answer, never "not supported".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It works here.
    Yes,
    /// This machine or process does not have it; the text is the reason.
    No(String),
    /// The probe itself failed, so nothing is known.
    Unknown(String),
}

impl Support {
    /// For `require_kernel!`: the reason of a "no" as the error.
    ///
    /// # Errors
    ///
    /// The reason.
    ///
    /// # Panics
    ///
    /// When the probe could not tell: a test must not turn that into a skip.
    pub fn into_result(self) -> Result<(), String> {
        match self {
            Self::Yes => Ok(()),
            Self::No(reason) => Err(reason),
            Self::Unknown(reason) => panic!("probe could not tell: {reason}"),
        }
    }

    /// Is the answer yes?
    pub fn is_yes(&self) -> bool {
        *self == Self::Yes
    }
}

/// `r0 = 0; exit`
const RETURN_0: [Slot; 2] = [
    Slot { code: 0xb7, dst: 0, src: 0, off: 0, imm: 0 },
    Slot { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
];

/// May this process load a trivial program at all? Probed once per process.
pub fn can_load() -> Support {
    static CACHE: OnceLock<Support> = OnceLock::new();
    let probe =
        || match Program::load(&ProgramLoad::new("probe", ProgType::SOCKET_FILTER, &RETURN_0)) {
            Ok(_) => match map_type(MapType::HASH) {
                Support::Yes => Support::Yes,
                other => other,
            },
            Err(e) => of_load_error(&e),
        };
    CACHE.get_or_init(probe).clone()
}

/// What the smallest program of a type needs beside its instructions.
const NEEDS: &[(ProgType, Option<AttachType>, Option<(KindTag, &str)>)] = &[
    (ProgType::CGROUP_SOCK_ADDR, Some(AttachType::CGROUP_INET4_CONNECT), None),
    (ProgType::CGROUP_SOCKOPT, Some(AttachType::CGROUP_GETSOCKOPT), None),
    (ProgType::SK_LOOKUP, Some(AttachType::SK_LOOKUP), None),
    (ProgType::NETFILTER, Some(AttachType::NETFILTER), None),
    (
        ProgType::TRACING,
        Some(AttachType::TRACE_RAW_TP),
        Some((KindTag::Typedef, "btf_trace_sched_switch")),
    ),
    (ProgType::LSM, Some(AttachType::LSM_MAC), Some((KindTag::Func, "bpf_lsm_file_open"))),
];

/// Can programs of this type be loaded? For [`ProgType::TRACING`] this is about BTF tracepoints.
///
/// Extensions and `struct_ops`, which need more than two instructions, are [`Support::Unknown`]
/// unless the kernel's answer is clear.
pub fn prog_type(prog_type: ProgType) -> Support {
    static CACHE: Mutex<Option<HashMap<ProgType, Support>>> = Mutex::new(None);
    cached(&CACHE, prog_type, || load_smallest(prog_type))
}

fn load_smallest(prog_type: ProgType) -> Support {
    let mut load = ProgramLoad::new("probe", prog_type, &RETURN_0);
    if prog_type == ProgType::SYSCALL {
        load.flags = BPF_F_SLEEPABLE;
    }
    if let Some(&(_, attach_type, target)) = NEEDS.iter().find(|row| row.0 == prog_type) {
        load.attach_type = attach_type;
        if let Some((kind, name)) = target {
            let btf = match target::vmlinux_btf() {
                Ok(btf) => btf,
                Err(e) => return Support::No(format!("the kernel shows no BTF: {e}")),
            };
            match btf.find(kind, name).next() {
                Some(id) => load.attach_btf_id = id.0,
                None => return Support::No(format!("this kernel has no {name}")),
            }
        }
    }
    let proof = !matches!(prog_type, ProgType::EXT | ProgType::STRUCT_OPS);
    match Program::load(&load) {
        Ok(_) => Support::Yes,
        Err(LoadError::Refused { source, .. })
            if proof && source.errno() == libc::EINVAL && can_load().is_yes() =>
        {
            Support::No(format!("this kernel has no {prog_type} programs"))
        }
        // Trampolines: what may be loaded at all is known from `can_load`.
        Err(e @ LoadError::Refused { .. }) if can_load().is_yes() => match of_load_error(&e) {
            Support::No(_) => Support::No(e.to_string()),
            other => other,
        },
        Err(e) => of_load_error(&e),
    }
}

const GET_ATTACH_COOKIE: u32 = 174;

/// What the verifier says of a helper that it does not know, or does not allow for the type.
const NO_SUCH_HELPER: &[&str] = &["unknown func", "invalid func", "cannot use helper"];

/// May programs of this type call the helper of this number?
pub fn helper(prog_type: ProgType, number: u32) -> Support {
    let [_, exit] = RETURN_0;
    let call = Slot { code: 0x85, imm: number.cast_signed(), ..Slot::default() };
    match Program::load(&ProgramLoad::new("probe", prog_type, &[call, exit])) {
        Ok(_) => Support::Yes,
        Err(LoadError::Rejected { log, .. }) => {
            if NO_SUCH_HELPER.iter().any(|text| log.text.contains(text)) {
                Support::No(format!("this kernel has no helper {number} for {prog_type} programs"))
            } else {
                // It got as far as the arguments, which are not there.
                Support::Yes
            }
        }
        Err(e) => of_load_error(&e),
    }
}

/// Do perf events carry a cookie that programs can read (Linux 5.15)?
pub fn bpf_cookie() -> Support {
    helper(ProgType::TRACEPOINT, GET_ATTACH_COOKIE)
}

/// Can one link hold uprobes at many places, and limit them to a process (Linux 6.6, as repaired)?
pub fn uprobe_multi() -> Support {
    static CACHE: OnceLock<Support> = OnceLock::new();
    CACHE.get_or_init(link_on_no_binary).clone()
}

/// The kernel looks at the file before it looks at anything that would be attached: a directory
/// is `EBADF` to one that has such links. The first ones took the process for a thread, and did
/// not refuse a wrong one at once.
fn link_on_no_binary() -> Support {
    let attach_type = AttachType::TRACE_UPROBE_MULTI;
    let mut load = ProgramLoad::new("probe", ProgType::KPROBE, &RETURN_0);
    load.attach_type = Some(attach_type);
    let program = match Program::load(&load) {
        Ok(program) => program,
        Err(e) => return of_load_error(&e),
    };
    let try_link = |pid| {
        let (path, offsets, none) = (c"/", &[0], &[]);
        let extra = LinkExtra::UprobeMulti {
            path,
            offsets,
            reference_counters: none,
            cookies: none,
            flags: 0,
            pid,
        };
        let target = LinkTarget::Ifindex(0);
        let link = sys::link_create_with(program.as_fd(), target, attach_type.0, extra);
        link.map_or_else(|e| e.errno(), |_| 0)
    };
    match (try_link(0), try_link(u32::MAX)) {
        (libc::EBADF, libc::EINVAL) => Support::Yes,
        (libc::EBADF, _) => {
            Support::No("this kernel's links of many uprobes take a process for a thread".into())
        }
        (libc::EINVAL, _) => Support::No("this kernel has no links of many uprobes".into()),
        (errno, _) => of_errno(errno, &io::Error::from_raw_os_error(errno).to_string()),
    }
}

/// Can maps of this type be made?
pub fn map_type(map_type: MapType) -> Support {
    static CACHE: Mutex<Option<HashMap<MapType, Support>>> = Mutex::new(None);
    cached(&CACHE, map_type, || make_map(map_type))
}

fn make_map(map_type: MapType) -> Support {
    let Some(rule) = MapRule::of(map_type) else {
        return Support::No(format!("{map_type} is not known here"));
    };
    if matches!(rule.needs, MapNeeds::Types | MapNeeds::KernelType) {
        return Support::Unknown(format!("{map_type} needs more than a definition"));
    }
    let def = rule.smallest(sys::page_bytes());
    let inner = map_type.is_map_in_map().then(|| {
        let inner = MapDef { map_type: MapType::HASH, ..def };
        Map::create("probe", inner, None, None)
    });
    let made = match inner.transpose() {
        Ok(inner) => Map::create("probe", def, inner.as_ref(), None),
        Err(e) => Err(e),
    };
    match made {
        Ok(_) => Support::Yes,
        Err(e) => match e.errno() {
            libc::EINVAL => Support::No(format!("this kernel has no {map_type} maps")),
            errno => of_errno(errno, &format!("{e}: {}", e.source)),
        },
    }
}

fn of_load_error(e: &LoadError) -> Support {
    match e {
        LoadError::Rejected { errno, summary, .. } => of_errno(*errno, summary),
        LoadError::Refused { source, .. } => {
            of_errno(source.errno(), &format!("{e}: {}", source.source))
        }
        _ => Support::Unknown(e.to_string()),
    }
}

fn of_errno(errno: i32, text: &str) -> Support {
    match errno {
        libc::EPERM | libc::EACCES => {
            Support::No("not permitted here (needs CAP_BPF and friends)".into())
        }
        libc::ENOSYS => Support::No("kernel built without bpf(2)".into()),
        _ => Support::Unknown(text.to_owned()),
    }
}

fn cached<K: Eq + std::hash::Hash>(
    cache: &Mutex<Option<HashMap<K, Support>>>,
    key: K,
    probe: impl FnOnce() -> Support,
) -> Support {
    let mut guard = cache.lock().expect("no probe panics while it holds the cache");
    if let Some(known) = guard.as_ref().and_then(|map| map.get(&key)) {
        return known.clone();
    }
    drop(guard);
    let answer = probe();
    if !matches!(answer, Support::Unknown(_)) {
        guard = cache.lock().expect("no probe panics while it holds the cache");
        guard.get_or_insert_default().insert(key, answer.clone());
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_testing::require_kernel;

    #[test]
    fn a_hash_map_works_wherever_programs_do() {
        require_kernel!(can_load().into_result());
        assert!(map_type(MapType::HASH).is_yes());
        assert!(map_type(MapType::LPM_TRIE).is_yes());
        assert!(prog_type(ProgType::XDP).is_yes());
    }

    #[test]
    fn no_type_but_extensions_and_struct_ops_is_left_open() {
        require_kernel!(can_load().into_result());
        for &t in ProgType::ALL.iter().filter(|&&t| t != ProgType::UNSPEC) {
            let open = matches!(prog_type(t), Support::Unknown(_));
            let may_be = matches!(t, ProgType::EXT | ProgType::STRUCT_OPS);
            assert!(!open || may_be, "{t}: {:?}", prog_type(t));
        }
    }

    #[test]
    fn helpers_are_known_by_type() {
        require_kernel!(can_load().into_result());
        let (map_lookup, redirect) = (1, 23);
        assert_eq!(helper(ProgType::SOCKET_FILTER, map_lookup), Support::Yes);
        assert!(helper(ProgType::XDP, redirect).is_yes());
        assert!(matches!(helper(ProgType::SOCKET_FILTER, redirect), Support::No(_)));
        assert!(matches!(helper(ProgType::XDP, 100_000), Support::No(_)));
    }

    #[test]
    fn a_type_from_the_future_is_a_no() {
        require_kernel!(can_load().into_result());
        assert!(matches!(map_type(MapType(4000)), Support::No(_)));
        assert!(matches!(prog_type(ProgType(4000)), Support::No(_)));
    }
}
