//! The running kernel as a target of relocation: its BTF, configuration, version, symbols.

mod files;
mod modules;

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use skep_btf::Btf;
use skep_object::{
    ObjectSpec,
    resolve::{self, Resolved, Symbols, Target},
    spec::ExternKind,
};

use crate::{
    error::{HereError, TargetError},
    sys,
};

pub use files::types_from;
pub(crate) use modules::{ModuleBtf, modules};

const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";
const KALLSYMS: &str = "/proc/kallsyms";

/// The running kernel's BTF, parsed once per process.
///
/// # Errors
///
/// When the kernel has none (`CONFIG_DEBUG_INFO_BTF`), or it cannot be read.
pub fn vmlinux_btf() -> Result<Btf, TargetError> {
    static CACHE: OnceLock<Btf> = OnceLock::new();
    if let Some(btf) = CACHE.get() {
        return Ok(btf.clone());
    }
    let btf = open_vmlinux()?;
    Ok(CACHE.get_or_init(|| btf).clone())
}

/// The running kernel's types for relocation: its own, or where it shows none those of its image
/// (`/boot/vmlinux-RELEASE` and the like).
///
/// # Errors
///
/// As for [`vmlinux_btf`], when no image has types either.
pub fn kernel_types() -> Result<Btf, TargetError> {
    vmlinux_btf().or_else(|e| files::types_of_image().ok_or(e))
}

/// Since Linux 6.16 the kernel's BTF can be used where it is.
fn open_vmlinux() -> Result<Btf, TargetError> {
    let path = Path::new(VMLINUX_BTF);
    match sys::map_file(path) {
        Ok(bytes) => parse_btf(bytes, path),
        Err(_) => read_btf(path),
    }
}

/// BTF from a file as the kernel shows it: the bytes of a `.BTF` section.
///
/// # Errors
///
/// When the file cannot be read or is not BTF.
pub fn read_btf(path: &Path) -> Result<Btf, TargetError> {
    let bytes =
        sys::read_file(path).map_err(|source| TargetError::Read { path: path.into(), source })?;
    parse_btf(bytes, path)
}

fn parse_btf(bytes: impl Into<Cow<'static, [u8]>>, path: &Path) -> Result<Btf, TargetError> {
    Btf::parse_owned(bytes).map_err(|source| TargetError::Btf { path: path.into(), source })
}

/// The running kernel's configuration: `CONFIG_HZ` to `250`, strings with their quotes.
///
/// From `/proc/config.gz`, else `/boot/config-RELEASE`.
///
/// # Errors
///
/// When neither can be read.
pub fn kconfig() -> Result<BTreeMap<String, String>, TargetError> {
    let (release, _) = sys::uname();
    let boot = PathBuf::from(format!("/boot/config-{release}"));
    let text = match read_gzip(Path::new("/proc/config.gz")) {
        Ok(text) => text,
        Err(_) => {
            sys::read_text(&boot).map_err(|source| TargetError::Read { path: boot, source })?
        }
    };
    Ok(parse_kconfig(&text))
}

fn read_gzip(path: &Path) -> io::Result<String> {
    // A configuration unpacks to some 150 kB; the bound keeps a wrong file from filling memory.
    const LIMIT: u64 = 16 << 20;
    let mut text = String::new();
    flate2::read::GzDecoder::new(sys::read_file(path)?.as_slice())
        .take(LIMIT)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn parse_kconfig(text: &str) -> BTreeMap<String, String> {
    let option = |line: &str| {
        let (name, value) = line.trim().split_once('=')?;
        name.starts_with("CONFIG_").then(|| (name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(option).collect()
}

/// Resolves an object for the running kernel, reading only what the object asks about.
///
/// # Errors
///
/// When the object cannot be resolved for this kernel, or the kernel's description cannot be read.
pub fn resolve(spec: ObjectSpec) -> Result<Resolved, HereError> {
    resolve_with(spec, None)
}

/// As [`resolve()`], with `types` in place of those that the kernel and its modules show.
///
/// # Errors
///
/// As for [`resolve()`].
pub fn resolve_with(spec: ObjectSpec, types: Option<&Btf>) -> Result<Resolved, HereError> {
    let relocated = spec.programs.iter().any(|program| !program.core_relos.is_empty());
    let btf = match types {
        Some(types) => Some(types.clone()),
        None if relocated => kernel_types().ok(),
        None => None,
    };
    let configured = spec.externs.iter().any(|e| matches!(e.kind, ExternKind::Kconfig { .. }));
    let wants = |name| spec.externs.iter().any(|e| e.name == name);
    let config = if configured { kconfig().ok() } else { None };
    let target = Target {
        btf: btf.as_ref(),
        modules: &[],
        kernel_version: kernel_version(),
        kconfig: config.as_ref(),
        has_bpf_cookie: wants("LINUX_HAS_BPF_COOKIE") && crate::probe::bpf_cookie().is_yes(),
        has_syscall_wrapper: wants("LINUX_HAS_SYSCALL_WRAPPER") && has_syscall_wrapper()?,
        symbols: Symbols::Engine,
    };
    // The kernel's own types win; modules are asked about what it does not have.
    let modules = || match &btf {
        Some(kernel) if types.is_none() => modules::module_types(kernel),
        _ => Vec::new(),
    };
    Ok(resolve::resolve_asking(spec, &target, modules)?)
}

/// Do system calls get their arguments in a `struct pt_regs *`? Their functions are then named
/// for the architecture.
pub(crate) fn has_syscall_wrapper() -> Result<bool, TargetError> {
    let names = ["__x64_sys_bpf", "__arm64_sys_bpf", "__s390x_sys_bpf", "__riscv_sys_bpf"];
    Ok(!kernel_symbols(&names)?.is_empty())
}

/// `LINUX_VERSION_CODE` of the running kernel: `major << 16 | minor << 8 | patch`, the patch level
/// capped at 255.
pub fn kernel_version() -> u32 {
    let (release, version) = sys::uname();
    // Ubuntu: `Ubuntu 6.8.0-31.31-generic 6.8.1`; the last word is the real one.
    let signature = sys::read_text("/proc/version_signature").unwrap_or_default();
    version_code(&release, &version, &signature)
}

fn version_code(release: &str, version: &str, signature: &str) -> u32 {
    // Debian keeps `.0` in the release; the real patch level stands behind `Debian`.
    let debian = version.split_once("Debian ").map(|(_, rest)| rest);
    let ubuntu = signature.split_whitespace().next_back();
    ubuntu
        .and_then(parse_version)
        .or_else(|| debian.and_then(parse_version))
        .or_else(|| parse_version(release))
        .unwrap_or(0)
}

fn parse_version(text: &str) -> Option<u32> {
    let digits = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    let mut parts = digits.split('.').map(|part| part.parse::<u32>().ok());
    let (major, minor) = (parts.next()??, parts.next()??);
    let patch = parts.next().flatten().unwrap_or(0);
    Some(major << 16 | minor.min(255) << 8 | patch.min(255))
}

/// Addresses of kernel symbols; those that do not exist, or are hidden from this process
/// (`kptr_restrict`), are left out. Of several with one name the first wins.
///
/// # Errors
///
/// When `/proc/kallsyms` cannot be read.
pub fn kernel_symbols(names: &[&str]) -> Result<HashMap<String, u64>, TargetError> {
    let fail = |source| TargetError::Read { path: KALLSYMS.into(), source };
    let mut lines = BufReader::new(fs::File::open(KALLSYMS).map_err(fail)?);
    // An object may ask for tens of thousands, and the list is long.
    let names: HashSet<&str> = names.iter().copied().collect();
    let mut found = HashMap::new();
    let mut line = String::new();
    while found.len() < names.len() {
        line.clear();
        if lines.read_line(&mut line).map_err(fail)? == 0 {
            break;
        }
        if let Some((name, address)) = parse_symbol(&line)
            && names.contains(name)
            && address != 0
        {
            found.entry(name.to_owned()).or_insert(address);
        }
    }
    Ok(found)
}

/// `ffffffff81000000 T _text`, with the module in brackets behind it.
fn parse_symbol(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16).ok()?;
    words.next()?;
    Some((words.next()?, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fake::Fake;

    #[test]
    fn versions_are_read_where_distributions_put_them() {
        let cases = [
            (("6.18.44-vendor", "#1 SMP", ""), 0x06_12_2c),
            (("6.1.0-56-amd64", "#1 SMP Debian 6.1.192-2 (2026-01-01)", ""), 0x06_01_c0),
            (("6.8.0-31-generic", "#31-Ubuntu", "Ubuntu 6.8.0-31.31-generic 6.8.1\n"), 0x06_08_01),
            (("5.10.300", "", ""), 0x05_0a_ff),
            (("7.2", "", ""), 0x07_02_00),
            (("strange", "", ""), 0),
        ];
        for ((release, version, signature), want) in cases {
            assert_eq!(version_code(release, version, signature), want, "{release}");
        }
    }

    #[test]
    fn configuration_keeps_values_as_written() {
        let text = "#\n# Linux\n#\nCONFIG_HZ=250\n# CONFIG_X is not set\nCONFIG_S=\"a=b\"\n";
        let config = parse_kconfig(text);
        assert_eq!(config.len(), 2);
        assert_eq!(config["CONFIG_HZ"], "250");
        assert_eq!(config["CONFIG_S"], "\"a=b\"");
    }

    #[test]
    fn symbols_are_third_words() {
        assert_eq!(
            parse_symbol("ffffffff81000000 T _text\t[mod]\n"),
            Some(("_text", 0xffff_ffff_8100_0000))
        );
        assert_eq!(parse_symbol("nonsense"), None);
    }

    #[test]
    fn the_kernels_types_are_the_same_mapped_and_read() {
        let Ok(mapped) = open_vmlinux() else { return };
        let fake = Fake::failing("mapping a file", libc::ENODEV);
        let read = open_vmlinux().unwrap();
        assert_eq!(fake.names(), ["mapping a file", "reading a file"]);
        assert!(mapped.to_bytes() == read.to_bytes(), "the same bytes");
    }

    #[test]
    fn files_that_can_change_are_not_mapped() {
        let refused = sys::map_file(Path::new("/proc/self/exe")).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn this_kernel_describes_itself() {
        assert!(kernel_version() > 0x04_00_00);
        if let Ok(btf) = vmlinux_btf() {
            assert!(btf.find(skep_btf::KindTag::Struct, "task_struct").next().is_some());
        }
        if Path::new("/proc/config.gz").exists() {
            assert!(kconfig().unwrap().len() > 100);
        }
    }
}
