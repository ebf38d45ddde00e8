//! The C header of real BTF compiles, and every structure has the size and offsets of the BTF.
use std::{collections::HashSet, fmt::Write as _, process::Command};

use skep_btf::{Btf, Composite, Kind, Member, c};
use skep_testing::{Skip, skip};

/// Compiles for the BPF target. The BTF that the compiler makes of it, or its complaints.
fn compile(test: &str, name: &str, text: &str) -> Option<Result<Btf, String>> {
    let dir = std::env::temp_dir().join(format!("skep-btf-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
    let path = |extension| dir.join(name).with_extension(extension);
    std::fs::write(path("c"), text).expect("the temporary directory is writable");
    let mut clang = Command::new("clang-19");
    clang.args(["-target", "bpf", "-g", "-c", "-Wall", "-Werror", "-Wno-unused", "-o"]);
    clang.arg(path("o")).arg(path("c"));
    let mut objcopy = Command::new("llvm-objcopy-19");
    objcopy.arg("--dump-section").arg(format!(".BTF={}", path("btf").display())).arg(path("o"));
    let done = run(test, clang).and_then(|clang| Some((clang, run(test, objcopy)?)));
    let btf = std::fs::read(path("btf"));
    std::fs::remove_dir_all(&dir).expect("made above");
    let (clang, objcopy) = done?;
    Some(clang.and(objcopy).map(|()| {
        let btf = btf.expect("llvm-objcopy wrote it");
        Btf::parse(&btf).expect("clang's BTF")
    }))
}

/// Runs a program of the LLVM tools; what it says on failure.
fn run(test: &str, mut command: Command) -> Option<Result<(), String>> {
    match command.output() {
        Ok(output) if output.status.success() => Some(Ok(())),
        Ok(output) => Some(Err(String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(e) => {
            skip(Skip::Tool, test, &format!("{command:?} does not run: {e}"));
            None
        }
    }
}

/// One assertion per structure and per member that has an address.
fn assertions(btf: &Btf) -> (String, usize) {
    let mut text = String::new();
    let mut count = 0;
    let mut seen = HashSet::new();
    for id in btf.ids() {
        let Some(ty) = btf.get(id) else { continue };
        let (word, composite) = match ty.kind {
            Kind::Struct(c) => ("struct", c),
            Kind::Union(c) => ("union", c),
            Kind::Enum(e) | Kind::Enum64(e) if !e.values.is_empty() && !ty.name.is_empty() => {
                if seen.insert(ty.name) {
                    count += 1;
                    writeln!(text, "_Static_assert(sizeof(enum {}) == {}, \"\");", ty.name, e.size)
                        .expect("writing to a string");
                }
                continue;
            }
            _ => continue,
        };
        // Later types of the same name have another name in the header.
        if ty.name.is_empty() || !seen.insert(ty.name) {
            continue;
        }
        let what = format!("{word} {}", ty.name);
        writeln!(text, "_Static_assert(sizeof({what}) == {}, \"{what}\");", composite.size)
            .expect("writing to a string");
        if has_bitfields(composite) {
            // Makes the compiler describe it in its own BTF.
            writeln!(text, "{what} variable_{};", id.0).expect("writing to a string");
        }
        count += 1;
        let mut members = Vec::new();
        flatten(btf, composite.members.iter(), 0, &mut members, 8);
        for (name, offset) in members {
            writeln!(
                text,
                "_Static_assert(__builtin_offsetof({what}, {name}) == {offset}, \"{what}\");"
            )
            .expect("writing to a string");
            count += 1;
        }
    }
    (text, count)
}

fn has_bitfields(composite: Composite<'_>) -> bool {
    composite.members.iter().any(|m| m.bitfield_size > 0)
}

/// Members that have an address, also those of anonymous members.
fn flatten<'a>(
    btf: &'a Btf,
    members: impl Iterator<Item = Member<'a>>,
    base: u32,
    out: &mut Vec<(&'a str, u32)>,
    depth: usize,
) {
    for member in members {
        let offset = base + member.bit_offset / 8;
        if member.bitfield_size > 0 {
        } else if !member.name.is_empty() {
            out.push((member.name, offset));
        } else if depth > 0
            && let Ok(id) = btf.skip_mods(member.ty)
            && let Some(Kind::Struct(c) | Kind::Union(c)) = btf.get(id).map(|t| t.kind)
        {
            flatten(btf, c.members.iter(), offset, out, depth - 1);
        }
    }
}

#[test]
fn the_kernels_header_compiles_with_the_kernels_layout() {
    let test = "the_kernels_header_compiles_with_the_kernels_layout";
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        return skip(Skip::Kernel, test, "no BTF of the running kernel");
    };
    let btf = Btf::parse(&bytes).expect("the kernel's own BTF");
    let header = c::header(&btf);
    let (assertions, count) = assertions(&btf);
    assert!(count > 10_000, "{count} assertions");
    assert!(!header.as_str().contains("cannot be written"));
    let Some(result) = compile(test, "vmlinux", &format!("{header}{assertions}")) else { return };
    let compiled = result.unwrap_or_else(|e| panic!("{e}"));
    assert!(same_bitfields(&btf, &compiled) > 1000, "bitfields compared");
}

/// Compares members of structures bit by bit, bitfields included; returns how many of those.
fn same_bitfields(btf: &Btf, compiled: &Btf) -> usize {
    let mut seen = HashSet::new();
    let mut count = 0;
    for id in btf.ids() {
        let Some(ty) = btf.get(id) else { continue };
        let (Kind::Struct(want) | Kind::Union(want)) = ty.kind else { continue };
        if ty.name.is_empty() || !seen.insert(ty.name) || !has_bitfields(want) {
            continue;
        }
        let found = compiled
            .find(ty.kind.tag(), ty.name)
            .next()
            .unwrap_or_else(|| panic!("no {}", ty.name));
        let Some(Kind::Struct(found) | Kind::Union(found)) = compiled.get(found).map(|t| t.kind)
        else {
            panic!("{} is something else", ty.name)
        };
        let place = |m: &Member<'_>| (m.name.to_owned(), m.bit_offset, m.bitfield_size);
        // Long padding is an array with a name.
        let found: Vec<_> = found
            .members
            .iter()
            .filter(|m| !m.name.starts_with("__pad") || m.bitfield_size > 0)
            .map(|m| place(&m))
            .collect();
        let want: Vec<_> = want
            .members
            .iter()
            .filter(|m| !m.name.starts_with("__pad") || m.bitfield_size > 0)
            .map(|m| place(&m))
            .collect();
        assert_eq!(found, want, "{}", ty.name);
        count += want.iter().filter(|m| m.2 > 0).count();
    }
    count
}
