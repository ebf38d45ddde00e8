//! Objects that clang built: the examples, and one per feature under `tests/data/objects`.

use std::path::{Path, PathBuf};

use skep_object::ObjectSpec;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn objects(dir: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join(dir)).expect("the directory is in the repository");
    let files = files.map(|f| f.expect("readable").path());
    let mut objects: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "o")).collect();
    objects.sort();
    assert!(!objects.is_empty(), "no objects in {dir}");
    objects
}

fn parse(path: &Path) -> ObjectSpec {
    let bytes = std::fs::read(path).expect("readable");
    ObjectSpec::parse(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn every_example_parses() {
    for path in objects("examples") {
        let spec = parse(&path);
        assert!(!spec.programs.is_empty(), "{}", path.display());
        assert!(!spec.license.is_empty(), "{}", path.display());
    }
}
