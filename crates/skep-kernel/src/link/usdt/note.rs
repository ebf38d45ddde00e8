//! Static probes as an ELF file describes them: the notes of `.note.stapsdt`.
//!
//! A note says where the probe is, where `.stapsdt.base` was when the file was linked (prelink
//! moves sections and does not adjust notes: the difference is the correction), where the counter
//! of its watchers is (or 0), and three strings: provider, name, arguments. The format is
//! described in SystemTap's wiki, "UserSpaceProbeImplementation".

use object::{
    LittleEndian, Object as _, ObjectSection as _,
    elf::{EM_AARCH64, EM_X86_64, ET_DYN, FileHeader64, PF_X, PT_LOAD},
    read::elf::{ElfFile64, FileHeader as _, NoteIterator, ProgramHeader as _},
};

use super::arg::Arch;

const SECTION: &str = ".note.stapsdt";
const BASE: &str = ".stapsdt.base";
const OWNER: &[u8] = b"stapsdt";
const NT_STAPSDT: u32 = 3;

/// One place of a static probe. Names need not be unique: a probe in code that the compiler
/// copied has several places, each with its own arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// First part of the probe's name.
    pub provider: String,
    /// Second part.
    pub name: String,
    /// Where its arguments are, as the assembler wrote it; see [`parse_args`](super::parse_args).
    pub args: String,
    /// Address, as the file's headers count them.
    pub address: u64,
    /// Address of the counter of its watchers; 0 for none.
    pub semaphore: u64,
}

/// The static probes of a file.
#[derive(Clone, Debug)]
pub struct Notes {
    /// Whose registers the arguments name; `None` for machines that are not known here.
    pub arch: Option<Arch>,
    /// Is the file loaded at an address that it does not choose (a library, or a program linked
    /// to be movable)?
    pub movable: bool,
    /// In file order.
    pub probes: Vec<Note>,
    segments: Vec<Segment>,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    address: u64,
    len: u64,
    offset: u64,
    executable: bool,
}

/// A file whose probes cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// It is no 64-bit little-endian ELF file, or a malformed one.
    #[error("not a well-formed 64-bit little-endian ELF file")]
    Elf(#[from] object::Error),
    /// A note is malformed.
    #[error("note {index} of .note.stapsdt: {reason}")]
    Note {
        /// Which, from 0.
        index: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Notes {
    /// Reads the notes of a file. A file without any has an empty list.
    ///
    /// # Errors
    ///
    /// [`NoteError`] when the file or a note is malformed.
    pub fn parse(file: &[u8]) -> Result<Self, NoteError> {
        let elf = ElfFile64::<LittleEndian>::parse(file)?;
        let (header, endian) = (elf.elf_header(), LittleEndian);
        let arch = match header.e_machine(endian) {
            EM_X86_64 => Some(Arch::X86_64),
            EM_AARCH64 => Some(Arch::Aarch64),
            _ => None,
        };
        let loaded = elf.elf_program_headers().iter().filter(|s| s.p_type(endian) == PT_LOAD);
        let segments = loaded.map(|segment| Segment {
            address: segment.p_vaddr(endian),
            len: segment.p_memsz(endian),
            offset: segment.p_offset(endian),
            executable: segment.p_flags(endian).contains(PF_X),
        });
        let mut notes = Self {
            arch,
            movable: header.e_type(endian) == ET_DYN,
            probes: Vec::new(),
            segments: segments.collect(),
        };
        let Some(section) = elf.section_by_name(SECTION) else { return Ok(notes) };
        let base = elf.section_by_name(BASE).map_or(0, |section| section.address());
        let mut found =
            NoteIterator::<FileHeader64<LittleEndian>>::new(endian, 4, section.data()?)?;
        while let Some(note) = found.next()? {
            // The linker puts nothing else here; what is of another kind is somebody else's.
            if note.name() != OWNER || note.n_type(endian).0 != NT_STAPSDT {
                continue;
            }
            let index = notes.probes.len();
            let read = describe(note.desc(), base);
            notes.probes.push(read.map_err(|reason| NoteError::Note { index, reason })?);
        }
        Ok(notes)
    }

    /// Place in the file of code at an address; `None` when the address is in no executable part.
    pub fn code_offset(&self, address: u64) -> Option<u64> {
        self.offset(address, true)
    }

    /// Place in the file of data at an address; `None` when the address is in no part of the file
    /// that holds data.
    pub fn data_offset(&self, address: u64) -> Option<u64> {
        self.offset(address, false)
    }

    fn offset(&self, address: u64, executable: bool) -> Option<u64> {
        let inside = |segment: &&Segment| {
            segment.executable == executable
                && address.checked_sub(segment.address).is_some_and(|by| by < segment.len)
        };
        let segment = self.segments.iter().find(inside)?;
        address.checked_sub(segment.address)?.checked_add(segment.offset)
    }
}

/// Three addresses, three strings.
fn describe(bytes: &[u8], base: u64) -> Result<Note, &'static str> {
    const SHORT: &str = "it ends before its three addresses do";
    let (address, rest) = bytes.split_first_chunk::<8>().ok_or(SHORT)?;
    let (linked_base, rest) = rest.split_first_chunk::<8>().ok_or(SHORT)?;
    let (semaphore, rest) = rest.split_first_chunk::<8>().ok_or(SHORT)?;
    let mut strings = rest.split(|&byte| byte == 0);
    // What follows the last NUL is no string; padding behind it may be there.
    let ends = rest.iter().filter(|&&byte| byte == 0).count();
    if ends < 3 {
        return Err("it has fewer than three strings");
    }
    let mut text = || {
        let bytes = strings.next().unwrap_or_default();
        str::from_utf8(bytes).map(str::to_owned).map_err(|_| "a string is no UTF-8")
    };
    let (provider, name, args) = (text()?, text()?, text()?);
    if name.is_empty() {
        return Err("its name is empty");
    }
    let linked_base = u64::from_le_bytes(*linked_base);
    let moved = if base == 0 || linked_base == 0 { 0 } else { base.wrapping_sub(linked_base) };
    let semaphore = match u64::from_le_bytes(*semaphore) {
        0 => 0,
        address => address.wrapping_add(moved),
    };
    // Without arguments some assemblers leave a colon.
    let args = if args.starts_with(':') { String::new() } else { args };
    let address = u64::from_le_bytes(*address).wrapping_add(moved);
    Ok(Note { provider, name, args, address, semaphore })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(addresses: [u64; 3], strings: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = addresses.iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.extend_from_slice(strings);
        bytes
    }

    #[test]
    fn a_note_has_three_addresses_and_three_strings() {
        let bytes = note([0x1000, 0x2000, 0x3000], b"prov\0name\08@%rdi\0\0");
        let want = Note {
            provider: "prov".into(),
            name: "name".into(),
            args: "8@%rdi".into(),
            address: 0x1000,
            semaphore: 0x3000,
        };
        assert_eq!(describe(&bytes, 0), Ok(want.clone()));
        assert_eq!(describe(&bytes, 0x2000), Ok(want.clone()));
        // Moved by prelink, forth and back.
        let moved = Note { address: 0x1100, semaphore: 0x3100, ..want.clone() };
        assert_eq!(describe(&bytes, 0x2100), Ok(moved));
        let moved = Note { address: 0x0f00, semaphore: 0x2f00, ..want };
        assert_eq!(describe(&bytes, 0x1f00), Ok(moved));
        let bytes = note([0x1000, 0, 0], b"\0n\0:\0");
        let note = describe(&bytes, 0x5000).unwrap();
        assert_eq!((note.address, note.semaphore, note.args.as_str()), (0x1000, 0, ""));
    }

    #[test]
    fn a_short_note_is_refused() {
        let whole = note([1, 2, 3], b"p\0n\0a\0");
        assert!(describe(&whole, 0).is_ok());
        for len in 0..whole.len() {
            assert!(describe(&whole[..len], 0).is_err(), "{len}");
        }
        assert!(describe(&note([1, 2, 3], b"p\0\0a\0"), 0).is_err());
        assert!(describe(&note([1, 2, 3], b"p\0\xff\0a\0"), 0).is_err());
    }

    #[test]
    fn addresses_become_places_in_the_file() {
        let code = Segment { address: 0x1000, len: 0x100, offset: 0x400, executable: true };
        let data = Segment { address: u64::MAX - 1, len: 9, offset: 8, executable: false };
        let segments = vec![code, data];
        let notes = Notes { arch: None, movable: true, probes: Vec::new(), segments };
        assert_eq!(notes.code_offset(0x10ff), Some(0x4ff));
        assert_eq!(notes.code_offset(0x1100), None);
        assert_eq!(notes.data_offset(0x1000), None);
        assert_eq!(notes.data_offset(u64::MAX), Some(9));
    }
}
