//! A live kernel program.

mod functions;

use std::{
    ffi::CString,
    fmt,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
};

use skep_abi::{AttachType, ProgType};
use skep_isa::Slot;
use skep_object::spec::{FuncInfo, LineInfo, ProgramSpec};

use crate::{
    error::{LoadError, VerifierLog, until_nul},
    link::usdt::Specs,
    sys::{self, ProgInfo, SysError, TestRun, TestRunOptions},
    token::Token,
};

pub use functions::{FunctionError, ProgramTarget};

/// A loaded program. Dropping it closes the descriptor; the program lives on while a link, a map
/// or a pin holds it.
pub struct Program {
    fd: OwnedFd,
    name: String,
    prog_type: ProgType,
    attach_type: Option<AttachType>,
    section: Option<String>,
    attach_to: Option<String>,
    usdt: Option<Arc<Specs>>,
    log: VerifierLog,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Program");
        out.field("name", &self.name).field("prog_type", &self.prog_type).finish_non_exhaustive()
    }
}

/// Everything [`Program::load`] takes. Start from [`ProgramLoad::new`] and set what is needed.
#[derive(Clone, Debug)]
pub struct ProgramLoad<'a> {
    /// Name; the kernel keeps 15 bytes of it.
    pub name: &'a str,
    /// Kind.
    pub prog_type: ProgType,
    /// Expected attach type, where the kind has one.
    pub attach_type: Option<AttachType>,
    /// Instructions, with descriptors already in them.
    pub insns: &'a [Slot],
    /// License; decides which helpers may be called.
    pub license: &'a str,
    /// `LINUX_VERSION_CODE`, which kernels before 5.0 compare for kprobes.
    pub kernel_version: u32,
    /// `BPF_F_*` load flags.
    pub flags: u32,
    /// Device to load for (offload, device-bound XDP); 0 for none.
    pub ifindex: u32,
    /// The object's BTF; needed for `func_info` and `line_info`.
    pub btf: Option<BorrowedFd<'a>>,
    /// BTF function info, ascending.
    pub func_info: &'a [FuncInfo],
    /// BTF line info, ascending.
    pub line_info: &'a [LineInfo],
    /// BTF id of what the program attaches to, for types that need it at load; 0 for none.
    pub attach_btf_id: u32,
    /// Program, or module BTF, that `attach_btf_id` belongs to; `None` for the kernel's BTF.
    pub attach_fd: Option<BorrowedFd<'a>>,
    /// Descriptors that instructions name by index.
    pub fd_array: &'a [BorrowedFd<'a>],
    /// The rights it is loaded by; `None` for those of the process.
    pub token: Option<&'a Token>,
    /// Verifier log to keep of a *successful* load: 0 none, 1 brief, 2 all states, 4 statistics.
    pub log_level: u32,
}

impl<'a> ProgramLoad<'a> {
    /// A GPL program without BTF.
    pub fn new(name: &'a str, prog_type: ProgType, insns: &'a [Slot]) -> Self {
        Self {
            name,
            prog_type,
            attach_type: None,
            insns,
            license: "GPL",
            kernel_version: 0,
            flags: 0,
            ifindex: 0,
            btf: None,
            func_info: &[],
            line_info: &[],
            attach_btf_id: 0,
            attach_fd: None,
            fd_array: &[],
            token: None,
            log_level: 0,
        }
    }
}

/// Sizes of the log buffer, tried in turn. The third is the largest that kernels before 5.16
/// take, the last what a million instructions at level 1 needs.
const LOG_BYTES: &[usize] = &[1 << 16, 1 << 20, (1 << 24) - 1, 1 << 27];

impl Program {
    /// Loads a program. When the kernel rejects it, it is verified again for the log.
    ///
    /// # Errors
    ///
    /// [`LoadError::Rejected`] with the verifier's log, [`LoadError::Refused`] when the kernel
    /// gave none.
    #[doc(alias = "BPF_PROG_LOAD")]
    pub fn load(new: &ProgramLoad<'_>) -> Result<Self, LoadError> {
        let license = CString::new(new.license).map_err(|_| LoadError::Program {
            program: new.name.to_owned(),
            reason: "the license contains a NUL".into(),
        })?;
        let insns: Vec<u8> = new.insns.iter().flat_map(|slot| slot.to_le_bytes()).collect();
        let func_info: Vec<u8> = new.func_info.iter().flat_map(func_info_bytes).collect();
        let line_info: Vec<u8> = new.line_info.iter().flat_map(line_info_bytes).collect();
        let fd_array: Vec<u8> =
            new.fd_array.iter().flat_map(|fd| fd.as_raw_fd().to_ne_bytes()).collect();
        let load = sys::ProgLoad {
            name: new.name,
            prog_type: new.prog_type.0,
            expected_attach_type: new.attach_type.map_or(0, |t| t.0),
            insns: &insns,
            license: &license,
            kern_version: new.kernel_version,
            flags: new.flags,
            ifindex: new.ifindex,
            btf: new.btf,
            func_info: &func_info,
            line_info: &line_info,
            attach_btf_id: new.attach_btf_id,
            attach_fd: new.attach_fd,
            fd_array: &fd_array,
            token: new.token.map(AsFd::as_fd),
        };
        let (mut result, mut log) = match new.log_level {
            0 => (sys::prog_load(&load, 0, &mut []).0, VerifierLog::default()),
            level => load_with_log(&load, level, LOG_BYTES),
        };
        if result.is_err() && new.log_level == 0 {
            let (again, why) = load_with_log(&load, 1, LOG_BYTES);
            log = why;
            // Should it load now, it loads; else what the kernel said first counts.
            result = again.or(result);
        }
        let fd = match result {
            Ok(fd) => fd,
            Err(source) => return Err(rejection(new, source, log)),
        };
        Ok(Self {
            fd,
            name: new.name.to_owned(),
            prog_type: new.prog_type,
            attach_type: new.attach_type,
            section: None,
            attach_to: None,
            usdt: None,
            log,
        })
    }

    /// Opens a pinned program.
    ///
    /// # Errors
    ///
    /// `ENOENT` when nothing is pinned there.
    #[doc(alias = "BPF_OBJ_GET")]
    pub fn open_pinned(path: &Path) -> Result<Self, SysError> {
        Self::adopt(sys::prog_get(path)?)
    }

    /// Takes over a descriptor of a program.
    pub(crate) fn adopt(fd: OwnedFd) -> Result<Self, SysError> {
        let info = sys::prog_info(fd.as_fd())?;
        Ok(Self {
            fd,
            name: info.name,
            prog_type: ProgType(info.prog_type),
            attach_type: None,
            section: None,
            attach_to: None,
            usdt: None,
            log: VerifierLog::default(),
        })
    }

    /// Pins the program at a path of a bpf file system.
    ///
    /// # Errors
    ///
    /// `EEXIST`, `EPERM` (not bpffs), `ENOENT` (no such directory).
    #[doc(alias = "BPF_OBJ_PIN")]
    pub fn pin(&self, path: &Path) -> Result<(), SysError> {
        sys::obj_pin(self.as_fd(), path)
    }

    /// The program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Kind.
    pub fn prog_type(&self) -> ProgType {
        self.prog_type
    }

    /// Expected attach type it was loaded with.
    pub fn attach_type(&self) -> Option<AttachType> {
        self.attach_type
    }

    /// Remembers where an object says the program belongs, and what tells its programs about
    /// static probes. An attach type that the object does not say stays as it was loaded with.
    pub(crate) fn belonging(mut self, spec: &ProgramSpec, usdt: Option<Arc<Specs>>) -> Self {
        self.section = Some(spec.section.clone());
        self.attach_to.clone_from(&spec.attach_to);
        self.attach_type = spec.attach_type.or(self.attach_type);
        self.usdt = usdt;
        self
    }

    /// What tells the program about static probes.
    pub(crate) fn usdt(&self) -> Option<Arc<Specs>> {
        self.usdt.clone()
    }

    /// The ELF section it came from, as written.
    pub fn section(&self) -> Option<&str> {
        self.section.as_deref()
    }

    /// What the section name says it attaches to: function, tracepoint, path…
    pub fn attach_to(&self) -> Option<&str> {
        self.attach_to.as_deref()
    }

    /// The verifier's log, when a log level was asked for.
    pub fn log(&self) -> &VerifierLog {
        &self.log
    }

    /// What the kernel knows of it.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn info(&self) -> Result<ProgInfo, SysError> {
        sys::prog_info(self.as_fd())
    }

    /// Runs it once, or `repeat` times, on data of the caller's.
    ///
    /// # Errors
    ///
    /// `ENOTSUPP` when the kernel cannot do that for this type; `EINVAL` when the input does not
    /// fit the type; `ENOSPC` when the output does not fit the room given.
    #[doc(alias = "BPF_PROG_TEST_RUN")]
    pub fn test_run(&self, options: &TestRunOptions<'_>) -> Result<TestRun, SysError> {
        sys::test_run(self.as_fd(), options)
    }
}

impl AsFd for Program {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn func_info_bytes(info: &FuncInfo) -> Vec<u8> {
    [info.at.0, info.type_id.0].iter().flat_map(|n| n.to_ne_bytes()).collect()
}

fn line_info_bytes(info: &LineInfo) -> Vec<u8> {
    let words = [info.at.0, info.file_off, info.line_off, info.line_col];
    words.iter().flat_map(|n| n.to_ne_bytes()).collect()
}

/// Loads with a buffer that grows until the log fits.
fn load_with_log(
    load: &sys::ProgLoad<'_>,
    level: u32,
    sizes: &[usize],
) -> (Result<OwnedFd, SysError>, VerifierLog) {
    let mut best = VerifierLog::default();
    for &size in sizes {
        let mut buffer = vec![0; size];
        let (result, whole) = sys::prog_load(load, level, &mut buffer);
        let truncated = matches!(&result, Err(e) if e.errno() == libc::ENOSPC)
            || whole.is_some_and(|bytes| bytes > size);
        // An old kernel says EINVAL to a buffer beyond its limit, and writes nothing.
        let text = until_nul(&buffer);
        if text.is_empty() && best.truncated {
            break;
        }
        best = VerifierLog { text, truncated };
        if !truncated {
            return (result, best);
        }
    }
    // A log that does not fit is an error of its own, also for a good program: load without.
    (sys::prog_load(load, 0, &mut []).0, best)
}

/// Sorts a failed load into "the program is wrong" and "this kernel does not take it".
fn rejection(new: &ProgramLoad<'_>, source: SysError, log: VerifierLog) -> LoadError {
    let program = new.name.to_owned();
    match log.summary() {
        Some(summary) => LoadError::Rejected { program, errno: source.errno(), summary, log },
        None => LoadError::Refused { hint: refusal_hint(new, source.errno()), program, source },
    }
}

/// Program types that hang on a trampoline: tracing (except BTF tracepoints and iterators), LSM,
/// extensions.
fn needs_trampoline(new: &ProgramLoad<'_>) -> bool {
    match new.prog_type {
        ProgType::TRACING => !matches!(
            new.attach_type,
            Some(AttachType::TRACE_RAW_TP | AttachType::TRACE_ITER) | None
        ),
        ProgType::EXT | ProgType::LSM => true,
        _ => false,
    }
}

fn refusal_hint(new: &ProgramLoad<'_>, errno: i32) -> Option<String> {
    let text = match errno {
        libc::EPERM if needs_trampoline(new) => {
            "this kernel refuses programs that need a trampoline (fentry, fexit, fmod_ret, LSM, \
             extensions), or the process lacks CAP_BPF and CAP_PERFMON; BTF tracepoints, raw \
             tracepoints and tracepoints may still work"
        }
        libc::EPERM => {
            "needs CAP_BPF, and CAP_PERFMON or CAP_NET_ADMIN by type; before Linux 5.11 also \
             enough RLIMIT_MEMLOCK"
        }
        libc::EINVAL => {
            "without a log: this kernel does not know the program type, the attach type or a flag"
        }
        sys::ENOTSUPP => "this kernel does not implement the program's attach target",
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests;
