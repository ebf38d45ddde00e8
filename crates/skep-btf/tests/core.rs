//! CO-RE relocations as clang makes them, resolved against another layout of the same types.
//!
//! `core/expected.txt` has been compared line by line with what libbpf patches (its debug log, target
//! given as `btf_custom_path`). `BLESS=1` rewrites it.
use std::{fmt::Write as _, path::Path, process::Command};

use skep_btf::{
    Btf,
    core::{CoreKind, CoreValue, Resolver, Target, Width},
    ext::BtfExt,
};
use skep_testing::{Skip, skip};

/// The `.BTF` and `.BTF.ext` that clang makes of a file.
fn compile(test: &str, source: &Path) -> Option<(Btf, BtfExt)> {
    let name = source.file_stem().expect("a file").to_string_lossy().into_owned();
    let dir = std::env::temp_dir().join(format!("skep-core-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
    let mut clang = Command::new("clang-19");
    clang.args(["-target", "bpf", "-O2", "-g", "-mcpu=v3", "-c", "-o"]);
    clang.arg(dir.join("o")).arg(source);
    let mut objcopy = Command::new("llvm-objcopy-19");
    for section in ["BTF", "BTF.ext"] {
        let to = dir.join(section);
        objcopy.arg("--dump-section").arg(format!(".{section}={}", to.display()));
    }
    objcopy.arg(dir.join("o"));
    let done = run(test, clang).and_then(|()| run(test, objcopy));
    let sections = ["BTF", "BTF.ext"].map(|section| std::fs::read(dir.join(section)));
    std::fs::remove_dir_all(&dir).expect("made above");
    done?;
    let [btf, ext] = sections.map(|bytes| bytes.expect("llvm-objcopy wrote it"));
    let btf = Btf::parse(&btf).expect("clang's BTF");
    let ext = BtfExt::parse(&ext, &btf).expect("clang's BTF.ext");
    Some((btf, ext))
}

/// Runs one of LLVM's programs; `None`, counted as skipped, when it is not installed.
fn run(test: &str, mut command: Command) -> Option<()> {
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(())
        }
        Err(e) => {
            skip(Skip::Tool, test, &format!("{command:?} does not run: {e}"));
            None
        }
    }
}

/// One line per relocation.
fn outcomes(local: &Btf, ext: &BtfExt, target: &Btf) -> String {
    let mut resolver = Resolver::new(local, Target::new(target));
    let mut out = String::new();
    for section in &ext.sections {
        for relo in &section.core_relos {
            let kind = CoreKind::from_number(relo.kind).expect("a known kind");
            let access = local.string(relo.access_off).expect("checked when parsing");
            let outcome = match resolver.resolve(relo.type_id, access, kind) {
                Err(e) => format!("error: {e}"),
                Ok(resolved) => match resolved.value {
                    CoreValue::Poison => "poison".to_owned(),
                    CoreValue::Patch(patch) => {
                        let width = match patch.width {
                            Width::Same => String::new(),
                            Width::Change { from, to } => format!(", width {from} -> {to}"),
                            Width::Unsafe { from, to } => format!(", unsafe {from} -> {to}"),
                        };
                        let (orig, new) = (patch.orig.cast_signed(), patch.new.cast_signed());
                        let free = if patch.validate { "" } else { " (any)" };
                        format!("{orig}{free} -> {new}{width}")
                    }
                },
            };
            let text = resolver.describe(relo.type_id, access, kind);
            let (name, insn) = (&section.name, relo.insn_off / 8);
            writeln!(out, "{name} {insn}: <{kind}> {text}: {outcome}").expect("to a string");
        }
    }
    out
}

#[test]
fn relocations_of_all_kinds_resolve_as_in_libbpf() {
    let test = "relocations_of_all_kinds_resolve_as_in_libbpf";
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/core");
    let Some((local, ext)) = compile(test, &dir.join("local.c")) else { return };
    let Some((target, _)) = compile(test, &dir.join("target.c")) else { return };
    let got = outcomes(&local, &ext, &target);
    for kind in CoreKind::ALL {
        assert!(got.contains(&format!("<{kind}>")), "no relocation of kind {kind}");
    }
    let expected = dir.join("expected.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&expected, &got).expect("the repository is writable");
    }
    let want = std::fs::read_to_string(&expected).expect("part of the repository");
    for (got, want) in got.lines().zip(want.lines()) {
        assert_eq!(got, want, "BLESS=1 rewrites core/expected.txt");
    }
    assert_eq!(got.lines().count(), want.lines().count(), "BLESS=1 rewrites core/expected.txt");
}
