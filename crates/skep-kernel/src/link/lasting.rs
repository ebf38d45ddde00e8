//! Attachments that outlive the process which makes them, and are taken away by whoever knows the
//! program.

use std::os::fd::BorrowedFd;

use skep_abi::AttachType;

use crate::sys::{self, LinkTarget, ProgAttach, SysError};

/// What is told a program.
#[derive(Clone, Copy, Debug)]
pub enum Keeper<'a> {
    /// A socket map, which keeps it as long as it lives.
    Map(BorrowedFd<'a>),
    /// The network namespace of this thread.
    OwnNetns,
}

/// Attaches a program that stays when this process ends.
///
/// # Errors
///
/// `EINVAL` when the program, the place and the kind do not fit.
#[doc(alias = "BPF_PROG_ATTACH")]
pub fn attach_lasting(
    keeper: Keeper<'_>,
    program: BorrowedFd<'_>,
    kind: AttachType,
) -> Result<(), SysError> {
    sys::prog_attach(&place(keeper, kind), program)
}

/// Takes back [`attach_lasting`].
///
/// # Errors
///
/// `ENOENT` when another program, or none, is attached there.
#[doc(alias = "BPF_PROG_DETACH")]
pub fn detach_lasting(
    keeper: Keeper<'_>,
    program: BorrowedFd<'_>,
    kind: AttachType,
) -> Result<(), SysError> {
    sys::prog_detach(&place(keeper, kind), program)
}

fn place(keeper: Keeper<'_>, kind: AttachType) -> ProgAttach<'_> {
    let target = match keeper {
        Keeper::Map(map) => LinkTarget::Fd(map),
        // The kernel takes the namespace of the caller, and no number.
        Keeper::OwnNetns => LinkTarget::Ifindex(0),
    };
    ProgAttach::new(target, kind.0, 0)
}
