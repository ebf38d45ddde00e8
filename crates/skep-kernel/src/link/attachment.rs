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

    /// An error when another's program is in the place of ours.
    ///
    /// Where a place takes one program only, `BPF_PROG_ATTACH` replaces whichever is there, and
    /// `BPF_PROG_DETACH` takes it away from a cgroup (`find_detach_entry`, kernel/bpf/cgroup.c).
    fn expect_ours(&self, command: &'static str, errno: i32) -> Result<(), SysError> {
        if self.flags & BPF_F_ALLOW_MULTI != 0 {
            return Ok(());
        }
        let target = LinkTarget::Fd(self.target.as_fd());
        let there = match sys::prog_query(target, self.attach_type, 0, false) {
            // Before Linux 5.19 a socket map does not tell.
            Err(e) if e.errno() == libc::EINVAL && self.method == Method::SocketMap => {
                return Ok(());
            }
            there => there?.prog_ids,
        };
        match there.contains(&sys::prog_info(self.program.as_fd())?.id) {
            true => Ok(()),
            false => Err(SysError::errno_of(command, errno, "another program, or none, is there")),
        }
    }

    /// Takes the program away; another's stays.
    pub(super) fn remove(self) -> Result<(), SysError> {
        // Of others the kernel itself looks at the program.
        if self.method == Method::Cgroup {
            self.expect_ours("BPF_PROG_DETACH", libc::ENOENT)?;
        }
        sys::prog_detach(&self.place(0), self.program.as_fd())
    }

    /// Gives the place another program. Where several are, ours is the one that goes.
    pub(super) fn update(&mut self, new: BorrowedFd<'_>) -> Result<(), SysError> {
        if self.method == Method::Infrared {
            let hint = "a receiver takes programs beside each other, not in each other's place";
            return Err(SysError::errno_of("BPF_PROG_ATTACH", libc::EOPNOTSUPP, hint));
        }
        self.expect_ours("BPF_PROG_ATTACH", libc::EPERM)?;
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
