//! `skep disasm`: programs as text, with source lines and names.

use std::{collections::HashMap, fmt, io::Write, path::PathBuf};

use anyhow::Context as _;
use serde::Serialize;
use skep::{
    Object,
    isa::{CallTarget, Imm64, Insn, Pc, Slot},
    spec::{
        ObjectSpec,
        spec::{LineInfo, ProgramSpec, RelocTarget},
    },
};

use crate::{
    exit::{DONE, usage},
    output::{Format, Out},
    parse::{Hex, hex_arg},
};

/// Print the instructions of an object's programs.
#[derive(Debug, clap::Args)]
pub struct Disasm {
    /// ELF object built for the bpf target.
    #[arg(value_name = "OBJECT", required_unless_present = "hex")]
    object: Option<PathBuf>,
    /// Print these bytes instead of an object's programs.
    #[arg(long, value_name = "HEX", value_parser = hex_arg, conflicts_with = "object")]
    hex: Option<Hex>,
    /// Print only this program; may be repeated.
    #[arg(long, value_name = "NAME", requires = "object")]
    prog: Vec<String>,
    /// Leave the source lines out.
    #[arg(long)]
    no_source: bool,
    /// Show the bytes of each instruction.
    #[arg(long)]
    bytes: bool,
    /// Print JSON, one object per instruction.
    #[arg(long)]
    json: bool,
}

/// One instruction of the output.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "instruction")]
struct Row {
    program: String,
    /// Name of the function that starts here.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    pc: u32,
    bytes: String,
    insn: String,
    /// What the instruction refers to, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<String>,
    /// Where a jump goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<u32>,
    /// The source line that starts here.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<Source>,
    #[serde(skip)]
    show_bytes: bool,
}

#[derive(Debug, Serialize)]
struct Source {
    file: String,
    line: u32,
    text: String,
}

/// What begins a program in text, as a comment: what is printed assembles. JSON repeats the name in
/// every row instead.
#[derive(Serialize)]
struct Head(String);

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = &self.function {
            writeln!(f, "{function}:")?;
        }
        if let Some(source) = &self.source {
            writeln!(f, "; {} ({}:{})", source.text, source.file, source.line)?;
        }
        write!(f, "{:>4}: ", self.pc)?;
        if self.show_bytes {
            // A wide instruction has two slots: the column is as wide as the common single one.
            write!(f, "{:<23} ", self.bytes)?;
        }
        match (&self.names, self.target) {
            (Some(names), _) => write!(f, "{:<32} # {names}", self.insn),
            (None, Some(target)) => write!(f, "{:<32} # to {target}", self.insn),
            (None, None) => f.write_str(&self.insn),
        }
    }
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Disasm {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let mut out = Out::new(out, Format::json_if(self.json));
        let Some(path) = &self.object else {
            let bytes = self.hex.as_ref().map_or(&[][..], |h| &h.0);
            let slots = skep::isa::slots_from_bytes(bytes)?;
            self.listing(&slots, &mut out, |_, _| (None, None, None), "")?;
            return Ok(DONE);
        };
        let object = Object::open(path)?;
        for name in &self.prog {
            object.program(name)?;
        }
        let spec = object.spec();
        let wanted = |p: &&ProgramSpec| self.prog.is_empty() || self.prog.contains(&p.name);
        for program in spec.programs.iter().filter(wanted) {
            if !self.json {
                let (slots, section) = (program.insns.len(), &program.section);
                out.section(&Head(format!("# section {section}, {slots} slots")))?;
            }
            self.program(spec, program, &mut out)?;
        }
        if spec.programs.is_empty() {
            return Err(usage("the object has no programs"));
        }
        Ok(DONE)
    }

    fn program(
        &self,
        spec: &ObjectSpec,
        program: &ProgramSpec,
        out: &mut Out<'_>,
    ) -> anyhow::Result<()> {
        let functions: HashMap<Pc, &str> =
            program.subprogs.iter().map(|s| (s.start, s.name.as_str())).collect();
        let relocs: HashMap<Pc, RelocTarget> =
            program.relocs.iter().map(|r| (r.at, r.target)).collect();
        let lines: HashMap<Pc, &LineInfo> = program.line_info.iter().map(|l| (l.at, l)).collect();
        let about = |pc: Pc, insn: Insn| {
            let function = functions.get(&pc).map(ToString::to_string);
            let source = lines.get(&pc).filter(|_| !self.no_source).and_then(|l| source(spec, l));
            let names = relocs.get(&pc).map(|r| reloc_name(spec, *r));
            let callee = || functions.get(&function_at(pc, insn)?).map(ToString::to_string);
            (function, source, names.or_else(callee))
        };
        self.listing(&program.insns, out, about, &program.name)
            .with_context(|| format!("program {}", program.name))
    }

    fn listing(
        &self,
        slots: &[Slot],
        out: &mut Out<'_>,
        about: impl Fn(Pc, Insn) -> (Option<String>, Option<Source>, Option<String>),
        program: &str,
    ) -> anyhow::Result<()> {
        for (pc, insn) in skep::isa::decode(slots)? {
            let (function, source, names) = about(pc, insn);
            let own = slots.get(pc.index()..).and_then(|s| s.get(..insn.slots() as usize));
            let bytes: Vec<String> = own
                .unwrap_or(&[])
                .iter()
                .flat_map(|s| s.to_le_bytes())
                .map(|b| format!("{b:02x}"))
                .collect();
            out.emit(&Row {
                program: program.into(),
                function,
                pc: pc.0,
                bytes: bytes.join(" "),
                insn: insn.to_string(),
                names: names.or_else(|| helper_name(insn)),
                target: insn.jump_target(pc).map(|to| to.0),
                source,
                show_bytes: self.bytes,
            })?;
        }
        Ok(())
    }
}

fn source(spec: &ObjectSpec, line: &LineInfo) -> Option<Source> {
    let btf = spec.btf.as_ref()?;
    let file = btf.string(line.file_off)?;
    Some(Source {
        // The directory is that of the machine which compiled it.
        file: file.rsplit('/').next().unwrap_or(file).into(),
        line: line.line_col >> 10,
        text: btf.string(line.line_off)?.trim().into(),
    })
}

/// What a relocation refers to, by name.
pub fn reloc_name(spec: &ObjectSpec, target: RelocTarget) -> String {
    let map = |index: usize| spec.maps.get(index).map_or("?", |m| m.name.as_str());
    let external = |index: usize| spec.externs.get(index).map_or("?", |e| e.name.as_str());
    match target {
        RelocTarget::Map(index) => format!("map {}", map(index)),
        RelocTarget::MapValue { map: index, offset } => {
            let variables = spec.maps.get(index).map_or(&[][..], |m| &m.variables);
            let inside = |v: &&skep::spec::spec::VarSpec| {
                offset.checked_sub(v.offset).is_some_and(|d| d < v.size.max(1))
            };
            match variables.iter().find(inside) {
                Some(v) if v.offset == offset => v.name.clone(),
                Some(v) => format!("{}+{}", v.name, offset - v.offset),
                None => format!("{}+{offset}", map(index)),
            }
        }
        RelocTarget::Ksym(index) => format!("ksym {}", external(index)),
        RelocTarget::Kfunc(index) => format!("kfunc {}", external(index)),
    }
}

/// The function of the program that an instruction calls or takes the address of.
fn function_at(pc: Pc, insn: Insn) -> Option<Pc> {
    let off = match insn {
        Insn::Call(CallTarget::Local(off)) => off,
        Insn::LoadImm64 { imm: Imm64::Func(off), .. } => off,
        _ => return None,
    };
    pc.0.checked_add(1)?.checked_add_signed(off).map(Pc)
}

fn helper_name(insn: Insn) -> Option<String> {
    let Insn::Call(CallTarget::Helper(id)) = insn else { return None };
    let proto = skep::abi::helper::proto(id)?;
    Some(proto.name.into())
}
