//! Bytes of keys and values from words of the command line.

use skep::btf::{Btf, TypeId, value};

/// `size` bytes from words: the bytes one by one, or one word that is a value of the type (of a
/// number of that size, without type).
pub(super) fn data(
    types: Option<(&Btf, TypeId)>,
    size: usize,
    words: &[String],
) -> Result<Vec<u8>, String> {
    if let [hex, digits @ ..] = words
        && hex == "hex"
    {
        let bytes = crate::parse::hex(&digits.join(" "))?;
        let found = bytes.len();
        return if found == size { Ok(bytes) } else { Err(wrong(found, size)) };
    }
    if words.len() == size && size != 1 {
        return words.iter().map(|w| number(w).and_then(|n| fit(n, 1))).try_fold(
            Vec::new(),
            |mut all, byte| {
                all.extend(byte?);
                Ok(all)
            },
        );
    }
    let [word] = words else { return Err(wrong(words.len(), size)) };
    match types {
        Some((btf, ty)) => value::encode(btf, ty, word).map_err(|e| e.to_string()),
        None if matches!(size, 1 | 2 | 4 | 8) => fit(number(word)?, size),
        None => Err(wrong(1, size)),
    }
}

fn wrong(found: usize, want: usize) -> String {
    format!("{found} bytes given, it has {want}")
}

pub(super) fn number(word: &str) -> Result<u64, String> {
    let parsed = match word.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => word.parse(),
    };
    parsed.map_err(|_| format!("`{word}` is no number"))
}

/// The low bytes of a number that has no more.
fn fit(number: u64, size: usize) -> Result<Vec<u8>, String> {
    let bits = u32::try_from(size * 8).unwrap_or(64);
    if bits < 64 && number >> bits != 0 {
        return Err(format!("{number} does not fit in {size} bytes"));
    }
    let low = number.to_le_bytes().into_iter().take(size);
    Ok(if cfg!(target_endian = "little") { low.collect() } else { low.rev().collect() })
}

/// The words behind `keyword`, up to `end`; both are taken off.
pub(super) fn behind<'a>(
    keyword: &str,
    end: &str,
    words: &mut &'a [String],
) -> Option<&'a [String]> {
    let [first, rest @ ..] = *words else { return None };
    if first != keyword {
        return None;
    }
    let len = rest.iter().position(|w| w == end).unwrap_or(rest.len());
    let (own, left) = rest.split_at_checked(len)?;
    *words = left;
    Some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_words_and_numbers() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let cases: &[(&str, usize, Option<&[u8]>)] = &[
            ("1 0 0 0", 4, Some(&[1, 0, 0, 0])),
            ("0x01 0xff", 2, Some(&[1, 255])),
            ("hex 0a ff", 2, Some(&[10, 255])),
            ("7", 1, Some(&[7])),
            ("300", 1, None),
            ("1 2", 4, None),
            ("300 0", 2, None),
            ("x", 4, None),
            ("1", 6, None),
        ];
        for (text, size, want) in cases {
            let got = data(None, *size, &words(text));
            assert_eq!(got.as_deref().ok(), *want, "{text}: {got:?}");
        }
        assert_eq!(data(None, 4, &words("258")), Ok(258u32.to_ne_bytes().to_vec()));
    }

    #[test]
    fn keywords_split_the_words() {
        let words: Vec<String> = "key 1 2 value 3".split(' ').map(str::to_owned).collect();
        let mut rest = words.as_slice();
        assert_eq!(behind("key", "value", &mut rest).map(<[String]>::len), Some(2));
        assert_eq!(behind("key", "value", &mut rest), None);
        assert_eq!(behind("value", "", &mut rest).map(<[String]>::len), Some(1));
    }
}
