//! What `skep inspect` prints.

use std::fmt;

use serde::Serialize;
use skep::{abi::MapFlags, spec::ObjectSpec};

use super::needs::Needs;
use crate::show::Show;

/// One line of output.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    Object(ObjectLine),
    /// Text only: what the following lines are.
    Heading {
        title: &'static str,
    },
    Program(ProgramLine),
    Map(MapLine),
    Variable(VariableLine),
    Extern(ExternLine),
    #[serde(rename = "core_relocation")]
    Core(CoreLine),
    Needs(Needs),
}

#[derive(Debug, Serialize)]
pub struct ObjectLine {
    object: String,
    license: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    btf_types: usize,
}

impl ObjectLine {
    pub fn new(name: &str, spec: &ObjectSpec) -> Self {
        Self {
            object: name.into(),
            license: spec.license.clone(),
            version: spec.version,
            btf_types: spec.btf.as_ref().map_or(0, |b| b.len().saturating_sub(1)),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct ProgramLine {
    pub name: String,
    pub section: String,
    pub prog_type: Option<String>,
    pub attach_type: Option<String>,
    pub attach_to: Option<String>,
    pub autoload: bool,
    pub slots: usize,
    pub subprograms: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct MapLine {
    pub name: String,
    pub map_type: String,
    pub key_bytes: u32,
    pub key_type: Option<String>,
    pub value_bytes: u32,
    pub value_type: Option<String>,
    pub max_entries: u32,
    pub flags: u32,
    pub pinning: String,
    pub inner: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct VariableLine {
    pub name: String,
    pub map: String,
    pub type_name: Option<String>,
    pub bytes: u32,
    pub value: Option<Show>,
}

#[derive(Debug, Serialize)]
pub struct ExternLine {
    pub name: String,
    pub kind: &'static str,
    pub weak: bool,
}

#[derive(Debug, Serialize)]
pub struct CoreLine {
    pub program: String,
    pub pc: u32,
    pub kind: String,
    pub text: String,
    /// What it becomes, when a target was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<String>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(o) => o.fmt(f),
            Self::Heading { title } => f.write_str(title),
            Self::Program(p) => p.fmt(f),
            Self::Map(m) => m.fmt(f),
            Self::Variable(v) => v.fmt(f),
            Self::Extern(e) => {
                let weak = if e.weak { ", may be absent" } else { "" };
                write!(f, "  {:<24} {}{weak}", e.name, e.kind)
            }
            Self::Core(c) => {
                write!(f, "  {:<20} insn {:<5} {:<14} {}", c.program, c.pc, c.kind, c.text)?;
                c.resolved.iter().try_for_each(|to| write!(f, "\n{:43}-> {to}", ""))
            }
            Self::Needs(n) => n.fmt(f),
        }
    }
}

impl fmt::Display for ObjectLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let license = if self.license.is_empty() { "none" } else { &self.license };
        write!(f, "{}: license {license}", self.object)?;
        match self.btf_types {
            0 => write!(f, ", no BTF"),
            n => write!(f, ", {n} BTF types"),
        }
    }
}

impl fmt::Display for ProgramLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prog_type = self.prog_type.as_deref().unwrap_or("type unknown");
        write!(f, "  {:<20} {prog_type:<16} {:>5} slots  {}", self.name, self.slots, self.section)?;
        if !self.subprograms.is_empty() {
            write!(f, ", calls {}", self.subprograms.join(", "))?;
        }
        if !self.autoload {
            f.write_str(", only when selected")?;
        }
        Ok(())
    }
}

impl fmt::Display for MapLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |name: &Option<String>, bytes: u32| match name {
            Some(name) => format!("{name} ({bytes} B)"),
            None => format!("{bytes} B"),
        };
        write!(f, "  {:<20} {:<16}", self.name, self.map_type)?;
        if self.key_bytes > 0 {
            write!(f, " key {},", side(&self.key_type, self.key_bytes))?;
        }
        if self.value_bytes > 0 {
            write!(f, " value {},", side(&self.value_type, self.value_bytes))?;
        }
        let unit = match (self.map_type.as_str(), self.max_entries) {
            ("ringbuf" | "user_ringbuf", _) => "bytes",
            (_, 1) => "entry",
            _ => "entries",
        };
        write!(f, " {} {unit}", self.max_entries)?;
        if self.flags != 0 {
            write!(f, ", {}", flags_text(self.flags))?;
        }
        if self.pinning != "none" {
            write!(f, ", pinned {}", self.pinning)?;
        }
        self.inner.iter().try_for_each(|inner| write!(f, ", of {inner}"))
    }
}

/// Flags by name; bits without one as a number.
fn flags_text(flags: u32) -> String {
    let named = FLAGS.iter().filter(|(flag, _)| flags & flag.0 != 0);
    let mut names: Vec<String> = named.map(|(_, name)| (*name).into()).collect();
    let rest = FLAGS.iter().fold(flags, |rest, (flag, _)| rest & !flag.0);
    if rest != 0 {
        names.push(format!("flags {rest:#x}"));
    }
    names.join(" ")
}

/// Flags by the kernel's names, without `BPF_F_`.
const FLAGS: &[(MapFlags, &str)] = &[
    (MapFlags::NO_PREALLOC, "no_prealloc"),
    (MapFlags::NO_COMMON_LRU, "no_common_lru"),
    (MapFlags::NUMA_NODE, "numa_node"),
    (MapFlags::RDONLY, "rdonly"),
    (MapFlags::WRONLY, "wronly"),
    (MapFlags::RDONLY_PROG, "rdonly_prog"),
    (MapFlags::WRONLY_PROG, "wronly_prog"),
    (MapFlags::MMAPABLE, "mmapable"),
    (MapFlags::INNER_MAP, "inner_map"),
];

impl fmt::Display for VariableLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let type_name = self.type_name.as_deref().unwrap_or("?");
        write!(f, "  {:<24} {:<10} {type_name}", self.name, self.map)?;
        self.value.iter().try_for_each(|v| write!(f, " = {v}"))
    }
}
