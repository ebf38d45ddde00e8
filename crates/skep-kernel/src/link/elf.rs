//! Places in binaries: a file by the name that a user knows it by, a function's place in it.

use std::{
    env, fs, io,
    io::Read as _,
    path::{Path, PathBuf},
};

use object::{Object as _, ObjectSegment as _};

/// A place in a binary could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// No such library or program.
    #[error("no binary '{name}' among the libraries and programs of this machine")]
    NoBinary {
        /// The name.
        name: String,
    },
    /// The file cannot be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file is no ELF file.
    #[error("{} is no ELF file", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: object::Error,
    },
    /// The file has no such function.
    #[error("no function '{symbol}' in {}{}", path.display(), note_stripped(*stripped))]
    NoSymbol {
        /// The file.
        path: PathBuf,
        /// The function, or a pattern.
        symbol: String,
        /// Is there no full symbol table to find it in?
        stripped: bool,
    },
    /// The file has no such static probe.
    #[error("no static probe '{probe}' in {}{}", path.display(), note_others(others))]
    NoProbe {
        /// The file.
        path: PathBuf,
        /// The probe, `provider:name`.
        probe: String,
        /// Names of some that it has.
        others: Vec<String>,
    },
    /// The file's static probes cannot be read.
    #[error("the static probes of {} cannot be read", path.display())]
    Notes {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: super::usdt::NoteError,
    },
    /// A static probe cannot be where its note says.
    #[error("static probe '{probe}' in {}: {reason}", path.display())]
    Probe {
        /// The file.
        path: PathBuf,
        /// The probe, `provider:name`.
        probe: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A path that the kernel cannot be told.
    #[error("the path {path:?} contains a NUL")]
    Path {
        /// The path.
        path: PathBuf,
    },
}

const fn note_stripped(stripped: bool) -> &'static str {
    if stripped { " (it is stripped: only its dynamic symbols are known)" } else { "" }
}

fn note_others(others: &[String]) -> String {
    match others {
        [] => " (it has none at all)".into(),
        some => format!(" (it has {})", some.join(", ")),
    }
}

/// Where the dynamic linker looks when nobody told it.
const LIBRARIES: &[&str] =
    &["/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib", "/usr/local/lib64"];
/// Where programs are when `PATH` does not have them.
const PROGRAMS: &[&str] = &["/usr/bin", "/usr/sbin", "/bin", "/sbin"];

/// The file that a name stands for: a path as it is; `libc.so.6` from the library directories;
/// `libc` the same with the version that is there; else a program on the search path.
///
/// # Errors
///
/// [`ElfError::NoBinary`] when there is none.
pub fn find_binary(name: &str) -> Result<PathBuf, ElfError> {
    if name.contains('/') {
        return Ok(name.into());
    }
    let none = || ElfError::NoBinary { name: name.to_owned() };
    let is_library = has_extension(name) || name.contains(".so.");
    if is_library {
        let mut places = library_directories().into_iter().map(|place| place.join(name));
        return places.find(|path| is_elf(path)).ok_or_else(none);
    }
    let mut programs = listed("PATH").chain(PROGRAMS.iter().map(PathBuf::from));
    if let Some(path) = programs.find_map(|place| Some(place.join(name)).filter(|p| is_elf(p))) {
        return Ok(path);
    }
    let versions = library_directories().into_iter().filter_map(|place| versioned(&place, name));
    versions.map(|(path, _)| path).next().ok_or_else(none)
}

fn has_extension(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "so")
}

/// `NAME.so.N` with the highest N, in a directory; `NAME.so` may be a text for the static linker.
fn versioned(place: &Path, name: &str) -> Option<(PathBuf, u64)> {
    let prefix = format!("{name}.so.");
    let version = |entry: fs::DirEntry| {
        let file = entry.file_name();
        let version = file.to_str()?.strip_prefix(&prefix)?.parse::<u64>().ok()?;
        Some((entry.path(), version)).filter(|(path, _)| is_elf(path))
    };
    let plain = || Some((place.join(format!("{name}.so")), 0)).filter(|(path, _)| is_elf(path));
    let entries = fs::read_dir(place).ok()?;
    entries.flatten().filter_map(version).max_by_key(|&(_, version)| version).or_else(plain)
}

fn library_directories() -> Vec<PathBuf> {
    let triple = format!("{}-linux-gnu", env::consts::ARCH);
    let mut places: Vec<PathBuf> = listed("LD_LIBRARY_PATH").collect();
    places.extend(["/lib", "/usr/lib"].iter().map(|place| Path::new(place).join(&triple)));
    places.extend(LIBRARIES.iter().map(PathBuf::from));
    places
}

fn listed(variable: &str) -> impl Iterator<Item = PathBuf> {
    let list = env::var_os(variable).unwrap_or_default();
    let places: Vec<PathBuf> = env::split_paths(&list).collect();
    places.into_iter().filter(|place| !place.as_os_str().is_empty())
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    path.is_file()
        && fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == *b"\x7fELF"
}

/// The most that is read of a binary: browsers with their debug information have some 2 GB.
const MOST_BYTES: u64 = 4 << 30;

/// A binary's bytes. Whole: names lie all over the file, and reading one by one is slow.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, ElfError> {
    let fail = |source| ElfError::Read { path: path.to_owned(), source };
    // Opening a pipe would wait for its writer, and a device may have no end.
    let file = fs::metadata(path).map_err(fail)?;
    if !file.is_file() {
        return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
    }
    if file.len() > MOST_BYTES {
        return Err(fail(io::Error::from_raw_os_error(libc::EFBIG)));
    }
    fs::read(path).map_err(fail)
}

/// Where in the file the program begins.
pub(crate) fn entry_of(path: &Path) -> Result<u64, ElfError> {
    let bytes = read(path)?;
    let binary = object::File::parse(bytes.as_slice())
        .map_err(|source| ElfError::Format { path: path.to_owned(), source })?;
    let entry = binary.entry();
    let place = binary.segments().find_map(|segment| {
        let inside = entry.checked_sub(segment.address()).filter(|&at| at < segment.size())?;
        segment.file_range().0.checked_add(inside)
    });
    place.ok_or_else(|| ElfError::NoSymbol {
        path: path.to_owned(),
        symbol: "its entry".to_owned(),
        stripped: false,
    })
}

/// Does a name fit a pattern of `*` (anything) and `?` (one character)?
pub(super) fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where to go on when what follows the last `*` does not fit: it takes one more.
    let mut again: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                again = Some((p + 1, n));
                p += 1;
            }
            Some(&c) if c == b'?' || Some(&c) == name.get(n) => {
                p += 1;
                n += 1;
            }
            _ => match again {
                Some((after, taken)) => {
                    again = Some((after, taken + 1));
                    (p, n) = (after, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|&c| c == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, want) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*b?", "abbbc", true),
            ("??", "a", false),
            ("*a*b", "xaab", true),
            ("", "", true),
        ] {
            assert_eq!(glob(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        for place in ["/", "/dev/zero"] {
            let error = read(Path::new(place)).unwrap_err();
            let ElfError::Read { source, .. } = &error else { panic!("{error}") };
            assert_eq!(source.kind(), io::ErrorKind::InvalidInput, "{place}");
        }
    }

    #[test]
    fn names_become_files() {
        assert_eq!(find_binary("/x/y").unwrap(), Path::new("/x/y"));
        let error = find_binary("no-such-binary-anywhere").unwrap_err();
        assert!(matches!(error, ElfError::NoBinary { .. }), "{error}");
        // A guest made of static programs has no library.
        if let Ok(path) = find_binary("libc.so.6") {
            assert!(path.ends_with("libc.so.6"));
            assert!(find_binary("libc").unwrap().file_name().is_some());
        }
    }
}
