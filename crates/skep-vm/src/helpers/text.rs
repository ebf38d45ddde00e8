//! Helpers on strings: numbers out of them, comparing, formatting.

use super::{Body, Call, Outcome, errno};
use crate::run::Run;

pub(super) const BODIES: &[(i32, Body)] = &[(105, strtol), (106, strtoul), (182, strncmp)];

/// Bytes that are looked at behind blanks and sign, as in the kernel.
const MAX_NUMBER: usize = 63;

/// A number read from text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Number {
    negative: bool,
    magnitude: u64,
    /// Bytes of text, blanks and sign included.
    used: usize,
}

/// Reads a number; the error is an errno.
fn number(text: &[u8], flags: u64) -> Result<Number, i32> {
    let mut base = match flags {
        0 | 8 | 10 | 16 => flags,
        _ => return Err(libc::EINVAL),
    };
    let blanks = text.iter().take_while(|b| matches!(b, b' ' | 9..=13 | 0xa0)).count();
    let mut rest = text.get(blanks..).unwrap_or_default();
    let negative = rest.first() == Some(&b'-');
    if negative {
        rest = rest.get(1..).unwrap_or_default();
    }
    let body = rest.get(..MAX_NUMBER).unwrap_or(rest);
    let mut rest = body;
    let digit = |b: &u8| char::from(*b).to_digit(16);
    let hex = matches!(rest, [b'0', b'x' | b'X', d, ..] if digit(d).is_some());
    if base == 0 {
        base = match rest.first() {
            Some(b'0') if hex => 16,
            Some(b'0') => 8,
            _ => 10,
        };
    }
    if base == 16 && matches!(rest, [b'0', b'x' | b'X', ..]) {
        rest = rest.get(2..).unwrap_or_default();
    }
    let digits = rest.iter().map_while(|b| digit(b).map(u64::from).filter(|d| *d < base));
    let (mut count, mut magnitude) = (0, Some(0_u64));
    for d in digits {
        count += 1;
        magnitude = magnitude.and_then(|m| m.checked_mul(base)?.checked_add(d));
    }
    if count == 0 {
        return Err(libc::EINVAL);
    }
    let used = blanks + usize::from(negative) + body.len() - rest.len() + count;
    Ok(Number { negative, magnitude: magnitude.ok_or(libc::ERANGE)?, used })
}

fn finish(run: &mut Run<'_>, out: u64, result: Result<(u64, usize), i32>) -> Outcome {
    let (value, returned) = match result {
        Ok((value, used)) => (value, used as u64),
        Err(code) => (0, errno(code)),
    };
    run.write(out, &value.to_le_bytes())?;
    Ok(returned)
}

/// `bpf_strtol`
fn strtol(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [text, len, flags, out, _] = call.args;
    let text = run.bytes(text, len)?;
    let result = number(&text, flags).and_then(|n| {
        let limit = i64::MAX.unsigned_abs() + u64::from(n.negative);
        if n.magnitude > limit {
            return Err(libc::ERANGE);
        }
        let value = if n.negative { n.magnitude.wrapping_neg() } else { n.magnitude };
        Ok((value, n.used))
    });
    finish(run, out, result)
}

/// `bpf_strtoul`
fn strtoul(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [text, len, flags, out, _] = call.args;
    let text = run.bytes(text, len)?;
    let result = number(&text, flags)
        .and_then(|n| if n.negative { Err(libc::EINVAL) } else { Ok((n.magnitude, n.used)) });
    finish(run, out, result)
}

/// `bpf_strncmp`: -1, 0 or 1.
fn strncmp(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [left, len, right, ..] = call.args;
    let left = run.bytes(left, len)?;
    let right = run.string(right, len).ok_or_else(|| call.bad(3, "not a readable string"))?;
    let left = left.split(|&b| b == 0).next().unwrap_or_default();
    Ok((left.cmp(&right) as i64).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_kernel_reads_them() {
        let ok = |negative, magnitude, used| Ok(Number { negative, magnitude, used });
        let cases: &[(&str, u64, Result<Number, i32>)] = &[
            ("42", 0, ok(false, 42, 2)),
            ("  -42x", 10, ok(true, 42, 5)),
            ("0x1fg", 0, ok(false, 31, 4)),
            ("0x", 0, ok(false, 0, 1)),
            ("017", 0, ok(false, 15, 3)),
            ("ff", 16, ok(false, 255, 2)),
            ("8", 8, Err(libc::EINVAL)),
            (&format!("{:70}7", ""), 10, ok(false, 7, 71)),
            (&"0".repeat(70), 10, ok(false, 0, 63)),
            ("", 10, Err(libc::EINVAL)),
            ("1", 7, Err(libc::EINVAL)),
            ("18446744073709551615", 0, ok(false, u64::MAX, 20)),
            ("18446744073709551616", 0, Err(libc::ERANGE)),
        ];
        for (text, flags, want) in cases {
            assert_eq!(number(text.as_bytes(), *flags), *want, "{text:?} base {flags}");
        }
    }
}
