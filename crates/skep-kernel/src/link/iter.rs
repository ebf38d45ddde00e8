//! Iterators: programs that walk over what the kernel has, and are read.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use skep_abi::AttachType;

use super::{AttachError, Held, Link, refused};
use crate::{
    map::Map,
    program::Program,
    sys::{self, LinkExtra, LinkTarget},
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
    /// One thread.
    Thread(u32),
    /// The threads of one process.
    Process(u32),
    /// A cgroup and all below it, parents before children: Linux 6.1.
    Cgroup(BorrowedFd<'a>),
}

impl IterTarget<'_> {
    /// `union bpf_iter_link_info`.
    fn info(self) -> Vec<u8> {
        /// `BPF_CGROUP_ITER_DESCENDANTS_PRE`.
        const PARENTS_FIRST: u32 = 2;
        let fd = |fd: BorrowedFd<'_>| fd.as_raw_fd().cast_unsigned();
        let words: &[u32] = match self {
            Self::All => &[],
            Self::Map(map) => &[fd(map.as_fd())],
            Self::Thread(tid) => &[tid, 0, 0, 0],
            Self::Process(pid) => &[0, pid, 0, 0],
            Self::Cgroup(cgroup) => &[PARENTS_FIRST, fd(cgroup), 0, 0],
        };
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}

/// Makes the link of an iterator: [`Link::read_iter`] then reads what it gives.
///
/// # Errors
///
/// `EINVAL` when it walks over something else than `target`, `EBADF` when it needs a map.
pub fn attach_iter(program: &Program, target: IterTarget<'_>) -> Result<Link, AttachError> {
    let hook = format!("iterator {}", program.attach_to().unwrap_or("it was loaded for"));
    let info = target.info();
    let none = LinkTarget::Ifindex(0);
    let (attach_type, extra) = (AttachType::TRACE_ITER.0, LinkExtra::Iter(&info));
    let link = sys::link_create_with(program.as_fd(), none, attach_type, extra);
    Ok(Link::new(Held::Fd(link.map_err(|source| refused(program, &hook, source))?), hook))
}
