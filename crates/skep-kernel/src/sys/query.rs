//! Which programs are attached at a hook.

use super::{LinkTarget, SysError, attr, bpf, len32};

/// What `BPF_PROG_QUERY` tells of a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProgQuery {
    /// `BPF_F_ALLOW_*` of a cgroup.
    pub(crate) attach_flags: u32,
    /// Grows with each change, where the kernel counts them; else 0.
    pub(crate) revision: u64,
    /// In the order in which they run.
    pub(crate) prog_ids: Vec<u32>,
    /// Beside each program; empty where the kernel does not tell, 0 for a program without a link.
    pub(crate) link_ids: Vec<u32>,
}

/// More programs than any hook takes: tcx and cgroups end at 64.
const MOST: usize = 256;

/// Asks for the programs at a hook. `links` also asks which links hold them: hooks that do not know
/// that (all before tcx) refuse the question.
pub(crate) fn prog_query(
    target: LinkTarget<'_>,
    attach_type: u32,
    query_flags: u32,
    links: bool,
) -> Result<ProgQuery, SysError> {
    let mut prog_ids = vec![0_u32; MOST];
    let mut link_ids = vec![0_u32; if links { MOST } else { 0 }];
    let mut attr = attr::ProgQuery(attr::ProgQueryAttr {
        target: target.number(),
        attach_type,
        query_flags,
        prog_ids: prog_ids.as_mut_ptr().expose_provenance() as u64,
        count: len32(MOST),
        link_ids: match links {
            true => link_ids.as_mut_ptr().expose_provenance() as u64,
            false => 0,
        },
        ..Default::default()
    });
    // SAFETY: each address is null or that of a vector of `count` ids, exclusively ours past the
    // call; the kernel writes at most that many.
    unsafe { bpf(&mut attr) }?;
    let count = attr.0.count as usize;
    prog_ids.truncate(count);
    link_ids.truncate(count);
    let (attach_flags, revision) = (attr.0.attach_flags, attr.0.revision);
    Ok(ProgQuery { attach_flags, revision, prog_ids, link_ids })
}
