//! Attaching the programs of an object: where flags say, else where their sections say.

use std::{fs, io::Read as _, path::Path};

use anyhow::Context as _;
use skep::{
    Attach, Link, Loaded, Object, Program, TestInput,
    abi::{AttachType, MapType, ProgType},
    kernel::link::{self, Needs},
};

use super::{
    Run,
    event_type::Wanted,
    lines::Line,
    maps,
    place::{self, Place, Where},
    told::{Homeless, needs_of},
};
use crate::{
    exit::{Cannot, usage},
    output::Out,
};

/// What came of attaching one object.
#[derive(Debug, Default)]
pub struct Attached {
    /// With the program's name, or that of a `struct_ops` map.
    pub links: Vec<(String, Link)>,
    /// Iterators: they are read, and do nothing by themselves.
    pub iterators: Vec<(String, Link)>,
    /// Programs that were not told where, with what they need, and the flag for it.
    pub homeless: Vec<Homeless>,
    /// Programs that are run once.
    pub once: Vec<Program>,
}

impl Run {
    /// `--attach` and `--type`: programs of the files as if they stood elsewhere.
    pub fn change_sections(&self, objects: &mut [Object]) -> anyhow::Result<()> {
        for (program, name) in &self.prog_type {
            let section = place::section_of_type(name).unwrap_or(name);
            super::in_any(objects, |o| o.set_section(program, section).map(drop))?;
        }
        for (program, text) in &self.attach {
            let place = Where::parse(text)
                .map_err(|why| usage(format!("--attach {program}={text}: {why}")))?;
            super::in_any(objects, |o| match &place.section {
                Some(section) => o.set_section(program, section).map(drop),
                None => o.load_program(program, true).map(drop).map_err(Into::into),
            })?;
        }
        super::each(&self.no_attach, |name| super::in_any(objects, |o| o.program(name).map(drop)))
    }

    /// The places that `--attach` names for a program.
    fn places(&self, program: &str) -> anyhow::Result<Vec<Place>> {
        let own = self.attach.iter().filter(|(name, _)| name == program);
        let read = own.map(|(_, text)| Where::parse(text).map_err(usage));
        read.filter_map(|place| place.map(|place| place.place).transpose()).collect()
    }

    /// Where programs go that need this, when nothing is said of one alone.
    fn usual_place(&self, needs: Needs, program: &Program, loaded: &Loaded) -> Option<Place> {
        match needs {
            Needs::Interface | Needs::Packets => self.iface.clone().map(Place::Interface),
            Needs::Cgroup => self.cgroup.clone().map(Place::Cgroup),
            Needs::Netns => self.netns.clone().map(Place::Netns),
            Needs::PerfEvent => self
                .perf_event
                .map(|event| Place::PerfEvent(link::PerfEvent { pid: self.pid, ..event })),
            Needs::Netfilter => self.netfilter.clone(),
            Needs::SocketMap => only_socket_map(loaded).map(Place::Map),
            Needs::Nothing if program.prog_type() == ProgType::KPROBE => {
                self.pid.map(Place::Process)
            }
            _ => None,
        }
    }

    /// Attaches an object's programs; `is_fed` tells packet programs from those that others call.
    pub fn attach_object(
        &self,
        loaded: &Loaded,
        is_fed: impl Fn(&Program) -> bool,
    ) -> anyhow::Result<Attached> {
        let mut done = Attached::default();
        for program in loaded.programs() {
            let name = program.name();
            // Those of struct_ops are attached with their structure.
            if program.prog_type() == ProgType::STRUCT_OPS
                || self.no_attach.iter().any(|other| other == name)
            {
                continue;
            }
            if program.prog_type() == ProgType::SYSCALL {
                done.once.push(program.clone());
                continue;
            }
            let spec = loaded.spec().programs.iter().find(|p| p.name == name);
            if let Some(homeless) = spec.and_then(|spec| self.lacks_target(spec)) {
                done.homeless.push(homeless);
                continue;
            }
            let hook = link::hook(program.prog_type(), program.attach_type());
            let needs = needs_of(program);
            let mut places = self.places(name)?;
            if places.is_empty() && wants_place(program, &is_fed) {
                places.extend(self.usual_place(needs, program, loaded));
            }
            let (what, flag) = match needs {
                Needs::Nothing if walks_over_a_map(program, loaded) => {
                    ("a map", "--attach PROG=over:map=MAP")
                }
                needs => (needs.words(), place::flag(needs)),
            };
            if places.is_empty() && what != Needs::Nothing.words() {
                if wants_place(program, &is_fed) {
                    done.homeless.push((name.to_owned(), what, flag.into()));
                }
                continue;
            }
            let mut links = Vec::new();
            if places.is_empty() {
                links.push(program.attach(Attach::Section)?);
            }
            for place in &places {
                links.push(place.attach(program, loaded, self.xdp_mode)?);
            }
            let is_iterator = hook.is_some_and(|hook| hook.name == "iterator");
            let to = if is_iterator { &mut done.iterators } else { &mut done.links };
            to.extend(links.into_iter().map(|link| (name.to_owned(), link)));
        }
        for structure in loaded.struct_ops() {
            if !self.no_attach.iter().any(|other| other == structure.name()) {
                done.links.push((structure.name().to_owned(), structure.attach()?));
            }
        }
        Ok(done)
    }
}

/// A packet program that only others call wants no place.
fn wants_place(program: &Program, is_fed: impl Fn(&Program) -> bool) -> bool {
    !skep::verdict::takes_packets(program.prog_type()) || is_fed(program)
}

/// Iterators over the elements of one map.
const MAP_ITERATORS: &[&str] = &["bpf_map_elem", "bpf_sk_storage_map", "sockmap"];

fn walks_over_a_map(program: &Program, loaded: &Loaded) -> bool {
    let spec = loaded.spec().programs.iter().find(|p| p.name == program.name());
    let target = spec.and_then(|p| p.attach_to.as_deref());
    program.attach_type() == Some(AttachType::TRACE_ITER)
        && target.is_some_and(|target| MAP_ITERATORS.contains(&target))
}

/// The socket map of an object that has one.
fn only_socket_map(loaded: &Loaded) -> Option<String> {
    let is_one = |t: MapType| matches!(t, MapType::SOCKMAP | MapType::SOCKHASH);
    let mut maps = loaded.maps().filter(|(spec, _)| is_one(spec.def.map_type));
    let (spec, _) = maps.next()?;
    maps.next().is_none().then(|| spec.name.clone())
}

impl Attached {
    /// Is there nothing but iterators? What they give is then all that the run is about.
    pub fn only_reads(&self) -> bool {
        self.links.is_empty() && self.once.is_empty() && !self.iterators.is_empty()
    }

    /// Says which programs were not told where to go; an error when that leaves nothing to do.
    pub fn check(all: &[&Self]) -> anyhow::Result<()> {
        let homeless: Vec<String> = all
            .iter()
            .flat_map(|one| &one.homeless)
            .map(|(name, what, flag)| format!("{name} needs {what} ({flag})"))
            .collect();
        if homeless.is_empty() {
            return Ok(());
        }
        let text = format!("not attached: {}", homeless.join("; "));
        let idle =
            |one: &&Self| one.links.is_empty() && one.iterators.is_empty() && one.once.is_empty();
        if all.iter().all(idle) {
            return Err(usage(text));
        }
        say!("note: {text}");
        Ok(())
    }

    /// Runs what is run once.
    pub fn run_once(&self, out: &mut Out<'_>) -> anyhow::Result<()> {
        for program in &self.once {
            let run = program.test_run(TestInput::default())?;
            out.emit(&Line::Ran { program: program.name().into(), retval: run.retval })?;
        }
        Ok(())
    }

    /// Reads the iterators: text as it comes, or records of the type that was asked for.
    pub fn read_iterators(
        &self,
        loaded: &Loaded,
        wanted: &Wanted,
        out: &mut Out<'_>,
    ) -> anyhow::Result<()> {
        let btf = loaded.spec().btf.as_ref();
        for (name, link) in &self.iterators {
            let mut bytes = Vec::new();
            let read = link.read_iter().map(|mut file| file.read_to_end(&mut bytes));
            read?.with_context(|| format!("reading what {name} gives"))?;
            let typed = btf.and_then(|btf| wanted.type_of(btf, name).zip(Some(btf)));
            let Some((id, btf)) = typed else {
                if out.is_text() {
                    out.raw(&bytes)?;
                } else {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    out.emit(&Line::Iterator { program: name.clone(), text })?;
                }
                continue;
            };
            let size = btf.size_of(id).map_or(1, |size| size.max(1)) as usize;
            for record in bytes.chunks(size) {
                let record = maps::decode_event(Some(btf), Some(id), record);
                out.emit(&Line::Record { program: name.clone(), record })?;
            }
        }
        Ok(())
    }

    /// Pins every link below a directory, named for its program; all or none.
    pub fn pin(all: &[&Self], directory: &Path) -> anyhow::Result<usize> {
        const EEXIST: i32 = 17;
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let mut pinned = Vec::new();
        let links = all.iter().flat_map(|one| one.links.iter().chain(&one.iterators));
        for (name, link) in links {
            let again = (2..).map(|n| directory.join(format!("{name}_{n}")));
            let mut paths = std::iter::once(directory.join(name)).chain(again);
            let path = paths.find(|path| !pinned.contains(path)).unwrap_or_default();
            if let Err(e) = link.pin(&path) {
                for path in &pinned {
                    fs::remove_file(path).ok();
                }
                let missing = format!("cannot pin {name} ({}) at {}", link.hook(), path.display());
                if e.errno() == EEXIST {
                    return Err(anyhow::Error::new(e).context(missing));
                }
                let hint = "a bpf file system (mount -t bpf bpf DIR), and hooks that a link holds";
                let missing = format!("{missing}: {}", crate::exit::message_of(&e));
                return Err(Cannot { missing, hint: hint.into() }.into());
            }
            pinned.push(path);
        }
        Ok(pinned.len())
    }
}
