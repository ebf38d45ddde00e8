//! `skep inspect`: what an object holds and what it asks of a kernel, without loading it.

mod lines;
mod needs;

use std::{io::Write, path::PathBuf};

use skep::{
    Object,
    btf::{
        Btf,
        core::{CoreKind, CoreValue, Patch, Resolved, Resolver, Target, Width},
    },
    spec::{
        ObjectSpec,
        spec::{ExternKind, MapSpec, ProgramSpec, VarSpec},
    },
};

use self::lines::{CoreLine, ExternLine, Line, MapLine, ObjectLine, ProgramLine, VariableLine};
use crate::{
    exit::DONE,
    output::{Format, Out},
    typename::type_name,
};

/// Show what an object holds: programs, maps, variables, relocations, what it needs of a kernel.
///
/// Nothing is loaded, and no rights are needed.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// ELF object built for the bpf target.
    #[arg(value_name = "OBJECT")]
    object: PathBuf,
    /// Show what each CO-RE relocation becomes on the kernel with these types: a BTF file, an ELF
    /// file with .BTF, or `vmlinux` for the running kernel.
    #[arg(long, value_name = "FILE")]
    btf: Option<PathBuf>,
    /// Print JSON, one object per program, map, variable and so on.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        let object = Object::open(&self.object)?;
        let mut out = Out::new(out, Format::json_if(self.json));
        let spec = object.spec();
        let heads = !self.json;
        out.emit(&Line::Object(ObjectLine::new(object.name(), spec)))?;
        section(&mut out, heads, "programs", spec.programs.iter().map(program))?;
        section(&mut out, heads, "maps", spec.maps.iter().map(|m| map(spec, m)))?;
        let variables = object.variables().map(|(m, v)| variable(&object, m, v));
        section(&mut out, heads, "variables", variables)?;
        section(&mut out, heads, "externs", externs(spec))?;
        let target = self.btf.as_deref().map(crate::btf_file::read).transpose()?;
        section(&mut out, heads, "CO-RE relocations", core(spec, target.as_ref()).into_iter())?;
        section(&mut out, heads, "needs", [Line::Needs(needs::Needs::of(spec))].into_iter())?;
        Ok(DONE)
    }
}

/// Writes lines below a heading; nothing when there are none.
fn section(
    out: &mut Out<'_>,
    heading: bool,
    title: &'static str,
    lines: impl Iterator<Item = Line>,
) -> anyhow::Result<()> {
    let mut lines = lines.peekable();
    if heading && lines.peek().is_some() {
        out.section(&Line::Heading { title })?;
    }
    lines.try_for_each(|line| out.emit(&line))
}

fn program(p: &ProgramSpec) -> Line {
    Line::Program(ProgramLine {
        name: p.name.clone(),
        section: p.section.clone(),
        prog_type: p.prog_type.map(|t| t.to_string()),
        attach_type: p.attach_type.map(|t| t.to_string()),
        attach_to: p.attach_to.clone(),
        autoload: p.autoload,
        slots: p.insns.len(),
        subprograms: p.subprogs.iter().skip(1).map(|s| s.name.clone()).collect(),
    })
}

fn map(spec: &ObjectSpec, m: &MapSpec) -> Line {
    let name = |id| spec.btf.as_ref().zip(id).map(|(btf, id)| type_name(btf, id));
    Line::Map(MapLine {
        name: m.name.clone(),
        map_type: m.def.map_type.to_string(),
        key_bytes: m.def.key_size,
        key_type: name(m.key_type),
        value_bytes: m.def.value_size,
        value_type: if m.data.is_some() { None } else { name(m.value_type) },
        max_entries: m.def.max_entries,
        flags: m.def.flags.0,
        pinning: format!("{:?}", m.pinning).to_lowercase(),
        inner: m.inner.as_deref().map(|i| i.def.map_type.to_string()),
    })
}

fn variable(object: &Object, m: &MapSpec, v: &VarSpec) -> Line {
    let btf = object.spec().btf.as_ref();
    let bytes = object.variable_bytes(&v.name).unwrap_or(&[]);
    let value = btf
        .zip(v.type_id)
        .and_then(|(btf, id)| skep::btf::value::decode(btf, id, bytes).ok())
        .map(crate::show::Show);
    Line::Variable(VariableLine {
        name: v.name.clone(),
        map: m.name.clone(),
        type_name: btf.zip(v.type_id).map(|(btf, id)| type_name(btf, id)),
        bytes: v.size,
        value,
    })
}

fn externs(spec: &ObjectSpec) -> impl Iterator<Item = Line> {
    spec.externs.iter().map(|e| {
        let kind = match e.kind {
            ExternKind::Kconfig { .. } => "kconfig",
            ExternKind::KsymVar => "ksym variable",
            ExternKind::KsymAddr => "ksym address",
            ExternKind::Kfunc => "kernel function",
        };
        Line::Extern(ExternLine { name: e.name.clone(), kind, weak: e.weak })
    })
}

/// The CO-RE relocations; `target` are the types of a kernel to resolve them against.
fn core(spec: &ObjectSpec, target: Option<&Btf>) -> Vec<Line> {
    let Some(btf) = &spec.btf else { return Vec::new() };
    let mut resolver = Resolver::new(btf, Target::new(target.unwrap_or(btf)));
    let mut lines = Vec::new();
    for program in &spec.programs {
        for relo in &program.core_relos {
            let kind = CoreKind::from_number(relo.kind);
            let text = kind.map(|kind| resolver.describe(relo.type_id, &relo.access, kind));
            let resolved = kind.filter(|_| target.is_some()).map(|kind| {
                match resolver.resolve(relo.type_id, &relo.access, kind) {
                    Ok(found) => outcome(found),
                    Err(e) => e.to_string(),
                }
            });
            lines.push(Line::Core(CoreLine {
                program: program.name.clone(),
                pc: relo.at.0,
                kind: kind.map_or_else(|| relo.kind.to_string(), |k| k.to_string()),
                text: text.unwrap_or_default(),
                resolved,
            }));
        }
    }
    lines
}

/// What a relocation becomes: the value, and what it was found to be.
fn outcome(resolved: Resolved) -> String {
    match (resolved.value, resolved.found) {
        (CoreValue::Poison, _) => "not there: must not be reached".into(),
        (CoreValue::Patch(Patch { new, width: Width::Unsafe { .. }, .. }), Some(found)) => {
            format!("{new} by {}; of another size: must not be loaded", found.text)
        }
        (CoreValue::Patch(patch), Some(found)) => format!("{} by {}", patch.new, found.text),
        (CoreValue::Patch(patch), None) => format!("{}, not there", patch.new),
    }
}
