//! Where programs run.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
};

use skep_kernel::{
    SysError, Token,
    probe::{self, Support},
};

/// Why the kernel engine cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel engine cannot be used here: {reason}")]
pub struct EngineError {
    /// What is missing.
    pub reason: String,
}

/// Where programs run: in the Linux kernel, or in this process.
///
/// ```
/// let engine = skep::Engine::embedded();
/// assert_eq!(engine.name(), "embedded");
/// assert!(!engine.features().hooks);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    kind: Kind,
    why: String,
    /// The bpf file system whose delegated rights are used.
    token: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    Kernel,
}

/// Where tokens come from, as for libbpf.
fn token_path() -> PathBuf {
    env::var_os("LIBBPF_BPF_TOKEN_PATH").map_or_else(|| "/sys/fs/bpf".into(), PathBuf::from)
}

/// What an engine can do, for those who must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// Programs attach to hooks of the system: tracepoints, interfaces, cgroups.
    pub hooks: bool,
    /// Verdicts of packet programs act on the real packet. Without, programs see copies.
    pub acts_on_packets: bool,
    /// Loading needs rights (CAP_BPF and more).
    pub needs_rights: bool,
}

impl Engine {
    /// The embedded engine: programs run in this process, checked, without rights.
    pub fn embedded() -> Self {
        Self::embedded_because("it was asked for")
    }

    /// The kernel engine, after trying to load a trivial program.
    ///
    /// # Errors
    ///
    /// [`EngineError`] says what is missing.
    pub fn kernel() -> Result<Self, EngineError> {
        match probe::can_load() {
            Support::Yes => Ok(Self::new(Kind::Kernel, "it was asked for")),
            Support::No(reason) | Support::Unknown(reason) => {
                Self::kernel_by_token(&token_path()).map_err(|_| EngineError { reason })
            }
        }
    }

    /// The kernel engine by the rights that a bpf file system delegates to this user namespace
    /// (Linux 6.9). [`Engine::kernel`] looks at the one that `LIBBPF_BPF_TOKEN_PATH` names, by default
    /// at `/sys/fs/bpf`.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when nothing is mounted there, or nothing delegated.
    pub fn kernel_by_token(bpffs: &Path) -> Result<Self, EngineError> {
        let fail = |e: SysError| EngineError {
            reason: format!("no BPF token of {}: {e}: {}", bpffs.display(), e.source),
        };
        Token::create(bpffs).map_err(fail)?;
        let why = format!("{} delegates the right to load programs", bpffs.display());
        Ok(Self { token: Some(bpffs.into()), ..Self::new(Kind::Kernel, &why) })
    }

    fn new(kind: Kind, why: &str) -> Self {
        Self { kind, why: why.into(), token: None }
    }

    /// A token for one load.
    pub(crate) fn token(&self) -> Result<Option<Arc<Token>>, SysError> {
        self.token.as_deref().map(|bpffs| Token::create(bpffs).map(Arc::new)).transpose()
    }

    /// The kernel engine where it can be used, else the embedded one.
    pub fn auto() -> Self {
        match Self::kernel() {
            Ok(engine) if engine.token.is_some() => engine,
            Ok(engine) => {
                Self { why: "this process may load programs into the kernel".into(), ..engine }
            }
            Err(e) => Self::embedded_because(&e.to_string()),
        }
    }

    /// The embedded engine, chosen for this reason.
    pub fn embedded_because(why: &str) -> Self {
        Self::new(Kind::Embedded, why)
    }

    /// `embedded` or `kernel`.
    pub const fn name(&self) -> &'static str {
        match self.kind {
            Kind::Embedded => "embedded",
            Kind::Kernel => "kernel",
        }
    }

    /// Why it is this one, in a line.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// What it can do.
    pub const fn features(&self) -> Features {
        let kernel = matches!(self.kind, Kind::Kernel);
        Features { hooks: kernel, acts_on_packets: kernel, needs_rights: kernel }
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_gives_its_reason() {
        let engine = Engine::auto();
        assert_eq!(engine.features().needs_rights, engine.name() == "kernel");
        assert!(!engine.why().is_empty() && !engine.why().contains('\n'), "{}", engine.why());
    }
}
