//! Functions of a loaded program: what extensions replace and tracing programs look at.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    sync::Arc,
};

use skep_btf::{Btf, KindTag};

use super::Program;
use crate::sys::{self, ObjectKind, SysError};

/// A function of a loaded program, for programs that attach to one (`SEC("freplace/…")`,
/// `SEC("fentry/…")`).
#[derive(Clone, Debug)]
pub struct ProgramTarget {
    /// The program.
    pub program: Arc<Program>,
    /// The function; `None` for the one that the section names.
    pub function: Option<String>,
}

/// Why a program has no such function.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FunctionError {
    /// The kernel does not show the program or its types.
    #[error("cannot look at the functions of program '{program}'")]
    Hidden {
        /// The program.
        program: String,
        /// What failed.
        #[source]
        source: SysError,
    },
    /// It was loaded without types.
    #[error("program '{program}' was loaded without BTF, which names its functions")]
    NoBtf {
        /// The program.
        program: String,
    },
    /// Its types do not parse.
    #[error("the BTF of program '{program}' is malformed")]
    Btf {
        /// The program.
        program: String,
        /// What is wrong.
        #[source]
        source: skep_btf::BtfError,
    },
    /// There is no function of this name.
    #[error("program '{program}' has no function '{function}'{}", known(functions))]
    NoFunction {
        /// The program.
        program: String,
        /// The name that was asked for.
        function: String,
        /// Those it has.
        functions: Vec<String>,
    },
}

/// Most names that an error lists.
const MOST_NAMES: usize = 8;

fn known(functions: &[String]) -> String {
    match functions {
        [] => String::new(),
        _ if functions.len() > MOST_NAMES => format!("; it has {}", functions.len()),
        _ => format!("; it has {}", functions.join(", ")),
    }
}

impl Program {
    /// Number of a function's type in the program's own BTF, as attaching to it needs.
    ///
    /// # Errors
    ///
    /// [`FunctionError`] when there is none, or the kernel does not tell.
    pub fn function_id(&self, function: &str) -> Result<u32, FunctionError> {
        let btf = self.types()?;
        let found = btf.find(KindTag::Func, function).next();
        found.map(|id| id.0).ok_or_else(|| FunctionError::NoFunction {
            program: self.name().to_owned(),
            function: function.to_owned(),
            functions: function_names(&btf),
        })
    }

    /// The program's own types, as the kernel has them.
    fn types(&self) -> Result<Btf, FunctionError> {
        let program = || self.name().to_owned();
        let hidden = |source| FunctionError::Hidden { program: program(), source };
        let id = sys::prog_raw(self.as_fd(), false).map_err(hidden)?.btf_id;
        if id == 0 {
            return Err(FunctionError::NoBtf { program: program() });
        }
        let fd = sys::open_id(ObjectKind::Btf, id).map_err(hidden)?;
        let raw = sys::btf_bytes(fd.as_fd(), true).map_err(hidden)?;
        let malformed = |source| FunctionError::Btf { program: program(), source };
        Btf::parse(&raw.bytes).map_err(malformed)
    }
}

fn function_names(btf: &Btf) -> Vec<String> {
    let functions = btf.ids().filter(|&id| btf.kind_tag(id) == Some(KindTag::Func));
    functions.filter_map(|id| btf.name(id)).map(str::to_owned).collect()
}

impl ProgramTarget {
    /// Number of the function's type, and the program. `section` is what the section name says.
    pub(crate) fn resolve(
        &self,
        section: Option<&str>,
    ) -> Result<(u32, BorrowedFd<'_>), FunctionError> {
        let name = self.function.as_deref().or(section).unwrap_or_default();
        Ok((self.program.function_id(name)?, self.program.as_fd()))
    }
}
