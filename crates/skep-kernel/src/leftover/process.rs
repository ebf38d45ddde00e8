//! A process, told from every other of this boot.

use std::{fmt, fs, os::unix::fs::MetadataExt as _, path::Path, str::FromStr, sync::OnceLock};

use crate::{inspect::processes, sys};

/// Inode of the first pid namespace, `PROC_PID_INIT_INO`: who is in it sees every process.
const FIRST_NAMESPACE: u64 = 0xefff_fffc;

/// A process: its number, when it started, and the pid namespace in which both are meant. A number
/// alone is given to another process one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Process {
    /// Its number, as it sees it itself.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    pub start: u64,
    /// Inode of its pid namespace.
    pub namespace: u64,
}

/// Is a process still there?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It is.
    Alive,
    /// It is not.
    Dead,
    /// It lives or lived in a pid namespace that this process cannot look into.
    Unknown,
}

impl Process {
    /// This process.
    pub fn own() -> Self {
        static OWN: OnceLock<Process> = OnceLock::new();
        *OWN.get_or_init(|| {
            let own = Path::new("/proc/self");
            // Without /proc nobody can ask for our life either.
            let (start, namespace) = (start_of(own).unwrap_or(0), namespace_of(own).unwrap_or(0));
            Self { pid: std::process::id(), start, namespace }
        })
    }

    /// Is it still there?
    pub fn life(&self) -> Life {
        let here = Self::own().namespace;
        if self.namespace == here && here != 0 {
            let alive = start_of(Path::new(&format!("/proc/{}", self.pid))) == Some(self.start);
            return if alive { Life::Alive } else { Life::Dead };
        }
        if here != FIRST_NAMESPACE || self.namespace == 0 {
            return Life::Unknown;
        }
        let same = |process: &Path| {
            namespace_of(process) == Some(self.namespace)
                && innermost_pid(process) == Some(self.pid)
                && start_of(process) == Some(self.start)
        };
        match processes().any(|(_, process)| same(&process)) {
            true => Life::Alive,
            false => Life::Dead,
        }
    }
}

/// The 22nd field of `stat`; the second is a name, which may have blanks and brackets in it. None
/// for a process that has ended and that nobody has asked about yet.
fn start_of(process: &Path) -> Option<u64> {
    let text = String::from_utf8_lossy(&sys::read_file(process.join("stat")).ok()?).into_owned();
    let (_, behind_name) = text.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace();
    let state = fields.next()?;
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

fn namespace_of(process: &Path) -> Option<u64> {
    fs::metadata(process.join("ns/pid")).ok().map(|meta| meta.ino())
}

/// Its number in its own pid namespace, the last of `NSpid`.
fn innermost_pid(process: &Path) -> Option<u32> {
    let text = sys::read_text(process.join("status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, start, namespace } = self;
        write!(f, "{pid}_{start}_{namespace:x}")
    }
}

impl FromStr for Process {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split('_');
        let mut part = || parts.next().ok_or(());
        let pid = part()?.parse().map_err(drop)?;
        let start = part()?.parse().map_err(drop)?;
        let namespace = u64::from_str_radix(part()?, 16).map_err(drop)?;
        match parts.next() {
            None => Ok(Self { pid, start, namespace }),
            Some(_) => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn this_process_lives_and_others_of_its_number_did_not() {
        let own = Process::own();
        assert_eq!(own.life(), Life::Alive);
        assert_eq!(Process { start: own.start + 1, ..own }.life(), Life::Dead);
        assert_eq!(Process { namespace: 0, ..own }.life(), Life::Unknown);
        assert_eq!(own.to_string().parse(), Ok(own));
        for text in ["", "1", "1_2", "x_2_3", "1_2_3_4", "1_2_zz"] {
            assert_eq!(text.parse::<Process>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_process_that_has_ended_is_dead() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let start = start_of(Path::new(&format!("/proc/{}", child.id()))).unwrap();
        let process = Process { pid: child.id(), start, ..Process::own() };
        assert_eq!(process.life(), Life::Alive);
        child.kill().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        // Also before its end is waited for.
        while process.life() != Life::Dead {
            assert!(Instant::now() < deadline);
        }
        child.wait().unwrap();
        assert_eq!(process.life(), Life::Dead);
    }
}
