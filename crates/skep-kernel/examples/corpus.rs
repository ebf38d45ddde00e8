//! Loads objects into the running kernel, whole and then each program alone, and prints what became
//! of them: one line each of kind, object, program, 0 or 1, reason, with tabs between.
//!
//! `cargo run --release -p skep-kernel --example corpus -- *.bpf.o > skep.tsv`. The same of
//! another loader makes a table: the lines agree or they do not.
//!
//! Maps that ask for a pin get one in `/sys/fs/bpf`, or the directory in `SKEP_PIN_ROOT`; it is
//! removed again.
#![allow(clippy::print_stdout, reason = "a list is its output")]

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use skep_kernel::{LoadOptions, Object, target};
use skep_object::ObjectSpec;

/// The chain of an error's causes on one line.
fn sentence(error: impl Error + 'static) -> String {
    let chain = std::iter::successors(Some(&error as &dyn Error), |&e| e.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ").replace(['\n', '\t'], " ")
}

/// Loads those programs of an object that are marked for it, and closes all of it again.
fn load(spec: &ObjectSpec, pins: &Path) -> Result<(), String> {
    let resolved = target::resolve(spec.clone()).map_err(sentence)?;
    let options = LoadOptions { pin_root: Some(pins.into()), ..LoadOptions::default() };
    let loaded = Object::load(&resolved, &options).map(drop).map_err(sentence);
    spec.maps.iter().for_each(|map| drop(fs::remove_file(pins.join(&map.name))));
    loaded
}

fn report(kind: &str, object: &str, program: &str, result: Result<(), String>) {
    let code = i32::from(result.is_err());
    println!("{kind}\t{object}\t{program}\t{code}\t{}", result.err().unwrap_or_default());
}

fn main() {
    let pins = env::var_os("SKEP_PIN_ROOT").map_or("/sys/fs/bpf".into(), PathBuf::from);
    for path in env::args_os().skip(1).map(PathBuf::from) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = fs::read(&path).map_err(sentence);
        let mut spec = match bytes.and_then(|bytes| ObjectSpec::parse(&bytes).map_err(sentence)) {
            Ok(spec) => spec,
            Err(e) => {
                report("whole", &name, "-", Err(e));
                continue;
            }
        };
        report("whole", &name, "-", load(&spec, &pins));
        for index in 0..spec.programs.len() {
            for (at, program) in spec.programs.iter_mut().enumerate() {
                program.autoload = at == index;
            }
            let program = spec.programs.get(index).map_or("", |program| &program.name).to_owned();
            report("prog", &name, &program, load(&spec, &pins));
        }
    }
}
