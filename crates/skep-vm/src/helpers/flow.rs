//! Helpers that steer: loops.

use super::{Body, Call, Outcome, errno};
use crate::run::Run;

pub(super) const BODIES: &[(i32, Body)] = &[(181, repeat)];

/// `BPF_MAX_LOOPS`
const MAX_LOOPS: u64 = 8 * 1024 * 1024;

/// `bpf_loop`: calls back with index and context until the callback returns 1.
fn repeat(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [times, func, ctx, flags, _] = call.args;
    let times = times & 0xffff_ffff;
    if flags != 0 {
        return Ok(errno(libc::EINVAL));
    }
    if times > MAX_LOOPS {
        return Ok(errno(libc::E2BIG));
    }
    for n in 0..times {
        if run.callback(call, func, [n, ctx, 0, 0, 0])? != 0 {
            return Ok(n + 1);
        }
    }
    Ok(times)
}
