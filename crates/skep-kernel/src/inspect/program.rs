//! Programs by id.

use std::os::fd::AsFd as _;

use skep_abi::ProgType;
use skep_btf::TypeId;
use skep_isa::Slot;

use super::{Kind, open, own_field, some};
use crate::{
    program::Program,
    sys::{self, SysError},
};

/// What the kernel tells of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Id, unique among loaded programs.
    pub id: u32,
    /// Kind.
    pub prog_type: ProgType,
    /// Name, cut to 15 bytes; may be empty.
    pub name: String,
    /// Hash of the instructions.
    pub tag: [u8; 8],
    /// May it use functions that are for GPL programs only?
    pub gpl: bool,
    /// When it was loaded, in nanoseconds since the machine started.
    pub loaded_ns: u64,
    /// Who loaded it.
    pub uid: u32,
    /// The device it was made for.
    pub ifindex: Option<u32>,
    /// Bytes of instructions after the verifier's rewriting.
    pub xlated_bytes: u32,
    /// Bytes of machine code; 0 when interpreted or hidden from this process.
    pub jited_bytes: u32,
    /// Bytes of kernel memory, as `fdinfo` counts them.
    pub memory_bytes: Option<u64>,
    /// Maps it uses.
    pub map_ids: Vec<u32>,
    /// Its type information.
    pub btf_id: Option<u32>,
    /// The BTF object and type of what it attaches to.
    pub attach_btf: Option<(u32, TypeId)>,
    /// Instructions the verifier walked; 0 before Linux 5.16.
    pub verified_insns: u32,
    /// Time spent in it, in nanoseconds, while statistics are on.
    pub run_time_ns: u64,
    /// Number of runs, while statistics are on.
    pub run_count: u64,
    /// Runs left out because the program was running already.
    pub recursion_misses: u64,
}

/// Where a source line starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// First slot.
    pub at: u32,
    /// String offset of the file's name in the program's BTF.
    pub file_off: u32,
    /// String offset of the line's text.
    pub text_off: u32,
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

/// The code of a program as it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Code {
    /// Instructions after the verifier's rewriting; empty when hidden from this process.
    pub xlated: Vec<Slot>,
    /// Machine code; empty when interpreted or hidden.
    pub jited: Vec<u8>,
    /// Address and length of each function of the machine code.
    pub jited_functions: Vec<(u64, u32)>,
    /// First slot and type of each function.
    pub functions: Vec<(u32, TypeId)>,
    /// Source lines.
    pub lines: Vec<LineInfo>,
    /// Address in the machine code of each of `lines`; empty when hidden.
    pub jited_lines: Vec<u64>,
}

/// A program by its id; none when it is gone.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn program(id: u32) -> Result<Option<ProgramInfo>, SysError> {
    let Some(fd) = open(Kind::Program, id)? else { return Ok(None) };
    let raw = sys::prog_raw(fd.as_fd(), false)?;
    Ok(Some(ProgramInfo {
        id: raw.id,
        prog_type: ProgType(raw.prog_type),
        name: raw.name,
        tag: raw.tag,
        gpl: raw.gpl,
        loaded_ns: raw.load_time,
        uid: raw.uid,
        ifindex: some(raw.ifindex),
        xlated_bytes: raw.xlated_bytes,
        jited_bytes: raw.jited_bytes,
        memory_bytes: own_field(fd.as_fd(), "memlock").and_then(|t| t.parse().ok()),
        map_ids: raw.map_ids,
        btf_id: some(raw.btf_id),
        attach_btf: some(raw.attach_btf_id).map(|id| (raw.attach_btf_obj_id, TypeId(id))),
        verified_insns: raw.verified_insns,
        run_time_ns: raw.run_time_ns,
        run_count: raw.run_count,
        recursion_misses: raw.recursion_misses,
    }))
}

/// The code of a program by its id; none when it is gone.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`.
pub fn code(id: u32) -> Result<Option<Code>, SysError> {
    let Some(fd) = open(Kind::Program, id)? else { return Ok(None) };
    let raw = sys::prog_raw(fd.as_fd(), true)?;
    let (slots, _) = raw.xlated.as_chunks::<8>();
    let line = |&[at, file_off, text_off, line_col]: &[u32; 4]| LineInfo {
        at,
        file_off,
        text_off,
        line: line_col >> 10,
        column: line_col & 0x3ff,
    };
    Ok(Some(Code {
        xlated: slots.iter().map(|&bytes| Slot::from_le_bytes(bytes)).collect(),
        jited: raw.jited,
        jited_functions: raw.jited_ksyms.into_iter().zip(raw.jited_func_lens).collect(),
        functions: raw.func_info.iter().map(|&[at, ty]| (at, TypeId(ty))).collect(),
        lines: raw.line_info.iter().map(line).collect(),
        jited_lines: raw.jited_line_info,
    }))
}

/// Opens a program by its id to run and attach it; none when it is gone.
///
/// # Errors
///
/// `EPERM` without `CAP_SYS_ADMIN`.
#[doc(alias = "BPF_PROG_GET_FD_BY_ID")]
pub fn open_program(id: u32) -> Result<Option<Program>, SysError> {
    open(Kind::Program, id)?.map(Program::adopt).transpose()
}
