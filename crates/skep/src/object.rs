//! An object file before it is loaded: what can still be changed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use skep_abi::{
    ProgType,
    section::{self, SECTIONS},
};
use skep_btf::Btf;
use skep_object::{
    ObjectSpec,
    spec::{InitialValue, MapOrigin, MapSpec, ProgramSpec, VarSpec},
};

use skep_kernel::near::suggestion;

use crate::{
    Plain,
    place::{self, Place},
    plan::Plan,
};

/// Why a file is no object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The bytes are no BPF object.
    #[error("{name} is not a BPF object that can be used")]
    Parse {
        /// The file, or what the bytes were called.
        name: String,
        /// What is wrong with it.
        #[source]
        source: skep_object::ObjectError,
    },
}

/// Why an object cannot be changed as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is no map, program or variable of this name.
    #[error(transparent)]
    NoSuch(#[from] NoSuch),
    /// A variable has another size.
    #[error("variable `{name}` has {want} bytes, {got} given")]
    Size {
        /// The variable.
        name: String,
        /// Its size in bytes.
        want: usize,
        /// Bytes given.
        got: usize,
    },
    /// A text is no value of the variable's type.
    #[error("variable `{name}`")]
    Value {
        /// The variable.
        name: String,
        /// What is wrong with the text.
        #[source]
        source: skep_btf::value::EncodeError,
    },
    /// A variable without type cannot be given as text.
    #[error("variable `{name}` has no type: it can only be set as bytes")]
    NoType {
        /// The variable.
        name: String,
    },
    /// A program was given for what is no function of a `struct_ops` structure.
    #[error("`{name}` is not in a struct_ops structure: it holds no program")]
    NoFunction {
        /// What was to be set.
        name: String,
    },
    /// No rule has this section name.
    #[error("program `{program}`: no section is called `{section}`{suggestion}")]
    Section {
        /// The program.
        program: String,
        /// The section's name.
        section: String,
        /// What is near.
        suggestion: String,
    },
    /// The map's size follows from its contents.
    #[error("map `{name}` holds global data: its size is fixed")]
    FixedSize {
        /// The map.
        name: String,
    },
}

/// Something is not there; names what is near.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {what} is called `{name}`{suggestion}")]
pub struct NoSuch {
    /// "map", "program", "variable".
    pub what: &'static str,
    /// The name that was asked for.
    pub name: String,
    suggestion: String,
}

impl NoSuch {
    pub(crate) fn new<'a, I>(what: &'static str, name: &str, all: I) -> Self
    where
        I: IntoIterator<Item = &'a str>,
    {
        Self { what, name: name.into(), suggestion: suggestion(name, all) }
    }
}

/// An object file, parsed and not yet loaded.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # const BYTES: &[u8] = include_bytes!("../../../examples/classify.bpf.o");
/// let mut object = skep::Object::parse("classify", BYTES)?;
/// object.set_variable("drop_udp_port", 53u16)?;
/// object.resize_map("flows", 1 << 16)?;
/// assert_eq!(object.variable::<u16>("drop_udp_port")?, 53);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Object {
    name: String,
    spec: ObjectSpec,
    options: Options,
}

/// What engines are told beside the spec.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) target_btf: Option<Btf>,
    pub(crate) pin_root: Option<PathBuf>,
    /// Are maps pinned that ask for it?
    pub(crate) pins: bool,
    pub(crate) insn_budget: Option<u64>,
    pub(crate) print: Option<PrintSink>,
    /// Maps that are there already, by name and id.
    pub(crate) maps: Vec<(String, u32)>,
    /// What programs attach to, by their names, where it is a loaded program.
    pub(crate) targets: Vec<(String, skep_kernel::ProgramTarget)>,
    /// The interface that XDP programs are for.
    pub(crate) device: Option<skep_kernel::Device>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target_btf: None,
            pin_root: None,
            pins: true,
            insn_budget: None,
            print: None,
            maps: Vec::new(),
            targets: Vec::new(),
            device: None,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("target_btf", &self.target_btf)
            .field("pin_root", &self.pin_root)
            .field("pins", &self.pins)
            .field("insn_budget", &self.insn_budget)
            .field("print", &self.print.is_some())
            .field("maps", &self.maps)
            .field("targets", &self.targets)
            .field("device", &self.device)
            .finish()
    }
}

/// An object taken apart for loading.
pub(crate) struct Parts {
    pub(crate) name: String,
    pub(crate) spec: ObjectSpec,
    pub(crate) options: Options,
}

/// Takes the lines of `bpf_printk`.
pub type PrintSink = Arc<dyn Fn(&str) + Send + Sync>;

impl Object {
    /// Reads and parses a file.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when it cannot be read or is no BPF object.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let bytes =
            fs::read(path).map_err(|source| OpenError::Read { path: path.into(), source })?;
        Self::parse(&path.display().to_string(), &bytes)
    }

    /// Parses bytes; `name` is what errors call them.
    ///
    /// # Errors
    ///
    /// [`OpenError::Parse`] when they are no BPF object.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, OpenError> {
        let mut spec = ObjectSpec::parse(bytes)
            .map_err(|source| OpenError::Parse { name: name.into(), source })?;
        infer_types(&mut spec);
        Ok(Self { name: name.into(), spec, options: Options::default() })
    }

    /// The file, or what the bytes were called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the file says, changes included.
    pub const fn spec(&self) -> &ObjectSpec {
        &self.spec
    }

    /// What the file says, changes included, as its own.
    pub fn into_spec(self) -> ObjectSpec {
        self.spec
    }

    /// Leaves the programs of a plan out when the object is loaded:
    /// [`Loaded::attach_plan`](crate::Loaded::attach_plan) loads those that it takes.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] when the plan names a program that the object does not have.
    pub fn leave_to(&mut self, plan: &Plan<'_>) -> Result<(), NoSuch> {
        for name in plan.programs() {
            let programs = &mut self.spec.programs;
            match programs.iter_mut().find(|program| program.name == name) {
                Some(program) => program.autoload = false,
                None => {
                    let names = self.spec.programs.iter().map(|p| p.name.as_str());
                    return Err(NoSuch::new("program", name, names));
                }
            }
        }
        Ok(())
    }

    /// Names a kernel by its BTF: CO-RE relocations resolve against it.
    ///
    /// Without, it is the running kernel's, and where there is none and the embedded engine runs,
    /// the object's own.
    pub fn target_btf(&mut self, btf: Btf) -> &mut Self {
        self.options.target_btf = Some(btf);
        self
    }

    /// The directory below which maps are pinned that ask for it; the kernel engine's default is
    /// `/sys/fs/bpf`.
    pub fn pin_root(&mut self, path: impl Into<PathBuf>) -> &mut Self {
        self.options.pin_root = Some(path.into());
        self
    }

    /// Whether maps that ask for it are pinned; they are, unless told otherwise.
    pub fn pin_maps(&mut self, pins: bool) -> &mut Self {
        self.options.pins = pins;
        self
    }

    /// The interface that XDP programs are loaded for: they attach to no other, and may ask its driver
    /// about packets, or run in its hardware. Kernel engine only.
    pub fn for_device(&mut self, device: skep_kernel::Device) -> &mut Self {
        self.options.device = Some(device);
        self
    }

    /// Uses a map that is loaded already, by its id, instead of making this one. Kernel engine only.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] when the object has no such map.
    pub fn use_map(&mut self, name: &str, id: u32) -> Result<&mut Self, NoSuch> {
        self.map(name)?;
        self.options.maps.push((name.to_owned(), id));
        Ok(self)
    }

    /// Takes all programs as what a section of this name holds: `xdp`, `tracepoint`, `cgroup/skb`…
    /// False when no rule has the name; then nothing changed.
    pub fn set_program_types(&mut self, section: &str) -> bool {
        let Some(found) = section::find(section) else { return false };
        for program in &mut self.spec.programs {
            program.prog_type = Some(found.def.prog_type);
            program.attach_type = found.def.attach_type;
        }
        true
    }

    /// Where the lines of `bpf_printk` go on the embedded engine; without, nowhere. The kernel has
    /// its own place for them, `/sys/kernel/tracing/trace_pipe`.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// # const BYTES: &[u8] = include_bytes!("../../../tests/data/objects/events.bpf.o");
    /// let lines = Arc::new(Mutex::new(Vec::new()));
    /// let sink = Arc::clone(&lines);
    /// let mut object = skep::Object::parse("events.bpf.o", BYTES)?;
    /// object.print_to(Arc::new(move |line| sink.lock().expect("no panic").push(line.to_owned())));
    /// let loaded = object.load(&skep::Engine::embedded())?;
    /// loaded.program("tell")?.run_on_frame(&[0; 60])?;
    /// assert_eq!(lines.lock().expect("no panic")[0].trim_end(), "60 bytes of 0");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn print_to(&mut self, sink: PrintSink) -> &mut Self {
        self.options.print = Some(sink);
        self
    }

    pub(crate) const fn spec_mut(&mut self) -> &mut ObjectSpec {
        &mut self.spec
    }

    pub(crate) fn set_target(&mut self, program: String, target: skep_kernel::ProgramTarget) {
        self.options.targets.retain(|(name, _)| *name != program);
        self.options.targets.push((program, target));
    }

    pub(crate) fn into_parts(self) -> Parts {
        Parts { name: self.name, spec: self.spec, options: self.options }
    }

    /// How many instructions one run may take on the embedded engine.
    pub fn insn_budget(&mut self, insns: u64) -> &mut Self {
        self.options.insn_budget = Some(insns);
        self
    }

    /// Loads only these programs, and those among them that the file marks as optional
    /// (`SEC("?…")`) too. Of `struct_ops` structures those that hold one of them are made.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] when a name is not there; then nothing changed.
    pub fn select(&mut self, names: &[impl AsRef<str>]) -> Result<&mut Self, NoSuch> {
        for name in names {
            self.program(name.as_ref())?;
        }
        let tail_called = self.tail_called();
        for (index, program) in self.spec.programs.iter_mut().enumerate() {
            let named = names.iter().any(|n| n.as_ref() == program.name);
            program.autoload = named || (program.autoload && tail_called.contains(&index));
        }
        // A structure of functions is made, whole, when one of its programs is wanted.
        let programs = &self.spec.programs;
        let wanted = |map: &MapSpec| {
            programs_in(map).any(|index| programs.get(index).is_some_and(|p| p.autoload))
        };
        let structures = self.spec.maps.iter_mut().filter(|m| m.origin == MapOrigin::StructOps);
        structures.for_each(|map| map.autocreate = wanted(map));
        Ok(self)
    }

    /// Whether a program is loaded: those that the file marks as optional (`SEC("?…")`) are not,
    /// unless told so.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] with the names that are near.
    pub fn load_program(&mut self, name: &str, load: bool) -> Result<&mut Self, NoSuch> {
        self.program(name)?;
        let named = self.spec.programs.iter_mut().filter(|p| p.name == name);
        named.for_each(|program| program.autoload = load);
        Ok(self)
    }

    /// Takes a program as if it stood in a section of this name: `kprobe/do_unlinkat`,
    /// `cgroup/connect4`. It gets the type and the place that the name says, and is loaded, also
    /// when the file marks it as optional.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] when there is no such program, or no rule has this name.
    pub fn set_section(&mut self, program: &str, section: &str) -> Result<&mut Self, ChangeError> {
        self.program(program)?;
        let found = section::find(section).ok_or_else(|| ChangeError::Section {
            program: program.into(),
            section: section.into(),
            suggestion: suggestion(section, SECTIONS.iter().map(|def| def.name)),
        })?;
        for spec in self.spec.programs.iter_mut().filter(|p| p.name == program) {
            spec.section = section.into();
            spec.prog_type = Some(found.def.prog_type);
            spec.attach_type = found.def.attach_type;
            spec.attach_to = found.target.map(Into::into);
            spec.flags = found.def.flags.load_flags();
            spec.autoload = true;
        }
        Ok(self)
    }

    /// The programs, by index, that program arrays of the object name: what tail calls reach.
    pub fn tail_called(&self) -> Vec<usize> {
        let arrays = self.spec.maps.iter().filter(|m| m.origin != MapOrigin::StructOps);
        let mut found: Vec<usize> = arrays.flat_map(programs_in).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// A program of the file.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] with the names that are near.
    pub fn program(&self, name: &str) -> Result<&ProgramSpec, NoSuch> {
        let all = &self.spec.programs;
        all.iter()
            .find(|p| p.name == name)
            .ok_or_else(|| NoSuch::new("program", name, all.iter().map(|p| p.name.as_str())))
    }

    /// A map of the file.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] with the names that are near.
    pub fn map(&self, name: &str) -> Result<&MapSpec, NoSuch> {
        let all = &self.spec.maps;
        all.iter()
            .find(|m| m.name == name)
            .ok_or_else(|| NoSuch::new("map", name, all.iter().map(|m| m.name.as_str())))
    }

    /// Gives a map another number of entries (bytes, for a ring buffer).
    ///
    /// # Errors
    ///
    /// [`ChangeError`] when there is no such map, or it holds global data.
    pub fn resize_map(&mut self, name: &str, max_entries: u32) -> Result<&mut Self, ChangeError> {
        self.map(name)?;
        for map in self.spec.maps.iter_mut().filter(|m| m.name == name) {
            if map.data.is_some() {
                return Err(ChangeError::FixedSize { name: name.into() });
            }
            map.def.max_entries = max_entries;
        }
        Ok(self)
    }

    /// Sets a variable of `.data`, `.rodata`, `.bss` or `.struct_ops`, or with `variable.member` a
    /// member of one.
    ///
    /// # Errors
    ///
    /// [`ChangeError`] when there is no such variable or its size is another.
    pub fn set_variable<T: Plain>(
        &mut self,
        name: &str,
        value: T,
    ) -> Result<&mut Self, ChangeError> {
        self.set_variable_bytes(name, &value.to_bytes())
    }

    /// As [`Object::set_variable`], from the bytes.
    ///
    /// # Errors
    ///
    /// As [`Object::set_variable`].
    pub fn set_variable_bytes(
        &mut self,
        name: &str,
        bytes: &[u8],
    ) -> Result<&mut Self, ChangeError> {
        let Place { map, offset, size: want, .. } = place::find(&self.spec, name)?;
        if want != bytes.len() {
            return Err(ChangeError::Size { name: name.into(), want, got: bytes.len() });
        }
        let data = self.spec.maps.get_mut(map).and_then(|m| m.data.as_mut());
        if let Some(place) = data.and_then(|d| d.get_mut(offset..)?.get_mut(..want)) {
            place.copy_from_slice(bytes);
        }
        Ok(self)
    }

    /// As [`Object::set_variable`], from text by the variable's BTF type: numbers, `true`,
    /// enumerators, text for arrays of characters, `1,2,3` for other arrays, `hex:00ff` for all.
    ///
    /// # Errors
    ///
    /// As [`Object::set_variable`], and when the text is no value of the type.
    pub fn set_variable_text(&mut self, name: &str, text: &str) -> Result<&mut Self, ChangeError> {
        let place = place::find(&self.spec, name)?;
        let (btf, id) = self
            .spec
            .btf
            .as_ref()
            .zip(place.type_id)
            .ok_or_else(|| ChangeError::NoType { name: name.into() })?;
        let bytes = skep_btf::value::encode(btf, id, text)
            .map_err(|source| ChangeError::Value { name: name.into(), source })?;
        self.set_variable_bytes(name, &bytes)
    }

    /// The initial value of a variable.
    ///
    /// # Errors
    ///
    /// As [`Object::set_variable`].
    pub fn variable<T: Plain>(&self, name: &str) -> Result<T, ChangeError> {
        let bytes = self.variable_bytes(name)?;
        let size = || ChangeError::Size { name: name.into(), want: bytes.len(), got: T::SIZE };
        T::from_bytes(bytes).ok_or_else(size)
    }

    /// The bytes of the initial value of a variable.
    ///
    /// # Errors
    ///
    /// [`NoSuch`] with the names that are near.
    pub fn variable_bytes(&self, name: &str) -> Result<&[u8], NoSuch> {
        let Place { map, offset, size, .. } = place::find(&self.spec, name)?;
        let data = self.spec.maps.get(map).and_then(|m| m.data.as_deref()).unwrap_or(&[]);
        let bytes = data.get(offset..).and_then(|d| d.get(..size));
        Ok(bytes.unwrap_or(&[]))
    }

    /// Every variable of global data with the map it lies in.
    pub fn variables(&self) -> impl Iterator<Item = (&MapSpec, &VarSpec)> {
        self.spec
            .maps
            .iter()
            .filter(|m| m.origin != MapOrigin::Kconfig)
            .flat_map(|m| m.variables.iter().map(move |v| (m, v)))
    }
}

/// The programs that a map holds from the start.
fn programs_in(map: &MapSpec) -> impl Iterator<Item = usize> {
    map.initial.iter().filter_map(|entry| match entry.value {
        InitialValue::Program(index) => Some(index),
        InitialValue::Map(_) => None,
    })
}

/// Gives programs whose section name says nothing (iproute2's `SEC("id/slot")`) the type of the
/// programs that tail-call them: what loads them would.
fn infer_types(spec: &mut ObjectSpec) {
    if !spec.maps.iter().any(|m| matches!(m.origin, MapOrigin::Iproute2 { .. })) {
        return;
    }
    let known = spec.programs.iter().find_map(|p| p.prog_type).unwrap_or(ProgType::SCHED_CLS);
    for program in &mut spec.programs {
        program.prog_type.get_or_insert(known);
    }
}
