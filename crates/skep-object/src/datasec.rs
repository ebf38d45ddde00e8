//! Variables of sections: BTF's `DATASEC` joined with the ELF symbols.
//!
//! clang leaves sizes and offsets of a `DATASEC` zero (or a relocation that stripping removes);
//! the loader takes the size from the section and the offsets of global variables from their
//! symbols. Linked objects have them filled in, those of variables that libbpf's linker resolved
//! late wrong: symbols count there, too.

use std::collections::{HashMap, HashSet};

use skep_btf::{Btf, Builder, Kind, KindTag, Linkage, SecVar, TypeId};

use crate::elf::{Elf, Place, Section, Symbol, SymbolKind};
use crate::error::ObjectError;

/// A variable of a section.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: String,
    /// The `VAR`.
    pub(crate) var: TypeId,
    /// Its type.
    pub(crate) type_id: TypeId,
    /// Offset in the section.
    pub(crate) offset: u32,
    /// Bytes.
    pub(crate) size: u32,
    /// `static`, or hidden: not part of the object's interface.
    pub(crate) is_static: bool,
}

/// The variables of one section, by offset.
#[derive(Clone, Debug)]
pub(crate) struct DataSection {
    /// The `DATASEC`.
    pub(crate) type_id: TypeId,
    /// Bytes of the section.
    pub(crate) size: u32,
    pub(crate) vars: Vec<Variable>,
}

/// Every `DATASEC` of an object that is about a section of the file.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    by_section: HashMap<usize, DataSection>,
}

impl Layout {
    /// Joins types and symbols.
    pub(crate) fn new(elf: &Elf<'_>, btf: &Btf) -> Result<Self, ObjectError> {
        let mut symbols: HashMap<&str, &Symbol<'_>> = HashMap::new();
        let globals = elf.symbols.iter().filter(|s| s.kind == SymbolKind::Object);
        for symbol in globals.filter(|s| s.bind != crate::elf::Bind::Local) {
            symbols.entry(symbol.name).or_insert(symbol);
        }
        let mut by_section = HashMap::new();
        for id in btf.ids().filter(|&id| btf.kind_tag(id) == Some(KindTag::DataSec)) {
            let name = btf.name(id).unwrap_or_default();
            let Some(section) = elf.section_named(name) else { continue };
            let read = DataSection::read(btf, id, section, &symbols)?;
            if by_section.insert(section.index, read).is_some() {
                return Err(ObjectError::Data {
                    section: name.to_owned(),
                    problem: "two DATASEC types describe it".to_owned(),
                });
            }
        }
        Ok(Self { by_section })
    }

    /// The types with sizes and offsets of sections filled in, and what is hidden made static.
    ///
    /// `.kconfig` has no section in the file: `kconfig` is the layout that was made for it.
    pub(crate) fn fill(
        &self,
        elf: &Elf<'_>,
        btf: &Btf,
        kconfig: Option<&DataSection>,
    ) -> Result<Btf, ObjectError> {
        let mut types = Builder::from_btf(btf);
        for datasec in self.by_section.values().chain(kconfig) {
            types.set_size(datasec.type_id, datasec.size);
            for (n, v) in datasec.vars.iter().enumerate() {
                let place = SecVar { var: v.var, offset: v.offset, size: v.size };
                types.set_sec_var(datasec.type_id, n, place);
                if v.is_static {
                    types.set_linkage(v.var, Linkage::STATIC);
                }
            }
        }
        // The verifier checks global functions alone, without what their callers know; a hidden
        // one is not meant to be called from elsewhere.
        let hidden = elf.symbols.iter().filter(|s| s.kind == SymbolKind::Func && s.hidden);
        let hidden: HashSet<&str> = hidden.map(|s| s.name).collect();
        if !hidden.is_empty() {
            let functions = btf.ids().filter(|&id| btf.kind_tag(id) == Some(KindTag::Func));
            let own = |id: &TypeId| btf.name(*id).is_some_and(|name| hidden.contains(name));
            functions.filter(own).for_each(|id| types.set_linkage(id, Linkage::STATIC));
        }
        types.finish().map_err(ObjectError::Btf)
    }

    /// The variables of the section with this index.
    pub(crate) fn of_section(&self, index: usize) -> Option<&DataSection> {
        self.by_section.get(&index)
    }
}

impl DataSection {
    fn read(
        btf: &Btf,
        id: TypeId,
        section: &Section<'_>,
        symbols: &HashMap<&str, &Symbol<'_>>,
    ) -> Result<Self, ObjectError> {
        let wrong =
            |problem: String| ObjectError::Data { section: section.name.to_owned(), problem };
        let Some(Kind::DataSec(datasec)) = btf.get(id).map(|t| t.kind) else {
            return Err(wrong(format!("type {id} is not its DATASEC")));
        };
        let size = u32::try_from(section.size)
            .map_err(|_| wrong(format!("it has {} bytes, more than 2^32", section.size)))?;
        let mut vars = Vec::with_capacity(datasec.vars.len());
        for entry in datasec.vars.iter() {
            let ty = btf.get(entry.var);
            let Some((name, Kind::Var(var))) = ty.map(|t| (t.name, t.kind)) else {
                return Err(wrong(format!("type {} in its DATASEC is not a variable", entry.var)));
            };
            let mut offset = entry.offset;
            let mut is_static = var.linkage == Linkage::STATIC;
            if !is_static && var.linkage != Linkage::EXTERN {
                let symbol = symbols
                    .get(name)
                    .filter(|s| s.place == Place::Section(section.index))
                    .ok_or_else(|| wrong(format!("variable {name} has no symbol")))?;
                is_static = symbol.hidden;
                offset = u32::try_from(symbol.value).unwrap_or(u32::MAX);
            }
            // What is declared here lies elsewhere.
            let declared = var.linkage == Linkage::EXTERN;
            if !declared && u64::from(offset) + u64::from(entry.size) > u64::from(size) {
                return Err(wrong(format!(
                    "variable {name} at {offset:#x}+{} is outside of its {size} bytes",
                    entry.size
                )));
            }
            vars.push(Variable {
                name: name.to_owned(),
                var: entry.var,
                type_id: var.ty,
                offset,
                size: entry.size,
                is_static,
            });
        }
        vars.sort_by_key(|v| v.offset);
        Ok(Self { type_id: id, size, vars })
    }
}
