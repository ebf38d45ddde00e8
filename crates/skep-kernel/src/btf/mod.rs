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
};

/// BTF the kernel has accepted. Dropping it closes the descriptor; what refers to it keeps it.
#[derive(Debug)]
pub struct Btf {
    fd: OwnedFd,
    adapted: Vec<KindTag>,
}

/// Kinds that younger kernels brought, with the words of a smallest example behind its name
/// offset. Each stands for what came with it.
const YOUNG_KINDS: &[(KindTag, &[u32])] = &[
    (KindTag::Float, &[0, 16 << 24, 4]),
    (KindTag::DeclTag, &[0, 17 << 24, 1, u32::MAX]),
    (KindTag::TypeTag, &[0, 18 << 24, 1]),
    (KindTag::Enum64, &[0, 19 << 24, 8]),
];

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
        let bytes = btf.to_bytes();
        let whole = form::kernel_form(&bytes, btf, layouts, local, &[]);
        let first = match load_bytes(&whole) {
            Ok(fd) => return Ok(Self { fd, adapted: Vec::new() }),
            Err(e) => e,
        };
        let missing = missing_kinds();
        if missing.is_empty() {
            return Err(first);
        }
        let adapted = form::kernel_form(&bytes, btf, layouts, local, &missing);
        load_bytes(&adapted).map(|fd| Self { fd, adapted: missing })
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

fn missing_kinds() -> Vec<KindTag> {
    let int = [1, 1 << 24, 4, 32];
    let missing = |example: &[u32]| {
        let mut words = int.to_vec();
        words.extend(example);
        // A tag's text must not be empty.
        if let Some(name) = words.get_mut(4) {
            *name = 1;
        }
        sys::btf_load(&form::section(&words, b"\0x\0"), &mut []).is_err()
    };
    let kinds = YOUNG_KINDS.iter().filter(|(_, example)| missing(example));
    kinds.map(|&(kind, _)| kind).collect()
}

fn load_bytes(bytes: &[u8]) -> Result<OwnedFd, LoadError> {
    let source: SysError = match sys::btf_load(bytes, &mut []) {
        Ok(fd) => return Ok(fd),
        Err(e) => e,
    };
    let mut buffer = vec![0; 1 << 20];
    let again = sys::btf_load(bytes, &mut buffer);
    let truncated = matches!(&again, Err(e) if e.errno() == libc::ENOSPC);
    let log = VerifierLog { text: until_nul(&buffer), truncated };
    match again {
        Ok(fd) => Ok(fd),
        Err(_) => {
            let summary = log.text.lines().rev().find(|line| !line.trim().is_empty());
            let summary = summary.map_or_else(|| source.to_string(), |line| line.trim().to_owned());
            Err(LoadError::Btf { errno: source.errno(), summary, log })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe;
    use skep_testing::require_kernel;

    #[test]
    fn examples_of_young_kinds_are_well_formed() {
        for (kind, example) in YOUNG_KINDS {
            let words = [&[1, 1 << 24, 4, 32], *example].concat();
            let mut words = words;
            words[4] = 1;
            let btf = skep_btf::Btf::parse(&form::section(&words, b"\0x\0")).unwrap();
            assert_eq!(btf.kind_tag(TypeId(2)), Some(*kind));
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_kernels_words() {
        require_kernel!(probe::can_load().into_result());
        // An INT of 3 bits in 4 bytes at bit offset 40.
        let bytes = form::section(&[1, 1 << 24, 4, 40 << 16 | 3], b"\0x\0");
        let error = load_bytes(&bytes).unwrap_err();
        let LoadError::Btf { errno, summary, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*errno, libc::EINVAL);
        assert!(summary.contains("INT"), "{summary}");
    }
}
