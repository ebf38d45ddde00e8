//! Reading the data files of the public BPF conformance suite.
//!
//! A file is text: a program, perhaps input memory, and the result expected in `r0` or the error
//! expected instead of it. To run one, put the address of [`Case::memory`] in `r1` and its length
//! in `r2` (both 0 without memory), `r10` at the end of a stack of 512 bytes, provide helper 5
//! (returns its first argument), and compare `r0` with [`Case::expect`] in all 64 bits.
//!
//! ```
//! use skep_isa::conformance::{Case, Expect};
//!
//! let case = Case::parse("-- asm\nldxb %r0, [%r1]\nexit\n-- mem\n2a\n-- result\n0x2a\n")?;
//! assert_eq!((case.program.len(), case.memory.as_deref()), (2, Some(&[0x2a][..])));
//! assert_eq!(case.expect, Expect::Result(0x2a));
//! # Ok::<(), skep_isa::conformance::CaseError>(())
//! ```
//!
//! skep's own vectors (`tests/data/isa/*.data`) have the same form. Beyond the suite they use the
//! notation of [`crate::disasm`] in `-- asm`, and a section `-- needs` with one word per line for
//! what an engine must have to run them.

use crate::{Slot, asm};

/// One data file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The program; section `raw` when there is one, else `asm`.
    pub program: Vec<Slot>,
    /// Input memory; `None` when the file has none.
    pub memory: Option<Vec<u8>>,
    /// What must come out.
    pub expect: Expect,
    /// Words of the section `needs`: what not every engine has, for example `lddw-map`.
    pub needs: Vec<String>,
}

/// What a case expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The program ends with this `r0`.
    Result(u64),
    /// The program is refused or stopped. The text is the suite's, for a person to read.
    Error(String),
}

/// Why a data file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// The section `asm` does not assemble; the line counts from the start of the file.
    #[error("section asm: {0}")]
    Asm(asm::AsmError),
    /// A word that is not what the section holds.
    #[error("line {line}: {found:?} in section {section}, expected {expected}")]
    Word {
        /// Line of the file, from 1.
        line: u32,
        /// The section.
        section: &'static str,
        /// The word.
        found: String,
        /// What the section holds.
        expected: &'static str,
    },
    /// A section that every file has is missing.
    #[error("no section {section}, expected one")]
    Missing {
        /// The section, or the alternatives.
        section: &'static str,
    },
}

/// Sections with content; everything else is for the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Asm,
    Raw,
    Mem,
    Result,
    Error,
    Needs,
    Skipped,
}

impl Section {
    /// The section that this line starts, by the words in it.
    fn starting(line: &str) -> Self {
        const NAMES: &[(&str, Section)] = &[
            ("asm", Section::Asm),
            ("raw", Section::Raw),
            ("mem", Section::Mem),
            ("result", Section::Result),
            ("error", Section::Error),
            ("needs", Section::Needs),
        ];
        let found =
            NAMES.iter().find(|(name, _)| line.split_whitespace().any(|word| word == *name));
        found.map_or(Self::Skipped, |(_, section)| *section)
    }
}

impl Case {
    /// Reads a data file.
    ///
    /// # Errors
    ///
    /// [`CaseError`] at the first thing that cannot be read.
    pub fn parse(text: &str) -> Result<Self, CaseError> {
        let mut section = Section::Skipped;
        // Lines of other sections stay as empty lines, so that errors count from the file's start.
        let mut asm_text = String::new();
        let mut has_asm = false;
        let mut raw: Option<Vec<Slot>> = None;
        let mut memory: Option<Vec<u8>> = None;
        let mut result = None;
        let mut error: Option<String> = None;
        let mut needs = Vec::new();
        for (full, line) in text.lines().zip(1u32..) {
            asm_text.push('\n');
            let content = full.split('#').next().unwrap_or_default().trim();
            if content.contains("--") {
                section = Section::starting(content);
                has_asm |= section == Section::Asm;
                if section == Section::Mem {
                    memory.get_or_insert_default();
                }
                continue;
            }
            let wrong = |section, found: &str, expected| CaseError::Word {
                line,
                section,
                found: found.to_owned(),
                expected,
            };
            let words = content.split_whitespace();
            match section {
                Section::Asm => {
                    asm_text.pop();
                    asm_text.push_str(full);
                    asm_text.push('\n');
                }
                Section::Raw => {
                    for word in words {
                        let bits =
                            number(word).ok_or_else(|| wrong("raw", word, "64-bit numbers"))?;
                        raw.get_or_insert_default().push(Slot::from_le_bytes(bits.to_le_bytes()));
                    }
                }
                Section::Mem => {
                    for word in words {
                        let byte = Some(word).filter(|word| word.len() <= 2);
                        let byte = byte.and_then(|word| u8::from_str_radix(word, 16).ok());
                        let byte = byte.ok_or_else(|| wrong("mem", word, "hexadecimal bytes"))?;
                        memory.get_or_insert_default().push(byte);
                    }
                }
                Section::Result => {
                    for word in words {
                        let value = number(word);
                        result =
                            Some(value.ok_or_else(|| wrong("result", word, "a 64-bit number"))?);
                    }
                }
                Section::Error if !content.is_empty() => {
                    let error = error.get_or_insert_default();
                    if !error.is_empty() {
                        error.push('\n');
                    }
                    error.push_str(content);
                }
                Section::Needs => needs.extend(words.map(str::to_owned)),
                Section::Error | Section::Skipped => {}
            }
        }
        let program = match raw {
            Some(slots) => slots,
            None if has_asm => asm::assemble(&asm_text).map_err(CaseError::Asm)?,
            None => return Err(CaseError::Missing { section: "asm or raw" }),
        };
        let expect = match (result, error) {
            (_, Some(error)) => Expect::Error(error),
            (Some(value), None) => Expect::Result(value),
            (None, None) => return Err(CaseError::Missing { section: "result or error" }),
        };
        Ok(Self { program, memory, expect, needs })
    }
}

/// A 64-bit number, hexadecimal with `0x` or decimal with or without sign.
fn number(word: &str) -> Option<u64> {
    if let Some(hex) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        return u64::from_str_radix(hex, 16).ok();
    }
    word.parse().ok().or_else(|| word.parse().ok().map(i64::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Insn, decode, disasm::Listing};

    #[test]
    fn raw_wins_over_asm_and_unknown_sections_are_skipped() {
        let text = "# note -- asm\n-- c\nint x;\n-- asm\nr0 = 1\nexit\n-- raw\n0x95\n--\njunk\n\
                    -- mem\n-- result\n-1 # all ones\n-- no register offset\ncall instruction\n";
        let case = Case::parse(text).unwrap();
        assert_eq!(decode(&case.program).unwrap()[0].1, Insn::Exit);
        assert_eq!((case.memory, case.expect), (Some(Vec::new()), Expect::Result(u64::MAX)));
    }

    #[test]
    fn errors_count_lines_of_the_file() {
        let cases = [
            (
                "# head\n-- asm\nr0 = 1\nfrob\n-- result\n1",
                "section asm: line 4, column 1: expected an instruction, found \"frob\"",
            ),
            (
                "-- asm\nexit\n-- mem\n0 1g\n-- result\n1",
                "line 4: \"1g\" in section mem, expected hexadecimal bytes",
            ),
            ("-- result\n1", "no section asm or raw, expected one"),
            ("-- asm\nexit", "no section result or error, expected one"),
        ];
        for (text, want) in cases {
            assert_eq!(Case::parse(text).unwrap_err().to_string(), want, "{text}");
        }
    }

    #[test]
    fn every_file_of_the_suite_is_read_and_survives_a_round_trip() {
        let test = "conformance files";
        let Some(dir) = skep_testing::shared(test, "data/bpf_conformance") else { return };
        let mut count = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ext| ext != "data") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let case = Case::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let decoded = decode(&case.program);
            assert!(decoded.is_ok(), "{}: {decoded:?}", path.display());
            let listing = Listing::new(&case.program).labels(true).to_string();
            assert_eq!(asm::assemble(&listing).as_ref(), Ok(&case.program), "{}", path.display());
            // The one file with both shows that the assembler and the raw words agree.
            if let Some((before, after)) = text.split_once("-- raw") {
                let after = after.split_once("--").map_or("", |(_, after)| after);
                let asm_only = Case::parse(&format!("{before}--{after}")).unwrap();
                assert_eq!(asm_only.program, case.program, "{}", path.display());
            }
            count += 1;
        }
        assert_eq!(count, 313);
    }
}
