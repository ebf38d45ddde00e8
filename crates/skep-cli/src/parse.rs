//! Values of flags: durations, hex bytes, `name=value`.

use std::time::Duration;

/// `3s`, `500ms`, `2m`, `1.5s`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit `{unit}`: use ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| "expected a number such as 3s or 500ms")?;
    Duration::try_from_secs_f64(number * scale).map_err(|e| e.to_string())
}

/// Hex digits in pairs; blanks, colons and a leading `0x` are allowed.
pub fn hex(text: &str) -> Result<Vec<u8>, String> {
    let text = text.trim();
    let text = text.strip_prefix("0x").unwrap_or(text);
    let mut digits = Vec::new();
    for c in text.chars().filter(|c| !c.is_whitespace() && *c != ':') {
        let digit = c.to_digit(16).and_then(|d| u8::try_from(d).ok());
        digits.push(digit.ok_or_else(|| format!("`{c}` is not a hex digit"))?);
    }
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(format!("{} hex digits: two make a byte", digits.len()));
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// Bytes given as hex on the command line. (A plain `Vec<u8>` means "many numbers" to clap.)
#[derive(Clone, Debug)]
pub struct Hex(pub Vec<u8>);

/// [`hex`] as a flag's value.
pub fn hex_arg(text: &str) -> Result<Hex, String> {
    hex(text).map(Hex)
}

/// `name=value`.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.trim().into(), value.trim().into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases: &[(&str, Option<u64>)] = &[
            ("3s", Some(3000)),
            ("500ms", Some(500)),
            ("1.5", Some(1500)),
            ("2m", Some(120_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("s", None),
            ("3 days", None),
            ("-1s", None),
            ("1e3", None),
        ];
        for (text, want) in cases {
            let got = duration(text).ok().map(|d| d.as_millis());
            assert_eq!(got, want.map(u128::from), "{text}");
        }
    }

    #[test]
    fn hex_bytes() {
        assert_eq!(hex("00 ff:1A"), Ok(vec![0, 255, 26]));
        assert_eq!(hex("0x0102"), Ok(vec![1, 2]));
        assert_eq!(hex(""), Ok(vec![]));
        assert!(hex("abc").unwrap_err().contains("3 hex digits"));
        assert!(hex("zz").unwrap_err().contains("`z`"));
    }

    #[test]
    fn assignments() {
        assert_eq!(assignment("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(assignment("=1").is_err());
        assert!(assignment("a").is_err());
    }
}
