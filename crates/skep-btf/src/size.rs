//! Sizes, alignment, and the way through modifiers. All walks are bounded.

use std::collections::HashMap;

use crate::{Btf, Kind, SizeError, TypeId};

/// Typedefs, modifiers and arrays inside each other that are followed; more is taken for a cycle.
///
/// The kernel follows 32.
pub(crate) const MAX_DEPTH: usize = 32;

/// How compilers spell `long`, signed or not.
const LONG_NAMES: &[&str] = &[
    "long unsigned int",
    "unsigned long",
    "long",
    "long int",
    "int long",
    "long unsigned",
    "unsigned long int",
    "unsigned int long",
    "long int unsigned",
    "int unsigned long",
    "int long unsigned",
];

impl Btf {
    /// The type behind typedefs, `const`, `volatile`, `restrict` and type tags.
    ///
    /// # Errors
    ///
    /// [`SizeError::NoSuchType`]; [`SizeError::TooDeep`] for cycles.
    pub fn skip_mods(&self, id: TypeId) -> Result<TypeId, SizeError> {
        let mut at = id;
        // Each step is cheap and real typedefs nest deeper than arrays do.
        for _ in 0..MAX_DEPTH * 2 {
            let (_, raw) = self.raw(at).ok_or(SizeError::NoSuchType(at))?;
            at = match crate::KindTag::from_number(raw.kind()) {
                Some(tag) if tag.is_mod() => TypeId(raw.size_or_type),
                _ => return Ok(at),
            };
        }
        Err(SizeError::TooDeep(id))
    }

    /// Size of a value of this type in bytes.
    ///
    /// Pointers have 8, as BPF has; see [`Btf::pointer_size`].
    ///
    /// # Errors
    ///
    /// [`SizeError`] for `void`, functions, forward declarations, cycles, overflow.
    pub fn size_of(&self, id: TypeId) -> Result<u32, SizeError> {
        let mut at = id;
        let mut count: u32 = 1;
        for _ in 0..MAX_DEPTH {
            at = self.skip_mods(at)?;
            let ty = self.get(at).ok_or(SizeError::NoSuchType(at))?;
            let size = match ty.kind {
                Kind::Int(int) => int.size,
                Kind::Ptr(_) => self.pointer_size(),
                Kind::Struct(c) | Kind::Union(c) => c.size,
                Kind::Enum(e) | Kind::Enum64(e) => e.size,
                Kind::Float { size } => size,
                Kind::DataSec(sec) => sec.size,
                Kind::Var(var) => {
                    at = var.ty;
                    continue;
                }
                Kind::Array(array) => {
                    count = count.checked_mul(array.len).ok_or(SizeError::TooLarge(id))?;
                    at = array.element;
                    continue;
                }
                kind => return Err(SizeError::NoSize { id: at, kind: kind.tag() }),
            };
            return size.checked_mul(count).ok_or(SizeError::TooLarge(id));
        }
        Err(SizeError::TooDeep(id))
    }

    /// Alignment of a value of this type in bytes; 1 for packed structures.
    ///
    /// # Errors
    ///
    /// As [`Btf::size_of`].
    pub fn align_of(&self, id: TypeId) -> Result<u32, SizeError> {
        self.align_memo(id, MAX_DEPTH, &mut HashMap::new())
    }

    /// Alignment, remembered by type: a structure may hold the same one many times on many levels.
    pub(crate) fn align_memo(
        &self,
        id: TypeId,
        depth: usize,
        memo: &mut HashMap<TypeId, u32>,
    ) -> Result<u32, SizeError> {
        let depth = depth.checked_sub(1).ok_or(SizeError::TooDeep(id))?;
        let at = self.skip_mods(id)?;
        if let Some(&known) = memo.get(&at) {
            return Ok(known);
        }
        let align = self.align_of_kind(at, depth, memo)?;
        memo.insert(at, align);
        Ok(align)
    }

    fn align_of_kind(
        &self,
        at: TypeId,
        depth: usize,
        memo: &mut HashMap<TypeId, u32>,
    ) -> Result<u32, SizeError> {
        let ty = self.get(at).ok_or(SizeError::NoSuchType(at))?;
        Ok(match ty.kind {
            Kind::Int(int) => int.size.max(1),
            Kind::Ptr(_) => self.pointer_size(),
            Kind::Enum(e) | Kind::Enum64(e) => e.size.max(1),
            Kind::Float { size } => size.min(16),
            Kind::Array(array) => self.align_memo(array.element, depth, memo)?,
            Kind::Var(var) => self.align_memo(var.ty, depth, memo)?,
            Kind::Struct(c) | Kind::Union(c) => {
                let mut align = 1;
                for member in c.members.iter() {
                    let one = self.align_memo(member.ty, depth, memo)?;
                    // A member off its own alignment, or a size that is no multiple of it: packed.
                    if member.bitfield_size == 0
                        && (!member.bit_offset.is_multiple_of(one.saturating_mul(8))
                            || !c.size.is_multiple_of(one))
                    {
                        return Ok(1);
                    }
                    align = align.max(one);
                }
                if c.size.is_multiple_of(align) { align } else { 1 }
            }
            kind => return Err(SizeError::NoSize { id: at, kind: kind.tag() }),
        })
    }

    /// Size of a pointer in bytes.
    ///
    /// BTF does not say; what it has instead is the size of `long` on the machine it describes.
    pub fn pointer_size(&self) -> u32 {
        *self.inner.pointer_size.get_or_init(|| {
            LONG_NAMES
                .iter()
                .flat_map(|name| self.find(crate::KindTag::Int, name).next())
                .find_map(|id| match self.get(id)?.kind {
                    Kind::Int(int) if int.size == 4 || int.size == 8 => Some(int.size),
                    _ => None,
                })
                .unwrap_or(8)
        })
    }
}
