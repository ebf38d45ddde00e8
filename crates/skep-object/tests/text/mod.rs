//! A spec as text, one line per fact, for comparison.
#![expect(clippy::indexing_slicing, reason = "a test may panic on a wrong index")]

use std::fmt::Write as _;

use skep_isa::decode;
use skep_object::ObjectSpec;
use skep_object::spec::{
    ExternSpec, InitialValue, MapSpec, ProgramSpec, Reloc, RelocTarget, VarSpec,
};

/// Everything that a spec says, instructions too.
pub(crate) fn of_spec(spec: &ObjectSpec) -> String {
    let mut out = format!("license {:?} version {:?}\n", spec.license, spec.version);
    for map in &spec.maps {
        map_lines(&mut out, spec, map, "");
    }
    for (n, ExternSpec { name, weak, kind, .. }) in spec.externs.iter().enumerate() {
        let weak = if *weak { " weak" } else { "" };
        line(&mut out, format_args!("extern {n} {name}{weak} {kind:?}"));
    }
    for program in &spec.programs {
        program_lines(&mut out, spec, program);
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("strings take everything");
}

fn map_lines(out: &mut String, spec: &ObjectSpec, map: &MapSpec, indent: &str) {
    let MapSpec { name, def, origin, key_type, value_type, pinning, .. } = map;
    line(
        out,
        format_args!(
            "{indent}map {name} {} key {} value {} max {} flags {:#x} extra {} node {} {origin:?} \
             pinning {pinning:?} types {:?} {:?}",
            def.map_type,
            def.key_size,
            def.value_size,
            def.max_entries,
            def.flags.0,
            def.extra,
            def.numa_node,
            key_type.map(|t| t.0),
            value_type.map(|t| t.0),
        ),
    );
    if !map.autocreate {
        line(out, format_args!("{indent}  only when asked for"));
    }
    if let Some(inner) = &map.inner {
        map_lines(out, spec, inner, "  inner ");
    }
    for entry in &map.initial {
        let value = match entry.value {
            InitialValue::Map(at) => format!("map {}", spec.maps[at].name),
            InitialValue::Program(at) => format!("program {}", spec.programs[at].name),
        };
        line(out, format_args!("  [{}] = {value}", entry.index));
    }
    for VarSpec { name, offset, size, .. } in &map.variables {
        line(out, format_args!("  variable {name} at {offset} size {size}"));
    }
    if let Some(data) = map.data.as_ref().filter(|d| d.iter().any(|&b| b != 0)) {
        line(out, format_args!("  data {data:02x?}"));
    }
}

fn program_lines(out: &mut String, spec: &ObjectSpec, program: &ProgramSpec) {
    let ProgramSpec { name, section, prog_type, attach_type, attach_to, flags, autoload, .. } =
        program;
    line(
        out,
        format_args!(
            "program {name} in {section} type {} attach {} to {} flags {flags:#x} autoload \
             {autoload}",
            prog_type.map_or("-".to_owned(), |t| t.to_string()),
            attach_type.map_or("-".to_owned(), |t| t.to_string()),
            attach_to.as_deref().unwrap_or("-"),
        ),
    );
    let insns = decode(&program.insns).expect("clang writes instructions");
    for (pc, insn) in insns {
        for subprog in program.subprogs.iter().filter(|s| s.start == pc) {
            let local = if subprog.local { ", local" } else { "" };
            line(out, format_args!("  {}: {} slots{local}", subprog.name, subprog.len));
        }
        let mut notes = String::new();
        for Reloc { target, .. } in program.relocs.iter().filter(|r| r.at == pc) {
            let text = match *target {
                RelocTarget::Map(at) => format!("map {}", spec.maps[at].name),
                RelocTarget::MapValue { map, offset } => {
                    format!("value of {} + {offset}", spec.maps[map].name)
                }
                RelocTarget::Ksym(at) => format!("symbol {}", spec.externs[at].name),
                RelocTarget::Kfunc(at) => format!("function {}", spec.externs[at].name),
            };
            write!(notes, " ; {text}").expect("strings take everything");
        }
        for relo in program.core_relos.iter().filter(|r| r.at == pc) {
            write!(notes, " ; CO-RE {} [{}] {}", relo.kind, relo.type_id.0, relo.access)
                .expect("strings take everything");
        }
        for func in program.func_info.iter().filter(|f| f.at == pc) {
            let name = spec.btf.as_ref().and_then(|btf| btf.name(func.type_id));
            write!(notes, " ; func {}", name.unwrap_or("?")).expect("strings take everything");
        }
        for info in program.line_info.iter().filter(|l| l.at == pc) {
            let line = info.line_col >> 10;
            write!(notes, " ; line {line}").expect("strings take everything");
        }
        for poison in program.poisoned.iter().filter(|p| p.at == pc) {
            write!(notes, " ; poisoned: {}", poison.reason).expect("strings take everything");
        }
        line(out, format_args!("    {:3}: {insn}{notes}", pc.0));
    }
}
