//! A program's instructions as the kernel runs them, with the names that its BTF, its maps and the
//! kernel's symbols give.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use serde::Serialize;
use skep::{
    btf::Btf,
    isa::{Insn, Slot},
    kernel::inspect::{self, Code, Kind},
};

use super::{rights, select, symbols::Calls};
use crate::{exit::Cannot, output::Out};

const CALL: u8 = 0x85;
const LDDW: u8 = 0x18;
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
    pc: usize,
    opcode: u8,
    disasm: String,
    /// What it refers to, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<String>,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = &self.function {
            writeln!(f, "{function}:")?;
        }
        if let Some(src) = &self.src {
            writeln!(f, "; {src}")?;
        }
        write!(f, "{:4}: ({:02x}) {}", self.pc, self.opcode, self.disasm)?;
        self.names.as_ref().map_or(Ok(()), |names| write!(f, "  # {names}"))
    }
}

/// Prints a program by its id.
pub(super) fn dump(id: u32, source: bool, out: &mut Out<'_>) -> anyhow::Result<()> {
    let gone = || select::gone(Kind::Program, id);
    let info = rights("reading a program", inspect::program(id))?.ok_or_else(gone)?;
    let code = rights("reading a program", inspect::code(id))?.ok_or_else(gone)?;
    if code.xlated.is_empty() {
        let missing = format!("the kernel does not show the instructions of program {id}");
        let hint = "they are shown with CAP_PERFMON, or kernel.kptr_restrict = 0".into();
        return Err(Cannot { missing, hint }.into());
    }
    let btf = info.btf_id.and_then(|id| inspect::types(id).ok().flatten());
    let mut maps = HashMap::new();
    for id in &info.map_ids {
        if let Ok(Some(map)) = inspect::map(*id) {
            maps.insert(*id, map.name);
        }
    }
    let context = Context { calls: Calls::find(&distances(&code.xlated)), btf, maps };
    let mut at = 0;
    while let Some(&slot) = code.xlated.get(at) {
        let next = code.xlated.get(at + 1).copied();
        let mut row = context.row(at, slot, next);
        context.head(&code, &mut row, source);
        out.emit(&row)?;
        at += if slot.code == LDDW { 2 } else { 1 };
    }
    Ok(())
}

/// Distances of all calls into the kernel.
fn distances(slots: &[Slot]) -> BTreeSet<i32> {
    let outside = |s: &&Slot| s.code == CALL && matches!(s.src, HELPER | KFUNC);
    slots.iter().filter(outside).map(|s| s.imm).collect()
}

struct Context {
    calls: Calls,
    btf: Option<Btf>,
    maps: HashMap<u32, String>,
}

impl Context {
    fn row(&self, pc: usize, slot: Slot, next: Option<Slot>) -> Row {
        let (disasm, names) = self.text(slot, next);
        let opcode = slot.code;
        Row { function: None, src: None, file: None, line: None, pc, opcode, disasm, names }
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
            _ => match Insn::decode(slot, next) {
                Ok(insn) => (insn.to_string(), None),
                // The verifier also makes instructions that no program may contain.
                Err(_) => {
                    let bytes = crate::show::hex(&slot.to_le_bytes());
                    (format!(".slot {bytes}"), Some("an instruction of the kernel's own".into()))
                }
            },
        }
    }

    /// Function and source line, where one starts.
    fn head(&self, code: &Code, row: &mut Row, source: bool) {
        let Some(btf) = &self.btf else { return };
        let here = |at: u32| usize::try_from(at) == Ok(row.pc);
        let function = code.functions.iter().find(|(at, _)| here(*at));
        row.function = function.and_then(|&(_, ty)| btf.name(ty)).map(str::to_owned);
        let Some(line) = code.lines.iter().find(|l| here(l.at)).filter(|_| source) else { return };
        row.src = btf.string(line.text_off).map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        let file = btf.string(line.file_off).unwrap_or("");
        row.file = Some(file.rsplit('/').next().unwrap_or(file).to_owned());
        row.line = Some(line.line);
    }
}
