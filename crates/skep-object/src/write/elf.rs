//! A small ELF writer: sections, symbols, relocations without addends.

use std::collections::HashMap;

use object::elf;
use object::endian::{LittleEndian as LE, U16, U32, U64};
use object::pod;

use super::WriteError;
use crate::elf::{EM_BPF, SHT_NOBITS, SHT_PROGBITS, SHT_REL, SHT_STRTAB, SHT_SYMTAB};

const HEADER: usize = 64;
/// Alignment of sections that ask for none of their own.
const ALIGN: u64 = 8;
/// No place in the file is aligned to more.
const PAGE: u64 = 4096;
const STV_HIDDEN: u8 = 2;
/// Section indexes from here on have a special meaning.
const MAX_SECTIONS: usize = 0xff00;

/// `SHF_ALLOC`.
pub(crate) const ALLOC: u64 = 2;
/// `SHF_WRITE`.
pub(crate) const WRITE: u64 = 1;
/// `SHF_EXECINSTR`.
pub(crate) const EXEC: u64 = 4;

/// Number of a section; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SectionId(pub(crate) u16);

/// Number of a symbol while the file is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SymbolId(usize);

/// Kind of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An extern.
    None = 0,
    Object = 1,
    Func = 2,
    Section = 3,
}

/// Binding of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    Local = 0,
    Global = 1,
    Weak = 2,
}

/// A symbol.
#[derive(Clone, Debug)]
pub(crate) struct Symbol {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) bind: Bind,
    /// `None` for an extern.
    pub(crate) section: Option<SectionId>,
    pub(crate) value: u64,
    pub(crate) size: u64,
    /// `STV_HIDDEN`.
    pub(crate) hidden: bool,
}

#[derive(Debug)]
struct Section {
    name: String,
    kind: u32,
    flags: u64,
    data: Vec<u8>,
    /// Bytes; more than `data` for `.bss`.
    size: u64,
    align: u64,
    rels: Vec<(u64, SymbolId, u32)>,
}

/// A file in the making.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    sections: Vec<Section>,
    symbols: Vec<Symbol>,
    section_symbols: HashMap<SectionId, SymbolId>,
}

impl Writer {
    /// Adds a section with bytes.
    pub(crate) fn section(
        &mut self,
        name: &str,
        flags: u64,
        data: Vec<u8>,
    ) -> Result<SectionId, WriteError> {
        let size = data.len() as u64;
        self.push(Section {
            name: name.to_owned(),
            kind: SHT_PROGBITS,
            flags,
            data,
            size,
            align: ALIGN,
            rels: Vec::new(),
        })
    }

    /// Adds a section of zeros that takes no place in the file.
    pub(crate) fn zeros(&mut self, name: &str, size: u64) -> Result<SectionId, WriteError> {
        self.push(Section {
            name: name.to_owned(),
            kind: SHT_NOBITS,
            flags: ALLOC | WRITE,
            data: Vec::new(),
            size,
            align: ALIGN,
            rels: Vec::new(),
        })
    }

    /// Changes the alignment of a section, a power of two.
    pub(crate) fn set_align(&mut self, section: SectionId, align: u64) {
        let at = usize::from(section.0).wrapping_sub(1);
        self.sections.get_mut(at).expect("ids come from this writer").align = align;
    }

    fn push(&mut self, section: Section) -> Result<SectionId, WriteError> {
        self.sections.push(section);
        // Each may get a section of relocations, and there are three more.
        match u16::try_from(self.sections.len()) {
            Ok(id) if self.sections.len() * 2 + 4 < MAX_SECTIONS => Ok(SectionId(id)),
            _ => Err(WriteError::TooLarge { what: "the object", limit: MAX_SECTIONS / 2 }),
        }
    }

    /// Replaces the bytes of a section by as many others.
    pub(crate) fn set_data(&mut self, section: SectionId, data: Vec<u8>) {
        let at = usize::from(section.0).wrapping_sub(1);
        let section = self.sections.get_mut(at).expect("ids come from this writer");
        section.size = data.len() as u64;
        section.data = data;
    }

    /// Adds a symbol.
    pub(crate) fn symbol(&mut self, symbol: Symbol) -> SymbolId {
        self.symbols.push(symbol);
        SymbolId(self.symbols.len() - 1)
    }

    /// The symbol of a section itself.
    pub(crate) fn section_symbol(&mut self, section: SectionId) -> SymbolId {
        if let Some(&known) = self.section_symbols.get(&section) {
            return known;
        }
        let id = self.symbol(Symbol {
            name: String::new(),
            kind: Kind::Section,
            bind: Bind::Local,
            section: Some(section),
            value: 0,
            size: 0,
            hidden: false,
        });
        self.section_symbols.insert(section, id);
        id
    }

    /// Adds a relocation of `section` at a byte offset.
    pub(crate) fn relocate(&mut self, section: SectionId, offset: u64, to: SymbolId, kind: u32) {
        let at = usize::from(section.0).wrapping_sub(1);
        let section = self.sections.get_mut(at).expect("ids come from this writer");
        section.rels.push((offset, to, kind));
    }

    /// The file: header, contents of sections, section headers.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let mut strings = Strings::default();
        let (symbol_bytes, first_global, numbers) = symbol_table(&self.symbols, &mut strings);
        let own = self.sections.len();
        let with_rels = self.sections.iter().filter(|s| !s.rels.is_empty()).count();
        let symtab = own + with_rels + 1;
        let strtab = symtab + 1;

        let mut out = vec![0; HEADER];
        let mut headers = vec![header(0, 0)];
        for section in &mut self.sections {
            let mut h = header(strings.add(&section.name), section.kind);
            h.sh_flags = U64::new(LE, elf::SectionFlags(section.flags));
            out.resize(
                out.len()
                    .next_multiple_of(usize::try_from(section.align.clamp(1, PAGE)).unwrap_or(1)),
                0,
            );
            h.sh_offset = U64::new(LE, append(&mut out, &section.data));
            h.sh_size = U64::new(LE, section.size);
            h.sh_addralign = U64::new(LE, section.align);
            headers.push(h);
            section.rels.sort_by_key(|(offset, ..)| *offset);
        }
        for (index, section) in (1..).zip(&self.sections) {
            if section.rels.is_empty() {
                continue;
            }
            let mut bytes = Vec::with_capacity(section.rels.len() * 16);
            for (offset, symbol, kind) in &section.rels {
                let number = numbers.get(symbol.0).copied().unwrap_or(0);
                bytes.extend(offset.to_le_bytes());
                bytes.extend((u64::from(number) << 32 | u64::from(*kind)).to_le_bytes());
            }
            let mut h = header(strings.add(&format!(".rel{}", section.name)), SHT_REL);
            table(&mut h, &mut out, &bytes, 16, (symtab, index));
            headers.push(h);
        }
        let mut h = header(strings.add(".symtab"), SHT_SYMTAB);
        table(&mut h, &mut out, &symbol_bytes, 24, (strtab, first_global));
        headers.push(h);
        let mut h = header(strings.add(".strtab"), SHT_STRTAB);
        h.sh_offset = U64::new(LE, append(&mut out, &strings.bytes));
        h.sh_size = U64::new(LE, strings.bytes.len() as u64);
        h.sh_addralign = U64::new(LE, 1);
        headers.push(h);

        let at = append(&mut out, pod::bytes_of_slice(&headers));
        let file = file_header(at, headers.len(), strtab);
        let head = out.get_mut(..HEADER).expect("reserved at the start");
        head.copy_from_slice(pod::bytes_of(&file));
        out
    }
}

/// Strings, each once.
#[derive(Debug)]
struct Strings {
    bytes: Vec<u8>,
    known: HashMap<String, u32>,
}

impl Default for Strings {
    fn default() -> Self {
        Self { bytes: vec![0], known: HashMap::from([(String::new(), 0)]) }
    }
}

impl Strings {
    fn add(&mut self, text: &str) -> u32 {
        // A name cannot contain what ends it.
        let text = text.split('\0').next().unwrap_or_default();
        if let Some(&at) = self.known.get(text) {
            return at;
        }
        let at = small(self.bytes.len());
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        self.known.insert(text.to_owned(), at);
        at
    }
}

/// The table, the number of its first global symbol, and the number that each symbol got: local
/// ones come first.
fn symbol_table(symbols: &[Symbol], strings: &mut Strings) -> (Vec<u8>, usize, Vec<u32>) {
    let local = |s: &Symbol| s.bind == Bind::Local;
    let mut order: Vec<usize> = (0..symbols.len()).collect();
    order.sort_by_key(|&at| !symbols.get(at).is_some_and(local));
    let mut numbers = vec![0; symbols.len()];
    let mut bytes = vec![0; 24];
    for (number, at) in (1..).zip(order) {
        let Some((symbol, slot)) = symbols.get(at).zip(numbers.get_mut(at)) else { continue };
        *slot = number;
        let info = (symbol.bind as u8) << 4 | symbol.kind as u8;
        bytes.extend(strings.add(&symbol.name).to_le_bytes());
        bytes.extend([info, if symbol.hidden { STV_HIDDEN } else { 0 }]);
        bytes.extend(symbol.section.map_or(0, |s| s.0).to_le_bytes());
        bytes.extend(symbol.value.to_le_bytes());
        bytes.extend(symbol.size.to_le_bytes());
    }
    (bytes, 1 + symbols.iter().filter(|s| local(s)).count(), numbers)
}

fn header(name: u32, kind: u32) -> elf::SectionHeader64<LE> {
    elf::SectionHeader64 {
        sh_name: U32::new(LE, name),
        sh_type: U32::new(LE, elf::SectionType(kind)),
        sh_flags: U64::new(LE, elf::SectionFlags(0)),
        sh_addr: U64::new(LE, 0),
        sh_offset: U64::new(LE, 0),
        sh_size: U64::new(LE, 0),
        sh_link: U32::new(LE, 0),
        sh_info: U32::new(LE, 0),
        sh_addralign: U64::new(LE, 0),
        sh_entsize: U64::new(LE, 0),
    }
}

fn table(
    header: &mut elf::SectionHeader64<LE>,
    out: &mut Vec<u8>,
    bytes: &[u8],
    entry: u64,
    (link, info): (usize, usize),
) {
    header.sh_offset = U64::new(LE, append(out, bytes));
    header.sh_size = U64::new(LE, bytes.len() as u64);
    header.sh_link = U32::new(LE, small(link));
    header.sh_info = U32::new(LE, small(info));
    header.sh_addralign = U64::new(LE, 8);
    header.sh_entsize = U64::new(LE, entry);
}

fn file_header(sections: u64, count: usize, names: usize) -> elf::FileHeader64<LE> {
    let half = |n: usize| u16::try_from(n).expect("the writer counts its sections");
    elf::FileHeader64 {
        e_ident: elf::Ident {
            magic: elf::ELFMAG,
            class: elf::ELFCLASS64,
            data: elf::ELFDATA2LSB,
            version: elf::EV_CURRENT,
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            padding: [0; 7],
        },
        e_type: U16::new(LE, elf::ET_REL),
        e_machine: U16::new(LE, elf::Machine(EM_BPF)),
        e_version: U32::new(LE, 1),
        e_entry: U64::new(LE, 0),
        e_phoff: U64::new(LE, 0),
        e_shoff: U64::new(LE, sections),
        e_flags: U32::new(LE, elf::FileFlags(0)),
        e_ehsize: U16::new(LE, 64),
        e_phentsize: U16::new(LE, 0),
        e_phnum: U16::new(LE, 0),
        e_shentsize: U16::new(LE, 64),
        e_shnum: U16::new(LE, half(count)),
        e_shstrndx: U16::new(LE, elf::SymbolSection(half(names))),
    }
}

/// Appends bytes at a multiple of 8; where they start.
fn append(out: &mut Vec<u8>, bytes: &[u8]) -> u64 {
    out.resize(out.len().next_multiple_of(8), 0);
    let at = out.len() as u64;
    out.extend(bytes);
    at
}

/// Numbers of things of which there are fewer than 2^32.
fn small(n: usize) -> u32 {
    u32::try_from(n).expect("files are far smaller than 4 GiB")
}
