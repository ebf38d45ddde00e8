//! Watching programs at work: run statistics, streams, what hangs on a process's descriptors.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::{SysError, addr_mut, attr, bpf, bpf_fd, from_obj_name, len32, raw};

/// `BPF_STATS_RUN_TIME`: time and number of runs.
const RUN_TIME: u32 = 0;

/// Turns run statistics on for as long as the descriptor is open.
pub(crate) fn enable_stats() -> Result<OwnedFd, SysError> {
    let mut attr = attr::EnableStats(attr::EnableStatsAttr { kind: RUN_TIME });
    // SAFETY: reads no memory besides `attr`; returns a new descriptor.
    unsafe { bpf_fd(&mut attr) }
}

/// Takes bytes out of a stream of a program; 0 when it is empty.
pub(crate) fn stream_read(
    prog: BorrowedFd<'_>,
    stream: u32,
    buffer: &mut [u8],
) -> Result<usize, SysError> {
    let mut attr = attr::StreamRead(attr::StreamReadAttr {
        stream_buf: addr_mut(buffer),
        stream_buf_len: len32(buffer.len()),
        stream_id: stream,
        prog_fd: raw(prog),
        pad: 0,
    });
    // SAFETY: the kernel writes at most `stream_buf_len` bytes, the length of `buffer`, which is
    // exclusively borrowed past the call.
    let read = unsafe { bpf(&mut attr) }?;
    Ok(usize::try_from(read).unwrap_or(0).min(buffer.len()))
}

/// What hangs on a descriptor of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskFd {
    pub(crate) prog_id: u32,
    /// `enum bpf_task_fd_type`.
    pub(crate) kind: u32,
    /// Tracepoint, function or file.
    pub(crate) name: String,
    pub(crate) offset: u64,
    pub(crate) address: u64,
}

/// Longest name of a function or file that is asked for.
const NAME_BYTES: usize = 4096;

/// Asks which program hangs on a perf event or raw tracepoint of a process.
pub(crate) fn task_fd_query(pid: u32, fd: u32) -> Result<TaskFd, SysError> {
    let mut name = vec![0u8; NAME_BYTES];
    let mut attr = attr::TaskFdQuery(attr::TaskFdQueryAttr {
        pid,
        fd,
        buf_len: len32(name.len()),
        buf: addr_mut(&mut name),
        ..Default::default()
    });
    // SAFETY: the kernel writes at most `buf_len` bytes, the length of `name`, which lives past the
    // call.
    unsafe { bpf(&mut attr) }?;
    let done = attr.0;
    Ok(TaskFd {
        prog_id: done.prog_id,
        kind: done.fd_type,
        name: from_obj_name(&name),
        offset: done.probe_offset,
        address: done.probe_addr,
    })
}
