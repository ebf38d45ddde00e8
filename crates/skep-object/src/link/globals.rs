//! Global symbols: which definition counts, and whether all files mean the same.
//!
//! A strong definition wins over weak ones, the first weak one over the others, any definition
//! over externs. One strong use makes the symbol strong, one hidden use hides it.

use std::collections::HashMap;

use super::compat::{self, Compared};
use super::error::{LinkError, Side, Sides};
use super::input::{File, is_global};
use super::sections::Sections;
use crate::elf::{Bind, Place, Symbol};
use crate::error::ObjectError;
use crate::maps::BTF_MAPS;

/// Sections of externs that the running system provides.
const BY_SYSTEM: [&str; 2] = [".ksyms", ".kconfig"];

/// A place where a file uses a symbol: numbers of file and symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) file: usize,
    pub(super) symbol: usize,
}

/// A symbol that files share by its name.
#[derive(Debug)]
pub(super) struct Global<'a> {
    pub(super) name: &'a str,
    uses: Vec<Use>,
    /// The use that counts: the definition, or for externs that which says most.
    pub(super) chosen: Use,
    pub(super) weak: bool,
    pub(super) hidden: bool,
}

/// All of them, in the order of their first use.
#[derive(Debug, Default)]
pub(super) struct Globals<'a> {
    pub(super) list: Vec<Global<'a>>,
    by_name: HashMap<&'a str, usize>,
}

impl<'a> Globals<'a> {
    /// Resolves the symbols of all files.
    pub(super) fn resolve(files: &[File<'a>], sections: &Sections) -> Result<Self, LinkError> {
        let mut all = Self::default();
        for (number, file) in files.iter().enumerate() {
            for (at, symbol) in file.elf.symbols.iter().enumerate().filter(|(_, s)| is_global(s)) {
                let here = match symbol.place {
                    Place::Undefined => true,
                    Place::Section(section) => {
                        inside(file, symbol, section)?;
                        sections.of(number, section).is_some()
                    }
                    Place::Special(_) => false,
                };
                if here {
                    all.add(symbol.name, Use { file: number, symbol: at });
                }
            }
        }
        let mut compared = Compared::default();
        for global in &mut all.list {
            choose(files, global)?;
            for other in global.uses.iter().filter(|&&other| other != global.chosen) {
                compare(files, global, *other, &mut compared)?;
            }
        }
        Ok(all)
    }

    fn add(&mut self, name: &'a str, place: Use) {
        let next = self.list.len();
        let at = *self.by_name.entry(name).or_insert(next);
        if at == next {
            let uses = Vec::new();
            self.list.push(Global { name, uses, chosen: place, weak: false, hidden: false });
        }
        if let Some(global) = self.list.get_mut(at) {
            global.uses.push(place);
        }
    }

    /// The number of the symbol of this name.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The use of a symbol that counts.
    pub(super) fn chosen(&self, name: &str) -> Option<Use> {
        self.number(name).and_then(|at| self.list.get(at)).map(|global| global.chosen)
    }

    /// Externs that neither a file nor the running system provides.
    pub(super) fn unresolved(&self, files: &[File<'a>]) -> Vec<String> {
        let open = |global: &&Global<'_>| {
            let Some((file, symbol)) = at(files, global.chosen) else { return false };
            let by_system = file.section_of(symbol).is_some_and(|s| BY_SYSTEM.contains(&s));
            symbol.place == Place::Undefined && !by_system
        };
        let open = self.list.iter().filter(open);
        let mut names: Vec<_> = open.map(|global| global.name.to_owned()).collect();
        names.sort();
        names
    }
}

/// The file and symbol of a use.
pub(super) fn at<'f, 'a>(
    files: &'f [File<'a>],
    place: Use,
) -> Option<(&'f File<'a>, &'f Symbol<'a>)> {
    let file = files.get(place.file)?;
    Some((file, file.elf.symbols.get(place.symbol)?))
}

/// Is the symbol inside its section?
fn inside(file: &File<'_>, symbol: &Symbol<'_>, section: usize) -> Result<(), LinkError> {
    let available = file.elf.sections.get(section).map_or(0, |s| s.size);
    if symbol.value.checked_add(symbol.size).is_some_and(|end| end <= available) {
        return Ok(());
    }
    let source = ObjectError::SymbolOutside {
        name: symbol.name.to_owned(),
        value: symbol.value,
        size: symbol.size,
        place: file.elf.place_name(symbol.place),
        available,
    };
    Err(LinkError::Object { file: file.name.to_owned(), source })
}

/// Finds the use that counts, and how the symbol is bound.
fn choose(files: &[File<'_>], global: &mut Global<'_>) -> Result<(), LinkError> {
    let mut best: Option<(Use, u32)> = None;
    let mut strong: Option<Use> = None;
    global.weak = true;
    for &place in &global.uses {
        let Some((file, symbol)) = at(files, place) else { continue };
        let defined = symbol.place != Place::Undefined;
        if defined && symbol.bind == Bind::Global {
            if let Some(first) = strong {
                return Err(twice(files, global.name, first, place));
            }
            strong = Some(place);
        }
        global.weak &= symbol.bind == Bind::Weak;
        global.hidden |= symbol.hidden;
        let rank = match (defined, symbol.bind, file.section_of(symbol)) {
            (true, Bind::Global, _) => 3,
            (true, ..) => 2,
            (false, _, Some(_)) => 1,
            (false, _, None) => 0,
        };
        if best.is_none_or(|(_, known)| rank > known) {
            best = Some((place, rank));
        }
    }
    global.chosen = best.map_or(global.chosen, |(place, _)| place);
    Ok(())
}

fn twice(files: &[File<'_>], symbol: &str, first: Use, second: Use) -> LinkError {
    let side = |place| match at(files, place) {
        Some((file, symbol)) => side(file, &file.elf.place_name(symbol.place)),
        None => Side { file: String::new(), says: String::new() },
    };
    let sides = Box::new(Sides { first: side(first), second: side(second) });
    LinkError::Twice { symbol: symbol.to_owned(), sides }
}

fn side(file: &File<'_>, says: &str) -> Side {
    Side { file: file.name.to_owned(), says: says.to_owned() }
}

/// Does a file mean the same by a symbol as that which counts?
fn compare(
    files: &[File<'_>],
    global: &Global<'_>,
    other: Use,
    compared: &mut Compared,
) -> Result<(), LinkError> {
    let Some(((file, symbol), (other_file, other_symbol))) =
        at(files, global.chosen).zip(at(files, other))
    else {
        return Ok(());
    };
    let name = || global.name.to_owned();
    let section = file.section_of(symbol);
    if let (Some(first), Some(second)) = (section, other_file.section_of(other_symbol))
        && other_symbol.place == Place::Undefined
        && first != second
    {
        let sides = Sides { first: side(file, first), second: side(other_file, second) };
        return Err(LinkError::Place { symbol: name(), sides: Box::new(sides) });
    }
    let types = (file.described(global.name), other_file.described(global.name));
    let ((btf, first), (other_btf, second)) = match types {
        (Some(first), Some(second)) => (first, second),
        // Without types nothing can be compared; that is how files are that were not compiled
        // with any.
        (None, None) => return Ok(()),
        (first, _) => {
            let (without, with) = match first {
                None => (file, other_file),
                Some(_) => (other_file, file),
            };
            return Err(LinkError::NoType {
                symbol: name(),
                file: without.name.to_owned(),
                other: with.name.to_owned(),
            });
        }
    };
    let problem = if section == Some(BTF_MAPS) {
        let of = |file: &File<'_>, btf, id| {
            compat::map(btf, global.name, id).map_err(|problem| LinkError::Map {
                file: file.name.to_owned(),
                map: name(),
                problem,
            })
        };
        let (a, b) = (of(file, btf, first.id)?, of(other_file, other_btf, second.id)?);
        compared.map_mismatch((global.chosen.file, btf, &a), (other.file, other_btf, &b))
    } else {
        let first = (global.chosen.file, btf, first.id);
        compared.mismatch(first, (other.file, other_btf, second.id))
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(LinkError::Types {
            symbol: name(),
            first: file.name.to_owned(),
            second: other_file.name.to_owned(),
            problem,
        }),
    }
}
