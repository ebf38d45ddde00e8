//! The parsed form: the bytes, where each type starts, and indexes made when first needed.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use crate::{
    KindTag, Type, TypeId,
    file::File,
    index::{Indexes, essential_name},
    kind::{self, Word},
    raw::{self, Order, RawType, value},
};

/// Parsed BTF. Cheap to clone.
///
/// It keeps the bytes and where each type starts, and reads a type when asked for it.
#[derive(Clone)]
pub struct Btf {
    pub(crate) inner: Arc<Inner>,
}

/// What the clones of one [`Btf`] share.
pub(crate) struct Inner {
    /// Of a split BTF, what it continues.
    pub(crate) base: Option<Btf>,
    /// Number of the first type stored here; lower ones are the base's, or `void`.
    pub(crate) first_id: u32,
    /// Offset of the first string stored here; lower ones are the base's.
    pub(crate) first_string: u32,
    pub(crate) file: File,
    /// Where each type starts in the words of `file`, and where the last ends.
    pub(crate) starts: Box<[u32]>,
    /// Was the file big-endian?
    pub(crate) big_endian: bool,
    pub(crate) names: Indexes,
    pub(crate) pointer_size: OnceLock<u32>,
}

impl Btf {
    /// Number of types, the base's and `void` included: every valid [`TypeId`] is below it.
    #[allow(clippy::len_without_is_empty, reason = "void is always there")]
    pub fn len(&self) -> usize {
        self.inner.first_id as usize + self.inner.starts.len().saturating_sub(1)
    }

    /// What this split BTF continues.
    pub fn base(&self) -> Option<&Self> {
        self.inner.base.as_ref()
    }

    /// Number of the first type that is not the base's: 1 without a base.
    pub fn first_id(&self) -> TypeId {
        TypeId(self.inner.first_id)
    }

    /// Was the file written for a big-endian machine?
    ///
    /// Types and CO-RE read the same either way; only bytes of values differ.
    pub fn is_big_endian(&self) -> bool {
        self.inner.big_endian
    }

    /// All type numbers from 1 on, the base's first.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = TypeId> + use<> {
        (1..u32::try_from(self.len()).unwrap_or(u32::MAX)).map(TypeId)
    }

    /// The type with this number.
    pub fn get(&self, id: TypeId) -> Option<Type<'_>> {
        let (owner, raw) = self.raw(id)?;
        Some(kind::read(owner, raw))
    }

    /// Its kind alone, cheaper than [`Btf::get`].
    pub fn kind_tag(&self, id: TypeId) -> Option<KindTag> {
        KindTag::from_number(self.raw(id)?.1.kind())
    }

    /// Its name alone; empty when it has none.
    pub fn name(&self, id: TypeId) -> Option<&str> {
        let (owner, raw) = self.raw(id)?;
        Some(owner.name_at(raw.name_off))
    }

    /// The string at this offset of the string section, the base's strings first.
    pub fn string(&self, offset: u32) -> Option<&str> {
        let mut owner = self;
        while offset < owner.inner.first_string {
            owner = owner.inner.base.as_ref()?;
        }
        let at = offset.checked_sub(owner.inner.first_string)?;
        owner.inner.file.string(at as usize)
    }

    /// Is this the offset of a string? Cheaper than [`Btf::string`].
    pub(crate) fn has_string(&self, offset: u32) -> bool {
        let mut owner = self;
        while offset < owner.inner.first_string {
            match owner.inner.base.as_ref() {
                Some(base) => owner = base,
                None => return false,
            }
        }
        owner.inner.file.has_string((offset - owner.inner.first_string) as usize)
    }

    /// The types of this kind and name, in order, the base's first.
    ///
    /// The first call builds an index of names, of functions or of everything else.
    pub fn find<'a>(&'a self, kind: KindTag, name: &'a str) -> impl Iterator<Item = TypeId> + 'a {
        self.find_essential(kind, essential_name(name))
            .filter(move |&id| self.kind_tag(id) == Some(kind) && self.name(id) == Some(name))
    }

    /// The types of this name up to a `___flavor`, in order, the base's first.
    ///
    /// Among functions when `kind` is a function, else among all others: CO-RE takes some kinds for
    /// each other, but none for a function.
    pub fn find_essential<'a>(
        &'a self,
        kind: KindTag,
        name: &'a str,
    ) -> impl Iterator<Item = TypeId> + 'a {
        // At most one base below a module in practice; the depth is what the caller stacked.
        let mut layers: Vec<&Self> = std::iter::successors(Some(self), |b| b.base()).collect();
        layers.reverse();
        layers.into_iter().flat_map(move |layer| {
            layer.inner.names.of(kind, layer).candidates(name).filter(move |&id| {
                layer.name(id).is_some_and(|found| essential_name(found) == name)
            })
        })
    }

    /// The bytes of a `.BTF` section with these types and strings; a split BTF's own only.
    ///
    /// In the byte order of the file that was read, without what a longer header pointed to.
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = self.inner.file.words().iter().map(|&word| value(word));
        raw::section(words, self.own_strings(), self.order())
    }

    /// Bytes that the names of its own types, their members and parameters take when each is
    /// written once. `None` above `most`: names may overlap, and then each needs room of its own
    /// where types are copied.
    pub fn name_bytes(&self, most: usize) -> Option<usize> {
        let mut offsets = std::collections::HashSet::new();
        let mut total = 0_usize;
        let mut count = |offset: u32| {
            if offset != 0 && offsets.insert(offset) {
                total += self.string_bytes_at(offset).len() + 1;
            }
            (total <= most).then_some(())
        };
        for id in (self.first_id().0..).map(TypeId) {
            let Some((_, raw)) = self.raw(id) else { break };
            count(raw.name_off)?;
            let (own, each) = KindTag::from_number(raw.kind()).unwrap_or(KindTag::Void).payload();
            let roles = own.iter().chain(each.iter().cycle());
            for (&word, _) in raw.rest.iter().zip(roles).filter(|(_, role)| **role == Word::Name) {
                count(value(word))?;
            }
        }
        Some(total)
    }

    /// Byte order of the file.
    pub(crate) fn order(&self) -> Order {
        if self.inner.big_endian { Order::Big } else { Order::Little }
    }

    /// The bytes of this layer's string section.
    pub(crate) fn own_strings(&self) -> &[u8] {
        self.inner.file.strings()
    }

    /// The bytes of the string at this offset, which need not be text.
    pub(crate) fn string_bytes_at(&self, offset: u32) -> &[u8] {
        let mut owner = self;
        while let Some(base) = owner.base().filter(|_| offset < owner.inner.first_string) {
            owner = base;
        }
        let at = offset.saturating_sub(owner.inner.first_string) as usize;
        let tail = owner.own_strings().get(at..).unwrap_or_default();
        tail.split(|&b| b == 0).next().unwrap_or_default()
    }

    /// The layer that stores a type, and its words.
    pub(crate) fn raw(&self, id: TypeId) -> Option<(&Self, RawType<'_>)> {
        let mut owner = self;
        while id.0 < owner.inner.first_id {
            match owner.inner.base.as_ref() {
                Some(base) => owner = base,
                None => return (id.0 == 0).then_some((owner, RawType::VOID)),
            }
        }
        let at = (id.0 - owner.inner.first_id) as usize;
        let (&start, &end) = (owner.inner.starts.get(at)?, owner.inner.starts.get(at + 1)?);
        let words = owner.inner.file.words().get(start as usize..end as usize)?;
        let &[name, info, third, ref rest @ ..] = words else { return None };
        let (name_off, info, size_or_type) = (value(name), value(info), value(third));
        Some((owner, RawType { name_off, info, size_or_type, rest }))
    }

    /// A string that parsing has already found to exist.
    pub(crate) fn name_at(&self, offset: u32) -> &str {
        self.string(offset).unwrap_or("")
    }
}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf")
            .field("types", &self.len())
            .field("string_bytes", &self.own_strings().len())
            .field("base", &self.inner.base)
            .finish_non_exhaustive()
    }
}
