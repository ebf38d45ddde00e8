//! The C header of real BTF compiles, and every structure has the size and offsets of the BTF.
use std::{collections::HashSet, fmt::Write as _, process::Command};

use skep_btf::{Btf, Kind, Member, c};
use skep_testing::{Skip, skip};

/// Compiles for the BPF target without making an object; the compiler's complaints on failure.
fn compile(test: &str, name: &str, text: &str) -> Option<Result<(), String>> {
    let dir = std::env::temp_dir().join(format!("skep-btf-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
    let path = dir.join(name);
    std::fs::write(&path, text).expect("the temporary directory is writable");
    let output = Command::new("clang-19")
        .args(["-target", "bpf", "-fsyntax-only", "-Wall", "-Wno-unused", "-ferror-limit=20"])
        .args(["-x", "c"])
        .arg(&path)
        .output();
    std::fs::remove_dir_all(&dir).expect("made above");
    match output {
        Ok(output) if output.status.success() => Some(Ok(())),
        Ok(output) => Some(Err(String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(e) => {
            skip(Skip::Tool, test, &format!("clang-19 does not run: {e}"));
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
    let Some(result) = compile(test, "vmlinux.c", &format!("{header}{assertions}")) else { return };
    result.unwrap_or_else(|e| panic!("{e}"));
}
