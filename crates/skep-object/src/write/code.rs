//! Instructions: programs and subprograms back into sections, references back into relocations.
//!
//! A program carries copies of the subprograms it reaches; in the file each is there once, in
//! `.text`. Two copies are the same function when name, instructions and references agree.

use std::collections::HashMap;

use skep_btf::Builder;
use skep_btf::ext::{CoreRelo, ExtSection, FuncInfo, LineInfo};
use skep_isa::Slot;

use super::WriteError;
use super::elf::{ALLOC, Bind, EXEC, Kind, SectionId, Symbol, SymbolId, Writer};
use crate::functions::TEXT;
use crate::reference::{CALL, LDDW, PSEUDO_CALL, PSEUDO_FUNC, R_BPF_64_32, R_BPF_64_64};
use crate::spec::{ProgramSpec, RelocTarget, Subprog};

/// What an engine's reference becomes in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    pub(super) symbol: SymbolId,
    pub(super) addend: i32,
}

/// What an instruction refers to, before places are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reference {
    /// A function of the same program: its position in [`ProgramSpec::subprogs`].
    Function(usize),
    Live(RelocTarget),
}

/// A function as it will stand in the file.
#[derive(Debug)]
struct Function {
    name: String,
    local: bool,
    slots: Vec<Slot>,
    /// By slot; functions by their number in [`Code::functions`].
    references: Vec<(usize, Reference)>,
    funcs: Vec<(usize, FuncInfo)>,
    lines: Vec<(usize, LineInfo)>,
    relos: Vec<(usize, CoreRelo)>,
    /// Section and symbol, once placed.
    section: usize,
    start: usize,
}

/// All code of the file.
#[derive(Debug, Default)]
pub(super) struct Code {
    functions: Vec<Function>,
    /// Sections in file order: name, functions.
    sections: Vec<(String, Vec<usize>)>,
    /// Position in `sections` by name.
    section_of: HashMap<String, usize>,
    /// Number of the function of each program.
    entries: Vec<usize>,
    /// Subprograms by name, to find copies; a program's own function is never one.
    by_name: HashMap<String, Vec<usize>>,
}

impl Code {
    /// Takes a program apart.
    pub(super) fn add(
        &mut self,
        program: &ProgramSpec,
        types: &mut Builder,
    ) -> Result<(), WriteError> {
        let mut parts = Vec::with_capacity(program.subprogs.len());
        for subprog in &program.subprogs {
            parts.push(cut(program, subprog, types)?);
        }
        let equal = self.find_copies(&parts);
        let mut numbers = Vec::with_capacity(parts.len());
        let mut next = self.functions.len();
        for (at, part) in parts.iter().enumerate() {
            let known = equal.get(at).copied().flatten().filter(|_| at > 0);
            numbers.push(known.unwrap_or(next));
            if known.is_none() {
                let section = if at == 0 { program.section.as_str() } else { TEXT };
                if at > 0 {
                    self.by_name.entry(part.name.clone()).or_default().push(next);
                }
                self.put(section, next);
                next += 1;
            }
        }
        for (at, mut part) in parts.into_iter().enumerate() {
            let number = numbers.get(at).copied().unwrap_or(0);
            if at == 0 {
                self.entries.push(number);
            }
            if number != self.functions.len() {
                continue;
            }
            for (_, reference) in &mut part.references {
                if let Reference::Function(local) = reference {
                    *local = numbers.get(*local).copied().unwrap_or(0);
                }
            }
            self.functions.push(part);
        }
        Ok(())
    }

    fn put(&mut self, section: &str, function: usize) {
        let known = self.section_of.get(section).and_then(|&at| self.sections.get_mut(at));
        match known {
            Some((_, functions)) => functions.push(function),
            None => {
                self.section_of.insert(section.to_owned(), self.sections.len());
                self.sections.push((section.to_owned(), vec![function]));
            }
        }
    }

    /// For each part the function that it is a copy of, if any. A part whose callee is new is
    /// new itself.
    fn find_copies(&self, parts: &[Function]) -> Vec<Option<usize>> {
        let same_text = |a: &Function, b: &Function| {
            a.name == b.name
                && a.local == b.local
                && a.slots == b.slots
                && a.funcs == b.funcs
                && a.lines == b.lines
                && a.relos == b.relos
                && a.references.len() == b.references.len()
        };
        let mut copies: Vec<Option<usize>> = parts
            .iter()
            .map(|part| {
                let candidates = self.by_name.get(&part.name)?;
                candidates
                    .iter()
                    .copied()
                    .find(|&n| self.functions.get(n).is_some_and(|f| same_text(f, part)))
            })
            .collect();
        // Drop what refers to something else, until nothing changes.
        loop {
            let differs = |at: usize| {
                let (Some(Some(n)), Some(part)) = (copies.get(at), parts.get(at)) else {
                    return false;
                };
                let Some(function) = self.functions.get(*n) else { return true };
                !part.references.iter().zip(&function.references).all(|(a, b)| {
                    a.0 == b.0
                        && match (a.1, b.1) {
                            (Reference::Function(local), Reference::Function(known)) => {
                                copies.get(local).copied().flatten() == Some(known)
                            }
                            (a, b) => a == b,
                        }
                })
            };
            let Some(at) = (0..parts.len()).find(|&at| differs(at)) else { return copies };
            if let Some(copy) = copies.get_mut(at) {
                *copy = None;
            }
        }
    }

    /// Writes sections, symbols and relocations. Returns the symbols of the programs and what
    /// `.BTF.ext` says.
    pub(super) fn write(
        mut self,
        elf: &mut Writer,
        targets: &dyn Fn(RelocTarget) -> Option<Target>,
    ) -> Result<(Vec<SymbolId>, Vec<ExtSection>), WriteError> {
        for (section, (_, functions)) in self.sections.iter().enumerate() {
            let mut start = 0;
            for &number in functions {
                let function = self.functions.get_mut(number).expect("numbers of the same table");
                (function.section, function.start) = (section, start);
                start += function.slots.len();
            }
        }
        let mut ids: Vec<SectionId> = Vec::with_capacity(self.sections.len());
        // Sections must exist before symbols do, their bytes are known only after those.
        for (name, functions) in &self.sections {
            let slots = functions.iter().filter_map(|&n| self.functions.get(n));
            let len: usize = slots.map(|f| f.slots.len()).sum();
            ids.push(elf.section(name, ALLOC | EXEC, vec![0; len * 8])?);
        }
        let mut symbols = Vec::with_capacity(self.functions.len());
        for function in &self.functions {
            let section = ids.get(function.section).copied();
            symbols.push(elf.symbol(Symbol {
                name: function.name.clone(),
                kind: Kind::Func,
                bind: if function.local { Bind::Local } else { Bind::Global },
                section,
                value: function.start as u64 * 8,
                size: function.slots.len() as u64 * 8,
                hidden: false,
            }));
        }
        let mut ext = Vec::with_capacity(self.sections.len());
        for ((name, functions), &id) in self.sections.iter().zip(&ids) {
            let mut info = ExtSection { name: name.clone(), ..ExtSection::default() };
            let mut slots = Vec::new();
            for &number in functions {
                let function = self.functions.get(number).expect("numbers of the same table");
                let mut own = function.slots.clone();
                for &(at, reference) in &function.references {
                    let slot = own.get_mut(at).expect("references are at instructions");
                    let (target, kind) = match reference {
                        Reference::Function(callee) => {
                            self.function_target(callee, slot.code, &ids, &symbols, elf)
                        }
                        Reference::Live(live) => (
                            targets(live).ok_or(WriteError::Reference {
                                program: function.name.clone(),
                                slot: at,
                            })?,
                            if slot.code == LDDW { R_BPF_64_64 } else { R_BPF_64_32 },
                        ),
                    };
                    slot.imm = target.addend;
                    let offset = (function.start + at) as u64 * 8;
                    elf.relocate(id, offset, target.symbol, kind);
                }
                slots.extend(own);
                let offset = |at: usize| {
                    u32::try_from((function.start + at) * 8).expect("sections are below 4 GiB")
                };
                info.func_info.extend(
                    function.funcs.iter().map(|&(at, r)| FuncInfo { insn_off: offset(at), ..r }),
                );
                info.line_info.extend(
                    function.lines.iter().map(|&(at, r)| LineInfo { insn_off: offset(at), ..r }),
                );
                info.core_relos.extend(
                    function.relos.iter().map(|&(at, r)| CoreRelo { insn_off: offset(at), ..r }),
                );
            }
            elf.set_data(id, slots.into_iter().flat_map(Slot::to_le_bytes).collect());
            ext.push(info);
        }
        let entries = self.entries.iter().filter_map(|&n| symbols.get(n).copied());
        Ok((entries.collect(), ext))
    }

    /// The relocation of a call or address of a function, as clang writes it: static functions
    /// through the symbol of their section.
    fn function_target(
        &self,
        callee: usize,
        code: u8,
        ids: &[SectionId],
        symbols: &[SymbolId],
        elf: &mut Writer,
    ) -> (Target, u32) {
        let function = self.functions.get(callee).expect("numbers of the same table");
        let start = i32::try_from(function.start).expect("sections are below 4 GiB");
        let (symbol, place) = match function.local {
            true => {
                let section = ids.get(function.section).copied().expect("sections were made");
                (elf.section_symbol(section), start)
            }
            false => (symbols.get(callee).copied().expect("symbols were made"), 0),
        };
        match code {
            LDDW => (Target { symbol, addend: place * 8 }, R_BPF_64_64),
            _ => (Target { symbol, addend: place - 1 }, R_BPF_64_32),
        }
    }
}

/// One function of a program with its references by name rather than by distance.
fn cut(
    program: &ProgramSpec,
    subprog: &Subprog,
    types: &mut Builder,
) -> Result<Function, WriteError> {
    let start = subprog.start.index();
    let end = start.saturating_add(subprog.len as usize);
    let wrong = |slot: usize| WriteError::Reference { program: program.name.clone(), slot };
    let mut slots = program.insns.get(start..end).ok_or_else(|| wrong(start))?.to_vec();
    let starts: HashMap<i64, usize> =
        (0..).zip(&program.subprogs).map(|(n, s)| (i64::from(s.start.0), n)).collect();
    let live: HashMap<usize, RelocTarget> = program
        .relocs
        .iter()
        .filter(|r| (start..end).contains(&r.at.index()))
        .map(|r| (r.at.index() - start, r.target))
        .collect();

    let mut references = Vec::new();
    let mut at = 0;
    while let Some(&slot) = slots.get(at) {
        let wide = slot.code == LDDW;
        let function =
            (slot.code == CALL && slot.src == PSEUDO_CALL) || (wide && slot.src == PSEUDO_FUNC);
        if let Some(&target) = live.get(&at) {
            references.push((at, Reference::Live(target)));
            let change = slots.get_mut(at).expect("just read");
            change.src = if wide { 0 } else { PSEUDO_CALL };
            if wide {
                slots.get_mut(at + 1).ok_or_else(|| wrong(start + at))?.imm = 0;
            }
        } else if function {
            let here = i64::try_from(start + at).unwrap_or(i64::MAX);
            let callee = starts.get(&(here + i64::from(slot.imm) + 1));
            references.push((at, Reference::Function(*callee.ok_or_else(|| wrong(start + at))?)));
            slots.get_mut(at).expect("just read").imm = 0;
        }
        at += if wide { 2 } else { 1 };
    }
    let here = |at: skep_isa::Pc| (start..end).contains(&at.index()).then(|| at.index() - start);
    let mut function = Function {
        name: subprog.name.clone(),
        // An entry program is global whatever its own functions are.
        local: subprog.local && start != 0,
        slots,
        references,
        funcs: Vec::new(),
        lines: Vec::new(),
        relos: Vec::new(),
        section: 0,
        start: 0,
    };
    for info in &program.func_info {
        let record = FuncInfo { insn_off: 0, type_id: info.type_id };
        function.funcs.extend(here(info.at).map(|at| (at, record)));
    }
    for info in &program.line_info {
        let record = LineInfo {
            insn_off: 0,
            file_name_off: info.file_off,
            line_off: info.line_off,
            line_col: info.line_col,
        };
        function.lines.extend(here(info.at).map(|at| (at, record)));
    }
    for relo in &program.core_relos {
        let Some(at) = here(relo.at) else { continue };
        let access_off = types.string(&relo.access);
        let (type_id, kind) = (relo.type_id, relo.kind);
        function.relos.push((at, CoreRelo { insn_off: 0, type_id, access_off, kind }));
    }
    Ok(function)
}
