//! Walking over all objects by id, and asking for their parts of variable length.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::{
    SysError, addr_mut, attr, bpf, bpf_fd, from_obj_name, len32, obj, prog::RawProgInfo, raw,
};

/// What has ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    Program,
    Map,
    Link,
    Btf,
}

/// The most bytes taken of one part. Kernel BTF is about 10 MB, a program far less.
const PART_BYTES: usize = 64 << 20;

/// The id behind `id`; none when that was the last.
pub(crate) fn next_id(kind: ObjectKind, id: u32) -> Result<Option<u32>, SysError> {
    let ask = attr::GetId { id, ..Default::default() };
    macro_rules! walk {
        ($command:ident) => {{
            let mut attr = attr::$command(ask);
            // SAFETY: the command reads and writes no memory besides `attr`.
            (unsafe { bpf(&mut attr) }, attr.0.next_id)
        }};
    }
    let (done, next) = match kind {
        ObjectKind::Program => walk!(ProgNextId),
        ObjectKind::Map => walk!(MapNextId),
        ObjectKind::Link => walk!(LinkNextId),
        ObjectKind::Btf => walk!(BtfNextId),
    };
    match done {
        Ok(_) => Ok(Some(next)),
        Err(e) if e.errno() == libc::ENOENT => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens an object by its id.
pub(crate) fn open_id(kind: ObjectKind, id: u32) -> Result<OwnedFd, SysError> {
    let ask = attr::GetId { id, ..Default::default() };
    macro_rules! open {
        ($command:ident) => {
            // SAFETY: reads no memory besides the attributes; returns a new descriptor.
            unsafe { bpf_fd(&mut attr::$command(ask)) }
        };
    }
    match kind {
        ObjectKind::Program => open!(ProgFdById),
        ObjectKind::Map => open!(MapFdById),
        ObjectKind::Link => open!(LinkFdById),
        ObjectKind::Btf => open!(BtfFdById),
    }
}

/// Takes a link off its hook; the link itself stays while somebody holds it.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> Result<(), SysError> {
    let mut attr = attr::LinkDetach(attr::LinkFd { link_fd: raw(link) });
    // SAFETY: reads no memory besides `attr`.
    unsafe { bpf(&mut attr) }.map(drop)
}

/// All that the kernel tells of a program.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawProgram {
    pub(crate) prog_type: u32,
    pub(crate) id: u32,
    pub(crate) tag: [u8; 8],
    pub(crate) name: String,
    pub(crate) load_time: u64,
    pub(crate) uid: u32,
    pub(crate) ifindex: u32,
    pub(crate) gpl: bool,
    pub(crate) btf_id: u32,
    pub(crate) run_time_ns: u64,
    pub(crate) run_count: u64,
    pub(crate) recursion_misses: u64,
    pub(crate) verified_insns: u32,
    pub(crate) attach_btf_obj_id: u32,
    pub(crate) attach_btf_id: u32,
    pub(crate) xlated_bytes: u32,
    pub(crate) jited_bytes: u32,
    pub(crate) map_ids: Vec<u32>,
    /// Only when code was asked for, and may be seen.
    pub(crate) xlated: Vec<u8>,
    pub(crate) jited: Vec<u8>,
    /// First slot and type of each function.
    pub(crate) func_info: Vec<[u32; 2]>,
    /// First slot, file, text, line and column.
    pub(crate) line_info: Vec<[u32; 4]>,
    pub(crate) jited_ksyms: Vec<u64>,
    pub(crate) jited_func_lens: Vec<u32>,
    /// Address of each of `line_info`.
    pub(crate) jited_line_info: Vec<u64>,
}

/// Asks for a program's information; with `code` also for instructions and debug information.
pub(crate) fn prog_raw(fd: BorrowedFd<'_>, code: bool) -> Result<RawProgram, SysError> {
    let counts: RawProgInfo = obj::info(fd)?;
    let wanted = |count: u32, size: usize, on: bool| {
        let bytes = (count as usize).saturating_mul(size);
        if on { bytes.min(PART_BYTES) / size.max(1) } else { 0 }
    };
    // A record of a size that this code does not know is not asked for.
    let func = code && counts.func_info_rec_size == 8;
    let line = code && counts.line_info_rec_size == 16;
    let jited_line = code && counts.jited_line_info_rec_size == 8;
    let mut map_ids = vec![0u32; wanted(counts.nr_map_ids, 4, true)];
    let mut xlated = vec![0u8; wanted(counts.xlated_prog_len, 1, code)];
    let mut jited = vec![0u8; wanted(counts.jited_prog_len, 1, code)];
    let mut func_info = vec![[0u32; 2]; wanted(counts.nr_func_info, 8, func)];
    let mut line_info = vec![[0u32; 4]; wanted(counts.nr_line_info, 16, line)];
    let mut jited_ksyms = vec![0u64; wanted(counts.nr_jited_ksyms, 8, code)];
    let mut jited_func_lens = vec![0u32; wanted(counts.nr_jited_func_lens, 4, code)];
    let mut jited_line_info = vec![0u64; wanted(counts.nr_jited_line_info, 8, jited_line)];
    let mut ask = RawProgInfo {
        nr_map_ids: len32(map_ids.len()),
        map_ids: part(&mut map_ids),
        xlated_prog_len: len32(xlated.len()),
        xlated_prog_insns: part(&mut xlated),
        jited_prog_len: len32(jited.len()),
        jited_prog_insns: part(&mut jited),
        func_info_rec_size: if func { 8 } else { 0 },
        nr_func_info: len32(func_info.len()),
        func_info: part(&mut func_info),
        line_info_rec_size: if line { 16 } else { 0 },
        nr_line_info: len32(line_info.len()),
        line_info: part(&mut line_info),
        nr_jited_ksyms: len32(jited_ksyms.len()),
        jited_ksyms: part(&mut jited_ksyms),
        nr_jited_func_lens: len32(jited_func_lens.len()),
        jited_func_lens: part(&mut jited_func_lens),
        jited_line_info_rec_size: if jited_line { 8 } else { 0 },
        nr_jited_line_info: len32(jited_line_info.len()),
        jited_line_info: part(&mut jited_line_info),
        ..Default::default()
    };
    // SAFETY: each address belongs to a vector above that lives past the call, and the count beside
    // it is the number of the vector's elements, whose size is the kernel's for that part: bytes,
    // 32-bit ids and lengths, 64-bit addresses, records of the size that the kernel itself named.
    unsafe { obj::info_into(fd, &mut ask) }?;
    // The kernel clears the address of what this process may not see, and counts what there is.
    map_ids.truncate(ask.nr_map_ids as usize);
    let shown = |address: u64, count: u32| if address == 0 { 0 } else { count as usize };
    xlated.truncate(shown(ask.xlated_prog_insns, ask.xlated_prog_len));
    jited.truncate(shown(ask.jited_prog_insns, ask.jited_prog_len));
    func_info.truncate(ask.nr_func_info as usize);
    line_info.truncate(ask.nr_line_info as usize);
    jited_ksyms.truncate(shown(ask.jited_ksyms, ask.nr_jited_ksyms));
    jited_func_lens.truncate(shown(ask.jited_func_lens, ask.nr_jited_func_lens));
    jited_line_info.truncate(shown(ask.jited_line_info, ask.nr_jited_line_info));
    Ok(RawProgram {
        prog_type: ask.prog_type,
        id: ask.id,
        tag: ask.tag,
        name: from_obj_name(&ask.name),
        load_time: ask.load_time,
        uid: ask.created_by_uid,
        ifindex: ask.ifindex,
        gpl: ask.gpl_compatible & 1 != 0,
        btf_id: ask.btf_id,
        run_time_ns: ask.run_time_ns,
        run_count: ask.run_cnt,
        recursion_misses: ask.recursion_misses,
        verified_insns: ask.verified_insns,
        attach_btf_obj_id: ask.attach_btf_obj_id,
        attach_btf_id: ask.attach_btf_id,
        xlated_bytes: counts.xlated_prog_len,
        jited_bytes: counts.jited_prog_len,
        map_ids,
        xlated,
        jited,
        func_info,
        line_info,
        jited_ksyms,
        jited_func_lens,
        jited_line_info,
    })
}

/// The address of a part's room; 0 for none.
fn part<T>(room: &mut [T]) -> u64 {
    if room.is_empty() { 0 } else { room.as_mut_ptr().expose_provenance() as u64 }
}

/// `struct bpf_link_info`: a head, and words whose meaning depends on the type.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RawLinkInfo {
    link_type: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    words: [u32; 12],
}

const _: () = assert!(size_of::<RawLinkInfo>() == 64);

// SAFETY: `repr(C)`, 32-bit integers only, 64 bytes, a prefix of the kernel's structure (or longer
// than an old kernel's, and then zero behind it); addresses are null by `Default`.
unsafe impl obj::Info for RawLinkInfo {}

/// All that the kernel tells of a link.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawLink {
    pub(crate) link_type: u32,
    pub(crate) id: u32,
    pub(crate) prog_id: u32,
    /// The part that depends on the type, from byte 16 of the kernel's structure.
    pub(crate) words: [u32; 12],
    /// The one text that some types have: tracepoint, target, function, file.
    pub(crate) text: String,
    /// The lists that links of several functions have, in the order of the kernel's structure;
    /// empty where they cannot be seen.
    pub(crate) lists: Vec<Vec<u64>>,
}

const RAW_TRACEPOINT: u32 = 1;
const ITER: u32 = 4;
const PERF_EVENT: u32 = 7;
const KPROBE_MULTI: u32 = 8;
const UPROBE_MULTI: u32 = 12;

/// `enum bpf_perf_event_type`: the kinds up to this one (probes, tracepoints) have a text.
const PERF_EVENT_TRACEPOINT: u32 = 5;

/// Room for a link's text.
const TEXT_BYTES: usize = 4096;

/// The most functions of a link that are asked for.
const MOST_FUNCTIONS: usize = 1 << 20;

/// The parts of variable length that links of a type have, by the words that take them.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    /// Address (two words) and length of the text.
    text: Option<(usize, usize)>,
    /// Addresses of lists of 64-bit numbers.
    lists: &'static [usize],
    /// Their length.
    count: usize,
}

impl Parts {
    fn of(info: &RawLinkInfo) -> Self {
        let [kind, ..] = info.words;
        match info.link_type {
            RAW_TRACEPOINT | ITER => Self { text: Some((0, 2)), ..Self::default() },
            PERF_EVENT if (1..=PERF_EVENT_TRACEPOINT).contains(&kind) => {
                Self { text: Some((2, 4)), ..Self::default() }
            }
            KPROBE_MULTI => Self { text: None, lists: &[0, 6], count: 2 },
            UPROBE_MULTI => Self { text: Some((0, 8)), lists: &[2, 4, 6], count: 9 },
            _ => Self::default(),
        }
    }
}

impl RawLinkInfo {
    fn set(&mut self, at: usize, value: u32) {
        if let Some(word) = self.words.get_mut(at) {
            *word = value;
        }
    }

    fn set_address(&mut self, at: usize, address: u64) {
        for (n, bytes) in address.to_ne_bytes().as_chunks::<4>().0.iter().enumerate() {
            self.set(at + n, u32::from_ne_bytes(*bytes));
        }
    }
}

/// Asks for a link's information.
pub(crate) fn link_raw(fd: BorrowedFd<'_>) -> Result<RawLink, SysError> {
    let first: RawLinkInfo = obj::info(fd)?;
    let parts = Parts::of(&first);
    let count = first.words.get(parts.count).map_or(0, |&n| n as usize).min(MOST_FUNCTIONS);
    let mut lists = vec![vec![0u64; count]; if count == 0 { 0 } else { parts.lists.len() }];
    let mut room = vec![0u8; if parts.text.is_some() { TEXT_BYTES } else { 0 }];
    let mut out = first;
    if parts.text.is_some() || !lists.is_empty() {
        let mut ask = RawLinkInfo::default();
        if let Some((at, len)) = parts.text {
            ask.set_address(at, addr_mut(&mut room));
            ask.set(len, len32(room.len()));
        }
        for (&at, list) in parts.lists.iter().zip(&mut lists) {
            ask.set_address(at, part(list));
            ask.set(parts.count, len32(count));
        }
        // SAFETY: each address is that of `room` or of a list, which live past the call, at a place
        // where links of this type take one (`Parts`); the lengths beside them are theirs. A link
        // never changes its type, nor a perf event its kind.
        match unsafe { obj::info_into(fd, &mut ask) } {
            Ok(()) => out = ask,
            // What may not be seen, or what an older kernel does not tell, leaves the rest as it
            // is.
            Err(e) if matches!(e.errno(), libc::EPERM | libc::E2BIG) => lists.clear(),
            Err(e) => return Err(e),
        }
    }
    Ok(RawLink {
        link_type: out.link_type,
        id: out.id,
        prog_id: out.prog_id,
        words: out.words,
        text: from_obj_name(&room),
        lists,
    })
}

/// `struct bpf_btf_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct RawBtfInfo {
    btf: u64,
    btf_size: u32,
    id: u32,
    name: u64,
    name_len: u32,
    kernel_btf: u32,
}

const _: () = assert!(size_of::<RawBtfInfo>() == 32);

// SAFETY: `repr(C)`, integers only, 32 bytes as the kernel's structure, in its order; addresses are
// null by `Default`.
unsafe impl obj::Info for RawBtfInfo {}

/// All that the kernel tells of a BTF object.
#[derive(Clone, Debug, Default)]
pub(crate) struct BtfBytes {
    pub(crate) id: u32,
    pub(crate) size: u32,
    pub(crate) name: String,
    pub(crate) kernel: bool,
    /// Only when asked for.
    pub(crate) bytes: Vec<u8>,
}

/// Asks for a BTF object's information; with `types` also for its bytes.
pub(crate) fn btf_bytes(fd: BorrowedFd<'_>, types: bool) -> Result<BtfBytes, SysError> {
    let sizes: RawBtfInfo = obj::info(fd)?;
    let size = if types { (sizes.btf_size as usize).min(PART_BYTES) } else { 0 };
    let mut bytes = vec![0u8; size];
    let mut name = vec![0u8; 256];
    let unnamed =
        RawBtfInfo { btf_size: len32(bytes.len()), btf: part(&mut bytes), ..Default::default() };
    let mut ask = RawBtfInfo { name_len: len32(name.len()), name: part(&mut name), ..unnamed };
    // SAFETY: both addresses belong to vectors above that live past the call, with the lengths
    // beside them in bytes.
    match unsafe { obj::info_into(fd, &mut ask) } {
        // Before Linux 5.11 they have no names.
        Err(e) if e.errno() == libc::E2BIG => {
            ask = unnamed;
            // SAFETY: as above, of one vector.
            unsafe { obj::info_into(fd, &mut ask) }?;
        }
        done => done?,
    }
    bytes.truncate(ask.btf_size as usize);
    Ok(BtfBytes {
        id: ask.id,
        size: sizes.btf_size,
        name: from_obj_name(&name),
        kernel: ask.kernel_btf != 0,
        bytes,
    })
}
