//! Objects that clang built: the examples, and one per feature under `tests/data/objects`.
//!
//! The spec of each of the latter is compared with the text beside it; `BLESS=1` rewrites that.

mod text;

use std::fs;
use std::path::{Path, PathBuf};

use skep_object::ObjectSpec;
use skep_object::write::ObjectWriter;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn objects(dir: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(root().join(dir)).expect("the directory is in the repository");
    let files = files.map(|f| f.expect("readable").path());
    let mut objects: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "o")).collect();
    objects.sort();
    assert!(!objects.is_empty(), "no objects in {dir}");
    objects
}

fn parse(path: &Path) -> ObjectSpec {
    let bytes = fs::read(path).expect("readable");
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

#[test]
fn specs_are_as_written_beside_the_objects() {
    let bless = std::env::var_os("BLESS").is_some();
    for path in objects("tests/data/objects") {
        let found = text::of_spec(&parse(&path));
        let golden = path.with_extension("spec");
        if bless {
            fs::write(&golden, found).expect("writable");
            continue;
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if let Some((n, (expected, found))) = first_difference(&expected, &found) {
            panic!(
                "{} line {n}:\nexpected {expected}\nfound    {found}\nBLESS=1 rewrites it",
                golden.display()
            );
        }
    }
}

#[test]
fn written_objects_read_back_as_the_same_spec() {
    let paths = objects("examples").into_iter().chain(objects("tests/data/objects"));
    for path in paths {
        let spec = parse(&path);
        let name = path.display();
        let bytes = ObjectWriter::new(&spec).to_bytes().unwrap_or_else(|e| panic!("{name}: {e}"));
        let again = ObjectSpec::parse(&bytes).unwrap_or_else(|e| panic!("{name}, written: {e}"));
        let (before, after) = (text::of_spec(&spec), text::of_spec(&again));
        if let Some((n, (before, after))) = first_difference(&before, &after) {
            panic!("{name} line {n}:\nbefore {before}\nafter  {after}");
        }
        let once_more = ObjectWriter::new(&again).to_bytes().expect("written before");
        assert!(bytes == once_more, "{name}: writing twice gives other bytes");
    }
}

fn first_difference<'a>(a: &'a str, b: &'a str) -> Option<(usize, (&'a str, &'a str))> {
    let ends = std::iter::repeat("(end)");
    let pairs = a.lines().chain(ends.clone()).zip(b.lines().chain(ends));
    let longest = a.lines().count().max(b.lines().count());
    (1..).zip(pairs).take(longest).find(|(_, (a, b))| a != b)
}
