//! Externs: what the running system must provide, `__kconfig` values and `__ksym` addresses.

use std::collections::HashMap;

use skep_abi::{MapDef, MapFlags, MapType};
use skep_btf::{Btf, Kind, Linkage, TypeId};

use crate::datasec::{DataSection, Variable};
use crate::elf::{Bind, Elf, Place, SymbolKind};
use crate::error::ObjectError;
use crate::spec::{ExternKind, ExternSpec, MapOrigin, MapSpec, Pinning, RelocTarget, VarSpec};

const KCONFIG: &str = ".kconfig";
const KSYMS: &str = ".ksyms";

/// The externs of an object.
#[derive(Debug, Default)]
pub(crate) struct Externs {
    pub(crate) list: Vec<ExternSpec>,
    /// Number of the extern of each symbol.
    pub(crate) by_symbol: HashMap<usize, usize>,
    /// The `.kconfig` map, when there are `__kconfig` externs.
    pub(crate) kconfig: Option<MapSpec>,
    /// Where its values are.
    pub(crate) kconfig_layout: Option<DataSection>,
}

/// An extern while its place is not known.
struct Found {
    symbol: usize,
    spec: ExternSpec,
    /// Size and alignment of a `__kconfig` value.
    value: (u32, u32),
}

impl Externs {
    /// Reads the undefined symbols that BTF describes.
    ///
    /// Without BTF nothing says what they are: a relocation of one is an error later.
    pub(crate) fn collect(elf: &Elf<'_>, btf: &Btf) -> Result<Self, ObjectError> {
        let sections = extern_sections(btf);
        let types = extern_types(btf);
        let mut kconfig_type = None;
        let mut found = Vec::new();
        for (symbol, s) in elf.symbols.iter().enumerate() {
            let is_extern = s.place == Place::Undefined
                && s.kind == SymbolKind::None
                && matches!(s.bind, Bind::Global | Bind::Weak);
            if !is_extern || s.name.is_empty() {
                continue;
            }
            let weak = s.bind == Bind::Weak;
            let wrong = |problem: &str| ObjectError::Extern {
                name: s.name.to_owned(),
                problem: problem.to_owned(),
            };
            let &(id, ty) = types.get(s.name).ok_or_else(|| wrong("it has no BTF type"))?;
            let section = sections.get(&id).copied();
            let mut value = (0, 0);
            let kind = match (section.map(|s| btf.name(s).unwrap_or_default()), ty) {
                // Functions that are declared without section can be nothing else.
                (Some(KSYMS) | None, None) => ExternKind::Kfunc,
                (Some(KCONFIG), Some(ty)) => {
                    kconfig_type = section;
                    simple(btf, ty).map_err(|problem| wrong(&problem))?;
                    let no_size = |_| wrong("its type has no size");
                    let size = btf.size_of(ty).map_err(no_size)?;
                    value = (size, btf.align_of(ty).map_err(no_size)?);
                    if size == 0 || size > MAX_VALUE {
                        return Err(wrong("its type has no size, or one of more than 4096 bytes"));
                    }
                    ExternKind::Kconfig { offset: 0, size }
                }
                (Some(KCONFIG), None) => {
                    return Err(wrong("a function cannot be a __kconfig value"));
                }
                (Some(KSYMS), Some(ty)) => match btf.skip_mods(ty) {
                    Ok(TypeId::VOID) => ExternKind::KsymAddr,
                    _ => ExternKind::KsymVar,
                },
                _ => {
                    return Err(wrong(
                        "its section is neither .kconfig nor .ksyms: link the object with the \
                         one that defines it",
                    ));
                }
            };
            let spec = ExternSpec { name: s.name.to_owned(), weak, type_id: Some(id), kind };
            found.push(Found { symbol, spec, value });
        }
        Ok(Self::place(btf, found, kconfig_type))
    }

    /// Sorts as libbpf does (kconfig by falling alignment, size, name; then the others by name)
    /// and gives the kconfig values their offsets.
    fn place(btf: &Btf, mut found: Vec<Found>, kconfig_type: Option<TypeId>) -> Self {
        found.sort_by(|a, b| {
            let key = |f: &Found| match f.spec.kind {
                ExternKind::Kconfig { .. } => (0, std::cmp::Reverse(f.value.1), f.value.0),
                _ => (1, std::cmp::Reverse(0), 0),
            };
            key(a).cmp(&key(b)).then_with(|| a.spec.name.cmp(&b.spec.name))
        });
        let mut externs = Self::default();
        let mut end: u32 = 0;
        let mut variables = Vec::new();
        for Found { symbol, mut spec, value: (bytes, align) } in found {
            if let ExternKind::Kconfig { offset, .. } = &mut spec.kind {
                *offset = end.next_multiple_of(align.max(1));
                end = *offset + bytes;
                variables.push(VarSpec {
                    name: spec.name.clone(),
                    offset: *offset,
                    size: bytes,
                    type_id: spec.type_id,
                });
            }
            externs.by_symbol.insert(symbol, externs.list.len());
            externs.list.push(spec);
        }
        externs.kconfig_layout =
            kconfig_type.and_then(|id| kconfig_layout(btf, id, end, &variables));
        externs.kconfig = (end > 0).then(|| kconfig_map(end, variables, kconfig_type));
        externs
    }

    /// What a relocation of an extern's symbol means.
    pub(crate) fn targets(&self, kconfig_map: usize) -> HashMap<usize, RelocTarget> {
        let target = |index: usize| match self.list.get(index)?.kind {
            ExternKind::Kconfig { offset, .. } => {
                Some(RelocTarget::MapValue { map: kconfig_map, offset })
            }
            ExternKind::KsymVar | ExternKind::KsymAddr => Some(RelocTarget::Ksym(index)),
            ExternKind::Kfunc => Some(RelocTarget::Kfunc(index)),
        };
        self.by_symbol.iter().filter_map(|(&s, &index)| Some((s, target(index)?))).collect()
    }
}

/// Largest kconfig value; the kernel's own strings are far shorter.
const MAX_VALUE: u32 = 4096;

/// The section that each extern variable or function is in.
fn extern_sections(btf: &Btf) -> HashMap<TypeId, TypeId> {
    let mut sections = HashMap::new();
    for id in btf.ids() {
        if let Some(Kind::DataSec(datasec)) = btf.get(id).map(|t| t.kind) {
            for var in datasec.vars.iter() {
                sections.entry(var.var).or_insert(id);
            }
        }
    }
    sections
}

/// The extern variables (with their types) and functions by name; of both, the variable.
///
/// Read once: looking names up one by one takes as many steps as there are types of that name.
fn extern_types(btf: &Btf) -> HashMap<&str, (TypeId, Option<TypeId>)> {
    let mut vars = HashMap::new();
    let mut funcs = HashMap::new();
    for id in btf.ids() {
        let Some(ty) = btf.get(id) else { continue };
        match ty.kind {
            Kind::Var(var) if var.linkage == Linkage::EXTERN => {
                vars.entry(ty.name).or_insert((id, Some(var.ty)));
            }
            Kind::Func(func) if func.linkage == Linkage::EXTERN => {
                funcs.entry(ty.name).or_insert((id, None));
            }
            _ => {}
        }
    }
    funcs.extend(vars);
    funcs
}

/// Refuses types that no kconfig value has: their size and alignment can take long to find.
fn simple(btf: &Btf, id: TypeId) -> Result<(), String> {
    let mut at = id;
    // One array, and what it is of.
    for _ in 0..2 {
        let kind = btf.skip_mods(at).ok().and_then(|id| btf.get(id)).map(|t| t.kind);
        match kind {
            Some(Kind::Array(array)) => at = array.element,
            Some(Kind::Int(_) | Kind::Enum(_) | Kind::Enum64(_)) => return Ok(()),
            other => {
                let found = other.map_or("without end", |kind| kind.tag().name());
                return Err(format!(
                    "its type is {found}, expected an integer, enum or char array"
                ));
            }
        }
    }
    Err("its type is an array of arrays, expected an integer, enum or char array".to_owned())
}

/// The layout that the `DATASEC` should have. Values that no symbol asks for have no place and no
/// size.
fn kconfig_layout(
    btf: &Btf,
    type_id: TypeId,
    size: u32,
    placed: &[VarSpec],
) -> Option<DataSection> {
    let places: HashMap<TypeId, &VarSpec> =
        placed.iter().filter_map(|v| Some((v.type_id?, v))).collect();
    let Kind::DataSec(datasec) = btf.get(type_id)?.kind else { return None };
    let mut vars: Vec<Variable> = datasec
        .vars
        .iter()
        .map(|entry| {
            let place = places.get(&entry.var);
            Variable {
                name: String::new(),
                var: entry.var,
                type_id: entry.var,
                offset: place.map_or(size, |v| v.offset),
                size: place.map_or(0, |v| v.size),
                is_static: false,
            }
        })
        .collect();
    vars.sort_by_key(|v| v.offset);
    Some(DataSection { type_id, size, vars })
}

fn kconfig_map(size: u32, variables: Vec<VarSpec>, value_type: Option<TypeId>) -> MapSpec {
    MapSpec {
        name: KCONFIG.to_owned(),
        def: MapDef {
            map_type: MapType::ARRAY,
            key_size: 4,
            value_size: size,
            max_entries: 1,
            // libbpf finds the externs global by then, so user space may map them.
            flags: MapFlags::RDONLY_PROG.with(MapFlags::MMAPABLE),
            extra: 0,
            numa_node: 0,
        },
        origin: MapOrigin::Kconfig,
        key_type: None,
        value_type,
        pinning: Pinning::None,
        inner: None,
        autocreate: true,
        initial: Vec::new(),
        data: Some(vec![0; size as usize]),
        variables,
    }
}
