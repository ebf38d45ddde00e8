//! From untrusted bytes to [`Btf`]: one linear pass that leaves nothing to check later.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{Arc, OnceLock},
};

use crate::{
    Btf, BtfError, KindTag, TypeId,
    btf::Inner,
    file::File,
    index::Indexes,
    kind::Word,
    raw::{self, Bytes4, HEADER_LEN, MAX_NAME, Order, TYPE_WORDS, info_kind, info_vlen, value},
};

impl Btf {
    /// Reads a `.BTF` section, an object's or the kernel's.
    ///
    /// # Errors
    ///
    /// [`BtfError`] with the place where the bytes stop being BTF.
    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        parse(bytes.to_vec().into(), None)
    }

    /// As [`Btf::parse`], without a copy of bytes that stay: a vector, or a mapping that the process
    /// keeps to its end.
    ///
    /// # Errors
    ///
    /// As [`Btf::parse`].
    pub fn parse_owned(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, BtfError> {
        parse(bytes.into(), None)
    }

    /// Reads a split `.BTF` that continues `base`, such as a kernel module's.
    ///
    /// # Errors
    ///
    /// As [`Btf::parse`].
    pub fn parse_split(bytes: &[u8], base: &Self) -> Result<Self, BtfError> {
        parse(bytes.to_vec().into(), Some(base))
    }

    /// Is this the offset of a string that is short enough for a name?
    fn has_name(&self, offset: u32) -> bool {
        self.string(offset).is_some_and(|name| name.len() <= MAX_NAME)
    }

    /// End of the string offsets: a split BTF on this one continues from here.
    pub(crate) fn string_end(&self) -> u32 {
        let own = u32::try_from(self.own_strings().len()).unwrap_or(u32::MAX);
        self.inner.first_string.saturating_add(own)
    }
}

/// Where the parts are, in bytes from the start of the file.
struct Parts {
    order: Order,
    types: Range<usize>,
    strings: Range<usize>,
}

fn split_parts(bytes: &[u8]) -> Result<Parts, BtfError> {
    const SECTION: &str = ".BTF";
    let truncated = BtfError::HeaderTruncated {
        section: SECTION,
        need: HEADER_LEN as usize,
        found: bytes.len(),
    };
    let &[m0, m1, version, _flags, ..] = bytes else { return Err(truncated) };
    let order = Order::of_magic([m0, m1])
        .ok_or(BtfError::BadMagic { section: SECTION, found: u16::from_le_bytes([m0, m1]) })?;
    if version != raw::VERSION {
        return Err(BtfError::BadVersion { section: SECTION, found: version });
    }
    let field = |at| order.word_at(bytes, at).ok_or_else(|| truncated.clone());
    let header = field(4)?;
    let (type_off, type_len, str_off, str_len) = (field(8)?, field(12)?, field(16)?, field(20)?);
    // A longer header has fields added later (the layout of kinds); none changes these parts.
    if header < HEADER_LEN || header as usize > bytes.len() {
        return Err(BtfError::BadHeaderLen {
            section: SECTION,
            found: header,
            min: HEADER_LEN,
            max: bytes.len(),
        });
    }
    let part = |part, off: u32, len: u32| {
        let start = u64::from(header) + u64::from(off);
        let end = start + u64::from(len);
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let range = range.map(|(start, end)| start..end).filter(|range| range.end <= bytes.len());
        range.ok_or(BtfError::PartOutside { part, start, end, len: bytes.len() })
    };
    let types = part("type section", type_off, type_len)?;
    let strings = part("string section", str_off, str_len)?;
    // Only positions relative to the section matter, and its words are read one by one.
    if !type_off.is_multiple_of(4) || !type_len.is_multiple_of(4) {
        return Err(BtfError::PartMisaligned {
            part: "type section",
            start: types.start as u64,
            len: u64::from(type_len),
        });
    }
    Ok(Parts { order, types, strings })
}

fn parse(mut bytes: Cow<'static, [u8]>, base: Option<&Btf>) -> Result<Btf, BtfError> {
    let parts = split_parts(&bytes)?;
    let big_endian = parts.order == Order::Big;
    if base.is_some_and(|b| b.inner.big_endian != big_endian) {
        return Err(BtfError::MixedByteOrder);
    }
    check_ends(bytes.get(parts.strings.clone()), parts.strings.start, base.is_some())?;
    if parts.order != Order::NATIVE
        && let Some(types) = bytes.to_mut().get_mut(parts.types.clone())
    {
        types.as_chunks_mut::<4>().0.iter_mut().for_each(|word| word.reverse());
    }
    let types_at = parts.types.start as u64;
    let first_id = base.map_or(Ok(1), |b| u32::try_from(b.len()));
    let mut inner = Inner {
        base: base.cloned(),
        first_id: first_id.map_err(|_| BtfError::TooManyTypes)?,
        first_string: base.map_or(0, Btf::string_end),
        file: File::new(bytes, parts.types, parts.strings),
        starts: Box::default(),
        big_endian,
        names: Indexes::default(),
        pointer_size: OnceLock::new(),
    };
    inner.starts = Scan::new(&inner, types_at).run()?.into_boxed_slice();
    Ok(Btf { inner: Arc::new(inner) })
}

/// Does the string section begin with the empty string, and does its last one end?
fn check_ends(strings: Option<&[u8]>, at: usize, split: bool) -> Result<(), BtfError> {
    let strings = strings.unwrap_or_default();
    // A split BTF may have no strings of its own, or start in the middle of the numbering.
    let starts_well = split || strings.first() == Some(&0);
    if starts_well && strings.last() == Some(&0) || split && strings.is_empty() {
        return Ok(());
    }
    Err(BtfError::BadStrings { offset: at as u64 })
}

/// Is some string longer than a name may be? Looks at few bytes: from each string end as far ahead
/// as a name may reach, then back to the nearest end.
fn has_long_string(strings: &[u8]) -> bool {
    let mut rest = strings;
    while rest.len() > MAX_NAME {
        let (window, _) = rest.split_at_checked(MAX_NAME + 1).unwrap_or((rest, &[]));
        match window.iter().rposition(|&b| b == 0) {
            Some(end) => rest = rest.get(end + 1..).unwrap_or_default(),
            None => return true,
        }
    }
    false
}

/// One pass over the words of the type section.
struct Scan<'a> {
    inner: &'a Inner,
    /// Where the type section starts in the file, for errors.
    types_at: u64,
    /// Bytes of strings.
    strings: usize,
    /// Every offset in the strings is that of a name: all ASCII, none too long.
    plain_strings: bool,
    /// The highest type number referred to, and the word in which: types may refer forwards, so
    /// this is compared when the count is known.
    highest_ref: (u32, TypeId, u64),
}

impl<'a> Scan<'a> {
    fn new(inner: &'a Inner, types_at: u64) -> Self {
        let strings = inner.file.strings();
        let plain_strings = strings.is_ascii() && !has_long_string(strings);
        let strings = strings.len();
        Self { inner, types_at, strings, plain_strings, highest_ref: (0, TypeId::VOID, 0) }
    }

    fn run(mut self) -> Result<Vec<u32>, BtfError> {
        let inner = self.inner;
        let words = inner.file.words();
        // Kernels have six words per type. Room that is not used costs no memory.
        let mut starts = Vec::with_capacity(words.len() / 5 + 1);
        let mut at = 0usize;
        let mut next_id = self.inner.first_id;
        while at < words.len() {
            starts.push(u32::try_from(at).map_err(|_| BtfError::TooManyTypes)?);
            at += self.one(TypeId(next_id), at, words.get(at..).unwrap_or_default())?;
            next_id = next_id.checked_add(1).ok_or(BtfError::TooManyTypes)?;
        }
        starts.push(u32::try_from(at).map_err(|_| BtfError::TooManyTypes)?);
        let (target, id, offset) = self.highest_ref;
        if target >= next_id {
            return Err(BtfError::BadTypeRef { id, offset, target, count: next_id });
        }
        Ok(starts)
    }

    /// Validates the type at word `at`, where `rest` begins; returns how many words it has.
    fn one(&mut self, id: TypeId, at: usize, rest: &[Bytes4]) -> Result<usize, BtfError> {
        let place = Place { id, offset: self.types_at + at as u64 * 4 };
        let truncated = |need: usize| BtfError::TypeTruncated {
            id,
            offset: place.offset,
            need: need as u64 * 4,
            found: rest.len() as u64 * 4,
        };
        let &[name, info, third, ref rest_words @ ..] = rest else {
            return Err(truncated(TYPE_WORDS));
        };
        let (name, info, third) = (value(name), value(info), value(third));
        let tag = match KindTag::from_number(info_kind(info)) {
            Some(tag) if tag != KindTag::Void => tag,
            _ => {
                let (offset, kind) = (place.offset, info_kind(info));
                return Err(BtfError::UnknownKind { id, offset, kind });
            }
        };
        self.role(Word::Name, name, place)?;
        self.role(tag.third(), third, place)?;
        let (own, each) = tag.payload();
        let vlen = info_vlen(info);
        let count = if each.is_empty() { 0 } else { vlen as usize };
        // At most 3 * 2^24 words: no overflow.
        let payload = own.len() + each.len() * count;
        let payload_words = rest_words.get(..payload);
        let payload_words = payload_words.ok_or_else(|| truncated(TYPE_WORDS + payload))?;
        let (head, elements) = payload_words.split_at_checked(own.len()).unwrap_or_default();
        for (&role, &word) in own.iter().zip(head) {
            self.role(role, value(word), place)?;
        }
        // The two shapes of elements, so that neither asks for its length in the loop.
        match *each {
            [a, b] => {
                for &[x, y] in elements.as_chunks::<2>().0 {
                    self.role(a, value(x), place)?;
                    self.role(b, value(y), place)?;
                }
            }
            [a, b, c] => {
                for &[x, y, z] in elements.as_chunks::<3>().0 {
                    self.role(a, value(x), place)?;
                    self.role(b, value(y), place)?;
                    self.role(c, value(z), place)?;
                }
            }
            // Functions keep their linkage where others have a number of elements.
            _ if vlen != 0 && tag != KindTag::Func => {
                return Err(place.bad(tag, "an element count of", vlen));
            }
            _ => {}
        }
        fields(tag, (third, vlen), head, place)?;
        Ok(TYPE_WORDS + payload)
    }

    /// Checks one word by what it holds.
    #[inline]
    fn role(&mut self, role: Word, word: u32, place: Place) -> Result<(), BtfError> {
        match role {
            Word::Plain => Ok(()),
            Word::Ref => {
                if word > self.highest_ref.0 {
                    self.highest_ref = (word, place.id, place.offset);
                }
                Ok(())
            }
            Word::Name => {
                let at = word.wrapping_sub(self.inner.first_string) as usize;
                if self.plain_strings && at < self.strings {
                    return Ok(());
                }
                self.name(word, place)
            }
        }
    }

    /// Checks a name offset where that takes more than a comparison.
    fn name(&self, name: u32, place: Place) -> Result<(), BtfError> {
        let inner = self.inner;
        let bad = BtfError::BadName { id: place.id, offset: place.offset, name };
        // In a split BTF the base's strings come first, and its last one ends within it.
        let Some(at) = name.checked_sub(inner.first_string) else {
            let base = inner.base.as_ref().filter(|base| base.has_name(name));
            return base.map(|_| ()).ok_or(bad);
        };
        let at = at as usize;
        // The section ends with a NUL, so every offset in it is a string that ends.
        if !inner.file.has_string(at) {
            return Err(bad);
        }
        let tail = inner.file.strings().get(at..).unwrap_or_default();
        if tail.iter().take(MAX_NAME + 1).any(|&b| b == 0) { Ok(()) } else { Err(bad) }
    }
}

/// A type, for errors.
#[derive(Clone, Copy)]
struct Place {
    id: TypeId,
    offset: u64,
}

impl Place {
    fn bad(self, kind: KindTag, what: &'static str, found: u32) -> BtfError {
        BtfError::BadField { id: self.id, offset: self.offset, kind, what, found }
    }
}

/// Checks what only some kinds have.
fn fields(
    tag: KindTag,
    (size, vlen): (u32, u32),
    head: &[Bytes4],
    place: Place,
) -> Result<(), BtfError> {
    let one_of = |known: &[u32]| match known.contains(&size) {
        true => Ok(()),
        false => Err(place.bad(tag, "a size of", size)),
    };
    match tag {
        // Declared and never defined: clang knows no size.
        KindTag::Enum | KindTag::Enum64 if (size, vlen) == (0, 0) => Ok(()),
        KindTag::Enum | KindTag::Enum64 => one_of(&[1, 2, 4, 8]),
        KindTag::Float => one_of(&[2, 4, 8, 12, 16]),
        KindTag::Int => {
            // rustc describes its unit type as an integer without bits.
            one_of(&[0, 1, 2, 4, 8, 16])?;
            let [_, shift, _, bits] =
                head.first().map_or([0; 4], |&word| value(word).to_be_bytes());
            if u32::from(shift) + u32::from(bits) > size * 8 {
                return Err(place.bad(tag, "more bits than its size has:", u32::from(bits)));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
