//! Candidates, remembered by root type, and the decision among them.

use std::collections::HashMap;

use super::{
    Budget, CoreError, CoreKind, CoreValue, Found, Patch, Resolved, Width, calc,
    compat::{Ref, same_kind},
    follow::follow,
    spec::{Spec, type_text},
};
use crate::{Btf, TypeId, essential_name};

/// What objects are resolved against: a kernel, and the modules it has loaded.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The kernel's BTF.
    pub kernel: &'a Btf,
    /// The modules' BTF, each split on the kernel's. Looked at when the kernel has no such type.
    pub modules: &'a [Btf],
}

impl<'a> Target<'a> {
    /// A kernel without modules.
    pub const fn new(kernel: &'a Btf) -> Self {
        Self { kernel, modules: &[] }
    }

    /// The BTF with this place in the target.
    fn btf(&self, module: Option<usize>) -> &'a Btf {
        module.and_then(|at| self.modules.get(at)).unwrap_or(self.kernel)
    }
}

/// A type of the target that has the right name.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    module: Option<usize>,
    id: TypeId,
}

/// Resolves the relocations of one object against one target.
///
/// It remembers the candidates of each root type and drops those that a relocation has ruled out,
/// as libbpf does: relocations of one root agree on the target's type. So the order matters, and it
/// is the order of the file.
#[derive(Debug)]
pub struct Resolver<'a> {
    local: &'a Btf,
    target: Target<'a>,
    candidates: HashMap<TypeId, Vec<Candidate>>,
    budget: Budget,
}

impl<'a> Resolver<'a> {
    /// Resolves relocations of `local` against `target`.
    pub fn new(local: &'a Btf, target: Target<'a>) -> Self {
        Self { local, target, candidates: HashMap::new(), budget: Budget::new() }
    }

    /// What a relocation names, in C-like text; for one that cannot be read, its parts.
    pub fn describe(&self, root: TypeId, access: &str, kind: CoreKind) -> String {
        match Spec::parse(self.local, root, access, kind) {
            Ok(spec) => spec.text(self.local),
            Err(_) => format!("{} + {access}", type_text(self.local, root)),
        }
    }

    /// Resolves one relocation: `kind` of the access string `access` from type `root`.
    ///
    /// # Errors
    ///
    /// [`CoreError`] when the relocation is malformed, the target ambiguous, or types too deep. That
    /// the target does not have the field, type or value is no error: see [`CoreValue`].
    pub fn resolve(
        &mut self,
        root: TypeId,
        access: &str,
        kind: CoreKind,
    ) -> Result<Resolved, CoreError> {
        let name = self.local.name(root).ok_or(CoreError::NoSuchType(root))?;
        let spec = Spec::parse(self.local, root, access, kind)?;
        let local = spec.text(self.local);
        if kind == CoreKind::TypeIdLocal {
            let own = calc::value(self.local, &spec)?;
            let value = CoreValue::Patch(patch(own, Width::Same, own));
            return Ok(Resolved { local, found: None, value });
        }
        if name.is_empty() {
            return Err(CoreError::Anonymous { kind, root: local });
        }
        let own = calc::value(self.local, &spec)?;
        self.budget.renew();
        let candidates = match self.candidates.remove(&root) {
            Some(known) => known,
            None => self.find_candidates(root, name)?,
        };
        let chosen = self.choose(&spec, &local, &candidates);
        let chosen = match chosen {
            Ok((kept, chosen)) => {
                // Relocations that nothing satisfies rule nothing out.
                self.candidates.insert(root, if kept.is_empty() { candidates } else { kept });
                chosen
            }
            Err(e) => {
                self.candidates.insert(root, candidates);
                return Err(e);
            }
        };
        let Some(chosen) = chosen else {
            let value = match calc::absent(kind) {
                Some(side) => CoreValue::Patch(patch(own, Width::Same, side)),
                None => CoreValue::Poison,
            };
            return Ok(Resolved { local, found: None, value });
        };
        let btf = self.target.btf(chosen.candidate.module);
        let width = calc::width((self.local, &own), (btf, &chosen.side));
        let found = Found {
            text: chosen.spec.text(btf),
            type_id: chosen.candidate.id,
            module: chosen.candidate.module,
        };
        let value = CoreValue::Patch(patch(own, width, chosen.side));
        Ok(Resolved { local, found: Some(found), value })
    }

    /// The types of the same kind and name; the modules' only when the kernel has none.
    fn find_candidates(&mut self, root: TypeId, name: &str) -> Result<Vec<Candidate>, CoreError> {
        let name = essential_name(name);
        let Some(kind) = self.local.kind_tag(root) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let modules = self.target.modules.iter().enumerate();
        let modules = modules.map(|(at, btf)| (Some(at), btf.first_id()));
        for (module, first) in std::iter::once((None, TypeId::VOID)).chain(modules) {
            let btf = self.target.btf(module);
            for id in btf.find_essential(kind, name).filter(|&id| id >= first) {
                self.budget.candidate()?;
                if btf.kind_tag(id).is_some_and(|tag| same_kind(tag, kind)) {
                    found.push(Candidate { module, id });
                }
            }
            if module.is_none() && !found.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// The candidates that have the access, and the first of them; all have to agree.
    fn choose(
        &mut self,
        spec: &Spec,
        local: &str,
        candidates: &[Candidate],
    ) -> Result<(Vec<Candidate>, Option<Chosen>), CoreError> {
        let mut kept = Vec::new();
        let mut chosen: Option<Chosen> = None;
        for &candidate in candidates {
            let btf = self.target.btf(candidate.module);
            let target = Ref { btf, id: candidate.id };
            self.budget.step()?;
            let found = follow((self.local, spec), target, &mut self.budget)?;
            let Some(found) = found else { continue };
            let side = calc::value(btf, &found)?;
            match &chosen {
                None => chosen = Some(Chosen { candidate, spec: found, side }),
                Some(first)
                    if first.spec.bit_offset != found.bit_offset
                        || first.side.value != side.value =>
                {
                    return Err(CoreError::Ambiguous {
                        local: local.to_owned(),
                        first: first.spec.text(self.target.btf(first.candidate.module)),
                        first_value: first.side.value,
                        second: found.text(btf),
                        second_value: side.value,
                    });
                }
                Some(_) => {}
            }
            kept.push(candidate);
        }
        Ok((kept, chosen))
    }
}

/// A candidate that has the access.
struct Chosen {
    candidate: Candidate,
    spec: Spec,
    side: calc::Side,
}

fn patch(own: calc::Side, width: Width, target: calc::Side) -> Patch {
    Patch { orig: own.value, new: target.value, validate: own.validate, width }
}

/// Resolves one relocation by itself; use a [`Resolver`] for all those of an object.
///
/// # Errors
///
/// As [`Resolver::resolve`].
pub fn resolve(
    local: &Btf,
    root: TypeId,
    access: &str,
    kind: CoreKind,
    target: Target<'_>,
) -> Result<Resolved, CoreError> {
    Resolver::new(local, target).resolve(root, access, kind)
}
