//! Helpers of XDP programs, and redirects of all packet programs.

use skep_abi::ProgType;

use super::{Body, Call, Outcome, Stop, errno};
use crate::context::{ETH_HLEN, Xdp};
use crate::run::{MAX_CLONES, Redirect, RedirectTarget, Run};

pub(super) const BODIES: &[(i32, Body)] = &[
    (13, clone_redirect),
    (23, redirect),
    (44, adjust_head),
    (51, redirect_map),
    (54, adjust_meta),
    (65, adjust_tail),
    (69, fib_lookup),
    (152, redirect_neigh),
    (155, redirect_peer),
    (188, |run, call| Ok(run.xdp(call)?.packet.len() as u64)),
    (189, load_bytes),
    (190, store_bytes),
];

/// Bytes at the start of the headroom that the kernel keeps (`struct xdp_frame`).
const FRAME_HEADER: usize = 40;
/// Most bytes of metadata.
const MAX_META: usize = 252;

/// `XDP_ABORTED`, `XDP_REDIRECT`
const XDP_ABORTED: u64 = 0;
const XDP_REDIRECT: u64 = 4;
/// `TC_ACT_SHOT`, `TC_ACT_REDIRECT`
const TC_SHOT: u64 = 2;
const TC_REDIRECT: u64 = 7;

impl Run<'_> {
    fn xdp(&mut self, call: &Call<'_>) -> Result<&mut Xdp, Stop> {
        self.ctx.xdp_mut().ok_or_else(|| call.wrong_type())
    }
}

/// A 32-bit difference as the kernel takes it.
#[expect(clippy::cast_possible_truncation, reason = "the kernel takes the low 32 bits")]
fn offset(v: u64) -> isize {
    (v as u32).cast_signed() as isize
}

fn adjust_head(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let packet = &mut run.xdp(call)?.packet;
    let meta_len = packet.data - packet.meta;
    let Some(data) = packet.data.checked_add_signed(offset(call.args[1])) else {
        return Ok(errno(libc::EINVAL));
    };
    if data < FRAME_HEADER + meta_len || data + ETH_HLEN > packet.end {
        return Ok(errno(libc::EINVAL));
    }
    packet.move_start(data);
    run.packet_changed()?;
    Ok(0)
}

fn adjust_tail(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let packet = &mut run.xdp(call)?.packet;
    let end = packet.end.checked_add_signed(offset(call.args[1]));
    let Some(end) = end.filter(|&end| end <= packet.capacity() && end >= packet.data + ETH_HLEN)
    else {
        return Ok(errno(libc::EINVAL));
    };
    packet.clear(packet.end, end);
    packet.end = end;
    run.packet_changed()?;
    Ok(0)
}

fn adjust_meta(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let packet = &mut run.xdp(call)?.packet;
    let meta = packet.meta.checked_add_signed(offset(call.args[1]));
    let Some(meta) = meta.filter(|&m| m >= FRAME_HEADER && m <= packet.data) else {
        return Ok(errno(libc::EINVAL));
    };
    let len = packet.data - meta;
    if !len.is_multiple_of(4) || len > MAX_META {
        return Ok(errno(libc::EACCES));
    }
    packet.meta = meta;
    run.packet_changed()?;
    Ok(0)
}

/// `EFAULT` beyond 64 KiB, `EINVAL` beyond the packet; else the offset.
fn range(xdp: &Xdp, off: u64, len: u64) -> Result<usize, i32> {
    if off > 0xffff || len > 0xffff {
        return Err(libc::EFAULT);
    }
    let inside = off + len <= xdp.packet.len() as u64;
    usize::try_from(off).ok().filter(|_| inside).ok_or(libc::EINVAL)
}

fn load_bytes(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, off, to, len, _] = call.args;
    match range(run.xdp(call)?, off, len) {
        Ok(off) => {
            let mut bytes = run.zeros(len)?;
            let read = run.xdp(call)?.packet.read(off, &mut bytes);
            run.write(to, &bytes)?;
            Ok(if read { 0 } else { errno(libc::EINVAL) })
        }
        Err(code) => Ok(errno(code)),
    }
}

fn store_bytes(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, off, from, len, _] = call.args;
    match range(run.xdp(call)?, off, len) {
        Ok(off) => {
            let bytes = run.bytes(from, len)?;
            let written = run.xdp(call)?.packet.write(off, &bytes);
            Ok(if written { 0 } else { errno(libc::EINVAL) })
        }
        Err(code) => Ok(errno(code)),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "interface numbers have 32 bits")]
fn ifindex(v: u64) -> u32 {
    v as u32
}

/// Records a redirect and gives the verdict that carries it out.
fn send(
    run: &mut Run<'_>,
    call: &Call<'_>,
    target: RedirectTarget,
    flags: u64,
    known: u64,
) -> Outcome {
    let xdp = call.program.prog_type() == ProgType::XDP;
    if run.ctx.packet().is_none() {
        return Err(call.wrong_type());
    }
    let (sent, refused) = if xdp { (XDP_REDIRECT, XDP_ABORTED) } else { (TC_REDIRECT, TC_SHOT) };
    if flags & !known != 0 {
        return Ok(refused);
    }
    run.effects.redirect = Some(Redirect { target, flags });
    Ok(sent)
}

fn redirect(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [index, flags, ..] = call.args;
    let target = RedirectTarget::Interface { ifindex: ifindex(index) };
    let known = u64::from(call.program.prog_type() != ProgType::XDP); // BPF_F_INGRESS
    send(run, call, target, flags, known)
}

fn redirect_peer(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [index, flags, ..] = call.args;
    send(run, call, RedirectTarget::Peer { ifindex: ifindex(index) }, flags, 0)
}

fn redirect_neigh(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [index, _, _, flags, _] = call.args;
    send(run, call, RedirectTarget::Neighbour { ifindex: ifindex(index) }, flags, 0)
}

/// `bpf_redirect_map`: the low bits of the flags are the verdict for a missing entry.
fn redirect_map(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    /// `BPF_F_BROADCAST`
    const BROADCAST: u64 = 1 << 3;
    /// `BPF_F_EXCLUDE_INGRESS`
    const EXCLUDE_INGRESS: u64 = 1 << 4;
    const ACTION: u64 = 3;
    run.xdp(call)?;
    let [handle, key, flags, ..] = call.args;
    let map = run.map(call.program, handle).ok_or_else(|| call.bad(1, "not a map"))?;
    if !super::map::sends(map.def().map_type) {
        return Err(call.bad(1, "not a map that packets can be sent to").into());
    }
    let devices =
        matches!(map.def().map_type, skep_abi::MapType::DEVMAP | skep_abi::MapType::DEVMAP_HASH);
    let known = if devices { ACTION | BROADCAST | EXCLUDE_INGRESS } else { ACTION };
    if flags & !known != 0 {
        return Ok(XDP_ABORTED);
    }
    let index = ifindex(key).to_ne_bytes();
    let there = flags & BROADCAST != 0 || map.lookup_ptr(&index, run.cpu).is_some();
    if !there {
        run.effects.redirect = None;
        return Ok(flags & ACTION);
    }
    run.effects.redirect = Some(Redirect { target: RedirectTarget::Map { map, key }, flags });
    Ok(XDP_REDIRECT)
}

fn clone_redirect(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, index, flags, ..] = call.args;
    run.skb(call)?;
    if flags & !1 != 0 {
        return Ok(errno(libc::EINVAL));
    }
    if run.effects.clones.len() >= MAX_CLONES {
        return Ok(errno(libc::ENETDOWN));
    }
    let target = RedirectTarget::Interface { ifindex: ifindex(index) };
    run.effects.clones.push(Redirect { target, flags });
    Ok(0)
}

/// `bpf_fib_lookup`: there is no routing table here, which is what the kernel says of an
/// interface that does not forward.
fn fib_lookup(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    /// `BPF_FIB_LKUP_RET_FWD_DISABLED`
    const FORWARDING_DISABLED: u64 = 5;
    run.ctx.packet().ok_or_else(|| call.wrong_type())?;
    Ok(FORWARDING_DISABLED)
}
