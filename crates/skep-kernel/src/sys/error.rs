//! A failed system call, with a hint where the errno alone misleads.

use std::io;

/// The kernel's internal "operation not supported", which leaks to user space; libc has no text
/// for it.
pub const ENOTSUPP: i32 = 524;

/// A failed system call or `bpf(2)` command.
#[derive(Debug, thiserror::Error)]
#[error("{command} failed{}{}", hint_text(*hint), words_text(words.as_deref()))]
pub struct SysError {
    /// The command, as named in the kernel headers, or the system call.
    pub command: &'static str,
    /// What the errno means here, where its usual text misleads.
    pub hint: Option<&'static str>,
    /// What the kernel itself said beside the errno, where it has words for it (netlink).
    pub words: Option<Box<str>>,
    /// The errno.
    #[source]
    pub source: io::Error,
}

fn hint_text(hint: Option<&'static str>) -> String {
    hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
}

fn words_text(words: Option<&str>) -> String {
    words.map(|words| format!(" (the kernel says: {words})")).unwrap_or_default()
}

impl SysError {
    /// With an errno that this crate, not the kernel, found.
    pub(crate) fn errno_of(command: &'static str, errno: i32, hint: &'static str) -> Self {
        let source = io::Error::from_raw_os_error(errno);
        Self { command, hint: Some(hint), words: None, source }
    }

    pub(crate) fn new(command: &'static str, source: io::Error) -> Self {
        let hint = source.raw_os_error().and_then(|errno| hint(command, errno));
        Self { command, hint, words: None, source }
    }

    /// With the kernel's own words.
    pub(crate) fn with_words(mut self, words: Option<Box<str>>) -> Self {
        self.words = words;
        self
    }

    /// As part of something larger: `command` is what the user knows, and this call its means.
    pub(crate) fn within(self, command: &'static str) -> Self {
        Self { command, hint: Some(self.command), ..self }
    }

    /// The errno; 0 when the failure was not one of the kernel's.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

/// What an errno means for a command: rows where the usual text would send the reader astray.
/// `""` is every command; the first row that fits wins.
const HINTS: &[(&str, i32, &str)] = &[
    ("BPF_MAP_CREATE", libc::EPERM, "needs CAP_BPF; before Linux 5.11 also enough RLIMIT_MEMLOCK"),
    ("BPF_PROG_LOAD", libc::E2BIG, "the program has more instructions than this kernel takes"),
    ("BPF_MAP_UPDATE_ELEM", libc::E2BIG, "the map is full, or the index is out of range"),
    ("BPF_MAP_UPDATE_ELEM", libc::EEXIST, "it is there already"),
    ("BPF_MAP_UPDATE_ELEM", libc::ENOENT, "the key is not there"),
    ("BPF_MAP_UPDATE_ELEM", libc::EPERM, "the map is frozen, or read-only"),
    ("BPF_MAP_DELETE_ELEM", libc::ENOENT, "the key is not there"),
    ("BPF_MAP_DELETE_ELEM", libc::EINVAL, "maps of this type keep all their entries"),
    ("BPF_MAP_DELETE_ELEM", libc::EPERM, "the map is frozen, or read-only"),
    ("BPF_MAP_FREEZE", libc::EPERM, "the map is frozen, or read-only"),
    ("BPF_OBJ_PIN", libc::EPERM, "the path is not on a bpf file system"),
    ("BPF_LINK_DETACH", libc::EOPNOTSUPP, "links of this type end with their last holder or pin"),
    ("BPF_PROG_TEST_RUN", libc::EINVAL, "programs of this type take other data, or other options"),
    ("BPF_OBJ_GET", libc::EPERM, "the path is not a pinned object"),
    ("BPF_OBJ_GET", libc::EACCES, "the path is not a pinned object, or not readable"),
    ("BPF_LINK_CREATE", libc::EPERM, "needs CAP_BPF and the hook's own capability"),
    ("BPF_LINK_CREATE", libc::EBUSY, "something is attached here that does not share the hook"),
    ("BPF_LINK_UPDATE", libc::EPERM, "another program than the expected one is attached"),
    ("BPF_LINK_UPDATE", libc::EINVAL, "the new program is of another kind, or loaded otherwise"),
    ("perf_event_open", libc::EACCES, "see /proc/sys/kernel/perf_event_paranoid, or CAP_PERFMON"),
    ("", libc::ENOSYS, "the kernel was built without this system call"),
    ("", ENOTSUPP, "ENOTSUPP: this kernel does not implement the operation for this object"),
];

fn hint(command: &str, errno: i32) -> Option<&'static str> {
    let fits = |&&(c, e, _): &&(&str, i32, &str)| (c.is_empty() || c == command) && e == errno;
    HINTS.iter().find(fits).map(|&(_, _, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errno_524_gets_a_name() {
        let error = SysError::new("BPF_PROG_TEST_RUN", io::Error::from_raw_os_error(ENOTSUPP));
        assert!(error.to_string().contains("ENOTSUPP"), "{error}");
        assert_eq!(error.errno(), ENOTSUPP);
    }
}
