//! A live program: lowered, with its maps, ready to run.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_abi::ProgType;
use skep_isa::{Pc, Slot};

use crate::context::Context;
use crate::error::{LowerError, LowerReason, RunError};
use crate::lower::{Binding, Checked, HostHelper, Lowered, Source, lower};
use crate::maps::Map;
use crate::run::{Run, RunOutput};

/// Where the lines of `bpf_trace_printk` go.
pub type PrintSink = Arc<dyn Fn(&str) + Send + Sync>;

/// Instructions a run may execute unless told otherwise.
pub const DEFAULT_BUDGET: u64 = 100_000_000;

/// What programs of one load have in common.
#[derive(Clone)]
pub struct Settings {
    /// Instructions a run may execute. Counted where execution can repeat: at jumps back and at
    /// calls, by the length of the code that can run again.
    pub budget: u64,
    /// Where `bpf_trace_printk` writes; `None` drops the lines.
    pub print: Option<PrintSink>,
    /// Helpers that replace or extend the engine's own.
    pub host_helpers: BTreeMap<i32, HostHelper>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { budget: DEFAULT_BUDGET, print: None, host_helpers: BTreeMap::new() }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("budget", &self.budget)
            .field("print", &self.print.is_some())
            .field("host_helpers", &self.host_helpers)
            .finish()
    }
}

/// A program that can run.
#[derive(Debug)]
pub struct Program {
    lowered: Lowered<Checked>,
    prog_type: ProgType,
    section: String,
    maps: Arc<[Arc<Map>]>,
    settings: Arc<Settings>,
}

impl Program {
    /// A program from bare instructions, without maps or object.
    ///
    /// # Errors
    ///
    /// [`LowerError`] for what is not a program.
    pub fn from_slots(
        name: &str,
        prog_type: ProgType,
        slots: &[Slot],
        settings: &Arc<Settings>,
    ) -> Result<Arc<Self>, LowerError> {
        let parts = Parts { name, section: "", prog_type, slots, bindings: BTreeMap::new() };
        Self::new(parts, Arc::from([]), settings)
    }

    pub(crate) fn new(
        parts: Parts<'_>,
        maps: Arc<[Arc<Map>]>,
        settings: &Arc<Settings>,
    ) -> Result<Arc<Self>, LowerError> {
        let insns = skep_isa::decode(parts.slots).map_err(|e| LowerError {
            program: parts.name.to_owned(),
            at: e.pc,
            reason: LowerReason::Undecodable { text: e.reason.to_string() },
        })?;
        let lowered = lower(&Source {
            name: parts.name,
            insns: &insns,
            bindings: parts.bindings,
            host_helpers: &settings.host_helpers,
        })?;
        Ok(Arc::new(Self {
            lowered,
            prog_type: parts.prog_type,
            section: parts.section.to_owned(),
            maps,
            settings: Arc::clone(settings),
        }))
    }

    /// Name of the function.
    pub fn name(&self) -> &str {
        self.lowered.name()
    }

    /// Kind.
    pub const fn prog_type(&self) -> ProgType {
        self.prog_type
    }

    /// ELF section the program came from; empty when it came from none.
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Number of instructions.
    pub fn len(&self) -> usize {
        self.lowered.len()
    }

    /// Always false: there is no empty program.
    pub fn is_empty(&self) -> bool {
        self.lowered.is_empty()
    }

    /// Calls of helpers and kernel functions that this engine does not have, by instruction. They
    /// are errors when they are reached: many programs have such calls behind a condition.
    pub fn missing(&self) -> impl Iterator<Item = (Pc, &str)> {
        self.lowered.missing()
    }

    pub(crate) fn lowered(&self) -> &Lowered<Checked> {
        &self.lowered
    }

    pub(crate) fn maps(&self) -> &Arc<[Arc<Map>]> {
        &self.maps
    }

    /// Runs the program once, as CPU 0.
    ///
    /// # Errors
    ///
    /// [`RunError`] when the program does something it must not, or takes too long.
    pub fn run(&self, ctx: &mut Context) -> Result<RunOutput, RunError> {
        self.run_on(0, ctx)
    }

    /// Runs the program once, as CPU `cpu`. Runs at the same time should have different numbers,
    /// for they share the per-CPU values of their number.
    ///
    /// # Errors
    ///
    /// As [`Program::run`].
    pub fn run_on(&self, cpu: u32, ctx: &mut Context) -> Result<RunOutput, RunError> {
        Run::new(&self.settings, ctx, cpu).start(self)
    }
}

/// What a program is made of.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) name: &'a str,
    pub(crate) section: &'a str,
    pub(crate) prog_type: ProgType,
    pub(crate) slots: &'a [Slot],
    pub(crate) bindings: BTreeMap<Pc, Binding>,
}
