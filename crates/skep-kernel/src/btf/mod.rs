//! An object's BTF, loaded into the kernel.

mod form;

use std::{
    collections::HashSet,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use skep_btf::{KindTag, TypeId};

pub use form::SectionLayout;

use crate::{
    error::{LoadError, VerifierLog, until_nul},
    sys::{self, SysError},
    token::Token,
};

/// BTF the kernel has accepted. Dropping it closes the descriptor; what refers to it keeps it.
#[derive(Debug)]
pub struct Btf {
    fd: OwnedFd,
    adapted: Vec<KindTag>,
}

/// What the examples below stand on: 1 is an `int`, 2 a `struct {}`. Name 1 is "x".
const GROUND: [u32; 7] = [1, 1 << 24, 4, 32, 0, 4 << 24, 0];

/// Kinds that younger kernels brought, with the words of a smallest example. Each stands for what
/// came with it.
const YOUNG_KINDS: &[(KindTag, &[u32])] = &[
    (KindTag::Float, &[1, 16 << 24, 4]),
    (KindTag::DeclTag, &[1, 17 << 24, 2, u32::MAX]),
    (KindTag::TypeTag, &[1, 18 << 24, 1]),
    (KindTag::Enum64, &[1, 19 << 24, 8]),
];

/// BTF with one example.
fn example_btf(example: &[u32]) -> Vec<u8> {
    form::section(&[&GROUND, example].concat(), b"\0x\0")
}

impl Btf {
    /// Loads an object's BTF. `layouts` are the sections that are maps: compilers leave their
    /// sizes and offsets to the loader.
    ///
    /// `local` functions are static whatever the compiler called them.
    ///
    /// What a kernel does not know (found by loading the smallest example of each kind) is
    /// replaced by something of the same size, so that type numbers stay.
    ///
    /// # Errors
    ///
    /// [`LoadError::Btf`] with the kernel's log.
    #[doc(alias = "BPF_BTF_LOAD")]
    pub fn load(
        btf: &skep_btf::Btf,
        layouts: &[SectionLayout],
        local: &HashSet<TypeId>,
    ) -> Result<Self, LoadError> {
        Self::load_by(btf, layouts, local, None)
    }

    /// As [`Btf::load`], by the rights of a token.
    ///
    /// # Errors
    ///
    /// As for [`Btf::load`].
    pub fn load_by(
        btf: &skep_btf::Btf,
        layouts: &[SectionLayout],
        local: &HashSet<TypeId>,
        token: Option<&Token>,
    ) -> Result<Self, LoadError> {
        let token = token.map(AsFd::as_fd);
        let bytes = btf.to_bytes();
        let whole = form::kernel_form(&bytes, btf, layouts, local, &[]);
        let first = match load_bytes(&whole, token) {
            Ok(fd) => return Ok(Self { fd, adapted: Vec::new() }),
            Err(e) => e,
        };
        let missing = missing_kinds(token);
        if missing.is_empty() {
            return Err(first);
        }
        let adapted = form::kernel_form(&bytes, btf, layouts, local, &missing);
        load_bytes(&adapted, token).map(|fd| Self { fd, adapted: missing })
    }

    /// Kinds that this kernel does not know and that were replaced.
    pub fn adapted(&self) -> &[KindTag] {
        &self.adapted
    }
}

impl AsFd for Btf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn missing_kinds(token: Option<BorrowedFd<'_>>) -> Vec<KindTag> {
    let missing = |example: &[u32]| sys::btf_load(&example_btf(example), token, &mut []).is_err();
    let kinds = YOUNG_KINDS.iter().filter(|(_, example)| missing(example));
    kinds.map(|&(kind, _)| kind).collect()
}

fn load_bytes(bytes: &[u8], token: Option<BorrowedFd<'_>>) -> Result<OwnedFd, LoadError> {
    let source: SysError = match sys::btf_load(bytes, token, &mut []) {
        Ok(fd) => return Ok(fd),
        Err(e) => e,
    };
    let mut buffer = vec![0; 1 << 20];
    let again = sys::btf_load(bytes, token, &mut buffer);
    let truncated = matches!(&again, Err(e) if e.errno() == libc::ENOSPC);
    let log = VerifierLog { text: until_nul(&buffer), truncated };
    match again {
        Ok(fd) => Ok(fd),
        Err(_) => {
            let summary = log.text.lines().rev().find(|line| !line.trim().is_empty());
            // Without a log the call itself is all there is to say, with its cause.
            let silent = || format!("{source}: {}", source.source);
            let summary = summary.map_or_else(silent, |line| line.trim().to_owned());
            Err(LoadError::Btf { errno: source.errno(), summary, log })
        }
    }
}

#[cfg(test)]
mod tests;
