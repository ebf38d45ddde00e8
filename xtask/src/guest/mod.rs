//! The tests that need a kernel, run under other kernels: QEMU without KVM boots a Debian kernel
//! with an initramfs that holds static test binaries, and nothing of the machine outside.

mod image;
mod kernel;
mod modules;
mod qemu;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{test::Summary, tool};

/// The packages whose tests are about kernels.
const PACKAGES: &[&str] = &["skep-kernel"];
/// What those tests read, at the same place in the guest.
const DATA: &[&str] = &["examples", "tests/data"];
/// Programs those tests drive; a test whose program is not on this machine is skipped there too.
const PROGRAMS: &[&str] = &["ip", "tc"];
const TARGET: &str = "x86_64-unknown-linux-gnu";
const LIMIT: Duration = Duration::from_mins(10);
const TOOLS: &[&str] = &["qemu-system-x86_64", "dpkg-deb", "apt-get", "xz"];

/// What came of one guest.
#[derive(Debug)]
pub(crate) struct Outcome {
    kernel: String,
    result: Result,
}

#[derive(Debug)]
enum Result {
    Ran(Summary),
    Skipped(String),
    Died(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            Result::Ran(summary) => {
                let text = summary.to_string();
                for line in text.lines() {
                    writeln!(f, "guest {}: {line}", self.kernel)?;
                }
                Ok(())
            }
            Result::Skipped(reason) => writeln!(f, "SKIP guest {}: {reason}", self.kernel),
            Result::Died(reason) => writeln!(f, "guest {}: FAILED: {reason}", self.kernel),
        }
    }
}

impl Outcome {
    /// The kernel's name.
    pub(crate) fn kernel(&self) -> &str {
        &self.kernel
    }

    /// What its tests came to, if they ran.
    pub(crate) fn summary(&self) -> Option<&Summary> {
        match &self.result {
            Result::Ran(summary) => Some(summary),
            _ => None,
        }
    }

    /// Fails unless the guest ran without a failing test. `REQUIRE_TOOLS` forbids skips.
    pub(crate) fn ensure_success(&self) -> anyhow::Result<()> {
        let kernel = &self.kernel;
        match &self.result {
            Result::Ran(summary) => {
                summary.ensure_success().with_context(|| format!("guest {kernel}"))
            }
            Result::Skipped(reason) => {
                let strict = std::env::var_os("REQUIRE_TOOLS").is_some();
                ensure!(!strict, "guest {kernel} was skipped: {reason}");
                Ok(())
            }
            Result::Died(reason) => anyhow::bail!("guest {kernel}: {reason}"),
        }
    }
}

/// Fails unless every guest that could run had no failing test.
pub(crate) fn ensure_success(outcomes: &[Outcome]) -> anyhow::Result<()> {
    outcomes.iter().try_for_each(Outcome::ensure_success)
}

/// Runs the tests under each of `kernels`, all known ones when none is named.
pub(crate) fn run(root: &Path, kernels: &[&str]) -> anyhow::Result<Vec<Outcome>> {
    let all: Vec<&str> = kernel::NAMES.iter().map(|known| known.name).collect();
    let kernels = if kernels.is_empty() { all.as_slice() } else { kernels };
    let skip_all = |reason: String| {
        let skipped = |name: &&str| Outcome {
            kernel: (*name).to_owned(),
            result: Result::Skipped(reason.clone()),
        };
        kernels.iter().map(skipped).collect()
    };
    if let Some(missing) = TOOLS.iter().find(|name| tool::find(name).is_none()) {
        return Ok(skip_all(format!("{missing} is not installed")));
    }
    let Some(busybox) = image::busybox() else {
        return Ok(skip_all("no static busybox is installed".to_owned()));
    };

    let tests = build_tests(root)?;
    let mut outcomes = Vec::new();
    for name in kernels {
        let result = match kernel::get(root, name) {
            Ok(home) => run_one(root, name, &home, &busybox, &tests)
                .unwrap_or_else(|error| Result::Died(format!("{error:#}"))),
            Err(error) => Result::Skipped(format!("{error:#}")),
        };
        outcomes.push(Outcome { kernel: (*name).to_owned(), result });
    }
    Ok(outcomes)
}

fn run_one(
    root: &Path,
    name: &str,
    home: &Path,
    busybox: &Path,
    tests: &[Test],
) -> anyhow::Result<Result> {
    let mut image = image::Image::new(busybox)?;
    for data in DATA {
        image.add_tree(&root.join(data))?;
    }
    for program in PROGRAMS {
        if let Some(path) = tool::find(program) {
            image.add_program(&path)?;
        }
    }
    let mut script = String::new();
    for test in tests {
        image.add_file(&test.binary, &test.binary, 0o755)?;
        let (directory, binary) = (test.directory.display(), test.binary.display());
        script += &format!("mkdir -p {directory}; cd {directory} && {binary} || failed=1\n");
    }
    image.set_script(&script);
    for (index, module) in modules::in_order(home)?.into_iter().enumerate() {
        image.add_module(index, &module);
    }
    let output = qemu::run(home, image, kernel::processor(name), LIMIT)?;
    println!("{}", output.text);
    let mut summary = Summary::default();
    for line in output.text.lines() {
        summary.add_line(line);
    }
    Ok(match output.failed {
        Some(failed) => {
            summary.set_success(!failed);
            Result::Ran(summary)
        }
        None => Result::Died(output.reason),
    })
}

/// A static test binary and the directory that cargo would run it in.
#[derive(Debug)]
struct Test {
    binary: PathBuf,
    directory: PathBuf,
}

fn build_tests(root: &Path) -> anyhow::Result<Vec<Test>> {
    let mut cargo = tool::cargo();
    cargo
        .current_dir(root)
        .args([
            "test",
            "--no-run",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ])
        .args(PACKAGES.iter().flat_map(|package| ["--package", package]))
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    let mut tests = Vec::new();
    for line in tool::output(&mut cargo)?.lines() {
        let message: Value = serde_json::from_str(line).context("cargo printed no JSON")?;
        let text = |key: &str| message.get(key).and_then(Value::as_str);
        let (Some(binary), Some(manifest)) = (text("executable"), text("manifest_path")) else {
            continue;
        };
        let is_test = message.pointer("/profile/test").and_then(Value::as_bool);
        let directory = Path::new(manifest).parent().context("a manifest has a directory")?;
        if is_test == Some(true) {
            let (binary, directory) = (PathBuf::from(binary), directory.to_path_buf());
            tests.push(Test { binary, directory });
        }
    }
    ensure!(!tests.is_empty(), "cargo built no tests");
    Ok(tests)
}
