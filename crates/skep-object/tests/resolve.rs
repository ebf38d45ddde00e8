//! Resolving: CO-RE against types that another object brings, kconfig values, weak symbols.

mod text;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use skep_btf::{Btf, Builder};
use skep_isa::Pc;
use skep_object::resolve::{
    CoreOutcome, CoreResult, KconfigProblem, POISON_HELPER, resolve_asking,
};
use skep_object::spec::{MapOrigin, RelocTarget};
use skep_object::{ObjectSpec, ResolveError, Symbols, Target, resolve};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/objects").join(name)
}

fn parse(name: &str) -> ObjectSpec {
    let bytes = fs::read(path(name)).expect("in the repository");
    ObjectSpec::parse(&bytes).expect("an object")
}

fn target_types() -> Btf {
    parse("core_target.bpf.o").btf.expect("built with types")
}

#[test]
fn core_relocations_are_as_written_beside_the_object() {
    let btf = target_types();
    let target = Target { btf: Some(&btf), ..Target::NONE };
    let resolved = resolve(parse("core.bpf.o"), &target).expect("resolves");
    let mut found = String::new();
    for outcome in resolved.core() {
        let program = &resolved.spec().programs.get(outcome.program).expect("its program").name;
        let result = match &outcome.result {
            CoreResult::Patched { from, to, found, .. } => {
                format!("{from:#x} -> {to:#x} ({})", found.as_deref().unwrap_or("absent"))
            }
            CoreResult::Poisoned { reason } => format!("poisoned: {reason}"),
        };
        found += &format!("{program} {}: {}: {result}\n", outcome.at, outcome.wanted);
    }
    found += &text::of_spec(resolved.spec());

    let golden = path("core.bpf.resolved");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&golden, &found).expect("writable");
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    let lines = (1..).zip(expected.lines().zip(found.lines()));
    for (n, (expected, found)) in lines {
        assert_eq!(expected, found, "line {n} of {}; BLESS=1 rewrites it", golden.display());
    }
    assert_eq!(expected.lines().count(), found.lines().count(), "BLESS=1 rewrites it");
}

#[test]
fn unreachable_accesses_are_poisoned_with_their_reason() {
    let btf = target_types();
    let target = Target { btf: Some(&btf), ..Target::NONE };
    let resolved = resolve(parse("core.bpf.o"), &target).expect("resolves");
    let program = |name: &str| {
        let programs = &resolved.spec().programs;
        programs.iter().find(|p| p.name == name).expect("in the object")
    };
    let poisoned = program("poisoned");
    let poison = poisoned.poisoned.first().expect("the field is not in the target");
    assert!(poison.reason.contains("struct nested.missing"), "{}", poison.reason);
    let slot = poisoned.insns.get(poison.at.index()).expect("its instruction");
    assert_eq!((slot.code, slot.src, slot.imm), (0x85, 0, POISON_HELPER));
    let unsafe_access = program("unsafe").poisoned.first().expect("signed and of another size");
    assert!(unsafe_access.reason.contains("4 bytes"), "{}", unsafe_access.reason);
    // A wide instruction becomes two: an engine that decodes them finds the reason of each.
    for program in &resolved.spec().programs {
        for (pc, slot) in (0..).zip(&program.insns) {
            let poison = program.poisoned.iter().any(|p| p.at == Pc(pc));
            assert_eq!(poison, slot.imm == POISON_HELPER, "{} insn {pc}", program.name);
        }
    }
}

#[test]
fn relocations_need_types_and_other_objects_do_not() {
    let error = resolve(parse("core.bpf.o"), &Target::NONE).expect_err("no types");
    assert!(
        matches!(&error, ResolveError::NoTargetBtf { program, at: Pc(0), .. } if program == "fields"),
        "{error}"
    );
    resolve(parse("maps.bpf.o"), &Target::NONE).expect("nothing to relocate");
}

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[test]
fn kconfig_values_lie_in_their_map() {
    let options = options(&[
        ("CONFIG_HZ", "250"),
        ("CONFIG_BPF", "y"),
        ("CONFIG_VETH", "m"),
        ("CONFIG_LETTER", "n"),
        ("CONFIG_DEFAULT_HOSTNAME", "\"(none) and more\""),
    ]);
    let target = Target {
        kconfig: Some(&options),
        kernel_version: 0x06_01_02,
        has_bpf_cookie: true,
        ..Target::NONE
    };
    let resolved = resolve(parse("externs.bpf.o"), &target).expect("all values are there");
    let map = resolved.spec().maps.iter().find(|m| m.origin == MapOrigin::Kconfig);
    let map = map.expect("there are kconfig externs");
    let data = map.data.as_deref().expect("filled");
    let value = |name: &str| {
        let var = map.variables.iter().find(|v| v.name == name).expect("an extern");
        let at = var.offset as usize;
        data.get(at..at + var.size as usize).expect("inside")
    };
    assert_eq!(value("CONFIG_HZ"), 250_u64.to_le_bytes());
    assert_eq!(value("CONFIG_BPF"), [1]);
    assert_eq!(value("CONFIG_VETH"), 2_u32.to_le_bytes());
    assert_eq!(value("CONFIG_LETTER"), *b"n");
    assert_eq!(value("CONFIG_DEFAULT_HOSTNAME"), *b"(none) \0");
    assert_eq!(value("CONFIG_NOT_THERE"), [0; 4]);
    assert_eq!(value("LINUX_KERNEL_VERSION"), 0x06_01_02_u32.to_le_bytes());
    assert_eq!(value("LINUX_HAS_BPF_COOKIE"), [1]);
    assert_eq!(value("LINUX_HAS_SOMETHING_NEW"), [0]);
}

#[test]
fn strong_options_must_be_set() {
    let fail = |target: &Target<'_>| match resolve(parse("externs.bpf.o"), target) {
        Err(ResolveError::Kconfig { name, problem }) => (name, problem),
        other => panic!("expected an error, found {other:?}"),
    };
    assert_eq!(fail(&Target::NONE), ("CONFIG_HZ".to_owned(), KconfigProblem::Unknown));
    let wrong = options(&[("CONFIG_HZ", "m")]);
    let (name, problem) = fail(&Target { kconfig: Some(&wrong), ..Target::NONE });
    assert_eq!(name, "CONFIG_HZ");
    assert!(matches!(problem, KconfigProblem::Mismatch { .. }), "{problem}");
    let few = options(&[("CONFIG_HZ", "100")]);
    let (name, problem) = fail(&Target { kconfig: Some(&few), ..Target::NONE });
    assert_eq!((name.as_str(), problem), ("CONFIG_VETH", KconfigProblem::Unset));
}

#[test]
fn weak_symbols_vanish_where_there_are_none() {
    let options = options(&[
        ("CONFIG_HZ", "250"),
        ("CONFIG_BPF", "y"),
        ("CONFIG_VETH", "y"),
        ("CONFIG_LETTER", "7"),
        ("CONFIG_DEFAULT_HOSTNAME", "\"x\""),
    ]);
    let absent = Target { kconfig: Some(&options), ..Target::NONE };
    let engine = Target { symbols: Symbols::Engine, ..absent };
    let references = |target: &Target<'_>| {
        let resolved = resolve(parse("externs.bpf.o"), target).expect("resolves");
        let spec = resolved.spec();
        let mut names = Vec::new();
        for reloc in spec.programs.iter().flat_map(|p| &p.relocs) {
            if let RelocTarget::Ksym(at) | RelocTarget::Kfunc(at) = reloc.target {
                names.push(spec.externs.get(at).expect("an extern").name.clone());
            }
        }
        let poisoned: usize = spec.programs.iter().map(|p| p.poisoned.len()).sum();
        (names, poisoned)
    };
    let strong = ["bpf_prog_active", "schedule", "bpf_task_from_pid", "bpf_task_release"];
    let (names, poisoned) = references(&absent);
    assert_eq!(names, strong);
    assert_eq!(poisoned, 1, "the call of the weak function");
    let (names, poisoned) = references(&engine);
    assert_eq!(names.len(), strong.len() + 3);
    assert_eq!(poisoned, 0);
}

#[test]
fn modules_are_asked_for_once_and_only_when_the_kernel_lacks_a_type() {
    let (object, types) = (parse("core.bpf.o"), target_types());
    let none = Builder::new().finish().expect("no types are types");
    let whole = Target { btf: Some(&types), ..Target::NONE };
    let empty = Target { btf: Some(&none), ..Target::NONE };
    let mut asked = 0;
    let mut modules = || {
        asked += 1;
        vec![types.clone()]
    };

    let lacking = resolve_asking(object.clone(), &empty, &mut modules).expect("resolves");
    let modules_known = Target { modules: std::slice::from_ref(&types), ..empty };
    let known = resolve(object, &modules_known).expect("resolves");
    assert_eq!(lacking.core(), known.core());
    assert_eq!(text::of_spec(lacking.spec()), text::of_spec(known.spec()));
    let in_module = |o: &CoreOutcome| {
        matches!(o.result, CoreResult::Patched { type_id: Some((_, Some(0))), .. })
    };
    assert!(known.core().iter().any(in_module));

    resolve_asking(parse("sections.bpf.o"), &whole, &mut modules).expect("resolves");
    assert_eq!(asked, 1);
}
