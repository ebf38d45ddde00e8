//! CO-RE: each relocation of each program against the target's types.
//!
//! Programs repeat their relocations (inlined functions, subprograms they share), so that each
//! distinct one is answered once.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use skep_btf::core::{CoreError, CoreKind, CoreValue, Patch, Resolver, Target as CoreTarget};
use skep_btf::{Btf, TypeId};

use super::{CoreOutcome, CoreResult, ResolveError, Target, patch};
use crate::spec::{CoreReloc, ObjectSpec, ProgramSpec};

/// Applies every CO-RE relocation. `modules` are asked for when the target lacks a type.
pub(super) fn relocate(
    spec: &mut ObjectSpec,
    target: &Target<'_>,
    modules: impl FnOnce() -> Vec<Btf>,
) -> Result<Vec<CoreOutcome>, ResolveError> {
    let Some(local) = spec.btf.clone() else {
        return match spec.programs.iter().find(|p| !p.core_relos.is_empty()) {
            Some(p) => Err(ResolveError::NoBtf { program: p.name.clone() }),
            None => Ok(Vec::new()),
        };
    };
    let mut answers = answer_all(spec, &local, target);
    if answers.iter().any(|answer| matches!(answer.verdict, Verdict::Absent)) {
        let modules = modules();
        if !modules.is_empty() {
            answers = answer_all(spec, &local, &Target { modules: &modules, ..*target });
        }
    }
    // There are thousands, and they stay: no more memory than they need.
    let mut outcomes = Vec::with_capacity(answers.len());
    let mut answers = answers.into_iter();
    for (index, program) in spec.programs.iter_mut().enumerate() {
        let relos = std::mem::take(&mut program.core_relos);
        for (relo, answer) in relos.iter().zip(&mut answers) {
            let result = apply(program, relo, &answer)?;
            let (at, wanted) = (relo.at, Arc::clone(&answer.wanted));
            outcomes.push(CoreOutcome { program: index, at, wanted, result });
        }
        program.core_relos = relos;
    }
    Ok(outcomes)
}

/// What each relocation of each program means, in their order.
fn answer_all(spec: &ObjectSpec, local: &Btf, target: &Target<'_>) -> Vec<Rc<Answer>> {
    // What is local to the object resolves without any target.
    let kernel = target.btf.unwrap_or(local);
    let mut answers = Answers {
        local,
        known: target.btf.is_some(),
        resolver: Resolver::new(local, CoreTarget { kernel, modules: target.modules }),
        found: HashMap::new(),
    };
    let relos = spec.programs.iter().flat_map(|program| &program.core_relos);
    relos.map(|relo| answers.answer(relo)).collect()
}

/// What a relocation means, wherever it stands.
struct Answer {
    /// What it names, in C-like text with its kind.
    wanted: Arc<str>,
    verdict: Verdict,
}

enum Verdict {
    /// It cannot be read, or has several answers.
    Malformed(CoreError),
    /// It asks about a target that is not known.
    NoTarget,
    /// The target does not have it.
    Absent,
    Value {
        patch: Patch,
        found: Option<Arc<str>>,
        type_id: Option<(TypeId, Option<usize>)>,
    },
}

/// The answers so far.
struct Answers<'a> {
    local: &'a Btf,
    /// Are the target's types known?
    known: bool,
    resolver: Resolver<'a>,
    /// By root type and kind, then by access.
    found: HashMap<(TypeId, u32), HashMap<Arc<str>, Rc<Answer>>>,
}

impl Answers<'_> {
    fn answer(&mut self, relo: &CoreReloc) -> Rc<Answer> {
        let of_root = self.found.entry((relo.type_id, relo.kind)).or_default();
        if let Some(known) = of_root.get(&relo.access) {
            return Rc::clone(known);
        }
        let answer = Rc::new(self.find(relo));
        let of_root = self.found.entry((relo.type_id, relo.kind)).or_default();
        of_root.insert(Arc::clone(&relo.access), Rc::clone(&answer));
        answer
    }

    fn find(&mut self, relo: &CoreReloc) -> Answer {
        let CoreReloc { type_id, ref access, kind, .. } = *relo;
        let Some(known_kind) = CoreKind::from_number(kind) else {
            let name = self.local.name(type_id).unwrap_or_default();
            return Answer {
                wanted: format!("type {name} + {access}").into(),
                verdict: Verdict::Malformed(CoreError::UnknownKind(kind)),
            };
        };
        let text = self.resolver.describe(type_id, access, known_kind);
        let wanted = format!("{known_kind} of {text}").into();
        if !self.known && known_kind != CoreKind::TypeIdLocal {
            return Answer { wanted, verdict: Verdict::NoTarget };
        }
        let verdict = match self.resolver.resolve(type_id, access, known_kind) {
            Err(source) => Verdict::Malformed(source),
            Ok(resolved) => match resolved.value {
                CoreValue::Poison => Verdict::Absent,
                CoreValue::Patch(patch) => Verdict::Value {
                    patch,
                    type_id: resolved.found.as_ref().map(|f| (f.type_id, f.module)),
                    found: resolved.found.map(|f| f.text.into()),
                },
            },
        };
        Answer { wanted, verdict }
    }
}

/// Changes the instruction of a relocation.
///
/// What is wrong with it is an error in programs that load by themselves, and poison in others.
fn apply(
    program: &mut ProgramSpec,
    relo: &CoreReloc,
    answer: &Answer,
) -> Result<CoreResult, ResolveError> {
    let (at, wanted) = (relo.at, &answer.wanted);
    let name = || program.name.clone();
    let reason = match &answer.verdict {
        Verdict::Malformed(source) if program.autoload => {
            return Err(ResolveError::Core { program: name(), at, source: source.clone() });
        }
        Verdict::Malformed(source) => format!("{wanted}: {source}"),
        Verdict::NoTarget if program.autoload => {
            let wanted = wanted.to_string();
            return Err(ResolveError::NoTargetBtf { program: name(), at, wanted });
        }
        Verdict::NoTarget => format!("{wanted} needs the types of a kernel"),
        Verdict::Absent => format!("{wanted} is not in the target"),
        Verdict::Value { patch, found, type_id } => {
            match patch::apply(&mut program.insns, at, patch) {
                Ok(patch::Done::Patched) => {
                    let (from, to) = (patch.orig, patch.new);
                    let (found, type_id) = (found.clone(), *type_id);
                    return Ok(CoreResult::Patched { from, to, found, type_id });
                }
                Ok(patch::Done::Unsafe(why)) => format!("{wanted}: {why}"),
                Err(problem) if program.autoload => {
                    let wanted = wanted.to_string();
                    return Err(ResolveError::Patch { program: name(), at, wanted, problem });
                }
                Err(problem) => format!("{wanted}: {problem}"),
            }
        }
    };
    patch::poison(program, at, reason.clone());
    Ok(CoreResult::Poisoned { reason })
}
