//! A live object: its programs and maps.

use std::{collections::BTreeSet, sync::Arc};

use skep_abi::{AttachType, helper::by_name};
use skep_object::{
    ObjectSpec, Resolved,
    resolve::CoreOutcome,
    spec::{MapOrigin, MapSpec, Pinning},
};

use crate::{
    Engine, Map, MapError, NoSuch, Object, Plain, Program, StructOps,
    engine::Kind,
    map,
    object::{ChangeError, Options, Parts},
    plan::{Plan, PlanError, Taken},
    program,
    target::{TargetError, resolve_for},
};

/// Why an object cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It does not fit the target kernel, or that is not known.
    #[error("cannot resolve {object}")]
    Resolve {
        /// The object.
        object: String,
        /// Why.
        #[source]
        source: Box<TargetError>,
    },
    /// The embedded engine refused a map or a program.
    #[error("the embedded engine cannot load {object}")]
    Embedded {
        /// The object.
        object: String,
        /// Which, and why.
        #[source]
        source: Box<skep_vm::LoadError>,
    },
    /// The kernel refused a map or a program.
    #[error("the kernel does not load {object}")]
    Kernel {
        /// The object.
        object: String,
        /// Which, and why.
        #[source]
        source: Box<skep_kernel::LoadError>,
    },
}

impl LoadError {
    /// Is it about a program whose section names no program type? [`Object::set_section`] gives it
    /// one.
    pub fn lacks_type(&self) -> bool {
        match self {
            Self::Kernel { source, .. } => {
                matches!(**source, skep_kernel::LoadError::NoType { .. })
            }
            Self::Embedded { source, .. } => matches!(**source, skep_vm::LoadError::NoType { .. }),
            Self::Resolve { .. } => false,
        }
    }

    /// What the kernel's verifier said about the program it rejected.
    pub fn verifier_log(&self) -> Option<&str> {
        match self {
            Self::Kernel { source, .. } => match source.as_ref() {
                skep_kernel::LoadError::Rejected { log, .. } => Some(&log.text),
                _ => None,
            },
            _ => None,
        }
    }
}

/// A live object. Dropping it closes its programs and maps; what is pinned stays.
#[derive(Debug)]
pub struct Loaded {
    engine: Engine,
    resolved: Resolved,
    programs: Vec<Program>,
    /// With their index in the spec: an engine leaves maps out that it cannot make and nothing uses.
    maps: Vec<(usize, Map)>,
    struct_ops: Vec<StructOps>,
    notices: Vec<String>,
    pins: bool,
    /// On the kernel engine: what loads further programs, and how.
    more: More,
}

impl Object {
    /// Makes the maps and loads the programs.
    ///
    /// ```
    /// use skep::{Engine, Object, TestInput};
    ///
    /// # const BYTES: &[u8] = include_bytes!("../../../examples/classify.bpf.o");
    /// let loaded = Object::parse("classify", BYTES)?.load(&Engine::embedded())?;
    /// let run = loaded.program("classify")?.test_run(TestInput::packet(&[0; 60]))?;
    /// assert_eq!(run.retval, 2, "XDP_PASS");
    /// let packets = loaded.map("protocols")?.get::<u32, [u8; 16]>(&0)?;
    /// assert_eq!(packets.map(|counter| counter[0]), Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoadError`] says which map or program the engine refused, and why.
    pub fn load(self, engine: &Engine) -> Result<Loaded, LoadError> {
        let Parts { name: object, spec, options } = self.into_parts();
        let resolved = resolve_for(engine.kind(), spec, options.target_btf.clone())
            .map_err(|e| LoadError::Resolve { object: object.clone(), source: Box::new(e) })?;
        let (programs, maps, struct_ops, notices, more) = match engine.kind() {
            Kind::Embedded => embedded(&resolved, &options)
                .map_err(|e| LoadError::Embedded { object, source: Box::new(e) })?,
            Kind::Kernel => kernel(&resolved, &options, engine)
                .map_err(|e| LoadError::Kernel { object, source: Box::new(e) })?,
        };
        let pins = options.pins && engine.kind() == Kind::Kernel;
        let engine = engine.clone();
        Ok(Loaded { engine, resolved, programs, maps, struct_ops, notices, pins, more })
    }
}

type More = Option<(skep_kernel::Object, skep_kernel::LoadOptions)>;
type Live = (Vec<Program>, Vec<(usize, Map)>, Vec<StructOps>, Vec<String>, More);

fn embedded(resolved: &Resolved, options: &Options) -> Result<Live, skep_vm::LoadError> {
    let mut settings = skep_vm::Settings { print: options.print.clone(), ..Default::default() };
    settings.budget = options.insn_budget.unwrap_or(settings.budget);
    let load = skep_vm::LoadOptions { settings, ..Default::default() };
    let live = skep_vm::Object::load(resolved, &load)?;
    let programs = live.programs().iter().map(|p| Program {
        section: p.section().into(),
        prog_type: p.prog_type(),
        attach_type: attach_type(resolved.spec(), p.name()),
        live: program::Live::Embedded(Arc::clone(p)),
    });
    let spec = resolved.spec();
    let maps = spec.maps.iter().enumerate().filter_map(|(index, s)| {
        let live = map::Live::Embedded(Arc::clone(live.map(&s.name)?));
        Some((index, Map { live, key_type: s.key_type, value_type: s.value_type }))
    });
    let notices = live.programs().iter().filter_map(|p| missing(p)).collect();
    Ok((programs.collect(), maps.collect(), Vec::new(), notices, None))
}

/// What a program calls that the embedded engine does not have.
fn missing(program: &skep_vm::Program) -> Option<String> {
    let calls: BTreeSet<&str> = program.missing().map(|(_, what)| what).collect();
    let list = calls.into_iter().collect::<Vec<_>>().join(", ");
    let name = program.name();
    (!list.is_empty()).then(|| {
        format!("program {name}: not in the embedded engine, an error when reached: {list}")
    })
}

fn kernel(
    resolved: &Resolved,
    options: &Options,
    engine: &Engine,
) -> Result<Live, skep_kernel::LoadError> {
    let spec = resolved.spec();
    let load = skep_kernel::LoadOptions {
        pin_root: options.pins.then(|| options.pin_root.clone().unwrap_or_else(|| BPFFS.into())),
        maps: options.maps.clone(),
        targets: options.targets.clone(),
        device: options.device,
        token: engine.token().map_err(skep_kernel::LoadError::Token)?,
        ..Default::default()
    };
    let live = skep_kernel::Object::load(resolved, &load)?;
    let programs = kernel_programs(&live, spec);
    let maps = live.maps().iter().zip(&spec.maps).enumerate().filter_map(|(index, (m, s))| {
        let live = map::Live::Kernel(Arc::clone(m.as_ref()?));
        // What the kernel holds of a structure of functions has a layout of its own.
        let value_type = s.value_type.filter(|_| s.origin != MapOrigin::StructOps);
        Some((index, Map { live, key_type: s.key_type, value_type }))
    });
    let struct_ops = live.struct_ops().iter().cloned().map(Arc::new);
    let struct_ops = struct_ops.map(|live| StructOps { live }).collect();
    let mut notices = live.notices().to_vec();
    if PRINTK.iter().any(|name| calls(spec, name)) {
        notices.push("lines of bpf_printk go to /sys/kernel/tracing/trace_pipe".into());
    }
    Ok((programs, maps.collect(), struct_ops, notices, Some((live, load))))
}

fn kernel_programs(live: &skep_kernel::Object, spec: &ObjectSpec) -> Vec<Program> {
    let section = |name: &str| spec.programs.iter().find(|p| p.name == name);
    let one = |p: &Arc<skep_kernel::Program>| Program {
        section: section(p.name()).map_or(String::new(), |s| s.section.clone()),
        prog_type: p.prog_type(),
        attach_type: attach_type(spec, p.name()),
        live: program::Live::Kernel(Arc::clone(p)),
    };
    live.programs().iter().map(one).collect()
}

fn attach_type(spec: &ObjectSpec, program: &str) -> Option<AttachType> {
    spec.programs.iter().find(|p| p.name == program)?.attach_type
}

/// The helpers behind `bpf_printk`.
const PRINTK: [&str; 2] = ["trace_printk", "trace_vprintk"];

/// Does a program that is loaded call this helper?
fn calls(spec: &ObjectSpec, helper: &str) -> bool {
    let needs = spec.needs();
    let id = by_name(helper).and_then(|row| u32::try_from(row.id).ok());
    let callers = id.and_then(|id| needs.helpers.get(&id));
    let loaded = |index: &usize| spec.programs.get(*index).is_some_and(|p| p.autoload);
    callers.is_some_and(|callers| callers.iter().any(loaded))
}

/// Where the kernel keeps what outlives its process.
const BPFFS: &str = "/sys/fs/bpf";

impl Loaded {
    /// Takes the best way of a plan that this kernel can: its programs are loaded and attached
    /// now. [`Object::leave_to`] keeps them from being loaded before.
    ///
    /// `target` is for programs whose section does not say it all; [`Target::Process`] limits
    /// probes to a process.
    ///
    /// ```no_run
    /// use skep::{Engine, Object, kernel::Target, plan::{Plan, Way}};
    ///
    /// const OPENS: Plan<'_> = Plan {
    ///     what: "files opened",
    ///     ways: &[
    ///         Way { programs: &["by_fentry"], loses: "" },
    ///         Way { programs: &["by_kprobe"], loses: "" },
    ///         Way { programs: &["by_tracepoint"], loses: "opens by other calls than openat" },
    ///     ],
    /// };
    ///
    /// let mut object = Object::open("examples/opens.bpf.o")?;
    /// object.leave_to(&OPENS)?;
    /// let mut loaded = object.load(&Engine::kernel()?)?;
    /// loaded.set_variable("only_pid", std::process::id())?;
    /// let taken = loaded.attach_plan(&OPENS, &Target::Section)?;
    /// eprintln!("{taken}"); // the way taken, what is lost by it, why not the better ones
    /// println!("{}", loaded.variable::<u64>("opens")?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PlanError`] when no way works here, or the plan names a program that is not there. The
    /// embedded engine has no hooks: of its ways only those without a program work.
    ///
    /// [`Target::Process`]: skep_kernel::Target::Process
    pub fn attach_plan(
        &mut self,
        plan: &Plan<'_>,
        target: &skep_kernel::Target<'_>,
    ) -> Result<Taken, PlanError> {
        let spec = self.resolved.spec();
        let Some((object, options)) = &mut self.more else {
            return plan.without_programs(spec);
        };
        let taken = plan.attach(object, spec, options, target);
        self.programs = kernel_programs(object, spec);
        taken
    }

    /// The engine it lives on.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What was loaded.
    pub fn spec(&self) -> &ObjectSpec {
        self.resolved.spec()
    }

    /// What became of each CO-RE relocation.
    pub fn core(&self) -> &[CoreOutcome] {
        self.resolved.core()
    }

    /// What the engine did differently from what the object asks for, one sentence each.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Maps that the object asks to pin and that are not pinned: [`Object::pin_maps`] says so, or
    /// the engine has no pins.
    pub fn unpinned(&self) -> impl Iterator<Item = &str> {
        let wanted = self.maps().filter(|(spec, _)| spec.pinning != Pinning::None);
        wanted.map(|(spec, _)| spec.name.as_str()).filter(|_| !self.pins)
    }

    /// The loaded programs, in file order.
    pub fn programs(&self) -> &[Program] {
        &self.programs
    }

    /// A loaded program.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] with the names that are near.
    pub fn program(&self, name: &str) -> Result<&Program, NoSuch> {
        let found = self.programs.iter().find(|p| p.name() == name);
        found.ok_or_else(|| {
            NoSuch::new("loaded program", name, self.programs.iter().map(Program::name))
        })
    }

    /// Structures of functions (`struct_ops`) to be attached, in file order; the embedded engine
    /// has none.
    pub fn struct_ops(&self) -> &[StructOps] {
        &self.struct_ops
    }

    /// All live maps with what the file says of them, in file order.
    pub fn maps(&self) -> impl Iterator<Item = (&MapSpec, &Map)> {
        self.maps.iter().filter_map(|(index, map)| Some((self.spec().maps.get(*index)?, map)))
    }

    /// A map, by its name in the file.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] with the names that are near.
    pub fn map(&self, name: &str) -> Result<&Map, NoSuch> {
        let found = self.maps().find(|(spec, _)| spec.name == name);
        let names = self.maps().map(|(spec, _)| spec.name.as_str());
        found.map(|(_, map)| map).ok_or_else(|| NoSuch::new("map", name, names))
    }

    /// The present value of a variable of `.data`, `.rodata` or `.bss`.
    ///
    /// # Errors
    ///
    /// [`VariableError`] when there is no such variable, its size is another, or the map cannot be
    /// read.
    pub fn variable<T: Plain>(&self, name: &str) -> Result<T, VariableError> {
        let (map, offset, want) = self.place(name)?;
        let whole = map.lookup(&0u32.to_ne_bytes())?.unwrap_or_default();
        let bytes = whole.get(offset..).and_then(|b| b.get(..want)).unwrap_or(&[]);
        let wrong = || ChangeError::Size { name: name.into(), want, got: T::SIZE };
        Ok(T::from_bytes(bytes).ok_or_else(wrong)?)
    }

    /// Changes a variable while programs run. Variables beside it are left alone.
    ///
    /// # Errors
    ///
    /// As [`Loaded::variable`]; `.rodata` is frozen and refuses.
    pub fn set_variable<T: Plain>(&self, name: &str, value: T) -> Result<(), VariableError> {
        let (map, offset, want) = self.place(name)?;
        let bytes = value.to_bytes();
        if bytes.len() != want {
            let name = name.into();
            return Err(ChangeError::Size { name, want, got: bytes.len() }.into());
        }
        Ok(map.update_part(offset, &bytes)?)
    }

    fn place(&self, name: &str) -> Result<(&Map, usize, usize), NoSuch> {
        let all =
            || self.maps().flat_map(|(spec, map)| spec.variables.iter().map(move |v| (map, v)));
        all()
            .find(|(_, v)| v.name == name)
            .map(|(map, v)| (map, v.offset as usize, v.size as usize))
            .ok_or_else(|| NoSuch::new("variable", name, all().map(|(_, v)| v.name.as_str())))
    }
}

/// Why a variable of a live object cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VariableError {
    /// There is none of this name, or its size is another.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The map it lies in refused.
    #[error(transparent)]
    Map(#[from] MapError),
}

impl From<NoSuch> for VariableError {
    fn from(e: NoSuch) -> Self {
        Self::Change(e.into())
    }
}
