//! What this kernel and this process can, found by doing it.
//!
//! What is made for that is gone when the answer is there; what exists is not touched.

mod attach;
mod btf;
mod call;
mod insn;
mod link;
mod map;
mod program;

use std::{
    collections::HashMap,
    io,
    sync::{Mutex, OnceLock},
};

use skep_abi::{MapType, ProgType};
use skep_isa::Slot;

use crate::{
    error::{LoadError, TargetError},
    link::AttachError,
    program::{Program, ProgramLoad},
    rights::{self, Capability},
    sys::SysError,
};

pub use self::{
    attach::{cgroup_hooks, network_hooks, tracing_hooks},
    btf::btf_kinds,
    call::{
        bpf_cookie, helper, helper_callers, helper_types, iterator_helper, iterator_kfunc, kfunc,
        kfunc_types,
    },
    insn::{INSTRUCTIONS, Instruction},
    link::uprobe_multi,
    map::map_type,
    program::prog_type,
};

/// Outcome of a probe. "Could not tell" is its own answer, never "not supported".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It works here.
    Yes,
    /// This machine or process does not have it; the text is the reason.
    No(String),
    /// The probe itself failed, so nothing is known.
    Unknown(String),
}

impl Support {
    /// For `require_kernel!`: the reason of a "no" as the error.
    ///
    /// # Errors
    ///
    /// The reason.
    ///
    /// # Panics
    ///
    /// When the probe could not tell: a test must not turn that into a skip.
    pub fn into_result(self) -> Result<(), String> {
        match self {
            Self::Yes => Ok(()),
            Self::No(reason) => Err(reason),
            Self::Unknown(reason) => panic!("probe could not tell: {reason}"),
        }
    }

    /// Is the answer yes?
    pub fn is_yes(&self) -> bool {
        *self == Self::Yes
    }
}

/// What it means when a process that may load programs may not load this one.
const REFUSED: &str = "this kernel refuses programs that need a trampoline";

/// A refusal, or a failure on the way to the question: what `?` makes of the errors of probes.
type Answer = Result<(), Support>;

fn of(answer: Answer) -> Support {
    answer.map_or_else(|support| support, |()| Support::Yes)
}

impl From<LoadError> for Support {
    fn from(e: LoadError) -> Self {
        match e {
            // Only statistics: the type was looked at, not the instructions.
            LoadError::Rejected { errno, summary, .. } if summary.starts_with("processed 0 ") => {
                Self::No(format!("BPF_PROG_LOAD: {}", io::Error::from_raw_os_error(errno)))
            }
            LoadError::Rejected { summary, .. } => Self::No(summary.trim().to_owned()),
            LoadError::Refused { source, .. } if source.errno() == libc::EPERM => {
                Self::No(format!("BPF_PROG_LOAD: {}, without a log: {REFUSED}", source.source))
            }
            LoadError::Refused { source, .. } => Self::No(chain(&source)),
            other => Self::Unknown(chain(&other)),
        }
    }
}

impl From<AttachError> for Support {
    fn from(e: AttachError) -> Self {
        match e {
            AttachError::Refused { source, .. } => Self::No(chain(&source)),
            other => Self::No(chain(&other)),
        }
    }
}

impl From<SysError> for Support {
    fn from(e: SysError) -> Self {
        Self::No(chain(&e))
    }
}

impl From<TargetError> for Support {
    fn from(e: TargetError) -> Self {
        Self::No(format!("the kernel shows no BTF: {}", chain(&e)))
    }
}

/// An error with its causes.
fn chain(e: &dyn std::error::Error) -> String {
    e.source().map_or_else(|| e.to_string(), |cause| format!("{e}: {}", chain(cause)))
}

/// `r0 = 0; exit`
const RETURN_0: [Slot; 2] = [
    Slot { code: 0xb7, dst: 0, src: 0, off: 0, imm: 0 },
    Slot { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
];

/// May this process load a trivial program at all? Probed once per process.
pub fn can_load() -> Support {
    static CACHE: OnceLock<Support> = OnceLock::new();
    let probe =
        || match Program::load(&ProgramLoad::new("probe", ProgType::SOCKET_FILTER, &RETURN_0)) {
            Ok(_) => match map_type(MapType::HASH) {
                Support::Yes => Support::Yes,
                other => other,
            },
            Err(e) => of_load_error(&e),
        };
    CACHE.get_or_init(probe).clone()
}

/// What says nothing when this process may load nothing.
fn if_loading(answer: impl FnOnce() -> Answer) -> Support {
    match can_load() {
        Support::Yes => of(answer()),
        Support::No(reason) | Support::Unknown(reason) => Support::Unknown(reason),
    }
}

fn of_load_error(e: &LoadError) -> Support {
    match e {
        LoadError::Rejected { errno, summary, .. } => of_errno(*errno, summary),
        LoadError::Refused { source, .. } => {
            of_errno(source.errno(), &format!("{e}: {}", source.source))
        }
        _ => Support::Unknown(e.to_string()),
    }
}

fn of_errno(errno: i32, text: &str) -> Support {
    match errno {
        libc::EPERM | libc::EACCES => {
            let why = rights::lacking(&[Capability::BPF]);
            let why = why.unwrap_or_else(|| "a limit or a security module forbids it".into());
            Support::No(format!("not permitted: {why}"))
        }
        libc::ENOSYS => Support::No("kernel built without bpf(2)".into()),
        _ => Support::Unknown(text.to_owned()),
    }
}

fn cached<K: Eq + std::hash::Hash>(
    cache: &Mutex<Option<HashMap<K, Support>>>,
    key: K,
    probe: impl FnOnce() -> Support,
) -> Support {
    let mut guard = cache.lock().expect("no probe panics while it holds the cache");
    if let Some(known) = guard.as_ref().and_then(|map| map.get(&key)) {
        return known.clone();
    }
    drop(guard);
    let answer = probe();
    if !matches!(answer, Support::Unknown(_)) {
        guard = cache.lock().expect("no probe panics while it holds the cache");
        guard.get_or_insert_default().insert(key, answer.clone());
    }
    answer
}

#[cfg(test)]
mod tests;
