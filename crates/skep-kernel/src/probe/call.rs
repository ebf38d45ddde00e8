//! Helpers and functions of the kernel that programs may call.

use std::sync::OnceLock;

use skep_abi::{AttachType, ProgType};
use skep_btf::KindTag;
use skep_isa::Slot;

use super::{RETURN_0, Support, can_load, of_load_error, prog_type, program};
use crate::{
    error::LoadError,
    program::{Program, ProgramLoad},
};

const CALL: u8 = 0x85;
const GET_ATTACH_COOKIE: u32 = 174;

/// What the verifier says of a helper that it does not know, or does not allow for the type.
const NO_SUCH_HELPER: &[&str] = &["unknown func", "invalid func", "cannot use helper"];

/// What it says of functions of the kernel in place of looking at the arguments.
const NO_SUCH_FUNCTION: &[&str] =
    &["is not allowed", "reserved fields", "not supported", "does not support", "not a function"];

/// May programs of this type call the helper of this number?
pub fn helper(prog_type: ProgType, number: u32) -> Support {
    let [_, exit] = RETURN_0;
    let call = Slot { code: CALL, imm: number.cast_signed(), ..Slot::default() };
    let insns = [call, exit];
    let answer = program::of_type(prog_type, &insns)
        .map(|load| verdict(&load, NO_SUCH_HELPER))
        .unwrap_or_else(|support| support);
    match answer {
        Support::No(why) if NO_SUCH_HELPER.iter().any(|text| why.contains(text)) => {
            Support::No(format!("this kernel has no helper {number} for {prog_type} programs"))
        }
        other => other,
    }
}

/// May iterators, which are tracing programs of their own kind, call the helper of this number?
pub fn iterator_helper(number: u32) -> Support {
    let call = Slot { code: CALL, imm: number.cast_signed(), ..Slot::default() };
    of_iterator(call, NO_SUCH_HELPER)
}

/// May iterators call this function of the kernel?
pub fn iterator_kfunc(name: &str) -> Support {
    match function_call(name) {
        Ok(call) => of_iterator(call, NO_SUCH_FUNCTION),
        Err(support) => support,
    }
}

fn of_iterator(call: Slot, refusals: &[&str]) -> Support {
    let target = match program::named(KindTag::Func, &["bpf_iter_bpf_map"]) {
        Ok(id) => id,
        Err(support) => return support,
    };
    let [_, exit] = RETURN_0;
    let insns = [call, exit];
    let load = ProgramLoad {
        attach_type: Some(AttachType::TRACE_ITER),
        attach_btf_id: target.0,
        ..ProgramLoad::new("probe", ProgType::TRACING, &insns)
    };
    verdict(&load, refusals)
}

/// A number that no helper has: what a type says of it tells whether it can be asked at all.
const NO_HELPER: u32 = 1 << 20;

/// The program types that can be asked about helpers here: those that can be loaded with a call
/// alone. Extensions cannot.
pub fn helper_callers() -> &'static [ProgType] {
    static CACHE: OnceLock<Vec<ProgType>> = OnceLock::new();
    CACHE.get_or_init(|| {
        let known = ProgType::ALL.iter().copied().filter(|&t| t != ProgType::UNSPEC);
        let here = known.filter(|&t| prog_type(t).is_yes());
        here.filter(|&t| matches!(helper(t, NO_HELPER), Support::No(_))).collect()
    })
}

/// The program types whose programs may call the helper of this number, of [`helper_callers`].
pub fn helper_types(number: u32) -> Vec<ProgType> {
    helper_callers().iter().copied().filter(|&t| helper(t, number).is_yes()).collect()
}

/// Do perf events carry a cookie that programs can read (Linux 5.15)?
pub fn bpf_cookie() -> Support {
    helper(ProgType::TRACEPOINT, GET_ATTACH_COOKIE)
}

/// Program types that functions of the kernel are looked for in: what one family or another is
/// made for.
const CALLERS: &[ProgType] = &[
    ProgType::XDP,
    ProgType::SCHED_CLS,
    ProgType::TRACEPOINT,
    ProgType::TRACING,
    ProgType::LSM,
    ProgType::SYSCALL,
    ProgType::CGROUP_SKB,
    ProgType::NETFILTER,
];

/// The program types, among those that call most, whose programs may call this function of the
/// kernel.
///
/// # Errors
///
/// The answer when there is none.
pub fn kfunc_types(name: &str) -> Result<Vec<ProgType>, Support> {
    let mut refusal = Support::Unknown("no program that calls functions can be loaded".into());
    let mut found = Vec::new();
    for &caller in CALLERS.iter().filter(|&&t| prog_type(t).is_yes()) {
        match kfunc(caller, name) {
            Support::Yes => found.push(caller),
            other => refusal = other,
        }
    }
    if found.is_empty() { Err(refusal) } else { Ok(found) }
}

/// May programs of this type call this function of the kernel?
pub fn kfunc(prog_type: ProgType, name: &str) -> Support {
    if let Support::No(reason) | Support::Unknown(reason) = can_load() {
        return Support::Unknown(reason);
    }
    let call = match function_call(name) {
        Ok(call) => call,
        Err(support) => return support,
    };
    let [_, exit] = RETURN_0;
    let insns = [call, exit];
    program::of_type(prog_type, &insns)
        .map(|load| verdict(&load, NO_SUCH_FUNCTION))
        .unwrap_or_else(|support| support)
}

/// A call of a function of the kernel by its number in the kernel's types.
fn function_call(name: &str) -> Result<Slot, Support> {
    /// `BPF_PSEUDO_KFUNC_CALL`.
    const FUNCTION: u8 = 2;
    let id = program::named(KindTag::Func, &[name])?;
    Ok(Slot { code: CALL, src: FUNCTION, imm: id.0.cast_signed(), ..Slot::default() })
}

/// What became of a call whose arguments are not there: refused for its own sake, with one of
/// these words, or only for them.
fn verdict(load: &ProgramLoad<'_>, refusals: &[&str]) -> Support {
    // With a log from the start: most of these are rejected, and one call is enough.
    match Program::load(&ProgramLoad { log_level: 1, ..load.clone() }) {
        Ok(_) => Support::Yes,
        Err(LoadError::Rejected { log, summary, .. }) => {
            let refused = |line: &&str| refusals.iter().any(|text| line.contains(text));
            match log.text.lines().find(refused) {
                Some(line) => Support::No(line.trim().to_owned()),
                None if summary.starts_with("processed 0 ") => Support::Unknown(summary),
                None => Support::Yes,
            }
        }
        Err(e) => of_load_error(&e),
    }
}
