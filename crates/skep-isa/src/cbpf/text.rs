//! Filters as text: `tcpdump -d` out, `tcpdump -ddd` in.

use std::fmt;

use super::{Extension, Filter, Op, Raw, Row, Style};

/// A program as `tcpdump -d` prints it, one instruction per line. Opcodes that do not exist print
/// as `unimp`, as there.
pub fn listing(program: &[Raw]) -> impl fmt::Display {
    fmt::from_fn(move |f| {
        for (raw, at) in program.iter().zip(0u32..) {
            line(f, *raw, at)?;
            f.write_str("\n")?;
        }
        Ok(())
    })
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        listing(&self.to_raw()).fmt(f)
    }
}

/// Classes and operations as bits: what libpcap looks at to know a conditional jump.
const fn is_conditional(code: u16) -> bool {
    code & 0x07 == 0x05 && code & 0xf0 != 0
}

fn line(f: &mut fmt::Formatter<'_>, raw: Raw, at: u32) -> fmt::Result {
    let row = Row::find(raw.code);
    let mnemonic = row.map_or("unimp", |row| row.mnemonic);
    let operand = match row {
        None => format!("{:#x}", raw.code),
        Some(row) => operand(row, raw.k, at),
    };
    write!(f, "({at:03}) {mnemonic:<8} ")?;
    if is_conditional(raw.code) {
        let next = u64::from(at) + 1;
        let (jt, jf) = (next + u64::from(raw.jt), next + u64::from(raw.jf));
        write!(f, "{operand:<16} jt {jt}\tjf {jf}")
    } else {
        f.write_str(&operand)
    }
}

/// The operand in the row's style; libpcap prints it as a signed number.
fn operand(row: &Row, k: u32, at: u32) -> String {
    let signed = k.cast_signed();
    match row.style {
        Style::None => String::new(),
        Style::X => "x".to_owned(),
        Style::Decimal => format!("#{signed}"),
        Style::Hex => format!("#{k:#x}"),
        Style::Absolute => match Extension::at(k) {
            Some(extension) => format!("[{}]", extension.row().name),
            None => format!("[{signed}]"),
        },
        Style::Indirect => format!("[x + {signed}]"),
        Style::Memory => format!("M[{signed}]"),
        Style::Header => format!("4*([{signed}]&0xf)"),
        Style::Length => "#pktlen".to_owned(),
        Style::Target => at.wrapping_add(1).wrapping_add(k).cast_signed().to_string(),
    }
}

/// Text that is not a filter in numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// A word that is not a number of the size that belongs there.
    #[error("line {line}: {found:?} instead of {expected}")]
    Number {
        /// Line, from 1.
        line: usize,
        /// The word, or nothing at the end.
        found: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// The count in front is not the number of instructions.
    #[error("{found} instructions, but the count in front is {expected}")]
    Count {
        /// Instructions read.
        found: usize,
        /// The count.
        expected: usize,
    },
}

/// Reads a program in numbers: what `tcpdump -ddd` prints (a count, then `code jt jf k` per line),
/// or the same with commas in place of line ends, as `iptables` and `tc` take it.
///
/// # Errors
///
/// [`ParseError`] at the first word that is not the number it should be.
pub fn parse(text: &str) -> Result<Vec<Raw>, ParseError> {
    let mut lines = text
        .split(['\n', ','])
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty());
    let (at, first) = lines.next().unwrap_or((1, ""));
    let expected: usize = number(at, Some(first), "the number of instructions")?;
    let mut out = Vec::new();
    for (at, line) in lines {
        let mut words = line.split_whitespace();
        out.push(Raw {
            code: number(at, words.next(), "an opcode (0 to 65535)")?,
            jt: number(at, words.next(), "a jump distance (0 to 255)")?,
            jf: number(at, words.next(), "a jump distance (0 to 255)")?,
            k: number(at, words.next(), "a 32-bit operand")?,
        });
        if let Some(found) = words.next() {
            let found = found.to_owned();
            return Err(ParseError::Number { line: at, found, expected: "end of line" });
        }
    }
    if out.len() == expected {
        Ok(out)
    } else {
        Err(ParseError::Count { found: out.len(), expected })
    }
}

fn number<T: std::str::FromStr>(
    line: usize,
    word: Option<&str>,
    expected: &'static str,
) -> Result<T, ParseError> {
    let word = word.unwrap_or_default();
    word.parse().map_err(|_| ParseError::Number { line, found: word.to_owned(), expected })
}

/// One instruction without its position, as in [`listing`].
impl fmt::Display for super::Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.encode(), self.op) {
            (Some(raw), Op::JumpIf(..)) => {
                let row = Row::find(raw.code).ok_or(fmt::Error)?;
                let operand = operand(row, self.k, 0);
                write!(f, "{} {operand} jt +{} jf +{}", row.mnemonic, self.jt, self.jf)
            }
            (Some(raw), Op::Jump) => write!(f, "ja +{}", raw.k),
            (Some(raw), _) => {
                let row = Row::find(raw.code).ok_or(fmt::Error)?;
                let operand = operand(row, self.k, 0);
                write!(f, "{} {operand}", row.mnemonic)
            }
            (None, op) => write!(f, "{op:?}"),
        }
    }
}
