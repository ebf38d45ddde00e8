//! Kinds of links.

use std::{io, os::fd::AsFd as _, sync::OnceLock};

use skep_abi::{AttachType, ProgType};

use super::{RETURN_0, Support, of_errno, of_load_error};
use crate::{
    program::{Program, ProgramLoad},
    sys::{self, LinkExtra, LinkTarget},
};

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
