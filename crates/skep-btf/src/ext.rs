//! BTF.ext: what instructions have to do with types. Functions, source lines, CO-RE relocations.
//!
//! Offsets of instructions are in bytes from the start of their section, as in the file.

use std::collections::HashMap;

use crate::{
    Btf, BtfError, Builder, TypeId,
    raw::{self, Order},
};

const SECTION: &str = ".BTF.ext";
/// Header bytes without and with the fields for CO-RE relocations.
const HEADER_LEN: u32 = 24;
const HEADER_LEN_CORE: u32 = 32;

/// A parsed `.BTF.ext` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BtfExt {
    /// By ELF section, in the order in which they are first named.
    pub sections: Vec<ExtSection>,
}

/// The records of one ELF section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtSection {
    /// Name of the ELF section with the instructions.
    pub name: String,
    /// Which function starts where.
    pub func_info: Vec<FuncInfo>,
    /// Which source line starts where.
    pub line_info: Vec<LineInfo>,
    /// Which instructions depend on the layout of types.
    pub core_relos: Vec<CoreRelo>,
}

/// A function starts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncInfo {
    /// Byte offset of its first instruction.
    pub insn_off: u32,
    /// The function.
    pub type_id: TypeId,
}

/// A source line starts here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// Byte offset of its first instruction.
    pub insn_off: u32,
    /// String offset of the file's name.
    pub file_name_off: u32,
    /// String offset of the line's text.
    pub line_off: u32,
    /// `line << 10 | column`.
    pub line_col: u32,
}

impl LineInfo {
    /// Line number from 1.
    pub const fn line(&self) -> u32 {
        self.line_col >> 10
    }

    /// Column from 1; 0 when unknown.
    pub const fn column(&self) -> u32 {
        self.line_col & 0x3ff
    }
}

/// An instruction depends on the layout of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreRelo {
    /// Byte offset of the instruction.
    pub insn_off: u32,
    /// Root type of the access.
    pub type_id: TypeId,
    /// String offset of the access, such as `0:1:2`.
    pub access_off: u32,
    /// Number of the kind; see [`crate::core::CoreKind`].
    pub kind: u32,
}

impl BtfExt {
    /// Reads a `.BTF.ext` section that belongs to `btf`.
    ///
    /// # Errors
    ///
    /// [`BtfError`] with the place where the bytes stop being BTF.ext, or where they name a string
    /// or type that `btf` does not have.
    pub fn parse(bytes: &[u8], btf: &Btf) -> Result<Self, BtfError> {
        let truncated = |need: u32| BtfError::HeaderTruncated {
            section: SECTION,
            need: need as usize,
            found: bytes.len(),
        };
        let &[m0, m1, version, _flags, ..] = bytes else { return Err(truncated(HEADER_LEN)) };
        let order = Order::of_magic([m0, m1])
            .ok_or(BtfError::BadMagic { section: SECTION, found: u16::from_le_bytes([m0, m1]) })?;
        if version != raw::VERSION {
            return Err(BtfError::BadVersion { section: SECTION, found: version });
        }
        let field = |at| order.word_at(bytes, at).ok_or_else(|| truncated(HEADER_LEN));
        let header = field(4)?;
        if header < HEADER_LEN || header as usize > bytes.len() {
            return Err(BtfError::BadHeaderLen {
                section: SECTION,
                found: header,
                min: HEADER_LEN,
                max: bytes.len(),
            });
        }
        let mut reader = Reader { bytes, order, btf, header, sections: Sections::default() };
        reader.part(
            "function info",
            (field(8)?, field(12)?),
            |r| {
                let [insn_off, type_id] = r.words;
                r.check_type(type_id)?;
                Ok((insn_off, type_id))
            },
            |section, (insn_off, type_id)| {
                section.func_info.push(FuncInfo { insn_off, type_id: TypeId(type_id) });
            },
        )?;
        reader.part(
            "line info",
            (field(16)?, field(20)?),
            |r| {
                let [insn_off, file_name_off, line_off, line_col] = r.words;
                r.check_string(file_name_off)?;
                r.check_string(line_off)?;
                Ok(LineInfo { insn_off, file_name_off, line_off, line_col })
            },
            |section, line| section.line_info.push(line),
        )?;
        if header >= HEADER_LEN_CORE {
            reader.part(
                "CO-RE relocations",
                (field(24)?, field(28)?),
                |r| {
                    let [insn_off, type_id, access_off, kind] = r.words;
                    r.check_type(type_id)?;
                    r.check_string(access_off)?;
                    Ok(CoreRelo { insn_off, type_id: TypeId(type_id), access_off, kind })
                },
                |section, relo| section.core_relos.push(relo),
            )?;
        }
        Ok(Self { sections: reader.sections.list })
    }

    /// The bytes of a `.BTF.ext` section, little-endian.
    ///
    /// Names of sections become strings of `strings`, whose BTF is to be written afterwards. The
    /// records keep their string and type numbers, so `strings` has to continue the BTF that they
    /// belong to: see [`Builder::from_btf`].
    pub fn to_bytes(&self, strings: &mut Builder) -> Vec<u8> {
        let func_info = self.part(strings, |section| {
            section.func_info.iter().map(|r| [r.insn_off, r.type_id.0]).collect()
        });
        let line_info = self.part(strings, |section| {
            let words = |r: &LineInfo| [r.insn_off, r.file_name_off, r.line_off, r.line_col];
            section.line_info.iter().map(words).collect()
        });
        let core_relos = self.part(strings, |section| {
            let words = |r: &CoreRelo| [r.insn_off, r.type_id.0, r.access_off, r.kind];
            section.core_relos.iter().map(words).collect()
        });
        let mut out = Vec::new();
        out.extend(raw::MAGIC.to_le_bytes());
        out.extend([raw::VERSION, 0]);
        out.extend(HEADER_LEN_CORE.to_le_bytes());
        let mut offset = 0u32;
        for part in [&func_info, &line_info, &core_relos] {
            let len = u32::try_from(part.len() * 4).expect("parts fit in 32 bits");
            out.extend([offset, len].iter().flat_map(|word| word.to_le_bytes()));
            offset += len;
        }
        for part in [func_info, line_info, core_relos] {
            out.extend(part.iter().flat_map(|word| word.to_le_bytes()));
        }
        out
    }

    /// The words of one part: nothing when no section has such records.
    fn part<const N: usize>(
        &self,
        strings: &mut Builder,
        records: impl Fn(&ExtSection) -> Vec<[u32; N]>,
    ) -> Vec<u32> {
        let mut words = Vec::new();
        for section in &self.sections {
            let records = records(section);
            if records.is_empty() {
                continue;
            }
            if words.is_empty() {
                words.push(u32::try_from(N * 4).expect("a handful of words"));
            }
            let count = u32::try_from(records.len()).expect("parts fit in 32 bits");
            words.extend([strings.string(&section.name), count]);
            words.extend(records.into_iter().flatten());
        }
        words
    }

    /// The records of the ELF section with this name.
    pub fn section(&self, name: &str) -> Option<&ExtSection> {
        self.sections.iter().find(|s| s.name == name)
    }
}

/// Sections in the order of their first mention, found by name.
#[derive(Default)]
struct Sections {
    list: Vec<ExtSection>,
    by_name: HashMap<String, usize>,
}

impl Sections {
    fn entry(&mut self, name: &str) -> &mut ExtSection {
        let next = self.list.len();
        let at = *self.by_name.entry(name.to_owned()).or_insert(next);
        if at == next {
            self.list.push(ExtSection { name: name.to_owned(), ..ExtSection::default() });
        }
        self.list.get_mut(at).expect("the index holds positions in the list")
    }
}

/// One record: its first words, later versions may have more.
struct Record<'a, const N: usize> {
    words: [u32; N],
    btf: &'a Btf,
    part: &'static str,
    offset: u64,
}

impl<const N: usize> Record<'_, N> {
    fn check_string(&self, name: u32) -> Result<(), BtfError> {
        match self.btf.has_string(name) {
            true => Ok(()),
            false => Err(BtfError::ExtBadString { part: self.part, offset: self.offset, name }),
        }
    }

    fn check_type(&self, target: u32) -> Result<(), BtfError> {
        let count = u32::try_from(self.btf.len()).unwrap_or(u32::MAX);
        match target < count {
            true => Ok(()),
            false => {
                Err(BtfError::ExtBadType { part: self.part, offset: self.offset, target, count })
            }
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    order: Order,
    btf: &'a Btf,
    header: u32,
    sections: Sections,
}

impl Reader<'_> {
    /// Reads one part: a record size, then per ELF section its name, a count, and records.
    fn part<const N: usize, T>(
        &mut self,
        part: &'static str,
        (off, len): (u32, u32),
        read: impl Fn(Record<'_, N>) -> Result<T, BtfError>,
        push: impl Fn(&mut ExtSection, T),
    ) -> Result<(), BtfError> {
        if len == 0 {
            return Ok(());
        }
        let start = u64::from(self.header) + u64::from(off);
        let end = start + u64::from(len);
        let outside = BtfError::PartOutside { part, start, end, len: self.bytes.len() };
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let all = range.and_then(|(s, e)| self.bytes.get(s..e)).ok_or(outside)?;
        let mut cursor = Cursor { rest: all, offset: start, order: self.order, part };
        let [record_size] = cursor.words::<1>()?;
        let min = u32::try_from(N * 4).expect("a handful of words");
        if record_size < min || !record_size.is_multiple_of(4) {
            return Err(BtfError::BadRecordSize { part, offset: start, found: record_size, min });
        }
        while !cursor.rest.is_empty() {
            let at = cursor.offset;
            let [name_off, count] = cursor.words::<2>()?;
            let name = self.btf.string(name_off);
            let name = name.ok_or(BtfError::ExtBadString { part, offset: at, name: name_off })?;
            if count == 0 {
                return Err(BtfError::ExtEmpty { part, offset: at });
            }
            // The count is believed only as far as there are bytes for it.
            let section = self.sections.entry(name);
            for _ in 0..count {
                let mut record = cursor.take(record_size)?;
                let (offset, words) = (record.offset, record.words::<N>()?);
                push(section, read(Record { words, btf: self.btf, part, offset })?);
            }
        }
        Ok(())
    }
}

/// What is left of a part.
struct Cursor<'a> {
    rest: &'a [u8],
    offset: u64,
    order: Order,
    part: &'static str,
}

impl Cursor<'_> {
    fn take(&mut self, len: u32) -> Result<Self, BtfError> {
        let (head, tail) =
            self.rest.split_at_checked(len as usize).ok_or_else(|| BtfError::ExtTruncated {
                part: self.part,
                offset: self.offset,
                need: u64::from(len),
                found: self.rest.len() as u64,
            })?;
        let taken = Self { rest: head, offset: self.offset, order: self.order, part: self.part };
        self.rest = tail;
        self.offset += u64::from(len);
        Ok(taken)
    }

    fn words<const N: usize>(&mut self) -> Result<[u32; N], BtfError> {
        let taken = self.take(u32::try_from(N * 4).expect("a handful of words"))?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(taken.rest.chunks_exact(4)) {
            *word = self.order.word(bytes.try_into().expect("chunks of four"));
        }
        Ok(words)
    }
}
