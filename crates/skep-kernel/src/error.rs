//! Errors, one enum per phase.

use std::{fmt, io, path::PathBuf};

use crate::sys::SysError;

/// An operation on a map failed.
#[derive(Debug, thiserror::Error)]
#[error("map '{map}'")]
pub struct MapError {
    /// The map's name.
    pub map: String,
    /// What failed.
    #[source]
    pub source: SysError,
}

impl MapError {
    /// The errno, as the embedded engine's maps give it for the same mistake.
    pub fn errno(&self) -> i32 {
        self.source.errno()
    }
}

/// Loading an object, or a part of it, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The kernel's verifier rejected a program.
    #[error("program '{program}' rejected by the kernel: {summary}")]
    Rejected {
        /// The program.
        program: String,
        /// What `BPF_PROG_LOAD` returned.
        errno: i32,
        /// The last meaningful line of the log.
        summary: String,
        /// The whole log.
        log: VerifierLog,
    },
    /// The kernel refused a program without looking at its instructions, or the call failed.
    #[error("program '{program}' not loaded{}", hint_text(hint.as_deref()))]
    Refused {
        /// The program.
        program: String,
        /// What that means here, where the errno alone misleads.
        hint: Option<String>,
        /// What failed.
        #[source]
        source: SysError,
    },
    /// A program cannot be handed to the kernel as it is.
    #[error("program '{program}': {reason}")]
    Program {
        /// The program.
        program: String,
        /// Why not.
        reason: String,
    },
    /// A map could not be made or filled.
    #[error("cannot set up map '{map}'")]
    Map {
        /// The map.
        map: String,
        /// What failed.
        #[source]
        source: SysError,
    },
    /// A map could not be pinned, or what is pinned in its place could not be opened.
    #[error("map '{map}' cannot be pinned at {}", path.display())]
    Pin {
        /// The map.
        map: String,
        /// Where it belongs.
        path: PathBuf,
        /// What failed.
        #[source]
        source: SysError,
    },
    /// A map's definition cannot work.
    #[error("map '{map}': {reason}")]
    MapDefinition {
        /// The map.
        map: String,
        /// Why not.
        reason: String,
    },
    /// A pinned map is not the map the object defines.
    #[error("map '{map}' is pinned at {} with {found}, the object wants {expected}", path.display())]
    PinMismatch {
        /// The map.
        map: String,
        /// Where it is pinned.
        path: PathBuf,
        /// Shape of the pinned map.
        found: String,
        /// Shape in the object.
        expected: String,
    },
    /// A symbol of the kernel that a program refers to is not there.
    #[error("program '{program}' refers to {what} '{symbol}', which this kernel does not have")]
    NoSymbol {
        /// The program.
        program: String,
        /// Kind of symbol.
        what: &'static str,
        /// Its name.
        symbol: String,
    },
    /// What the target (the running kernel) tells about itself could not be read.
    #[error("cannot read the running kernel's description")]
    Target(#[from] TargetError),
    /// The kernel refused the object's BTF.
    #[error("BTF refused by the kernel: {summary}")]
    Btf {
        /// What `BPF_BTF_LOAD` returned.
        errno: i32,
        /// The last meaningful line of the log.
        summary: String,
        /// The whole log.
        log: VerifierLog,
    },
}

/// An object could not be resolved for the running kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HereError {
    /// The kernel's description of itself could not be read.
    #[error("cannot read the running kernel's description")]
    Target(#[from] TargetError),
    /// The object does not fit this kernel.
    #[error("cannot resolve the object for the running kernel")]
    Resolve(#[from] skep_object::resolve::ResolveError),
}

/// The running kernel's description of itself could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// A file could not be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel's BTF does not parse.
    #[error("BTF in {} is malformed", path.display())]
    Btf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: skep_btf::BtfError,
    },
}

fn hint_text(hint: Option<&str>) -> String {
    hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
}

/// A verifier log. `Debug` prints its size only: logs run to megabytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct VerifierLog {
    /// The text; its beginning or end may be missing when `truncated`.
    pub text: String,
    /// Did the log not fit the largest buffer the kernel takes?
    pub truncated: bool,
}

impl fmt::Debug for VerifierLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.truncated { ", truncated" } else { "" };
        write!(f, "VerifierLog({} bytes{cut})", self.text.len())
    }
}

impl VerifierLog {
    /// The last line that says something, with the number of lines left out.
    ///
    /// The verifier ends with statistics, and a rejected program's state dump may follow the
    /// sentence that matters.
    pub fn summary(&self) -> Option<String> {
        let mut lines = self.text.lines().map(str::trim).filter(|line| !line.is_empty());
        let line = lines.clone().rev().find(|line| is_meaningful(line));
        let line = line.or_else(|| lines.clone().next_back())?;
        let omitted = lines.by_ref().count() - 1;
        Some(match omitted {
            0 => line.to_owned(),
            1 => format!("{line} (1 line omitted)"),
            n => format!("{line} ({n} lines omitted)"),
        })
    }
}

/// The text of a log buffer: up to its first NUL.
pub(crate) fn until_nul(buffer: &[u8]) -> String {
    let text = buffer.split(|&b| b == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Beginnings of lines that are bookkeeping, not a reason.
const BOOKKEEPING: &[&str] = &[
    "processed ",
    "verification time ",
    "stack depth ",
    "max_states_per_insn ",
    "peak_states ",
    "mark_read ",
    "insns processed ",
    "from ",
    "; ",
    "caller:",
    "callee:",
];

fn is_meaningful(line: &str) -> bool {
    if BOOKKEEPING.iter().any(|start| line.starts_with(start)) {
        return false;
    }
    // `7: (95) exit`, and the registers behind it: `R0=scalar() R10=fp0`, `fp-8=mmmmmmmm`.
    let at_insn = line.split_once(": ").is_some_and(|(pc, _)| pc.parse::<u32>().is_ok());
    let first = line.split_whitespace().next().unwrap_or(line);
    let state = (first.starts_with('R') || first.starts_with("fp-")) && first.contains('=');
    !at_insn && !state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_the_sentence_before_the_statistics() {
        let cases = [
            ("", None),
            (
                "0: R1=ctx() R10=fp0\n0: (61) r0 = *(u32 *)(r1 +200)\ninvalid bpf_context access \
                 off=200 size=4\nprocessed 1 insns (limit 1000000) max_states_per_insn 0\n",
                Some("invalid bpf_context access off=200 size=4 (3 lines omitted)"),
            ),
            (
                "0: (95) exit\nR0 !read_ok\nprocessed 1 insns\n\n",
                Some("R0 !read_ok (2 lines omitted)"),
            ),
            (
                "0: R1=ctx() R10=fp0\n0: (85) call 1\nR1 type=ctx expected=map_ptr\nprocessed 1 x",
                Some("R1 type=ctx expected=map_ptr (3 lines omitted)"),
            ),
            ("unknown opcode 06", Some("unknown opcode 06")),
            ("processed 5 insns", Some("processed 5 insns")),
        ];
        for (text, want) in cases {
            let log = VerifierLog { text: text.into(), truncated: false };
            assert_eq!(log.summary().as_deref(), want, "{text:?}");
        }
    }
}
