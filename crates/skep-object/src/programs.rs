//! Programs: an entry function with every subprogram it reaches appended behind it, calls and
//! addresses relocated.
//!
//! The order is libbpf's: at the first call of a subprogram it is appended, and its own calls
//! are followed before those behind the call. Recursion is allowed here; a verifier decides.

use std::collections::{BTreeMap, HashMap};

use skep_abi::section;
use skep_isa::{Pc, Slot};

use crate::elf::{Elf, Place, Rel};
use crate::error::{ObjectError, RelocProblem};
use crate::functions::{FuncIndex, Function, Functions};
use crate::info::SectionInfo;
use crate::reference::{CALL, LDDW, Names, PSEUDO_CALL, PSEUDO_FUNC, Reference};
use crate::spec::{ProgramSpec, Reloc, RelocTarget, Subprog};

/// Most slots of one program: what a kernel takes from a privileged user.
pub(crate) const MAX_PROGRAM_SLOTS: usize = 1_000_000;
/// Bytes that the programs of a file may take, whatever its size, and for each of its bytes:
/// programs repeat the subprograms they share, and functions may have many names.
const MAX_BYTES: (usize, usize) = (32 << 20, 64);

/// `src` of a call of a kernel function.
const PSEUDO_KFUNC_CALL: u8 = 2;
/// `src` of a `lddw` of a map.
const PSEUDO_MAP_FD: u8 = 1;
/// `src` of a `lddw` of an address in a map's value.
const PSEUDO_MAP_VALUE: u8 = 2;

/// Everything a program is made of.
pub(crate) struct Linker<'a, 'd> {
    pub(crate) elf: &'a Elf<'d>,
    pub(crate) functions: &'a Functions<'d>,
    pub(crate) names: &'a Names,
    /// Relocations of each code section by slot.
    pub(crate) rels: HashMap<usize, BTreeMap<usize, Rel>>,
    /// BTF.ext records of each code section.
    pub(crate) info: HashMap<usize, SectionInfo>,
}

impl Linker<'_, '_> {
    /// Every entry program of the file.
    pub(crate) fn programs(&self) -> Result<Vec<ProgramSpec>, ObjectError> {
        let (fixed, each) = MAX_BYTES;
        let file_size = self.elf.file_size;
        let limit = file_size.saturating_mul(each).saturating_add(fixed);
        let mut left = limit;
        let mut programs = Vec::new();
        for (index, function) in self.functions.entries() {
            let program = self.program(index, function, &mut left)?;
            programs.push(program.ok_or(ObjectError::OutOfProportion {
                what: "the object",
                limit,
                file_size,
            })?);
        }
        Ok(programs)
    }

    /// One program; `None` when it takes more than the bytes that are left.
    fn program(
        &self,
        entry: FuncIndex,
        function: &Function<'_>,
        left: &mut usize,
    ) -> Result<Option<ProgramSpec>, ObjectError> {
        let section = self.elf.place_name(Place::Section(function.section));
        // The target of a program is a part of its section's name.
        let own = size_of::<ProgramSpec>() + function.name.len() + section.len() * 2;
        let Some(rest) = left.checked_sub(own) else { return Ok(None) };
        let (_, autoload) = section::split_autoload(&section);
        let found = section::find(&section);
        let mut unit = Unit {
            linker: self,
            spec: ProgramSpec {
                name: function.name.to_owned(),
                prog_type: found.map(|m| m.def.prog_type),
                attach_type: found.and_then(|m| m.def.attach_type),
                attach_to: found.and_then(|m| m.target).map(str::to_owned),
                flags: found.map_or(0, |m| m.def.flags.load_flags()),
                autoload,
                section,
                insns: Vec::new(),
                subprogs: Vec::new(),
                relocs: Vec::new(),
                core_relos: Vec::new(),
                func_info: Vec::new(),
                line_info: Vec::new(),
                poisoned: Vec::new(),
            },
            placed: HashMap::new(),
            left: Some(rest),
        };
        unit.link(entry)?;
        unit.spec.relocs.sort_by_key(|r| r.at);
        let spec = unit.left.map(|rest| {
            *left = rest;
            unit.spec
        });
        Ok(spec)
    }
}

/// A program while it is put together.
struct Unit<'a, 'b, 'd> {
    linker: &'a Linker<'b, 'd>,
    spec: ProgramSpec,
    /// Where each function starts.
    placed: HashMap<FuncIndex, usize>,
    /// Bytes that it may still take; `None` when it wanted more.
    left: Option<usize>,
}

/// A function whose instructions are being followed.
#[derive(Clone, Copy)]
struct Walk {
    function: FuncIndex,
    /// Where it starts in the program.
    base: usize,
    /// Next slot within the function.
    next: usize,
}

impl Unit<'_, '_, '_> {
    fn link(&mut self, entry: FuncIndex) -> Result<(), ObjectError> {
        let base = self.place(entry)?;
        let mut stack = vec![Walk { function: entry, base, next: 0 }];
        while let Some(walk) = stack.pop().filter(|_| self.left.is_some()) {
            // A newly placed function goes first; the caller continues behind its call.
            if let Some((rest, callee)) = self.follow(walk)? {
                stack.push(rest);
                stack.push(callee);
            }
        }
        Ok(())
    }

    /// Takes bytes from what the program may have. Once there are too few, nothing is added.
    fn take(&mut self, bytes: usize) -> bool {
        self.left = self.left.and_then(|left| left.checked_sub(bytes));
        self.left.is_some()
    }

    /// Appends a function's instructions and what BTF.ext knows of them.
    fn place(&mut self, index: FuncIndex) -> Result<usize, ObjectError> {
        let function = self.linker.functions.get(index).expect("index comes from the same table");
        let base = self.spec.insns.len();
        if base + function.len() > MAX_PROGRAM_SLOTS {
            return Err(ObjectError::TooLarge {
                what: format!("program {}", self.spec.name),
                limit: MAX_PROGRAM_SLOTS,
            });
        }
        let info = self.linker.info.get(&function.section);
        let own = size_of::<Subprog>() + size_of::<(FuncIndex, usize)>() + function.name.len();
        let slots = function.len() * size_of::<Slot>();
        if !self.take(own + slots + info.map_or(0, |info| info.weight(function))) {
            return Ok(base);
        }
        let (slots, _) = function.code.as_chunks::<8>();
        self.spec.insns.extend(slots.iter().map(|&bytes| Slot::from_le_bytes(bytes)));
        self.spec.subprogs.push(Subprog {
            name: function.name.to_owned(),
            start: pc(base),
            len: pc(function.len()).0,
            local: function.local,
        });
        self.placed.insert(index, base);
        if let Some(info) = info {
            info.append(function, base, &mut self.spec);
        }
        Ok(base)
    }

    /// Relocates instructions until one needs a function that is not placed yet: then what is
    /// left of this walk, and the walk of that function.
    fn follow(&mut self, mut walk: Walk) -> Result<Option<(Walk, Walk)>, ObjectError> {
        let function = *self.linker.functions.get(walk.function).expect("placed before");
        let rels = self.linker.rels.get(&function.section);
        while walk.next < function.len() {
            let at = walk.base + walk.next;
            let in_section = function.start + walk.next;
            let rel = rels.and_then(|rels| rels.get(&in_section));
            let slot = *self.spec.insns.get(at).expect("the function was placed whole");
            let wide = slot.code == LDDW;
            walk.next += if wide { 2 } else { 1 };
            if wide && walk.next > function.len() && rel.is_some() {
                return Err(self.reloc_error(&function, in_section, RelocProblem::NoInsn));
            }
            if wide && rels.is_some_and(|rels| rels.contains_key(&(in_section + 1))) {
                return Err(self.reloc_error(&function, in_section + 1, RelocProblem::NoInsn));
            }
            let Some(callee) = self.relocate(&function, in_section, at, slot, rel)? else {
                continue;
            };
            let (base, new) = match self.placed.get(&callee) {
                Some(&base) => (base, false),
                None => (self.place(callee)?, true),
            };
            if self.left.is_none() {
                return Ok(None);
            }
            let distance =
                i64::try_from(base).unwrap_or(i64::MAX) - i64::try_from(at).unwrap_or(i64::MAX) - 1;
            let imm = i32::try_from(distance).expect("programs are shorter than 2^31 slots");
            self.set(at, |slot| slot.imm = imm);
            if new {
                return Ok(Some((walk, Walk { function: callee, base, next: 0 })));
            }
        }
        Ok(None)
    }

    /// Applies the relocation of one instruction. Returns the function it refers to, if any.
    fn relocate(
        &mut self,
        function: &Function<'_>,
        in_section: usize,
        at: usize,
        slot: Slot,
        rel: Option<&Rel>,
    ) -> Result<Option<FuncIndex>, ObjectError> {
        let local_call = slot.code == CALL && slot.src == PSEUDO_CALL;
        let Some(rel) = rel else {
            let imm = i64::from(slot.imm);
            return match (local_call, slot.code == LDDW && slot.src == PSEUDO_FUNC) {
                (true, _) => {
                    let target = i64::try_from(in_section).unwrap_or(i64::MAX) + imm + 1;
                    self.callee(function, in_section, function.section, target).map(Some)
                }
                (_, true) => Err(ObjectError::CallTarget {
                    section: self.section_name(function.section),
                    insn: in_section,
                    to: "no section".to_owned(),
                    target: imm,
                }),
                _ => Ok(None),
            };
        };
        let reference = self
            .linker
            .names
            .resolve(self.linker.elf, rel, slot)
            .map_err(|problem| self.reloc_error(function, in_section, problem))?;
        match (reference, slot.code) {
            (Reference::Function { section, slot: target }, CALL) if local_call => {
                let target = target + i64::from(slot.imm) + 1;
                self.callee(function, in_section, section, target).map(Some)
            }
            (Reference::Function { section, slot: target }, LDDW) => {
                let target = target + i64::from(slot.imm / 8);
                let callee = self.callee(function, in_section, section, target)?;
                self.set(at, |slot| slot.src = PSEUDO_FUNC);
                Ok(Some(callee))
            }
            (Reference::Live(target @ RelocTarget::Kfunc(_)), CALL) => {
                self.set(at, |slot| (slot.src, slot.imm) = (PSEUDO_KFUNC_CALL, 0));
                self.record(at, target)
            }
            (Reference::Live(RelocTarget::Kfunc(index)), LDDW) => {
                self.set_wide(at, 0, 0, 0);
                self.record(at, RelocTarget::Ksym(index))
            }
            (Reference::Live(target), LDDW) => {
                match target {
                    RelocTarget::Map(_) => self.set_wide(at, PSEUDO_MAP_FD, 0, 0),
                    RelocTarget::MapValue { offset, .. } => {
                        self.set_wide(at, PSEUDO_MAP_VALUE, 0, offset.cast_signed());
                    }
                    RelocTarget::Ksym(_) | RelocTarget::Kfunc(_) => self.set_wide(at, 0, 0, 0),
                }
                self.record(at, target)
            }
            (_, code) => {
                let problem = RelocProblem::Kind { kind: rel.kind, code };
                Err(self.reloc_error(function, in_section, problem))
            }
        }
    }

    fn record(&mut self, at: usize, target: RelocTarget) -> Result<Option<FuncIndex>, ObjectError> {
        if self.take(size_of::<Reloc>()) {
            self.spec.relocs.push(Reloc { at: pc(at), target });
        }
        Ok(None)
    }

    fn callee(
        &self,
        from: &Function<'_>,
        insn: usize,
        section: usize,
        target: i64,
    ) -> Result<FuncIndex, ObjectError> {
        self.linker.functions.at(section, target).ok_or_else(|| ObjectError::CallTarget {
            section: self.section_name(from.section),
            insn,
            to: self.section_name(section),
            target,
        })
    }

    fn set(&mut self, at: usize, change: impl FnOnce(&mut Slot)) {
        change(self.spec.insns.get_mut(at).expect("the instruction was just read"));
    }

    /// Rewrites a `lddw`; `follow` has seen that its second slot is there.
    fn set_wide(&mut self, at: usize, src: u8, imm: i32, second: i32) {
        self.set(at, |slot| (slot.src, slot.imm) = (src, imm));
        self.set(at + 1, |slot| slot.imm = second);
    }

    fn section_name(&self, section: usize) -> String {
        self.linker.elf.place_name(Place::Section(section))
    }

    fn reloc_error(
        &self,
        function: &Function<'_>,
        in_section: usize,
        problem: RelocProblem,
    ) -> ObjectError {
        let rels = self.linker.rels.get(&function.section);
        ObjectError::Reloc {
            section: self.section_name(function.section),
            index: rels.and_then(|r| r.get(&in_section)).map_or(0, |r| r.index),
            offset: in_section as u64 * 8,
            problem,
        }
    }
}

/// A position in a program; programs have at most [`MAX_PROGRAM_SLOTS`].
pub(crate) fn pc(at: usize) -> Pc {
    Pc(u32::try_from(at).expect("programs are shorter than 2^32 slots"))
}
