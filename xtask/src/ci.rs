//! What CI runs, cheapest first. A failing step does not stop the others.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::bail;

use crate::{arrows, bpf, dist, docs, guest, pcap, test, tool};

/// The kernel that CI boots: the long-term one that most distributions ship now.
const GUEST_KERNELS: &[&str] = &["6.12"];

/// Runs every check and prints what came of each, and the test counts last.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut summary = test::Summary::default();
    let mut results = Vec::new();
    let mut step = |name: &'static str, work: &mut dyn FnMut() -> anyhow::Result<()>| {
        println!("\n== {name}");
        let start = Instant::now();
        let result = work();
        if let Err(error) = &result {
            println!("error: {error:#}");
        }
        results.push((name, result.is_ok(), start.elapsed()));
    };

    step("format", &mut || cargo(root, &["fmt", "--all", "--check"], &[]));
    step("clippy", &mut || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"];
        cargo(root, &arguments, &[])
    });
    step("crate arrows", &mut || arrows::check(root));
    step("objects belong to their sources", &mut || bpf::check(root));
    step("generated docs", &mut || docs::run(root, true));
    step("packet trace", &mut || pcap::run(root, true));
    step("tests", &mut || {
        summary = test::run(root, &[])?;
        summary.ensure_success()
    });
    step("docs", &mut || {
        let arguments = ["doc", "--workspace", "--no-deps", "--lib"];
        cargo(root, &arguments, &[("RUSTDOCFLAGS", "-Dwarnings")])
    });
    step("static binary", &mut || dist::run(root));
    let mut guests = Vec::new();
    step("guest kernels", &mut || {
        guests = guest::run(root, GUEST_KERNELS)?;
        guest::ensure_success(&guests)
    });

    println!("\n== summary");
    for (name, ok, took) in &results {
        println!("{} {name} ({})", if *ok { "ok  " } else { "FAIL" }, seconds(*took));
    }
    for guest in &guests {
        println!("{guest}");
    }
    println!("{summary}");
    if results.iter().any(|(_, ok, _)| !ok) {
        bail!("some checks failed");
    }
    Ok(())
}

fn cargo(root: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<()> {
    tool::run(tool::cargo().current_dir(root).args(arguments).envs(variables.iter().copied()))
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}
