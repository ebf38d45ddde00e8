//! The types of all files: merged, their sections made anew, what is the same once.

use std::collections::HashMap;

use skep_btf::ext::{BtfExt, CoreRelo, ExtSection, FuncInfo, LineInfo};
use skep_btf::{Btf, Builder, Dedup, Kind, KindTag, Linkage, SecVar, TypeId};

use super::LinkError;
use super::globals::{Globals, Use};
use super::input::{File, global_name};
use super::sections::{Placed, Sections};

/// Types, and what instructions have to do with them.
pub(super) struct Merged {
    pub(super) btf: Vec<u8>,
    pub(super) ext: Option<Vec<u8>>,
}

/// Merges the types of all files; nothing when no file has any.
pub(super) fn merge(
    files: &[File<'_>],
    sections: &Sections,
    globals: &Globals<'_>,
) -> Result<Option<Merged>, LinkError> {
    if files.iter().all(|file| file.btf.is_none()) {
        return Ok(None);
    }
    let merge = Merge { files, sections, globals, ids: numbers(files, globals) };
    let mut types = Builder::new();
    for (number, file) in files.iter().enumerate() {
        let Some(btf) = &file.btf else { continue };
        for id in btf.ids().filter(|&id| merge.is_own(number, id)) {
            types.copy_type(btf, id, |old| merge.id(number, old));
        }
    }
    for (name, size, variables) in merge.sections()? {
        types.data_sec(&name, size, &variables);
    }
    let mut dedup = types.finish().map_err(LinkError::Btf)?.dedup();
    let records = merge.records(&mut dedup)?;
    let ext = (!records.sections.is_empty()).then(|| records.to_bytes(&mut dedup.types));
    let btf = dedup.types.finish().map_err(LinkError::Btf)?.to_bytes();
    Ok(Some(Merged { btf, ext }))
}

/// What becomes of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It gets this number.
    Own(TypeId),
    /// Another file's variable or function of the same name counts.
    Other(Use),
    /// It is about nothing that is left.
    Gone,
}

struct Merge<'f, 'a> {
    files: &'f [File<'a>],
    sections: &'f Sections,
    globals: &'f Globals<'a>,
    /// By file and type.
    ids: Vec<Vec<Fate>>,
}

/// Decides about all types: sections are made anew, variables and functions that another file
/// defines are that file's.
fn numbers(files: &[File<'_>], globals: &Globals<'_>) -> Vec<Vec<Fate>> {
    let mut next = 1;
    let mut all = Vec::with_capacity(files.len());
    for (number, file) in files.iter().enumerate() {
        let Some(btf) = &file.btf else {
            all.push(Vec::new());
            continue;
        };
        let mut fates = vec![Fate::Gone; btf.len()];
        let fate = |id| match btf.kind_tag(id) {
            None | Some(KindTag::DataSec) => Fate::Gone,
            _ => match global_name(btf, id).map(|name| globals.chosen(name).ok_or(name)) {
                None => Fate::Own(TypeId::VOID),
                // Of a licence that another file has, too.
                Some(Err(_)) => Fate::Gone,
                Some(Ok(chosen)) if chosen.file == number => Fate::Own(TypeId::VOID),
                Some(Ok(chosen)) => Fate::Other(chosen),
            },
        };
        for id in btf.ids() {
            if let Some(place) = fates.get_mut(id.0 as usize) {
                *place = fate(id);
            }
        }
        for id in btf.ids() {
            let Some(Kind::DeclTag(tag)) = btf.get(id).map(|t| t.kind) else { continue };
            if fates.get(tag.target.0 as usize) == Some(&Fate::Gone)
                && let Some(place) = fates.get_mut(id.0 as usize)
            {
                *place = Fate::Gone;
            }
        }
        for fate in &mut fates {
            if let Fate::Own(id) = fate {
                *id = TypeId(next);
                next += 1;
            }
        }
        all.push(fates);
    }
    all
}

impl Merge<'_, '_> {
    fn fate(&self, file: usize, id: TypeId) -> Fate {
        let known = self.ids.get(file).and_then(|ids| ids.get(id.0 as usize));
        known.copied().unwrap_or(Fate::Gone)
    }

    fn is_own(&self, file: usize, id: TypeId) -> bool {
        matches!(self.fate(file, id), Fate::Own(_))
    }

    /// The number of a type among all.
    fn id(&self, file: usize, old: TypeId) -> TypeId {
        match self.fate(file, old) {
            Fate::Own(id) => id,
            Fate::Other(chosen) => self.described(chosen).unwrap_or(TypeId::VOID),
            Fate::Gone => TypeId::VOID,
        }
    }

    /// The number of the variable or function that counts.
    fn described(&self, chosen: Use) -> Option<TypeId> {
        let file = self.files.get(chosen.file)?;
        let (_, described) = file.described(file.elf.symbols.get(chosen.symbol)?.name)?;
        match self.fate(chosen.file, described.id) {
            Fate::Own(id) => Some(id),
            _ => None,
        }
    }

    /// Is this variable or function of a file the one that counts?
    fn counts(&self, file: usize, name: &str, id: TypeId) -> bool {
        let described = self.files.get(file).and_then(|f| f.described(name));
        described.is_some_and(|(_, described)| described.id == id)
            && self.globals.chosen(name).is_some_and(|chosen| chosen.file == file)
    }

    /// The sections that types describe, in the order in which files have them: name, size and
    /// variables by offset.
    fn sections(&self) -> Result<Vec<(String, u32, Vec<SecVar>)>, LinkError> {
        let mut order: Vec<(String, u32, Vec<SecVar>)> = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        for (number, file) in self.files.iter().enumerate() {
            let Some(btf) = &file.btf else { continue };
            for id in btf.ids().filter(|&id| btf.kind_tag(id) == Some(KindTag::DataSec)) {
                let name = btf.name(id).unwrap_or_default();
                let found = match file.elf.section_named(name) {
                    Some(section) => match self.sections.of(number, section.index) {
                        Some(placed) => self.variables(number, btf, section.index, placed)?,
                        None => continue,
                    },
                    None => self.externs(number, btf, id),
                };
                let at = *by_name.entry(name.to_owned()).or_insert(order.len());
                if at == order.len() {
                    order.push((name.to_owned(), 0, Vec::new()));
                }
                if let Some((.., variables)) = order.get_mut(at) {
                    variables.extend(found);
                }
            }
        }
        order.retain(|(name, _, vars)| self.sections.named(name).is_some() || !vars.is_empty());
        for (name, size, variables) in &mut order {
            variables.sort_by_key(|v| v.offset);
            let output = self.sections.named(name).and_then(|at| self.sections.outputs.get(at));
            *size = output.map_or(0, |output| u32::try_from(output.size).unwrap_or(u32::MAX));
        }
        Ok(order)
    }

    /// The variables of a section of a file that is in the result.
    fn variables(
        &self,
        number: usize,
        btf: &Btf,
        section: usize,
        placed: Placed,
    ) -> Result<Vec<SecVar>, LinkError> {
        let layout = self.files.get(number).and_then(|file| file.layout.of_section(section));
        let mut found = Vec::new();
        for v in layout.map_or(&[][..], |layout| &layout.vars) {
            let linkage = match btf.get(v.var).map(|t| t.kind) {
                Some(Kind::Var(var)) => var.linkage,
                _ => continue,
            };
            let here = linkage == Linkage::STATIC || self.counts(number, &v.name, v.var);
            if !here {
                continue;
            }
            let offset = match linkage {
                Linkage::EXTERN => Some(0),
                _ => u32::try_from(placed.offset + u64::from(v.offset)).ok(),
            };
            let offset = offset.ok_or_else(|| LinkError::TooLarge {
                what: format!("the offset of {}", v.name),
                limit: u64::from(u32::MAX),
            })?;
            found.push(SecVar { var: self.id(number, v.var), offset, size: v.size });
        }
        Ok(found)
    }

    /// The externs of a section that only types know, as far as no file defines them.
    fn externs(&self, number: usize, btf: &Btf, id: TypeId) -> Vec<SecVar> {
        let Some(Kind::DataSec(datasec)) = btf.get(id).map(|t| t.kind) else { return Vec::new() };
        let open = |entry: &SecVar| {
            global_name(btf, entry.var).is_some_and(|name| self.counts(number, name, entry.var))
        };
        let entries = datasec.vars.iter().filter(open);
        entries.map(|entry| SecVar { var: self.id(number, entry.var), ..entry }).collect()
    }

    /// The records of all files, where their instructions are now.
    fn records(&self, dedup: &mut Dedup) -> Result<BtfExt, LinkError> {
        let mut all = BtfExt::default();
        // Every section of a file may name all of its text again.
        let bytes = |file: &File<'_>| file.btf_bytes.saturating_mul(1 + file.ext.sections.len());
        let mut room: usize = self.files.iter().map(bytes).sum();
        let mut by_name: HashMap<&str, usize> = HashMap::new();
        for (number, file) in self.files.iter().enumerate() {
            let Some(btf) = &file.btf else { continue };
            for records in &file.ext.sections {
                let section = file.elf.section_named(&records.name);
                let Some(placed) = section.and_then(|s| self.sections.of(number, s.index)) else {
                    continue;
                };
                let next = all.sections.len();
                let at = *by_name.entry(&records.name).or_insert(next);
                if at == next {
                    let name = records.name.clone();
                    all.sections.push(ExtSection { name, ..ExtSection::default() });
                }
                let moved = self.moved(number, btf, records, placed, (dedup, &mut room))?;
                if let Some(section) = all.sections.get_mut(at) {
                    section.func_info.extend(moved.func_info);
                    section.line_info.extend(moved.line_info);
                    section.core_relos.extend(moved.core_relos);
                }
            }
        }
        Ok(all)
    }

    /// Copies the records of a section of a file; `room` is what their strings may take.
    fn moved(
        &self,
        number: usize,
        btf: &Btf,
        records: &ExtSection,
        placed: Placed,
        (dedup, room): (&mut Dedup, &mut usize),
    ) -> Result<ExtSection, LinkError> {
        let too_large = || LinkError::TooLarge {
            what: format!("section {} of all files", records.name),
            limit: u64::from(u32::MAX),
        };
        let at = |old: u32| u32::try_from(placed.offset + u64::from(old)).map_err(|_| too_large());
        let mut out = ExtSection::default();
        for r in &records.func_info {
            let type_id = dedup.id(self.id(number, r.type_id));
            out.func_info.push(FuncInfo { insn_off: at(r.insn_off)?, type_id });
        }
        let mut strings: HashMap<u32, u32> = HashMap::new();
        let mut string = |types: &mut Builder, old: u32| {
            if let Some(&known) = strings.get(&old) {
                return Ok(known);
            }
            let text = btf.string(old).unwrap_or_default();
            // Strings may overlap; those of compilers do not.
            let limit = self.files.iter().map(|file| file.btf_bytes as u64).sum();
            *room = room.checked_sub(text.len() + 1).ok_or_else(|| LinkError::TooLarge {
                what: format!("the text of .BTF.ext for section {}", records.name),
                limit,
            })?;
            let new = types.string(text);
            strings.insert(old, new);
            Ok(new)
        };
        for r in &records.line_info {
            let file_name_off = string(&mut dedup.types, r.file_name_off)?;
            let line_off = string(&mut dedup.types, r.line_off)?;
            let insn_off = at(r.insn_off)?;
            out.line_info.push(LineInfo { insn_off, file_name_off, line_off, ..*r });
        }
        for r in &records.core_relos {
            let access_off = string(&mut dedup.types, r.access_off)?;
            let type_id = dedup.id(self.id(number, r.type_id));
            let insn_off = at(r.insn_off)?;
            out.core_relos.push(CoreRelo { insn_off, type_id, access_off, ..*r });
        }
        Ok(out)
    }
}
