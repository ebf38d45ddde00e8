//! tracefs: where it is, numbers of its events, probes that are defined in it.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    leftover::Process,
    near::near,
    sys::{self, SysError},
};

/// Where tracefs usually is.
const USUAL: &[&str] = &["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// What begins the names of skep's own probes; whose it is follows.
pub(crate) const NAME: &str = "probe_";
/// The group of skep's own probes, by which they are recognised.
const GROUP: &str = "skep";

/// A tracefs, mounted for everybody or only for this process.
#[derive(Debug)]
pub(crate) struct Tracefs {
    root: PathBuf,
    /// Keeps a mount that nobody else sees.
    _mount: Option<OwnedFd>,
}

impl Tracefs {
    pub(crate) fn find() -> Result<Self, SysError> {
        if let Some(root) = USUAL.iter().find(|root| Path::new(root).join("events").exists()) {
            return Ok(Self { root: root.into(), _mount: None });
        }
        // Not mounted: a mount that nobody else sees, and that ends with its descriptor.
        let mount = sys::detached_mount(c"tracefs")?;
        let root = PathBuf::from(format!("/proc/thread-self/fd/{}", mount.as_raw_fd()));
        Ok(Self { root, _mount: Some(mount) })
    }

    /// Opens what everybody prints into the trace, to be read without waiting. The file stays
    /// usable when this mount is gone.
    pub(crate) fn pipe(&self) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK).open(self.root.join("trace_pipe"))
    }

    /// The number by which `perf_event_open` knows an event.
    pub(super) fn event_id(&self, category: &str, name: &str) -> io::Result<u64> {
        let path = self.root.join("events").join(category).join(name).join("id");
        let text = sys::read_text(path)?;
        text.trim().parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a number"))
    }

    /// Names of tracepoints near one that is not there; of categories where that is not there.
    pub(super) fn near(&self, category: &str, name: &str) -> Vec<String> {
        let events = self.root.join("events");
        let list = |directory: &Path| -> io::Result<Vec<String>> {
            let entries = std::fs::read_dir(directory)?.flatten();
            Ok(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
        };
        let (wanted, names) = match list(&events.join(category)) {
            Ok(names) => (name, names),
            Err(_) => (category, list(&events).unwrap_or_default()),
        };
        near(wanted, names.iter().map(String::as_str)).into_iter().map(str::to_owned).collect()
    }

    /// Functions that kprobes may be put on, one per line, some with their module behind them.
    pub(super) fn functions(&self) -> io::Result<String> {
        sys::read_text(self.root.join("available_filter_functions"))
    }
}

/// Whose functions a probe is on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// The kernel's.
    Kernel,
    /// A binary's.
    User,
}

impl Kind {
    /// The file that takes definitions.
    const fn file(self) -> &'static str {
        match self {
            Self::Kernel => "kprobe_events",
            Self::User => "uprobe_events",
        }
    }
}

/// A probe defined in tracefs. Dropping it removes it; its events must be closed before.
#[derive(Debug)]
pub(super) struct Probe {
    /// Taken by [`Probe::remove`].
    tracefs: Option<Tracefs>,
    kind: Kind,
    name: String,
}

impl Probe {
    /// Defines a probe: `p` or `r` (at the return), then where. Returns its event's number too.
    pub(super) fn define(kind: Kind, returns: bool, place: &str) -> Result<(Self, u64), SysError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let tracefs = Tracefs::find()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME}{}_{count}", Process::own());
        let when = if returns { 'r' } else { 'p' };
        let fail = |e| SysError::new(kind.file(), e);
        write(&tracefs, kind, &format!("{when}:{GROUP}/{name} {place}")).map_err(fail)?;
        let id = tracefs.event_id(GROUP, &name);
        let probe = Self { tracefs: Some(tracefs), kind, name };
        Ok((probe, id.map_err(fail)?))
    }

    /// Removes the probe.
    pub(super) fn remove(mut self) -> Result<(), SysError> {
        let kind = self.kind;
        self.end().map_err(|e| SysError::new(kind.file(), e))
    }

    fn end(&mut self) -> io::Result<()> {
        let line = format!("-:{GROUP}/{}", self.name);
        self.tracefs.take().map_or(Ok(()), |tracefs| write(&tracefs, self.kind, &line))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Nobody can be told; the name says whose it was.
        self.end().ok();
    }
}

/// One definition. Opened to append: truncating the file removes everybody's probes.
fn write(tracefs: &Tracefs, kind: Kind, line: &str) -> io::Result<()> {
    sys::append_file(tracefs.root.join(kind.file()), format!("{line}\n").as_bytes())
}

/// All probes of skep's group, and whether they are on binaries.
pub(crate) fn probes() -> Result<Vec<(String, bool)>, SysError> {
    let tracefs = Tracefs::find()?;
    let of_kind = |kind: Kind| {
        let text = sys::read_text(tracefs.root.join(kind.file())).unwrap_or_default();
        let user = matches!(kind, Kind::User);
        names(&text).map(|name| (name.to_owned(), user)).collect::<Vec<_>>()
    };
    Ok([Kind::Kernel, Kind::User].into_iter().flat_map(of_kind).collect())
}

/// The names in skep's group, in lines like `p:skep/NAME PLACE`.
fn names(definitions: &str) -> impl Iterator<Item = &str> {
    definitions.lines().filter_map(|line| {
        let (_, event) = line.split_whitespace().next()?.split_once(':')?;
        event.strip_prefix(GROUP)?.strip_prefix('/')
    })
}

/// Removes a probe of skep's group. The kernel refuses while somebody uses it.
pub(crate) fn remove_probe(name: &str, user: bool) -> Result<(), SysError> {
    let kind = if user { Kind::User } else { Kind::Kernel };
    let line = format!("-:{GROUP}/{name}");
    write(&Tracefs::find()?, kind, &line).map_err(|e| SysError::new(kind.file(), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_probes_of_the_group_are_ours() {
        let text = "p:skep/probe_1_2_f_0 do_exit\nr4:skep/x vfs_read+0\np:kprobes/y z\n\n:skep/";
        assert_eq!(names(text).collect::<Vec<_>>(), ["probe_1_2_f_0", "x", ""]);
    }
}
