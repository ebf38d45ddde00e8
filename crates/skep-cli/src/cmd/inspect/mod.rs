//! `skep inspect`: what an object holds and what it asks of a kernel, without loading it.

mod lines;
mod needs;

use std::{io::Write, path::PathBuf};

use skep::{
    Object,
    btf::core::{CoreKind, Resolver, Target},
    spec::{
        ObjectSpec,
        spec::{CoreReloc, ExternKind, MapSpec, ProgramSpec, VarSpec},
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
        section(&mut out, heads, "CO-RE relocations", core(spec))?;
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

fn core(spec: &ObjectSpec) -> impl Iterator<Item = Line> {
    let resolver = spec.btf.as_ref().map(|btf| Resolver::new(btf, Target::new(btf)));
    spec.programs.iter().flat_map(move |p| {
        let describe = |r: &CoreReloc| {
            let kind = CoreKind::from_number(r.kind);
            let text = resolver
                .as_ref()
                .zip(kind)
                .map(|(resolver, kind)| resolver.describe(r.type_id, &r.access, kind));
            Line::Core(CoreLine {
                program: p.name.clone(),
                pc: r.at.0,
                kind: kind.map_or_else(|| r.kind.to_string(), |k| k.to_string()),
                text: text.unwrap_or_default(),
            })
        };
        p.core_relos.iter().map(describe).collect::<Vec<_>>()
    })
}
