//! fentry, fexit and fsession on many functions by one link: Linux 7.2.

use std::{collections::BTreeMap, os::fd::AsFd as _};

use skep_btf::{Btf, Kind, KindTag, TypeId};

use super::{AttachError, Held, Link, elf::glob, kprobe, refused, tracing::word};
use crate::{
    program::Program,
    sys::{self, LinkExtra, LinkTarget, SysError},
    target,
};

/// What a trampoline can pass on: so many arguments (`MAX_BPF_FUNC_ARGS`) of so many bytes.
const MOST_ARGS: usize = 12;
const MOST_ARG_BYTES: u32 = 16;

/// Several functions of the kernel.
#[derive(Clone, Copy, Debug)]
pub struct TracingMulti<'a> {
    /// Their names, or patterns of `*` and `?`. Patterns leave out what cannot be traced.
    pub functions: &'a [&'a str],
    /// What `bpf_get_attach_cookie` gives in the function of the same place in `functions`, or in
    /// all that fit its pattern. Empty for none.
    pub cookies: &'a [u64],
}

/// Attaches a program that was loaded for `fentry.multi`, `fexit.multi` or `fsession.multi`.
///
/// # Errors
///
/// `ENOENT` when no function fits; the kernel's: `EINVAL` when it has no such link, or the program
/// was not loaded for it.
pub fn attach_tracing_multi(program: &Program, on: &TracingMulti<'_>) -> Result<Link, AttachError> {
    let hook = format!("{} {}", word(program.attach_type()), on.functions.join(" "));
    let fail = |source| refused(program, &hook, source);
    let found = ids(on).map_err(fail)?;
    // In the order of numbers, which the kernel has them in too.
    let ids: Vec<u32> = found.keys().map(|id| id.0).collect();
    let some = found.values().any(|&cookie| cookie != 0);
    let cookies: Vec<u64> = if some { found.values().copied().collect() } else { Vec::new() };
    let extra = LinkExtra::TracingMulti { ids: &ids, cookies: &cookies };
    let attach_type = program.attach_type().map_or(0, |t| t.0);
    let none = LinkTarget::Ifindex(0);
    let link = sys::link_create_with(program.as_fd(), none, attach_type, extra).map_err(fail)?;
    Ok(Link::new(Held::Fd(link), hook))
}

/// Numbers of the functions in the kernel's BTF, with their cookies.
fn ids(on: &TracingMulti<'_>) -> Result<BTreeMap<TypeId, u64>, SysError> {
    let none = |hint| SysError::errno_of("BPF_LINK_CREATE", libc::ENOENT, hint);
    let btf = target::vmlinux_btf().map_err(|_| none("the kernel shows no BTF"))?;
    let mut found = BTreeMap::new();
    for (index, &name) in on.functions.iter().enumerate() {
        let cookie = on.cookies.get(index).copied().unwrap_or(0);
        let before = found.len();
        if name.contains(['*', '?']) {
            for id in fitting(&btf, name) {
                found.entry(id).or_insert(cookie);
            }
        } else if let Some(id) = btf.find(KindTag::Func, name).next() {
            found.entry(id).or_insert(cookie);
        }
        if found.len() == before {
            return Err(none("the kernel's BTF has no such function that can be traced"));
        }
    }
    Ok(found)
}

/// Functions that fit a pattern and can be traced, as far as BTF and tracefs tell.
fn fitting(btf: &Btf, pattern: &str) -> Vec<TypeId> {
    // Not readable everywhere; then the kernel is asked for what it may refuse.
    let listed = kprobe::matching(pattern).ok();
    let fits = |id: &TypeId| {
        btf.kind_tag(*id) == Some(KindTag::Func)
            && btf.name(*id).is_some_and(|name| {
                glob(pattern, name)
                    && listed.as_ref().is_none_or(|listed| {
                        listed.binary_search_by(|l| l.as_str().cmp(name)).is_ok()
                    })
            })
            && can_be_traced(btf, *id)
    };
    btf.ids().filter(fits).collect()
}

/// Does a trampoline take a function of this shape?
fn can_be_traced(btf: &Btf, function: TypeId) -> bool {
    let kind = |id| btf.get(id).map(|ty| ty.kind);
    let Some(Kind::Func(function)) = kind(function) else { return false };
    let Some(Kind::FuncProto(proto)) = kind(function.proto) else { return false };
    let bare = |id| btf.skip_mods(id).ok();
    let whole = |id: TypeId| matches!(kind(id), Some(Kind::Struct(_) | Kind::Union(_)));
    let returns = bare(proto.ret).is_some_and(|id| !whole(id));
    let mut args = proto.params.iter();
    let small =
        |id: TypeId| btf.size_of(id).is_ok_and(|bytes| (1..=MOST_ARG_BYTES).contains(&bytes));
    // The last parameter of a variadic function has no type.
    returns && args.len() <= MOST_ARGS && args.all(|arg| arg.ty != TypeId(0) && small(arg.ty))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_testing::require_kernel;

    #[test]
    fn shapes_that_trampolines_take() {
        let btf = target::vmlinux_btf();
        require_kernel!(btf.as_ref().map(drop).map_err(ToString::to_string));
        let btf = btf.unwrap();
        let traced = |name: &str| {
            let id = btf.find(KindTag::Func, name).next();
            id.map(|id| can_be_traced(&btf, id))
        };
        assert_eq!(traced("vfs_open"), Some(true));
        // Variadic.
        for name in ["seq_printf", "_printk"] {
            assert_ne!(traced(name), Some(true), "{name}");
        }
        assert!(!can_be_traced(&btf, TypeId(0)));
        assert!(!can_be_traced(&btf, TypeId(u32::MAX)));
        let several = TracingMulti { functions: &["vfs_open", "no_such_function_*"], cookies: &[] };
        assert_eq!(ids(&several).unwrap_err().errno(), libc::ENOENT);
        let twice = TracingMulti { functions: &["vfs_open", "vfs_read"], cookies: &[7] };
        let mut cookies: Vec<_> = ids(&twice).unwrap().into_values().collect();
        cookies.sort_unstable();
        assert_eq!(cookies, [0, 7]);
    }
}
