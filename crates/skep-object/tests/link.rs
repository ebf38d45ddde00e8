//! Objects that clang built, linked: what comes out means what its parts mean.

mod text;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use skep_object::ObjectSpec;
use skep_object::link::{Input, LinkError, Linked, link};
use skep_object::spec::{ExternKind, InitialValue, MapOrigin};

fn bytes(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read(root.join("tests/data").join(name)).expect("the object is committed")
}

fn linked(names: &[&str]) -> Result<Linked, LinkError> {
    let files: Vec<_> = names.iter().map(|name| bytes(&format!("{name}.bpf.o"))).collect();
    let inputs: Vec<_> =
        names.iter().zip(&files).map(|(&name, bytes)| Input { name, bytes }).collect();
    link(&inputs)
}

fn spec(names: &[&str]) -> ObjectSpec {
    let linked = linked(names).unwrap_or_else(|e| panic!("{names:?}: {e}"));
    assert!(linked.unresolved.is_empty(), "{:?}", linked.unresolved);
    ObjectSpec::parse(&linked.bytes).unwrap_or_else(|e| panic!("{names:?}, linked: {e}"))
}

/// The text of a spec without type numbers.
fn meaning(spec: &ObjectSpec) -> String {
    let line = |line: &str| match line.split_once(" types ") {
        Some((start, _)) if line.trim_start().starts_with("map ") => start.to_owned(),
        _ => match line.split_once("CO-RE ") {
            Some((start, rest)) => {
                let (kind, rest) = rest.split_once(" [").expect("a type's number");
                let (_, access) = rest.split_once("] ").expect("an access");
                format!("{start}CO-RE {kind} {access}")
            }
            None => line.to_owned(),
        },
    };
    text::of_spec(spec).lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn one_object_linked_means_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut count = 0;
    for dir in ["examples", "tests/data/objects", "tests/data/link"] {
        for entry in fs::read_dir(root.join(dir)).expect("in the repository") {
            let path = entry.expect("readable").path();
            let name = path.display().to_string();
            let Ok(before) = fs::read(&path) else { continue };
            let Ok(spec) = ObjectSpec::parse(&before) else { continue };
            let once = link(&[Input { name: &name, bytes: &before }]);
            let once = once.unwrap_or_else(|e| panic!("{name}: {e}"));
            let after = ObjectSpec::parse(&once.bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(meaning(&spec), meaning(&after), "{name}");
            let twice = link(&[Input { name: &name, bytes: &once.bytes }]).expect("an object");
            assert!(once.bytes == twice.bytes, "{name}: linking again gives other bytes");
            count += 1;
        }
    }
    assert!(count >= 20, "{count} objects");
}

#[test]
fn functions_variables_and_maps_of_the_other_file_are_found() {
    for order in [["link/shared_main", "link/shared_lib"], ["link/shared_lib", "link/shared_main"]]
    {
        let spec = spec(&order);
        let map = |name: &str| spec.maps.iter().find(|m| m.name == name).expect("a map");
        assert_eq!(map("counts").def.max_entries, 4);
        let main = spec.programs.iter().find(|p| p.name == "main_prog").expect("a program");
        let names: Vec<_> = main.subprogs.iter().map(|s| s.name.as_str()).collect();
        // Both files have a static `scale`, one a weak `bonus`.
        assert_eq!(names.iter().filter(|n| **n == "scale").count(), 2, "{names:?}");
        assert_eq!(names.iter().filter(|n| **n == "bonus").count(), 1, "{names:?}");
        let lib = spec.programs.iter().find(|p| p.name == "lib_prog").expect("a program");
        let bonus = lib.subprogs.iter().find(|s| s.name == "bonus").expect("it is called");
        let add =
            lib.insns.get(bonus.start.index()..).expect("inside").iter().find(|s| s.code == 0x04);
        assert_eq!(add.map(|slot| slot.imm), Some(100), "the strong one counts");
        let kconfig: Vec<_> = spec.externs.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(kconfig, ["LINUX_KERNEL_VERSION"]);
        // Variables of both, none twice, each where its bytes are.
        let data = map(".data");
        let own: Vec<_> = data.variables.iter().filter(|v| v.name == "own").collect();
        assert_eq!(own.len(), 2);
        let bytes = data.data.as_deref().expect("global data");
        let mut values: Vec<_> =
            own.iter().map(|v| bytes.get(v.offset as usize).copied()).collect();
        values.sort_unstable();
        assert_eq!(values, [Some(7), Some(40)]);
        let limit = data.variables.iter().find(|v| v.name == "limit").expect("of the library");
        assert_eq!(bytes.get(limit.offset as usize), Some(&100));
        let settings = map(".rodata").variables.iter().find(|v| v.name == "settings");
        assert_eq!(settings.map(|v| v.size), Some(16));
    }
}

#[test]
fn tables_name_programs_and_maps_of_the_other_file() {
    let spec = spec(&["link/tables_main", "link/tables_lib"]);
    let entries = |name: &str| -> Vec<(u32, String)> {
        let map = spec.maps.iter().find(|m| m.name == name).expect("a map");
        let target = |value| match value {
            InitialValue::Map(at) => spec.maps.get(at).expect("a map").name.clone(),
            InitialValue::Program(at) => spec.programs.get(at).expect("a program").name.clone(),
        };
        map.initial.iter().map(|e| (e.index, target(e.value))).collect()
    };
    let named = |n, name: &str| (n, name.to_owned());
    assert_eq!(entries("calls"), [named(1, "second"), named(3, "third")]);
    assert_eq!(entries("maps"), [named(0, "there"), named(1, "here")]);
    assert_eq!(entries("more"), [named(1, "fourth")]);
}

#[test]
fn wants_of_the_kernel_are_there_once_and_operations_have_their_functions() {
    let spec = spec(&["link/kernel_main", "link/kernel_lib"]);
    let externs: Vec<_> = spec.externs.iter().map(|e| (e.name.as_str(), e.weak)).collect();
    let wanted = [
        // Strong in one file: strong.
        ("CONFIG_HZ", false),
        ("bpf_link_fops", false),
        ("bpf_rcu_read_lock", true),
    ];
    assert_eq!(externs, wanted);
    assert!(matches!(spec.externs.first().map(|e| e.kind), Some(ExternKind::Kconfig { .. })));
    let ops = spec.maps.iter().find(|m| m.origin == MapOrigin::StructOps).expect("operations");
    let functions: Vec<_> = ops
        .initial
        .iter()
        .map(|e| match e.value {
            InitialValue::Program(at) => spec.programs.get(at).map(|p| p.name.as_str()),
            InitialValue::Map(_) => None,
        })
        .collect();
    assert_eq!(functions, [Some("threshold"), Some("avoid"), Some("undo")]);
    // Each file's own layout of a structure stays.
    let relos: usize = spec.programs.iter().map(|p| p.core_relos.len()).sum();
    assert_eq!(relos, 3);
    let btf = spec.btf.as_ref().expect("typed");
    let tasks = btf.find(skep_btf::KindTag::Struct, "task_struct").count();
    assert_eq!(tasks, 2);
    assert_eq!(btf.find(skep_btf::KindTag::Int, "int").count(), 1, "the same types are there once");
}

/// What nobody defines is told, and may come from a third file.
#[test]
fn objects_may_be_linked_in_steps() {
    let first = linked(&["link/shared_main"]).expect("externs may stay open");
    assert_eq!(first.unresolved, ["counts", "limit", "settings", "sort"]);
    let error = ObjectSpec::parse(&first.bytes).expect_err("it cannot be loaded");
    assert!(error.to_string().contains("link"), "{error}");
    let lib = bytes("link/shared_lib.bpf.o");
    let inputs = [
        Input { name: "first.o", bytes: &first.bytes },
        Input { name: "shared_lib.bpf.o", bytes: &lib },
    ];
    let second = link(&inputs).expect("it is the same as at once");
    let (stepwise, at_once) = (
        ObjectSpec::parse(&second.bytes).expect("an object"),
        spec(&["link/shared_main", "link/shared_lib"]),
    );
    assert_eq!(meaning(&stepwise), meaning(&at_once));
}

#[test]
fn errors_name_files_sections_and_symbols() {
    let lib = "link/shared_lib";
    let cases: &[(&[&str], &str)] = &[
        (&[], "there is no object to link"),
        (
            &[lib, "link/conflict_license"],
            "section license is \"GPL\" in link/shared_lib, \"Dual MIT/GPL\" in \
             link/conflict_license: an object has one",
        ),
        (
            &[lib, "link/conflict_variable"],
            "limit is one thing in link/shared_lib and another in link/conflict_variable: \
             unsigned int of 4 bytes against 8",
        ),
        (
            &["link/conflict_function", lib],
            "sort is one thing in link/shared_lib and another in link/conflict_function: \
             3 parameters against 2",
        ),
        (
            &[lib, "link/conflict_structure"],
            "settings is one thing in link/shared_lib and another in link/conflict_structure: \
             struct settings with factor at bit 0 against step at bit 0",
        ),
        (
            &[lib, "link/conflict_map"],
            "counts is one thing in link/shared_lib and another in link/conflict_map: \
             max_entries 4 against 8",
        ),
        (
            &[lib, "link/conflict_place"],
            "limit is expected in different sections: .data in link/shared_lib, .ksyms in \
             link/conflict_place",
        ),
        (
            &[lib, "link/shared_main", lib],
            "sort is defined twice: .text in link/shared_lib, .text in link/shared_lib",
        ),
    ];
    for (names, expected) in cases {
        let error = linked(names).expect_err("they contradict each other");
        assert_eq!(error.to_string(), *expected, "{names:?}");
    }
    let error =
        link(&[Input { name: "x.o", bytes: b"no object at all" }]).expect_err("no ELF file");
    assert_eq!(error.to_string(), "x.o is not an object that can be linked");
    let cause = std::error::Error::source(&error).expect("why not");
    assert!(cause.to_string().contains("7f 45 4c 46"), "{cause}");
}

/// Damaged on purpose: an error or an object, never a panic or a hang.
#[test]
fn damaged_files_are_errors_or_objects() {
    let (main, lib) = (bytes("link/shared_main.bpf.o"), bytes("link/shared_lib.bpf.o"));
    let start = Instant::now();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |limit: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % limit as u64).expect("below a usize")
    };
    let (mut objects, mut errors) = (0, 0);
    while start.elapsed() < Duration::from_secs(2) {
        let mut damaged = [main.clone(), lib.clone()];
        for _ in 0..=below(4) {
            let file = damaged.get_mut(below(2)).expect("two files");
            let (at, value) = (below(file.len()), below(256));
            *file.get_mut(at).expect("below") = u8::try_from(value).expect("a byte");
        }
        let [first, second] = &damaged;
        let inputs = [Input { name: "a.o", bytes: first }, Input { name: "b.o", bytes: second }];
        let one = Instant::now();
        match link(&inputs) {
            Ok(linked) => {
                objects += 1;
                drop(ObjectSpec::parse(&linked.bytes));
            }
            Err(error) => {
                errors += 1;
                assert!(!error.to_string().is_empty());
            }
        }
        assert!(one.elapsed() < Duration::from_secs(10));
    }
    assert!(objects > 0 && errors > 0, "{objects} objects, {errors} errors");
}
