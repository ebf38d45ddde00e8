//! What an object asks of a kernel, found in its tables and instructions.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;
use skep::{
    abi::helper,
    isa::{CallTarget, Insn},
    spec::{
        ObjectSpec,
        spec::{ExternKind, ProgramSpec},
    },
};

/// What an object asks of a kernel.
#[derive(Debug, Serialize)]
pub struct Needs {
    pub program_types: BTreeSet<String>,
    pub map_types: BTreeSet<String>,
    pub helpers: BTreeSet<String>,
    pub kernel_functions: BTreeSet<String>,
    /// CO-RE relocations: the kernel's BTF is needed to resolve them.
    pub core_relocations: usize,
    /// The first release with all program types.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linux: Option<String>,
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
        let rows = [
            ("program types", list(&self.program_types)),
            ("map types", list(&self.map_types)),
            ("helpers", list(&self.helpers)),
            ("kernel functions", list(&self.kernel_functions)),
        ];
        let mut rows: Vec<_> = rows.into_iter().filter(|(_, text)| !text.is_empty()).collect();
        if self.core_relocations > 0 {
            rows.push(("kernel BTF", format!("for {} CO-RE relocations", self.core_relocations)));
        }
        if let Some(linux) = &self.linux {
            rows.push(("Linux", format!("{linux} or later, by the program types")));
        }
        for (i, (what, text)) in rows.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}  {what:<16} {text}")?;
        }
        Ok(())
    }
}

/// Collects what `spec` needs.
pub fn needs(spec: &ObjectSpec) -> Needs {
    let types = || spec.programs.iter().filter_map(|p| p.prog_type);
    let linux = types().filter_map(|t| t.since()).max();
    Needs {
        program_types: types().map(|t| t.to_string()).collect(),
        map_types: spec.maps.iter().map(|m| m.def.map_type.to_string()).collect(),
        helpers: spec.programs.iter().flat_map(helpers).collect(),
        kernel_functions: spec
            .externs
            .iter()
            .filter(|e| e.kind == ExternKind::Kfunc)
            .map(|e| e.name.clone())
            .collect(),
        core_relocations: spec.programs.iter().map(|p| p.core_relos.len()).sum(),
        linux: linux.map(|r| r.to_string()),
    }
}

/// Names of the helpers a program calls; numbers, where the table has no name.
fn helpers(program: &ProgramSpec) -> BTreeSet<String> {
    let insns = skep::isa::decode(&program.insns).unwrap_or_default();
    let called = insns.into_iter().filter_map(|(_, insn)| match insn {
        Insn::Call(CallTarget::Helper(id)) => Some(id),
        _ => None,
    });
    called.map(|id| helper::proto(id).map_or(format!("helper {id}"), |p| p.name.into())).collect()
}
