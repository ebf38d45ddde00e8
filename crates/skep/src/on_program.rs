//! Programs that attach to functions of loaded programs: extensions, fentry, fexit.

use std::{path::Path, sync::Arc};

use skep_kernel::{SysError, inspect};

use crate::{NoSuch, Object, Program, program::Live};

/// A loaded program of the kernel that programs of an object attach to
/// (`SEC("freplace/function")`, `SEC("fentry/function")`).
#[derive(Clone, Debug)]
pub struct TargetProgram {
    live: skep_kernel::ProgramTarget,
}

/// Why a program cannot be attached to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetProgramError {
    /// There is none of this id.
    #[error("no program has the id {0}")]
    NoSuchId(u32),
    /// It lives on the embedded engine, where nothing attaches.
    #[error("program `{0}` is on the embedded engine, where nothing attaches")]
    Embedded(String),
    /// The kernel does not give it out.
    #[error("cannot open {which}")]
    Kernel {
        /// Which program.
        which: String,
        /// Why.
        #[source]
        source: SysError,
    },
}

impl TargetProgram {
    /// The program with this id.
    ///
    /// # Errors
    ///
    /// [`TargetProgramError`] when there is none, or the right to open it is missing.
    pub fn by_id(id: u32) -> Result<Self, TargetProgramError> {
        let fail = |source| TargetProgramError::Kernel { which: format!("program {id}"), source };
        let found = inspect::open_program(id).map_err(fail)?;
        found.map(|program| Self::new(Arc::new(program))).ok_or(TargetProgramError::NoSuchId(id))
    }

    /// The program that is pinned there.
    ///
    /// # Errors
    ///
    /// [`TargetProgramError`] when none is pinned there.
    pub fn pinned(path: impl AsRef<Path>) -> Result<Self, TargetProgramError> {
        let path = path.as_ref();
        let which = || path.display().to_string();
        let fail = |source| TargetProgramError::Kernel { which: which(), source };
        Ok(Self::new(Arc::new(skep_kernel::Program::open_pinned(path).map_err(fail)?)))
    }

    /// A program that this process has loaded.
    ///
    /// # Errors
    ///
    /// [`TargetProgramError::Embedded`].
    pub fn of(program: &Program) -> Result<Self, TargetProgramError> {
        match &program.live {
            Live::Kernel(program) => Ok(Self::new(Arc::clone(program))),
            Live::Embedded(program) => Err(TargetProgramError::Embedded(program.name().into())),
        }
    }

    const fn new(program: Arc<skep_kernel::Program>) -> Self {
        Self { live: skep_kernel::ProgramTarget { program, function: None } }
    }

    /// This function of it, and not the one that the section names.
    #[must_use]
    pub fn function(mut self, name: &str) -> Self {
        self.live.function = Some(name.into());
        self
    }

    pub(crate) fn into_live(self) -> skep_kernel::ProgramTarget {
        self.live
    }
}

impl Object {
    /// Says which loaded program one of this object's programs attaches to. It is loaded for that
    /// one, and then attached as its section says.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] with the names that are near.
    pub fn attach_to(&mut self, program: &str, target: TargetProgram) -> Result<&mut Self, NoSuch> {
        self.program(program)?;
        self.set_target(program.into(), target.into_live());
        Ok(self)
    }
}
