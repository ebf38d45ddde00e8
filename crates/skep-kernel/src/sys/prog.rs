//! Program commands: load, run once, information.

use std::{
    ffi::CStr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use super::btf::token;
use super::{
    SysError, addr, addr_mut, attr, bpf, bpf_fd, from_obj_name, len32, obj, obj_name, raw,
};

/// What `BPF_PROG_LOAD` takes. Byte slices are arrays of the kernel's records.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProgLoad<'a> {
    pub(crate) name: &'a str,
    pub(crate) prog_type: u32,
    pub(crate) expected_attach_type: u32,
    /// Slots, 8 bytes each.
    pub(crate) insns: &'a [u8],
    pub(crate) license: &'a CStr,
    pub(crate) kern_version: u32,
    pub(crate) flags: u32,
    pub(crate) ifindex: u32,
    pub(crate) btf: Option<BorrowedFd<'a>>,
    /// `struct bpf_func_info`, 8 bytes each.
    pub(crate) func_info: &'a [u8],
    /// `struct bpf_line_info`, 16 bytes each.
    pub(crate) line_info: &'a [u8],
    pub(crate) attach_btf_id: u32,
    /// Program, or module BTF, that `attach_btf_id` belongs to; none for the kernel's.
    pub(crate) attach_fd: Option<BorrowedFd<'a>>,
    /// Descriptors, 4 bytes each, that instructions name by index.
    pub(crate) fd_array: &'a [u8],
    pub(crate) token: Option<BorrowedFd<'a>>,
}

const SLOT: usize = 8;
const FUNC_INFO: usize = 8;
const LINE_INFO: usize = 16;

/// Loads a program. With a log level the verifier writes into `log`, whose first NUL ends the
/// text. The second value is the size the whole log would have, where the kernel tells it.
pub(crate) fn prog_load(
    new: &ProgLoad<'_>,
    log_level: u32,
    log: &mut [u8],
) -> (Result<OwnedFd, SysError>, Option<usize>) {
    let btf = new.btf.is_some();
    let (prog_token_fd, by_token) = token(new.token);
    let mut attr = attr::ProgLoad(attr::ProgLoadAttr {
        prog_type: new.prog_type,
        insn_cnt: len32(new.insns.len() / SLOT),
        insns: addr(new.insns),
        license: new.license.as_ptr().addr() as u64,
        log_level,
        log_size: len32(log.len()),
        log_buf: addr_mut(log),
        kern_version: new.kern_version,
        prog_flags: new.flags | by_token,
        prog_name: obj_name(new.name),
        prog_ifindex: new.ifindex,
        expected_attach_type: new.expected_attach_type,
        prog_btf_fd: new.btf.map_or(0, raw),
        func_info_rec_size: if btf { len32(FUNC_INFO) } else { 0 },
        func_info: if btf { addr(new.func_info) } else { 0 },
        func_info_cnt: if btf { len32(new.func_info.len() / FUNC_INFO) } else { 0 },
        line_info_rec_size: if btf { len32(LINE_INFO) } else { 0 },
        line_info: if btf { addr(new.line_info) } else { 0 },
        line_info_cnt: if btf { len32(new.line_info.len() / LINE_INFO) } else { 0 },
        attach_btf_id: new.attach_btf_id,
        attach_fd: new.attach_fd.map_or(0, raw),
        fd_array: addr(new.fd_array),
        prog_token_fd,
        ..Default::default()
    });
    // SAFETY: counts are the lengths of the borrowed slices divided by the size of a record, the
    // license is NUL-terminated, and the kernel writes at most `log_size` bytes to `log`. An
    // index beyond `fd_array` makes the kernel read past it: `Program` builds both together.
    let result = unsafe { bpf_fd(&mut attr) };
    let whole = usize::try_from(attr.0.log_true_size).ok().filter(|&n| n != 0);
    (result, whole)
}

/// Options of one test run.
#[derive(Clone, Debug, Default)]
pub struct TestRunOptions<'a> {
    /// Packet, for programs that see packets.
    pub data: &'a [u8],
    /// Context (`struct __sk_buff`, `struct xdp_md`), or arguments of a raw tracepoint.
    pub ctx: &'a [u8],
    /// Room for the packet afterwards; 0 asks for none.
    pub data_out_capacity: usize,
    /// Room for the context afterwards; 0 asks for none.
    pub ctx_out_capacity: usize,
    /// How many times to run; the kernel runs once for 0 and 1.
    pub repeat: u32,
    /// `BPF_F_TEST_RUN_ON_CPU`, `BPF_F_TEST_XDP_LIVE_FRAMES`.
    pub flags: u32,
    /// The CPU, with `BPF_F_TEST_RUN_ON_CPU`.
    pub cpu: u32,
    /// Frames per batch, with `BPF_F_TEST_XDP_LIVE_FRAMES`.
    pub batch_size: u32,
}

/// What one test run gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestRun {
    /// The program's return value.
    pub retval: u32,
    /// The packet afterwards.
    pub data_out: Vec<u8>,
    /// The context afterwards; of a syscall program the context given, as the program left it.
    pub ctx_out: Vec<u8>,
    /// Mean duration of one run in nanoseconds, where the kernel measures it.
    pub duration_ns: u32,
}

/// Runs a program once, or `repeat` times.
pub(crate) fn test_run(
    fd: BorrowedFd<'_>,
    options: &TestRunOptions<'_>,
) -> Result<TestRun, SysError> {
    let mut data_out = vec![0; options.data_out_capacity];
    let mut ctx_out = vec![0; options.ctx_out_capacity];
    // Syscall programs write their context back to where it came from.
    let mut ctx_in = options.ctx.to_vec();
    let mut attr = attr::ProgTestRun(attr::TestRunAttr {
        prog_fd: raw(fd),
        data_size_in: len32(options.data.len()),
        data_size_out: len32(data_out.len()),
        data_in: addr(options.data),
        data_out: addr_mut(&mut data_out),
        repeat: options.repeat,
        ctx_size_in: len32(ctx_in.len()),
        ctx_size_out: len32(ctx_out.len()),
        ctx_in: addr_mut(&mut ctx_in),
        ctx_out: addr_mut(&mut ctx_out),
        flags: options.flags,
        cpu: options.cpu,
        batch_size: options.batch_size,
        ..Default::default()
    });
    // SAFETY: each address is null or a live buffer of the size beside it (an output buffer of
    // size 0 has a null address, so the kernel's rule that 0 means "as long as it takes" does not
    // apply), and those that are written are exclusively ours.
    unsafe { bpf(&mut attr) }?;
    let done = attr.0;
    data_out.truncate(done.data_size_out as usize);
    if options.ctx_out_capacity == 0 {
        ctx_out = ctx_in;
    } else {
        ctx_out.truncate(done.ctx_size_out as usize);
    }
    Ok(TestRun { retval: done.retval, data_out, ctx_out, duration_ns: done.duration })
}

/// What the kernel knows of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgInfo {
    /// Raw program type.
    pub prog_type: u32,
    /// Id, unique among loaded programs.
    pub id: u32,
    /// Hash of the instructions.
    pub tag: [u8; 8],
    /// Name, cut to 15 bytes.
    pub name: String,
    /// Bytes of machine code; 0 when interpreted or hidden from this process.
    pub jited_bytes: u32,
    /// Bytes of instructions after the verifier's rewriting.
    pub xlated_bytes: u32,
    /// Instructions the verifier walked; 0 before Linux 5.16.
    pub verified_insns: u32,
    /// Time spent in the program in nanoseconds, while statistics are on.
    pub run_time_ns: u64,
    /// Number of runs, while statistics are on.
    pub run_count: u64,
}

/// `struct bpf_prog_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawProgInfo {
    pub(super) prog_type: u32,
    pub(super) id: u32,
    pub(super) tag: [u8; 8],
    pub(super) jited_prog_len: u32,
    pub(super) xlated_prog_len: u32,
    pub(super) jited_prog_insns: u64,
    pub(super) xlated_prog_insns: u64,
    pub(super) load_time: u64,
    pub(super) created_by_uid: u32,
    pub(super) nr_map_ids: u32,
    pub(super) map_ids: u64,
    pub(super) name: [u8; 16],
    pub(super) ifindex: u32,
    pub(super) gpl_compatible: u32,
    pub(super) netns_dev: u64,
    pub(super) netns_ino: u64,
    pub(super) nr_jited_ksyms: u32,
    pub(super) nr_jited_func_lens: u32,
    pub(super) jited_ksyms: u64,
    pub(super) jited_func_lens: u64,
    pub(super) btf_id: u32,
    pub(super) func_info_rec_size: u32,
    pub(super) func_info: u64,
    pub(super) nr_func_info: u32,
    pub(super) nr_line_info: u32,
    pub(super) line_info: u64,
    pub(super) jited_line_info: u64,
    pub(super) nr_jited_line_info: u32,
    pub(super) line_info_rec_size: u32,
    pub(super) jited_line_info_rec_size: u32,
    pub(super) nr_prog_tags: u32,
    pub(super) prog_tags: u64,
    pub(super) run_time_ns: u64,
    pub(super) run_cnt: u64,
    pub(super) recursion_misses: u64,
    pub(super) verified_insns: u32,
    pub(super) attach_btf_obj_id: u32,
    pub(super) attach_btf_id: u32,
    pub(super) pad: u32,
}

const _: () = assert!(size_of::<RawProgInfo>() == 232);

// SAFETY: `repr(C)`, integers and byte arrays only, 232 bytes as the kernel's structure, in its
// order; addresses are null and counts 0 by `Default`, so the kernel copies nothing indirect.
unsafe impl obj::Info for RawProgInfo {}

/// Opens a pinned program.
pub(crate) fn prog_get(path: &Path) -> Result<OwnedFd, SysError> {
    let fd = obj::obj_get(path)?;
    obj::expect_kind(fd.as_fd(), "bpf-prog")?;
    Ok(fd)
}

/// Asks the kernel about a program.
pub(crate) fn prog_info(fd: BorrowedFd<'_>) -> Result<ProgInfo, SysError> {
    let raw: RawProgInfo = obj::info(fd)?;
    Ok(ProgInfo {
        prog_type: raw.prog_type,
        id: raw.id,
        tag: raw.tag,
        name: from_obj_name(&raw.name),
        jited_bytes: raw.jited_prog_len,
        xlated_bytes: raw.xlated_prog_len,
        verified_insns: raw.verified_insns,
        run_time_ns: raw.run_time_ns,
        run_count: raw.run_cnt,
    })
}
