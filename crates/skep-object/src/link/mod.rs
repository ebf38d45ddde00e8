//! Linking: several objects become one, as by `bpftool gen object`.
//!
//! Sections of one name are put behind each other, externs find the definitions of other files,
//! relocations, types and what is known of instructions move along. Programs are not changed, and
//! nothing is thrown away but what debuggers read: linking a single object gives one that means
//! the same.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let bytes = include_bytes!("../../../../examples/classify.bpf.o");
//! use skep_object::{ObjectSpec, link::{Input, link}};
//!
//! let linked = link(&[Input { name: "classify.bpf.o", bytes }])?;
//! assert!(linked.unresolved.is_empty());
//! let spec = ObjectSpec::parse(&linked.bytes)?;
//! assert_eq!(spec.programs.len(), ObjectSpec::parse(bytes)?.programs.len());
//! # Ok(())
//! # }
//! ```

mod compat;
mod error;
mod globals;
mod input;
mod relocs;
mod sections;
mod types;

use std::collections::HashMap;

pub use error::{LinkError, Side, Sides};

use self::globals::Globals;
use self::input::File;
use self::sections::Sections;
use crate::elf::{Bind as ReadBind, Place, SHT_NOBITS, Symbol as ReadSymbol, SymbolKind};
use crate::write::elf::{Bind, Kind, SectionId, Symbol, SymbolId, Writer};

/// A file to link.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What errors call it.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What linking gave.
#[derive(Clone, Debug)]
pub struct Linked {
    /// The object.
    pub bytes: Vec<u8>,
    /// Externs that no file defines and that are not the kernel's. The object can be linked
    /// further, not loaded.
    pub unresolved: Vec<String>,
}

/// Links files, in their order.
///
/// Time and memory are in proportion to the files' sizes.
///
/// # Errors
///
/// [`LinkError`] with the files, the section or the symbol.
pub fn link(inputs: &[Input<'_>]) -> Result<Linked, LinkError> {
    if inputs.is_empty() {
        return Err(LinkError::Nothing);
    }
    let files = inputs.iter().map(File::read).collect::<Result<Vec<_>, _>>()?;
    let mut sections = Sections::collect(&files)?;
    let globals = Globals::resolve(&files, &sections)?;
    let relocations = relocs::move_all(&files, &mut sections)?;
    let types = types::merge(&files, &sections, &globals)?;

    let mut elf = Writer::default();
    let too_large = |e: crate::write::WriteError| LinkError::TooLarge {
        what: e.to_string(),
        limit: u64::from(u16::MAX),
    };
    let mut ids = Vec::with_capacity(sections.outputs.len());
    for output in &mut sections.outputs {
        let id = match output.kind {
            SHT_NOBITS => elf.zeros(&output.name, output.size),
            _ => elf.section(&output.name, output.flags, std::mem::take(&mut output.data)),
        };
        let id = id.map_err(too_large)?;
        elf.set_align(id, output.align);
        ids.push(id);
    }
    let mut symbols = Symbols { files: &files, sections: &sections, ids: &ids, elf: &mut elf };
    let numbers = symbols.write(&globals);
    for moved in &relocations {
        // Each has one: those that cannot were refused when they were moved.
        let symbol = numbers.get(&(moved.file, moved.symbol)).zip(ids.get(moved.output));
        if let Some((&symbol, &section)) = symbol {
            elf.relocate(section, moved.offset, symbol, moved.kind);
        }
    }
    if let Some(types) = types {
        elf.section(".BTF", 0, types.btf).map_err(too_large)?;
        if let Some(ext) = types.ext {
            elf.section(".BTF.ext", 0, ext).map_err(too_large)?;
        }
    }
    Ok(Linked { bytes: elf.finish(), unresolved: globals.unresolved(&files) })
}

/// Makes the symbols of the result.
struct Symbols<'w, 'f, 'a> {
    files: &'f [File<'a>],
    sections: &'f Sections,
    /// Sections of the result, by output.
    ids: &'f [SectionId],
    elf: &'w mut Writer,
}

impl Symbols<'_, '_, '_> {
    /// Which symbol of the result each symbol of each file is.
    fn write(&mut self, globals: &Globals<'_>) -> HashMap<(usize, usize), SymbolId> {
        let mut shared = Vec::with_capacity(globals.list.len());
        for global in &globals.list {
            let symbol = globals::at(self.files, global.chosen).map(|(_, symbol)| {
                let bind = if global.weak { Bind::Weak } else { Bind::Global };
                let placed = self.place(global.chosen.file, symbol);
                self.elf.symbol(made(symbol, bind, global.hidden, placed))
            });
            shared.push(symbol);
        }
        let mut numbers = HashMap::new();
        for (number, file) in self.files.iter().enumerate() {
            for (at, symbol) in file.elf.symbols.iter().enumerate().skip(1) {
                let found = if input::is_global(symbol) {
                    globals.number(symbol.name).and_then(|n| shared.get(n).copied().flatten())
                } else {
                    self.local(number, symbol)
                };
                if let Some(found) = found {
                    numbers.insert((number, at), found);
                }
            }
        }
        numbers
    }

    /// A symbol of one file alone, if what it names is in the result.
    fn local(&mut self, number: usize, symbol: &ReadSymbol<'_>) -> Option<SymbolId> {
        let placed = self.place(number, symbol)?;
        match symbol.kind {
            SymbolKind::Section => Some(self.elf.section_symbol(placed.0)),
            SymbolKind::Other => None,
            _ => Some(self.elf.symbol(made(symbol, Bind::Local, symbol.hidden, Some(placed)))),
        }
    }

    /// Section and offset of a symbol in the result.
    fn place(&self, number: usize, symbol: &ReadSymbol<'_>) -> Option<(SectionId, u64)> {
        let Place::Section(section) = symbol.place else { return None };
        let placed = self.sections.of(number, section)?;
        let id = self.ids.get(placed.output)?;
        Some((*id, placed.offset.saturating_add(symbol.value)))
    }
}

fn made(
    symbol: &ReadSymbol<'_>,
    bind: Bind,
    hidden: bool,
    placed: Option<(SectionId, u64)>,
) -> Symbol {
    Symbol {
        name: symbol.name.to_owned(),
        kind: match symbol.kind {
            SymbolKind::Object => Kind::Object,
            SymbolKind::Func => Kind::Func,
            SymbolKind::Section => Kind::Section,
            SymbolKind::None | SymbolKind::Other => Kind::None,
        },
        bind: if symbol.bind == ReadBind::Local { Bind::Local } else { bind },
        section: placed.map(|(section, _)| section),
        value: placed.map_or(0, |(_, value)| value),
        size: symbol.size,
        hidden,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ObjectError;
    use crate::write::elf::{ALLOC, WRITE};

    fn linked(bytes: &[u8]) -> Result<Linked, LinkError> {
        link(&[Input { name: "a.o", bytes }])
    }

    /// A file with these sections, all of one name.
    fn with_sections(count: usize, align: u64) -> Vec<u8> {
        let mut elf = Writer::default();
        for _ in 0..count {
            let section = elf.section("things", ALLOC | WRITE, vec![1]).unwrap();
            elf.set_align(section, align);
        }
        elf.finish()
    }

    #[test]
    fn gaps_are_not_larger_than_files_that_people_have() {
        assert!(linked(&with_sections(200, 1 << 16)).is_ok());
        let error = linked(&with_sections(300, 1 << 16)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "what aligns section things and those before it is larger than 16777216"
        );
    }

    #[test]
    fn sections_of_the_same_bytes_are_refused() {
        let mut bytes = with_sections(3, 1);
        let size = bytes.len() as u64;
        let table = u64::from_le_bytes(*bytes[0x28..].first_chunk().unwrap());
        for header in (1..=3).map(|n| usize::try_from(table).unwrap() + n * 64) {
            bytes[header + 24..][..8].fill(0);
            bytes[header + 32..][..8].copy_from_slice(&(size / 2).to_le_bytes());
        }
        let error = linked(&bytes).unwrap_err();
        let LinkError::Object { source: ObjectError::SectionsOverlap { total, .. }, .. } = error
        else {
            panic!("{error}")
        };
        assert!(total > size, "{total}");
    }

    #[test]
    fn names_of_symbols_that_overlap_are_refused() {
        let mut elf = Writer::default();
        let section = elf.section("things", ALLOC | WRITE, vec![0]).unwrap();
        let of = |name: String| Symbol {
            name,
            kind: Kind::Object,
            bind: Bind::Local,
            section: Some(section),
            value: 0,
            size: 1,
            hidden: false,
        };
        let name = "x".repeat(1000);
        for _ in 0..200 {
            elf.symbol(of(name.clone()));
        }
        let error = linked(&elf.finish()).unwrap_err().to_string();
        assert!(error.starts_with("a.o: section .symtab: its names overlap"), "{error}");
    }

    #[test]
    fn a_relocation_to_no_symbol_is_not_left_out() {
        let mut elf = Writer::default();
        let section = elf.section("things", ALLOC | WRITE, vec![0; 8]).unwrap();
        let symbol = elf.section_symbol(section);
        elf.relocate(section, 0, symbol, 2);
        let mut bytes = elf.finish();
        assert!(linked(&bytes).is_ok());
        let rel = (0..bytes.len() - 16)
            .find(|&at| bytes[at..at + 16] == [0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0])
            .unwrap();
        bytes[rel + 12] = 0;
        let error = linked(&bytes).unwrap_err().to_string();
        assert_eq!(error, "a.o: relocation 0 of things at offset 0x0: symbol 0 names nothing");
    }
}
