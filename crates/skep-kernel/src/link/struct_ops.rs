//! Structures of functions that the kernel calls: TCP congestion control, schedulers.

use std::{os::fd::AsFd as _, sync::Arc};

use skep_abi::{AttachType, UpdateMode};

use super::{AttachError, Held, Link};
use crate::{
    leftover::mark_structure,
    map::Map,
    object::StructOps,
    sys::{self, LinkTarget, SysError},
};

/// The one key of a `struct_ops` map.
const KEY: [u8; 4] = [0; 4];

impl StructOps {
    /// Gives the structure to the kernel, which calls its programs from now on.
    ///
    /// Without a link (`.struct_ops`) it stays when this process is killed, and is one of the
    /// [`leftovers`](crate::leftover::leftovers) then.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the kernel finds the structure incomplete or wrong (a function it needs, a
    /// name), `EEXIST` or `EBUSY` when another has its place.
    #[doc(alias = "bpf_map__attach_struct_ops")]
    pub fn attach(&self) -> Result<Link, AttachError> {
        let fail = |source| self.fail(source);
        let hook = format!("struct_ops '{}'", self.name());
        if !self.has_link() {
            self.mark().map_err(fail)?;
        }
        self.store().map_err(fail)?;
        if !self.has_link() {
            return Ok(Link::new(Held::StructOps(Arc::clone(self.map())), hook));
        }
        let (map, kind) = (self.map().as_fd(), AttachType::STRUCT_OPS.0);
        let link = sys::link_create(map, LinkTarget::Ifindex(0), kind, 0).map_err(fail)?;
        Ok(Link::new(Held::Fd(link), hook))
    }

    /// Makes one of its programs say whose it is.
    fn mark(&self) -> Result<(), SysError> {
        let Some(program) = self.programs().first() else { return Ok(()) };
        mark_structure(program.as_fd(), self.map().id().map_err(|e| e.source)?)
    }

    /// Stores the value; once that is done it cannot change, and need not.
    fn store(&self) -> Result<(), SysError> {
        match self.map().update(&KEY, self.value(), UpdateMode::Any) {
            Err(e) if self.has_link() && e.errno() == libc::EBUSY => Ok(()),
            other => other.map_err(|e| e.source),
        }
    }

    fn fail(&self, source: SysError) -> AttachError {
        AttachError::StructOps { map: self.name().to_owned(), source }
    }
}

impl Link {
    /// Replaces what a `struct_ops` link has attached, without a moment in between.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is not such a link, or `new` is no `.struct_ops.link` map or is of another
    /// structure; else what the kernel's subsystem says (for TCP, `EINVAL` for another name).
    #[doc(alias = "bpf_link__update_map")]
    pub fn update_struct_ops(&self, new: &StructOps) -> Result<(), AttachError> {
        let Held::Fd(link) = &self.held else {
            let hint = "only a link can be updated";
            return Err(new.fail(SysError::errno_of("BPF_LINK_UPDATE", libc::EINVAL, hint)));
        };
        new.store().map_err(|e| new.fail(e))?;
        sys::link_update(link.as_fd(), new.map().as_fd(), None).map_err(|e| new.fail(e))
    }
}

/// Takes away what was attached without a link.
pub(super) fn unregister(map: &Map) -> Result<(), SysError> {
    map.delete(&KEY).map_err(|e| e.source)
}

/// What an errno means here, where its usual text misleads.
pub(super) fn hint(source: &SysError) -> &'static str {
    match source.errno() {
        libc::EINVAL => {
            " (the kernel finds it incomplete or wrong: a function it needs is not set, or a name \
             or number is not as it must be)"
        }
        libc::EEXIST => " (something of that name is registered already)",
        libc::EBUSY => " (it is registered already, or something else has its place)",
        _ => "",
    }
}
