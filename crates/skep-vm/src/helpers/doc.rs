//! The helpers as a page of documentation, `docs/helpers.md`.

use std::fmt::Write as _;

use skep_abi::helper::PROTOS;

const HEAD: &str = "\
# Helpers

Generated from the prototype table of `skep-abi` and the helpers of `skep-vm`: `BLESS=1 cargo test -p skep-vm`
rewrites it.

The kernel engine offers what the running kernel offers to the program's type. The embedded engine has the helpers
marked *yes*; their arguments are checked at each call. An object that calls another one of these loads with a note,
and reaching the call is an error that names helper, program and instruction. A number that is not here is refused
when the program is loaded.

";

fn page() -> String {
    let mut out = String::from(HEAD);
    let here = super::implemented().count();
    writeln!(out, "{here} of {} helpers are in the embedded engine.\n", PROTOS.len())
        .expect("writing to a string does not fail");
    out.push_str("| number | helper | embedded | arguments |\n| --- | --- | --- | --- |\n");
    for p in PROTOS {
        let embedded = if super::find(p.id).is_some() { "yes" } else { "" };
        let args: Vec<_> = p.args.unwrap_or_default().iter().map(|a| format!("{a:?}")).collect();
        let row = format!("| {} | `bpf_{}` | {embedded} | {} |", p.id, p.name, args.join(", "));
        out.push_str(&row.replace("  |", " |"));
        out.push('\n');
    }
    out
}

#[test]
fn the_committed_page_is_current() {
    let path = skep_testing::repository().join("docs/helpers.md");
    let want = page();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &want).expect("the page can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(want.lines()).position(|(found, want)| found != want);
    assert!(found == want, "docs/helpers.md differs from line {differs:?} on; BLESS=1 rewrites it");
}
