//! Bytes to a tree of values.

use super::Value;
use crate::{
    Array, Btf, Composite, Enum, Int, Kind, Member, SizeError, Type, TypeId, size::MAX_DEPTH,
};

/// Values in one tree; more is no value that anybody reads. What takes more room or time than
/// others counts as several: long names, long texts, values of large enumerations.
const MAX_VALUES: u32 = 1 << 20;
/// Bytes of a name or text that count as one value.
const BYTES: usize = 64;
/// Enumerators to look through that count as one value.
const ENUMERATORS: usize = 4;

/// Longer arrays of bytes (hardware addresses, IPv6 addresses, digests) are [`Value::Bytes`];
/// shorter ones, IPv4 addresses among them, are numbers.
const MAX_LISTED_BYTES: usize = 4;

/// Why bytes are no value of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The type has no size.
    #[error("the type has no size")]
    NoSize(#[from] SizeError),
    /// Fewer bytes than the type needs.
    #[error("type {id} needs {need} bytes at offset {offset}, there are {found}")]
    TooShort {
        /// The type.
        id: TypeId,
        /// Where it starts.
        offset: usize,
        /// Bytes it needs.
        need: usize,
        /// Bytes there are.
        found: usize,
    },
    /// A member whose bits cannot be where it says they are.
    #[error("a bitfield of {width} bits in type {id} is no number")]
    BadBitfield {
        /// The type of the bitfield.
        id: TypeId,
        /// Its width in bits.
        width: u8,
    },
    /// Structures and arrays inside each other, more than real types have.
    #[error("type {0} is nested too deeply")]
    TooDeep(TypeId),
    /// More values than anybody reads.
    #[error("the value has more than {MAX_VALUES} parts")]
    TooLarge,
}

/// Reads a value of this type from the start of `bytes`.
///
/// A flexible array at the end takes what is left. Bytes after the value are ignored.
///
/// # Errors
///
/// [`DecodeError`] when the bytes are too few or the type is not one of values.
pub fn decode(btf: &Btf, id: TypeId, bytes: &[u8]) -> Result<Value, DecodeError> {
    let size = btf.size_of(id)? as usize;
    if bytes.len() < size {
        return Err(DecodeError::TooShort { id, offset: 0, need: size, found: bytes.len() });
    }
    Decoder { btf, bytes, left: MAX_VALUES }.value(id, 0, MAX_DEPTH)
}

struct Decoder<'a> {
    btf: &'a Btf,
    bytes: &'a [u8],
    /// Values that may still be made.
    left: u32,
}

impl<'a> Decoder<'a> {
    /// Counts one value, and more for what comes with it.
    fn count(&mut self, extra: usize) -> Result<(), DecodeError> {
        let left = u32::try_from(extra).ok().and_then(|more| self.left.checked_sub(more));
        self.left = left.and_then(|left| left.checked_sub(1)).ok_or(DecodeError::TooLarge)?;
        Ok(())
    }

    fn value(&mut self, id: TypeId, at: usize, depth: usize) -> Result<Value, DecodeError> {
        self.count(0)?;
        let depth = depth.checked_sub(1).ok_or(DecodeError::TooDeep(id))?;
        let (id, ty) = self.stripped(id)?;
        match ty.kind {
            Kind::Int(int) => self.int(id, int, at),
            Kind::Enum(e) | Kind::Enum64(e) => {
                self.count(e.values.len() / ENUMERATORS)?;
                let raw = self.unsigned(id, at, e.size)?;
                Ok(enumerator(e, sign_extend(raw, e.size * 8, e.signed)))
            }
            Kind::Ptr(_) => {
                let raw = self.unsigned(id, at, self.btf.pointer_size())?;
                Ok(Value::Ptr(u64::try_from(raw).unwrap_or(u64::MAX)))
            }
            Kind::Float { size } => self.float(id, at, size),
            Kind::Array(array) => self.array(id, array, at, depth),
            Kind::Struct(c) | Kind::Union(c) => {
                let mut members = Vec::new();
                self.members((id, c), at, depth, &mut members)?;
                Ok(Value::Struct(members))
            }
            Kind::Var(var) => self.value(var.ty, at, depth),
            Kind::DataSec(sec) => {
                let mut vars = Vec::new();
                for var in sec.vars.iter() {
                    let name = self.btf.name(var.var).unwrap_or_default();
                    self.count(name.len() / BYTES)?;
                    let value =
                        self.value(var.var, at.saturating_add(var.offset as usize), depth)?;
                    vars.push((name.to_owned(), value));
                }
                Ok(Value::Struct(vars))
            }
            kind => Err(SizeError::NoSize { id, kind: kind.tag() }.into()),
        }
    }

    fn stripped(&self, id: TypeId) -> Result<(TypeId, Type<'a>), DecodeError> {
        let id = self.btf.skip_mods(id)?;
        Ok((id, self.btf.get(id).ok_or(SizeError::NoSuchType(id))?))
    }

    fn take(&self, id: TypeId, at: usize, size: usize) -> Result<&'a [u8], DecodeError> {
        let short =
            DecodeError::TooShort { id, offset: at, need: size, found: self.rest(at).len() };
        self.rest(at).get(..size).ok_or(short)
    }

    fn rest(&self, at: usize) -> &'a [u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    /// A number of up to 16 bytes.
    fn unsigned(&self, id: TypeId, at: usize, size: u32) -> Result<u128, DecodeError> {
        let bytes = self.take(id, at, size as usize)?;
        Ok(number(bytes, self.btf.is_big_endian()))
    }

    fn int(&self, id: TypeId, int: Int, at: usize) -> Result<Value, DecodeError> {
        let bytes = self.take(id, at, int.size as usize)?;
        let raw = number(bytes, self.btf.is_big_endian());
        let bits = u32::from(int.bits);
        // Old compilers describe bitfields by integers that use only some of their bits.
        let raw = keep_bits(raw.checked_shr(u32::from(int.bit_offset)).unwrap_or(0), bits);
        Ok(integer(int, raw, bits).unwrap_or_else(|| Value::Bytes(bytes.to_vec())))
    }

    fn float(&self, id: TypeId, at: usize, size: u32) -> Result<Value, DecodeError> {
        let bytes = self.take(id, at, size as usize)?;
        let raw = number(bytes, self.btf.is_big_endian());
        Ok(match (u32::try_from(raw), u64::try_from(raw), size) {
            (Ok(raw), _, 4) => Value::Float(f64::from(f32::from_bits(raw))),
            (_, Ok(raw), 8) => Value::Float(f64::from_bits(raw)),
            _ => Value::Bytes(bytes.to_vec()),
        })
    }

    fn array(
        &mut self,
        id: TypeId,
        array: Array,
        at: usize,
        depth: usize,
    ) -> Result<Value, DecodeError> {
        let size = self.btf.size_of(array.element)? as usize;
        // Without a length it is the flexible end of what is decoded.
        let room = self.rest(at).len().checked_div(size).unwrap_or(0);
        let count = if array.len == 0 { room } else { array.len as usize };
        if size > 0 && count > room {
            let need = count.saturating_mul(size);
            return Err(DecodeError::TooShort { id, offset: at, need, found: self.rest(at).len() });
        }
        if self.is_char(array.element)? {
            self.count(count / BYTES)?;
            return Ok(characters(self.take(id, at, count)?));
        }
        if count > MAX_LISTED_BYTES && self.is_byte(array.element)? {
            self.count(count / BYTES)?;
            return Ok(Value::Bytes(self.take(id, at, count)?.to_vec()));
        }
        // Not reserved beyond what there are bytes for: the length is not to be trusted.
        let mut items = Vec::new();
        for index in 0..count {
            items.push(self.value(array.element, at + index * size, depth)?);
        }
        Ok(Value::Array(items))
    }

    /// `char` itself; not `unsigned char`, which is how bytes are declared.
    fn is_char(&self, id: TypeId) -> Result<bool, DecodeError> {
        let (_, ty) = self.stripped(id)?;
        Ok(match ty.kind {
            Kind::Int(int) => int.size == 1 && (ty.name == "char" || int.encoding.is_char()),
            _ => false,
        })
    }

    /// A number of one unsigned byte.
    fn is_byte(&self, id: TypeId) -> Result<bool, DecodeError> {
        let (_, ty) = self.stripped(id)?;
        Ok(match ty.kind {
            Kind::Int(int) => int.size == 1 && !int.encoding.is_signed() && !int.encoding.is_bool(),
            _ => false,
        })
    }

    fn members(
        &mut self,
        (id, composite): (TypeId, Composite<'_>),
        at: usize,
        depth: usize,
        out: &mut Vec<(String, Value)>,
    ) -> Result<(), DecodeError> {
        let depth = depth.checked_sub(1).ok_or(DecodeError::TooDeep(id))?;
        for member in composite.members.iter() {
            let start = at.saturating_add(member.bit_offset as usize / 8);
            if member.name.is_empty() {
                // Anonymous: its members are reached as if they were here.
                self.count(0)?;
                let (id, ty) = self.stripped(member.ty)?;
                if let Kind::Struct(inner) | Kind::Union(inner) = ty.kind {
                    self.members((id, inner), start, depth, out)?;
                }
                continue;
            }
            self.count(member.name.len() / BYTES)?;
            let value = if member.bitfield_size > 0 {
                self.bitfield(member, at)?
            } else {
                self.value(member.ty, start, depth)?
            };
            out.push((member.name.to_owned(), value));
        }
        Ok(())
    }

    fn bitfield(&mut self, member: Member<'_>, at: usize) -> Result<Value, DecodeError> {
        self.count(0)?;
        let (id, ty) = self.stripped(member.ty)?;
        let bad = DecodeError::BadBitfield { id, width: member.bitfield_size };
        let width = u32::from(member.bitfield_size);
        let shift = member.bit_offset % 8;
        let bytes = (shift + width).div_ceil(8);
        if width > 64 {
            return Err(bad);
        }
        let start = at.saturating_add(member.bit_offset as usize / 8);
        let raw = self.unsigned(id, start, bytes)?;
        // Big-endian machines count bits from the most significant one.
        let down = if self.btf.is_big_endian() { bytes * 8 - shift - width } else { shift };
        let raw = keep_bits(raw >> down, width);
        match ty.kind {
            Kind::Int(int) => integer(int, raw, width).ok_or(bad),
            Kind::Enum(e) | Kind::Enum64(e) => {
                self.count(e.values.len() / ENUMERATORS)?;
                Ok(enumerator(e, sign_extend(raw, width, e.signed)))
            }
            _ => Err(bad),
        }
    }
}

/// A number of up to 16 bytes; of more, the first ones.
fn number(bytes: &[u8], big_endian: bool) -> u128 {
    let add = |n: u128, b: &u8| n << 8 | u128::from(*b);
    let bytes = bytes.get(..16).unwrap_or(bytes);
    if big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
}

fn keep_bits(raw: u128, bits: u32) -> u128 {
    1u128.checked_shl(bits).map_or(raw, |top| raw & (top - 1))
}

fn sign_extend(raw: u128, bits: u32, signed: bool) -> i128 {
    let unused = 128u32.saturating_sub(bits);
    let raw = raw.cast_signed();
    if signed { raw.checked_shl(unused).map_or(0, |top| top >> unused) } else { raw }
}

/// `None` for what no `i128` holds.
fn integer(int: Int, raw: u128, bits: u32) -> Option<Value> {
    Some(if int.encoding.is_bool() {
        Value::Bool(raw != 0)
    } else if int.encoding.is_signed() {
        Value::Int(sign_extend(raw, bits, true))
    } else {
        Value::Int(i128::try_from(raw).ok()?)
    })
}

fn enumerator(e: Enum<'_>, value: i128) -> Value {
    let name = e.values.iter().find(|v| v.number() == value).map(|v| v.name.to_owned());
    Value::Enum { name, value }
}

/// Text up to the first NUL when all of it can be shown, else the bytes.
fn characters(bytes: &[u8]) -> Value {
    let text = bytes.split(|&b| b == 0).next().unwrap_or_default();
    let printable = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    match std::str::from_utf8(text) {
        Ok(text) if text.chars().all(printable) => Value::Text(text.to_owned()),
        _ => Value::Bytes(bytes.to_vec()),
    }
}
