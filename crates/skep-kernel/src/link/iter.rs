//! Iterators: programs that walk over what the kernel has, and are read.

use std::{
    io::{self, Read},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use skep_abi::AttachType;
use skep_btf::{Func, Kind, KindTag};

use super::{AttachError, Held, Link, refused};
use crate::{
    error::TargetError,
    map::Map,
    program::Program,
    sys::{self, LinkExtra, LinkTarget, SysError},
    target,
};

/// Which of the things an iterator walks over.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum IterTarget<'a> {
    /// All of them.
    #[default]
    All,
    /// The entries of a map.
    Map(&'a Map),
    /// One thread: Linux 6.1.
    Thread(u32),
    /// The threads of one process: Linux 6.1.
    Process(u32),
    /// The threads of one process, by a descriptor of it: Linux 6.1.
    Pidfd(BorrowedFd<'a>),
    /// A cgroup and all below it, parents before children: Linux 6.1.
    Cgroup(BorrowedFd<'a>),
    /// Cgroups from this one on: Linux 6.1.
    Cgroups(BorrowedFd<'a>, CgroupOrder),
}

/// Which cgroups an iterator visits, from one on.
#[doc(alias = "bpf_cgroup_iter_order")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CgroupOrder {
    /// Only this one.
    Itself = 1,
    /// It and all below it, parents before children.
    ParentsFirst = 2,
    /// It and all below it, children before parents.
    ChildrenFirst = 3,
    /// It and all above it, up to the root.
    Upwards = 4,
}

impl IterTarget<'_> {
    /// `union bpf_iter_link_info`.
    fn info(self) -> Vec<u8> {
        let fd = |fd: BorrowedFd<'_>| fd.as_raw_fd().cast_unsigned();
        let words: &[u32] = match self {
            Self::All => &[],
            Self::Map(map) => &[fd(map.as_fd())],
            Self::Thread(tid) => &[tid, 0, 0, 0],
            Self::Process(pid) => &[0, pid, 0, 0],
            Self::Pidfd(process) => &[0, 0, fd(process), 0],
            Self::Cgroup(cgroup) => &[CgroupOrder::ParentsFirst as u32, fd(cgroup), 0, 0],
            Self::Cgroups(cgroup, order) => &[order as u32, fd(cgroup), 0, 0],
        };
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}

/// What this kernel has iterators over, as section names spell it: `task`, `bpf_map`, `tcp`.
///
/// # Errors
///
/// When the kernel's BTF cannot be read.
pub fn iter_targets() -> Result<Vec<String>, TargetError> {
    let btf = target::vmlinux_btf()?;
    let kind = |id| btf.get(id).map(|ty| ty.kind);
    // Each target has a function of this name that takes what all iterators are told first, and a
    // structure of what its programs get.
    let has_context =
        |name: &&str| btf.find(KindTag::Struct, &format!("bpf_iter__{name}")).next().is_some();
    let takes_meta = |function: Func| {
        let Some(Kind::FuncProto(proto)) = kind(function.proto) else { return false };
        let first = proto.params.iter().next().and_then(|first| kind(first.ty));
        matches!(first, Some(Kind::Ptr(to)) if btf.name(to) == Some("bpf_iter_meta"))
    };
    let name = |id| match (btf.name(id)?.strip_prefix("bpf_iter_")?, kind(id)?) {
        (name, Kind::Func(function)) if takes_meta(function) => Some(name),
        _ => None,
    };
    let mut targets: Vec<String> =
        btf.ids().filter_map(name).filter(has_context).map(str::to_owned).collect();
    targets.sort_unstable();
    targets.dedup();
    Ok(targets)
}

/// Makes the link of an iterator: [`Link::read_iter`] then reads what it gives.
///
/// # Errors
///
/// `EINVAL` when it walks over something else than `target`, `EBADF` when it needs a map.
pub fn attach_iter(program: &Program, target: IterTarget<'_>) -> Result<Link, AttachError> {
    let hook = format!("iterator {}", program.attach_to().unwrap_or("it was loaded for"));
    // A kernel before 6.1 takes the number of a thread for a map's descriptor, which it does not
    // look at, and walks over all: it is asked about a process first, which it cannot mistake.
    if let IterTarget::Thread(_) = target {
        drop(attach_iter(program, IterTarget::Process(std::process::id()))?);
    }
    let info = target.info();
    let none = LinkTarget::Ifindex(0);
    let (attach_type, extra) = (AttachType::TRACE_ITER.0, LinkExtra::Iter(&info));
    let link = sys::link_create_with(program.as_fd(), none, attach_type, extra);
    Ok(Link::new(Held::Fd(link.map_err(|source| refused(program, &hook, source))?), hook))
}

/// What an iterator gives, from one walk.
#[derive(Debug)]
pub struct IterReader {
    fd: OwnedFd,
    hook: String,
}

/// Reading failed.
#[derive(Debug, thiserror::Error)]
#[error("{hook}")]
struct ReadError {
    hook: String,
    source: SysError,
}

impl IterReader {
    pub(super) fn new(link: BorrowedFd<'_>, hook: &str) -> Result<Self, SysError> {
        Ok(Self { fd: sys::iter_create(link)?, hook: hook.to_owned() })
    }
}

impl Read for IterReader {
    /// After a million objects of which the program has printed nothing the kernel asks to be asked
    /// again (`bpf_seq_read`, kernel/bpf/bpf_iter.c): that is done here, a thousand times at most.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut tries = 0;
        loop {
            match sys::read(self.fd.as_fd(), buffer) {
                Err(e) if e.errno() == libc::EAGAIN && tries < 1000 => tries += 1,
                Err(source) => {
                    let hook = self.hook.clone();
                    // Who reads to the end goes on for ever after an interruption; this was enough.
                    let kind = match source.source.kind() {
                        io::ErrorKind::Interrupted => io::ErrorKind::Other,
                        kind => kind,
                    };
                    return Err(io::Error::new(kind, ReadError { hook, source }));
                }
                Ok(count) => return Ok(count),
            }
        }
    }
}

impl AsFd for IterReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
