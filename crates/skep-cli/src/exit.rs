//! Exit codes, and which error means which.

use std::{error::Error, io::ErrorKind};

use skep::{AttachError, Blame, LoadError, RunError};

/// Done.
pub const DONE: u8 = 0;
/// The program or the input is at fault.
pub const INPUT: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// This system cannot.
pub const SYSTEM: u8 = 3;
/// Interrupted, after a clean detach.
pub const INTERRUPTED: u8 = 130;

/// The command line asks for something that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// [`Usage`] as an error.
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// The running system lacks something.
#[derive(Debug, thiserror::Error)]
#[error("{missing}")]
pub struct Cannot {
    /// What is missing.
    pub missing: String,
    /// The nearest thing that works.
    pub hint: String,
}

/// An object does not load, and there is more to see.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Advised {
    /// What failed.
    #[source]
    pub error: LoadError,
    /// How to see more.
    pub hint: &'static str,
}

/// The exit code for an error: the first cause that knows decides, else the input is at fault.
pub fn code(e: &anyhow::Error) -> u8 {
    e.chain().find_map(code_of).unwrap_or(INPUT)
}

fn code_of(e: &(dyn Error + 'static)) -> Option<u8> {
    if e.is::<Usage>() {
        return Some(USAGE);
    }
    if e.is::<Cannot>() {
        return Some(SYSTEM);
    }
    match blame(e)? {
        Blame::Input => Some(INPUT),
        Blame::System(_) => Some(SYSTEM),
    }
}

/// Who is at fault, for errors of the library that know.
fn blame(e: &(dyn Error + 'static)) -> Option<Blame> {
    let load = e.downcast_ref::<LoadError>().map(LoadError::blame);
    let attach = || e.downcast_ref::<AttachError>().map(AttachError::blame);
    let run = || e.downcast_ref::<RunError>().map(RunError::blame);
    load.or_else(attach).or_else(run)
}

/// As [`message`], for an error of a library.
pub fn message_of(e: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(e), |&e| e.source());
    join(String::new(), causes.map(ToString::to_string))
}

/// The error and its causes in one line. A cause that the text before it already ends with is not
/// repeated. Only writing the output fails without saying what failed.
pub fn message(e: &anyhow::Error) -> String {
    let bare = e.chain().len() == 1 && e.is::<std::io::Error>();
    let begin = if bare { "cannot write the output".into() } else { String::new() };
    join(begin, e.chain().map(ToString::to_string))
}

fn join(mut text: String, causes: impl Iterator<Item = String>) -> String {
    for cause in causes {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// What to do instead, when an error knows it.
pub fn hint(e: &anyhow::Error) -> Option<String> {
    e.chain().find_map(|cause| {
        if let Some(cannot) = cause.downcast_ref::<Cannot>() {
            return Some(cannot.hint.clone());
        }
        if let Some(advised) = cause.downcast_ref::<Advised>() {
            return Some(advised.hint.into());
        }
        match blame(cause)? {
            Blame::System(nearest) => Some(nearest.into()),
            Blame::Input => {
                let load = cause.downcast_ref::<LoadError>();
                let untyped = load.is_some_and(LoadError::lacks_type);
                if untyped { Some(TYPE_FLAG.into()) } else { taken(cause) }
            }
        }
    })
}

/// What gives a program the type that its section does not name.
const TYPE_FLAG: &str = "skep run --type PROG=TYPE says what a program is (xdp, tc, kprobe…)";

/// Where to find who has the name of a structure of functions.
fn taken(cause: &(dyn Error + 'static)) -> Option<String> {
    use skep::kernel::AttachError as Kernel;
    let AttachError::Kernel(Kernel::StructOps { source, .. }) = cause.downcast_ref()? else {
        return None;
    };
    (source.source.kind() == ErrorKind::AlreadyExists).then(|| {
        "skep map list shows the struct_ops maps that are there; skep net clean takes away what \
         ended processes left"
            .into()
    })
}

/// Did the reader of our output go away? That is its right, not a failure.
pub fn is_broken_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .filter_map(|c| c.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_first_cause_that_knows_its_code_decides() {
        let cannot = || Cannot { missing: "no CAP_BPF".into(), hint: "use embedded".into() };
        let cases = [
            (anyhow::anyhow!("bad object"), INPUT),
            (usage("give --pcap"), USAGE),
            (Err::<(), _>(cannot()).context("loading").unwrap_err(), SYSTEM),
        ];
        for (e, want) in cases {
            assert_eq!(code(&e), want, "{e:#}");
        }
        let e = Err::<(), _>(cannot()).context("loading").unwrap_err();
        assert_eq!(hint(&e).as_deref(), Some("use embedded"));
    }

    #[test]
    fn a_cause_that_was_said_is_not_repeated() {
        let e = anyhow::anyhow!("insn 3: too long").context("x: insn 3: too long").context("run");
        assert_eq!(message(&e), "run: x: insn 3: too long");
    }

    #[test]
    fn output_that_cannot_be_written_is_called_that() {
        let full = || std::io::Error::from(ErrorKind::StorageFull);
        let said = message(&full().into());
        assert_eq!(said, "cannot write the output: no storage space");
        let other = Err::<(), _>(full()).context("cannot write x.pcap").unwrap_err();
        assert_eq!(message(&other), "cannot write x.pcap: no storage space");
    }

    #[test]
    fn a_broken_pipe_is_seen_through_its_context() {
        let e = Err::<(), _>(std::io::Error::from(ErrorKind::BrokenPipe)).context("x").unwrap_err();
        assert!(is_broken_pipe(&e));
        assert!(!is_broken_pipe(&anyhow::anyhow!("other")));
    }
}
