//! Objects of two files, linked, do what one file with all of it does: on both engines, and
//! loaded by libbpf.

use std::{fs, path::Path, process::Command};

use skep::{
    Engine, Object,
    spec::link::{Input, link},
};
use skep_testing::{Skip, has_tool, repository, sandbox, skip};

fn bytes(name: &str) -> Vec<u8> {
    fs::read(path(name)).expect("the object is committed")
}

fn path(name: &str) -> String {
    repository().join(format!("tests/data/link/{name}.bpf.o")).display().to_string()
}

fn linked(names: &[&str]) -> Vec<u8> {
    let files: Vec<_> = names.iter().map(|name| bytes(name)).collect();
    let inputs: Vec<_> =
        names.iter().zip(&files).map(|(&name, bytes)| Input { name, bytes }).collect();
    link(&inputs).expect("they fit").bytes
}

/// What frames of these lengths make of each program, and what is in maps and variables then.
fn story(object: &[u8], engine: &Engine, programs: &[&str]) -> String {
    let object = Object::parse("linked.bpf.o", object).expect("an object");
    let loaded = object.load(engine).expect("it loads");
    let mut story = Vec::new();
    for length in [60, 61, 200, 201, 60, 61, 61, 61, 61] {
        for name in programs {
            let program = loaded.program(name).expect("it was loaded");
            let run = program.run_on_frame(&vec![0; length]).expect("it runs");
            story.push(format!("{name} {length} {}", run.retval));
        }
    }
    for (spec, map) in loaded.maps() {
        let named = spec.name.starts_with(|c: char| c.is_ascii_alphabetic());
        if named && spec.inner.is_none() && spec.initial.is_empty() {
            story.push(format!("{} {:?}", spec.name, map.entries().expect("readable")));
        }
    }
    for name in ["seen", "limit", "before_offset", "offset"] {
        if let Ok(bytes) = loaded.variable::<[u8; 16]>(name) {
            story.push(format!("{name} {bytes:?}"));
        }
    }
    story.sort();
    story.join("\n")
}

const CASES: &[(&[&str], &str, &[&str])] = &[
    (&["shared_main", "shared_lib"], "shared_whole", &["main_prog", "lib_prog"]),
    (&["shared_lib", "shared_main"], "shared_whole", &["main_prog", "lib_prog"]),
    (&["tables_main", "tables_lib"], "tables_whole", &["first", "second"]),
    (&["tables_lib", "tables_main"], "tables_whole", &["first", "second"]),
];

#[test]
fn linked_objects_do_what_one_file_does_in_user_space() {
    for (parts, whole, programs) in CASES {
        let engine = Engine::embedded();
        let (parts, whole) = (linked(parts), bytes(whole));
        let (found, expected) =
            (story(&parts, &engine, programs), story(&whole, &engine, programs));
        assert!(expected.lines().count() > 10, "{expected}");
        assert_eq!(found, expected);
    }
}

/// `bpf_loop`, Linux 5.17.
const LOOP: u32 = 181;

#[test]
fn linked_objects_do_what_one_file_does_in_the_kernel() {
    use skep::abi::ProgType;
    let able = skep::kernel::probe::helper(ProgType::XDP, LOOP).into_result();
    let engine = able.and_then(|()| Engine::kernel().map_err(|e| e.to_string()));
    let engine = match engine {
        Ok(engine) => engine,
        Err(reason) => return skip(Skip::Kernel, "linked objects in the kernel", &reason),
    };
    for (parts, whole, programs) in CASES {
        let (parts, whole) = (linked(parts), bytes(whole));
        let (found, expected) =
            (story(&parts, &engine, programs), story(&whole, &engine, programs));
        assert_eq!(found, expected);
        let embedded = story(&parts, &Engine::embedded(), programs);
        assert_eq!(found, embedded, "the engines agree");
    }
}

/// The same programs, instructions and maps as bpftool's linker makes, as far as ours are asked.
#[test]
fn bpftool_links_the_same() {
    if !has_tool("bpftool") {
        return skip(Skip::Tool, "bpftool gen object", "bpftool is not installed");
    }
    let dir = tempdir("gen-object");
    for parts in [
        &["shared_main", "shared_lib"],
        &["tables_main", "tables_lib"],
        &["kernel_main", "kernel_lib"],
    ] {
        let out = dir.join("out.bpf.o");
        let mut gen_object = Command::new("bpftool");
        gen_object.args(["gen", "object"]).arg(&out).args(parts.map(path));
        let status = gen_object.status().expect("it is installed");
        assert!(status.success(), "{gen_object:?}");
        let theirs = Object::open(&out).expect("an object").into_spec();
        let ours = Object::parse("ours", &linked(parts)).expect("an object").into_spec();
        let maps = |spec: &skep::spec::ObjectSpec| {
            let map = |m: &skep::spec::spec::MapSpec| {
                let variables: Vec<_> =
                    m.variables.iter().map(|v| (v.name.clone(), v.offset, v.size)).collect();
                (m.name.clone(), m.def, m.data.clone(), variables, m.initial.clone())
            };
            spec.maps.iter().map(map).collect::<Vec<_>>()
        };
        assert_eq!(maps(&ours), maps(&theirs));
        let programs = |spec: &skep::spec::ObjectSpec| {
            let program = |p: &skep::spec::spec::ProgramSpec| {
                let subprogs: Vec<_> =
                    p.subprogs.iter().map(|s| (s.name.clone(), s.start, s.local)).collect();
                let lines: Vec<_> = p.line_info.iter().map(|l| (l.at, l.line_col)).collect();
                let relos: Vec<_> =
                    p.core_relos.iter().map(|r| (r.at, r.kind, r.access.to_string())).collect();
                (
                    p.name.clone(),
                    p.section.clone(),
                    p.insns.clone(),
                    p.relocs.clone(),
                    subprogs,
                    lines,
                    relos,
                )
            };
            spec.programs.iter().map(program).collect::<Vec<_>>()
        };
        assert_eq!(programs(&ours), programs(&theirs));
        let externs = |spec: &skep::spec::ObjectSpec| -> Vec<_> {
            spec.externs.iter().map(|e| (e.name.clone(), e.weak, e.kind)).collect()
        };
        assert_eq!(externs(&ours), externs(&theirs));
        let types = |spec: &skep::spec::ObjectSpec| spec.btf.as_ref().map(skep::btf::Btf::len);
        eprintln!("{parts:?}: {:?} types, bpftool makes {:?}", types(&ours), types(&theirs));
    }
    fs::remove_dir_all(dir).expect("it is ours");
}

#[test]
fn libbpf_loads_linked_objects() {
    if !has_tool("bpftool") {
        return skip(Skip::Tool, "bpftool prog loadall", "bpftool is not installed");
    }
    let able = skep::kernel::probe::helper(skep::abi::ProgType::XDP, LOOP).into_result();
    let dir = tempdir("loadall");
    let ran = able.and_then(|()| {
        let dir = dir.clone();
        sandbox(move || {
            // libbpf makes maps in their order, and puts inner maps into outer ones at once: those
            // have to come first.
            let inner_first = |parts: &&[&str]| parts[0] != "tables_main";
            let cases = CASES.iter().map(|(parts, ..)| *parts).filter(inner_first);
            for (number, parts) in cases.enumerate() {
                let file = dir.join(format!("linked{number}.bpf.o"));
                fs::write(&file, linked(parts)).expect("writable");
                let pins = format!("/sys/fs/bpf/linked{number}");
                let mut load = Command::new("bpftool");
                load.args(["prog", "loadall"]).arg(&file).arg(&pins).args(["type", "xdp"]);
                let output = load.output().expect("it is installed");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                let pinned = fs::read_dir(Path::new(&pins)).expect("programs").count();
                assert!(pinned >= 2, "{pinned}");
            }
        })
    });
    if let Err(reason) = ran {
        skip(Skip::Kernel, "bpftool prog loadall", &reason);
    }
    fs::remove_dir_all(dir).expect("it is ours");
}

fn tempdir(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("skep-link-{name}-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("the directory for temporary files is writable");
    dir
}
