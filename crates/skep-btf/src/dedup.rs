//! Types that are the same, once.
//!
//! Two types are the same when no chain of references leads from them to a difference: as many
//! members of the same names at the same offsets, of types that are the same, around cycles too.
//! That is a partition: it starts with what each type says itself, and is refined by what its
//! references lead to until nothing changes.
//!
//! A forward declaration is the type of its name when there is one only. Variables and sections
//! are never the same as another.

use std::collections::{HashMap, HashSet};

use crate::{
    Btf, Builder, KindTag, TypeId,
    kind::Word,
    raw::{self, info_kind, info_vlen},
};

/// Steps that refining may take whatever the number of types, and for each of their words. Types
/// that need more (no compiler makes such chains) stay as they are.
const MAX_STEPS: (usize, usize) = (1 << 22, 100);
/// Forward declarations found out make types the same whose names may then be found out.
const MAX_PASSES: usize = 8;

/// Types without repetition, from [`Btf::dedup`].
#[derive(Clone, Debug)]
pub struct Dedup {
    /// The types, to be continued.
    pub types: Builder,
    ids: Vec<TypeId>,
    first: TypeId,
}

impl Dedup {
    /// The number that a type has now; of a base, and those that are not there, the same.
    pub fn id(&self, old: TypeId) -> TypeId {
        let at = old.0.checked_sub(self.first.0).map(|at| at as usize);
        at.and_then(|at| self.ids.get(at)).copied().unwrap_or(old)
    }
}

impl Btf {
    /// The types with each of those that are the same only once, in the order of their first
    /// ones; a split BTF's own only.
    ///
    /// Names are compared by their place: BTF of a [`Builder`] has each string once.
    ///
    /// ```
    /// use skep_btf::{Builder, Encoding};
    ///
    /// let mut types = Builder::new();
    /// let first = types.int("int", 4, Encoding::SIGNED);
    /// let second = types.int("int", 4, Encoding::SIGNED);
    /// let to_second = types.ptr(second);
    /// let dedup = types.finish()?.dedup();
    /// assert_eq!(dedup.id(second), first);
    /// assert_eq!(dedup.types.finish()?.len(), 3, "void, int, a pointer");
    /// # assert_ne!(dedup.id(to_second), first);
    /// # Ok::<(), skep_btf::BtfError>(())
    /// ```
    pub fn dedup(&self) -> Dedup {
        let graph = Graph::new(self);
        let same = graph.representatives();
        let mut types = match self.base() {
            Some(base) => Builder::split(base),
            None => Builder::new(),
        };
        let first = self.first_id();
        let mut ids = vec![TypeId::VOID; same.len()];
        let mut next = types.next_id().0;
        for (at, &of) in same.iter().enumerate() {
            if let Some(id) = ids.get_mut(at).filter(|_| at == of) {
                *id = TypeId(next);
                next += 1;
            }
        }
        for (at, &of) in same.iter().enumerate() {
            let known = ids.get(of).copied().unwrap_or_default();
            if let Some(id) = ids.get_mut(at) {
                *id = known;
            }
        }
        let dedup = Dedup { types: Builder::new(), ids, first };
        for (id, (at, &of)) in (first.0..).map(TypeId).zip(same.iter().enumerate()) {
            if at == of {
                types.copy_type(self, id, |old| dedup.id(old));
            }
        }
        Dedup { types, ..dedup }
    }
}

/// What one type says itself, without what it refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shape(Vec<u32>);

/// All types, as what they say and what they refer to. Positions count from the first own type.
struct Graph<'a> {
    btf: &'a Btf,
    /// Class of each type's shape.
    shapes: Vec<usize>,
    /// References of each type.
    refs: Vec<Vec<u32>>,
    words: usize,
}

impl<'a> Graph<'a> {
    fn new(btf: &'a Btf) -> Self {
        let mut known: HashMap<Shape, usize> = HashMap::new();
        let mut graph = Self { btf, shapes: Vec::new(), refs: Vec::new(), words: 0 };
        for id in (btf.first_id().0..).map(TypeId) {
            let Some((_, raw)) = btf.raw(id) else { break };
            let tag = KindTag::from_number(info_kind(raw.info)).unwrap_or(KindTag::Void);
            let (mut shape, mut refs) = (vec![raw.name_off, raw.info], Vec::new());
            let (own, each) = tag.payload();
            let roles = std::iter::once(tag.third()).chain(own.iter().copied());
            let roles = roles.chain(each.iter().copied().cycle());
            let rest = raw.rest.iter().map(|&word| raw::value(word));
            let words = std::iter::once(raw.size_or_type).chain(rest);
            for (word, role) in words.zip(roles) {
                if role == Word::Ref { refs.push(word) } else { shape.push(word) }
            }
            if matches!(tag, KindTag::Var | KindTag::DataSec) {
                shape.push(id.0);
            }
            graph.words += shape.len() + refs.len();
            let next = known.len();
            graph.shapes.push(*known.entry(Shape(shape)).or_insert(next));
            graph.refs.push(refs);
        }
        graph
    }

    /// For each type the first one that is the same.
    fn representatives(&self) -> Vec<usize> {
        let itself: Vec<usize> = (0..self.shapes.len()).collect();
        let mut stands_for = itself.clone();
        let mut known = itself;
        for _ in 0..MAX_PASSES {
            let Some(classes) = self.classes(&stands_for) else { break };
            let mut first = HashMap::new();
            known = (0..classes.len())
                .map(|at| *first.entry(classes.get(at).copied()).or_insert(at))
                .collect();
            if !self.find_forwards(&known, &mut stands_for) {
                break;
            }
        }
        // A forward declaration may come before its type, which is then the one to keep.
        let target = |at: usize| stands_for.get(at).copied().unwrap_or(at);
        let is_forward = |at: usize| target(at) != at;
        let mut keep: HashMap<usize, usize> = HashMap::new();
        for (at, &of) in known.iter().enumerate().filter(|&(at, _)| !is_forward(at)) {
            keep.entry(of).or_insert(at);
        }
        known.iter().map(|of| keep.get(of).copied().unwrap_or(*of)).collect()
    }

    /// The class of each type; none when that takes too long. Types of different classes differ.
    fn classes(&self, stands_for: &[usize]) -> Option<Vec<usize>> {
        let (fixed, each) = MAX_STEPS;
        let mut left = self.words.saturating_mul(each).max(fixed);
        let itself = |at: usize| stands_for.get(at).copied().unwrap_or(at);
        let first = self.btf.first_id().0;
        let mut classes: Vec<usize> = (0..self.shapes.len())
            .map(|at| self.shapes.get(itself(at)).copied())
            .collect::<Option<_>>()?;
        let mut count = classes.iter().collect::<HashSet<_>>().len();
        loop {
            left = left.checked_sub(self.words)?;
            let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
            let mut next = Vec::with_capacity(classes.len());
            for at in 0..classes.len() {
                let at = itself(at);
                let mut key = vec![*classes.get(at)?];
                for &id in self.refs.get(at)? {
                    // Types of a base are the same as themselves only.
                    let of = id.checked_sub(first).and_then(|at| classes.get(at as usize));
                    key.push(of.map_or(usize::MAX - id as usize, |class| *class));
                }
                let new = known.len();
                next.push(*known.entry(key).or_insert(new));
            }
            classes = next;
            if known.len() == count {
                return Some(classes);
            }
            count = known.len();
        }
    }

    /// Lets forward declarations stand for the one type of their name. Did that change anything?
    fn find_forwards(&self, known: &[usize], stands_for: &mut [usize]) -> bool {
        /// The one type of a name (its class, and the first of it), or that there are more.
        #[derive(Clone, Copy)]
        enum Only {
            One(usize, usize),
            More,
        }
        let mut whole: HashMap<(u32, Form), Only> = HashMap::new();
        let mut forwards = Vec::new();
        for (at, &of) in known.iter().enumerate() {
            let Some((name, form, forward)) = self.form(at) else { continue };
            if forward {
                forwards.push((at, (name, form)));
                continue;
            }
            let only = whole.entry((name, form)).or_insert(Only::One(of, at));
            if matches!(*only, Only::One(other, _) if other != of) {
                *only = Only::More;
            }
        }
        let mut changed = false;
        for (at, name) in forwards {
            let Some(Only::One(_, first)) = whole.get(&name) else { continue };
            if let Some(place) = stands_for.get_mut(at).filter(|place| **place != *first) {
                *place = *first;
                changed = true;
            }
        }
        changed
    }

    /// Name and form of a type that may be declared before it is defined, and whether it is
    /// such a declaration.
    fn form(&self, at: usize) -> Option<(u32, Form, bool)> {
        let id = self.btf.first_id().0.checked_add(u32::try_from(at).ok()?)?;
        let (_, raw) = self.btf.raw(TypeId(id))?;
        if raw.name_off == 0 {
            return None;
        }
        let (form, forward) = match KindTag::from_number(info_kind(raw.info))? {
            KindTag::Struct => (Form::Struct, false),
            KindTag::Union => (Form::Union, false),
            KindTag::Fwd if raw.kind_flag() => (Form::Union, true),
            KindTag::Fwd => (Form::Struct, true),
            KindTag::Enum | KindTag::Enum64 => (Form::Enum, info_vlen(raw.info) == 0),
            _ => return None,
        };
        Some((raw.name_off, form, forward))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Struct,
    Union,
    Enum,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoding, Func, Kind, Linkage, Member, Param, Var, dump};

    /// A list node whose pointer leads to itself.
    fn node(types: &mut Builder, value: &str) -> TypeId {
        let int = types.int("int", 4, Encoding::SIGNED);
        let next = types.ptr(TypeId(types.next_id().0 + 1));
        let members = [
            Member { name: "next", ty: next, bit_offset: 0, bitfield_size: 0 },
            Member { name: value, ty: int, bit_offset: 64, bitfield_size: 0 },
        ];
        types.structure("node", 16, &members)
    }

    fn lines(types: &Builder) -> Vec<String> {
        let btf = types.finish().unwrap();
        dump::raw(&btf)
            .to_string()
            .lines()
            .filter(|line| line.starts_with('['))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn types_around_a_cycle_are_the_same_when_nothing_differs() {
        let mut types = Builder::new();
        let (first, second) = (node(&mut types, "value"), node(&mut types, "value"));
        let other = node(&mut types, "other");
        let dedup = types.finish().unwrap().dedup();
        assert_eq!(dedup.id(first), dedup.id(second));
        assert_ne!(dedup.id(first), dedup.id(other));
        // Two structures, a pointer to each, one int.
        assert_eq!(lines(&dedup.types).len(), 5);
    }

    #[test]
    fn a_declaration_is_the_only_type_of_its_name() {
        let mut types = Builder::new();
        let before = types.forward("node", false);
        let (first, second) = (node(&mut types, "value"), node(&mut types, "value"));
        let union = types.forward("node", true);
        let dedup = types.finish().unwrap().dedup();
        assert_eq!(dedup.id(first), dedup.id(second));
        assert_eq!(dedup.id(before), dedup.id(first), "the declaration in front");
        assert_ne!(dedup.id(union), dedup.id(first));
        assert_eq!(lines(&dedup.types).len(), 4, "{:?}", lines(&dedup.types));

        let mut types = Builder::new();
        let before = types.forward("node", false);
        let (first, second) = (node(&mut types, "value"), node(&mut types, "other"));
        let dedup = types.finish().unwrap().dedup();
        assert_ne!(dedup.id(first), dedup.id(second));
        assert!(![dedup.id(first), dedup.id(second)].contains(&dedup.id(before)), "which one?");
    }

    #[test]
    fn declared_types_make_others_the_same_that_name_them() {
        let mut types = Builder::new();
        let mut holder = |forward: bool| {
            let inner = match forward {
                true => types.forward("inner", false),
                false => {
                    let int = types.int("int", 4, Encoding::SIGNED);
                    let member = Member { name: "x", ty: int, bit_offset: 0, bitfield_size: 0 };
                    types.structure("inner", 4, &[member])
                }
            };
            let to = types.ptr(inner);
            let member = Member { name: "p", ty: to, bit_offset: 0, bitfield_size: 0 };
            types.structure("outer", 8, &[member])
        };
        let (first, second) = (holder(true), holder(false));
        let outer = types.forward("outer", false);
        let dedup = types.finish().unwrap().dedup();
        assert_eq!(dedup.id(first), dedup.id(second));
        assert_eq!(dedup.id(first), dedup.id(outer));
    }

    #[test]
    fn a_declaration_in_front_does_not_end_the_search_for_differences() {
        let mut types = Builder::new();
        types.forward("a", false);
        types.structure("a", 0, &[]);
        let mut at = types.int("int", 4, Encoding::SIGNED);
        let pointers = [0; 3].map(|_| {
            at = types.ptr(at);
            at
        });
        let dedup = types.finish().unwrap().dedup();
        let [one, two, three] = pointers.map(|id| dedup.id(id));
        assert!(one != two && two != three && one != three, "{:?}", lines(&dedup.types));
    }

    #[test]
    fn variables_stay_and_functions_are_told_by_their_linkage() {
        let mut types = Builder::new();
        let int = types.int("int", 4, Encoding::SIGNED);
        let var = Var { ty: int, linkage: Linkage::STATIC };
        let vars = [types.var("x", var), types.var("x", var)];
        let mut func = |linkage| {
            let proto = types.func_proto(int, &[Param { name: "x", ty: int }]);
            types.func("f", Func { proto, linkage })
        };
        let funcs = [func(Linkage::STATIC), func(Linkage::GLOBAL), func(Linkage::GLOBAL)];
        let dedup = types.finish().unwrap().dedup();
        assert_ne!(dedup.id(vars[0]), dedup.id(vars[1]));
        assert_ne!(dedup.id(funcs[0]), dedup.id(funcs[1]));
        assert_eq!(dedup.id(funcs[1]), dedup.id(funcs[2]));
    }

    #[test]
    fn what_is_split_refers_to_its_base() {
        let mut base = Builder::new();
        let int = base.int("int", 4, Encoding::SIGNED);
        let base = base.finish().unwrap();
        let mut own = Builder::split(&base);
        let (first, second) = (own.ptr(int), own.ptr(int));
        own.ptr(TypeId::VOID);
        let dedup = own.finish().unwrap().dedup();
        assert_eq!((dedup.id(int), dedup.id(first)), (int, dedup.id(second)));
        assert_eq!(dedup.types.finish().unwrap().len(), base.len() + 2);
    }

    #[test]
    fn types_without_repetition_stay_as_they_are() {
        let dir = skep_testing::repository().join("tests/data/btf");
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let Ok(btf) = Btf::parse(&bytes) else { continue };
            let once = btf.dedup();
            let again = once.types.finish().unwrap().dedup();
            assert_eq!(lines(&once.types), lines(&again.types), "{}", path.display());
        }
    }

    /// Are two types the same, by walking along both until something differs?
    fn same(btf: &Btf, a: TypeId, b: TypeId, assumed: &mut HashSet<[TypeId; 2]>) -> bool {
        if !assumed.insert([a, b]) {
            return true;
        }
        let (Some(x), Some(y)) = (btf.get(a), btf.get(b)) else { return a == b };
        if (x.name, x.kind.tag()) != (y.name, y.kind.tag()) {
            return false;
        }
        match (x.kind, y.kind) {
            (Kind::Ptr(x), Kind::Ptr(y)) | (Kind::Const(x), Kind::Const(y)) => {
                same(btf, x, y, assumed)
            }
            (Kind::Struct(x), Kind::Struct(y)) => {
                x.members.len() == y.members.len()
                    && x.members.iter().zip(y.members.iter()).all(|(x, y)| {
                        (x.name, x.bit_offset) == (y.name, y.bit_offset)
                            && same(btf, x.ty, y.ty, assumed)
                    })
            }
            _ => true,
        }
    }

    #[test]
    fn the_same_are_those_that_no_walk_tells_apart() {
        arbtest::arbtest(|u| {
            let mut types = Builder::new();
            // A declaration whose type is there changes nothing for the others.
            types.forward("a", false);
            types.structure("a", 0, &[]);
            let count = u.int_in_range(1..=16)?;
            for _ in 0..count {
                let of = TypeId(u.int_in_range(2..=count + 2)?);
                match u.int_in_range(0..=4)? {
                    0 => types.int(u.choose(&["int", "long"])?, 4, Encoding::SIGNED),
                    1 => types.constant(of),
                    2 => {
                        let name = u.choose(&["x", "y"])?;
                        let member = Member { name, ty: of, bit_offset: 0, bitfield_size: 0 };
                        types.structure(u.choose(&["s", ""])?, 8, &[member])
                    }
                    _ => types.ptr(of),
                };
            }
            let btf = types.finish().unwrap();
            let dedup = btf.dedup();
            let all = || btf.ids().skip(1);
            for (a, b) in all().flat_map(|a| all().map(move |b| (a, b))) {
                let want = same(&btf, a, b, &mut HashSet::new());
                assert_eq!(dedup.id(a) == dedup.id(b), want, "{a} {b}\n{}", dump::raw(&btf));
            }
            Ok(())
        });
    }

    /// A chain of pointers as long as bytes allow, twice: quick, and never wrong.
    #[test]
    fn long_chains_end() {
        let mut types = Builder::new();
        let ends = ["int", "long"].map(|name| {
            let mut at = types.int(name, 4, Encoding::SIGNED);
            for _ in 0..20_000 {
                at = types.ptr(at);
            }
            at
        });
        let start = std::time::Instant::now();
        let dedup = types.finish().unwrap().dedup();
        assert_ne!(dedup.id(ends[0]), dedup.id(ends[1]));
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}
