//! Decoded values as text and as JSON.

use std::fmt;

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use skep::btf::value::Value;

/// A decoded value that prints.
///
/// In text a structure is `packets=3 bytes=180` at the top and `{a=1 b=2}` inside, an array
/// `[1 2]`. In JSON a structure is an object, an enumerator its name, a pointer and raw bytes are
/// strings of hex digits.
#[derive(Clone, Debug, PartialEq)]
pub struct Show(pub Value);

impl Show {
    /// Bytes without a type: a number, where they are as many as a number has; else raw.
    pub fn untyped(bytes: &[u8]) -> Self {
        let number = match *bytes {
            [a] => Some(u64::from(a)),
            [a, b] => Some(u16::from_ne_bytes([a, b]).into()),
            [a, b, c, d] => Some(u32::from_ne_bytes([a, b, c, d]).into()),
            [a, b, c, d, e, f, g, h] => Some(u64::from_ne_bytes([a, b, c, d, e, f, g, h])),
            _ => None,
        };
        Self(number.map_or_else(|| Value::Bytes(bytes.to_vec()), |n| Value::Int(n.into())))
    }

    /// Named values as a structure.
    pub fn fields(fields: impl Iterator<Item = (String, Self)>) -> Self {
        Self(Value::Struct(fields.map(|(name, value)| (name, value.0)).collect()))
    }

    /// The members of a structure as rows of text.
    pub fn rows(&self) -> Vec<(String, String)> {
        let Value::Struct(fields) = &self.0 else { return Vec::new() };
        fields.iter().map(|(name, value)| (name.clone(), Self(value.clone()).to_string())).collect()
    }

    /// What keys are sorted by: numbers as numbers, texts as texts, the rest by its bytes as shown.
    pub fn order(&self) -> (i128, String) {
        match &self.0 {
            Value::Int(n) | Value::Enum { value: n, .. } => (*n, String::new()),
            other => (0, Self(other.clone()).to_string()),
        }
    }
}

/// The values of all CPUs in one: numbers added, member by member. What is no number is that of the
/// first CPU which has one.
pub fn sum(values: &[Show]) -> Option<Show> {
    let (first, rest) = values.split_first()?;
    Some(Show(rest.iter().fold(first.0.clone(), |total, next| add(total, &next.0))))
}

fn add(total: Value, next: &Value) -> Value {
    match (total, next) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.saturating_add(*b)),
        (Value::Float(a), Value::Float(b)) => Value::Float(a + b),
        (Value::Struct(a), Value::Struct(b)) => Value::Struct(
            a.into_iter().zip(b).map(|((name, a), (_, b))| (name, add(a, b))).collect(),
        ),
        (Value::Array(a), Value::Array(b)) => {
            Value::Array(a.into_iter().zip(b).map(|(a, b)| add(a, b)).collect())
        }
        (Value::Text(a), Value::Text(b)) if a.is_empty() => Value::Text(b.clone()),
        (total, _) => total,
    }
}

impl fmt::Display for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::Struct(fields) => write_fields(f, fields),
            other => write_value(f, other),
        }
    }
}

fn write_fields(f: &mut fmt::Formatter<'_>, fields: &[(String, Value)]) -> fmt::Result {
    for (i, (name, value)) in fields.iter().enumerate() {
        let gap = if i == 0 { "" } else { " " };
        write!(f, "{gap}{name}=")?;
        write_value(f, value)?;
    }
    Ok(())
}

fn write_value(f: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Struct(fields) => {
            f.write_str("{")?;
            write_fields(f, fields)?;
            f.write_str("}")
        }
        Value::Array(items) => {
            f.write_str("[")?;
            for (i, item) in items.iter().enumerate() {
                f.write_str(if i == 0 { "" } else { " " })?;
                write_value(f, item)?;
            }
            f.write_str("]")
        }
        Value::Int(n) => write!(f, "{n}"),
        Value::Bool(b) => write!(f, "{b}"),
        Value::Float(x) => write!(f, "{x}"),
        Value::Enum { name: Some(name), .. } => f.write_str(name),
        Value::Enum { name: None, value } => write!(f, "{value}"),
        Value::Text(text) => write!(f, "{text:?}"),
        Value::Ptr(address) => write!(f, "{address:#x}"),
        Value::Bytes(bytes) => f.write_str(&hex(bytes)),
    }
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Serialize for Show {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Json(&self.0).serialize(s)
    }
}

struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Struct(fields) => {
                let mut map = s.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, &Json(value))?;
                }
                map.end()
            }
            Value::Array(items) => {
                let mut seq = s.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| seq.serialize_element(&Json(item)))?;
                seq.end()
            }
            Value::Int(n) => n.serialize(s),
            Value::Bool(b) => b.serialize(s),
            Value::Float(x) => x.serialize(s),
            Value::Enum { name: Some(name), .. } => name.serialize(s),
            Value::Enum { name: None, value } => value.serialize(s),
            Value::Text(text) => text.serialize(s),
            Value::Ptr(address) => format!("{address:#x}").serialize(s),
            Value::Bytes(bytes) => hex(bytes).serialize(s),
        }
    }
}

/// `1 program`, `2 programs`.
pub fn counted(n: usize, what: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {what}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(packets: i128, name: &str) -> Show {
        let fields = [
            ("packets".into(), Value::Int(packets)),
            ("name".into(), Value::Text(name.into())),
            ("last".into(), Value::Array(vec![Value::Int(1), Value::Int(packets)])),
        ];
        Show(Value::Struct(fields.into()))
    }

    #[test]
    fn text_and_json() {
        let value = Show(Value::Struct(vec![
            ("a".into(), counter(1, "x \"y\"").0),
            ("state".into(), Value::Enum { name: Some("RUNNING".into()), value: 1 }),
            ("raw".into(), Value::Bytes(vec![0, 255])),
            ("at".into(), Value::Ptr(4096)),
        ]));
        assert_eq!(
            value.to_string(),
            r#"a={packets=1 name="x \"y\"" last=[1 1]} state=RUNNING raw=00ff at=0x1000"#
        );
        assert_eq!(
            serde_json::to_string(&value).unwrap(),
            r#"{"a":{"packets":1,"name":"x \"y\"","last":[1,1]},"state":"RUNNING","raw":"00ff","at":"0x1000"}"#
        );
    }

    #[test]
    fn cpus_are_summed_member_by_member() {
        let total = sum(&[counter(1, ""), counter(2, "b"), counter(3, "c")]).unwrap();
        assert_eq!(total.to_string(), r#"packets=6 name="b" last=[3 6]"#);
        assert_eq!(sum(&[]), None);
    }

    #[test]
    fn bytes_without_type_are_numbers_where_the_size_allows() {
        assert_eq!(Show::untyped(&7u32.to_ne_bytes()).to_string(), "7");
        assert_eq!(Show::untyped(&[1, 2, 3]).to_string(), "010203");
    }
}
