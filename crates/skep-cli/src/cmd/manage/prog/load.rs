//! `skep prog load` and `loadall`: an object into the kernel, pinned.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use skep::{Attach, Engine, Loaded, Object, Program, kernel::inspect::Kind};

use crate::{
    btf_file,
    cmd::{
        load::LoadArgs,
        manage::{
            select,
            words::{Words, unexpected},
        },
    },
    exit::{Cannot, DONE, usage},
};

/// Load the first program of an object and pin it.
#[derive(Debug, clap::Args)]
pub struct Load {
    #[command(flatten)]
    what: What,
}

/// Load all programs of an object and pin them in a directory by their names.
#[derive(Debug, clap::Args)]
pub struct LoadAll {
    #[command(flatten)]
    what: What,
}

#[derive(Debug, clap::Args)]
struct What {
    /// ELF object built for the bpf target.
    #[arg(value_name = "OBJECT")]
    object: PathBuf,
    /// Where to pin: a path of a bpf file system.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// `[type TYPE] [map {idx N|name NAME} MAP]… [pinmaps DIR] [autoattach] [kernel_btf FILE]`:
    /// TYPE is a section name (`xdp`, `cgroup/skb`); a map that is there is used instead of a new one;
    /// `autoattach` attaches by the section name and pins the link instead of the program.
    #[arg(value_name = "OPTION")]
    words: Vec<String>,
    #[command(flatten)]
    load: LoadArgs,
}

const EXPECTED: &str = "type, map, pinmaps, autoattach or kernel_btf";

/// Pins made so far; they are taken away again unless all succeed.
#[derive(Debug, Default)]
struct Pins(Vec<PathBuf>);

impl Pins {
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // The error that brought us here is the one to report.
        self.0.iter().for_each(|path| drop(fs::remove_file(path)));
    }
}

/// What the words ask for beside changes of the object.
#[derive(Debug, Default)]
struct Options<'a> {
    pinmaps: Option<&'a Path>,
    autoattach: bool,
}

impl Load {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let (mut object, options) = self.what.open()?;
        let first = object.spec().programs.iter().find(|p| p.autoload);
        let first = first.context("the object has no program to load")?.name.clone();
        object.select(&[&first])?;
        let loaded = self.what.load(object)?;
        let mut pins = Pins::default();
        let program = loaded.program(&first)?;
        pin_program(program, &self.what.path, options.autoattach, &mut pins)?;
        options.pin_maps(&loaded, &mut pins)?;
        pins.keep();
        Ok(DONE)
    }
}

impl LoadAll {
    pub(super) fn run(&self) -> anyhow::Result<u8> {
        let (object, options) = self.what.open()?;
        let loaded = self.what.load(object)?;
        let mut pins = Pins::default();
        make_directory(&self.what.path)?;
        for program in loaded.programs() {
            let path = self.what.path.join(pin_name(program.name()));
            pin_program(program, &path, options.autoattach, &mut pins)?;
        }
        options.pin_maps(&loaded, &mut pins)?;
        pins.keep();
        Ok(DONE)
    }
}

impl What {
    fn open(&self) -> anyhow::Result<(Object, Options<'_>)> {
        let mut object = Object::open(&self.object)?;
        let mut options = Options::default();
        let mut words = Words(&self.words);
        while let Some(word) = words.next() {
            match word {
                "type" => {
                    let name = words.value(word)?;
                    if !object.set_program_types(name) {
                        return Err(usage(format!("`type {name}`: no section has this name")));
                    }
                }
                "map" => {
                    let name = map_name(&object, &mut words)?;
                    let id = select::take_one(Kind::Map, &mut words.0)?;
                    object.use_map(&name, id)?;
                }
                "pinmaps" => options.pinmaps = Some(Path::new(words.value(word)?)),
                "autoattach" => options.autoattach = true,
                "kernel_btf" => {
                    object.target_btf(btf_file::read(words.value(word)?.as_ref())?);
                }
                other => return Err(unexpected(other, EXPECTED)),
            }
        }
        Ok((object, options))
    }

    fn load(&self, object: Object) -> anyhow::Result<Loaded> {
        let engine = Engine::kernel().map_err(|e| Cannot {
            missing: e.to_string(),
            hint: "`skep run --engine embedded` runs packet programs without the kernel".into(),
        })?;
        let loaded = self.load.load(object, &engine)?;
        loaded.notices().iter().for_each(|notice| say!("note: {notice}"));
        Ok(loaded)
    }
}

/// `idx N` or `name NAME`.
fn map_name(object: &Object, words: &mut Words<'_>) -> anyhow::Result<String> {
    match words.value("map")? {
        "name" => Ok(words.value("name")?.to_owned()),
        "idx" => {
            let index: usize = words.number("idx")?;
            let map = object.spec().maps.get(index);
            let count = object.spec().maps.len();
            Ok(map
                .with_context(|| format!("the object has {count} maps, none is {index}"))?
                .name
                .clone())
        }
        other => Err(unexpected(other, "idx or name")),
    }
}

/// Pins a program; with `attach` its link, where its section says where it belongs.
fn pin_program(
    program: &Program,
    path: &Path,
    attach: bool,
    pins: &mut Pins,
) -> anyhow::Result<()> {
    let pinning = || format!("cannot pin program {} at {}", program.name(), path.display());
    if attach {
        let linked = program.attach(Attach::Section).map_err(anyhow::Error::from);
        match linked.and_then(|link| Ok(link.pin(path)?)) {
            Ok(()) => {
                pins.0.push(path.to_owned());
                return Ok(());
            }
            Err(e) => say!(
                "note: program {} is pinned, not attached: {}",
                program.name(),
                crate::exit::message(&e)
            ),
        }
    }
    let live = program.kernel().context("the program is in the kernel")?;
    live.pin(path).with_context(pinning)?;
    pins.0.push(path.to_owned());
    Ok(())
}

impl Options<'_> {
    fn pin_maps(&self, loaded: &Loaded, pins: &mut Pins) -> anyhow::Result<()> {
        let Some(directory) = self.pinmaps else { return Ok(()) };
        make_directory(directory)?;
        for (spec, map) in loaded.maps() {
            let path = directory.join(pin_name(&spec.name));
            let live = map.kernel().context("the map is in the kernel")?;
            live.pin(&path).with_context(|| format!("cannot pin a map at {}", path.display()))?;
            pins.0.push(path);
        }
        Ok(())
    }
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path)
        .with_context(|| format!("cannot make the directory {}", path.display()))
}

/// A name as the bpf file system takes it: it keeps dots for itself.
fn pin_name(name: &str) -> String {
    name.replace('.', "_")
}
