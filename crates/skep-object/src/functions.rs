//! Functions: what symbols say about the sections that hold instructions.
//!
//! A global function outside of `.text` is an entry program; every other function is a
//! subprogram, reached by a call or by its address. libbpf wants subprograms in `.text` only;
//! here a static function may stand beside the program that calls it.

use std::collections::HashMap;

use crate::elf::{Bind, Elf, Place, Section, SymbolKind};
use crate::error::ObjectError;

/// Section of subprograms.
pub(crate) const TEXT: &str = ".text";

/// Number of a function in [`Functions`].
pub(crate) type FuncIndex = usize;

/// A function as its symbol describes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Function<'d> {
    pub(crate) name: &'d str,
    /// Index of its section.
    pub(crate) section: usize,
    /// First slot within the section.
    pub(crate) start: usize,
    /// Its instructions, whole slots.
    pub(crate) code: &'d [u8],
    /// Is it a program rather than a subprogram?
    pub(crate) entry: bool,
    /// Is it `static` or hidden?
    pub(crate) local: bool,
}

impl Function<'_> {
    /// Length in slots.
    pub(crate) fn len(&self) -> usize {
        self.code.len() / 8
    }
}

/// Every function of a file, by section and offset.
#[derive(Debug)]
pub(crate) struct Functions<'d> {
    list: Vec<Function<'d>>,
    /// First function at a section and slot.
    by_start: HashMap<(usize, usize), FuncIndex>,
}

impl<'d> Functions<'d> {
    /// Collects the `FUNC` symbols of all code sections.
    pub(crate) fn collect(elf: &Elf<'d>) -> Result<Self, ObjectError> {
        let mut list = Vec::new();
        for symbol in elf.symbols.iter().filter(|s| s.kind == SymbolKind::Func) {
            let Place::Section(index) = symbol.place else { continue };
            let Some(section) = elf.sections.get(index).filter(|s| s.is_code()) else { continue };
            let outside = || ObjectError::SymbolOutside {
                name: symbol.name.to_owned(),
                value: symbol.value,
                size: symbol.size,
                place: section.name.to_owned(),
                available: section.size,
            };
            if !symbol.value.is_multiple_of(8) || !symbol.size.is_multiple_of(8) || symbol.size == 0
            {
                return Err(ObjectError::FunctionUnaligned {
                    name: symbol.name.to_owned(),
                    section: section.name.to_owned(),
                    offset: symbol.value,
                    size: symbol.size,
                });
            }
            let start = usize::try_from(symbol.value).map_err(|_| outside())?;
            let code = usize::try_from(symbol.size)
                .ok()
                .and_then(|size| section.data.get(start..start.checked_add(size)?))
                .ok_or_else(outside)?;
            let entry = section.name != TEXT && symbol.bind != Bind::Local;
            list.push(Function {
                name: symbol.name,
                section: index,
                start: start / 8,
                code,
                entry,
                local: symbol.bind == Bind::Local || symbol.hidden,
            });
        }
        list.sort_by_key(|f| (f.section, f.start));
        check_overlap(elf, &list)?;
        let mut by_start = HashMap::with_capacity(list.len());
        for (index, f) in list.iter().enumerate() {
            by_start.entry((f.section, f.start)).or_insert(index);
        }
        Ok(Self { list, by_start })
    }

    /// The function with this number.
    pub(crate) fn get(&self, index: FuncIndex) -> Option<&Function<'d>> {
        self.list.get(index)
    }

    /// Entry programs, in file order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (FuncIndex, &Function<'d>)> {
        self.list.iter().enumerate().filter(|(_, f)| f.entry)
    }

    /// The function that starts at a slot of a section.
    pub(crate) fn at(&self, section: usize, slot: i64) -> Option<FuncIndex> {
        let slot = usize::try_from(slot).ok()?;
        self.by_start.get(&(section, slot)).copied()
    }

    /// Sections that hold functions.
    pub(crate) fn sections<'e>(&self, elf: &'e Elf<'d>) -> Vec<&'e Section<'d>> {
        let mut indexes: Vec<usize> = self.list.iter().map(|f| f.section).collect();
        indexes.dedup();
        indexes.into_iter().filter_map(|i| elf.sections.get(i)).collect()
    }
}

/// Functions may be the same (aliases) but not share a part: the sum of their sizes would have
/// no bound.
fn check_overlap(elf: &Elf<'_>, sorted: &[Function<'_>]) -> Result<(), ObjectError> {
    for (first, second) in sorted.iter().zip(sorted.iter().skip(1)) {
        let same_section = first.section == second.section;
        let alias = first.start == second.start && first.len() == second.len();
        if same_section && !alias && first.start + first.len() > second.start {
            return Err(ObjectError::FunctionsOverlap {
                first: first.name.to_owned(),
                second: second.name.to_owned(),
                section: elf.place_name(Place::Section(first.section)),
            });
        }
    }
    Ok(())
}
