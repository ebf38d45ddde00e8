//! One of the files to link, read.

use std::collections::HashMap;

use skep_btf::ext::BtfExt;
use skep_btf::{Btf, Kind, KindTag, Linkage, TypeId};

use super::{Input, LinkError};
use crate::datasec::Layout;
use crate::elf::{Elf, Place, Symbol, SymbolKind};
use crate::error::ObjectError;

/// A file that was read.
#[derive(Debug)]
pub(super) struct File<'a> {
    pub(super) name: &'a str,
    pub(super) elf: Elf<'a>,
    pub(super) btf: Option<Btf>,
    pub(super) ext: BtfExt,
    /// Where variables are in their sections.
    pub(super) layout: Layout,
    /// Bytes of its types with their names.
    pub(super) btf_bytes: usize,
    /// What types say of global variables and functions.
    types: HashMap<String, Described>,
}

/// A global variable or function in the types.
#[derive(Clone, Debug)]
pub(super) struct Described {
    /// The `VAR` or `FUNC`.
    pub(super) id: TypeId,
    /// The section that its `DATASEC` names. Externs that say none are in `.extern`, or nowhere.
    pub(super) section: Option<String>,
}

impl<'a> File<'a> {
    pub(super) fn read(input: &Input<'a>) -> Result<Self, LinkError> {
        let wrong = |source| LinkError::Object { file: input.name.to_owned(), source };
        let elf = Elf::parse(input.bytes).map_err(wrong)?;
        let section = |name| elf.section_named(name).filter(|s| !s.data.is_empty());
        let btf = section(".BTF").map(|s| Btf::parse(s.data)).transpose();
        let btf = btf.map_err(|e| wrong(ObjectError::Btf(e)))?;
        let ext = match (&btf, section(".BTF.ext")) {
            (Some(btf), Some(s)) => {
                BtfExt::parse(s.data, btf).map_err(|e| wrong(ObjectError::BtfExt(e)))?
            }
            _ => BtfExt::default(),
        };
        // Names that overlap would need more room each than all have together.
        let most = section(".BTF").map_or(0, |s| s.data.len().saturating_mul(NAME_ROOM));
        if btf.as_ref().is_some_and(|btf| btf.name_bytes(most).is_none()) {
            return Err(LinkError::Section {
                file: input.name.to_owned(),
                section: ".BTF".to_owned(),
                problem: format!("its names overlap: apart they have more than {most} bytes"),
            });
        }
        let names: usize = elf.symbols.iter().map(|symbol| symbol.name.len()).sum();
        let most = input.bytes.len().saturating_mul(NAME_ROOM);
        if names > most {
            return Err(LinkError::Section {
                file: input.name.to_owned(),
                section: ".symtab".to_owned(),
                problem: format!("its names overlap: apart they have {names} bytes, not {most}"),
            });
        }
        let layout = match &btf {
            Some(btf) => Layout::new(&elf, btf).map_err(wrong)?,
            None => Layout::default(),
        };
        let types = btf.as_ref().map_or_else(HashMap::new, described);
        let btf_bytes = section(".BTF").map_or(0, |s| s.data.len());
        Ok(Self { name: input.name, elf, btf, ext, layout, btf_bytes, types })
    }

    /// What the types say of the global of this name.
    pub(super) fn described(&self, name: &str) -> Option<(&Btf, &Described)> {
        self.btf.as_ref().zip(self.types.get(name))
    }

    /// The section that a symbol is in: of an extern that which its type names.
    pub(super) fn section_of(&self, symbol: &Symbol<'_>) -> Option<&str> {
        match symbol.place {
            Place::Undefined => {
                let section = self.types.get(symbol.name)?.section.as_deref();
                section.filter(|name| *name != EXTERN)
            }
            Place::Section(index) => self.elf.sections.get(index).map(|s| s.name),
            Place::Special(_) => None,
        }
    }
}

/// How much longer names may be than the types, or the file, with them.
const NAME_ROOM: usize = 4;

/// Where clang puts extern variables that name no section.
pub(super) const EXTERN: &str = ".extern";

/// Is this something that files may share?
pub(super) fn is_global(symbol: &Symbol<'_>) -> bool {
    use crate::elf::Bind;
    let shared = matches!(symbol.bind, Bind::Global | Bind::Weak) && !symbol.name.is_empty();
    shared && !matches!(symbol.kind, SymbolKind::Section | SymbolKind::Other)
}

/// Global variables and functions by name; of several of one name that in a section.
fn described(btf: &Btf) -> HashMap<String, Described> {
    let mut sections: HashMap<TypeId, TypeId> = HashMap::new();
    for id in btf.ids().filter(|&id| btf.kind_tag(id) == Some(KindTag::DataSec)) {
        let Some(Kind::DataSec(datasec)) = btf.get(id).map(|t| t.kind) else { continue };
        for entry in datasec.vars.iter() {
            sections.entry(entry.var).or_insert(id);
        }
    }
    let mut types: HashMap<String, Described> = HashMap::new();
    for id in btf.ids() {
        let Some(name) = global_name(btf, id) else { continue };
        let section = sections.get(&id).and_then(|&id| btf.name(id)).map(str::to_owned);
        let new = Described { id, section };
        match types.get_mut(name) {
            Some(known) if known.section.is_none() && new.section.is_some() => *known = new,
            Some(_) => {}
            None => drop(types.insert(name.to_owned(), new)),
        }
    }
    types
}

/// The name of a variable or function that is not static.
pub(super) fn global_name(btf: &Btf, id: TypeId) -> Option<&str> {
    let ty = btf.get(id)?;
    let linkage = match ty.kind {
        Kind::Var(var) => var.linkage,
        Kind::Func(func) => func.linkage,
        _ => return None,
    };
    (linkage != Linkage::STATIC).then_some(ty.name)
}
