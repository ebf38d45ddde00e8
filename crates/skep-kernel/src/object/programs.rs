//! Loading an object's programs.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    sync::Arc,
};

use skep_abi::{AttachType, ProgType, section};
use skep_btf::KindTag;
use skep_isa::Pc;
use skep_object::{
    ObjectSpec,
    spec::{ProgramSpec, RelocTarget},
};

use super::{LoadOptions, externs::Externs};
use crate::{
    btf::Btf,
    error::LoadError,
    link::usdt::Specs,
    map::Map,
    patch::{self, Fill},
    probe,
    program::{Program, ProgramLoad},
    target,
};

/// Loads the programs that `options` choose; the others are `None`.
pub(super) fn load_all(
    spec: &ObjectSpec,
    maps: &[Arc<Map>],
    btf: Option<&Btf>,
    usdt: Option<&Arc<Specs>>,
    options: &LoadOptions,
    notices: &mut Vec<String>,
) -> Result<Vec<Option<Arc<Program>>>, LoadError> {
    let chosen = |program: &ProgramSpec| match &options.programs {
        Some(names) => names.contains(&program.name),
        None => program.autoload,
    };
    if let Some(names) = &options.programs {
        let unknown = |name: &&String| !spec.programs.iter().any(|p| p.name == **name);
        if let Some(name) = names.iter().find(unknown) {
            let reason = "the object has no program of this name".into();
            return Err(LoadError::Program { program: name.clone(), reason });
        }
    }
    let externs = Externs::new(spec);
    let one = |program: &ProgramSpec| {
        let job = Job { spec, program, maps, btf, externs: &externs, options };
        let load =
            || job.load(notices).map(|loaded| Arc::new(loaded.belonging(program, usdt.cloned())));
        chosen(program).then(load).transpose()
    };
    spec.programs.iter().map(one).collect()
}

struct Job<'a> {
    spec: &'a ObjectSpec,
    program: &'a ProgramSpec,
    maps: &'a [Arc<Map>],
    btf: Option<&'a Btf>,
    externs: &'a Externs<'a>,
    options: &'a LoadOptions,
}

impl Job<'_> {
    fn fail(&self, reason: impl Into<String>) -> LoadError {
        LoadError::Program { program: self.program.name.clone(), reason: reason.into() }
    }

    fn load(&self, notices: &mut Vec<String>) -> Result<Program, LoadError> {
        let program = self.program;
        let Some(prog_type) = program.prog_type else {
            return Err(self.fail(format!(
                "section '{}' names no program type; give it one",
                program.section
            )));
        };
        let insns = self.patched()?;
        let mut load = ProgramLoad::new(&program.name, prog_type, &insns);
        load.attach_type = program.attach_type.or_else(|| many_places(program));
        load.license = &self.spec.license;
        load.kernel_version = self.spec.version.unwrap_or_else(target::kernel_version);
        load.flags = program.flags;
        load.log_level = self.options.log_level;
        load.attach_btf_id = self.attach_btf_id(prog_type)?;
        if let Some(btf) = self.btf {
            load.btf = Some(btf.as_fd());
            load.func_info = &program.func_info;
            load.line_info = &program.line_info;
        }
        let mut error = match Program::load(&load) {
            Ok(loaded) => return Ok(loaded),
            Err(e) => e,
        };
        for fallback in [Self::without_attach_type, Self::without_types] {
            let Some(notice) = fallback(self, &mut load, &error) else { continue };
            match Program::load(&load) {
                Ok(loaded) => {
                    notices.push(format!("program '{}': {notice}", program.name));
                    return Ok(loaded);
                }
                // What the kernel says without what it stumbled over is closer to the cause.
                Err(e) => error = e,
            }
        }
        Err(self.explained(error))
    }

    /// The verifier sees a call of an absurd helper where something was missing; the object knows
    /// what it was.
    fn explained(&self, mut error: LoadError) -> LoadError {
        let LoadError::Rejected { summary, log, .. } = &mut error else { return error };
        let Some((at, number)) = unknown_call(&log.text) else { return error };
        let poison = self.program.poisoned.iter().find(|poison| poison.at == at);
        if let Some(poison) = poison {
            *summary = format!("{at} is reached, and {}", poison.reason);
        } else if let Some(symbol) =
            patch::missing_kfunc(number).and_then(|i| self.spec.externs.get(i))
        {
            *summary = format!(
                "{at} calls '{}', which this kernel does not have, and is reached",
                symbol.name
            );
        }
        error
    }

    /// Some sections name an attach type that older kernels do not know and do not need.
    fn without_attach_type(
        &self,
        load: &mut ProgramLoad<'_>,
        why: &LoadError,
    ) -> Option<&'static str> {
        let optional = section::find(&self.program.section)
            .is_some_and(|found| found.def.flags.attach_type_optional());
        let refused =
            matches!(why, LoadError::Refused { source, .. } if source.errno() == libc::EINVAL);
        (optional && refused && load.attach_type.take().is_some())
            .then_some("this kernel does not know its attach type: loaded without")
    }

    /// A kernel may take the BTF and still refuse what the object says about functions and lines.
    fn without_types(&self, load: &mut ProgramLoad<'_>, why: &LoadError) -> Option<&'static str> {
        const ABOUT_TYPES: &[&str] = &["func_info", "func info", "line_info", "line info"];
        let LoadError::Rejected { log, .. } = why else { return None };
        let about_types = ABOUT_TYPES.iter().any(|word| log.text.contains(word));
        (about_types && load.btf.take().is_some())
            .then_some("this kernel refuses its function and line information: loaded without")
    }

    /// The instructions with descriptors and numbers of this kernel in them.
    fn patched(&self) -> Result<Vec<skep_isa::Slot>, LoadError> {
        let mut insns = self.program.insns.clone();
        for reloc in &self.program.relocs {
            let what = match reloc.target {
                RelocTarget::Map(map) => Fill::Map(self.map_fd(map)?),
                RelocTarget::MapValue { map, offset } => Fill::MapValue(self.map_fd(map)?, offset),
                RelocTarget::Ksym(index) => self.externs.symbol(&self.program.name, index)?,
                RelocTarget::Kfunc(index) => self.externs.function(&self.program.name, index)?,
            };
            patch::fill(&mut insns, reloc.at, what).map_err(|e| self.fail(e.to_string()))?;
        }
        Ok(insns)
    }

    fn map_fd(&self, index: usize) -> Result<i32, LoadError> {
        let map = self.maps.get(index);
        let map = map.ok_or_else(|| self.fail(format!("map {index} is not in the object")))?;
        Ok(map.as_fd().as_raw_fd())
    }

    /// BTF number of what the program attaches to, for types that need it at load.
    fn attach_btf_id(&self, prog_type: ProgType) -> Result<u32, LoadError> {
        let Some(found) = section::find(&self.program.section) else { return Ok(0) };
        if !found.def.flags.needs_attach_btf() || prog_type == ProgType::EXT {
            return Ok(0);
        }
        let Some(target) = self.program.attach_to.as_deref() else { return Ok(0) };
        let (kind, prefix, what) = attach_target(found.def.name);
        let btf = target::vmlinux_btf()?;
        let name = format!("{prefix}{target}");
        let id = btf.find(kind, &name).next();
        id.map(|id| id.0).ok_or_else(|| LoadError::NoSymbol {
            program: self.program.name.clone(),
            what,
            symbol: target.to_owned(),
        })
    }
}

/// The attach type of a static probe's program: all its places by one link, where the kernel can.
fn many_places(program: &ProgramSpec) -> Option<AttachType> {
    let found = section::find(&program.section)?;
    let by_one_link = found.def.flags.usdt() && probe::uprobe_multi().is_yes();
    by_one_link.then_some(AttachType::TRACE_UPROBE_MULTI)
}

/// The last call of an unknown helper in a log, `7: (85) call unknown#195896080`.
fn unknown_call(log: &str) -> Option<(Pc, u32)> {
    log.lines().rev().find_map(|line| {
        let (pc, rest) = line.split_once(": (85) call unknown#")?;
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((Pc(pc.trim().parse().ok()?), digits.parse().ok()?))
    })
}

/// How the kernel's BTF names the attach targets of a section: kind, prefix, and what it is.
fn attach_target(section: &str) -> (KindTag, &'static str, &'static str) {
    /// First section that fits by its beginning.
    const TARGETS: &[(&str, KindTag, &str, &str)] = &[
        ("tp_btf", KindTag::Typedef, "btf_trace_", "tracepoint"),
        ("lsm", KindTag::Func, "bpf_lsm_", "LSM hook"),
        ("iter", KindTag::Func, "bpf_iter_", "iterator"),
        ("struct_ops", KindTag::Struct, "", "operations"),
        ("", KindTag::Func, "", "function"),
    ];
    let row = TARGETS.iter().find(|(start, ..)| section.starts_with(start));
    row.map_or((KindTag::Func, "", "function"), |&(_, kind, prefix, what)| (kind, prefix, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_calls_are_found_in_logs() {
        let log = "0: R1=ctx\n3: (b7) r0 = 1\n7: (85) call unknown#195896080\ninvalid func\n";
        assert_eq!(unknown_call(log), Some((Pc(7), 195_896_080)));
        assert_eq!(unknown_call("invalid func unknown#195896080"), None);
    }

    #[test]
    fn attach_targets_have_their_prefixes() {
        for (section, prefix) in [
            ("tp_btf", "btf_trace_"),
            ("tp_btf.s", "btf_trace_"),
            ("lsm", "bpf_lsm_"),
            ("lsm_cgroup", "bpf_lsm_"),
            ("iter.s", "bpf_iter_"),
            ("fentry", ""),
        ] {
            assert_eq!(attach_target(section).1, prefix, "{section}");
        }
    }
}
