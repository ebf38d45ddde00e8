//! Text to the bytes of a value, for variables and map entries given on a command line.

use crate::{Array, Btf, Enum, Int, Kind, SizeError, Type, TypeId, size::MAX_DEPTH};

/// Largest value that is made from text, in bytes.
const MAX_BYTES: usize = 1 << 24;

/// Why text is no value of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The type has no size.
    #[error("the type has no size")]
    NoSize(#[from] SizeError),
    /// Not a number, boolean or text as the type wants it.
    #[error("\"{text}\" is no {want}")]
    BadText {
        /// The text.
        text: String,
        /// What the type wants.
        want: String,
    },
    /// The number does not fit.
    #[error("{text} does not fit in {bits} bits{}", if *signed { " with sign" } else { "" })]
    OutOfRange {
        /// The number.
        text: String,
        /// Bits of the type.
        bits: u32,
        /// Is the type signed?
        signed: bool,
    },
    /// Too many elements, or text and its NUL are longer than the array.
    #[error("\"{text}\" is {found} long, there is room for {room}")]
    TooLong {
        /// The text.
        text: String,
        /// Its length: elements, or bytes with the NUL.
        found: usize,
        /// What the array has.
        room: usize,
    },
    /// Hexadecimal bytes of another size than the type.
    #[error("{found} bytes given, the type has {need}")]
    WrongSize {
        /// Bytes given.
        found: usize,
        /// Bytes of the type.
        need: usize,
    },
    /// A structure or union, which can only be given in hexadecimal.
    #[error("a {kind} can only be given as hexadecimal bytes, hex:0011...")]
    OnlyHex {
        /// Its kind.
        kind: crate::KindTag,
    },
    /// Larger than any variable.
    #[error("the type is larger than {MAX_BYTES} bytes")]
    TooLarge,
}

/// The bytes of a value of this type, in the byte order of `btf`.
///
/// Integers are decimal, `0x` hexadecimal or `0b` binary, `'c'` for a character; booleans `true`,
/// `false` or a number; enumerations by name or number; arrays of `char` are the text itself, with
/// or without quotes; other arrays are elements with commas between, `[1, 2]` or without brackets,
/// the rest is zero. Anything can be given as `hex:` and all its bytes.
///
/// # Errors
///
/// [`EncodeError`] when the text is not such a value.
pub fn encode(btf: &Btf, id: TypeId, text: &str) -> Result<Vec<u8>, EncodeError> {
    let size = btf.size_of(id)? as usize;
    if size > MAX_BYTES {
        return Err(EncodeError::TooLarge);
    }
    let trimmed = text.trim();
    if let Some(hex) = trimmed.strip_prefix("hex:") {
        return hex_bytes(hex, size);
    }
    Encoder { btf }.value(id, text, MAX_DEPTH)
}

struct Encoder<'a> {
    btf: &'a Btf,
}

impl<'a> Encoder<'a> {
    fn value(&self, id: TypeId, text: &str, depth: usize) -> Result<Vec<u8>, EncodeError> {
        let depth = depth.checked_sub(1).ok_or(SizeError::TooDeep(id))?;
        let ty = self.stripped(id)?;
        match ty.kind {
            Kind::Int(int) => self.int(int, text.trim()),
            Kind::Enum(e) | Kind::Enum64(e) => self.enumeration(ty.name, e, text.trim()),
            Kind::Ptr(_) => {
                let bits = self.btf.pointer_size() * 8;
                self.number(number(text.trim(), "address")?, bits, false, text)
            }
            Kind::Float { size } => self.float(size, text.trim()),
            Kind::Array(array) => self.array(array, text, depth),
            Kind::Var(var) => self.value(var.ty, text, depth),
            kind => Err(EncodeError::OnlyHex { kind: kind.tag() }),
        }
    }

    fn stripped(&self, id: TypeId) -> Result<Type<'a>, EncodeError> {
        let id = self.btf.skip_mods(id)?;
        Ok(self.btf.get(id).ok_or(SizeError::NoSuchType(id))?)
    }

    fn int(&self, int: Int, text: &str) -> Result<Vec<u8>, EncodeError> {
        let value = match text {
            "true" if int.encoding.is_bool() => 1,
            "false" if int.encoding.is_bool() => 0,
            _ if int.encoding.is_bool() => i128::from(number(text, "boolean")? != 0),
            _ => number(text, "number")?,
        };
        self.number(value, int.size * 8, int.encoding.is_signed(), text)
    }

    fn enumeration(&self, name: &str, e: Enum<'_>, text: &str) -> Result<Vec<u8>, EncodeError> {
        let named = e.values.iter().find(|v| v.name == text).map(|v| v.number());
        let value = match named {
            Some(value) => value,
            None => number(text, &format!("value of enum {name}"))?,
        };
        self.number(value, e.size * 8, e.signed, text)
    }

    /// A number that has to fit; characters may be given signed or not.
    fn number(
        &self,
        value: i128,
        bits: u32,
        signed: bool,
        text: &str,
    ) -> Result<Vec<u8>, EncodeError> {
        let (min, max) = match bits {
            128.. => (i128::MIN, i128::MAX),
            // An enumeration that is only declared, or Rust's unit.
            0 => (0, 0),
            // The sign of `char` differs between machines.
            8 if signed => (-128, 255),
            _ if signed => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
            _ => (0, (1i128 << bits) - 1),
        };
        if value < min || value > max {
            return Err(EncodeError::OutOfRange { text: text.to_owned(), bits, signed });
        }
        let len = (bits / 8) as usize;
        Ok(self.ordered(value.to_le_bytes().into_iter().take(len).collect()))
    }

    fn float(&self, size: u32, text: &str) -> Result<Vec<u8>, EncodeError> {
        let want = || EncodeError::BadText { text: text.to_owned(), want: "number".to_owned() };
        Ok(self.ordered(match size {
            4 => text.parse::<f32>().map_err(|_| want())?.to_le_bytes().to_vec(),
            8 => text.parse::<f64>().map_err(|_| want())?.to_le_bytes().to_vec(),
            _ => return Err(EncodeError::OnlyHex { kind: crate::KindTag::Float }),
        }))
    }

    fn ordered(&self, mut little: Vec<u8>) -> Vec<u8> {
        if self.btf.is_big_endian() {
            little.reverse();
        }
        little
    }

    fn array(&self, array: Array, text: &str, depth: usize) -> Result<Vec<u8>, EncodeError> {
        let element = self.stripped(array.element)?;
        let (size, room) = (self.btf.size_of(array.element)? as usize, array.len as usize);
        let is_char = matches!(element.kind, Kind::Int(int) if int.size == 1
            && (element.name == "char" || int.encoding.is_char()));
        let mut out = Vec::new();
        if is_char {
            let unquoted = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
            let bytes = unquoted.unwrap_or(text).as_bytes();
            // Programs expect a NUL at the end.
            if bytes.len() >= room {
                let found = bytes.len() + 1;
                return Err(EncodeError::TooLong { text: text.to_owned(), found, room });
            }
            out.extend(bytes);
        } else {
            let trimmed = text.trim();
            let inner = trimmed.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
            let inner = inner.unwrap_or(trimmed).trim();
            let items: Vec<&str> =
                if inner.is_empty() { Vec::new() } else { inner.split(',').collect() };
            if items.len() > room {
                let found = items.len();
                return Err(EncodeError::TooLong { text: text.to_owned(), found, room });
            }
            for item in items {
                out.extend(self.value(array.element, item, depth)?);
            }
        }
        let all = size.checked_mul(room).filter(|&all| all <= MAX_BYTES);
        out.resize(all.ok_or(EncodeError::TooLarge)?, 0);
        Ok(out)
    }
}

/// Decimal, hexadecimal, binary, or a character in quotes.
fn number(text: &str, want: &str) -> Result<i128, EncodeError> {
    let bad = || EncodeError::BadText { text: text.to_owned(), want: want.to_owned() };
    let quoted = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
    if let Some(quoted) = quoted {
        let mut chars = quoted.chars();
        return match (chars.next(), chars.next()) {
            (Some(c), None) => Ok(i128::from(u32::from(c))),
            _ => Err(bad()),
        };
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = if let Some(hex) = lower.strip_prefix("0x") {
        (hex, 16)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (binary, 2)
    } else {
        (lower.as_str(), 10)
    };
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return Err(bad());
    }
    let value = i128::from_str_radix(digits, radix).map_err(|_| bad())?;
    Ok(if negative { -value } else { value })
}

fn hex_bytes(hex: &str, need: usize) -> Result<Vec<u8>, EncodeError> {
    let bad = || EncodeError::BadText {
        text: hex.to_owned(),
        want: "pairs of hexadecimal digits".to_owned(),
    };
    let digits: Option<Vec<u8>> = hex
        .chars()
        .filter(|c| !c.is_whitespace() && *c != '_')
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits.filter(|d| d.len().is_multiple_of(2)).ok_or_else(bad)?;
    let (pairs, _) = digits.as_chunks::<2>();
    if pairs.len() != need {
        return Err(EncodeError::WrongSize { found: pairs.len(), need });
    }
    Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
