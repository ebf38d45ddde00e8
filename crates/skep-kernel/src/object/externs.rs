//! Kernel symbols that programs refer to.

use std::{
    collections::HashMap,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    sync::OnceLock,
};

use skep_btf::{Btf, Kind, KindTag, TypeId, core::compatible, essential_name};
use skep_object::{
    ObjectSpec,
    spec::{ExternKind, ExternSpec},
};

use super::kernel::{Found, KernelTypes};
use crate::{
    error::LoadError,
    patch::Fill,
    target::{self, ModuleBtf},
};

/// Looks externs up when a program that is loaded refers to them, not before.
pub(super) struct Externs<'a> {
    externs: &'a [ExternSpec],
    /// The object's types.
    local: Option<&'a Btf>,
    kernel: &'a KernelTypes,
    /// All symbols without type at once: the kernel's list is long.
    addresses: OnceLock<HashMap<String, u64>>,
}

/// The descriptors of module types that one program's calls name by index. Index 0 is the kernel.
#[derive(Debug, Default)]
pub(super) struct FdArray<'a>(Vec<&'a ModuleBtf>);

impl<'a> FdArray<'a> {
    fn index(&mut self, module: &'a ModuleBtf) -> Option<i16> {
        let known = self.0.iter().position(|m| std::ptr::eq(*m, module));
        let at = known.unwrap_or_else(|| {
            self.0.push(module);
            self.0.len() - 1
        });
        i16::try_from(at + 1).ok()
    }

    /// As the kernel takes them; empty without modules. What stands at 0 is not looked at.
    pub(super) fn fds(&self) -> Vec<BorrowedFd<'a>> {
        let modules = self.0.first().into_iter().chain(&self.0).copied();
        modules.map(ModuleBtf::as_fd).collect()
    }
}

impl<'a> Externs<'a> {
    pub(super) fn new(spec: &'a ObjectSpec, kernel: &'a KernelTypes) -> Self {
        let local = spec.btf.as_ref();
        Self { externs: &spec.externs, local, kernel, addresses: OnceLock::new() }
    }

    /// What an `lddw` of a symbol becomes.
    pub(super) fn symbol(&self, program: &str, index: usize) -> Result<Fill, LoadError> {
        let wanted = self.get(program, index)?;
        let by_type = |found: Found<'_>| {
            let module = found.module.map_or(0, |module| module.as_fd().as_raw_fd());
            Fill::KernelVar(found.id.0, module)
        };
        let (found, what) = match wanted.kind {
            ExternKind::KsymVar => (self.variable(program, wanted)?.map(by_type), "variable"),
            ExternKind::Kfunc => (self.kfunc(program, wanted)?.map(by_type), "function"),
            ExternKind::KsymAddr => {
                let address = self.addresses()?.get(&wanted.name);
                (address.copied().map(Fill::Number), "symbol")
            }
            ExternKind::Kconfig { .. } => (None, "option"),
        };
        found
            .or(wanted.weak.then_some(Fill::Number(0)))
            .ok_or_else(|| no_symbol(program, what, wanted))
    }

    /// What a `call` of a kernel function becomes.
    pub(super) fn function(
        &self,
        program: &str,
        index: usize,
        modules: &mut FdArray<'a>,
    ) -> Result<Fill, LoadError> {
        let wanted = self.get(program, index)?;
        let missing = Fill::MissingKfunc(u32::try_from(index).unwrap_or(u32::MAX));
        match self.kfunc(program, wanted)? {
            Some(Found { id, module: None, .. }) => Ok(Fill::Kfunc(id.0, 0)),
            Some(Found { id, module: Some(module), .. }) => {
                let at = modules.index(module).ok_or_else(|| LoadError::Program {
                    program: program.to_owned(),
                    reason: "it calls functions of more modules than a call can name".into(),
                })?;
                Ok(Fill::Kfunc(id.0, at))
            }
            None if wanted.weak => Ok(missing),
            None => Err(no_symbol(program, "function", wanted)),
        }
    }

    /// A typed variable of the kernel; the types must be able to stand for each other.
    fn variable(
        &self,
        program: &str,
        wanted: &'a ExternSpec,
    ) -> Result<Option<Found<'a>>, LoadError> {
        let Some(found) = self.find(KindTag::Var, &wanted.name, wanted)? else { return Ok(None) };
        let type_of = |btf: &Btf, id| match btf.get(id).map(|t| t.kind) {
            Some(Kind::Var(var)) => Some(var.ty),
            _ => None,
        };
        match self.fits(wanted, &found, type_of) {
            true => Ok(Some(found)),
            false => Err(self.mismatch(program, "variable", wanted, &found, type_of)),
        }
    }

    /// A function of the kernel. One of another prototype is as good as none to who can do without.
    fn kfunc(&self, program: &str, wanted: &'a ExternSpec) -> Result<Option<Found<'a>>, LoadError> {
        let name = essential_name(&wanted.name);
        let Some(found) = self.find(KindTag::Func, name, wanted)? else { return Ok(None) };
        let type_of = |btf: &Btf, id| match btf.get(id).map(|t| t.kind) {
            Some(Kind::Func(func)) => Some(func.proto),
            _ => None,
        };
        match self.fits(wanted, &found, type_of) {
            true => Ok(Some(found)),
            false if wanted.weak => Ok(None),
            false => Err(self.mismatch(program, "function", wanted, &found, type_of)),
        }
    }

    fn find(
        &self,
        kind: KindTag,
        name: &str,
        wanted: &ExternSpec,
    ) -> Result<Option<Found<'a>>, LoadError> {
        match self.kernel.find(kind, name) {
            Ok(found) => Ok(found),
            // A kernel without BTF has no symbols to offer.
            Err(_) if wanted.weak => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// May the object's declaration stand for what was found? One without type may.
    fn fits(
        &self,
        wanted: &ExternSpec,
        found: &Found<'_>,
        type_of: impl Fn(&Btf, TypeId) -> Option<TypeId>,
    ) -> bool {
        let Some((local, id)) = self.local.zip(wanted.type_id) else { return true };
        let (mine, theirs) = (type_of(local, id), type_of(&found.btf, found.id));
        let Some((mine, theirs)) = mine.zip(theirs) else { return false };
        // Modifiers of the outermost type do not count.
        let bare = |btf: &Btf, id| btf.skip_mods(id).unwrap_or(id);
        let (mine, theirs) = (bare(local, mine), bare(&found.btf, theirs));
        compatible((local, mine), (&found.btf, theirs)).unwrap_or(false)
    }

    fn mismatch(
        &self,
        program: &str,
        what: &'static str,
        wanted: &ExternSpec,
        found: &Found<'_>,
        type_of: impl Fn(&Btf, TypeId) -> Option<TypeId>,
    ) -> LoadError {
        let text = |btf: &Btf, id: TypeId| {
            type_of(btf, id).map_or_else(String::new, |ty| skep_btf::c::type_text(btf, ty))
        };
        let expected = self.local.zip(wanted.type_id).map(|(btf, id)| text(btf, id));
        LoadError::SymbolType {
            program: program.to_owned(),
            what,
            symbol: wanted.name.clone(),
            expected: expected.unwrap_or_default(),
            found: text(&found.btf, found.id),
        }
    }

    fn get(&self, program: &str, index: usize) -> Result<&'a ExternSpec, LoadError> {
        self.externs.get(index).ok_or_else(|| LoadError::Program {
            program: program.to_owned(),
            reason: format!("extern {index} is not in the object"),
        })
    }

    fn addresses(&self) -> Result<&HashMap<String, u64>, LoadError> {
        if let Some(known) = self.addresses.get() {
            return Ok(known);
        }
        let untyped = self.externs.iter().filter(|e| e.kind == ExternKind::KsymAddr);
        let names: Vec<&str> = untyped.map(|e| e.name.as_str()).collect();
        let found = target::kernel_symbols(&names)?;
        Ok(self.addresses.get_or_init(|| found))
    }
}

fn no_symbol(program: &str, what: &'static str, wanted: &ExternSpec) -> LoadError {
    LoadError::NoSymbol { program: program.to_owned(), what, symbol: wanted.name.clone() }
}
