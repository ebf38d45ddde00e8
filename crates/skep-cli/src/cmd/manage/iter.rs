//! `skep iter pin`: an iterator as a file.

use std::path::PathBuf;

use anyhow::Context as _;
use skep::{
    Engine, Object,
    abi::{AttachType, ProgType},
    kernel::{
        inspect::{self, Kind},
        link::{IterTarget, attach_iter},
    },
};

use super::{
    rights, select,
    words::{Words, unexpected},
};
use crate::{
    cmd::load::LoadArgs,
    exit::{Cannot, DONE},
};

/// Iterators: programs that walk over what the kernel has, and print.
#[derive(Debug, clap::Subcommand)]
pub enum Iter {
    Pin(Pin),
}

/// Load the iterator of an object and pin it; reading the file walks.
#[derive(Debug, clap::Args)]
pub struct Pin {
    /// ELF object with one iterator (`SEC("iter/…")`).
    #[arg(value_name = "OBJECT")]
    object: PathBuf,
    /// Where to pin it: a path of a bpf file system.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// `map MAP`: the map whose entries it walks over.
    #[arg(value_name = "map MAP")]
    words: Vec<String>,
    #[command(flatten)]
    load: LoadArgs,
}

impl Iter {
    pub fn run(self) -> anyhow::Result<u8> {
        let Self::Pin(pin) = self;
        pin.run()
    }
}

impl Pin {
    fn run(&self) -> anyhow::Result<u8> {
        let mut words = Words(&self.words);
        let map = match words.next() {
            None => None,
            Some("map") => {
                let id = select::take_one(Kind::Map, &mut words.0)?;
                let map = rights("opening a map", inspect::open_map(id))?;
                Some(map.ok_or_else(|| select::gone(Kind::Map, id))?)
            }
            Some(other) => return Err(unexpected(other, "map MAP")),
        };
        select::done(words.0)?;
        let mut object = Object::open(&self.object)?;
        let is_iterator = |p: &&skep::spec::spec::ProgramSpec| {
            p.prog_type == Some(ProgType::TRACING) && p.attach_type == Some(AttachType::TRACE_ITER)
        };
        let found = object.spec().programs.iter().find(is_iterator);
        let name = found.context("the object has no iterator")?.name.clone();
        object.select(&[&name])?;
        let engine = Engine::kernel().map_err(|e| Cannot {
            missing: e.to_string(),
            hint: "iterators walk over the kernel's own data: there is no other way".into(),
        })?;
        let loaded = self.load.load(object, &engine)?;
        let program = loaded.program(&name)?.kernel().context("it was loaded into the kernel")?;
        let target = map.as_ref().map_or(IterTarget::All, IterTarget::Map);
        let link = attach_iter(program, target)?;
        let pinning = || format!("cannot pin the iterator at {}", self.path.display());
        link.pin(&self.path).with_context(pinning)?;
        Ok(DONE)
    }
}
