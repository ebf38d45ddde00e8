//! Which kernel an object is resolved for.

use skep_btf::Btf;
use skep_kernel::{HereError, target};
use skep_object::{
    ObjectSpec, ResolveError, Resolved, Symbols, Target, resolve,
    spec::{ExternKind, ProgramSpec},
};

use crate::engine::Kind;

/// Why an object cannot be resolved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// It does not fit the running kernel, or that cannot be asked.
    #[error(transparent)]
    Here(#[from] HereError),
    /// It does not fit the target.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
}

/// Resolves `spec` for an engine. `named` is the kernel that the user named; else it is the running
/// one, as far as something needs it. Where that has no types, the embedded engine takes the
/// object's own: nothing there has another layout.
pub(crate) fn resolve_for(
    kind: Kind,
    spec: ObjectSpec,
    named: Option<Btf>,
) -> Result<Resolved, TargetError> {
    if kind == Kind::Kernel {
        return target::resolve_with(spec, named.as_ref()).map_err(|e| match e {
            HereError::Resolve(e) => e.into(),
            e => e.into(),
        });
    }
    let needs_types = |p: &ProgramSpec| p.autoload && !p.core_relos.is_empty();
    let btf = match named {
        None if spec.programs.iter().any(needs_types) => {
            target::kernel_types().ok().or_else(|| spec.btf.clone())
        }
        named => named,
    };
    let wants_config = spec.externs.iter().any(|e| matches!(e.kind, ExternKind::Kconfig { .. }));
    let kconfig = if wants_config { target::kconfig().ok() } else { None };
    let target = Target {
        btf: btf.as_ref(),
        kernel_version: target::kernel_version(),
        kconfig: kconfig.as_ref(),
        symbols: Symbols::Absent,
        ..Target::NONE
    };
    Ok(resolve(spec, &target)?)
}
