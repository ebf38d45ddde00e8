//! The project's own vectors, as far as they need no engine: they read, decode or are refused with
//! the text they expect, and survive the way through the disassembler.

use std::collections::BTreeSet;

use skep_isa::{
    asm,
    conformance::{Case, Expect},
    decode,
    disasm::Listing,
    opcode::{Form, Group, Row},
};

#[test]
fn own_vectors_read_and_cover_what_they_promise() {
    let dir = skep_testing::repository().join("tests/data/isa");
    let mut forms = BTreeSet::new();
    let (mut results, mut errors) = (0, 0);
    for entry in std::fs::read_dir(&dir).expect("the vectors are part of the repository") {
        let path = entry.expect("the directory is readable").path();
        if path.extension().is_none_or(|extension| extension != "data") {
            continue;
        }
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a vector is text");
        let case = Case::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let listing = Listing::new(&case.program).labels(true).to_string();
        assert_eq!(asm::assemble(&listing).as_ref(), Ok(&case.program), "{name}");
        match (decode(&case.program), case.expect) {
            (Ok(insns), Expect::Result(_)) => {
                results += 1;
                forms.extend(insns.iter().map(|(_, insn)| format!("{:?}", insn.form())));
            }
            (Err(error), Expect::Error(want)) => {
                errors += 1;
                assert_eq!(error.to_string(), want, "{name}");
            }
            (decoded, expect) => panic!("{name}: {decoded:?}, expected {expect:?}"),
        }
    }
    assert!(results > 100 && errors > 15, "{results} results, {errors} errors");
    // What the public suite lacks must be here, all of it.
    let promised = |row: &&Row| match row.form {
        Form::LoadImm64 { .. } | Form::CallReg => true,
        Form::AddrSpaceCast => false, // needs an arena
        _ => row.group == Group::Linux,
    };
    for row in Row::all().iter().filter(promised) {
        assert!(forms.contains(&format!("{:?}", row.form)), "no vector has {:?}", row.form);
    }
}
