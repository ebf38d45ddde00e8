//! BTF.ext records by function, to be rebased where a function lands in a program.

use std::collections::HashMap;
use std::sync::Arc;

use skep_btf::Btf;
use skep_btf::ext::{BtfExt, CoreRelo, ExtSection, FuncInfo, LineInfo};

use crate::elf::Elf;
use crate::error::ObjectError;
use crate::functions::Function;
use crate::programs::pc;
use crate::spec::{self, CoreReloc, ProgramSpec};

/// Longest access string; libbpf stops at 64 numbers.
const MAX_ACCESS: usize = 1024;

/// Records of one code section, sorted by instruction.
#[derive(Debug)]
pub(crate) struct SectionInfo {
    funcs: Vec<(usize, FuncInfo)>,
    lines: Vec<(usize, LineInfo)>,
    relos: Vec<(usize, CoreReloc)>,
}

/// The records of every code section, by its index.
pub(crate) fn by_section(
    elf: &Elf<'_>,
    ext: &BtfExt,
    btf: &Btf,
) -> Result<HashMap<usize, SectionInfo>, ObjectError> {
    let mut all = HashMap::new();
    let mut accesses = HashMap::new();
    for records in &ext.sections {
        // Records of sections that a linker dropped mean nothing.
        let Some(section) = elf.section_named(&records.name).filter(|s| s.is_code()) else {
            continue;
        };
        let info = SectionInfo::new(records, btf, &mut accesses, section.data.len())?;
        all.insert(section.index, info);
    }
    Ok(all)
}

impl SectionInfo {
    fn new(
        records: &ExtSection,
        btf: &Btf,
        accesses: &mut HashMap<u32, Arc<str>>,
        size: usize,
    ) -> Result<Self, ObjectError> {
        let wrong = |what, offset, problem| ObjectError::BtfExtRecord {
            what,
            section: records.name.clone(),
            offset,
            problem,
        };
        let slot = |what, offset: u32| {
            let at = offset as usize;
            match (at.is_multiple_of(8), at < size) {
                (true, true) => Ok(at / 8),
                (false, _) => Err(wrong(what, offset, "not at an instruction")),
                (_, false) => Err(wrong(what, offset, "outside of the section")),
            }
        };
        let mut funcs = Vec::with_capacity(records.func_info.len());
        for &record in &records.func_info {
            funcs.push((slot("function info", record.insn_off)?, record));
        }
        let mut lines = Vec::with_capacity(records.line_info.len());
        for &record in &records.line_info {
            lines.push((slot("line info", record.insn_off)?, record));
        }
        let mut relos = Vec::with_capacity(records.core_relos.len());
        for record in &records.core_relos {
            let what = "CO-RE relocation";
            let at = slot(what, record.insn_off)?;
            let access = access(btf, accesses, record).ok_or_else(|| {
                wrong(what, record.insn_off, "its access string has more than 1024 bytes")
            })?;
            let CoreRelo { type_id, kind, .. } = *record;
            relos.push((at, CoreReloc { at: pc(at), type_id, access, kind }));
        }
        sort_unique(&mut funcs).map_err(|o| wrong("function info", o, "a second one there"))?;
        sort_unique(&mut lines).map_err(|o| wrong("line info", o, "a second one there"))?;
        sort_unique(&mut relos).map_err(|o| wrong("CO-RE relocation", o, "a second one there"))?;
        Ok(Self { funcs, lines, relos })
    }

    /// Bytes that a copy of the records of `function` takes.
    pub(crate) fn weight(&self, function: &Function<'_>) -> usize {
        within(&self.funcs, function).len() * size_of::<spec::FuncInfo>()
            + within(&self.lines, function).len() * size_of::<spec::LineInfo>()
            + within(&self.relos, function).len() * size_of::<CoreReloc>()
    }

    /// Adds the records of `function`, which starts at slot `base` of the program.
    pub(crate) fn append(&self, function: &Function<'_>, base: usize, program: &mut ProgramSpec) {
        let moved = |at: usize| pc(at - function.start + base);
        program.func_info.extend(
            within(&self.funcs, function)
                .iter()
                .map(|&(at, f)| spec::FuncInfo { at: moved(at), type_id: f.type_id }),
        );
        program.line_info.extend(within(&self.lines, function).iter().map(|&(at, l)| {
            spec::LineInfo {
                at: moved(at),
                file_off: l.file_name_off,
                line_off: l.line_off,
                line_col: l.line_col,
            }
        }));
        program.core_relos.extend(
            within(&self.relos, function)
                .iter()
                .map(|(at, r)| CoreReloc { at: moved(*at), ..r.clone() }),
        );
    }
}

/// The access of a record, once for all that name the same string.
fn access(btf: &Btf, known: &mut HashMap<u32, Arc<str>>, record: &CoreRelo) -> Option<Arc<str>> {
    if let Some(access) = known.get(&record.access_off) {
        return Some(Arc::clone(access));
    }
    let access = btf.string(record.access_off).filter(|s| s.len() <= MAX_ACCESS)?;
    let access: Arc<str> = access.into();
    known.insert(record.access_off, Arc::clone(&access));
    Some(access)
}

/// Sorts records by slot; the offset of one that is not alone at its slot.
fn sort_unique<T>(records: &mut [(usize, T)]) -> Result<(), u32> {
    records.sort_by_key(|(at, _)| *at);
    let mut pairs = records.iter().zip(records.iter().skip(1));
    match pairs.find(|((a, _), (b, _))| a == b) {
        Some((&(at, _), _)) => Err(u32::try_from(at * 8).unwrap_or(u32::MAX)),
        None => Ok(()),
    }
}

/// The records of a function.
fn within<'r, T>(records: &'r [(usize, T)], function: &Function<'_>) -> &'r [(usize, T)] {
    let start = records.partition_point(|(at, _)| *at < function.start);
    let end = records.partition_point(|(at, _)| *at < function.start + function.len());
    records.get(start..end).unwrap_or(&[])
}
