//! `skep run`: the main job.
//!
//! Open and configure the objects, choose an engine, load, attach or feed packets, stream events
//! until the end, print maps.

mod args;
mod attach;
mod event_type;
mod lines;
pub mod maps;
mod packets;
mod place;
mod session;
mod told;

use std::{io::Write, time::Instant};

use skep::{
    Engine, Loaded, Object, TargetProgram,
    spec::spec::{MapOrigin, ProgramSpec},
};

pub use self::args::{EngineArgs, EngineChoice, Run, XdpMode};
use self::session::{Session, Shared};
use crate::{
    cmd::manage,
    exit::{DONE, INTERRUPTED, usage},
    output::{Format, Out},
    signal::Stop,
};

impl Run {
    pub fn run(self, out: &mut dyn Write) -> anyhow::Result<u8> {
        self.check()?;
        let objects = self.open()?;
        let engine = self.choose(&objects)?;
        say!("engine: {} ({})", engine.name(), engine.why());
        if engine.features().hooks {
            manage::net::at_start();
        }
        let stop = Stop::listen()?;
        let shared = Shared { args: &self, stop: &stop, started: Instant::now() };
        let mut out = Out::new(out, Format::json_if(self.json));
        let mut sessions = Vec::new();
        for object in objects {
            sessions.push(Session::load(object, &engine, &shared)?);
        }
        let loaded: Vec<&Loaded> = sessions.iter().map(Session::loaded).collect();
        self.engine.notify(&loaded);
        self.note_idle_flags(&loaded);
        let ran = match (&self.pcap, &self.iface) {
            (Some(pcap), _) => packets::feed(pcap, &mut sessions, &shared, &mut out),
            (None, Some(iface)) if !engine.features().hooks => {
                packets::watch(iface, &mut sessions, &shared, &mut out)
            }
            _ => session::attached(&mut sessions, &shared, &mut out),
        };
        if self.pin.is_some() {
            return ran.map(|()| DONE);
        }
        // What was counted until a packet could not be read or run is worth seeing.
        if ran.is_ok() || sessions.iter().any(Session::has_run) {
            let finished = sessions.iter_mut().try_for_each(|s| s.finish(&shared, &mut out));
            ran.and(finished)?;
        } else {
            ran?;
        }
        Ok(if stop.asked() { INTERRUPTED } else { DONE })
    }

    /// Opens the objects and applies what the flags say about programs, maps and variables. Each
    /// name must be found in one of the objects.
    fn open(&self) -> anyhow::Result<Vec<Object>> {
        let mut objects = Vec::new();
        for path in &self.objects {
            let mut object = Object::open(path)?;
            self.engine.apply(&mut object)?;
            objects.push(object);
        }
        if !self.prog.is_empty() {
            each(&self.prog, |name| in_any(&mut objects, |o| o.program(name).map(|_| ())))?;
            for object in &mut objects {
                let own: Vec<&String> =
                    self.prog.iter().filter(|name| object.program(name).is_ok()).collect();
                object.select(&own)?;
            }
        }
        self.change_sections(&mut objects)?;
        each(self.sizes()?, |(map, n)| in_any(&mut objects, |o| o.resize_map(map, n).map(|_| ())))?;
        each(&self.set, |(name, text)| {
            in_any(&mut objects, |o| o.set_variable_text(name, text).map(|_| ()))
        })?;
        each(&self.target_prog, |(program, which)| {
            let target = target_program(which)?;
            in_any(&mut objects, |o| o.attach_to(program, target.clone()).map(|_| ()))
        })?;
        each(&self.map, |name| in_any(&mut objects, |o| has_entries(o, name)))?;
        let wanted = event_type::Wanted::parse(&self.event_type);
        wanted.check(&objects)?;
        Ok(objects)
    }

    /// The engine that was asked for; for `auto` the one that fits what the programs are fed with.
    fn choose(&self, objects: &[Object]) -> anyhow::Result<Engine> {
        let fed = self.pcap.is_some() || self.iface.is_some();
        let choice = self.engine.engine;
        let hooks = self.hooks_flag().filter(|_| self.pcap.is_none());
        if let Some(flag) = hooks.filter(|_| choice == EngineChoice::Embedded) {
            return Err(usage(format!("{flag}: the embedded engine has no hooks")));
        }
        all_optional(objects)?;
        if !fed
            && hooks.is_none()
            && choice != EngineChoice::Kernel
            && objects.iter().all(only_packets)
        {
            return Err(usage(
                "the programs want packets: give --pcap FILE or --iface IF (or, to load them only, \
                 --engine kernel)",
            ));
        }
        let mut programs = objects.iter().flat_map(|o| &o.spec().programs).filter(|p| p.autoload);
        if fed && !programs.any(takes_packets) {
            let flag = if self.pcap.is_some() { "--pcap" } else { "--iface" };
            return Err(usage(format!("{flag}: no program of the objects takes packets")));
        }
        if choice == EngineChoice::Auto && self.pcap.is_some() {
            return Ok(Engine::embedded_because("packets from a file need no kernel"));
        }
        let engine = self.engine.engine(choice)?;
        if (!fed || hooks.is_some()) && !engine.features().hooks {
            return Err(crate::exit::Cannot {
                missing: match choice {
                    EngineChoice::Embedded => {
                        "the programs attach to the kernel, the embedded engine has no hooks".into()
                    }
                    _ => format!("the programs attach to the kernel: {}", engine.why()),
                },
                hint:
                    "run as root; the embedded engine runs packet programs (--pcap, --iface) and \
                       single runs (skep test-run)"
                        .into(),
            }
            .into());
        }
        Ok(engine)
    }
}

/// The loaded program that `--target-prog` names: `id:7`, `name:old:function`.
fn target_program(text: &str) -> anyhow::Result<TargetProgram> {
    let mut parts = text.splitn(3, ':').map(str::to_owned);
    let words: Vec<String> = parts.by_ref().take(2).collect();
    let id = manage::select_program(&words)?;
    let target = TargetProgram::by_id(id)?;
    Ok(match parts.next() {
        Some(function) => target.function(&function),
        None => target,
    })
}

/// Can the map that `--map` names be read?
fn has_entries(object: &Object, name: &str) -> anyhow::Result<()> {
    let map = object.map(name)?;
    if maps::has_entries(map) {
        return Ok(());
    }
    let map_type = map.def.map_type;
    Err(usage(format!("--map {name}: a map of type {map_type} has no entries to show")))
}

/// An error when there are programs, and none that is loaded without being asked for.
fn all_optional(objects: &[Object]) -> anyhow::Result<()> {
    let programs = || objects.iter().flat_map(|o| &o.spec().programs);
    let mut maps = objects.iter().flat_map(|o| &o.spec().maps);
    let structures = maps.any(|map| map.origin == MapOrigin::StructOps && map.autocreate);
    if structures || programs().next().is_none() || programs().any(|p| p.autoload) {
        return Ok(());
    }
    let names: Vec<&str> = programs().map(|p| p.name.as_str()).collect();
    let names = names.join(", ");
    Err(usage(format!("all programs are optional (SEC(\"?…\")): choose with --prog NAME: {names}")))
}

/// Are all programs that would be loaded packet programs?
fn only_packets(object: &Object) -> bool {
    let mut loaded = object.spec().programs.iter().filter(|p| p.autoload).peekable();
    loaded.peek().is_some() && loaded.all(takes_packets)
}

fn takes_packets(program: &ProgramSpec) -> bool {
    program.prog_type.is_some_and(skep::verdict::takes_packets)
}

fn each<T>(
    items: impl IntoIterator<Item = T>,
    f: impl FnMut(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    items.into_iter().try_for_each(f)
}

/// Does `f` to every object; succeeds when it works for one, else with the last error.
fn in_any<E: Into<anyhow::Error>>(
    objects: &mut [Object],
    mut f: impl FnMut(&mut Object) -> Result<(), E>,
) -> anyhow::Result<()> {
    let results: Vec<_> = objects.iter_mut().map(&mut f).collect();
    let worked = results.iter().any(Result::is_ok);
    match results.into_iter().rev().find_map(Result::err) {
        Some(e) if !worked => Err(e.into()),
        _ => Ok(()),
    }
}
