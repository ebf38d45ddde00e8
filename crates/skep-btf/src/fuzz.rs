//! What a fuzzer does with bytes: plain functions, so that tests run them too.
//!
//! Whatever the bytes: no panic, time and memory in proportion to them.

use crate::{
    Btf, Builder, KindTag, TypeId, c,
    core::{CoreKind, Resolver, Target},
    dump,
    ext::BtfExt,
    value,
};

/// Types of each file on which the costlier questions are asked.
const SAMPLE: u32 = 24;

/// Reads the bytes as BTF and asks everything that can be asked of it.
///
/// # Panics
///
/// When BTF that was accepted does not survive writing and reading again.
pub fn btf_bytes(bytes: &[u8]) {
    let Ok(btf) = Btf::parse(bytes) else { return };
    for id in btf.ids().chain([TypeId(0), TypeId(u32::MAX)]) {
        let _ = (btf.size_of(id), btf.skip_mods(id), btf.name(id));
        let _ = btf.get(id).map(|ty| btf.find(ty.kind.tag(), ty.name).next());
    }
    for id in (0..SAMPLE).map(TypeId) {
        let _ = btf.align_of(id);
        if id.0 < SAMPLE / 4 {
            drop(value::decode(&btf, id, bytes));
        }
        drop(value::encode(&btf, id, "1"));
        drop(value::encode(&btf, id, "hex:00"));
    }
    let again = Btf::parse(&btf.to_bytes()).expect("what was read can be written");
    assert_eq!(dump::raw(&btf).to_string(), dump::raw(&again).to_string());
    let copied = Builder::from_btf(&btf).finish().expect("what was read can be built");
    assert_eq!(copied.len(), btf.len());
    drop(Btf::parse_split(bytes, &btf));
    drop(c::header(&btf).to_string());
    relocate(&btf);
}

/// Resolves accesses to the first types against the same types.
fn relocate(btf: &Btf) {
    let mut resolver = Resolver::new(btf, Target::new(btf));
    let roots = btf.ids().filter(|&id| {
        let tag = btf.kind_tag(id);
        !matches!(tag, Some(KindTag::Func | KindTag::Var | KindTag::DataSec))
    });
    for root in roots.take(SAMPLE as usize / 4) {
        for access in ["0", "0:0", "1", "0:1:0", "0:0:0:0"] {
            for &kind in CoreKind::ALL {
                drop(resolver.resolve(root, access, kind));
            }
        }
    }
}

/// Reads the bytes as BTF and BTF.ext: two bytes with the length of the first, both parts.
///
/// # Panics
///
/// When BTF.ext that was accepted does not survive writing and reading again.
pub fn btf_ext_bytes(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let length = usize::from(u16::from_le_bytes(*length));
    let Some((btf, ext)) = rest.split_at_checked(length) else { return };
    let Ok(btf) = Btf::parse(btf) else { return };
    let Ok(ext) = BtfExt::parse(ext, &btf) else { return };
    let mut builder = Builder::from_btf(&btf);
    let written = ext.to_bytes(&mut builder);
    let btf = builder.finish().expect("only strings were added");
    assert_eq!(BtfExt::parse(&written, &btf), Ok(ext.clone()));
    let mut resolver = Resolver::new(&btf, Target::new(&btf));
    let relos = ext.sections.iter().flat_map(|section| &section.core_relos);
    for relo in relos.take(SAMPLE as usize) {
        let (Some(access), Some(kind)) =
            (btf.string(relo.access_off), CoreKind::from_number(relo.kind))
        else {
            continue;
        };
        drop(resolver.resolve(relo.type_id, access, kind));
    }
}
