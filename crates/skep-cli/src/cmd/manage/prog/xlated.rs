//! A program's instructions as the kernel runs them, with the names that its BTF, its maps and the
//! kernel's symbols give.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use serde::Serialize;
use skep::{
    isa::{Insn, Slot},
    kernel::inspect,
};

use super::{
    dump::{Loaded, Style, hidden},
    symbols::Calls,
};
use crate::{output::Out, show::hex};

const CALL: u8 = 0x85;
const LDDW: u8 = 0x18;
const MOV: u8 = 0xbf;
/// Offset of a move that makes the address of a per-CPU value.
const PER_CPU: i16 = -1;
/// Sources of a call: helper, function of the program, kernel function.
const HELPER: u8 = 0;
const LOCAL: u8 = 1;
const KFUNC: u8 = 2;
/// Sources of `lddw`: a map, a byte of a map's value.
const MAP: u8 = 1;
const MAP_VALUE: u8 = 2;

/// One instruction.
#[derive(Debug, Serialize)]
struct Row {
    /// The function that starts here.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    /// The source line that starts here.
    #[serde(skip_serializing_if = "Option::is_none")]
    src: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
    pc: usize,
    opcode: u8,
    disasm: String,
    /// The bytes of the instruction.
    #[serde(skip_serializing_if = "Option::is_none")]
    opcodes: Option<String>,
    /// What it refers to, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<String>,
    #[serde(skip)]
    linum: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = &self.function {
            writeln!(f, "{function}:")?;
        }
        if let Some(src) = &self.src {
            write!(f, "; {src}")?;
            match (&self.file, self.line, self.column) {
                (Some(file), Some(line), Some(column)) if self.linum => {
                    writeln!(f, " [{file}:{line}:{column}]")?;
                }
                _ => writeln!(f)?,
            }
        }
        write!(f, "{:4}: ({:02x}) {}", self.pc, self.opcode, self.disasm)?;
        if let Some(names) = &self.names {
            write!(f, "  # {names}")?;
        }
        let Some(opcodes) = &self.opcodes else { return Ok(()) };
        write!(f, "\n     ")?;
        opcodes
            .as_bytes()
            .chunks(2)
            .try_for_each(|pair| write!(f, " {}", std::str::from_utf8(pair).unwrap_or("??")))
    }
}

/// Prints the instructions of a program.
pub(super) fn dump(program: &Loaded, style: Style, out: &mut Out<'_>) -> anyhow::Result<()> {
    let slots = &program.code.xlated;
    if slots.is_empty() {
        return Err(hidden(program.info.id, "instructions"));
    }
    let context = Context::new(program);
    let mut at = 0;
    while let Some(&slot) = slots.get(at) {
        let wide = slot.code == LDDW;
        let mut row = context.row(at, slot);
        context.head(&mut row, style.source);
        row.linum = style.linum;
        if style.opcodes {
            let own = slots.iter().skip(at).take(if wide { 2 } else { 1 });
            row.opcodes = Some(own.map(|s| hex(&s.to_le_bytes())).collect());
        }
        out.emit(&row)?;
        at += if wide { 2 } else { 1 };
    }
    Ok(())
}

/// Distances of all calls into the kernel.
fn distances(slots: &[Slot]) -> BTreeSet<i32> {
    let outside = |s: &&Slot| s.code == CALL && matches!(s.src, HELPER | KFUNC);
    slots.iter().filter(outside).map(|s| s.imm).collect()
}

/// All that names the parts of a program's instructions.
pub(super) struct Context<'a> {
    program: &'a Loaded,
    calls: Calls,
    maps: HashMap<u32, String>,
}

impl<'a> Context<'a> {
    pub(super) fn new(program: &'a Loaded) -> Self {
        let mut maps = HashMap::new();
        for id in &program.info.map_ids {
            if let Ok(Some(map)) = inspect::map(*id) {
                maps.insert(*id, map.name);
            }
        }
        Self { program, calls: Calls::find(&distances(&program.code.xlated)), maps }
    }

    /// An instruction in one line, without its source.
    pub(super) fn line(&self, pc: usize) -> String {
        let slot = self.program.code.xlated.get(pc).copied();
        slot.map_or_else(String::new, |slot| self.row(pc, slot).to_string())
    }

    fn row(&self, pc: usize, slot: Slot) -> Row {
        let next = self.program.code.xlated.get(pc + 1).copied();
        let (disasm, names) = self.text(slot, next);
        Row {
            function: None,
            src: None,
            file: None,
            line: None,
            column: None,
            pc,
            opcode: slot.code,
            disasm,
            opcodes: None,
            names,
            linum: false,
        }
    }

    fn text(&self, slot: Slot, next: Option<Slot>) -> (String, Option<String>) {
        match (slot.code, slot.src) {
            (CALL, HELPER | KFUNC) => match self.calls.name(slot.imm) {
                Some(name) => (format!("call {name}#{}", slot.imm), None),
                // The dump names a tail call by its number, not by a distance.
                None if slot.imm == 12 => ("call bpf_tail_call#12".into(), None),
                None => (format!("call unknown#{}", slot.imm), None),
            },
            // The compiler of the kernel moves the target to the offset.
            (CALL, LOCAL) => {
                let target = if slot.off == 0 { slot.imm } else { i32::from(slot.off) };
                (format!("call pc{target:+}"), None)
            }
            (LDDW, MAP | MAP_VALUE) => {
                let id = slot.imm.cast_unsigned();
                let names = self.maps.get(&id).filter(|n| !n.is_empty());
                let mut text = format!("r{} = map[id:{id}]", slot.dst);
                if slot.src == MAP_VALUE {
                    text += &format!("[0]+{}", next.map_or(0, |n| n.imm));
                }
                (text, names.map(|n| format!("map {n}")))
            }
            // The verifier's own: a pointer to this CPU's copy of a value.
            (MOV, src) if slot.off == PER_CPU => {
                (format!("r{} = &(void __percpu *)(r{src})", slot.dst), None)
            }
            _ => match Insn::decode(slot, next) {
                Ok(insn) => (insn.to_string(), None),
                // The verifier also makes instructions that no program may contain.
                Err(_) => {
                    let bytes = hex(&slot.to_le_bytes());
                    (format!(".slot {bytes}"), Some("an instruction of the kernel's own".into()))
                }
            },
        }
    }

    /// Function and source line, where one starts.
    fn head(&self, row: &mut Row, source: bool) {
        row.function = self.program.function_at(row.pc).map(str::to_owned);
        let Some(btf) = &self.program.btf else { return };
        let here = |at: u32| usize::try_from(at) == Ok(row.pc);
        let lines = self.program.code.lines.iter();
        let Some(line) = lines.filter(|_| source).find(|l| here(l.at)) else { return };
        row.src = btf.string(line.text_off).map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        let file = btf.string(line.file_off).unwrap_or("");
        row.file = Some(file.rsplit('/').next().unwrap_or(file).to_owned());
        (row.line, row.column) = (Some(line.line), Some(line.column));
    }
}
