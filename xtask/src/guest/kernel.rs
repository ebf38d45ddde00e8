//! Debian kernels: found in the package archive, kept unpacked below `target/guests`.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use crate::tool;

/// A kernel by the name that the command line uses.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    /// The release of Debian that has it.
    suite: &'static str,
    /// The package's name begins and ends like this; in between stands a number that changes.
    package: (&'static str, &'static str),
    /// Where the image's package is empty: what stands for `linux-image` in the names of those
    /// that it depends on.
    parts: &'static [&'static str],
    /// QEMU's name of the processor.
    processor: &'static str,
}

/// QEMU 7.2 emulates `gs cmpxchg16b` wrongly now and then, and 6.12 dies of it.
const WITHOUT_CX16: &str = "max,-cx16";
/// Without that instruction kernels from 6.18 on have no memory for arenas, timers and values
/// beside sockets: `kmalloc_nolock` needs it.
const WITH_CX16: &str = "max";

impl Known {
    const fn new(
        name: &'static str,
        suite: &'static str,
        package: (&'static str, &'static str),
    ) -> Self {
        Self { name, suite, package, parts: &[], processor: WITHOUT_CX16 }
    }
}

/// Long-term kernels, and the newest there is, oldest first.
pub(crate) const NAMES: &[Known] = &[
    Known::new("5.10", "bullseye", ("linux-image-5.10.0-", "-cloud-amd64")),
    Known::new("6.1", "bookworm", ("linux-image-6.1.0-", "-cloud-amd64")),
    Known::new("6.12", "bookworm-backports", ("linux-image-6.12.", "-cloud-amd64")),
    Known {
        parts: &["linux-binary", "linux-modules"],
        processor: WITH_CX16,
        ..Known::new("7.2", "sid", ("linux-image-7.2.", "-cloud-amd64"))
    },
];

/// The processor that a kernel boots on.
pub(crate) fn processor(name: &str) -> &'static str {
    let known = NAMES.iter().find(|known| known.name == name);
    known.map_or(WITHOUT_CX16, |known| known.processor)
}

/// The key that Debian's release files are signed with, as its own package installs it.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The directory that holds `vmlinux` and the unpacked package, made when it is not there yet.
pub(crate) fn get(root: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let known = NAMES.iter().find(|known| known.name == name);
    let known = known.with_context(|| {
        let names: Vec<&str> = NAMES.iter().map(|known| known.name).collect();
        format!("no kernel {name}; there are {}", names.join(", "))
    })?;
    let home = root.join("target/guests").join(name);
    if home.join("vmlinux").exists() {
        return Ok(home);
    }
    fs::create_dir_all(&home)?;
    let apt = Apt::new(&home, known.suite)?;
    let package = apt.newest(known.package)?;
    println!("downloading {package}");
    let parts = known.parts.iter().map(|part| package.replace("linux-image", part));
    for wanted in std::iter::once(package.clone()).chain(parts) {
        apt.run(&home, &["apt-get", "download", &wanted])?;
    }

    let tree = home.join("tree");
    for entry in fs::read_dir(&home)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            tool::run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&tree))?;
            fs::remove_file(&path)?;
        }
    }
    let image = vmlinuz(&tree)?.with_context(|| format!("{package} has no vmlinuz"))?;
    let kernel = unpack(&fs::read(&image)?)?;
    // Renamed when whole: its presence says that all is there.
    fs::write(home.join("vmlinux.part"), kernel)?;
    fs::rename(home.join("vmlinux.part"), home.join("vmlinux"))?;
    Ok(home)
}

/// `/boot/vmlinuz-RELEASE`, or as packages have it now `/usr/lib/modules/RELEASE/vmlinuz`.
fn vmlinuz(tree: &Path) -> anyhow::Result<Option<PathBuf>> {
    let mut places = vec![tree.join("boot")];
    if let Ok(releases) = fs::read_dir(tree.join("usr/lib/modules")) {
        places.extend(releases.flatten().map(|release| release.path()));
    }
    for place in places.iter().filter(|place| place.is_dir()) {
        for entry in fs::read_dir(place)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b"vmlinuz") {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}

/// The ELF kernel inside a bzImage, which QEMU's microvm machine starts directly. The boot
/// header's fields are described in the kernel's Documentation/arch/x86/boot.rst.
fn unpack(image: &[u8]) -> anyhow::Result<Vec<u8>> {
    const SETUP_SECTORS: usize = 0x1f1;
    const PAYLOAD_OFFSET: usize = 0x248;
    const PAYLOAD_LENGTH: usize = 0x24c;
    let word = |at: usize| {
        let bytes = image.get(at..at + 4).context("the boot header is cut")?;
        let value = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
        usize::try_from(value).context("this machine has small pointers")
    };
    let sectors = usize::from(*image.get(SETUP_SECTORS).context("the boot header is cut")?);
    let start = (sectors + 1) * 512 + word(PAYLOAD_OFFSET)?;
    let payload = image.get(start..start + word(PAYLOAD_LENGTH)?).context("the payload is cut")?;
    // zstd and lz4 payloads are followed by their unpacked length.
    let body = payload.get(..payload.len().saturating_sub(4)).unwrap_or_default();
    let (program, input) = match payload {
        [0xfd, b'7', b'z', ..] => ("xz", payload),
        [0x1f, 0x8b, ..] => ("gzip", payload),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd", body),
        [0x02, 0x21, 0x4c, 0x18, ..] => ("lz4", body),
        _ => bail!("the kernel is compressed in an unknown way"),
    };
    let kernel = decompress(program, input)?;
    ensure!(kernel.starts_with(b"\x7fELF"), "the payload is no ELF kernel");
    Ok(kernel)
}

/// Pipes `input` through a decompressor. What it complains about after the end of the stream
/// does not matter; whether something came out is seen by the caller.
pub(super) fn decompress(program: &str, input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut child = Command::new(program)
        .args(["-d", "-c", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let mut stdin = child.stdin.take().expect("standard input was asked for");
    let mut stdout = child.stdout.take().expect("standard output was asked for");
    let mut output = Vec::new();
    std::thread::scope(|scope| {
        // The program may stop reading early; that is no error.
        let writer = scope.spawn(move || drop(stdin.write_all(input)));
        let read = stdout.read_to_end(&mut output);
        drop(writer.join());
        read
    })?;
    child.wait()?;
    Ok(output)
}

/// apt with sources and lists of its own, so that the system's stay as they are.
#[derive(Debug)]
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(home: &Path, suite: &str) -> anyhow::Result<Self> {
        let state = home.join("apt");
        fs::create_dir_all(state.join("lists/partial"))?;
        fs::create_dir_all(state.join("cache/archives/partial"))?;
        let sources = state.join("sources.list");
        let mirror = mirror()?;
        fs::write(&sources, format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n"))?;
        let state = state.display();
        let options = [
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State={state}"),
            format!("Dir::State::Lists={state}/lists"),
            "Dir::State::Status=/dev/null".to_owned(),
            format!("Dir::Cache={state}/cache"),
            "Acquire::Languages=none".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ];
        let apt =
            Self { options: options.into_iter().flat_map(|o| ["-o".to_owned(), o]).collect() };
        apt.run(home, &["apt-get", "update"])
            .with_context(|| format!("the package list of {suite} cannot be read"))?;
        Ok(apt)
    }

    fn newest(&self, (prefix, suffix): (&str, &str)) -> anyhow::Result<String> {
        let mut command = Command::new("apt-cache");
        command.args(&self.options).args(["pkgnames", prefix]);
        let names = tool::output(&mut command)?;
        names
            .lines()
            .filter(|name| name.ends_with(suffix))
            .max_by_key(|name| numbers(name))
            .map(str::to_owned)
            .with_context(|| format!("no package {prefix}…{suffix}"))
    }

    fn run(&self, directory: &Path, words: &[&str]) -> anyhow::Result<()> {
        let (program, words) = words.split_first().context("a command has a name")?;
        let mut command = Command::new(program);
        command.current_dir(directory).args(&self.options).arg("-qq").args(words);
        tool::run(&mut command)
    }
}

/// Where this machine's apt gets Debian from: other releases lie in the same place.
fn mirror() -> anyhow::Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let places = tool::output(&mut command)?;
    let place = places.lines().find(|place| place.trim_end_matches('/').ends_with("/debian"));
    place.map(str::to_owned).context("apt has no source that holds Debian's releases")
}

/// The numbers in a package's name, to compare versions by.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}
