//! `BPF_PROG_ATTACH`: what is told a program, and keeps it, without a link.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::{Held, Method, owned};
use crate::{
    leftover::mark,
    sys::{self, LinkTarget, ProgAttach, SysError},
};

const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// A cgroup or map that was told a program.
#[derive(Debug)]
pub(super) struct Attachment {
    target: OwnedFd,
    program: OwnedFd,
    attach_type: u32,
    flags: u32,
    pub(super) method: Method,
}

impl Attachment {
    /// Tells `target` the program.
    pub(super) fn attach(
        target: BorrowedFd<'_>,
        program: BorrowedFd<'_>,
        attach_type: u32,
        flags: u32,
        method: Method,
    ) -> Result<Held, SysError> {
        let (target, program) = (owned(target)?, owned(program)?);
        let held = Self { target, program, attach_type, flags, method };
        held.mark(held.program.as_fd())?;
        sys::prog_attach(&held.place(flags), held.program.as_fd())?;
        Ok(Held::Attachment(held))
    }

    /// What is on a cgroup outlives this process, and must say whose it is.
    fn mark(&self, program: BorrowedFd<'_>) -> Result<(), SysError> {
        if self.method == Method::Cgroup { mark(program) } else { Ok(()) }
    }

    fn place(&self, flags: u32) -> ProgAttach<'_> {
        ProgAttach::new(LinkTarget::Fd(self.target.as_fd()), self.attach_type, flags)
    }

    /// Takes the program away; another's stays.
    pub(super) fn remove(self) -> Result<(), SysError> {
        sys::prog_detach(&self.place(0), self.program.as_fd())
    }

    /// Gives the place another program. Where several are, ours is the one that goes.
    pub(super) fn update(&mut self, new: BorrowedFd<'_>) -> Result<(), SysError> {
        let new = owned(new)?;
        self.mark(new.as_fd())?;
        let at = match self.flags & BPF_F_ALLOW_MULTI {
            0 => self.place(self.flags),
            _ => ProgAttach {
                replace: Some(self.program.as_fd()),
                ..self.place(self.flags | BPF_F_REPLACE)
            },
        };
        sys::prog_attach(&at, new.as_fd())?;
        self.program = new;
        Ok(())
    }
}
