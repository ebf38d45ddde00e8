//! Bare instructions on bare memory, on the embedded engine: no object, no maps.

use std::{collections::BTreeMap, sync::Arc};

use skep_abi::ProgType;
use skep_isa::Slot;
use skep_vm::{
    Program, Settings,
    context::{Context, Plain},
};

/// A helper that the caller provides: five arguments to a result.
pub type Helper = skep_vm::lower::HostHelper;

/// Why bare instructions did not run to their end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BareError {
    /// They are no program.
    #[error(transparent)]
    Program(#[from] skep_vm::LowerError),
    /// They did what they must not, or took too long.
    #[error(transparent)]
    Fault(#[from] skep_vm::RunError),
}

/// Runs a program with the address of `memory` in `r1` and its length in `r2` (both 0 when it is
/// empty) and returns `r0`. `helpers` replace those of the engine.
///
/// ```
/// let slots = skep::isa::asm::assemble("r0 = *(u8 *)(r1 + 1)\nr0 += r2\nexit")?;
/// assert_eq!(skep::bare::run(&slots, &[10, 20], [])?, 22);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`BareError`] when the instructions are no program, or the run faults.
pub fn run(
    slots: &[Slot],
    memory: &[u8],
    helpers: impl IntoIterator<Item = (i32, Helper)>,
) -> Result<u64, BareError> {
    let host_helpers: BTreeMap<i32, Helper> = helpers.into_iter().collect();
    let settings = Arc::new(Settings { host_helpers, ..Settings::default() });
    let program = Program::from_slots("bare", ProgType::UNSPEC, slots, &settings)?;
    let mut ctx = Context::from(Plain::memory(memory));
    Ok(program.run(&mut ctx)?.retval)
}
