//! Maps at the end of a run, decoded by BTF.

use skep::{
    Map,
    abi::MapType,
    btf::{Btf, TypeId, value},
    spec::spec::{MapOrigin, MapSpec},
};

use super::lines::{Entry, EntryValue, Line, Map as MapLine, Variables};
use crate::show::{Show, sum};

/// How maps are shown.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// The value of each CPU beside the sum.
    pub per_cpu: bool,
    /// How many entries of each map the text shows.
    pub most: Option<usize>,
}

/// Is this map shown without being asked for? Not what never changes, and not what has no entries
/// to read.
pub fn shown_by_default(spec: &MapSpec) -> bool {
    has_entries(spec)
        && !matches!(spec.origin, MapOrigin::Rodata | MapOrigin::Kconfig | MapOrigin::StructOps)
}

/// Does a map of this type have entries that can be read?
pub fn has_entries(spec: &MapSpec) -> bool {
    !matches!(
        spec.def.map_type,
        MapType::RINGBUF
            | MapType::USER_RINGBUF
            | MapType::PERF_EVENT_ARRAY
            | MapType::PROG_ARRAY
            | MapType::BLOOM_FILTER
            | MapType::CGROUP_ARRAY
            | MapType::XSKMAP
            | MapType::SOCKMAP
            | MapType::SOCKHASH
            | MapType::ARENA
            | MapType::STRUCT_OPS
    )
}

/// A map as a line of output; `named` are the other maps of the object, by which inner maps are
/// recognised.
pub fn line(
    btf: Option<&Btf>,
    spec: &MapSpec,
    map: &Map,
    named: &[&Map],
    style: Style,
) -> anyhow::Result<Line> {
    if spec.data.is_some() {
        let bytes = map.lookup(&0u32.to_ne_bytes())?.unwrap_or_default();
        let variables = variables(btf, spec, &bytes);
        return Ok(Line::Variables(Variables { map: spec.name.clone(), variables }));
    }
    let types = Types { btf, key: spec.key_type, value: spec.value_type };
    let (entries, zero_entries) = match spec.def.map_type {
        MapType::QUEUE | MapType::STACK => (drain(map, &types)?, 0),
        t if t.is_map_in_map() => (inner_maps(map, spec, &types, named, style)?, 0),
        _ => entries(map, &types, style)?,
    };
    Ok(Line::Map(MapLine {
        map: spec.name.clone(),
        map_type: spec.def.map_type.to_string(),
        max_entries: map.def().max_entries,
        zero_entries,
        entries,
        most: style.most,
    }))
}

/// Types of the two sides of a map.
struct Types<'a> {
    btf: Option<&'a Btf>,
    key: Option<TypeId>,
    value: Option<TypeId>,
}

impl Types<'_> {
    fn key(&self, bytes: &[u8]) -> Show {
        decode(self.btf, self.key, bytes)
    }

    fn value(&self, bytes: &[u8]) -> Show {
        decode(self.btf, self.value, bytes)
    }
}

/// Bytes as a value of a type; without one, as a number where the size is that of a number.
pub fn decode(btf: Option<&Btf>, id: Option<TypeId>, bytes: &[u8]) -> Show {
    let typed = btf.zip(id).and_then(|(btf, id)| value::decode(btf, id, bytes).ok());
    typed.map_or_else(|| Show::untyped(bytes), Show)
}

/// A record of a buffer. One that is shorter than its type is taken as cut behind its last byte
/// (programs send only as much of an array as they filled), one without type shows its bytes.
pub fn decode_event(btf: Option<&Btf>, id: Option<TypeId>, bytes: &[u8]) -> Show {
    let (Some(btf), Some(id)) = (btf, id) else { return Show(value::Value::Bytes(bytes.to_vec())) };
    let size = btf.size_of(id).map_or(0, |s| s as usize);
    let mut whole = bytes.to_vec();
    whole.resize(size, 0);
    value::decode(btf, id, &whole).map_or_else(|_| Show(value::Value::Bytes(bytes.to_vec())), Show)
}

fn variables(btf: Option<&Btf>, spec: &MapSpec, bytes: &[u8]) -> Show {
    let fields = spec.variables.iter().map(|v| {
        let own = bytes.get(v.offset as usize..).and_then(|b| b.get(..v.size as usize));
        (v.name.clone(), decode(btf, v.type_id, own.unwrap_or(&[])))
    });
    Show::fields(fields)
}

fn entries(map: &Map, types: &Types<'_>, style: Style) -> anyhow::Result<(Vec<Entry>, u64)> {
    let is_array = matches!(map.def().map_type, MapType::ARRAY | MapType::PERCPU_ARRAY);
    let (mut found, mut zero) = (Vec::new(), 0);
    for (key, bytes) in map.entries()? {
        if is_array && bytes.iter().all(|b| *b == 0) {
            zero += 1;
            continue;
        }
        let values: Vec<Show> = map.split_cpus(&bytes).map(|v| types.value(v)).collect();
        let per_cpu = map.def().map_type.is_percpu();
        let value = if per_cpu { sum(&values) } else { values.first().cloned() };
        found.push(Entry {
            key: Some(types.key(&key)),
            value: EntryValue::Plain(value.unwrap_or_else(|| Show::untyped(&bytes))),
            per_cpu: if per_cpu && style.per_cpu { values } else { Vec::new() },
        });
    }
    found.sort_by_cached_key(|entry| entry.key.as_ref().map(Show::order));
    Ok((found, zero))
}

/// Takes everything out of a queue or stack: there is no other way to see it.
fn drain(map: &Map, types: &Types<'_>) -> anyhow::Result<Vec<Entry>> {
    let mut found = Vec::new();
    // Bounded: a program that still runs may push as fast as we pop.
    for _ in 0..map.def().max_entries {
        let Some(bytes) = map.pop()? else { break };
        let value = EntryValue::Plain(types.value(&bytes));
        found.push(Entry { key: None, value, per_cpu: Vec::new() });
    }
    Ok(found)
}

fn inner_maps(
    map: &Map,
    spec: &MapSpec,
    types: &Types<'_>,
    named: &[&Map],
    style: Style,
) -> anyhow::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for key in map.keys()? {
        let Some(inner) = map.inner(&key)? else { continue };
        let value = match named.iter().find(|m| m.is_same(&inner)) {
            Some(known) => EntryValue::Named { map: known.name().into() },
            None => {
                let template = spec.inner.as_deref();
                let inner_types = Types {
                    btf: types.btf,
                    key: template.and_then(|t| t.key_type),
                    value: template.and_then(|t| t.value_type),
                };
                EntryValue::Inner(entries(&inner, &inner_types, style)?.0)
            }
        };
        found.push(Entry { key: Some(types.key(&key)), value, per_cpu: Vec::new() });
    }
    found.sort_by_cached_key(|entry| entry.key.as_ref().map(Show::order));
    Ok(found)
}
