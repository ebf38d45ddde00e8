//! What relocations of instructions refer to: functions, maps, data, externs.

use std::collections::{HashMap, HashSet};

use skep_isa::Slot;

use crate::elf::{Elf, Place, Rel};
use crate::error::RelocProblem;
use crate::spec::RelocTarget;

/// `lddw` of an address: the addend is in `imm`.
pub(crate) const R_BPF_64_64: u32 = 1;
/// 8 bytes of data.
pub(crate) const R_BPF_64_ABS64: u32 = 2;
/// Call: the addend is in `imm`, in slots.
pub(crate) const R_BPF_64_32: u32 = 10;

/// Opcode of a call.
pub(crate) const CALL: u8 = 0x85;
/// Opcode of the first slot of a 64-bit constant or address.
pub(crate) const LDDW: u8 = 0x18;
/// `src` of a call of a subprogram.
pub(crate) const PSEUDO_CALL: u8 = 1;
/// `src` of a `lddw` of a subprogram's address.
pub(crate) const PSEUDO_FUNC: u8 = 4;

/// What an instruction refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reference {
    /// A place in a code section.
    Function {
        /// Index of the section.
        section: usize,
        /// Slot of the symbol, without the instruction's addend.
        slot: i64,
    },
    /// Something that an engine fills in.
    Live(RelocTarget),
}

/// What symbols can mean, beside functions.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Maps by section and offset.
    pub(crate) maps: HashMap<(usize, u64), usize>,
    /// Sections that hold map definitions.
    pub(crate) map_sections: HashSet<usize>,
    /// The map made of a section of variables, and its size.
    pub(crate) data: HashMap<usize, (usize, u64)>,
    /// Externs by symbol.
    pub(crate) externs: HashMap<usize, RelocTarget>,
}

impl Names {
    /// What the relocation of `slot` refers to.
    pub(crate) fn resolve(
        &self,
        elf: &Elf<'_>,
        rel: &Rel,
        slot: Slot,
    ) -> Result<Reference, RelocProblem> {
        let expected = if slot.code == LDDW { R_BPF_64_64 } else { R_BPF_64_32 };
        if rel.kind != expected {
            return Err(RelocProblem::Kind { kind: rel.kind, code: slot.code });
        }
        let symbol = elf.symbols.get(rel.symbol).expect("relocations are read with their symbols");
        let name = || elf.symbol_name(symbol).to_owned();
        let Place::Section(index) = symbol.place else {
            return match (symbol.place, self.externs.get(&rel.symbol)) {
                (_, Some(&target)) => offset_by(target, slot.imm),
                (Place::Undefined, None) => Err(RelocProblem::NoExtern(name())),
                (place, None) => {
                    Err(RelocProblem::Section { symbol: name(), section: elf.place_name(place) })
                }
            };
        };
        let section = elf.place_name(symbol.place);
        if elf.sections.get(index).is_some_and(crate::elf::Section::is_code) {
            return match i64::try_from(symbol.value) {
                Ok(value) if value % 8 == 0 => {
                    Ok(Reference::Function { section: index, slot: value / 8 })
                }
                _ => Err(RelocProblem::Place(format!(
                    "symbol {} is at {:#x} of {section}, between instructions",
                    name(),
                    symbol.value
                ))),
            };
        }
        if let Some(&(map, size)) = self.data.get(&index) {
            let value = i64::try_from(symbol.value).unwrap_or(i64::MAX);
            let offset = value.saturating_add(i64::from(slot.imm));
            return match u32::try_from(offset) {
                Ok(within) if u64::from(within) <= size => {
                    Ok(Reference::Live(RelocTarget::MapValue { map, offset: within }))
                }
                _ => Err(RelocProblem::OutsideData { section, offset, size }),
            };
        }
        if let Some(&map) = self.maps.get(&(index, symbol.value)) {
            return Ok(Reference::Live(RelocTarget::Map(map)));
        }
        match self.map_sections.contains(&index) {
            true => Err(RelocProblem::NoMap { symbol: name(), section, value: symbol.value }),
            false => Err(RelocProblem::Section { symbol: name(), section }),
        }
    }
}

/// A part of a kconfig string is reached through the instruction's addend.
fn offset_by(target: RelocTarget, addend: i32) -> Result<Reference, RelocProblem> {
    let RelocTarget::MapValue { map, offset } = target else {
        return Ok(Reference::Live(target));
    };
    match offset.checked_add_signed(addend) {
        Some(offset) => Ok(Reference::Live(RelocTarget::MapValue { map, offset })),
        None => Err(RelocProblem::OutsideData {
            section: ".kconfig".to_owned(),
            offset: i64::from(offset) + i64::from(addend),
            size: 0,
        }),
    }
}
