//! Relocations, moved with their sections.
//!
//! Symbols keep their meaning, so only what refers to a section as such changes: the addend
//! that is in the place counts from the section's start, and that moved.

use super::LinkError;
use super::input::{File, is_global};
use super::sections::{Output, Placed, Sections};
use crate::elf::{Place, Rel, SymbolKind};
use crate::reference::{CALL, R_BPF_64_32, R_BPF_64_64, R_BPF_64_ABS64};

/// 4 bytes of data.
const R_BPF_64_ABS32: u32 = 3;

/// A relocation of the result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    /// Number of the output that it changes.
    pub(super) output: usize,
    /// Offset there.
    pub(super) offset: u64,
    /// File and number of the symbol.
    pub(super) file: usize,
    pub(super) symbol: usize,
    pub(super) kind: u32,
}

/// Moves the relocations of all files, and changes the addends of those that need it.
pub(super) fn move_all(
    files: &[File<'_>],
    sections: &mut Sections,
) -> Result<Vec<Moved>, LinkError> {
    let mut all = Vec::new();
    for (number, file) in files.iter().enumerate() {
        for section in &file.elf.sections {
            let Some(placed) = sections.of(number, section.index) else { continue };
            let rels = file.elf.relocations(section.index);
            let wrong = |source| LinkError::Object { file: file.name.to_owned(), source };
            for rel in rels.map_err(wrong)? {
                let fail = |problem: String| LinkError::Reloc {
                    file: file.name.to_owned(),
                    section: section.name.to_owned(),
                    index: rel.index,
                    offset: rel.offset,
                    problem,
                };
                let by = section_offset(file, number, sections, &rel).map_err(fail)?;
                let output = sections.outputs.get_mut(placed.output);
                let output = output.expect("sections are placed in outputs");
                check(section.is_code(), section.size, &rel).map_err(fail)?;
                let offset = placed.offset + rel.offset;
                if by != 0 {
                    add(output, offset, &rel, section.is_code(), by)
                        .ok_or_else(|| fail("its addend does not fit the place".to_owned()))?;
                }
                let (symbol, kind) = (rel.symbol, rel.kind);
                all.push(Moved { output: placed.output, offset, file: number, symbol, kind });
            }
        }
    }
    Ok(all)
}

/// Is there a place of this kind?
fn check(code: bool, size: u64, rel: &Rel) -> Result<(), String> {
    let width = match (code, rel.kind) {
        (true, R_BPF_64_64 | R_BPF_64_32) | (false, R_BPF_64_64 | R_BPF_64_ABS64) => 8,
        (_, R_BPF_64_ABS32) => 4,
        (_, kind) => return Err(format!("kind {kind} is not one that linking knows")),
    };
    if code && !rel.offset.is_multiple_of(8) {
        return Err("no instruction is there".to_owned());
    }
    match rel.offset.checked_add(width).is_some_and(|end| end <= size) {
        true => Ok(()),
        false => Err(format!("it is outside of the section, which has {size} bytes")),
    }
}

/// How far the section moved that a relocation refers to as such; 0 for all other symbols.
fn section_offset(
    file: &File<'_>,
    number: usize,
    sections: &Sections,
    rel: &Rel,
) -> Result<u64, String> {
    let symbol = file.elf.symbols.get(rel.symbol).ok_or("its symbol does not exist")?;
    if symbol.kind == SymbolKind::Other {
        return Err(format!("its symbol {} is of a kind that linking does not know", symbol.name));
    }
    let placed = match symbol.place {
        Place::Undefined if is_global(symbol) => return Ok(0),
        Place::Undefined => return Err(format!("symbol {} names nothing", rel.symbol)),
        Place::Special(n) => return Err(format!("its symbol is in special section {n:#x}")),
        Place::Section(index) => sections.of(number, index).ok_or_else(|| {
            format!("its symbol is in {}, which is left out", file.elf.place_name(symbol.place))
        }),
    };
    let Placed { offset, .. } = placed?;
    Ok(if symbol.kind == SymbolKind::Section { offset } else { 0 })
}

/// Adds to the addend that is in the place.
fn add(output: &mut Output, offset: u64, rel: &Rel, code: bool, by: u64) -> Option<()> {
    let place = output.data.get_mut(usize::try_from(offset).ok()?..)?;
    if !code && rel.kind != R_BPF_64_ABS32 {
        let place = place.first_chunk_mut::<8>()?;
        *place = u64::from_le_bytes(*place).checked_add(by)?.to_le_bytes();
        return Some(());
    }
    let is_call = code && place.first() == Some(&CALL);
    // Of an instruction the second half; a call counts instructions.
    let place = if code { place.get_mut(4..)? } else { place };
    let place = place.first_chunk_mut::<4>()?;
    let by = i32::try_from(if is_call { by / 8 } else { by }).ok()?;
    *place = i32::from_le_bytes(*place).checked_add(by)?.to_le_bytes();
    Some(())
}
