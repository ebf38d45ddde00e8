//! `SELECTOR PATH`: pinning what is selected.

use std::{os::fd::AsFd as _, path::Path};

use anyhow::Context as _;
use skep::kernel::inspect::{self, Kind};

use super::{rights, select};

/// Pins the one object that the words select at the path behind.
pub(super) fn pin(kind: Kind, words: &[String]) -> anyhow::Result<()> {
    let mut rest = words;
    let id = select::take_one(kind, &mut rest)?;
    let [path] = rest else {
        return Err(crate::exit::usage("expected the object and one path"));
    };
    let fd = rights("opening an object", inspect::open(kind, id))?;
    let fd = fd.ok_or_else(|| select::gone(kind, id))?;
    at(path.as_ref(), rights("pinning an object", inspect::pin(fd.as_fd(), path.as_ref())))
}

/// Says where, when pinning failed.
pub(super) fn at(path: &Path, pinned: anyhow::Result<()>) -> anyhow::Result<()> {
    pinned.with_context(|| format!("cannot pin at {}", path.display()))
}
