//! Types of a kernel from files: of one that shows none itself, or of another one.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use object::{Object as _, ObjectSection as _};
use skep_btf::Btf;

use super::{TargetError, parse_btf};
use crate::sys;

/// The types in a file (raw BTF, or an ELF file with a section `.BTF`), or those of the running
/// kernel in a directory.
///
/// A directory has `ID/VERSION_ID/ARCH/RELEASE.btf`, as BTFHub's archive is laid out: `ID` and
/// `VERSION_ID` as in `/etc/os-release`, `ARCH` `x86_64` or `arm64`, `RELEASE` as `uname -r` says; or
/// simply `RELEASE.btf`.
///
/// # Errors
///
/// When there is no such file, it is packed, or it has no types.
pub fn types_from(path: &Path) -> Result<Btf, TargetError> {
    if path.is_dir() {
        return types_of_file(&in_directory(path, &System::running())?);
    }
    types_of_file(path)
}

fn types_of_file(path: &Path) -> Result<Btf, TargetError> {
    let fail = |source| TargetError::Read { path: path.into(), source };
    let bytes = sys::read_file(path).map_err(fail)?;
    if !bytes.starts_with(b"\x7fELF") {
        return parse_btf(bytes, path);
    }
    let invalid = |e| fail(io::Error::new(io::ErrorKind::InvalidData, e));
    let elf = object::File::parse(bytes.as_slice()).map_err(invalid)?;
    let section = elf.section_by_name(".BTF");
    let section = section.ok_or_else(|| TargetError::NoTypes { path: path.into() })?;
    parse_btf(section.data().map_err(invalid)?.to_vec(), path)
}

/// What tells one kernel's file from another's.
#[derive(Clone, Debug)]
struct System {
    id: String,
    version: String,
    arch: &'static str,
    release: String,
}

impl System {
    fn running() -> Self {
        let text = ["/etc/os-release", "/usr/lib/os-release"];
        let text = text.iter().find_map(|path| sys::read_text(path).ok()).unwrap_or_default();
        let arch = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            arch => arch,
        };
        let (id, version) = (field(&text, "ID"), field(&text, "VERSION_ID"));
        Self { id, version, arch, release: sys::uname().0 }
    }

    /// Where its types may be, without `.btf`.
    fn places(&self, root: &Path) -> [PathBuf; 2] {
        let Self { id, version, arch, release } = self;
        [root.join(id).join(version).join(arch).join(release), root.join(release)]
    }
}

/// A value of `os-release`, without its quotes. What could lead out of a directory is none.
fn field(text: &str, name: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = value.unwrap_or_default().trim_matches(['"', '\'']);
    if value.contains('/') || value.starts_with('.') { String::new() } else { value.to_owned() }
}

fn in_directory(root: &Path, system: &System) -> Result<PathBuf, TargetError> {
    let places = system.places(root);
    let with = |place: &Path, ending: &str| {
        // Releases have dots: the ending is put behind them.
        let mut name = place.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let tried = places.each_ref().map(|place| with(place, ".btf"));
    if let Some(found) = tried.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let packed = places.iter().map(|place| with(place, ".btf.tar.xz")).find(|path| path.is_file());
    Err(match packed {
        Some(path) => TargetError::Packed { path },
        None => TargetError::NoneFor { root: root.into(), tried: tried.to_vec() },
    })
}

/// Where distributions install a kernel with its types, `{}` for the release.
const IMAGES: &[&str] = &[
    "/boot/vmlinux-{}",
    "/lib/modules/{}/vmlinux-{}",
    "/lib/modules/{}/build/vmlinux",
    "/usr/lib/modules/{}/kernel/vmlinux",
    "/usr/lib/debug/boot/vmlinux-{}",
    "/usr/lib/debug/boot/vmlinux-{}.debug",
    "/usr/lib/debug/lib/modules/{}/vmlinux",
];

/// The running kernel's types from its image, for one that does not show them itself.
pub(super) fn types_of_image() -> Option<Btf> {
    let (release, _) = sys::uname();
    let paths = IMAGES.iter().map(|pattern| PathBuf::from(pattern.replace("{}", &release)));
    paths.filter(|path| fs::metadata(path).is_ok()).find_map(|path| types_of_file(&path).ok())
}

#[cfg(test)]
mod tests {
    use skep_btf::{Builder, Encoding};
    use skep_testing::repository;

    use super::*;

    /// A directory of the test's own, gone with it.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("skep-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn put(&self, path: &str, bytes: &[u8]) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).ok();
        }
    }

    fn system() -> System {
        let text = "NAME=\"x\"\nID=debian\nVERSION_ID=\"12\"\n";
        System {
            id: field(text, "ID"),
            version: field(text, "VERSION_ID"),
            arch: "x86_64",
            release: "6.1.0-9-amd64".into(),
        }
    }

    #[test]
    fn a_directory_has_the_file_of_this_kernel() {
        let directory = Directory::new("btfhub");
        let root = &directory.0;
        let error = in_directory(root, &system()).unwrap_err().to_string();
        assert!(error.contains("debian/12/x86_64/6.1.0-9-amd64.btf"), "{error}");

        directory.put("debian/12/x86_64/6.1.0-9-amd64.btf.tar.xz", b"");
        let error = in_directory(root, &system()).unwrap_err().to_string();
        assert!(error.contains("is packed: tar -xJf unpacks it"), "{error}");

        directory.put("6.1.0-9-amd64.btf", b"");
        let found = in_directory(root, &system()).unwrap();
        assert_eq!(found, root.join("6.1.0-9-amd64.btf"));
        directory.put("debian/12/x86_64/6.1.0-9-amd64.btf", b"");
        let found = in_directory(root, &system()).unwrap();
        assert_eq!(found, root.join("debian/12/x86_64/6.1.0-9-amd64.btf"));
    }

    #[test]
    fn names_of_systems_do_not_lead_out_of_the_directory() {
        for text in ["ID=../..", "ID=\"/etc\"", "ID=.", "NAME=x"] {
            assert_eq!(field(text, "ID"), "", "{text}");
        }
    }

    #[test]
    fn files_are_raw_types_or_elf() {
        let mut types = Builder::new();
        types.int("int", 4, Encoding::SIGNED);
        let directory = Directory::new("types");
        directory.put("raw.btf", &types.to_bytes());
        assert_eq!(types_from(&directory.0.join("raw.btf")).unwrap().len(), 2);
        let object = repository().join("tests/data/objects/core.bpf.o");
        if object.exists() {
            assert!(types_from(&object).unwrap().len() > 2);
        }
        directory.put("none.o", b"\x7fELF nonsense");
        assert!(matches!(types_from(&directory.0.join("none.o")), Err(TargetError::Read { .. })));
        directory.put("other", b"nonsense");
        assert!(matches!(types_from(&directory.0.join("other")), Err(TargetError::Btf { .. })));
    }
}
