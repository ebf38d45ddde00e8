//! Helpers that read memory by address. Only memory that the program was given can be read:
//! anything else is `-EFAULT`, as unmapped memory is in the kernel.

use super::{Body, Call, Outcome, errno};
use crate::error::Access;
use crate::run::Run;

pub(super) const BODIES: &[(i32, Body)] =
    &[(4, read), (45, read_str), (112, read), (113, read), (114, read_str), (115, read_str)];

/// `bpf_probe_read` and its kin: clears the destination when the source cannot be read.
fn read(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [to, size, from, ..] = call.args;
    let readable = run.space.allows(from, size, Access::Read).is_ok();
    let bytes = if readable { run.bytes(from, size)? } else { run.zeros(size)? };
    run.write(to, &bytes)?;
    Ok(if readable { 0 } else { errno(libc::EFAULT) })
}

/// `bpf_probe_read_str` and its kin: returns the length with the NUL, cut to fit.
fn read_str(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [to, size, from, ..] = call.args;
    if size == 0 {
        return Ok(0);
    }
    match run.string(from, size) {
        Some(mut text) => {
            text.truncate(usize::try_from(size - 1).unwrap_or(usize::MAX));
            text.push(0);
            run.write(to, &text)?;
            Ok(text.len() as u64)
        }
        None => {
            let zeros = run.zeros(size)?;
            run.write(to, &zeros)?;
            Ok(errno(libc::EFAULT))
        }
    }
}

impl Run<'_> {
    /// The bytes up to a NUL, at most `max`; `None` when one of them cannot be read.
    pub(crate) fn string(&mut self, addr: u64, max: u64) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        for at in addr..addr.checked_add(max.min(1 << 20))? {
            match self.space.load::<u8>(at) {
                Ok(0) => return Some(text),
                Ok(b) => text.push(b),
                Err(_) => return None,
            }
        }
        Some(text)
    }
}
