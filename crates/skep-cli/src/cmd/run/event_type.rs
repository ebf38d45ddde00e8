//! Which type the records of a ring or perf buffer have.
//!
//! Nothing in the format says so. Found in this order: what the user says, the value type of the
//! map, a pointer variable named `unused…` (how bpf2go users keep a type in BTF), a structure
//! named `event` or like it when there is exactly one.

use skep::{
    btf::{Btf, Kind, KindTag, TypeId},
    spec::spec::MapSpec,
};

use crate::exit::usage;

/// `--event-type`: a type for one map, or for all.
#[derive(Clone, Debug, Default)]
pub struct Wanted(Vec<(Option<String>, String)>);

impl Wanted {
    /// From `[MAP=]TYPE` flags.
    pub fn parse(flags: &[String]) -> Self {
        let split = |flag: &String| match flag.split_once('=') {
            Some((map, name)) => (Some(map.trim().into()), name.trim().into()),
            None => (None, flag.trim().into()),
        };
        Self(flags.iter().map(split).collect())
    }

    /// Names of maps that the flags speak of.
    pub fn maps(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|(map, _)| map.as_deref())
    }

    fn of(&self, map: &str) -> Option<&str> {
        let exact = self.0.iter().find(|(m, _)| m.as_deref() == Some(map));
        let any = self.0.iter().find(|(m, _)| m.is_none());
        exact.or(any).map(|(_, name)| name.as_str())
    }
}

/// The type of the records of `map`; `None` when nothing tells.
pub fn event_type(btf: &Btf, map: &MapSpec, wanted: &Wanted) -> anyhow::Result<Option<TypeId>> {
    if let Some(name) = wanted.of(&map.name) {
        let found = by_name(btf, name).ok_or_else(|| {
            usage(format!("--event-type: the object's BTF has no structure or typedef `{name}`"))
        })?;
        return Ok(Some(found));
    }
    let from_map = map.value_type.filter(|&id| is_struct(btf, id));
    Ok(from_map.or_else(|| kept_by_pointer(btf)).or_else(|| called_event(btf)))
}

fn by_name(btf: &Btf, name: &str) -> Option<TypeId> {
    let name = name.strip_prefix("struct ").unwrap_or(name);
    [KindTag::Struct, KindTag::Union, KindTag::Typedef, KindTag::Int]
        .into_iter()
        .find_map(|kind| btf.find(kind, name).next())
}

fn is_struct(btf: &Btf, id: TypeId) -> bool {
    let bare = btf.skip_mods(id).ok().and_then(|id| btf.kind_tag(id));
    matches!(bare, Some(KindTag::Struct | KindTag::Union))
}

/// `const struct event *unused __attribute__((unused));`
fn kept_by_pointer(btf: &Btf) -> Option<TypeId> {
    let mut found = btf.ids().filter_map(|id| {
        let ty = btf.get(id)?;
        let Kind::Var(var) = ty.kind else { return None };
        let Kind::Ptr(to) = btf.get(btf.skip_mods(var.ty).ok()?)?.kind else { return None };
        (ty.name.starts_with("unused") && is_struct(btf, to)).then_some(to)
    });
    only(&mut found)
}

fn called_event(btf: &Btf) -> Option<TypeId> {
    let named = |fits: fn(&str) -> bool| {
        let mut found = btf.ids().filter(|&id| {
            btf.kind_tag(id) == Some(KindTag::Struct) && btf.name(id).is_some_and(fits)
        });
        only(&mut found)
    };
    named(|n| n == "event" || n == "event_t")
        .or_else(|| named(|n| n.ends_with("_event") || n.ends_with("_event_t")))
}

/// The one item there is; `None` when there is another.
fn only(items: &mut dyn Iterator<Item = TypeId>) -> Option<TypeId> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}
