//! What compilers write, brought into the kernel's form and loaded.

use std::collections::{HashMap, HashSet};

use skep_btf::{KindTag, TypeId};
use skep_testing::require_kernel;

use super::*;
use crate::probe;

/// Strings at known offsets.
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, text: &str) -> u32 {
        let at = u32::try_from(self.0.len()).unwrap();
        self.0.extend(text.bytes());
        self.0.push(0);
        at
    }
}

const fn info(kind: KindTag, vlen: u32) -> u32 {
    kind.number() << 24 | vlen
}

/// One of each thing that needs the loader's hand. The numbers in the comments are type ids.
fn compiled() -> skep_btf::Btf {
    let mut strings = Strings(vec![0]);
    let mut s = |text: &str| strings.add(text);
    let signed = 1 << 31;
    let words = [
        vec![s("int"), info(KindTag::Int, 0), 4, 1 << 24 | 32], // 1
        vec![s("double"), info(KindTag::Float, 0), 8],          // 2
        vec![s("a"), info(KindTag::Var, 0), 1, 1],              // 3
        vec![s("b"), info(KindTag::Var, 0), 2, 1],              // 4
        // 5: sizes and offsets are the loader's business, and b comes first.
        vec![s(".data"), info(KindTag::DataSec, 2), 0, 3, 0, 0, 4, 0, 0],
        vec![0, info(KindTag::FuncProto, 1), 1, 0, 1], // 6: a parameter without a name
        vec![s("kfunc"), info(KindTag::Func, 2), 6],   // 7: extern
        vec![s("tag"), info(KindTag::DeclTag, 0), 7, u32::MAX], // 8: of what is dropped
        vec![s("sym"), info(KindTag::Var, 0), 0, 2],   // 9: extern, of no type
        vec![s(".ksyms"), info(KindTag::DataSec, 2), 0, 7, 0, 0, 9, 0, 0], // 10
        vec![s("user"), info(KindTag::TypeTag, 0), 1], // 11
        vec![0, info(KindTag::Ptr, 0), 11],            // 12
        vec![s("big"), info(KindTag::Enum64, 1), 8, s("BIG"), 0, 1], // 13
        vec![s("neg"), info(KindTag::Enum, 1) | signed, 4, s("NEG"), u32::MAX], // 14
        vec![s("tag"), info(KindTag::DeclTag, 0), 3, u32::MAX], // 15: of what stays
        vec![0, info(KindTag::FuncProto, 0), 1],       // 16
        vec![s("hidden"), info(KindTag::Func, 1), 16], // 17: global
        vec![s("later"), info(KindTag::Enum, 0), 0],   // 18: declared only
        vec![s("()"), info(KindTag::Int, 0), 0, 0],    // 19: Rust's unit
        vec![s("Option<u8>"), info(KindTag::Union, 0), 1], // 20: no name in C
    ];
    skep_btf::Btf::parse(&form::section(&words.concat(), &strings.0)).unwrap()
}

fn layout() -> SectionLayout {
    let variables = HashMap::from([("a".to_owned(), (8, 4)), ("b".to_owned(), (0, 8))]);
    SectionLayout { datasec: TypeId(5), size: 12, variables }
}

fn kinds(btf: &skep_btf::Btf) -> Vec<KindTag> {
    btf.ids().map(|id| btf.kind_tag(id).unwrap()).collect()
}

fn in_kernel_form(missing: &[KindTag]) -> (Vec<u8>, skep_btf::Btf) {
    let btf = compiled();
    let local = HashSet::from([TypeId(17)]);
    let bytes = form::kernel_form(&btf.to_bytes(), &btf, &[layout()], &local, missing);
    let parsed = skep_btf::Btf::parse(&bytes).unwrap();
    (bytes, parsed)
}

#[test]
fn sections_are_laid_out_and_externs_give_way() {
    let (_, btf) = in_kernel_form(&[]);
    let Some(skep_btf::Kind::DataSec(data)) = btf.get(TypeId(5)).map(|t| t.kind) else { panic!() };
    assert_eq!(data.size, 12);
    let vars: Vec<_> = data.vars.iter().map(|v| (v.var.0, v.offset, v.size)).collect();
    assert_eq!(vars, [(4, 0, 8), (3, 8, 4)]);
    for dropped in [7, 8, 9, 10] {
        assert_eq!(btf.kind_tag(TypeId(dropped)), Some(KindTag::Struct), "type {dropped}");
    }
    assert_eq!(btf.kind_tag(TypeId(15)), Some(KindTag::DeclTag));
    let Some(skep_btf::Kind::Func(hidden)) = btf.get(TypeId(17)).map(|t| t.kind) else { panic!() };
    assert_eq!(hidden.linkage, skep_btf::Linkage::STATIC);
}

#[test]
fn kinds_a_kernel_lacks_keep_their_numbers_and_sizes() {
    let missing: Vec<KindTag> = YOUNG_KINDS.iter().map(|&(kind, _)| kind).collect();
    let (_, btf) = in_kernel_form(&missing);
    assert_eq!(btf.len(), compiled().len());
    assert!(kinds(&btf).iter().all(|kind| !missing.contains(kind)), "{:?}", kinds(&btf));
    assert_eq!(btf.size_of(TypeId(2)), Ok(8));
    assert_eq!(btf.kind_tag(TypeId(11)), Some(KindTag::Const));
    assert_eq!(btf.size_of(TypeId(13)), Ok(8));
}

#[test]
fn the_kernel_takes_both_forms() {
    require_kernel!(probe::can_load().into_result());
    let all: Vec<KindTag> = YOUNG_KINDS.iter().map(|&(kind, _)| kind).collect();
    for missing in [missing_kinds(None), all] {
        let (bytes, _) = in_kernel_form(&missing);
        load_bytes(&bytes, None).unwrap_or_else(|e| match e {
            LoadError::Btf { log, .. } => panic!("without {missing:?}: {}", log.text),
            other => panic!("{other}"),
        });
    }
    assert!(load_bytes(&compiled().to_bytes(), None).is_err(), "as compiled it is not taken");
    let local = HashSet::new();
    let loaded = Btf::load(&compiled(), &[layout()], &local).unwrap();
    assert_eq!(loaded.adapted(), missing_kinds(None), "probed by doing");
    if crate::target::kernel_version() >= 0x06_00_00 {
        assert_eq!(missing_kinds(None), [], "Linux 6.0 has them all");
    }
}

#[test]
fn examples_of_young_kinds_are_well_formed() {
    for (kind, example) in YOUNG_KINDS {
        let btf = skep_btf::Btf::parse(&example_btf(example)).unwrap();
        assert_eq!(btf.kind_tag(TypeId(3)), Some(*kind));
    }
}

#[test]
fn nonsense_is_refused_with_the_kernels_words() {
    require_kernel!(probe::can_load().into_result());
    // An INT of 3 bits in 4 bytes at bit offset 40.
    let bytes = form::section(&[1, 1 << 24, 4, 40 << 16 | 3], b"\0x\0");
    let error = load_bytes(&bytes, None).unwrap_err();
    let LoadError::Btf { errno, summary, .. } = &error else { panic!("{error:?}") };
    assert_eq!(*errno, libc::EINVAL);
    assert!(summary.contains("INT"), "{summary}");
}

#[test]
fn what_the_kernel_refuses_without_words_has_its_cause() {
    require_kernel!(probe::can_load().into_result());
    // More than the kernel takes (16 MiB): it does not even look.
    let error = load_bytes(&vec![0; (16 << 20) + 1], None).unwrap_err();
    let LoadError::Btf { errno, summary, log } = &error else { panic!("{error:?}") };
    assert_eq!((*errno, log.text.as_str()), (libc::E2BIG, ""));
    assert!(summary.contains("(os error 7)"), "{summary}");
}
