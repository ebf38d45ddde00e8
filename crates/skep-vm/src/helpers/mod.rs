//! Helpers: what programs call by number.
//!
//! The prototype table of [`skep_abi::helper`] says what the arguments are; they are checked
//! against it before a helper's body runs, so that bodies are short. A body still reaches memory
//! through the checked functions of `Run` only.

mod csum;
#[cfg(test)]
mod doc;
mod flow;
mod map;
mod packet;
mod print;
mod probe;
mod ring;
mod skb;
mod text;
mod time;

use std::sync::{Arc, LazyLock};

use skep_abi::helper::{Arg, Proto, proto};

use crate::error::{Access, Reason};
use crate::lower::{Callee, FUNC_BASE, Lowered};
use crate::maps::Map;
use crate::program::Program;
use crate::run::{Run, Stop};

/// What a helper's body returns: `r0`.
pub(crate) type Outcome = Result<u64, Stop>;
type Body = fn(&mut Run<'_>, &Call<'_>) -> Outcome;

/// A helper that the engine has.
#[derive(Debug)]
pub(crate) struct Helper {
    pub(crate) proto: &'static Proto,
    body: Body,
}

/// A call in flight.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The caller.
    pub(crate) program: &'a Program,
    pub(crate) callee: Callee,
    /// `r1` to `r5`.
    pub(crate) args: [u64; 5],
}

impl Call<'_> {
    /// The name of the helper, for messages.
    pub(crate) fn name(&self) -> &'static str {
        match self.callee {
            Callee::Engine(helper) => helper.proto.name,
            Callee::Host(_) => "a helper of the host",
        }
    }

    /// The error for argument `arg`, counted from 1.
    pub(crate) fn bad(&self, arg: usize, why: impl Into<String>) -> Reason {
        Reason::Argument { helper: self.name(), arg, why: why.into() }
    }

    /// The error for a helper that does not go with the context.
    pub(crate) fn wrong_type(&self) -> Stop {
        Stop::Reason(Reason::WrongProgramType { helper: self.name() })
    }
}

/// Every helper with a body: number and function.
const BODIES: &[&[(i32, Body)]] = &[
    csum::BODIES,
    flow::BODIES,
    map::BODIES,
    packet::BODIES,
    print::BODIES,
    probe::BODIES,
    ring::BODIES,
    skb::BODIES,
    text::BODIES,
    time::BODIES,
];

static HELPERS: LazyLock<Vec<Option<Helper>>> = LazyLock::new(|| {
    let mut all: Vec<Option<Helper>> = Vec::new();
    for &(id, body) in BODIES.iter().copied().flatten() {
        let (Some(proto), Ok(index)) = (proto(id), usize::try_from(id)) else { continue };
        if all.len() <= index {
            all.resize_with(index + 1, || None);
        }
        if let Some(slot) = all.get_mut(index) {
            *slot = Some(Helper { proto, body });
        }
    }
    all
});

/// The helper with this number.
pub(crate) fn find(id: i32) -> Option<&'static Helper> {
    usize::try_from(id).ok().and_then(|i| HELPERS.get(i)?.as_ref())
}

/// The error of calling a helper that only the kernel has; `None` when no helper has this number.
pub(crate) fn missing(id: i32) -> Option<Reason> {
    proto(id).map(|p| Reason::Missing { what: format!("helper {} (number {id})", p.name) })
}

/// Numbers and names of the helpers that the engine has.
pub fn implemented() -> impl Iterator<Item = &'static Proto> {
    HELPERS.iter().flatten().map(|h| h.proto)
}

/// A negative errno as a program sees it.
pub(crate) fn errno(code: i32) -> u64 {
    (-i64::from(code)).cast_unsigned()
}

/// 0 or a negative errno.
pub(crate) fn status(result: Result<(), crate::maps::MapError>) -> u64 {
    result.map_or_else(|e| errno(e.errno()), |()| 0)
}

impl<P> Lowered<P> {
    /// The callee at a position of the program's list.
    #[expect(clippy::indexing_slicing, reason = "lowering made position and list together")]
    pub(crate) fn callee(&self, position: u64) -> Callee {
        self.callees[usize::try_from(position).unwrap_or(usize::MAX)]
    }

    /// What a call through a register calls.
    pub(crate) fn callee_by_number(&self, value: u64) -> Result<Callee, Reason> {
        let not = Reason::NotCallable { value };
        let Ok(id) = i32::try_from(value) else { return Err(not) };
        match self.host_helpers.get(&id) {
            Some(&f) => Ok(Callee::Host(f)),
            None => find(id).map(Callee::Engine).ok_or_else(|| missing(id).unwrap_or(not)),
        }
    }

    /// The error of an instruction that must not be reached.
    pub(crate) fn poisoned(&self, position: u64) -> Reason {
        let reason = usize::try_from(position).ok().and_then(|i| self.poison.get(i)).cloned();
        reason.unwrap_or(Reason::Internal { what: "position of a reason" })
    }
}

impl Run<'_> {
    /// Calls a helper: arguments first, then its body.
    pub(crate) fn call(&mut self, call: &Call<'_>) -> Outcome {
        match call.callee {
            Callee::Host(f) => Ok(f(call.args)),
            Callee::Engine(helper) => {
                self.check_args(call, helper.proto.args.unwrap_or_default())?;
                (helper.body)(self, call)
            }
        }
    }

    fn check_args(&mut self, call: &Call<'_>, args: &[Arg]) -> Result<(), Reason> {
        let mut map: Option<Arc<Map>> = None;
        let sizes = |f: fn(&Map) -> u32, map: &Option<Arc<Map>>| {
            map.as_deref().map_or(0, |m| u64::from(f(m)))
        };
        let after = call.args.iter().skip(1).copied().chain([0]);
        for (((n, &arg), &value), next) in (1..).zip(args).zip(&call.args).zip(after) {
            let memory = match arg {
                Arg::Scalar | Arg::Size | Arg::SizeOrZero | Arg::StackOrNull | Arg::SpinLock => {
                    continue;
                }
                Arg::ConstStr | Arg::Record => continue, // their helpers know the length
                Arg::Ctx => {
                    if value != self.entry {
                        return Err(call.bad(n, "not the context"));
                    }
                    continue;
                }
                Arg::ConstMap => {
                    map = self.map(call.program, value);
                    if map.is_none() {
                        return Err(call.bad(n, "not a map"));
                    }
                    continue;
                }
                Arg::Func => {
                    if call.program.lowered().function_at(value).is_none() {
                        return Err(call.bad(n, "not a function of the program"));
                    }
                    continue;
                }
                Arg::MapKey => (sizes(|m| m.def().key_size, &map), Access::Read),
                Arg::MapValue => (sizes(|m| m.def().value_size, &map), Access::Read),
                Arg::MapValueUninit => (sizes(|m| m.def().value_size, &map), Access::Write),
                Arg::MemOrNull | Arg::UninitMemOrNull if value == 0 => {
                    if next != 0 {
                        return Err(call.bad(n, format!("null with a size of {next} bytes")));
                    }
                    continue;
                }
                Arg::Mem | Arg::MemOrNull => (next, Access::Read),
                Arg::UninitMem | Arg::UninitMemOrNull => (next, Access::Write),
                Arg::Fixed4 => (4, Access::Write),
                Arg::Fixed8 => (8, Access::Write),
            };
            let (size, access) = memory;
            self.charge_bytes(size)?;
            if size > u64::from(u32::MAX >> 1) {
                return Err(call.bad(n + 1, format!("{} is not a size", size.cast_signed())));
            }
            self.space.allows(value, size, access).map_err(|fault| {
                let reason = self.refused(fault, access, value, size);
                call.bad(n, reason.to_string())
            })?;
        }
        Ok(())
    }

    /// Bytes of the program's memory as a vector. The range was checked as an argument.
    pub(crate) fn bytes(&mut self, addr: u64, len: u64) -> Result<Vec<u8>, Reason> {
        let len = usize::try_from(len).ok().filter(|&n| n <= MAX_COPY);
        let mut out = vec![0; len.ok_or(Reason::Internal { what: "size of a copy" })?];
        self.read(addr, &mut out)?;
        Ok(out)
    }

    /// Calls back into the program.
    pub(crate) fn callback(&mut self, call: &Call<'_>, func: u64, args: [u64; 5]) -> Outcome {
        let found = call.program.lowered().function_at(func);
        let (start, len) = found.ok_or(Reason::NotCallable { value: func })?;
        self.charge(len as u64)?;
        self.enter(call.program, start, args).map_err(|e| Stop::Nested(Box::new(e)))
    }
}

/// Most bytes that one helper call copies.
const MAX_COPY: usize = 1 << 29;

const _: () = assert!(FUNC_BASE > 1 << 32, "helper numbers and addresses never meet");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_body_has_a_prototype_with_arguments_and_is_there_once() {
        let mut seen = std::collections::BTreeSet::new();
        for (id, _) in BODIES.iter().copied().flatten() {
            let p = proto(*id).unwrap();
            assert!(p.args.is_some() && p.ret.is_some(), "{}", p.name);
            assert!(seen.insert(id), "{}", p.name);
        }
    }
}
