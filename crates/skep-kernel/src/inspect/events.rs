//! Programs that hang on descriptors of processes without being held by one of their own: perf
//! events and raw tracepoints.

use std::{fs, path::Path};

use crate::sys::{self, SysError};

/// A program on a descriptor of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventProgram {
    /// The process.
    pub pid: u32,
    /// The descriptor there.
    pub fd: u32,
    /// The program.
    pub prog_id: u32,
    /// `raw_tracepoint`, `tracepoint`, `kprobe`, `kretprobe`, `uprobe` or `uretprobe`.
    pub kind: &'static str,
    /// Tracepoint, function or file; empty for a probe on a bare address.
    pub name: String,
    /// Bytes behind the function or the file's beginning.
    pub offset: u64,
    /// Address of a probe that has no name.
    pub address: u64,
}

/// `enum bpf_task_fd_type`.
const KINDS: &[&str] =
    &["raw_tracepoint", "tracepoint", "kprobe", "kretprobe", "uprobe", "uretprobe"];

/// What `/proc/PID/fd` calls descriptors that can carry a program.
const CARRIERS: &[&str] = &["anon_inode:[perf_event]", "anon_inode:bpf-raw-tracepoint"];

/// Programs on the perf events and raw tracepoints of all processes that this one may look into.
/// Those on events of other kinds (software, hardware) the kernel does not tell.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`.
#[doc(alias = "BPF_TASK_FD_QUERY")]
pub fn event_programs() -> Result<Vec<EventProgram>, SysError> {
    // A descriptor that nobody has: only rights are asked for.
    match sys::task_fd_query(std::process::id(), u32::MAX) {
        Err(e) if matches!(e.errno(), libc::EPERM | libc::EACCES) => return Err(e),
        _ => {}
    }
    let mut found = Vec::new();
    for (pid, process) in super::owners::processes().into_iter().flatten() {
        for fd in carriers(&process) {
            // Gone meanwhile, without a program, or of a kind that has no answer.
            let Ok(raw) = sys::task_fd_query(pid, fd) else { continue };
            found.push(of_raw(pid, fd, raw));
        }
    }
    Ok(found)
}

fn carriers(process: &Path) -> Vec<u32> {
    let Ok(fds) = fs::read_dir(process.join("fd")) else { return Vec::new() };
    let carrier = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        let carries = CARRIERS.contains(&link.to_str()?);
        entry.file_name().to_str()?.parse().ok().filter(|_| carries)
    };
    fds.flatten().filter_map(carrier).collect()
}

fn of_raw(pid: u32, fd: u32, raw: sys::TaskFd) -> EventProgram {
    let kind = KINDS.get(raw.kind as usize).copied().unwrap_or("unknown");
    let sys::TaskFd { prog_id, name, offset, address, .. } = raw;
    EventProgram { pid, fd, prog_id, kind, name, offset, address }
}
