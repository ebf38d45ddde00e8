//! A process, told from every other of this boot.

use std::{fmt, fs, io, os::unix::fs::MetadataExt as _, path::Path, str::FromStr, sync::OnceLock};

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
    /// It lives or lived in a pid namespace that this process cannot look into, or `/proc` does not
    /// tell.
    Unknown,
}

impl Process {
    /// This process.
    pub fn own() -> Self {
        static OWN: OnceLock<Process> = OnceLock::new();
        let own = *OWN.get_or_init(Self::read_own);
        // A child made by fork(2) has what its parent remembered.
        if own.pid == std::process::id() { own } else { Self::read_own() }
    }

    /// Without /proc of our own pid namespace nobody can ask for our life: namespace 0.
    fn read_own() -> Self {
        let (pid, own) = (std::process::id(), Path::new("/proc/self"));
        let Ok(Stat { start, .. }) = Stat::read(own) else {
            return Self { pid, start: 0, namespace: 0 };
        };
        let here = sys::read_link(own).is_ok_and(|link| link == Path::new(&pid.to_string()));
        let namespace = if here { namespace_of(own).unwrap_or(0) } else { 0 };
        Self { pid, start, namespace }
    }

    /// Is it still there?
    pub fn life(&self) -> Life {
        let here = Self::own().namespace;
        if here == 0 || self.namespace == 0 {
            return Life::Unknown;
        }
        if self.namespace == here {
            return self.life_here();
        }
        if here == FIRST_NAMESPACE { self.life_below() } else { Life::Unknown }
    }

    /// In the pid namespace of this process.
    fn life_here(&self) -> Life {
        match Stat::read(&Path::new("/proc").join(self.pid.to_string())) {
            Ok(stat) => stat.life_of(self.start),
            Err(e) if is_gone(&e) => match sys::pidfd(self.pid) {
                // It is there, and hidden (`hidepid`).
                Ok(_) => Life::Unknown,
                Err(e) if NO_PROCESS.contains(&e.errno()) => Life::Dead,
                Err(_) => Life::Unknown,
            },
            Err(_) => Life::Unknown,
        }
    }

    /// In another pid namespace, all of which are seen from the first.
    fn life_below(&self) -> Life {
        // Where the first process is hidden (`hidepid`), so are others.
        let Ok(_) = Stat::read(Path::new("/proc/1")) else { return Life::Unknown };
        let Ok(processes) = processes() else { return Life::Unknown };
        let mut life = Life::Dead;
        for (_, process) in processes {
            let one = match innermost_pid(&process) {
                Ok(pid) if pid == Some(self.pid) => Stat::read(&process),
                Ok(_) => continue,
                Err(e) => Err(e),
            };
            let one = match one {
                Ok(stat) => stat.life_of(self.start),
                Err(e) if is_gone(&e) => Life::Dead,
                Err(_) => Life::Unknown,
            };
            match (one, namespace_of(&process)) {
                (Life::Dead, _) => {}
                (Life::Alive, Some(namespace)) if namespace == self.namespace => return one,
                (Life::Alive, Some(_)) => {}
                // Whose namespace it has is only told to who may trace it.
                (Life::Alive, None) | (Life::Unknown, _) => life = Life::Unknown,
            }
        }
        life
    }
}

/// What `pidfd_open(2)` says of a number that no process has: also when a thread has it, and in
/// kernels that do not know the call.
const NO_PROCESS: &[i32] = &[libc::ESRCH, libc::EINVAL, libc::ENOENT, libc::ENOSYS];

/// Does this error of a file in `/proc/PID` mean that there is no such process?
fn is_gone(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// What `/proc/PID/stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    /// In clock ticks since the machine started.
    start: u64,
    /// Has it ended, and nobody has asked about it yet?
    ended: bool,
}

impl Stat {
    fn read(process: &Path) -> io::Result<Self> {
        let text = sys::read_file(process.join("stat"))?;
        Self::parse(&String::from_utf8_lossy(&text))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no stat of a process"))
    }

    /// State, number of threads and start are the 3rd, 20th and 22nd fields; the second is a name,
    /// which may have blanks and brackets in it.
    fn parse(text: &str) -> Option<Self> {
        let (_, behind_name) = text.rsplit_once(')')?;
        let mut fields = behind_name.split_whitespace();
        let state = fields.next()?;
        let threads: u32 = fields.nth(16)?.parse().ok()?;
        let start = fields.nth(1)?.parse().ok()?;
        // A first thread that has ended before the others looks like a process that has.
        Some(Self { start, ended: matches!(state, "Z" | "X") && threads <= 1 })
    }

    fn life_of(self, start: u64) -> Life {
        if self.start == start && !self.ended { Life::Alive } else { Life::Dead }
    }
}

fn namespace_of(process: &Path) -> Option<u64> {
    fs::metadata(process.join("ns/pid")).ok().map(|meta| meta.ino())
}

/// Its number in its own pid namespace, the last of `NSpid`.
fn innermost_pid(process: &Path) -> io::Result<Option<u32>> {
    let text = sys::read_file(process.join("status"))?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"));
    Ok(line.and_then(|line| line.split_whitespace().next_back()?.parse().ok()))
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
    use crate::sys::fake::Fake;

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
    fn a_first_thread_may_end_before_the_others() {
        for (state, threads, ended) in [("S", 1, false), ("Z", 1, true), ("Z", 2, false)] {
            let rest = format!("{state} 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 {threads} 18 77 20");
            let text = format!("5 (a) b) {rest}");
            assert_eq!(Stat::parse(&text), Some(Stat { start: 77, ended }), "{text}");
            for end in 0..text.len() - 5 {
                assert_eq!(Stat::parse(&text[..end]), None);
            }
        }
    }

    /// Else what it attached would be taken away.
    #[test]
    fn who_cannot_be_looked_at_is_not_dead() {
        let own = Process::own();
        let elsewhere = Process { namespace: own.namespace ^ 1, ..own };
        for errno in [libc::EMFILE, libc::EACCES, libc::ENOMEM] {
            let fake = Fake::failing("reading a file", errno);
            assert_eq!((own.life(), elsewhere.life()), (Life::Unknown, Life::Unknown), "{errno}");
            drop(fake);
        }
        // Hidden: the file is not there, and the process is.
        let fake = Fake::failing("reading a file", libc::ENOENT);
        assert_eq!(own.life(), Life::Unknown);
        drop(fake);
    }

    #[test]
    fn a_process_that_has_ended_is_dead() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let Stat { start, .. } = Stat::read(Path::new(&format!("/proc/{}", child.id()))).unwrap();
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
