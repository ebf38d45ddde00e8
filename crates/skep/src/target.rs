//! Which kernel an object is resolved for.

use skep_btf::Btf;
use skep_kernel::target;
use skep_object::{
    ObjectSpec, ResolveError, Resolved, Symbols, Target, resolve,
    spec::{ExternKind, ProgramSpec},
};

use crate::engine::Kind;

/// Linux 4.17: from here on system calls get their arguments through a wrapper where the
/// architecture has one.
const SYSCALL_WRAPPER: u32 = 4 << 16 | 17 << 8;
/// Linux 5.15: perf events carry a cookie.
const BPF_COOKIE: u32 = 5 << 16 | 15 << 8;

/// Resolves `spec` for an engine. `named` is the kernel that the user named; else it is the running
/// one, as far as something needs it. Where that has no types, the embedded engine takes the
/// object's own: nothing there has another layout.
pub(crate) fn resolve_for(
    kind: Kind,
    spec: ObjectSpec,
    named: Option<Btf>,
) -> Result<Resolved, ResolveError> {
    let needs_types = |p: &ProgramSpec| p.autoload && !p.core_relos.is_empty();
    let btf = match named {
        Some(btf) => Some(btf),
        None if spec.programs.iter().any(needs_types) => {
            let own = || spec.btf.clone().filter(|_| kind == Kind::Embedded);
            target::vmlinux_btf().ok().or_else(own)
        }
        None => None,
    };
    let wants_config = spec.externs.iter().any(|e| matches!(e.kind, ExternKind::Kconfig { .. }));
    let kconfig = if wants_config { target::kconfig().ok() } else { None };
    let kernel_version = target::kernel_version();
    let wrapped = cfg!(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "s390x",
        target_arch = "riscv64"
    ));
    let target = Target {
        btf: btf.as_ref(),
        modules: &[],
        kernel_version,
        kconfig: kconfig.as_ref(),
        has_bpf_cookie: kernel_version >= BPF_COOKIE,
        has_syscall_wrapper: wrapped && kernel_version >= SYSCALL_WRAPPER,
        symbols: match kind {
            Kind::Embedded => Symbols::Absent,
            Kind::Kernel => Symbols::Engine,
        },
    };
    resolve(spec, &target)
}
