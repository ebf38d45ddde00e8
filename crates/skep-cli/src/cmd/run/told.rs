//! What programs must be told before they attach, and which flags nobody takes.

use skep::{
    Loaded, Object, Program,
    abi::{
        AttachType, ProgType,
        section::{self, AutoAttach, SectionDef},
    },
    kernel::link::{self, Needs},
    spec::spec::ProgramSpec,
};

use super::Run;

/// A program that was not told where: its name, what it needs, and the flag for that.
pub type Homeless = (String, &'static str, String);

impl Run {
    /// What a program lacks whose section has a hook's name and not what is hooked there:
    /// `SEC("uprobe")`.
    pub fn lacks_target(&self, program: &ProgramSpec) -> Option<Homeless> {
        let has_target = program.attach_to.as_ref().is_some_and(|to| !to.is_empty());
        let on_program = self.target_prog.iter().any(|(name, _)| *name == program.name);
        let def = section::find(&program.section)?.def;
        if has_target || on_program || program.prog_type != Some(def.prog_type) {
            return None;
        }
        let (what, target) = target_of(def)?;
        Some((program.name.clone(), what, format!("--attach PROG={}/{target}", def.name)))
    }

    /// Leaves programs out that the kernel does not even load without a target.
    pub fn leave_out(&self, object: &mut Object) -> anyhow::Result<Vec<Homeless>> {
        let at_load = |p: &&ProgramSpec| {
            let found = section::find(&p.section);
            p.autoload && found.is_some_and(|found| found.def.flags.needs_attach_btf())
        };
        let programs = object.spec().programs.iter().filter(at_load);
        let left_out: Vec<Homeless> = programs.filter_map(|p| self.lacks_target(p)).collect();
        for (name, ..) in &left_out {
            object.load_program(name, false)?;
        }
        Ok(left_out)
    }

    /// Says which places were given that no program takes.
    pub fn note_idle_flags(&self, loaded: &[&Loaded]) {
        let programs = || loaded.iter().flat_map(|one| one.programs());
        let free = |p: &&Program| {
            self.pcap.is_none()
                && !self.no_attach.iter().any(|name| name == p.name())
                && !self.attach.iter().any(|(name, _)| name == p.name())
        };
        let needed = |needs: Needs| programs().filter(free).any(|p| needs_of(p) == needs);
        // A place that is told of one program alone does not say of which process.
        let of_process = || {
            let asked = |p: &Program| !self.no_attach.iter().any(|name| name == p.name());
            let specs = loaded.iter().flat_map(|one| &one.spec().programs);
            let probes: Vec<&str> = specs.filter(|p| is_user_probe(p)).map(|p| &*p.name).collect();
            self.pcap.is_none() && programs().any(|p| asked(p) && probes.contains(&p.name()))
        };
        let flags = [
            ("--cgroup", self.cgroup.is_some(), needed(Needs::Cgroup)),
            ("--netns", self.netns.is_some(), needed(Needs::Netns)),
            ("--perf-event", self.perf_event.is_some(), needed(Needs::PerfEvent)),
            ("--netfilter", self.netfilter.is_some(), needed(Needs::Netfilter)),
            ("--pid", self.pid.is_some(), needed(Needs::PerfEvent) || of_process()),
        ];
        for (flag, ..) in flags.iter().filter(|(_, given, taken)| *given && !taken) {
            say!("note: {flag}: no program takes it");
        }
    }
}

/// What the hook of a program must be told.
pub fn needs_of(program: &Program) -> Needs {
    let hook = link::hook(program.prog_type(), program.attach_type());
    hook.map_or(Needs::Nothing, link::Hook::needs)
}

fn is_user_probe(program: &ProgramSpec) -> bool {
    let of_user = [AutoAttach::Uprobe, AutoAttach::UprobeMulti, AutoAttach::Usdt];
    section::find(&program.section).is_some_and(|found| of_user.contains(&found.def.attach))
}

/// What stands behind the name of a section, in words and as it is written; none where nothing
/// need.
fn target_of(def: &SectionDef) -> Option<(&'static str, &'static str)> {
    let is_raw_tp = def.attach_type == Some(AttachType::TRACE_RAW_TP);
    match def.attach {
        AutoAttach::Kprobe => Some(("a function of the kernel", "FUNCTION")),
        AutoAttach::KprobeMulti | AutoAttach::TracingMulti => {
            Some(("functions of the kernel", "PATTERN"))
        }
        AutoAttach::Ksyscall => Some(("a system call", "NAME")),
        AutoAttach::Uprobe | AutoAttach::UprobeMulti => {
            Some(("a function of a binary", "BINARY:FUNCTION"))
        }
        AutoAttach::Usdt => Some(("a static probe", "BINARY:PROVIDER:NAME")),
        AutoAttach::Tracepoint => Some(("a tracepoint", "CATEGORY/NAME")),
        AutoAttach::RawTracepoint => Some(("a tracepoint", "NAME")),
        AutoAttach::Tracing if is_raw_tp => Some(("a tracepoint", "NAME")),
        // What a freplace program replaces, --target-prog says.
        AutoAttach::Tracing if def.prog_type == ProgType::EXT => None,
        AutoAttach::Tracing => Some(("a function of the kernel", "FUNCTION")),
        AutoAttach::Iter => Some(("what it walks over", "KIND")),
        _ if def.prog_type == ProgType::LSM => Some(("a hook of the security modules", "HOOK")),
        _ => None,
    }
}
