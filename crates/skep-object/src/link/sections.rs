//! Sections of one name become one, file after file.

use std::collections::HashMap;

use super::error::{LinkError, Side, Sides};
use super::input::File;
use crate::elf::{SHT_NOBITS, SHT_NULL, SHT_PROGBITS, SHT_REL, SHT_STRTAB, SHT_SYMTAB, Section};

/// `SHT_LLVM_ADDRSIG`: which symbols' addresses matter; a hint.
const SHT_ADDRSIG: u32 = 0x6fff_4c03;
/// Sections that files have to agree on; the result has one copy.
const NOTES: [&str; 2] = ["license", "version"];
/// Largest alignment that a section may ask for.
const MAX_ALIGN: u64 = 1 << 16;
/// Most bytes of a section: offsets in BTF and BTF.ext have 32 bits.
const MAX_BYTES: u64 = u32::MAX as u64;
/// Most bytes that all gaps between sections may have together: an alignment is a few bytes in a
/// file, and a gap as large as it says.
const MAX_GAPS: u64 = 1 << 24;

/// A section of the result.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) kind: u32,
    pub(super) flags: u64,
    pub(super) align: u64,
    /// Bytes; none for `.bss`.
    pub(super) data: Vec<u8>,
    /// Size in bytes.
    pub(super) size: u64,
    /// Number of the file that has it first.
    first: usize,
}

/// Where a section of a file is in the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// Number of the output.
    pub(super) output: usize,
    /// Where it starts there.
    pub(super) offset: u64,
}

/// All sections with contents.
#[derive(Debug, Default)]
pub(super) struct Sections {
    pub(super) outputs: Vec<Output>,
    by_name: HashMap<String, usize>,
    /// Bytes between sections so far.
    gaps: u64,
    /// By file and section: nothing for those that do not go into the result.
    placed: Vec<Vec<Option<Placed>>>,
}

impl Sections {
    /// Puts the sections of all files behind each other.
    pub(super) fn collect(files: &[File<'_>]) -> Result<Self, LinkError> {
        let mut all = Self::default();
        for (number, file) in files.iter().enumerate() {
            let mut placed = Vec::with_capacity(file.elf.sections.len());
            for section in &file.elf.sections {
                placed.push(match has_contents(file, section)? {
                    true => all.add(files, number, section)?,
                    false => None,
                });
            }
            all.placed.push(placed);
        }
        Ok(all)
    }

    /// Where a section of a file is.
    pub(super) fn of(&self, file: usize, section: usize) -> Option<Placed> {
        self.placed.get(file)?.get(section).copied().flatten()
    }

    /// The output of this name.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    fn add(
        &mut self,
        files: &[File<'_>],
        number: usize,
        section: &Section<'_>,
    ) -> Result<Option<Placed>, LinkError> {
        let file = |n: usize| files.get(n).map_or_else(String::new, |f| f.name.to_owned());
        let align = section.align.max(1);
        let Some(&at) = self.by_name.get(section.name) else {
            let at = self.outputs.len();
            self.by_name.insert(section.name.to_owned(), at);
            self.outputs.push(Output {
                name: section.name.to_owned(),
                kind: section.kind,
                flags: section.flags,
                align,
                data: section.data.to_vec(),
                size: section.size,
                first: number,
            });
            return Ok(Some(Placed { output: at, offset: 0 }));
        };
        let output = self.outputs.get_mut(at).expect("the index holds numbers of the list");
        let first = output.first;
        let sides = |before, now| {
            let (first, second) = (file(first), file(number));
            let first = Side { file: first, says: before };
            Box::new(Sides { first, second: Side { file: second, says: now } })
        };
        let differ = |what, first, second| LinkError::Sections {
            section: section.name.to_owned(),
            what,
            sides: sides(first, second),
        };
        if output.kind != section.kind {
            let hex = |kind| format!("{kind:#x}");
            return Err(differ("type", hex(output.kind), hex(section.kind)));
        }
        if output.flags != section.flags {
            let hex = |flags| format!("{flags:#x}");
            return Err(differ("flags", hex(output.flags), hex(section.flags)));
        }
        if NOTES.contains(&section.name) {
            if output.data == section.data {
                return Ok(None);
            }
            return Err(LinkError::Notes {
                section: section.name.to_owned(),
                sides: sides(text(&output.data), text(section.data)),
            });
        }
        let start = output.size.next_multiple_of(align);
        let end = start.checked_add(section.size).filter(|&end| end <= MAX_BYTES);
        let end = end.ok_or_else(|| LinkError::TooLarge {
            what: format!("section {} of all files", section.name),
            limit: MAX_BYTES,
        })?;
        if section.kind != SHT_NOBITS {
            self.gaps += start - output.size;
            if self.gaps > MAX_GAPS {
                return Err(LinkError::TooLarge {
                    what: format!("what aligns section {} and those before it", section.name),
                    limit: MAX_GAPS,
                });
            }
            output.data.resize(usize::try_from(start).unwrap_or(usize::MAX), 0);
            output.data.extend(section.data);
        }
        output.size = end;
        output.align = output.align.max(align);
        Ok(Some(Placed { output: at, offset: start }))
    }
}

/// Does a section go into the result as it is? Tables are made anew, types are merged; what
/// debuggers read is left out.
fn has_contents(file: &File<'_>, section: &Section<'_>) -> Result<bool, LinkError> {
    let wrong = |problem: String| LinkError::Section {
        file: file.name.to_owned(),
        section: section.name.to_owned(),
        problem,
    };
    match section.kind {
        SHT_NULL | SHT_SYMTAB | SHT_STRTAB | SHT_REL | SHT_ADDRSIG => return Ok(false),
        _ if left_out(section.name) => return Ok(false),
        SHT_PROGBITS | SHT_NOBITS => {}
        kind => return Err(wrong(format!("it has type {kind:#x}, which cannot be linked"))),
    }
    if !section.align.max(1).is_power_of_two() || section.align > MAX_ALIGN {
        let align = section.align;
        return Err(wrong(format!("it is aligned to {align}, expected a power of two to 65536")));
    }
    if section.is_code() && !section.size.is_multiple_of(8) {
        let size = section.size;
        return Err(wrong(format!("it has {size} bytes, expected whole instructions of 8")));
    }
    if section.size > MAX_BYTES {
        return Err(wrong(format!("it has {} bytes, more than 2^32", section.size)));
    }
    // clang makes an empty .text in every file.
    Ok(section.size > 0)
}

fn left_out(name: &str) -> bool {
    matches!(name, ".BTF" | ".BTF.ext") || name.starts_with(".debug_") || name == ".comment"
}

/// What a note says, for an error.
fn text(data: &[u8]) -> String {
    let end = data.split(|&b| b == 0).next().unwrap_or_default();
    match std::str::from_utf8(end) {
        Ok(text) if !text.is_empty() && text.len() < 100 && !text.contains(char::is_control) => {
            format!("\"{text}\"")
        }
        _ => data.iter().take(16).map(|b| format!("{b:02x}")).collect(),
    }
}
