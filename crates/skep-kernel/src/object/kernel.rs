//! The running kernel's types, looked at when something of an object asks for them.

use std::sync::OnceLock;

use skep_btf::{Btf, KindTag, TypeId};

use crate::{
    error::TargetError,
    target::{self, ModuleBtf},
};

/// The types of the kernel and, once the kernel's own do not suffice, of its modules.
#[derive(Debug, Default)]
pub(super) struct KernelTypes {
    modules: OnceLock<Vec<ModuleBtf>>,
}

/// A type that was found.
#[derive(Clone, Debug)]
pub(super) struct Found<'a> {
    /// Where its number counts: the kernel's types, or a module's on top of them.
    pub(super) btf: Btf,
    pub(super) id: TypeId,
    /// The module that has it; `None` for the kernel itself.
    pub(super) module: Option<&'a ModuleBtf>,
}

impl KernelTypes {
    /// The first type of this kind and name: the kernel's, else a module's own.
    pub(super) fn find(&self, kind: KindTag, name: &str) -> Result<Option<Found<'_>>, TargetError> {
        self.find_in(None, kind, name)
    }

    /// As [`KernelTypes::find`]; only in this module, or in `vmlinux`, when one is named.
    pub(super) fn find_in(
        &self,
        owner: Option<&str>,
        kind: KindTag,
        name: &str,
    ) -> Result<Option<Found<'_>>, TargetError> {
        let kernel = target::vmlinux_btf()?;
        let own = kernel.find(kind, name).next();
        if let Some(id) = own.filter(|_| owner.is_none_or(|owner| owner == "vmlinux")) {
            return Ok(Some(Found { btf: kernel, id, module: None }));
        }
        let modules = self.modules.get_or_init(|| target::modules(&kernel)).iter();
        let mut asked = modules.filter(|module| owner.is_none_or(|owner| owner == module.name));
        Ok(asked.find_map(|module| {
            let id = module.btf.find(kind, name).find(|&id| id >= module.btf.first_id())?;
            Some(Found { btf: module.btf.clone(), id, module: Some(module) })
        }))
    }
}
