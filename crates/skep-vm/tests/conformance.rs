//! The vectors of the public conformance suite and skep's own, one test per file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use skep_abi::{MapDef, MapFlags, MapType, ProgType};
use skep_isa::conformance::{Case, Expect};
use skep_isa::{Imm64, Insn, Slot, decode};
use skep_object::spec::{MapOrigin, MapSpec, ObjectSpec, Pinning, ProgramSpec, Reloc, RelocTarget};
use skep_object::{Target, resolve};
use skep_vm::context::{Context, Plain};
use skep_vm::{LoadOptions, Object, Program, Settings};

/// Files of the public suite.
const SUITE: usize = 313;
/// What the vectors may need that this engine refuses by name.
const REFUSED: &str = "kernel-variable";

fn run(path: &Path) -> Result<(), Failed> {
    let case = Case::parse(&fs::read_to_string(path)?)?;
    // The suite's helper 5 returns its first argument.
    let host_helpers = BTreeMap::from([(5, (|[first, ..]: [u64; 5]| first) as fn(_) -> _)]);
    let settings = Settings { host_helpers, ..Settings::default() };
    let program = if case.needs.iter().any(|word| word == "map") {
        with_map(&case.program, settings)
    } else {
        Program::from_slots("case", ProgType::UNSPEC, &case.program, &settings.into())
            .map_err(|e| e.to_string())
    };
    let outcome = program.and_then(|program| {
        let memory = case.memory.as_deref().unwrap_or_default();
        let mut ctx = Context::from(Plain::memory(memory));
        program.run(&mut ctx).map(|o| o.retval).map_err(|e| e.to_string())
    });
    if case.needs.iter().any(|word| word == REFUSED) {
        return match outcome {
            Err(reason) if reason.contains("kernel variable") => Ok(()),
            found => Err(format!("{found:x?}, expected an error about the kernel variable").into()),
        };
    }
    match (&case.expect, outcome) {
        (Expect::Result(want), Ok(found)) if found == *want => Ok(()),
        (Expect::Error(_), Err(_)) => Ok(()),
        (want, found) => Err(format!("{found:x?}, expected {want:x?}").into()),
    }
}

/// The program of a vector that needs a map: what it names by descriptor 3 or index 0 is one array.
fn with_map(slots: &[Slot], settings: Settings) -> Result<Arc<Program>, String> {
    let target = |imm| match imm {
        Imm64::MapFd(3) | Imm64::MapIdx(0) => Some(RelocTarget::Map(0)),
        Imm64::MapValue { fd: 3, off } | Imm64::MapIdxValue { idx: 0, off } => {
            Some(RelocTarget::MapValue { map: 0, offset: off })
        }
        _ => None,
    };
    let insns = decode(slots).map_err(|e| e.to_string())?;
    let relocs = insns.iter().filter_map(|(at, insn)| match insn {
        Insn::LoadImm64 { imm, .. } => target(*imm).map(|target| Reloc { at: *at, target }),
        _ => None,
    });
    let def = MapDef {
        map_type: MapType::ARRAY,
        key_size: 4,
        value_size: 8,
        max_entries: 4,
        flags: MapFlags::default(),
        extra: 0,
        numa_node: 0,
    };
    let map = MapSpec {
        name: "array".into(),
        def,
        origin: MapOrigin::Btf,
        key_type: None,
        value_type: None,
        pinning: Pinning::None,
        inner: None,
        autocreate: true,
        initial: Vec::new(),
        data: None,
        variables: Vec::new(),
    };
    let program = ProgramSpec {
        name: "case".into(),
        section: "case".into(),
        prog_type: Some(ProgType::UNSPEC),
        attach_type: None,
        attach_to: None,
        flags: 0,
        autoload: true,
        insns: slots.to_vec(),
        subprogs: Vec::new(),
        relocs: relocs.collect(),
        core_relos: Vec::new(),
        func_info: Vec::new(),
        line_info: Vec::new(),
        poisoned: Vec::new(),
    };
    let spec = ObjectSpec {
        license: "GPL".into(),
        version: None,
        programs: vec![program],
        maps: vec![map],
        externs: Vec::new(),
        btf: None,
    };
    let resolved = resolve(spec, &Target::NONE).map_err(|e| e.to_string())?;
    let options = LoadOptions { settings, ..LoadOptions::default() };
    let object = Object::load(&resolved, &options).map_err(|e| format!("{e:?}"))?;
    Ok(Arc::clone(object.program("case").expect("the object has the program")))
}

fn data_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .expect("the directory can be listed")
        .map(|entry| entry.expect("the directory can be listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == "data"))
        .collect();
    files.sort();
    files
}

fn main() -> ExitCode {
    let args = Arguments::from_args();
    let own = skep_testing::repository().join("tests/data/isa");
    let mut files = if own.is_dir() { data_files(&own) } else { Vec::new() };
    if let Some(dir) = skep_testing::shared("conformance", "data/bpf_conformance") {
        let suite = data_files(&dir);
        assert_eq!(suite.len(), SUITE, "the suite is complete");
        files.extend(suite);
    }
    let trials = files
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            Trial::test(name, move || run(&path))
        })
        .collect();
    libtest_mimic::run(&args, trials).exit_code()
}
