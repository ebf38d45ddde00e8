//! Internet checksums: the kernel's arithmetic, and the helpers on it.

use super::{Body, Call, Outcome, errno};
use crate::maps::ENOTSUPP;
use crate::run::Run;

pub(super) const BODIES: &[(i32, Body)] =
    &[(10, l3_replace), (11, l4_replace), (28, diff), (40, update), (135, level)];

/// `BPF_F_HDR_FIELD_MASK`
const FIELD_MASK: u64 = 0xf;
/// `BPF_F_PSEUDO_HDR`
const PSEUDO_HDR: u64 = 1 << 4;
/// `BPF_F_MARK_MANGLED_0`
const MARK_MANGLED_0: u64 = 1 << 5;
/// `BPF_F_MARK_ENFORCE`
const MARK_ENFORCE: u64 = 1 << 6;
/// `BPF_F_IPV6`
const IPV6: u64 = 1 << 7;

/// Ones' complement sum of 32 bits.
const fn add(a: u32, b: u32) -> u32 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u32
}

/// 32 bits folded to 16, carries included.
#[expect(clippy::cast_possible_truncation, reason = "after two folds the sum has 16 bits")]
const fn fold32(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// A checksum field from a sum.
const fn field(sum: u32) -> u16 {
    !fold32(sum)
}

/// Ones' complement sum of little-endian words, on top of `seed`. Summed in 64 bits as the
/// kernel does, for 0 has two forms and programs see which.
#[expect(clippy::cast_possible_truncation, reason = "the two halves are meant")]
fn partial(bytes: &[u8], seed: u32) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let tail = if rest.is_empty() { None } else { Some(&last) };
    let sum = words.iter().chain(tail).fold(u64::from(seed), |sum, word| {
        let (sum, carry) = sum.overflowing_add(u64::from_le_bytes(*word));
        sum + u64::from(carry)
    });
    add((sum >> 32) as u32, sum as u32)
}

/// A checksum field after a part of `from` became `to`.
fn replaced(check: u16, from: u32, to: u32) -> u16 {
    let without = add(!u32::from(check), !from);
    field(add(without, to))
}

/// A checksum field after the covered bytes changed by `diff`.
fn replaced_by_diff(check: u16, diff: u32) -> u16 {
    field(add(diff, !u32::from(check)))
}

#[expect(clippy::cast_possible_truncation, reason = "the kernel takes the low 32 bits")]
const fn low(v: u64) -> u32 {
    v as u32
}

/// `bpf_csum_diff`
fn diff(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [from, from_size, to, to_size, seed] = call.args;
    let from = run.bytes(from, from_size)?;
    let to = run.bytes(to, to_size)?;
    let seed = low(seed);
    Ok(match (from.is_empty(), to.is_empty()) {
        (false, false) => fold32(add(partial(&to, seed), !partial(&from, 0))).into(),
        (true, false) => fold32(partial(&to, seed)).into(),
        (false, true) => fold32(!partial(&from, !seed)).into(),
        (true, true) => fold32(seed).into(),
    })
}

/// The checksum field at `off` of the packet, if it is there.
fn check_at(run: &mut Run<'_>, call: &Call<'_>, off: u64) -> Result<Option<u16>, super::Stop> {
    let skb = run.skb(call)?;
    let mut bytes = [0; 2];
    let at = usize::try_from(off).ok().filter(|&at| at <= 0xffff && at.is_multiple_of(2));
    Ok(at.filter(|&at| skb.packet.read(at, &mut bytes)).map(|_| u16::from_le_bytes(bytes)))
}

fn set_check(run: &mut Run<'_>, call: &Call<'_>, off: u64, check: u16) -> Outcome {
    let skb = run.skb(call)?;
    let at = usize::try_from(off).unwrap_or(usize::MAX);
    let done = skb.packet.write(at, &check.to_le_bytes());
    Ok(if done { 0 } else { errno(libc::EFAULT) })
}

/// The new field for the low bits of `flags`: 0 a difference, 2 or 4 a replaced field.
fn replace(check: u16, from: u64, to: u64, flags: u64) -> Option<u16> {
    match flags & FIELD_MASK {
        0 if from == 0 => Some(replaced_by_diff(check, low(to))),
        2 => Some(replaced(check, low(from) & 0xffff, low(to) & 0xffff)),
        4 => Some(replaced(check, low(from), low(to))),
        _ => None,
    }
}

/// `bpf_l3_csum_replace`
fn l3_replace(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, off, from, to, flags] = call.args;
    if flags & !FIELD_MASK != 0 {
        return Ok(errno(libc::EINVAL));
    }
    let Some(check) = check_at(run, call, off)? else { return Ok(errno(libc::EFAULT)) };
    match replace(check, from, to, flags) {
        Some(check) => set_check(run, call, off, check),
        None => Ok(errno(libc::EINVAL)),
    }
}

/// `bpf_l4_csum_replace`
fn l4_replace(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [_, off, from, to, flags] = call.args;
    let known = FIELD_MASK | PSEUDO_HDR | MARK_MANGLED_0 | MARK_ENFORCE | IPV6;
    if flags & !known != 0 {
        return Ok(errno(libc::EINVAL));
    }
    let Some(check) = check_at(run, call, off)? else { return Ok(errno(libc::EFAULT)) };
    let zero_is_none = flags & MARK_MANGLED_0 != 0;
    if zero_is_none && flags & MARK_ENFORCE == 0 && check == 0 {
        return Ok(0); // the datagram has no checksum
    }
    match replace(check, from, to, flags) {
        Some(0) if zero_is_none => set_check(run, call, off, 0xffff),
        Some(check) => set_check(run, call, off, check),
        None => Ok(errno(libc::EINVAL)),
    }
}

/// `bpf_csum_update`: packets here never carry a checksum of the device.
fn update(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    run.skb(call)?;
    Ok(errno(ENOTSUPP))
}

/// `bpf_csum_level`: as above, so there is no level to ask for (0) and none to change.
fn level(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    run.skb(call)?;
    Ok(match call.args[1] {
        0 => errno(libc::EACCES),
        1..=3 => 0,
        _ => errno(libc::EINVAL),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 header with a right checksum.
    const HEADER: [u8; 20] = [
        0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
        0xc7,
    ];

    fn header_check(header: &[u8]) -> u16 {
        let mut zeroed = header.to_vec();
        zeroed[10..12].fill(0);
        field(partial(&zeroed, 0))
    }

    #[test]
    fn the_sum_over_a_header_is_its_checksum() {
        assert_eq!(header_check(&HEADER).to_le_bytes(), HEADER[10..12]);
    }

    #[test]
    fn replacing_a_field_gives_the_checksum_of_the_changed_header() {
        let mut header = HEADER;
        header[8] -= 1;
        let at = |h: &[u8]| u32::from(u16::from_le_bytes([h[8], h[9]]));
        let check = u16::from_le_bytes([HEADER[10], HEADER[11]]);
        assert_eq!(replaced(check, at(&HEADER), at(&header)), header_check(&header));
        let diff = add(partial(&header[8..10], 0), !partial(&HEADER[8..10], 0));
        assert_eq!(replaced_by_diff(check, diff), header_check(&header));
    }
}
