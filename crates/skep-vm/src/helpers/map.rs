//! Helpers on maps.

use std::ops::ControlFlow;
use std::sync::Arc;

use skep_abi::MapType;

use super::{Body, Call, Outcome, errno, status};
use crate::error::{Access, Reason};
use crate::maps::Map;
use crate::mem::Span;
use crate::program::Program;
use crate::run::{Run, Stop};

pub(super) const BODIES: &[(i32, Body)] = &[
    (1, lookup),
    (2, update),
    (3, delete),
    (12, tail_call),
    (87, push),
    (88, pop),
    (89, peek),
    (93, spin_lock),
    (94, spin_unlock),
    (164, for_each),
    (195, lookup_percpu),
];

impl Run<'_> {
    /// `bpf_map_lookup_elem`: address of the value, handle of the inner map, or 0.
    pub(crate) fn map_lookup(
        &mut self,
        program: &Program,
        handle: u64,
        key: u64,
    ) -> Result<u64, Reason> {
        let Some(map) = self.space.map_at(program.maps(), handle) else {
            return Err(argument(1, "not a map".to_owned()));
        };
        let len = map.def().key_size as usize;
        let mut small = [0; 64];
        let Some(bytes) = small.get_mut(..len) else {
            let map = Arc::clone(map);
            let bytes = self.bytes(key, len as u64)?;
            return Ok(self.lookup_in(&map, &bytes, self.cpu));
        };
        let map = Arc::clone(map);
        if let Err(fault) = self.space.read(key, bytes) {
            let reason = self.refused(fault, Access::Read, key, len as u64);
            return Err(argument(2, reason.to_string()));
        }
        Ok(self.lookup_in(&map, bytes, self.cpu))
    }

    fn lookup_in(&mut self, map: &Arc<Map>, key: &[u8], cpu: u32) -> u64 {
        if map.def().map_type.is_map_in_map() {
            return map.lookup_map(key).map_or(0, |inner| self.space.add_inner(inner));
        }
        let Some(value) = map.lookup_ptr(key, cpu) else { return 0 };
        let addr = value.addr().get() as u64;
        self.space.remember_value(map, addr);
        addr
    }

    fn map_arg(&self, call: &Call<'_>) -> Result<Arc<Map>, Stop> {
        let [handle, ..] = call.args;
        self.map(call.program, handle).ok_or_else(|| call.bad(1, "not a map").into())
    }
}

fn argument(arg: usize, why: String) -> Reason {
    Reason::Argument { helper: "map_lookup_elem", arg, why }
}

fn lookup(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [map, key, ..] = call.args;
    Ok(run.map_lookup(call.program, map, key)?)
}

fn lookup_percpu(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, key, cpu, ..] = call.args;
    let map = run.map_arg(call)?;
    if !map.def().map_type.is_percpu() {
        return Err(call.bad(1, "not a per-CPU map").into());
    }
    let key = run.bytes(key, map.def().key_size.into())?;
    let cpu = u32::try_from(cpu).ok().filter(|&cpu| cpu < map.ncpus());
    Ok(cpu.map_or(0, |cpu| run.lookup_in(&map, &key, cpu)))
}

fn update(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, key, value, flags, _] = call.args;
    let map = run.map_arg(call)?;
    let key = run.bytes(key, map.def().key_size.into())?;
    let value = run.bytes(value, map.def().value_size.into())?;
    Ok(status(map.prog_update(&key, &value, flags, run.cpu)))
}

fn delete(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, key, ..] = call.args;
    let map = run.map_arg(call)?;
    let key = run.bytes(key, map.def().key_size.into())?;
    Ok(status(map.prog_delete(&key)))
}

/// Through a register; the direct call has an operation of its own.
fn tail_call(_run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    Err(call.bad(1, "a tail call through a register is not possible").into())
}

fn push(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, value, flags, ..] = call.args;
    let map = run.map_arg(call)?;
    let value = run.bytes(value, map.def().value_size.into())?;
    Ok(status(map.prog_push(&value, flags)))
}

fn pop(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    take(run, call, Map::prog_pop)
}

fn peek(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    take(run, call, Map::prog_peek)
}

fn take(
    run: &mut Run<'_>,
    call: &Call<'_>,
    op: fn(&Map, &mut [u8]) -> Result<(), crate::maps::MapError>,
) -> Outcome {
    let [_, out, ..] = call.args;
    let map = run.map_arg(call)?;
    let len = map.def().value_size.into();
    // A bloom filter reads the value it is asked for.
    let bloom = map.def().map_type == MapType::BLOOM_FILTER;
    let mut value =
        if bloom { run.bytes(out, len)? } else { vec![0; map.def().value_size as usize] };
    let result = op(&map, &mut value);
    if !bloom {
        run.write(out, &value)?;
    }
    Ok(status(result))
}

/// `bpf_for_each_map_elem`: the callback gets map, key, value and its own argument.
fn for_each(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [handle, func, arg, flags, _] = call.args;
    let map = run.map_arg(call)?;
    if flags != 0 {
        return Ok(errno(libc::EINVAL));
    }
    // Buckets are looked at even when they are empty.
    run.charge_bytes(map.def().max_entries.into())?;
    let key_area = Arc::new(crate::mem::Area::new(map.def().key_size as usize));
    run.space.grant_area(&key_area, key_area.len(), false, "the key");
    let mut failed = None;
    let calls = map.for_each(run.cpu, &mut |key, value| {
        let addr = value.addr().get() as u64;
        run.space.remember_value(&map, addr);
        if !key_area.write(0, key) {
            return ControlFlow::Break(());
        }
        match run.callback(call, func, [handle, key_area.addr(), addr, arg, 0]) {
            Ok(0) => ControlFlow::Continue(()),
            Ok(_) => ControlFlow::Break(()),
            Err(stop) => {
                failed = Some(stop);
                ControlFlow::Break(())
            }
        }
    });
    run.space.revoke(key_area.addr());
    match (failed, calls) {
        (Some(stop), _) => Err(stop),
        (None, Ok(calls)) => Ok(calls),
        (None, Err(e)) => Ok(errno(e.errno())),
    }
}

/// Takes the lock word (0 free, 1 held) at the address.
fn spin_lock(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    use crate::op::AtomicImm;
    let [lock, ..] = call.args;
    let kind = AtomicImm { op: skep_isa::AtomicOp::CmpXchg, wide: false, fetch: true };
    loop {
        let old =
            run.atomic_word(lock, kind, 1, 0).map_err(|reason| call.bad(1, reason.to_string()))?;
        if old == 0 {
            return Ok(0);
        }
        // A lock that is never released must end in an error, not in a hang.
        run.charge(1000)?;
        std::thread::yield_now();
    }
}

fn spin_unlock(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    use crate::op::AtomicImm;
    let [lock, ..] = call.args;
    let kind = AtomicImm { op: skep_isa::AtomicOp::Xchg, wide: false, fetch: true };
    run.atomic_word(lock, kind, 0, 0).map_err(|reason| call.bad(1, reason.to_string()))?;
    Ok(0)
}

/// Do values say where packets go? Then programs may only read them.
pub(super) const fn sends(t: MapType) -> bool {
    matches!(t, MapType::DEVMAP | MapType::DEVMAP_HASH | MapType::CPUMAP | MapType::XSKMAP)
}

impl crate::mem::Space {
    /// Remembers the value at `addr`, so that the accesses that follow are found at once.
    fn remember_value(&mut self, map: &Arc<Map>, addr: u64) {
        let def = map.def();
        let read_only = def.flags.contains(skep_abi::MapFlags::RDONLY_PROG) || sends(def.map_type);
        let span = Span { start: addr, len: map.def().value_size.into(), writable: !read_only };
        self.remember(map, span);
    }
}
