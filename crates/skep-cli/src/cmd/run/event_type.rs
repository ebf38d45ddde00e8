//! Which type the records of a ring or perf buffer have.
//!
//! Nothing in the format says so. Found in this order: what the user says, the value type of the
//! map, a pointer variable named `unused…` (how bpf2go users keep a type in BTF), a structure
//! named `event` or like it when there is exactly one.

use skep::{
    Object,
    abi::{AttachType, MapType},
    btf::{Btf, Kind, KindTag, TypeId},
    spec::spec::{MapSpec, ProgramSpec},
};

use crate::exit::usage;

/// `--event-type`: a type for one map or iterator, or for all maps.
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

    /// Each flag must speak of a buffer that one of the objects has, and of a type of its BTF.
    pub fn check(&self, objects: &[Object]) -> anyhow::Result<()> {
        self.0.iter().try_for_each(|(map, name)| {
            let flag = format!("--event-type {}", written(map.as_deref(), name));
            let has_map = |o: &&Object| {
                let mut buffers = o.spec().maps.iter().filter(|m| is_event_buffer(m));
                let mut iterators = o.spec().programs.iter().filter(|p| is_iterator(p));
                buffers.any(|m| map.as_ref().is_none_or(|name| *name == m.name))
                    || iterators.any(|p| map.as_ref() == Some(&p.name))
            };
            let mut with_map = objects.iter().filter(has_map).peekable();
            if with_map.peek().is_none() {
                let what =
                    map.as_ref().map_or("there is no map".into(), |m| format!("`{m}` is no map"));
                return Err(usage(format!("{flag}: {what} that programs write events to")));
            }
            let mut types = with_map.filter_map(|o| o.spec().btf.as_ref());
            match types.any(|btf| by_name(btf, name).is_some()) {
                true => Ok(()),
                false => {
                    Err(usage(format!("{flag}: the BTF has no structure or typedef `{name}`")))
                }
            }
        })
    }

    /// The type of an iterator's records, when it was named.
    pub fn type_of(&self, btf: &Btf, iterator: &str) -> Option<TypeId> {
        let own = self.0.iter().find(|(name, _)| name.as_deref() == Some(iterator));
        own.and_then(|(_, name)| by_name(btf, name))
    }

    fn of(&self, map: &str) -> Option<&str> {
        let exact = self.0.iter().find(|(m, _)| m.as_deref() == Some(map));
        let any = self.0.iter().find(|(m, _)| m.is_none());
        exact.or(any).map(|(_, name)| name.as_str())
    }
}

/// The type of the records of `map`; `None` when nothing tells.
pub fn event_type(btf: &Btf, map: &MapSpec, wanted: &Wanted) -> Option<TypeId> {
    let asked = wanted.of(&map.name).and_then(|name| by_name(btf, name));
    let from_map = || map.value_type.filter(|&id| is_struct(btf, id));
    asked.or_else(from_map).or_else(|| kept_by_pointer(btf)).or_else(|| called_event(btf))
}

fn is_iterator(program: &ProgramSpec) -> bool {
    program.attach_type == Some(AttachType::TRACE_ITER)
}

fn is_event_buffer(map: &MapSpec) -> bool {
    matches!(map.def.map_type, MapType::RINGBUF | MapType::PERF_EVENT_ARRAY)
}

/// The flag's value as it was given.
fn written(map: Option<&str>, name: &str) -> String {
    map.map_or_else(|| name.into(), |map| format!("{map}={name}"))
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
