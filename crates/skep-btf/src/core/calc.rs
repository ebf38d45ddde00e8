//! The value that a relocation asks for, once the access is known in one BTF.

use super::spec::{Spec, Step};
use super::{Basis, CoreError, CoreKind, Width, spec};
use crate::{Btf, Encoding, Kind, Member, TypeId};

/// What one side, object or target, has to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Side {
    pub(super) value: u64,
    /// Must an instruction of the object hold this value?
    pub(super) validate: bool,
    /// Where loads and stores are relocated: size and type of what they access.
    access: Option<(u32, TypeId)>,
}

/// The value of an access that exists.
pub(super) fn value(btf: &Btf, spec: &Spec) -> Result<Side, CoreError> {
    match spec.kind.basis() {
        Basis::Field => field(btf, spec),
        Basis::Type => type_as_whole(btf, spec),
        Basis::Enumval => Ok(enumval(btf, spec)),
    }
}

/// The value of an access that does not exist; `None` when there is none.
pub(super) fn absent(kind: CoreKind) -> Option<Side> {
    match kind {
        CoreKind::FieldExists | CoreKind::EnumvalExists => Some(Side::default()),
        _ => (kind.basis() == Basis::Type).then(Side::default),
    }
}

/// What the sizes on both sides mean for a load or store.
pub(super) fn width(local: (&Btf, &Side), target: (&Btf, &Side)) -> Width {
    let (from, from_ty) = local.1.access.unwrap_or_default();
    let (to, to_ty) = target.1.access.unwrap_or_default();
    if from == to {
        return Width::Same;
    }
    let a = local.0.get(from_ty).map(|t| t.kind);
    let b = target.0.get(to_ty).map(|t| t.kind);
    match (a, b) {
        (Some(Kind::Ptr(_)), Some(Kind::Ptr(_))) => Width::Change { from, to },
        (Some(Kind::Int(a)), Some(Kind::Int(b)))
            if a.encoding != Encoding::SIGNED && b.encoding != Encoding::SIGNED =>
        {
            Width::Change { from, to }
        }
        _ => Width::Unsafe { from, to },
    }
}

fn size(btf: &Btf, spec: &Spec, id: TypeId) -> Result<u32, CoreError> {
    btf.size_of(id).map_err(|source| CoreError::Size { text: spec.text(btf), source })
}

/// Size of what a load of this type accesses: of arrays, one element.
fn access_size(btf: &Btf, spec: &Spec, id: TypeId) -> Result<u32, CoreError> {
    let mut at = btf.skip_mods(id)?;
    // As many dimensions as arrays may be nested.
    for _ in 0..crate::size::MAX_DEPTH {
        match btf.get(at).map(|t| t.kind) {
            Some(Kind::Array(array)) => at = btf.skip_mods(array.element)?,
            _ => return size(btf, spec, at),
        }
    }
    Err(CoreError::TooDeep)
}

fn field(btf: &Btf, spec: &Spec) -> Result<Side, CoreError> {
    if spec.kind == CoreKind::FieldExists {
        return Ok(Side { value: 1, validate: true, access: None });
    }
    let &last = spec.path.last().ok_or(CoreError::NoSuchType(spec.root))?;
    match spec::member(btf, last).filter(|_| last.named) {
        Some(member) => member_value(btf, spec, member),
        None => element(btf, spec, last),
    }
}

/// `a[n]`, or the root itself.
fn element(btf: &Btf, spec: &Spec, step: Step) -> Result<Side, CoreError> {
    let side = |value, access| Ok(Side { value, validate: true, access });
    match spec.kind {
        CoreKind::FieldByteOffset => {
            let size = access_size(btf, spec, step.ty)?;
            side(u64::from(spec.bit_offset / 8), Some((size, step.ty)))
        }
        CoreKind::FieldByteSize => side(u64::from(size(btf, spec, step.ty)?), None),
        kind => Err(CoreError::NotForElements { kind, text: spec.text(btf) }),
    }
}

fn member_value(btf: &Btf, spec: &Spec, member: Member<'_>) -> Result<Side, CoreError> {
    let ty = btf.skip_mods(member.ty)?;
    let bitfield = member.bitfield_size != 0;
    let word = if bitfield {
        bitfield_word(btf, spec, size(btf, spec, ty)?, u32::from(member.bitfield_size))?
    } else {
        let bytes = size(btf, spec, ty)?;
        // Sizes are 32 bits wide and shifts modulo that, as in libbpf; no shift is that large.
        let bits = bytes.wrapping_mul(8);
        LoadWord { offset: spec.bit_offset / 8, bytes, bits }
    };
    // Compilers choose the word that holds a bitfield in their own way.
    let side = |value| Side { value, validate: !bitfield, access: None };
    Ok(match spec.kind {
        CoreKind::FieldByteOffset if bitfield => side(u64::from(word.offset)),
        CoreKind::FieldByteOffset => {
            let access = Some((access_size(btf, spec, ty)?, ty));
            Side { access, ..side(u64::from(word.offset)) }
        }
        CoreKind::FieldByteSize => side(u64::from(word.bytes)),
        CoreKind::FieldSigned => {
            let signed = match btf.get(ty).map(|t| t.kind) {
                Some(Kind::Enum(e) | Kind::Enum64(e)) => e.signed,
                Some(Kind::Int(int)) => int.encoding.is_signed(),
                _ => false,
            };
            Side { validate: true, ..side(u64::from(signed)) }
        }
        CoreKind::FieldLshiftU64 => {
            let start = spec.bit_offset.wrapping_sub(word.offset.wrapping_mul(8));
            let shift = if btf.is_big_endian() {
                8u32.wrapping_sub(word.bytes).wrapping_mul(8).wrapping_add(start)
            } else {
                64u32.wrapping_sub(start.wrapping_add(word.bits))
            };
            side(u64::from(shift))
        }
        CoreKind::FieldRshiftU64 => {
            Side { validate: true, ..side(u64::from(64u32.wrapping_sub(word.bits))) }
        }
        kind => return Err(CoreError::NotForElements { kind, text: spec.text(btf) }),
    })
}

/// The load that gets a field.
struct LoadWord {
    /// Byte offset of the load.
    offset: u32,
    /// Width of the load.
    bytes: u32,
    /// Width of the field.
    bits: u32,
}

/// The smallest aligned word, at least as wide as the declared type, that has all bits.
fn bitfield_word(btf: &Btf, spec: &Spec, declared: u32, bits: u32) -> Result<LoadWord, CoreError> {
    let too_wide = || CoreError::BitfieldTooWide(spec.text(btf));
    let start = u64::from(spec.bit_offset);
    let mut bytes = declared;
    loop {
        let offset = (spec.bit_offset / 8).checked_div(bytes).ok_or_else(too_wide)? * bytes;
        if start + u64::from(bits) - u64::from(offset) * 8 <= u64::from(bytes) * 8 {
            return Ok(LoadWord { offset, bytes, bits });
        }
        if bytes >= 8 {
            return Err(too_wide());
        }
        bytes *= 2;
    }
}

fn type_as_whole(btf: &Btf, spec: &Spec) -> Result<Side, CoreError> {
    let value = match spec.kind {
        // Linkers renumber types, so the instruction need not hold the number.
        CoreKind::TypeIdTarget | CoreKind::TypeIdLocal => {
            return Ok(Side { value: u64::from(spec.root.0), validate: false, access: None });
        }
        CoreKind::TypeSize => u64::from(size(btf, spec, spec.root)?),
        _ => 1,
    };
    Ok(Side { value, validate: true, access: None })
}

fn enumval(btf: &Btf, spec: &Spec) -> Side {
    let value = match spec.kind {
        CoreKind::EnumvalExists => 1,
        _ => {
            let step = spec.path.first().copied();
            step.map_or(0, |step| enumerator_value(btf, step))
        }
    };
    Side { value, validate: true, access: None }
}

/// The value as libbpf sees it: 32-bit ones extended by their sign, whatever the enumeration says.
fn enumerator_value(btf: &Btf, step: Step) -> u64 {
    let Some(value) = spec::enumerator(btf, step) else { return 0 };
    match btf.get(step.ty).map(|t| t.kind) {
        Some(Kind::Enum(_)) => {
            let [.., b3, b2, b1, b0] = value.value.to_be_bytes();
            i64::from(i32::from_be_bytes([b3, b2, b1, b0])).cast_unsigned()
        }
        _ => value.value,
    }
}
