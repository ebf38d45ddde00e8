//! Functions of binaries, by name, version or pattern.

use std::path::Path;

use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, SymbolIndex, SymbolKind,
    elf::FileHeader64,
    read::elf::{ElfFile64, VersionTable},
};

use super::elf::{ElfError, glob, read};

/// A function that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// Place in the file.
    offset: u64,
    /// Among the dynamic symbols, which have versions.
    dynamic: Option<usize>,
}

/// Offset in the file of a function. Of several versions of one name it is the one that new
/// programs get, unless the name says which: `f@VERSION`, or `f@@VERSION`.
pub(super) fn function(path: &Path, name: &str) -> Result<u64, ElfError> {
    let bytes = read(path)?;
    let file = parse(path, &bytes)?;
    let (base, version) = match name.split_once('@') {
        Some((base, version)) => (base, Some(version)),
        None => (name, None),
    };
    // The full symbol table may have the version in the name.
    let mut found = all(&file, |symbol| symbol == base || symbol == name);
    match Versions::read(&bytes) {
        Some(versions) if version.is_some() || several(&found) => {
            let fits = |one: &Found| one.dynamic.is_some_and(|index| versions.fits(index, version));
            let chosen: Vec<Found> = found.iter().copied().filter(fits).collect();
            // Without a version that is the default, the first.
            if version.is_some() || !chosen.is_empty() {
                found = chosen;
            }
        }
        // Names with versions were compared whole.
        None if version.is_some() => found = all(&file, |symbol| symbol == name),
        _ => {}
    }
    found.first().map(|one| one.offset).ok_or_else(|| missing(path, &file, name))
}

/// Offsets in the file of all functions whose name fits `*` and `?`, without doubles, ascending.
pub(super) fn functions(path: &Path, pattern: &str) -> Result<Vec<u64>, ElfError> {
    let bytes = read(path)?;
    let file = parse(path, &bytes)?;
    let found = all(&file, |symbol| glob(pattern, symbol));
    let mut offsets: Vec<u64> = found.into_iter().map(|one| one.offset).collect();
    offsets.dedup();
    if offsets.is_empty() { Err(missing(path, &file, pattern)) } else { Ok(offsets) }
}

fn parse<'data>(path: &Path, bytes: &'data [u8]) -> Result<object::File<'data>, ElfError> {
    object::File::parse(bytes).map_err(|source| ElfError::Format { path: path.to_owned(), source })
}

fn missing(path: &Path, file: &object::File<'_>, symbol: &str) -> ElfError {
    let stripped = file.symbols().next().is_none();
    ElfError::NoSymbol { path: path.to_owned(), symbol: symbol.to_owned(), stripped }
}

fn several(found: &[Found]) -> bool {
    found.first().is_some_and(|first| found.iter().any(|one| one.offset != first.offset))
}

/// All functions of which the name fits, by offset.
fn all(file: &object::File<'_>, fits: impl Fn(&str) -> bool) -> Vec<Found> {
    let dynamic = file.dynamic_symbols().map(|symbol| (Some(symbol.index().0), symbol));
    let others = file.symbols().map(|symbol| (None, symbol));
    let mut found = Vec::new();
    for (dynamic, symbol) in dynamic.chain(others) {
        if symbol.kind() != SymbolKind::Text || !symbol.name().is_ok_and(&fits) {
            continue;
        }
        // An address in memory becomes a place in the file by its section.
        let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
        let offset = section.and_then(|section| {
            let (start, _) = section.file_range()?;
            symbol.address().checked_sub(section.address())?.checked_add(start)
        });
        found.extend(offset.map(|offset| Found { offset, dynamic }));
    }
    found.sort_unstable();
    found
}

/// Versions of the dynamic symbols of a 64-bit file.
struct Versions<'data>(VersionTable<'data, FileHeader64<LittleEndian>>);

impl<'data> Versions<'data> {
    /// `None` for a file without.
    fn read(bytes: &'data [u8]) -> Option<Self> {
        let file = ElfFile64::<LittleEndian>::parse(bytes).ok()?;
        let table = file.elf_section_table().versions(LittleEndian, bytes).ok()??;
        Some(Self(table))
    }

    /// Is a symbol of this version, or without one the default? `@VERSION` asks for the default
    /// one too.
    fn fits(&self, index: usize, wanted: Option<&str>) -> bool {
        let of = self.0.version_index(LittleEndian, SymbolIndex(index));
        let version = self.0.version(of.index()).ok().flatten();
        let name = version.map(object::read::elf::Version::name);
        match wanted {
            None => !of.is_hidden(),
            Some(wanted) => match wanted.strip_prefix('@') {
                Some(default) => name == Some(default.as_bytes()) && !of.is_hidden(),
                None => name == Some(wanted.as_bytes()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::find_binary;

    #[test]
    fn versions_of_one_name_are_told_apart() {
        // A guest made of static programs has no library.
        let Ok(libc) = find_binary("libc.so.6") else { return };
        let place = |name: &str| function(&libc, name).ok();
        assert!(place("getppid").is_some());
        assert_eq!(place("getppid@NO_SUCH_VERSION"), None);
        // glibc on x86-64 changed this one.
        let (old, new) = ("pthread_cond_wait@GLIBC_2.2.5", "pthread_cond_wait@@GLIBC_2.3.2");
        let (Some(old), Some(new)) = (place(old), place(new)) else { return };
        assert_ne!(old, new);
        assert_eq!(place("pthread_cond_wait"), Some(new));
        assert_eq!(place("pthread_cond_wait@GLIBC_2.3.2"), Some(new));
        assert_eq!(place("pthread_cond_wait@@GLIBC_2.2.5"), None);
        assert!(functions(&libc, "pthread_cond_wait").unwrap().contains(&old));
    }

    #[test]
    fn what_is_no_binary_is_refused() {
        let error = functions(Path::new("/proc/self/maps"), "*").unwrap_err();
        assert!(matches!(error, ElfError::Format { .. } | ElfError::Read { .. }), "{error}");
        let own = std::env::current_exe().unwrap();
        for error in
            [function(&own, "no such").unwrap_err(), functions(&own, "no such*").unwrap_err()]
        {
            assert!(matches!(error, ElfError::NoSymbol { .. }), "{error}");
        }
    }
}
