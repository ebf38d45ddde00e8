//! What an object asks of a kernel, by name.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use skep::{abi::helper, spec::ObjectSpec};

/// What an object asks of a kernel.
#[derive(Debug, Serialize)]
pub struct Needs {
    program_types: Vec<String>,
    attach_types: Vec<String>,
    map_types: Vec<String>,
    helpers: Vec<String>,
    kernel_functions: Vec<String>,
    kernel_symbols: Vec<String>,
    kernel_options: Vec<String>,
    /// CO-RE relocations: the kernel's BTF is needed to resolve them.
    core_relocations: usize,
    /// The first release with these types, helpers and flags, and global data: at least that.
    #[serde(skip_serializing_if = "Option::is_none")]
    linux: Option<String>,
}

impl Needs {
    /// Gives names to what `spec` needs.
    pub fn of(spec: &ObjectSpec) -> Self {
        let needs = spec.needs();
        let weak = |list: &BTreeMap<String, bool>| {
            let text = |(name, weak): (&String, &bool)| match weak {
                true => format!("{name} (may be absent)"),
                false => name.clone(),
            };
            list.iter().map(text).collect()
        };
        Self {
            program_types: needs.prog_types.iter().map(ToString::to_string).collect(),
            attach_types: needs.attach_types.iter().map(ToString::to_string).collect(),
            map_types: needs.map_types.iter().map(ToString::to_string).collect(),
            helpers: needs.helpers.keys().map(|&id| helper_name(id)).collect(),
            kernel_functions: weak(&needs.kfuncs),
            kernel_symbols: weak(&needs.ksyms),
            kernel_options: weak(&needs.kconfig),
            core_relocations: needs.core_relocs,
            linux: needs.oldest_release().map(|r| r.to_string()),
        }
    }
}

/// The name of a helper; its number, where the table has no name.
fn helper_name(id: u32) -> String {
    let proto = i32::try_from(id).ok().and_then(helper::proto);
    proto.map_or_else(|| format!("helper {id}"), |p| p.name.into())
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("program types", &self.program_types),
            ("attach types", &self.attach_types),
            ("map types", &self.map_types),
            ("helpers", &self.helpers),
            ("kernel functions", &self.kernel_functions),
            ("kernel symbols", &self.kernel_symbols),
            ("kernel options", &self.kernel_options),
        ];
        let filled = rows.into_iter().filter(|(_, list)| !list.is_empty());
        let mut rows: Vec<_> = filled.map(|(what, list)| (what, list.join(", "))).collect();
        if self.core_relocations > 0 {
            rows.push(("kernel types", format!("for {} CO-RE relocations", self.core_relocations)));
        }
        if let Some(linux) = &self.linux {
            rows.push(("Linux", format!("at least {linux}, by types, helpers and flags")));
        }
        for (i, (what, text)) in rows.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}  {what:<18} {text}")?;
        }
        Ok(())
    }
}
