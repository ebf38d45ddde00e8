//! Helpers that send records to user space: ring buffers and perf event arrays.

use std::sync::Arc;

use super::{Body, Call, Outcome, Stop, errno, status};
use crate::maps::Map;
use crate::run::Run;
use skep_abi::MapType;

pub(super) const BODIES: &[(i32, Body)] = &[
    (25, perf_output),
    (111, perf_output),
    (121, perf_output),
    (130, output),
    (131, reserve),
    (132, |run, call| release(run, call, Map::ring_submit)),
    (133, |run, call| release(run, call, Map::ring_discard)),
    (134, query),
];

/// `BPF_F_INDEX_MASK`; all ones is `BPF_F_CURRENT_CPU`.
const INDEX_MASK: u64 = 0xffff_ffff;
/// `BPF_F_CTXLEN_MASK`
const CTXLEN_MASK: u64 = 0xfffff << 32;

/// Records that a run may hold at once. The kernel's verifier follows each of them on every path,
/// so real programs hold a few.
const MAX_RESERVED: usize = 1024;

fn ring(run: &Run<'_>, call: &Call<'_>) -> Result<Arc<Map>, Stop> {
    map_of(run, call, 1, MapType::RINGBUF)
}

fn map_of(run: &Run<'_>, call: &Call<'_>, arg: usize, t: MapType) -> Result<Arc<Map>, Stop> {
    let handle = call.args.get(arg - 1).copied().unwrap_or_default();
    let map = run.map(call.program, handle).filter(|map| map.def().map_type == t);
    map.ok_or_else(|| call.bad(arg, format!("not a map of type {t}")).into())
}

fn output(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, data, size, flags, _] = call.args;
    let map = ring(run, call)?;
    let data = run.bytes(data, size)?;
    Ok(status(map.ring_output(&data, flags)))
}

fn reserve(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, size, flags, ..] = call.args;
    let map = ring(run, call)?;
    if run.reserved.len() >= MAX_RESERVED {
        let why = format!("{MAX_RESERVED} records are reserved already and not submitted");
        return Err(call.bad(1, why).into());
    }
    let Some(record) = map.ring_reserve(size, flags) else { return Ok(0) };
    let addr = record.addr().get();
    run.space.grant_record(&map, addr as u64, size);
    run.reserved.push((map, addr));
    Ok(addr as u64)
}

fn release(
    run: &mut Run<'_>,
    call: &Call<'_>,
    commit: fn(&Map, usize, u64) -> Result<(), crate::maps::MapError>,
) -> Outcome {
    let [addr, flags, ..] = call.args;
    let at = run.reserved.iter().position(|(_, record)| *record as u64 == addr);
    let at = at.ok_or_else(|| call.bad(1, "not a reserved record"))?;
    let (map, record) = run.reserved.swap_remove(at);
    run.space.revoke(addr);
    commit(&map, record, flags).map_err(|e| call.bad(1, e.to_string()))?;
    Ok(0)
}

fn query(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    Ok(ring(run, call)?.ring_query(call.args[1]))
}

/// `bpf_perf_event_output`, also for packets, of which it can append the beginning.
fn perf_output(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, _, flags, data, size] = call.args;
    let map = map_of(run, call, 2, MapType::PERF_EVENT_ARRAY)?;
    let packet_len = usize::try_from((flags & CTXLEN_MASK) >> 32).unwrap_or_default();
    if flags & !(INDEX_MASK | CTXLEN_MASK) != 0 || (packet_len != 0 && run.ctx.packet().is_none()) {
        return Ok(errno(libc::EINVAL));
    }
    let mut record = run.bytes(data, size)?;
    if run.ctx.packet().is_some_and(|p| packet_len > p.len()) {
        return Ok(errno(libc::EFAULT));
    }
    if packet_len != 0 {
        run.charge_bytes(packet_len as u64)?;
        let start = record.len();
        record.resize(start + packet_len, 0);
        let packet = run.ctx.packet();
        let out = record.get_mut(start..).unwrap_or_default();
        if !packet.is_some_and(|p| p.read(0, out)) {
            return Ok(errno(libc::EFAULT));
        }
    }
    let cpu = match u32::try_from(flags & INDEX_MASK) {
        Ok(u32::MAX) | Err(_) => run.cpu,
        Ok(index) => index,
    };
    if cpu >= map.def().max_entries {
        return Ok(errno(libc::E2BIG));
    }
    if cpu != run.cpu {
        return Ok(errno(libc::EOPNOTSUPP)); // the event of that index belongs to another CPU
    }
    Ok(status(map.perf_output(cpu, &record)))
}
