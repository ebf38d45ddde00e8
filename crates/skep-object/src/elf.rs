//! The ELF container: sections, symbols, relocations, with bounds checked and strings found.
//!
//! Not here: what any of them means for BPF. The structures and constants are those of the
//! `object` crate; the checks are our own because its errors do not say where.

use std::collections::HashMap;

use object::elf;
use object::endian::LittleEndian as LE;
use object::pod;

use crate::error::ObjectError;

/// `e_machine` of BPF.
pub(crate) const EM_BPF: u16 = 247;
/// Sections a file may have: more than any compiler makes, few enough for hostile files.
const MAX_SECTIONS: usize = 1 << 16;

/// Longest name, so that many symbols on one endless name cost little.
const MAX_NAME: usize = 4096;

/// A checked ELF file.
#[derive(Debug)]
pub(crate) struct Elf<'d> {
    /// Size of the file in bytes.
    pub(crate) file_size: usize,
    /// All sections, index 0 included.
    pub(crate) sections: Vec<Section<'d>>,
    /// All symbols, index 0 included.
    pub(crate) symbols: Vec<Symbol<'d>>,
    /// First section of each name.
    by_name: HashMap<&'d str, usize>,
    /// Sections of relocations, by the section that they change.
    by_target: HashMap<usize, Vec<usize>>,
}

/// A section.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section<'d> {
    pub(crate) index: usize,
    pub(crate) name: &'d str,
    /// `sh_type`.
    pub(crate) kind: u32,
    /// `sh_flags`.
    pub(crate) flags: u64,
    /// Bytes; empty for `.bss`.
    pub(crate) data: &'d [u8],
    /// Size in bytes, that of `.bss` too.
    pub(crate) size: u64,
    /// `sh_link`.
    pub(crate) link: u32,
    /// `sh_info`.
    pub(crate) info: u32,
    /// `sh_entsize`.
    pub(crate) entry_size: u64,
    /// `sh_addralign`.
    pub(crate) align: u64,
}

impl Section<'_> {
    /// Does it hold instructions?
    pub(crate) fn is_code(&self) -> bool {
        self.kind == SHT_PROGBITS && self.flags & elf::SHF_EXECINSTR.0 != 0
    }
}

/// Where a symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Not in this file: an extern.
    Undefined,
    /// In this section.
    Section(usize),
    /// Absolute, common or otherwise special: `st_shndx`.
    Special(u16),
}

/// Kind of a symbol, as far as BPF has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SymbolKind {
    /// No type: labels, externs.
    None,
    /// A variable.
    Object,
    /// A function.
    Func,
    /// The section itself.
    Section,
    /// Anything else.
    Other,
}

/// Binding of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    Local,
    Global,
    Weak,
    Other,
}

/// A symbol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Symbol<'d> {
    pub(crate) name: &'d str,
    pub(crate) place: Place,
    pub(crate) kind: SymbolKind,
    pub(crate) bind: Bind,
    /// `STV_HIDDEN` or `STV_INTERNAL`.
    pub(crate) hidden: bool,
    /// Offset in the section.
    pub(crate) value: u64,
    /// Bytes.
    pub(crate) size: u64,
}

/// One relocation of a `SHT_REL` section; the addend is in the place it changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rel {
    /// Number within its section.
    pub(crate) index: usize,
    /// Place: offset in the section it changes.
    pub(crate) offset: u64,
    /// `R_BPF_*`.
    pub(crate) kind: u32,
    /// Index into [`Elf::symbols`].
    pub(crate) symbol: usize,
}

pub(crate) const SHT_PROGBITS: u32 = elf::SHT_PROGBITS.0;
pub(crate) const SHT_NOBITS: u32 = elf::SHT_NOBITS.0;
pub(crate) const SHT_SYMTAB: u32 = elf::SHT_SYMTAB.0;
pub(crate) const SHT_REL: u32 = elf::SHT_REL.0;
pub(crate) const SHT_RELA: u32 = elf::SHT_RELA.0;
pub(crate) const SHT_NULL: u32 = elf::SHT_NULL.0;
pub(crate) const SHT_STRTAB: u32 = elf::SHT_STRTAB.0;

impl<'d> Elf<'d> {
    /// Reads the tables of a little-endian 64-bit BPF file.
    pub(crate) fn parse(file: &'d [u8]) -> Result<Self, ObjectError> {
        let header = header(file)?;
        let sections = sections(file, header)?;
        let symbols = symbols(&sections)?;
        let mut by_name = HashMap::new();
        let mut by_target: HashMap<usize, Vec<usize>> = HashMap::new();
        for section in sections.iter().filter(|s| s.kind != SHT_NULL) {
            by_name.entry(section.name).or_insert(section.index);
            if matches!(section.kind, SHT_REL | SHT_RELA) {
                let target = usize::try_from(section.info).unwrap_or(usize::MAX);
                by_target.entry(target).or_default().push(section.index);
            }
        }
        Ok(Self { file_size: file.len(), sections, symbols, by_name, by_target })
    }

    /// The first section of this name.
    pub(crate) fn section_named(&self, name: &str) -> Option<&Section<'d>> {
        self.sections.get(*self.by_name.get(name)?)
    }

    /// Relocations of the section with index `target`, in file order.
    pub(crate) fn relocations(&self, target: usize) -> Result<Vec<Rel>, ObjectError> {
        let mut rels = Vec::new();
        let indexes = self.by_target.get(&target).into_iter().flatten();
        for section in indexes.filter_map(|&index| self.sections.get(index)) {
            if section.kind != SHT_REL {
                return Err(ObjectError::Field {
                    part: section_part(section),
                    field: "sh_type",
                    expected: "9 (SHT_REL)",
                    found: u64::from(section.kind),
                });
            }
            self.read_rels(section, &mut rels)?;
        }
        Ok(rels)
    }

    fn read_rels(&self, section: &Section<'_>, out: &mut Vec<Rel>) -> Result<(), ObjectError> {
        let entries: &[elf::Rel64<LE>] = table(section)?;
        for (index, rel) in entries.iter().enumerate() {
            let info = rel.r_info.get(LE);
            let symbol = usize::try_from(info >> 32).unwrap_or(usize::MAX);
            let kind = u32::try_from(info & 0xffff_ffff).unwrap_or(u32::MAX);
            let offset = rel.r_offset.get(LE);
            if symbol >= self.symbols.len() {
                return Err(ObjectError::Reloc {
                    section: section.name.to_owned(),
                    index,
                    offset,
                    problem: crate::RelocProblem::NoSymbol { symbol, count: self.symbols.len() },
                });
            }
            out.push(Rel { index, offset, kind, symbol });
        }
        Ok(())
    }

    /// What a symbol is called: a section symbol by its section.
    pub(crate) fn symbol_name(&self, symbol: &Symbol<'d>) -> &'d str {
        match (symbol.name, symbol.place) {
            ("", Place::Section(index)) => self.sections.get(index).map_or("", |s| s.name),
            (name, _) => name,
        }
    }

    /// What a symbol's place is called.
    pub(crate) fn place_name(&self, place: Place) -> String {
        match place {
            Place::Undefined => "no section".to_owned(),
            Place::Special(n) => format!("special section {n:#x}"),
            Place::Section(index) => {
                self.sections.get(index).map_or_else(String::new, |s| s.name.to_owned())
            }
        }
    }
}

fn header(file: &[u8]) -> Result<&elf::FileHeader64<LE>, ObjectError> {
    let size = size_of::<elf::FileHeader64<LE>>();
    let truncated = |size: usize| ObjectError::Truncated {
        part: "ELF header".to_owned(),
        offset: 0,
        size: size as u64,
        file_size: file.len(),
    };
    let ident = file.get(..16).ok_or_else(|| truncated(16))?;
    let field = |field, expected, found: u64| {
        Err(ObjectError::Field { part: "ELF header".to_owned(), field, expected, found })
    };
    let byte = |at: usize| ident.get(at).copied().map_or(0, u64::from);
    if let Some(&found) = ident.first_chunk::<4>().filter(|magic| *magic != b"\x7fELF") {
        return Err(ObjectError::NotElf { found });
    }
    if byte(4) != 2 {
        return field("class", "2 (64 bit)", byte(4));
    }
    if byte(5) != 1 {
        return field("byte order", "1 (little endian)", byte(5));
    }
    let (header, _) =
        pod::from_bytes::<elf::FileHeader64<LE>>(file).map_err(|()| truncated(size))?;
    let number = |n: u16| u64::from(n);
    if header.e_machine.get(LE).0 != EM_BPF {
        return field("machine", "247 (BPF)", number(header.e_machine.get(LE).0));
    }
    if header.e_type.get(LE).0 != 1 {
        return field("type", "1 (relocatable)", number(header.e_type.get(LE).0));
    }
    if header.e_shentsize.get(LE) != 64 {
        return field("section header size", "64", number(header.e_shentsize.get(LE)));
    }
    Ok(header)
}

/// The bytes of `part` at `offset`, or how far they are outside.
fn bytes(
    file: &[u8],
    offset: u64,
    size: u64,
    part: impl FnOnce() -> String,
) -> Result<&[u8], ObjectError> {
    let range = || {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        file.get(start..end)
    };
    range().ok_or_else(|| ObjectError::Truncated {
        part: part(),
        offset,
        size,
        file_size: file.len(),
    })
}

fn sections<'d>(
    file: &'d [u8],
    header: &elf::FileHeader64<LE>,
) -> Result<Vec<Section<'d>>, ObjectError> {
    let start = header.e_shoff.get(LE);
    let header_at = |offset: u64, index: usize| {
        let raw = bytes(file, offset, 64, || format!("header of section {index}"))?;
        let parsed = pod::from_bytes::<elf::SectionHeader64<LE>>(raw);
        Ok(parsed.expect("64 bytes are a section header").0)
    };
    if start == 0 {
        return Err(ObjectError::Missing { part: "section header table" });
    }
    // With more sections than fit the header, section 0 holds their number.
    let first: &elf::SectionHeader64<LE> = header_at(start, 0)?;
    let count = match header.e_shnum.get(LE) {
        0 => usize::try_from(first.sh_size.get(LE)).unwrap_or(usize::MAX),
        n => usize::from(n),
    };
    if count > MAX_SECTIONS {
        return Err(ObjectError::Field {
            part: "ELF header".to_owned(),
            field: "number of sections",
            expected: "at most 65536",
            found: count as u64,
        });
    }
    let names_index = match header.e_shstrndx.get(LE).0 {
        0xffff => first.sh_link.get(LE),
        n => u32::from(n),
    };
    bytes(file, start, count as u64 * 64, || "section header table".to_owned())?;
    let mut headers = Vec::with_capacity(count);
    for (index, offset) in (0..count).zip((start..).step_by(64)) {
        headers.push(header_at(offset, index)?);
    }

    let names = usize::try_from(names_index)
        .ok()
        .and_then(|i| headers.get(i))
        .filter(|_| names_index != 0)
        .ok_or(ObjectError::Missing { part: "section name table" })?;
    let names = bytes(file, names.sh_offset.get(LE), names.sh_size.get(LE), || {
        "section name table".to_owned()
    })?;

    let mut sections = Vec::with_capacity(headers.len());
    for (index, header) in headers.into_iter().enumerate() {
        let name = string(names, header.sh_name.get(LE), || format!("section {index}"))?;
        let kind = header.sh_type.get(LE).0;
        let size = header.sh_size.get(LE);
        let data = match kind {
            SHT_NULL | SHT_NOBITS => &[],
            _ => {
                bytes(file, header.sh_offset.get(LE), size, || format!("section {index} ({name})"))?
            }
        };
        sections.push(Section {
            index,
            name,
            kind,
            flags: header.sh_flags.get(LE).0,
            data,
            size: if kind == SHT_NULL { 0 } else { size },
            link: header.sh_link.get(LE),
            info: header.sh_info.get(LE),
            entry_size: header.sh_entsize.get(LE),
            align: header.sh_addralign.get(LE),
        });
    }
    // What is read of each is then in proportion to the file.
    let total = sections.iter().map(|section| section.data.len() as u64).sum();
    let file_size = file.len();
    match total <= file_size as u64 {
        true => Ok(sections),
        false => Err(ObjectError::SectionsOverlap { total, file_size }),
    }
}

fn section_part(section: &Section<'_>) -> String {
    format!("section {} ({})", section.index, section.name)
}

/// A section as a table of `T`.
fn table<'d, T: pod::Pod>(section: &Section<'d>) -> Result<&'d [T], ObjectError> {
    let entry = size_of::<T>();
    let wrong = |field, expected, found| ObjectError::Field {
        part: section_part(section),
        field,
        expected,
        found,
    };
    if section.entry_size != entry as u64 {
        let expected = if entry == 24 { "24" } else { "16" };
        return Err(wrong("entry size", expected, section.entry_size));
    }
    if !section.data.len().is_multiple_of(entry) {
        return Err(wrong("size", "a multiple of its entry size", section.size));
    }
    let read = pod::slice_from_bytes(section.data, section.data.len() / entry);
    Ok(read.expect("the count was computed from the bytes").0)
}

fn symbols<'d>(sections: &[Section<'d>]) -> Result<Vec<Symbol<'d>>, ObjectError> {
    let mut tables = sections.iter().filter(|s| s.kind == SHT_SYMTAB);
    let section = tables.next().ok_or(ObjectError::Missing { part: "symbol table" })?;
    if let Some(second) = tables.next() {
        return Err(ObjectError::Twice { part: "symbol table", section: second.index });
    }
    let names = usize::try_from(section.link)
        .ok()
        .and_then(|i| sections.get(i))
        .ok_or(ObjectError::Missing { part: "symbol name table" })?;

    let entries: &[elf::Sym64<LE>] = table(section)?;
    let mut symbols = Vec::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let name = string(names.data, entry.st_name.get(LE), || format!("symbol {index}"))?;
        let place = match entry.st_shndx.get(LE).0 {
            0 => Place::Undefined,
            n if n >= 0xff00 => Place::Special(n),
            n if usize::from(n) < sections.len() => Place::Section(usize::from(n)),
            n => {
                return Err(ObjectError::Field {
                    part: format!("symbol {index} ({name})"),
                    field: "section",
                    expected: "a section of the file",
                    found: u64::from(n),
                });
            }
        };
        symbols.push(Symbol {
            name,
            place,
            kind: match entry.st_type().0 {
                0 => SymbolKind::None,
                1 => SymbolKind::Object,
                2 => SymbolKind::Func,
                3 => SymbolKind::Section,
                _ => SymbolKind::Other,
            },
            bind: match entry.st_bind().0 {
                0 => Bind::Local,
                1 => Bind::Global,
                2 => Bind::Weak,
                _ => Bind::Other,
            },
            hidden: matches!(entry.st_visibility().0, 1 | 2),
            value: entry.st_value.get(LE),
            size: entry.st_size.get(LE),
        });
    }
    Ok(symbols)
}

fn string(table: &[u8], offset: u32, part: impl FnOnce() -> String) -> Result<&str, ObjectError> {
    let find = || {
        let rest = table.get(usize::try_from(offset).ok()?..)?;
        let rest = rest.get(..MAX_NAME).unwrap_or(rest);
        let end = rest.iter().position(|&b| b == 0)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    };
    // Stripped files may have no strings at all; offset 0 is the empty name then.
    if offset == 0 && table.is_empty() {
        return Ok("");
    }
    find().ok_or_else(|| ObjectError::Name { part: part(), offset })
}
