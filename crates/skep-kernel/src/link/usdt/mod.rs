//! Static probes of user space (USDT): places that a program's author has marked, with arguments.
//!
//! A probe is a no-op instruction, and a note in the ELF file that says where it is and where its
//! arguments are. Attaching is a uprobe on each of its places. Programs read arguments by
//! libbpf's `usdt.bpf.h`, whose maps are filled here.

mod arg;
mod layout;
mod memory;
mod note;
mod specs;

use std::{path::Path, sync::Arc};

use skep_abi::AttachType;

pub use arg::{Arch, Arg, ArgError, ArgPlace, parse_args};
pub use note::{Note, NoteError, Notes};
pub(crate) use specs::{Claim, Specs};

use layout::Layout;

use super::{
    AttachError, Held, Link,
    elf::{self, ElfError},
    refused,
    uprobe::{Pmu, Spot, c_path, link_many},
};
use crate::{program::Program, sys::SysError};

/// A static probe, and for whom it fires.
#[derive(Clone, Copy, Debug)]
pub struct Usdt<'a> {
    /// The binary: a path, or a name for [`find_binary`](super::find_binary).
    pub binary: &'a str,
    /// First part of the probe's name.
    pub provider: &'a str,
    /// Second part.
    pub name: &'a str,
    /// Only this process; `None` for all.
    pub pid: Option<u32>,
    /// What `bpf_usdt_cookie` gives; 0 for none.
    pub cookie: u64,
}

impl<'a> Usdt<'a> {
    /// `binary:provider:name`, in all processes; `None` when the text is not that.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.rsplitn(3, ':');
        let (name, provider, binary) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = [name, provider, binary].iter().all(|part| !part.is_empty());
        whole.then_some(Self { binary, provider, name, pid: None, cookie: 0 })
    }

    fn hook(&self) -> String {
        let whose = self.pid.map(|pid| format!(" of process {pid}")).unwrap_or_default();
        format!("usdt {}:{}:{}{whose}", self.binary, self.provider, self.name)
    }
}

/// The static probes of a binary: a path, or a name for [`find_binary`](super::find_binary).
///
/// # Errors
///
/// When the file cannot be found, read or understood.
pub fn static_probes(binary: &str) -> Result<Notes, ElfError> {
    read_notes(&elf::find_binary(binary)?)
}

fn read_notes(path: &Path) -> Result<Notes, ElfError> {
    let file = elf::read(path)?;
    Notes::parse(&file).map_err(|source| ElfError::Notes { path: path.to_owned(), source })
}

/// Attaches to all places of a static probe: by one link (Linux 6.6) when the program was loaded
/// for that, which [`Object`](crate::Object) does where the kernel has it; else by a uprobe on
/// each. While it is attached, the probe's counter of watchers is above 0.
///
/// [`Link::notices`] names the arguments that the program cannot read.
///
/// # Errors
///
/// [`AttachError::Binary`] when file or probe is not there; the kernel's as for
/// [`attach_uprobe`](super::attach_uprobe). A kernel without cookies (before Linux 5.15) needs a
/// process for a binary that can lie at any address.
pub fn attach_usdt(program: &Program, probe: &Usdt<'_>) -> Result<Link, AttachError> {
    let hook = probe.hook();
    let fail = |source| refused(program, &hook, source);
    let binary = |source| AttachError::Binary { program: program.name().to_owned(), source };
    let path = elf::find_binary(probe.binary).map_err(binary)?;
    let places = places(&path, probe).map_err(binary)?;
    let c_path = c_path(&path).map_err(binary)?;
    let (mut claim, mut notices) = (program.usdt().map(Claim::new), Vec::new());
    let mut spots = Vec::with_capacity(places.found.len());
    for place in &places.found {
        let cookie = match &mut claim {
            Some(claim) => tell(claim, &path, probe, &places, place, &mut notices).map_err(fail)?,
            None => probe.cookie,
        };
        spots.push(Spot { offset: place.offset, reference_counter: place.semaphore, cookie });
    }
    let probes = if program.attach_type() == Some(AttachType::TRACE_UPROBE_MULTI) {
        link_many(program, &c_path, &spots, false, probe.pid).map_err(fail)?
    } else {
        let pmu = Pmu::find("uprobe").map_err(fail)?;
        let one = |spot: &Spot| pmu.uprobe(program, &c_path, spot, false, probe.pid);
        Held::Many(spots.iter().map(one).collect::<Result<_, _>>().map_err(fail)?)
    };
    let held = match claim {
        Some(claim) => Held::Usdt { probes: Box::new(probes), claim },
        None => probes,
    };
    Ok(Link::new(held, hook).with_notices(notices))
}

/// Where a probe is in its file.
struct Places {
    arch: Option<Arch>,
    movable: bool,
    found: Vec<Found>,
}

struct Found {
    address: u64,
    offset: u64,
    /// Place in the file.
    semaphore: u64,
    args: String,
}

fn places(path: &Path, probe: &Usdt<'_>) -> Result<Places, ElfError> {
    let notes = read_notes(path)?;
    let fits = |note: &&Note| note.provider == probe.provider && note.name == probe.name;
    let full_name = || format!("{}:{}", probe.provider, probe.name);
    let wrong = |reason| ElfError::Probe { path: path.to_owned(), probe: full_name(), reason };
    let find = |note: &Note| {
        let offset = notes.code_offset(note.address);
        let semaphore = match note.semaphore {
            0 => Some(0),
            address => notes.data_offset(address),
        };
        Ok(Found {
            address: note.address,
            offset: offset.ok_or_else(|| wrong("its address is in no code of the file"))?,
            semaphore: semaphore.ok_or_else(|| wrong("its counter is in no data of the file"))?,
            args: note.args.clone(),
        })
    };
    let found = notes.probes.iter().filter(fits).map(find).collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() {
        let mut others: Vec<_> =
            notes.probes.iter().map(|note| format!("{}:{}", note.provider, note.name)).collect();
        others.sort_unstable();
        others.dedup();
        others.truncate(8);
        return Err(ElfError::NoProbe { path: path.to_owned(), probe: full_name(), others });
    }
    Ok(Places { arch: notes.arch, movable: notes.movable, found })
}

/// Tells the program's object about one place. Returns the cookie that its link carries.
fn tell(
    claim: &mut Claim,
    path: &Path,
    probe: &Usdt<'_>,
    places: &Places,
    place: &Found,
    notices: &mut Vec<String>,
) -> Result<u64, SysError> {
    let specs = Arc::clone(claim.specs());
    let args = readable(&specs.layout, places.arch, &place.args, notices);
    let number = claim.spec(specs.layout.encode(&args, probe.cookie))?;
    if specs.by_cookie {
        return Ok(number.into());
    }
    let address = match (places.movable, probe.pid) {
        (false, _) => place.address,
        (true, Some(pid)) => memory::address(pid, path, place.offset)?,
        (true, None) => {
            let hint = "a kernel without cookies needs a process for a binary that can lie at \
                        any address";
            return Err(SysError::errno_of("attach", libc::ENOTSUP, hint));
        }
    };
    claim.address(address, number)?;
    Ok(0)
}

/// The arguments of a note, `None` for those that a program cannot read; each reason is noted
/// once.
fn readable(
    layout: &Layout,
    arch: Option<Arch>,
    text: &str,
    notices: &mut Vec<String>,
) -> Vec<Option<Arg>> {
    let mut note = |notice: String| {
        if !notices.contains(&notice) {
            notices.push(notice);
        }
    };
    let Some(arch) = arch else {
        note("arguments on this machine are not understood".into());
        return Vec::new();
    };
    let parsed = parse_args(arch, text);
    if parsed.len() > layout.most_args() {
        note(format!("of {} arguments the program can read {}", parsed.len(), layout.most_args()));
    }
    let mut one = |(index, arg): (usize, Result<Arg, ArgError>)| match arg {
        Ok(arg) if layout.can_say(&arg) => Some(arg),
        Ok(_) => {
            note(format!(
                "argument {index} is indexed memory: the usdt.bpf.h that the object was built \
                 with cannot read that (libbpf 1.7 can)"
            ));
            None
        }
        Err(e) => {
            note(format!("{e}: the program cannot read it"));
            None
        }
    };
    parsed.into_iter().enumerate().map(&mut one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_spelt_as_in_section_names() {
        for (text, want) in [
            ("/usr/bin/x:prov:name", Some(("/usr/bin/x", "prov", "name"))),
            ("libc.so.6:libc:setjmp", Some(("libc.so.6", "libc", "setjmp"))),
            ("/a:b/x:p:n", Some(("/a:b/x", "p", "n"))),
            ("p:n", None),
            (":p:n", None),
            ("x::n", None),
            ("x:p:", None),
        ] {
            let got = Usdt::parse(text).map(|probe| (probe.binary, probe.provider, probe.name));
            assert_eq!(got, want, "{text}");
        }
    }
}
