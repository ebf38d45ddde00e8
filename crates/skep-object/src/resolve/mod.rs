//! From a spec to what engines load: everything that depends on the system, computed from data
//! the caller gives.
//!
//! What stays for engines are references to live things: maps, kernel symbols, kernel functions.

mod core;
mod kconfig;
mod patch;

use std::{collections::BTreeMap, sync::Arc};

use skep_btf::{Btf, TypeId};
use skep_isa::Pc;

use crate::spec::{ExternKind, ExternSpec, ObjectSpec, RelocTarget};

pub use self::kconfig::KconfigProblem;
pub use self::patch::{POISON_HELPER, PatchProblem};

/// The system that an object is resolved for, as data.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Types of the kernel; `None` where there is no kernel or it has no BTF. Only objects with
    /// CO-RE relocations need it.
    pub btf: Option<&'a Btf>,
    /// Types of kernel modules, each split on the kernel's.
    pub modules: &'a [Btf],
    /// `LINUX_VERSION_CODE`: `major << 16 | minor << 8 | patch`.
    pub kernel_version: u32,
    /// The kernel's configuration, `CONFIG_HZ` to `250`, strings with their quotes; `None` when
    /// it is not known.
    pub kconfig: Option<&'a BTreeMap<String, String>>,
    /// Do perf events carry a cookie for programs (`LINUX_HAS_BPF_COOKIE`)?
    pub has_bpf_cookie: bool,
    /// Do system calls get their arguments in a `struct pt_regs *` (`LINUX_HAS_SYSCALL_WRAPPER`)?
    pub has_syscall_wrapper: bool,
    /// Who knows the symbols of the kernel.
    pub symbols: Symbols,
}

/// Who knows the symbols of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symbols {
    /// The engine looks them up when it loads a program that refers to them.
    Engine,
    /// There are none: weak references become 0, calls of weak functions are poisoned, and other
    /// references stay for the engine to refuse.
    Absent,
}

impl Target<'_> {
    /// No kernel at all: what the embedded engine has when no kernel is named.
    pub const NONE: Self = Self {
        btf: None,
        modules: &[],
        kernel_version: 0,
        kconfig: None,
        has_bpf_cookie: false,
        has_syscall_wrapper: false,
        symbols: Symbols::Absent,
    };
}

/// A spec in which only references to maps, symbols and kernel functions are open.
///
/// Read only: what was resolved for a target stays so.
#[derive(Clone, Debug)]
pub struct Resolved {
    spec: ObjectSpec,
    core: Vec<CoreOutcome>,
}

impl Resolved {
    /// The object.
    pub fn spec(&self) -> &ObjectSpec {
        &self.spec
    }

    /// What became of each CO-RE relocation, by program and position.
    pub fn core(&self) -> &[CoreOutcome] {
        &self.core
    }
}

/// A CO-RE relocation and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreOutcome {
    /// Index into [`ObjectSpec::programs`].
    pub program: usize,
    /// The instruction.
    pub at: Pc,
    /// What it names, in C-like text with its kind.
    pub wanted: Arc<str>,
    /// What was done.
    pub result: CoreResult,
}

/// What was done for a CO-RE relocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreResult {
    /// The instruction has a new value.
    Patched {
        /// Value that the compiler put there.
        from: u64,
        /// Value for the target.
        to: u64,
        /// What was found in the target, in C-like text; `None` where absence is the answer.
        found: Option<Arc<str>>,
        /// The type that matched in the target, and which module has it.
        type_id: Option<(TypeId, Option<usize>)>,
    },
    /// Reaching the instruction is an error with this text.
    Poisoned {
        /// Why.
        reason: String,
    },
}

/// Why an object cannot be resolved.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The object's types must be compared with the kernel's, which are not known.
    #[error(
        "program {program} {at}: {wanted} needs the types of a kernel (BTF), and none are given"
    )]
    NoTargetBtf {
        /// Program.
        program: String,
        /// The first instruction that needs them.
        at: Pc,
        /// What it wants to know.
        wanted: String,
    },
    /// CO-RE relocations without BTF to say what they mean.
    #[error("program {program} has CO-RE relocations and the object has no BTF")]
    NoBtf {
        /// Program.
        program: String,
    },
    /// A CO-RE relocation is malformed or has several answers.
    #[error("program {program} {at}: CO-RE relocation")]
    Core {
        /// Program.
        program: String,
        /// The instruction.
        at: Pc,
        /// What is wrong.
        #[source]
        source: skep_btf::core::CoreError,
    },
    /// The instruction is not one that the relocation can change.
    #[error("program {program} {at}: {wanted}: {problem}")]
    Patch {
        /// Program.
        program: String,
        /// The instruction.
        at: Pc,
        /// What the relocation names.
        wanted: String,
        /// What is wrong.
        problem: PatchProblem,
    },
    /// A `__kconfig` value cannot be given.
    #[error("extern {name}: {problem}")]
    Kconfig {
        /// Name.
        name: String,
        /// Why.
        problem: KconfigProblem,
    },
}

/// Resolves a spec for a target.
///
/// CO-RE relocations that the target cannot satisfy poison their instruction, as libbpf does:
/// a program that never reaches it is fine.
///
/// # Errors
///
/// [`ResolveError`]; only for programs that load by themselves where it is about one program.
pub fn resolve(spec: ObjectSpec, target: &Target<'_>) -> Result<Resolved, ResolveError> {
    resolve_asking(spec, target, Vec::new)
}

/// As [`resolve()`], with more modules than `target` has when it lacks a type: `modules` gives
/// all that there are, and is asked at most once.
///
/// # Errors
///
/// As for [`resolve()`].
pub fn resolve_asking(
    mut spec: ObjectSpec,
    target: &Target<'_>,
    modules: impl FnOnce() -> Vec<Btf>,
) -> Result<Resolved, ResolveError> {
    kconfig::fill(&mut spec, target)?;
    let core = core::relocate(&mut spec, target, modules)?;
    if target.symbols == Symbols::Absent {
        drop_weak_symbols(&mut spec);
    }
    Ok(Resolved { spec, core })
}

/// Gives weak references to kernel symbols the value they have where there are none.
fn drop_weak_symbols(spec: &mut ObjectSpec) {
    let weak = |externs: &[ExternSpec], index: usize| {
        externs
            .get(index)
            .filter(|e| e.weak && !matches!(e.kind, ExternKind::Kconfig { .. }))
            .cloned()
    };
    let externs = std::mem::take(&mut spec.externs);
    for program in &mut spec.programs {
        let relocs = std::mem::take(&mut program.relocs);
        for reloc in relocs {
            let (index, call) = match reloc.target {
                RelocTarget::Ksym(index) => (index, false),
                RelocTarget::Kfunc(index) => (index, true),
                _ => (usize::MAX, false),
            };
            match weak(&externs, index) {
                // The slots of a symbol's `lddw` hold 0 already.
                Some(_) if !call => {}
                Some(symbol) => {
                    let reason = format!("kernel function {} does not exist", symbol.name);
                    patch::poison(program, reloc.at, reason);
                }
                None => program.relocs.push(reloc),
            }
        }
    }
    spec.externs = externs;
}
