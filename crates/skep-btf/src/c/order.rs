//! In which order types are declared and defined, so that C knows each before it is used.

use crate::{Btf, Kind, TypeId};

/// What the header says next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `struct x;`
    Declare(TypeId),
    /// The definition.
    Define(TypeId),
}

/// Progress of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Untouched,
    /// Its definition waits for what it depends on.
    Open,
    Defined,
}

/// All definitions and the forward declarations that they need.
///
/// Looks at no more than `limit` members; past that, definitions come as they are.
pub(super) fn order(btf: &Btf, limit: usize) -> Vec<Step> {
    let mut order = Order {
        btf,
        states: vec![State::default(); btf.len()],
        declared: vec![false; btf.len()],
        seen: vec![0; btf.len()],
        round: 0,
        left: limit,
        steps: Vec::new(),
    };
    let used = order.used_anonymous_enums();
    for id in btf.ids() {
        let Some(ty) = btf.get(id) else { continue };
        match ty.kind {
            // Its enumerators are what it is for, unless some member prints them.
            Kind::Enum(_) | Kind::Enum64(_)
                if ty.name.is_empty() && used.get(id.0 as usize) == Some(&false) =>
            {
                order.steps.push(Step::Define(id));
            }
            _ if is_defined_by_name(btf, id) => order.define(id),
            Kind::Fwd { .. } => order.declare(id),
            _ => {}
        }
    }
    order.steps
}

/// Is it defined on its own, and referred to by its name?
fn is_defined_by_name(btf: &Btf, id: TypeId) -> bool {
    btf.get(id).is_some_and(|ty| match ty.kind {
        Kind::Struct(_) | Kind::Union(_) | Kind::Enum(_) | Kind::Enum64(_) => !ty.name.is_empty(),
        Kind::Typedef(_) => true,
        _ => false,
    })
}

struct Order<'a> {
    btf: &'a Btf,
    states: Vec<State>,
    /// By type: has it been declared?
    declared: Vec<bool>,
    /// By type: the last round in which dependencies were looked for there.
    seen: Vec<u32>,
    round: u32,
    left: usize,
    steps: Vec<Step>,
}

/// A definition that waits.
struct Open {
    id: TypeId,
    dependencies: std::vec::IntoIter<Step>,
}

impl Order<'_> {
    fn state(&self, id: TypeId) -> State {
        self.states.get(id.0 as usize).copied().unwrap_or_default()
    }

    fn set(&mut self, id: TypeId, state: State) {
        if let Some(slot) = self.states.get_mut(id.0 as usize) {
            *slot = state;
        }
    }

    fn declare(&mut self, id: TypeId) {
        if self.state(id) == State::Defined {
            return;
        }
        if let Some(declared @ false) = self.declared.get_mut(id.0 as usize) {
            *declared = true;
            self.steps.push(Step::Declare(id));
        }
    }

    /// Defines a type after all that it needs. Without recursion: hostile types can depend on
    /// each other in chains as long as the file.
    fn define(&mut self, id: TypeId) {
        let mut stack = Vec::new();
        self.open(id, &mut stack);
        while let Some(top) = stack.last_mut() {
            match top.dependencies.next() {
                Some(Step::Declare(id)) => self.declare(id),
                Some(Step::Define(id)) => self.open(id, &mut stack),
                None => {
                    let id = top.id;
                    stack.pop();
                    self.set(id, State::Defined);
                    self.steps.push(Step::Define(id));
                }
            }
        }
    }

    fn open(&mut self, id: TypeId, stack: &mut Vec<Open>) {
        if self.state(id) == State::Untouched {
            let dependencies = self.dependencies(id).into_iter();
            self.set(id, State::Open);
            stack.push(Open { id, dependencies });
        }
    }

    /// What has to be declared or defined before this type is defined.
    fn dependencies(&mut self, id: TypeId) -> Vec<Step> {
        let mut out = Vec::new();
        // Types to look at, and whether they have to be complete.
        let mut work: Vec<(TypeId, bool)> = Vec::new();
        match self.btf.get(id).map(|t| t.kind) {
            Some(Kind::Struct(c) | Kind::Union(c)) => {
                work.extend(c.members.iter().map(|m| (m.ty, true)));
            }
            Some(Kind::Typedef(of)) => work.push((of, false)),
            _ => {}
        }
        work.reverse();
        // Each type matters once incomplete and once complete.
        self.round += 2;
        let round = self.round;
        while let Some((id, complete)) = work.pop() {
            self.left = self.left.saturating_sub(1);
            if self.left == 0 {
                break;
            }
            let mark = round + u32::from(complete);
            match self.seen.get_mut(id.0 as usize) {
                Some(seen) if *seen < mark => *seen = mark,
                _ => continue,
            }
            let Some(ty) = self.btf.get(id) else { continue };
            match ty.kind {
                Kind::Ptr(to) => work.push((to, false)),
                // C wants elements complete even behind a pointer.
                Kind::Array(array) => work.push((array.element, true)),
                Kind::Volatile(of) | Kind::Const(of) | Kind::Restrict(of) => {
                    work.push((of, complete));
                }
                Kind::TypeTag(tag) => work.push((tag.ty, complete)),
                Kind::FuncProto(proto) => {
                    work.extend(proto.params.iter().map(|p| (p.ty, false)));
                    work.push((proto.ret, false));
                }
                Kind::Typedef(of) => {
                    if complete {
                        work.push((of, true));
                    }
                    out.push(Step::Define(id));
                }
                Kind::Struct(c) | Kind::Union(c) if ty.name.is_empty() => {
                    work.extend(c.members.iter().map(|m| (m.ty, true)));
                }
                Kind::Struct(_) | Kind::Union(_) => {
                    out.push(if complete { Step::Define(id) } else { Step::Declare(id) });
                }
                Kind::Enum(_) | Kind::Enum64(_) if !ty.name.is_empty() => {
                    out.push(Step::Define(id));
                }
                Kind::Fwd { .. } => out.push(Step::Declare(id)),
                _ => {}
            }
        }
        out
    }

    /// By type: is it referred to? Of interest for anonymous enumerations.
    fn used_anonymous_enums(&self) -> Vec<bool> {
        let mut used = vec![false; self.btf.len()];
        let mut mark = |id: TypeId| {
            if let Some(slot) = used.get_mut(id.0 as usize) {
                *slot = true;
            }
        };
        for id in self.btf.ids() {
            match self.btf.get(id).map(|t| t.kind) {
                Some(Kind::Struct(c) | Kind::Union(c)) => c.members.iter().for_each(|m| mark(m.ty)),
                Some(Kind::Array(array)) => mark(array.element),
                Some(Kind::FuncProto(proto)) => {
                    mark(proto.ret);
                    proto.params.iter().for_each(|p| mark(p.ty));
                }
                Some(
                    Kind::Ptr(of)
                    | Kind::Typedef(of)
                    | Kind::Volatile(of)
                    | Kind::Const(of)
                    | Kind::Restrict(of),
                ) => mark(of),
                Some(Kind::TypeTag(tag)) => mark(tag.ty),
                _ => {}
            }
        }
        used
    }
}
