//! Helpers that format text, by the rules of the kernel's `bpf_bprintf_prepare`.

use std::fmt::Write as _;

use super::{Body, Call, Outcome, Stop, errno};
use crate::run::Run;

pub(super) const BODIES: &[(i32, Body)] =
    &[(6, trace_printk), (165, snprintf), (177, trace_vprintk)];

/// Most bytes of a trace line.
const MAX_LINE: usize = 1024;
/// Most arguments of the forms with an array.
const MAX_ARGS: u64 = 12;
/// Most bytes of a format or of a string within.
const MAX_TEXT: u64 = 4096;

/// A conversion of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    width: usize,
    kind: Kind,
}

/// What is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Percent,
    Char,
    Signed { long: bool },
    Unsigned { long: bool },
    Hex { long: bool, upper: bool },
    Pointer,
    Symbol,
    Text,
    Ip4 { padded: bool },
    Ip6 { colons: bool },
}

/// A format taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Spec(Spec),
}

/// Takes a format apart; `None` for one that the kernel refuses.
fn parse(format: &[u8]) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = format.iter().copied().peekable();
    while let Some(b) = rest.next() {
        if !b.is_ascii() || (b.is_ascii_control() && !(9..=13).contains(&b)) {
            return None;
        }
        if b != b'%' {
            text.push(char::from(b));
            continue;
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        let (mut left, mut zero, mut plus, mut space) = (false, false, false, false);
        while let Some(flag) = rest.next_if(|b| b"-0+ ".contains(b)) {
            match flag {
                b'-' => left = true,
                b'0' => zero = true,
                b'+' => plus = true,
                _ => space = true,
            }
        }
        let mut width = 0_usize;
        while let Some(d) = rest.next_if(u8::is_ascii_digit) {
            width = (width * 10 + usize::from(d - b'0')).min(MAX_LINE);
        }
        let mut longs = 0;
        while rest.next_if_eq(&b'l').is_some() {
            longs += 1;
        }
        let long = longs > 0;
        let kind = match rest.next()? {
            b'%' if longs == 0 => Kind::Percent,
            b'c' if longs == 0 => Kind::Char,
            b's' if longs == 0 => Kind::Text,
            b'p' if longs == 0 => match rest.peek() {
                Some(b'k' | b'u') => {
                    rest.next();
                    rest.next_if_eq(&b's')?;
                    Kind::Text
                }
                Some(b'i' | b'I') => {
                    let first = rest.next()?;
                    match rest.next()? {
                        b'4' => Kind::Ip4 { padded: first == b'i' },
                        b'6' => Kind::Ip6 { colons: first == b'I' },
                        _ => return None,
                    }
                }
                Some(b's' | b'S' | b'B') => {
                    rest.next();
                    Kind::Symbol
                }
                Some(b'K' | b'x') => {
                    rest.next();
                    Kind::Pointer
                }
                Some(b) if !b.is_ascii_punctuation() && !b.is_ascii_whitespace() => return None,
                _ => Kind::Pointer,
            },
            b'd' | b'i' if longs <= 2 => Kind::Signed { long },
            b'u' if longs <= 2 => Kind::Unsigned { long },
            b'x' if longs <= 2 => Kind::Hex { long, upper: false },
            b'X' if longs <= 2 => Kind::Hex { long, upper: true },
            _ => return None,
        };
        pieces.push(Piece::Spec(Spec { left, zero, plus, space, width, kind }));
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Some(pieces)
}

impl Spec {
    /// Appends `body` with sign, filled to the width.
    fn pad(&self, out: &mut String, sign: &str, body: &str) {
        let fill = self.width.saturating_sub(sign.len() + body.len());
        let number = !matches!(self.kind, Kind::Text | Kind::Char | Kind::Percent);
        if self.left {
            let _ = write!(out, "{sign}{body}{:fill$}", "");
        } else if self.zero && number {
            let _ = write!(out, "{sign}{:0>fill$}{body}", "");
        } else {
            let _ = write!(out, "{:fill$}{sign}{body}", "");
        }
    }
}

impl Run<'_> {
    /// Formats; `None` where the kernel says `-EINVAL`.
    fn format(&mut self, format: &[u8], args: &[u64]) -> Option<String> {
        let mut args = args.iter().copied();
        let mut out = String::new();
        for piece in parse(format)? {
            let spec = match piece {
                Piece::Text(text) => {
                    out.push_str(&text);
                    continue;
                }
                Piece::Spec(spec) => spec,
            };
            if spec.kind == Kind::Percent {
                out.push('%');
                continue;
            }
            let arg = args.next()?;
            let (sign, body) = self.convert(&spec, arg);
            spec.pad(&mut out, sign, &body);
        }
        Some(out)
    }

    /// Sign and digits of one argument.
    fn convert(&mut self, spec: &Spec, arg: u64) -> (&'static str, String) {
        let low = arg & 0xffff_ffff;
        let wide = |long| if long { arg } else { low };
        match spec.kind {
            Kind::Percent => ("", "%".to_owned()),
            Kind::Char => ("", char::from(arg.to_le_bytes()[0]).to_string()),
            Kind::Signed { long } => {
                let v = if long { arg.cast_signed() } else { sign_extend(low) };
                let sign = match (v < 0, spec.plus, spec.space) {
                    (true, ..) => "-",
                    (_, true, _) => "+",
                    (.., true) => " ",
                    _ => "",
                };
                (sign, v.unsigned_abs().to_string())
            }
            Kind::Unsigned { long } => ("", wide(long).to_string()),
            Kind::Hex { long, upper: false } => ("", format!("{:x}", wide(long))),
            Kind::Hex { long, upper: true } => ("", format!("{:X}", wide(long))),
            Kind::Pointer => ("", format!("{arg:016x}")),
            Kind::Symbol => ("", format!("{arg:#x}")),
            Kind::Text => {
                let text = self.string(arg, MAX_TEXT).unwrap_or_default();
                ("", String::from_utf8_lossy(&text).into_owned())
            }
            Kind::Ip4 { padded } => {
                let [a, b, c, d] = self.address(arg);
                let plain = format!("{a}.{b}.{c}.{d}");
                ("", if padded { format!("{a:03}.{b:03}.{c:03}.{d:03}") } else { plain })
            }
            Kind::Ip6 { colons } => {
                let bytes = self.address::<16>(arg);
                let (groups, _) = bytes.as_chunks::<2>();
                let texts: Vec<_> = groups.iter().map(|[a, b]| format!("{a:02x}{b:02x}")).collect();
                ("", texts.join(if colons { ":" } else { "" }))
            }
        }
    }

    /// An address behind a pointer; zeros when it cannot be read.
    fn address<const N: usize>(&mut self, addr: u64) -> [u8; N] {
        let mut bytes = [0; N];
        if self.space.read(addr, &mut bytes).is_err() {
            return [0; N];
        }
        bytes
    }

    fn print(&mut self, call: &Call<'_>, format: (u64, u64), args: &[u64]) -> Outcome {
        let format = self.bytes(format.0, format.1)?;
        let end = format.iter().position(|&b| b == 0);
        let Some(format) = end.and_then(|end| format.get(..end)) else {
            return Ok(errno(libc::EINVAL));
        };
        let Some(mut line) = self.format(format, args) else { return Ok(errno(libc::EINVAL)) };
        self.charge_bytes(line.len() as u64)?;
        let mut end = line.len().min(MAX_LINE - 1);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        if let Some(print) = &self.settings.print {
            print(&line);
        }
        debug_assert!(call.name().starts_with("trace_"), "only these print");
        Ok(line.len() as u64)
    }

    /// The array of arguments; `None` where the kernel says `-EINVAL`.
    fn print_args(&mut self, data: u64, len: u64) -> Result<Option<Vec<u64>>, Stop> {
        if len > MAX_ARGS * 8 || !len.is_multiple_of(8) {
            return Ok(None);
        }
        let bytes = self.bytes(data, len)?;
        let (words, _) = bytes.as_chunks::<8>();
        Ok(Some(words.iter().map(|w| u64::from_le_bytes(*w)).collect()))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
const fn sign_extend(v: u64) -> i64 {
    (v as u32).cast_signed() as i64
}

/// `bpf_trace_printk`: at most three arguments.
fn trace_printk(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [format, len, a, b, c] = call.args;
    run.print(call, (format, len), &[a, b, c])
}

/// `bpf_trace_vprintk`
fn trace_vprintk(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [format, len, data, data_len, _] = call.args;
    match run.print_args(data, data_len)? {
        Some(args) => run.print(call, (format, len), &args),
        None => Ok(errno(libc::EINVAL)),
    }
}

/// `bpf_snprintf`: returns the length with the NUL, even where it did not fit.
fn snprintf(run: &mut Run<'_>, call: &Call<'_>) -> Outcome {
    let [out, size, format, data, data_len] = call.args;
    let format =
        run.string(format, MAX_TEXT).ok_or_else(|| call.bad(3, "not a readable string"))?;
    let Some(args) = run.print_args(data, data_len)? else { return Ok(errno(libc::EINVAL)) };
    let Some(text) = run.format(&format, &args) else { return Ok(errno(libc::EINVAL)) };
    run.charge_bytes(text.len() as u64)?;
    let mut bytes = text.into_bytes();
    let full = bytes.len() as u64 + 1;
    if size > 0 {
        bytes.truncate(usize::try_from(size - 1).unwrap_or(usize::MAX));
        bytes.push(0);
        run.write(out, &bytes)?;
    }
    Ok(full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{Context, Plain};
    use crate::program::Settings;

    fn formatted(format: &str, args: &[u64]) -> Option<String> {
        let settings = Settings::default();
        let mut ctx = Context::from(Plain::memory(&[]));
        Run::new(&settings, &mut ctx, 0).format(format.as_bytes(), args)
    }

    #[test]
    fn formats_follow_the_kernel() {
        let minus_one = u64::MAX;
        let cases: &[(&str, &[u64], Option<&str>)] = &[
            ("plain", &[], Some("plain")),
            ("%d %u %x", &[minus_one, minus_one, 255], Some("-1 4294967295 ff")),
            ("%ld %llu", &[minus_one, minus_one], Some("-1 18446744073709551615")),
            ("%08x|%-6d|%6d|%+d", &[0xbeef, 5, 5, 5], Some("0000beef|5     |     5|+5")),
            ("100%%", &[], Some("100%")),
            ("%c%c", &[0x68, 0x69], Some("hi")),
            ("%px", &[0x1234], Some("0000000000001234")),
            ("%pI4", &[0], Some("0.0.0.0")),
            ("%s.", &[0], Some(".")),
            ("%d", &[], None),
            ("%", &[], None),
            ("%f", &[0], None),
            ("%hd", &[0], None),
            ("%lld%lllx", &[0, 0], None),
            ("%pz", &[0], None),
            ("\u{7f}", &[], None),
        ];
        for (format, args, want) in cases {
            assert_eq!(formatted(format, args).as_deref(), *want, "{format:?}");
        }
    }
}
