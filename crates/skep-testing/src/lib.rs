//! What skep's tests share: skips that are counted, where test data of others lies, a network of
//! their own.
#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "an option that must be set before binding has no safe interface")]
mod listener;
#[expect(unsafe_code, reason = "namespaces and interface settings have no safe interface")]
mod sandbox;
#[expect(unsafe_code, reason = "namespaces and mounts have no safe interface")]
mod user_namespace;

pub use listener::reuseport_listener;
pub use sandbox::{ip, own_descriptors, sandbox, set_congestion_control, veth};
pub use user_namespace::{Side, with_delegated_bpffs};

use std::{
    env, fmt,
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
};

/// Records that a test did not run, and why. `cargo xtask test` prints the list and its length.
///
/// # Panics
///
/// When `REQUIRE_KERNEL` (for `kind` [`Skip::Kernel`]), `REQUIRE_SHARED` (for [`Skip::Shared`]) or
/// `REQUIRE_TOOLS` (for [`Skip::Tool`]) is set: a machine that is meant to run these tests cannot
/// go green by skipping them.
pub fn skip(kind: Skip, test: &str, reason: &str) {
    let line = format!("SKIP {test}: {reason}");
    assert!(env::var_os(kind.variable()).is_none(), "{line} ({} is set)", kind.variable());
    record(&line);
}

/// Records that a hook works on the running kernel: attached, seen, detached, not seen any more.
/// `by` is the kernel's interface that held it. `docs/kernel-support.md` has a row per `hook`: a
/// section's name, with words behind a comma where there is more than one way.
pub fn fired(hook: &str, by: impl fmt::Display) {
    record(&format!("FIRED {hook}: {by}"));
}

/// Records that the running kernel refuses a hook, and why; a counted skip of this part of a test.
/// `reason` is the same in every run: no process number, no address.
///
/// # Panics
///
/// As [`skip`] does.
pub fn refused(hook: &str, reason: &str) {
    record(&format!("REFUSED {hook}: {reason}"));
    skip(Skip::Kernel, &format!("hook {hook}"), reason);
}

/// Prints a line, and appends it to the log of `cargo xtask test` if it runs this.
fn record(line: &str) {
    eprintln!("{line}");
    if let Some(path) = env::var_os("SKEP_TEST_LOG") {
        let log = OpenOptions::new().create(true).append(true).open(path);
        let written = log.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        written.expect("the log must be writable, or skips would not be counted");
    }
}

/// Why a test could not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The running kernel, or the rights of this process.
    Kernel,
    /// Test data of others is not on this machine.
    Shared,
    /// A program that the test drives (`tcpdump`, `clang`, `qemu`) is not installed.
    Tool,
}

impl Skip {
    const fn variable(self) -> &'static str {
        match self {
            Self::Kernel => "REQUIRE_KERNEL",
            Self::Shared => "REQUIRE_SHARED",
            Self::Tool => "REQUIRE_TOOLS",
        }
    }
}

/// The root of the repository.
///
/// # Panics
///
/// When this crate was moved.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("crates/skep-testing is two levels down").to_path_buf()
}

/// A file or directory of others' test data, when it is on this machine: below `SKEP_SHARED`,
/// by default `../shared` as seen from the repository. Records a skip for `test` when absent.
pub fn shared(test: &str, path: &str) -> Option<PathBuf> {
    let root =
        env::var_os("SKEP_SHARED").map_or_else(|| repository().join("../shared"), PathBuf::from);
    let full = root.join(path);
    if full.exists() {
        return Some(full);
    }
    skip(Skip::Shared, test, &format!("{path} is not below SKEP_SHARED"));
    None
}

/// Leaves the calling test with a counted skip unless the kernel answer is yes.
///
/// The argument is a `Result<(), String>`: `Err` holds the reason.
#[macro_export]
macro_rules! require_kernel {
    ($support:expr) => {
        if let Err(reason) = $support {
            let test = concat!(module_path!(), ":", line!());
            $crate::skip($crate::Skip::Kernel, test, &reason);
            return;
        }
    };
}

/// Is a program of this name on the search path?
pub fn has_tool(name: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|d| d.join(name).exists()))
}
