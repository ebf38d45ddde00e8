//! Where C would put members, and what it takes to have them where the BTF says.

use std::collections::HashMap;

use crate::{Btf, Composite, Kind, Member, TypeId, size::MAX_DEPTH};

/// How a structure or union has to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// With `__attribute__((packed))`.
    pub(super) packed: bool,
    /// Its alignment when written so, in bytes.
    pub(super) align: u32,
}

/// How types without end are written, for want of anything better.
const ENDLESS: Layout = Layout { packed: false, align: 1 };

/// Layouts, remembered by type.
#[derive(Debug)]
pub(super) struct Layouts<'a> {
    btf: &'a Btf,
    known: HashMap<TypeId, Layout>,
}

impl<'a> Layouts<'a> {
    pub(super) fn new(btf: &'a Btf) -> Self {
        Self { btf, known: HashMap::new() }
    }

    /// How to write this structure or union.
    pub(super) fn of(&mut self, id: TypeId) -> Layout {
        self.within(id, MAX_DEPTH).unwrap_or(ENDLESS)
    }

    /// Alignment of a member of this type, as the header has it.
    pub(super) fn align(&mut self, id: TypeId) -> u32 {
        self.align_within(id, MAX_DEPTH).unwrap_or(1)
    }

    fn align_within(&mut self, id: TypeId, depth: usize) -> Option<u32> {
        let mut at = self.btf.skip_mods(id).ok()?;
        for _ in 0..MAX_DEPTH {
            match self.btf.get(at)?.kind {
                Kind::Array(array) => at = self.btf.skip_mods(array.element).ok()?,
                Kind::Struct(_) | Kind::Union(_) => {
                    return self.within(at, depth.checked_sub(1)?).map(|layout| layout.align);
                }
                _ => return self.btf.align_of(at).ok(),
            }
        }
        None
    }

    fn within(&mut self, id: TypeId, depth: usize) -> Option<Layout> {
        if let Some(&known) = self.known.get(&id) {
            return Some(known);
        }
        let layout = match self.btf.get(id)?.kind {
            Kind::Struct(c) => self.decide(c, false, depth),
            Kind::Union(c) => self.decide(c, true, depth),
            _ => return None,
        };
        // Remembered too: asking again for each member would take the same walk again.
        let layout = layout.unwrap_or(ENDLESS);
        self.known.insert(id, layout);
        Some(layout)
    }

    /// Packed when some member is where C would not put it, or the size is no multiple of the
    /// alignment.
    fn decide(&mut self, composite: Composite<'_>, union: bool, depth: usize) -> Option<Layout> {
        let mut align = 1;
        let mut packed = false;
        let mut end = 0u64;
        for member in composite.members.iter() {
            let one = self.align_within(member.ty, depth)?;
            align = align.max(one);
            let at = u64::from(member.bit_offset);
            let width = self.width(member);
            if member.bitfield_size > 0 {
                packed |= at / self.unit(member) != (at + width - 1) / self.unit(member);
            } else {
                packed |= !at.is_multiple_of(u64::from(one) * 8);
            }
            if !union {
                packed |= at < end;
                end = at + width;
            }
        }
        packed |= !composite.size.is_multiple_of(align);
        Some(if packed { Layout { packed, align: 1 } } else { Layout { packed, align } })
    }

    /// Bits of the integer that a bitfield is cut from.
    fn unit(&self, member: Member<'_>) -> u64 {
        self.btf.size_of(member.ty).map_or(8, |size| u64::from(size.max(1)) * 8)
    }

    /// Bits that a member takes.
    pub(super) fn width(&self, member: Member<'_>) -> u64 {
        match member.bitfield_size {
            0 => self.btf.size_of(member.ty).map_or(0, |size| u64::from(size) * 8),
            bits => u64::from(bits),
        }
    }

    /// Where C puts a member that follows after bit `end`.
    pub(super) fn natural(&mut self, member: Member<'_>, end: u64, packed: bool) -> u64 {
        match (member.bitfield_size, packed) {
            (0, true) => end.next_multiple_of(8),
            (0, false) => end.next_multiple_of(u64::from(self.align(member.ty)) * 8),
            (_, true) => end,
            (bits, false) => {
                let unit = self.unit(member);
                let last = end + u64::from(bits) - 1;
                if end / unit == last / unit { end } else { end.next_multiple_of(unit) }
            }
        }
    }
}
