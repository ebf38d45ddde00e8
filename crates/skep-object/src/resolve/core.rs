//! CO-RE: each relocation of each program against the target's types.

use skep_btf::Btf;
use skep_btf::core::{CoreError, CoreKind, CoreValue, Resolver, Target as CoreTarget};

use super::{CoreOutcome, CoreResult, ResolveError, Target, patch};
use crate::spec::{CoreReloc, ObjectSpec, ProgramSpec};

/// Applies every CO-RE relocation.
pub(super) fn relocate(
    spec: &mut ObjectSpec,
    target: &Target<'_>,
) -> Result<Vec<CoreOutcome>, ResolveError> {
    let mut outcomes = Vec::new();
    let Some(local) = spec.btf.clone() else {
        return match spec.programs.iter().find(|p| !p.core_relos.is_empty()) {
            Some(p) => Err(ResolveError::NoBtf { program: p.name.clone() }),
            None => Ok(outcomes),
        };
    };
    // What is local to the object resolves without any target.
    let kernel = target.btf.unwrap_or(&local);
    let mut resolver = Resolver::new(&local, CoreTarget { kernel, modules: target.modules });
    for (index, program) in spec.programs.iter_mut().enumerate() {
        let relos = std::mem::take(&mut program.core_relos);
        for relo in &relos {
            let one = One { local: &local, known: target.btf.is_some(), index };
            outcomes.push(one.relocate(&mut resolver, program, relo)?);
        }
        program.core_relos = relos;
    }
    Ok(outcomes)
}

/// One relocation on its way.
struct One<'a> {
    local: &'a Btf,
    /// Are the target's types known?
    known: bool,
    /// Number of the program.
    index: usize,
}

impl One<'_> {
    fn relocate(
        &self,
        resolver: &mut Resolver<'_>,
        program: &mut ProgramSpec,
        relo: &CoreReloc,
    ) -> Result<CoreOutcome, ResolveError> {
        let CoreReloc { at, type_id, ref access, kind } = *relo;
        let resolved = CoreKind::from_number(kind)
            .ok_or(CoreError::UnknownKind(kind))
            .map(|kind| (kind, resolver.describe(type_id, access, kind)));
        let (kind, wanted) = match resolved {
            Ok((kind, text)) => (kind, format!("{kind} of {text}")),
            Err(source) => {
                let name = self.local.name(type_id).unwrap_or_default();
                return self.malformed(program, relo, format!("type {name} + {access}"), source);
            }
        };
        let outcome =
            |result| CoreOutcome { program: self.index, at, wanted: wanted.clone(), result };
        if !self.known && kind != CoreKind::TypeIdLocal {
            if program.autoload {
                let program = program.name.clone();
                return Err(ResolveError::NoTargetBtf { program, at, wanted });
            }
            let reason = format!("{wanted} needs the types of a kernel");
            patch::poison(program, at, reason.clone());
            return Ok(outcome(CoreResult::Poisoned { reason }));
        }
        let resolved = match resolver.resolve(type_id, access, kind) {
            Ok(resolved) => resolved,
            Err(source) => return self.malformed(program, relo, wanted, source),
        };
        let value = match resolved.value {
            CoreValue::Poison => {
                let reason = format!("{wanted} is not in the target");
                patch::poison(program, at, reason.clone());
                return Ok(outcome(CoreResult::Poisoned { reason }));
            }
            CoreValue::Patch(value) => value,
        };
        match patch::apply(&mut program.insns, at, &value) {
            Ok(patch::Done::Patched) => Ok(outcome(CoreResult::Patched {
                from: value.orig,
                to: value.new,
                type_id: resolved.found.as_ref().map(|f| (f.type_id, f.module)),
                found: resolved.found.map(|f| f.text),
            })),
            Ok(patch::Done::Unsafe(why)) => {
                let reason = format!("{wanted}: {why}");
                patch::poison(program, at, reason.clone());
                Ok(outcome(CoreResult::Poisoned { reason }))
            }
            Err(problem) if program.autoload => {
                let program = program.name.clone();
                Err(ResolveError::Patch { program, at, wanted, problem })
            }
            Err(problem) => {
                let reason = format!("{wanted}: {problem}");
                patch::poison(program, at, reason.clone());
                Ok(outcome(CoreResult::Poisoned { reason }))
            }
        }
    }

    /// An error for programs that load by themselves, a poisoned instruction for the others.
    fn malformed(
        &self,
        program: &mut ProgramSpec,
        relo: &CoreReloc,
        wanted: String,
        source: CoreError,
    ) -> Result<CoreOutcome, ResolveError> {
        let at = relo.at;
        if program.autoload {
            return Err(ResolveError::Core { program: program.name.clone(), at, source });
        }
        let reason = format!("{wanted}: {source}");
        patch::poison(program, at, reason.clone());
        let result = CoreResult::Poisoned { reason };
        Ok(CoreOutcome { program: self.index, at, wanted, result })
    }
}
