//! Kernel symbols that programs refer to.

use std::{collections::HashMap, sync::OnceLock};

use skep_btf::{Btf, KindTag};
use skep_object::{
    ObjectSpec,
    spec::{ExternKind, ExternSpec},
};

use crate::{error::LoadError, patch::Fill, target};

/// Looks externs up when a program that is loaded refers to them, not before.
pub(super) struct Externs<'a> {
    externs: &'a [ExternSpec],
    /// All symbols without type at once: the kernel's list is long.
    addresses: OnceLock<HashMap<String, u64>>,
}

impl<'a> Externs<'a> {
    pub(super) fn new(spec: &'a ObjectSpec) -> Self {
        Self { externs: &spec.externs, addresses: OnceLock::new() }
    }

    /// What an `lddw` of a symbol becomes.
    pub(super) fn symbol(&self, program: &str, index: usize) -> Result<Fill, LoadError> {
        let wanted = self.get(program, index)?;
        let (found, what) = match wanted.kind {
            ExternKind::KsymVar => (id(KindTag::Var, wanted)?.map(Fill::KernelVar), "variable"),
            ExternKind::Kfunc => (id(KindTag::Func, wanted)?.map(Fill::KernelVar), "function"),
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
    pub(super) fn function(&self, program: &str, index: usize) -> Result<Fill, LoadError> {
        let wanted = self.get(program, index)?;
        let missing = Fill::MissingKfunc(u32::try_from(index).unwrap_or(u32::MAX));
        id(KindTag::Func, wanted)?
            .map(Fill::Kfunc)
            .or(wanted.weak.then_some(missing))
            .ok_or_else(|| no_symbol(program, "function", wanted))
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

/// Number of an extern in the kernel's BTF. A kernel without BTF has no symbols to offer.
fn id(kind: KindTag, wanted: &ExternSpec) -> Result<Option<u32>, LoadError> {
    let btf: Btf = match target::vmlinux_btf() {
        Ok(btf) => btf,
        Err(_) if wanted.weak => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    // `name___flavor` asks for `name`: libbpf's convention for declaring one symbol several ways.
    let name = wanted.name.split_once("___").map_or(wanted.name.as_str(), |(name, _)| name);
    Ok(btf.find(kind, name).next().map(|id| id.0))
}

fn no_symbol(program: &str, what: &'static str, wanted: &ExternSpec) -> LoadError {
    LoadError::NoSymbol { program: program.to_owned(), what, symbol: wanted.name.clone() }
}
