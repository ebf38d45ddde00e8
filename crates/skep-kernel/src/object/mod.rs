//! A resolved object, live in the kernel: its maps and its programs.

mod externs;
mod kernel;
mod maps;
mod more;
mod older;
mod programs;
mod struct_ops;

use std::{collections::HashSet, path::PathBuf, sync::Arc};

use skep_btf::TypeId;
use skep_object::{ObjectSpec, Resolved, spec::ProgramSpec};

pub use self::struct_ops::StructOps;
use self::{kernel::KernelTypes, programs::Ground, struct_ops::Plan};
use crate::{
    btf::Btf,
    error::LoadError,
    link::usdt::Specs,
    map::Map,
    program::{Program, ProgramTarget},
    token::Token,
};

/// How to load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Load these programs, by name, whatever the object says; `None` loads those without `?` in
    /// their section name.
    pub programs: Option<Vec<String>>,
    /// Verifier log to keep of successful loads: 0 none, 1 brief, 2 all states, 4 statistics.
    pub log_level: u32,
    /// Where maps that ask for it are pinned, and found again; `None` pins nothing.
    pub pin_root: Option<PathBuf>,
    /// Maps that are loaded already, by name in the object and id: they are used instead of new
    /// ones.
    pub maps: Vec<(String, u32)>,
    /// The interface that XDP programs are loaded for; `None` for any.
    pub device: Option<Device>,
    /// The rights that everything is made by; `None` for those of the process.
    pub token: Option<Arc<Token>>,
    /// What programs attach to, by their names, where it is a function of a loaded program.
    pub targets: Vec<(String, ProgramTarget)>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            programs: None,
            log_level: 0,
            pin_root: Some("/sys/fs/bpf".into()),
            maps: Vec::new(),
            device: None,
            token: None,
            targets: Vec::new(),
        }
    }
}

/// An interface that programs are loaded for: they can be attached to no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub ifindex: u32,
    /// Programs and maps go into its hardware ([`crate::link::XdpMode::Offload`]). Else they run on
    /// the CPU and may ask the driver about packets (metadata kfuncs, Linux 6.3).
    #[doc(alias = "BPF_F_XDP_DEV_BOUND_ONLY")]
    pub offload: bool,
}

impl Device {
    /// The interface whose hardware takes maps; 0 for none.
    fn of_maps(device: Option<Self>) -> u32 {
        device.filter(|device| device.offload).map_or(0, |device| device.ifindex)
    }
}

/// Live maps and programs of one object. Dropping it closes them; what is pinned or attached
/// stays.
#[derive(Debug)]
pub struct Object {
    /// By index of [`ObjectSpec::maps`].
    maps: Vec<Option<Arc<Map>>>,
    programs: Vec<Arc<Program>>,
    struct_ops: Vec<StructOps>,
    btf: Option<Btf>,
    /// What tells programs about static probes.
    usdt: Option<Arc<Specs>>,
    notices: Vec<String>,
}

impl Object {
    /// Makes the maps and loads the programs of a resolved object ([`crate::target::resolve`]).
    ///
    /// # Errors
    ///
    /// The first thing that could not be made or loaded; everything made so far is closed, and
    /// unpinned, again.
    pub fn load(resolved: &Resolved, options: &LoadOptions) -> Result<Self, LoadError> {
        Self::load_spec(resolved.spec(), options)
    }

    /// Makes the maps and loads the programs of an object that needs no resolving, or is resolved:
    /// CO-RE relocations and `__kconfig` externs that are still open stay as the compiler left
    /// them.
    ///
    /// # Errors
    ///
    /// The first thing that could not be made or loaded; everything made so far is closed, and
    /// unpinned, again.
    pub fn load_spec(spec: &ObjectSpec, options: &LoadOptions) -> Result<Self, LoadError> {
        let mut notices = Vec::new();
        let token = options.token.as_deref();
        let btf = load_btf(spec, token, &mut notices)?;
        let mut pins = maps::Pins::default();
        let kernel = KernelTypes::default();
        let plan = Plan::new(spec, &kernel, |map| maps::is_made(spec, map, options))?;
        let btf_ref = btf.as_ref();
        let maps = maps::create_all(spec, btf_ref, &plan, options, &mut pins, &mut notices)?;
        let usdt = Specs::of(spec, &maps, &mut notices);
        let (kernel, struct_ops) = (&kernel, &plan);
        let ground = Ground { spec, maps: &maps, btf: btf_ref, kernel, struct_ops, options };
        let programs = programs::load_all(&ground, usdt.as_ref(), &mut notices)?;
        maps::fill_initial(spec, &maps, &programs)?;
        pins.keep();
        let struct_ops = plan.finish(&maps, &programs);
        let programs = programs.into_iter().flatten().collect();
        Ok(Self { maps, programs, struct_ops, btf, usdt, notices })
    }

    /// The map of this name.
    pub fn map(&self, name: &str) -> Option<&Arc<Map>> {
        self.maps.iter().flatten().find(|map| map.name() == name)
    }

    /// All maps, by index of [`ObjectSpec::maps`]; `None` for those that are made only when asked
    /// for, and were not.
    pub fn maps(&self) -> &[Option<Arc<Map>>] {
        &self.maps
    }

    /// The loaded program of this name.
    pub fn program(&self, name: &str) -> Option<&Arc<Program>> {
        self.programs.iter().find(|program| program.name() == name)
    }

    /// Loaded programs, in file order.
    pub fn programs(&self) -> &[Arc<Program>] {
        &self.programs
    }

    /// Structures of functions, to be attached, in file order.
    pub fn struct_ops(&self) -> &[StructOps] {
        &self.struct_ops
    }

    /// The object's BTF in the kernel, when the kernel took it.
    pub fn btf(&self) -> Option<&Btf> {
        self.btf.as_ref()
    }

    /// What was done differently from what the object asks for, one sentence each.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

/// The types of functions that are local to the object: a global function is verified for every
/// argument its type allows, which hidden ones are not written for.
fn local_functions(spec: &ObjectSpec) -> HashSet<TypeId> {
    let of_program = |program: &ProgramSpec| {
        let local: HashSet<_> =
            program.subprogs.iter().filter(|f| f.local).map(|f| f.start).collect();
        let infos = program.func_info.iter().filter(move |info| local.contains(&info.at));
        infos.map(|info| info.type_id).collect::<Vec<_>>()
    };
    spec.programs.iter().flat_map(of_program).collect()
}

/// Loads the object's BTF. A kernel that refuses it can still run most programs.
fn load_btf(
    spec: &ObjectSpec,
    token: Option<&Token>,
    notices: &mut Vec<String>,
) -> Result<Option<Btf>, LoadError> {
    let Some(btf) = &spec.btf else { return Ok(None) };
    match Btf::load_by(btf, &maps::layouts(spec), &local_functions(spec), token) {
        Ok(loaded) => {
            if !loaded.adapted().is_empty() {
                let kinds: Vec<_> = loaded.adapted().iter().map(ToString::to_string).collect();
                notices.push(format!("this kernel's BTF has no {}: replaced", kinds.join(", ")));
            }
            Ok(Some(loaded))
        }
        Err(error @ LoadError::Btf { .. }) => {
            notices.push(format!("{error}: loading without types and line numbers"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
