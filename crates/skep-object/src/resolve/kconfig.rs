//! `__kconfig` values: options of the kernel's configuration, and facts libbpf adds to them.

use skep_btf::{Btf, Kind, KindTag, TypeId};

use super::{ResolveError, Target};
use crate::spec::{ExternKind, MapOrigin, ObjectSpec};

/// Why a `__kconfig` value cannot be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KconfigProblem {
    /// The configuration does not set the option, and the extern is not weak.
    #[error("the configuration does not set it")]
    Unset,
    /// The configuration is not known, and the extern is not weak.
    #[error("the configuration is not known")]
    Unknown,
    /// Neither `CONFIG_` nor one of the facts that libbpf defines.
    #[error(
        "only CONFIG_ options and LINUX_KERNEL_VERSION, LINUX_HAS_BPF_COOKIE, \
             LINUX_HAS_SYSCALL_WRAPPER are known"
    )]
    NoSuchFact,
    /// The type is not one that a value can have.
    #[error("its type is none of bool, char, enum libbpf_tristate, integer, char array")]
    Type,
    /// The value is of another kind than the type.
    #[error("value {value} does not fit its type, {expected}")]
    Mismatch {
        /// The value as written.
        value: String,
        /// Kind of the type.
        expected: &'static str,
    },
    /// The number does not fit.
    #[error("value {value} does not fit {size} bytes")]
    Range {
        /// The value as written.
        value: String,
        /// Bytes of the type.
        size: u32,
    },
}

/// What a value is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Bool,
    Tristate,
    Char { signed: bool },
    Int { signed: bool },
    Text,
}

impl Shape {
    const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Tristate => "enum libbpf_tristate",
            Self::Char { .. } => "char",
            Self::Int { .. } => "integer",
            Self::Text => "char array",
        }
    }
}

/// Writes every `__kconfig` value into the `.kconfig` map.
pub(super) fn fill(spec: &mut ObjectSpec, target: &Target<'_>) -> Result<(), ResolveError> {
    let Some(btf) = spec.btf.clone() else { return Ok(()) };
    let map = spec.maps.iter_mut().find(|m| m.origin == MapOrigin::Kconfig);
    let Some(data) = map.and_then(|m| m.data.as_mut()) else { return Ok(()) };
    for wanted in &spec.externs {
        let ExternKind::Kconfig { offset, size } = wanted.kind else { continue };
        let fail = |problem| ResolveError::Kconfig { name: wanted.name.clone(), problem };
        let shape = wanted.type_id.and_then(|id| shape(&btf, id, 0));
        let shape = shape.ok_or_else(|| fail(KconfigProblem::Type))?;
        let bytes = match value(&wanted.name, target, wanted.weak).map_err(fail)? {
            Some(Value::Number(n)) => number(n, &n.to_string(), shape, size).map_err(fail)?,
            Some(Value::Option(text)) => option(text, shape, size).map_err(fail)?,
            None => vec![0; size as usize],
        };
        let place = data.get_mut(offset as usize..).and_then(|d| d.get_mut(..bytes.len()));
        place.expect("offsets were assigned within the map").copy_from_slice(&bytes);
    }
    Ok(())
}

enum Value<'a> {
    Number(i128),
    Option(&'a str),
}

/// The value of an option or fact; `None` for a weak one that is not there.
fn value<'a>(
    name: &str,
    target: &Target<'a>,
    weak: bool,
) -> Result<Option<Value<'a>>, KconfigProblem> {
    let fact = match name {
        "LINUX_KERNEL_VERSION" => Some(i128::from(target.kernel_version)),
        "LINUX_HAS_BPF_COOKIE" => Some(i128::from(target.has_bpf_cookie)),
        "LINUX_HAS_SYSCALL_WRAPPER" => Some(i128::from(target.has_syscall_wrapper)),
        _ => None,
    };
    if fact.is_some() {
        return Ok(fact.map(Value::Number));
    }
    let option = target.kconfig.and_then(|options| options.get(name));
    match (name.starts_with("CONFIG_"), option) {
        (true, Some(text)) => Ok(Some(Value::Option(text.as_str()))),
        (true, None) if weak => Ok(None),
        (true, None) if target.kconfig.is_none() => Err(KconfigProblem::Unknown),
        (true, None) => Err(KconfigProblem::Unset),
        (false, _) if weak && name.starts_with("LINUX_") => Ok(None),
        (false, _) => Err(KconfigProblem::NoSuchFact),
    }
}

/// How a type stores a value.
fn shape(btf: &Btf, id: TypeId, depth: u32) -> Option<Shape> {
    let id = btf.skip_mods(id).ok()?;
    let ty = btf.get(id)?;
    match ty.kind {
        Kind::Var(var) if depth == 0 => shape(btf, var.ty, 1),
        Kind::Int(int) if int.encoding.is_bool() => (int.size == 1).then_some(Shape::Bool),
        Kind::Int(int) => {
            let signed = int.encoding.is_signed();
            match int.size {
                1 => Some(Shape::Char { signed }),
                2 | 4 | 8 => Some(Shape::Int { signed }),
                _ => None,
            }
        }
        Kind::Enum(e) | Kind::Enum64(e) => {
            (ty.name == "libbpf_tristate" && e.size == 4).then_some(Shape::Tristate)
        }
        Kind::Array(array) if array.len > 0 && depth < 2 => {
            let element = btf.skip_mods(array.element).ok()?;
            let text = btf.kind_tag(element) == Some(KindTag::Int)
                && matches!(shape(btf, element, 2), Some(Shape::Char { .. }));
            text.then_some(Shape::Text)
        }
        _ => None,
    }
}

/// An option's value as the configuration writes it: `y`, `m`, `n`, `"text"`, a number.
fn option(text: &str, shape: Shape, size: u32) -> Result<Vec<u8>, KconfigProblem> {
    let mismatch = || KconfigProblem::Mismatch { value: text.to_owned(), expected: shape.name() };
    let letter = match text.as_bytes() {
        [letter @ (b'y' | b'm' | b'n'), ..] => Some(*letter),
        _ => None,
    };
    if let Some(letter) = letter {
        let tristate: u32 = match letter {
            b'n' => 0,
            b'y' => 1,
            _ => 2,
        };
        return match shape {
            Shape::Bool if letter != b'm' => Ok(vec![u8::from(letter == b'y')]),
            Shape::Char { .. } => Ok(vec![letter]),
            Shape::Tristate => Ok(tristate.to_le_bytes().to_vec()),
            _ => Err(mismatch()),
        };
    }
    if let Some(rest) = text.strip_prefix('"') {
        let inside = rest.strip_suffix('"').ok_or_else(mismatch)?;
        if shape != Shape::Text {
            return Err(mismatch());
        }
        // Cut so that a terminator stays, as libbpf does.
        let room = size as usize;
        let mut bytes = inside.as_bytes().to_vec();
        bytes.truncate(room.saturating_sub(1));
        bytes.resize(room, 0);
        return Ok(bytes);
    }
    if !matches!(shape, Shape::Int { .. } | Shape::Char { .. }) {
        return Err(mismatch());
    }
    let value = parse_number(text).ok_or_else(mismatch)?;
    number(value, text, shape, size)
}

/// A number as C writes it.
fn parse_number(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let value = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(hex), _) => u64::from_str_radix(hex, 16).ok()?,
        (None, Some(octal)) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok()?,
        _ => lower.parse().ok()?,
    };
    Some(if negative { -i128::from(value) } else { i128::from(value) })
}

fn number(value: i128, text: &str, shape: Shape, size: u32) -> Result<Vec<u8>, KconfigProblem> {
    let bits = size.saturating_mul(8);
    let fits = match shape {
        Shape::Bool => (0..=1).contains(&value),
        // Full 64-bit values are written either way.
        Shape::Int { .. } if bits == 64 => {
            (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&value)
        }
        Shape::Int { signed: true } | Shape::Char { signed: true } => {
            let half = 1_i128 << (bits - 1);
            (-half..half).contains(&value)
        }
        Shape::Int { signed: false } | Shape::Char { signed: false } => {
            (0..1_i128 << bits).contains(&value)
        }
        Shape::Tristate | Shape::Text => {
            let value = text.to_owned();
            return Err(KconfigProblem::Mismatch { value, expected: shape.name() });
        }
    };
    if !fits {
        return Err(KconfigProblem::Range { value: text.to_owned(), size });
    }
    let bytes = value.to_le_bytes();
    Ok(bytes.get(..size as usize).unwrap_or(&[]).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_bytes_by_type() {
        let int = |signed| Shape::Int { signed };
        let cases: &[(&str, Shape, u32, Option<&[u8]>)] = &[
            ("y", Shape::Bool, 1, Some(&[1])),
            ("n", Shape::Bool, 1, Some(&[0])),
            ("m", Shape::Bool, 1, None),
            ("m", Shape::Tristate, 4, Some(&[2, 0, 0, 0])),
            ("y", Shape::Tristate, 4, Some(&[1, 0, 0, 0])),
            ("m", Shape::Char { signed: true }, 1, Some(b"m")),
            ("y", int(false), 4, None),
            ("250", int(false), 4, Some(&[250, 0, 0, 0])),
            ("0xffffffff80000000", int(false), 8, Some(&[0, 0, 0, 0x80, 0xff, 0xff, 0xff, 0xff])),
            ("256", Shape::Char { signed: false }, 1, None),
            ("-1", int(true), 2, Some(&[0xff, 0xff])),
            ("32768", int(true), 2, None),
            ("32768", int(false), 2, Some(&[0, 0x80])),
            ("1", Shape::Bool, 1, None),
            ("12monkeys", int(false), 4, None),
            ("\"ab\"", Shape::Text, 4, Some(b"ab\0\0")),
            ("\"abcdef\"", Shape::Text, 4, Some(b"abc\0")),
            ("\"ab", Shape::Text, 4, None),
            ("\"ab\"", int(false), 4, None),
            ("", int(false), 4, None),
        ];
        for (text, shape, size, expected) in cases {
            let found = option(text, *shape, *size).ok();
            assert_eq!(found.as_deref(), *expected, "{text} as {shape:?}");
        }
    }
}
