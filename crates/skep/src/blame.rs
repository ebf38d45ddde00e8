//! Who is at fault when something fails: what was given, or the system it should run on.

use std::io::ErrorKind;

use skep_kernel::{
    SysError,
    rights::{Capability, lacking},
};
use skep_object::ResolveError;
use skep_vm::{LowerReason, Reason, maps::MapError};

use crate::{AttachError, LoadError, RunError, TargetError};

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The object, the program, the input.
    Input,
    /// This system or this engine lacks something; the text is the nearest thing that works.
    System(&'static str),
}

const USE_KERNEL: Blame = Blame::System("the kernel engine may have it: --engine kernel, as root");
const USE_EMBEDDED: Blame =
    Blame::System("run as root, or use --engine embedded with --pcap or --iface");
const NEWER_KERNEL: Blame = Blame::System(
    "a newer kernel, or --engine embedded, which runs packet programs without the kernel",
);
const RUN_EMBEDDED: Blame =
    Blame::System("the kernel has no test run for programs of this type: --engine embedded has");
const NAME_TYPES: Blame = Blame::System("name a kernel's types with --btf FILE");

impl LoadError {
    /// Who is at fault.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Resolve { source, .. } => match source.as_ref() {
                TargetError::Resolve(e) | TargetError::Here(skep_kernel::HereError::Resolve(e)) => {
                    of_resolve(e)
                }
                TargetError::Here(_) => NAME_TYPES,
            },
            Self::Embedded { source, .. } => of_embedded(source),
            Self::Kernel { source, .. } => of_kernel(source),
        }
    }
}

impl RunError {
    /// Who is at fault.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Fault(skep_vm::RunError { reason: Reason::Missing { .. }, .. }) => USE_KERNEL,
            Self::Fault(_) | Self::Input { .. } => Blame::Input,
            Self::Kernel { source, .. } if source.errno() == skep_kernel::ENOTSUPP => RUN_EMBEDDED,
            Self::Kernel { source, .. } => of_system_call(source),
        }
    }
}

impl AttachError {
    /// Who is at fault.
    pub fn blame(&self) -> Blame {
        use skep_kernel::AttachError as Kernel;
        match self {
            Self::NoHooks { .. } => Blame::System("the kernel engine has hooks: run as root"),
            Self::Kernel(
                Kernel::NeedsTarget { .. } | Kernel::Name { .. } | Kernel::Binary { .. },
            ) => Blame::Input,
            Self::Kernel(Kernel::Occupied { .. }) => Blame::System(
                "skep link detach, or ending what holds the link, makes room; skep net show lists \
                 what is there",
            ),
            // A typing error, where something is near.
            Self::Kernel(Kernel::NoTracepoint { near, .. }) if !near.is_empty() => Blame::Input,
            Self::Kernel(Kernel::NoTracepoint { reachable: false, .. }) => USE_EMBEDDED,
            // Another program has the name, or the kernel finds the structure wrong.
            Self::Kernel(Kernel::StructOps { source, .. })
                if matches!(
                    source.source.kind(),
                    ErrorKind::AlreadyExists | ErrorKind::InvalidInput
                ) =>
            {
                Blame::Input
            }
            Self::Kernel(Kernel::Refused { source, .. }) => of_system_call(source),
            Self::Kernel(Kernel::NotYet { .. }) => {
                Blame::System("skep test-run runs many of these programs on given input")
            }
            Self::Kernel(_) => NEWER_KERNEL,
        }
    }
}

fn of_resolve(e: &ResolveError) -> Blame {
    match e {
        ResolveError::NoTargetBtf { .. } => NAME_TYPES,
        _ => Blame::Input,
    }
}

fn of_embedded(e: &skep_vm::LoadError) -> Blame {
    use skep_vm::LoadError as Load;
    match e {
        Load::Map { source: MapError::NotInEngine { .. }, .. } | Load::Extern { .. } => USE_KERNEL,
        Load::Lower(e) => match e.reason {
            LowerReason::Unsupported { .. } => USE_KERNEL,
            _ => Blame::Input,
        },
        _ => Blame::Input,
    }
}

fn of_kernel(e: &skep_kernel::LoadError) -> Blame {
    use skep_kernel::LoadError as Load;
    match e {
        // With all rights it is the kernel's own policy, which root does not change.
        Load::Refused { source, .. }
            if source.source.kind() == ErrorKind::PermissionDenied
                && lacking(&[Capability::BPF, Capability::PERFMON]).is_none() =>
        {
            Blame::System(
                "skep doctor says what this kernel lets programs do, and what works in its place",
            )
        }
        Load::Refused { source, .. } | Load::Map { source, .. } => of_system_call(source),
        Load::Pin { .. } => Blame::System(
            "pins need a bpf file system (mount -t bpf bpf DIR) and the directory in it",
        ),
        Load::NoSymbol { .. } => NEWER_KERNEL,
        Load::Target(_) => NAME_TYPES,
        _ => Blame::Input,
    }
}

fn of_system_call(e: &SysError) -> Blame {
    match e.source.kind() {
        ErrorKind::PermissionDenied => USE_EMBEDDED,
        ErrorKind::Unsupported => NEWER_KERNEL,
        _ if e.errno() == skep_kernel::ENOTSUPP => NEWER_KERNEL,
        // What is not there is the kernel's source of such events, not a function.
        ErrorKind::NotFound if e.command == "perf_event_open" && e.hint.is_some() => {
            Blame::System("skep doctor says what works in its place")
        }
        _ => Blame::Input,
    }
}
