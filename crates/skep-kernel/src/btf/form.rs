//! From the BTF a compiler writes to the BTF the kernel takes: same type numbers, other words.
//!
//! Compilers leave sizes and offsets of sections to the loader, describe externs, and use kinds
//! that older kernels do not know. What the kernel would refuse and nobody needs there becomes an
//! anonymous structure without members.

use std::collections::{HashMap, HashSet};

use skep_btf::{Btf, Kind, KindTag, Linkage, TypeId};

/// Where the variables of a section lie, for sections that are maps.
#[derive(Clone, Debug)]
pub struct SectionLayout {
    /// The `DATASEC`.
    pub datasec: TypeId,
    /// Size of the map's value in bytes.
    pub size: u32,
    /// Byte offset and size of each variable, by name.
    pub variables: HashMap<String, (u32, u32)>,
}

const HEADER_LEN: usize = 24;
/// Mask of the element count in an info word.
const VLEN: u32 = 0x00ff_ffff;

/// `struct {}` with this size.
const fn filler(size: u32) -> [u32; 3] {
    [0, KindTag::Struct.number() << 24, size]
}

/// A whole `.BTF` section from types and strings, in this machine's byte order.
pub(super) fn section(words: &[u32], strings: &[u8]) -> Vec<u8> {
    let types = u32::try_from(words.len() * 4).unwrap_or(u32::MAX);
    let mut out = vec![];
    out.extend(0xeb9f_u16.to_ne_bytes());
    out.extend([1, 0]);
    let strings_len = u32::try_from(strings.len()).unwrap_or(u32::MAX);
    for field in [24, 0, types, types, strings_len] {
        out.extend(u32::to_ne_bytes(field));
    }
    out.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    out.extend(strings);
    out
}

/// Rewrites `bytes`, which are `btf`'s. Unchanged where they are not what `btf` wrote.
pub(super) fn kernel_form(
    bytes: &[u8],
    btf: &Btf,
    layouts: &[SectionLayout],
    local: &HashSet<TypeId>,
    missing: &[KindTag],
) -> Vec<u8> {
    rewrite(bytes, btf, layouts, local, missing).unwrap_or_else(|| bytes.to_vec())
}

fn rewrite(
    bytes: &[u8],
    btf: &Btf,
    layouts: &[SectionLayout],
    local: &HashSet<TypeId>,
    missing: &[KindTag],
) -> Option<Vec<u8>> {
    let header = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let (types_len, strings_at, strings_len) = (header(12)?, header(16)?, header(20)?);
    let types = bytes.get(HEADER_LEN..)?.get(..types_len)?;
    let strings = bytes.get(HEADER_LEN..)?.get(strings_at..)?.get(..strings_len)?;
    let mut words = types.as_chunks::<4>().0.iter().map(|&chunk| u32::from_ne_bytes(chunk));

    let work = Rewrite::new(btf, layouts, local, missing);
    let mut out = Vec::with_capacity(types_len / 4);
    for id in btf.ids() {
        let mut common = [0; 3];
        for word in &mut common {
            *word = words.next()?;
        }
        let [_, info, _] = common;
        let kind = KindTag::from_number(info >> 24 & 0x7f)?;
        let (own, each) = kind.payload_words();
        let rest: Vec<u32> = words.by_ref().take(own + each * (info & VLEN) as usize).collect();
        work.one(id, kind, common, rest, &mut out);
    }
    Some(section(&out, strings))
}

/// May the kernel's types be called so (`btf_name_valid_identifier`, kernel/bpf/btf.c)?
fn is_identifier(name: &str) -> bool {
    let first = name.bytes().next().is_none_or(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.len() < 128 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

struct Rewrite<'a> {
    btf: &'a Btf,
    layouts: HashMap<TypeId, &'a SectionLayout>,
    /// Functions that are static whatever the compiler called them.
    local: &'a HashSet<TypeId>,
    missing: &'a [KindTag],
    /// Externs that no map holds.
    dropped: HashSet<TypeId>,
}

impl<'a> Rewrite<'a> {
    fn new(
        btf: &'a Btf,
        layouts: &'a [SectionLayout],
        local: &'a HashSet<TypeId>,
        missing: &'a [KindTag],
    ) -> Self {
        let kept = |layout: &SectionLayout| match btf.get(layout.datasec).map(|t| t.kind) {
            Some(Kind::DataSec(section)) => section.vars.iter().map(|var| var.var).collect(),
            _ => Vec::new(),
        };
        let kept_vars: HashSet<TypeId> = layouts.iter().flat_map(kept).collect();
        let dropped = btf.ids().filter(|id| match btf.get(*id).map(|t| t.kind) {
            // Externs are the only functions whose parameters may be nameless, which the kernel
            // refuses; and it knows no extern linkage.
            Some(Kind::Func(func)) => func.linkage == Linkage::EXTERN,
            Some(Kind::Var(var)) => var.linkage == Linkage::EXTERN && !kept_vars.contains(id),
            _ => false,
        });
        let dropped = dropped.collect();
        let layouts = layouts.iter().map(|layout| (layout.datasec, layout)).collect();
        Self { btf, layouts, local, missing, dropped }
    }

    /// Writes one type in the kernel's form.
    fn one(&self, id: TypeId, kind: KindTag, common: [u32; 3], rest: Vec<u32>, out: &mut Vec<u32>) {
        let [name, info, size_or_type] = common;
        let missing = self.missing.contains(&kind);
        match kind {
            KindTag::DataSec => match self.layouts.get(&id) {
                Some(layout) => {
                    out.extend([name, info, layout.size]);
                    out.extend(self.placed(layout, &rest));
                }
                None => out.extend(filler(0)),
            },
            _ if self.dropped.contains(&id) => out.extend(filler(0)),
            // A function keeps its linkage where others have a count.
            KindTag::Func if self.local.contains(&id) => {
                out.extend([name, info & !VLEN | Linkage::STATIC.0, size_or_type]);
            }
            KindTag::Var if rest.first() == Some(&Linkage::EXTERN.0) => {
                out.extend([name, info, size_or_type, Linkage::GLOBAL.0]);
            }
            KindTag::DeclTag if missing || self.dropped.contains(&TypeId(size_or_type)) => {
                out.extend(filler(0));
            }
            KindTag::Float if missing => out.extend(filler(size_or_type)),
            // Rust's unit type, which no kernel takes for an integer.
            KindTag::Int if size_or_type == 0 => out.extend(filler(0)),
            KindTag::TypeTag if missing => {
                out.extend([0, KindTag::Const.number() << 24, size_or_type]);
            }
            KindTag::Enum64 if missing => {
                out.extend([name, KindTag::Int.number() << 24, size_or_type, size_or_type * 8]);
            }
            // Declared only: the kernel wants a size all the same.
            KindTag::Enum if size_or_type == 0 => out.extend([name, info, 4]),
            // Signed enums came together with the 64-bit ones.
            KindTag::Enum if self.missing.contains(&KindTag::Enum64) => {
                out.extend([name, info & !(1 << 31), size_or_type]);
                out.extend(rest);
            }
            // Names that are none in C, such as Rust's of generic types. Only these kinds may go
            // without.
            KindTag::Struct | KindTag::Union | KindTag::Enum | KindTag::Enum64
                if !is_identifier(self.btf.name(id).unwrap_or("")) =>
            {
                out.extend([0, info, size_or_type]);
                out.extend(rest);
            }
            _ => {
                out.extend(common);
                out.extend(rest);
            }
        }
    }

    /// The section's variables where the layout puts them, in ascending order.
    fn placed(&self, layout: &SectionLayout, rest: &[u32]) -> Vec<u32> {
        let mut vars: Vec<[u32; 3]> = rest
            .as_chunks::<3>()
            .0
            .iter()
            .map(|&[type_id, offset, size]| {
                let name = self.btf.name(TypeId(type_id)).unwrap_or("");
                let (offset, size) = layout.variables.get(name).copied().unwrap_or((offset, size));
                [type_id, offset, size]
            })
            .collect();
        vars.sort_by_key(|&[_, offset, _]| offset);
        vars.concat()
    }
}
