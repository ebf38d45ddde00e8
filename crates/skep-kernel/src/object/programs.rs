//! Loading an object's programs.

use std::{
    collections::HashSet,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    sync::Arc,
};

use skep_abi::{AttachType, ProgType, section};
use skep_btf::KindTag;
use skep_isa::Pc;
use skep_object::{
    ObjectSpec,
    spec::{InitialEntry, InitialValue, ProgramSpec, RelocTarget},
};

use super::{
    LoadOptions,
    externs::{Externs, FdArray},
    kernel::KernelTypes,
    older,
    struct_ops::{Plan, is_struct_ops},
};
use crate::{
    btf::Btf,
    error::LoadError,
    link::usdt::Specs,
    map::Map,
    patch::{self, Fill},
    probe,
    program::{Program, ProgramLoad, ProgramTarget},
    target,
};

/// What loading programs stands on.
pub(super) struct Ground<'a> {
    pub(super) spec: &'a ObjectSpec,
    pub(super) maps: &'a [Option<Arc<Map>>],
    pub(super) btf: Option<&'a Btf>,
    pub(super) kernel: &'a KernelTypes,
    pub(super) struct_ops: &'a Plan<'a>,
    pub(super) options: &'a LoadOptions,
}

/// Loads the programs that `options` choose, and those that maps of `struct_ops` hold; the others
/// are `None`.
pub(super) fn load_all(
    ground: &Ground<'_>,
    usdt: Option<&Arc<Specs>>,
    notices: &mut Vec<String>,
) -> Result<Vec<Option<Arc<Program>>>, LoadError> {
    let Ground { spec, options, struct_ops, .. } = *ground;
    let in_maps = spec.maps.iter().filter(|map| is_struct_ops(map)).flat_map(|map| &map.initial);
    let in_maps: HashSet<usize> = in_maps.filter_map(program_of).collect();
    let chosen = |index: usize, program: &ProgramSpec| {
        let named = match &options.programs {
            Some(names) => names.contains(&program.name),
            None => program.autoload,
        };
        // Maps decide over their programs: what only maps hold that are not made has no use.
        if in_maps.contains(&index) { struct_ops.programs.contains_key(&index) } else { named }
    };
    if let Some(names) = &options.programs {
        let unknown = |name: &&String| !spec.programs.iter().any(|p| p.name == **name);
        if let Some(name) = names.iter().find(unknown) {
            let reason = "the object has no program of this name".into();
            return Err(LoadError::Program { program: name.clone(), reason });
        }
    }
    let externs = Externs::new(spec, ground.kernel);
    let one = |(index, program): (usize, &ProgramSpec)| {
        let job = Job { ground, index, program, externs: &externs };
        let load =
            || job.load(notices).map(|loaded| Arc::new(loaded.belonging(program, usdt.cloned())));
        chosen(index, program).then(load).transpose()
    };
    spec.programs.iter().enumerate().map(one).collect()
}

/// The program that an entry of a map holds.
fn program_of(entry: &InitialEntry) -> Option<usize> {
    match entry.value {
        InitialValue::Program(index) => Some(index),
        InitialValue::Map(_) => None,
    }
}

/// Load flag: for one interface, but run on the CPU.
const BPF_F_XDP_DEV_BOUND_ONLY: u32 = 1 << 6;

struct Job<'a> {
    ground: &'a Ground<'a>,
    /// Number of the program.
    index: usize,
    program: &'a ProgramSpec,
    externs: &'a Externs<'a>,
}

/// What a program is loaded for: numbers of types, and whose they are.
#[derive(Default)]
struct AttachBtf<'a> {
    id: u32,
    owner: Option<BorrowedFd<'a>>,
}

impl<'a> Job<'a> {
    fn fail(&self, reason: impl Into<String>) -> LoadError {
        LoadError::Program { program: self.program.name.clone(), reason: reason.into() }
    }

    fn load(&self, notices: &mut Vec<String>) -> Result<Program, LoadError> {
        let program = self.program;
        let Some(prog_type) = program.prog_type else {
            let (program, section) = (program.name.clone(), program.section.clone());
            return Err(LoadError::NoType { program, section });
        };
        let mut modules = FdArray::default();
        let insns = self.patched(&mut modules)?;
        let old_reads;
        let fd_array = modules.fds();
        let ground = self.ground;
        let mut load = ProgramLoad::new(&program.name, prog_type, &insns);
        load.fd_array = &fd_array;
        load.token = ground.options.token.as_deref();
        load.attach_type = self.attach_type();
        load.license = &ground.spec.license;
        load.kernel_version = ground.spec.version.unwrap_or_else(target::kernel_version);
        load.flags = program.flags;
        if let Some(device) = ground.options.device.filter(|_| prog_type == ProgType::XDP) {
            load.ifindex = device.ifindex;
            load.flags |= if device.offload { 0 } else { BPF_F_XDP_DEV_BOUND_ONLY };
        }
        load.log_level = ground.options.log_level;
        let attach = self.attach_btf(prog_type)?;
        (load.attach_btf_id, load.attach_fd) = (attach.id, attach.owner);
        if let Some(btf) = ground.btf {
            load.btf = Some(btf.as_fd());
            load.func_info = &program.func_info;
            load.line_info = &program.line_info;
        }
        let mut error = match Program::load(&load) {
            Ok(loaded) => return Ok(loaded),
            Err(e) => e,
        };
        if let LoadError::Rejected { log, .. } = &error
            && let Some(insns) = older::with_old_reads(&insns, &log.text)
        {
            old_reads = insns;
            load.insns = &old_reads;
            match Program::load(&load) {
                Ok(loaded) => {
                    let name = &program.name;
                    notices.push(format!("program '{name}': reads memory by the older helper"));
                    return Ok(loaded);
                }
                Err(e) => error = e,
            }
        }
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
        let spec = self.ground.spec;
        let poison = self.program.poisoned.iter().find(|poison| poison.at == at);
        if let Some(poison) = poison {
            *summary = format!("{at} is reached, and {}", poison.reason);
        } else if let Some(symbol) = patch::missing_kfunc(number).and_then(|i| spec.externs.get(i))
        {
            *summary = format!(
                "{at} calls '{}', which this kernel does not have, and is reached",
                symbol.name
            );
        } else if let Some(map) = patch::missing_map(number).and_then(|i| spec.maps.get(i)) {
            *summary = format!("{at} uses map '{}', which is not made, and is reached", map.name);
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
    fn patched(&self, modules: &mut FdArray<'a>) -> Result<Vec<skep_isa::Slot>, LoadError> {
        let mut insns = self.program.insns.clone();
        for reloc in &self.program.relocs {
            let what = match reloc.target {
                RelocTarget::Map(map) => match self.map_fd(map)? {
                    Some(fd) => Fill::Map(fd),
                    None => Fill::MissingMap(missing_number(map)),
                },
                RelocTarget::MapValue { map, offset } => match self.map_fd(map)? {
                    Some(fd) => Fill::MapValue(fd, offset),
                    None => Fill::MissingMap(missing_number(map)),
                },
                RelocTarget::Ksym(index) => self.externs.symbol(&self.program.name, index)?,
                RelocTarget::Kfunc(index) => {
                    self.externs.function(&self.program.name, index, modules)?
                }
            };
            patch::fill(&mut insns, reloc.at, what).map_err(|e| self.fail(e.to_string()))?;
        }
        Ok(insns)
    }

    /// The loaded program that this one attaches to.
    fn target(&self) -> Option<&ProgramTarget> {
        let mut targets = self.ground.options.targets.iter();
        targets.find(|(name, _)| *name == self.program.name).map(|(_, target)| target)
    }

    /// `None` for a map that is not made.
    fn map_fd(&self, index: usize) -> Result<Option<i32>, LoadError> {
        let map = self.ground.maps.get(index);
        let map = map.ok_or_else(|| self.fail(format!("map {index} is not in the object")))?;
        Ok(map.as_ref().map(|map| map.as_fd().as_raw_fd()))
    }

    /// Of a `struct_ops` program the kernel takes the member's number in place of the type.
    fn attach_type(&self) -> Option<AttachType> {
        let member = self.ground.struct_ops.programs.get(&self.index);
        let member = member.map(|member| AttachType(member.member));
        member.or(self.program.attach_type).or_else(|| many_places(self.program))
    }

    /// BTF number of what the program attaches to, for types that need it at load.
    fn attach_btf(&self, prog_type: ProgType) -> Result<AttachBtf<'_>, LoadError> {
        if prog_type == ProgType::STRUCT_OPS {
            let member = self.ground.struct_ops.programs.get(&self.index);
            let member = member.ok_or_else(|| {
                self.fail("no struct_ops map holds it, so that it has no function to implement")
            })?;
            let owner = member.module.map(AsFd::as_fd);
            return Ok(AttachBtf { id: member.structure, owner });
        }
        let Some(found) = section::find(&self.program.section) else {
            return Ok(AttachBtf::default());
        };
        if !found.def.flags.needs_attach_btf() {
            return Ok(AttachBtf::default());
        }
        if let Some(target) = self.target() {
            let resolved = target.resolve(self.program.attach_to.as_deref());
            let (id, program) = resolved.map_err(|source| LoadError::Function {
                program: self.program.name.clone(),
                source: Box::new(source),
            })?;
            return Ok(AttachBtf { id, owner: Some(program) });
        }
        if prog_type == ProgType::EXT {
            return Err(
                self.fail("it replaces a function of a loaded program: say which program that is")
            );
        }
        let (kind, prefix, what) = attach_target(found.def.name);
        let target = self.program.attach_to.as_deref().filter(|target| !target.is_empty());
        let target = target.ok_or_else(|| {
            let section = &self.program.section;
            self.fail(format!("section '{section}' does not say which {what} it attaches to"))
        })?;
        // `module:function` is that of one module, or of `vmlinux`.
        let (owner, name) = match target.split_once(':') {
            Some((owner, name)) => (Some(owner), name),
            None => (None, target),
        };
        let known = self.ground.kernel.find_in(owner, kind, &format!("{prefix}{name}"))?;
        let known = known.ok_or_else(|| LoadError::NoSymbol {
            program: self.program.name.clone(),
            what,
            symbol: target.to_owned(),
        })?;
        Ok(AttachBtf { id: known.id.0, owner: known.module.map(AsFd::as_fd) })
    }
}

/// The attach type of a static probe's program: all its places by one link, where the kernel can.
fn many_places(program: &ProgramSpec) -> Option<AttachType> {
    let found = section::find(&program.section)?;
    let by_one_link = found.def.flags.usdt() && probe::uprobe_multi().is_yes();
    by_one_link.then_some(AttachType::TRACE_UPROBE_MULTI)
}

/// The number by which a log names what is missing.
fn missing_number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
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
