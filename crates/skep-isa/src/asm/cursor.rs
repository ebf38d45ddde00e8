//! A place in a line: the tokens both notations share. Nothing here can panic on any text.

use crate::{Reg, Size, Width};

use super::{AsmReason, Fail};

/// Reads one line from left to right. Blanks before a token are skipped.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    line: &'a str,
    rest: &'a str,
}

/// Where a jump goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    Offset(i128),
    Label(&'a str),
}

fn word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$')
}

/// The part of a line before its comment. `#` directly between a name and a digit is none: the
/// verifier log writes `call name#1`.
fn without_comment(line: &str) -> &str {
    let starts_comment = |(at, c): &(usize, char)| match c {
        ';' => true,
        '/' => line.get(at + 1..).is_some_and(|rest| rest.starts_with('/')),
        '#' => {
            let name = line.get(..*at).and_then(|s| s.chars().next_back()).is_some_and(word_char);
            let rest = line.get(at + 1..).unwrap_or_default();
            !(name && rest.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
        }
        _ => false,
    };
    let end = line.char_indices().find(starts_comment).map_or(line.len(), |(at, _)| at);
    line.get(..end).unwrap_or_default()
}

impl<'a> Cursor<'a> {
    pub(super) fn new(line: &'a str) -> Self {
        let line = without_comment(line).trim_end();
        Self { line, rest: line.trim_start() }
    }

    /// Column of the next token, from 1.
    pub(super) fn column(&self) -> u32 {
        let before = self.line.len().saturating_sub(self.rest.len());
        let chars = self.line.get(..before).unwrap_or_default().chars().count();
        u32::try_from(chars).map_or(u32::MAX, |n| n.saturating_add(1))
    }

    pub(super) const fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The error that something else should stand here.
    pub(super) fn expected(&self, expected: &'static str) -> Fail {
        let word: String = self.rest.chars().take_while(|c| word_char(*c) || *c == '%').collect();
        let found = match self.rest.chars().next() {
            None => "end of line".to_owned(),
            Some(_) if !word.is_empty() => format!("{:?}", word.get(..40).unwrap_or(&word)),
            Some(c) => format!("{c:?}"),
        };
        Fail { column: self.column(), reason: AsmReason::Expected { expected, found } }
    }

    fn skip(&mut self, len: usize) {
        self.rest = self.rest.get(len..).unwrap_or_default().trim_start();
    }

    /// Eats this punctuation, if it is next.
    pub(super) fn eat(&mut self, symbol: &str) -> bool {
        let found = self.rest.starts_with(symbol);
        if found {
            self.skip(symbol.len());
        }
        found
    }

    pub(super) fn expect(&mut self, symbol: &str, expected: &'static str) -> Result<(), Fail> {
        if self.eat(symbol) { Ok(()) } else { Err(self.expected(expected)) }
    }

    pub(super) fn starts_with(&self, symbol: &str) -> bool {
        self.rest.starts_with(symbol)
    }

    /// The next word without eating it; empty when none is next.
    pub(super) fn peek_word(&self) -> &'a str {
        let start = usize::from(self.rest.starts_with('%'));
        let tail = self.rest.get(start..).unwrap_or_default();
        let end = tail.find(|c| !word_char(c)).unwrap_or(tail.len());
        if end == 0 { "" } else { self.rest.get(..start + end).unwrap_or_default() }
    }

    pub(super) fn word(&mut self) -> &'a str {
        let word = self.peek_word();
        self.skip(word.len());
        word
    }

    /// Eats this whole word, if it is next.
    pub(super) fn word_is(&mut self, word: &str) -> bool {
        let found = self.peek_word() == word;
        if found {
            self.skip(word.len());
        }
        found
    }

    /// A label definition `name:`.
    pub(super) fn label(&mut self) -> Option<(&'a str, u32)> {
        let word = self.peek_word();
        let mut ahead = self.clone();
        ahead.skip(word.len());
        if !is_name(word) || !ahead.eat(":") {
            return None;
        }
        let column = self.column();
        *self = ahead;
        Some((word, column))
    }

    /// Skips what a listing has in front of an instruction: `12:`, raw bytes, `(bf)`, or a line
    /// `0000000000000000 <name>:`. True when the opcode in parentheses is that of `lddw`, which
    /// the verifier log prints without `ll`.
    pub(super) fn listing(&mut self) -> bool {
        let mut ahead = self.clone();
        let word = ahead.word();
        if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) && ahead.eat(":") {
            *self = ahead;
        } else if word.len() == 16 && hex(word) && ahead.eat("<") && self.rest.ends_with(">:") {
            self.rest = "";
        }
        self.raw_bytes();
        let mut ahead = self.clone();
        if ahead.eat("(") {
            let code = ahead.word();
            if code.len() == 2 && hex(code) && ahead.eat(")") {
                *self = ahead;
                return code == "18";
            }
        }
        false
    }

    /// Skips 8 or 16 two-digit bytes.
    fn raw_bytes(&mut self) {
        let mut ahead = self.clone();
        let mut count = 0;
        while count < 16 {
            let word = ahead.peek_word();
            if word.len() != 2 || !hex(word) {
                break;
            }
            ahead.word();
            count += 1;
        }
        if count == 8 || count == 16 {
            *self = ahead;
        }
    }

    /// Is a number next, perhaps with a sign?
    pub(super) fn at_number(&self) -> bool {
        let unsigned = self.rest.strip_prefix(['-', '+']).unwrap_or(self.rest).trim_start();
        unsigned.starts_with(|c: char| c.is_ascii_digit())
    }

    /// A number and whether it was hexadecimal.
    fn any_number(&mut self, expected: &'static str) -> Result<(i128, bool), Fail> {
        let mut ahead = self.clone();
        let negative = ahead.eat("-");
        if !negative {
            ahead.eat("+");
        }
        let word = ahead.word();
        let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
        let (digits, radix) = hex.map_or((word, 10), |digits| (digits, 16));
        // from_str_radix takes a sign of its own; a word has none.
        let value = i128::from_str_radix(digits, radix).map_err(|_| self.expected(expected))?;
        *self = ahead;
        Ok((if negative { -value } else { value }, hex.is_some()))
    }

    /// A number in a range; `what` names it in the error.
    pub(super) fn number(
        &mut self,
        expected: &'static str,
        what: &'static str,
        min: i128,
        max: i128,
    ) -> Result<i128, Fail> {
        let column = self.column();
        let (found, _) = self.any_number(expected)?;
        if (min..=max).contains(&found) {
            Ok(found)
        } else {
            Err(Fail { column, reason: AsmReason::OutOfRange { what, found, min, max } })
        }
    }

    /// A signed 32-bit number, decimal or hexadecimal.
    pub(super) fn i32(&mut self, what: &'static str) -> Result<i32, Fail> {
        let value = self.number("a number", what, i32::MIN.into(), i32::MAX.into())?;
        Ok(i32::try_from(value).expect("the range was checked"))
    }

    /// An immediate of 32 bits: decimal with sign, hexadecimal also without.
    pub(super) fn imm32(&mut self) -> Result<i32, Fail> {
        let column = self.column();
        let (found, hex) = self.any_number("a number")?;
        let max = if hex { i128::from(u32::MAX) } else { i128::from(i32::MAX) };
        let min = i128::from(i32::MIN);
        let signed = i32::try_from(found).ok();
        let unsigned = u32::try_from(found).ok().filter(|_| hex).map(u32::cast_signed);
        signed.or(unsigned).ok_or(Fail {
            column,
            reason: AsmReason::OutOfRange { what: "immediate", found, min, max },
        })
    }

    /// A constant of 64 bits, with or without sign.
    pub(super) fn imm64(&mut self) -> Result<u64, Fail> {
        let (min, max) = (i64::MIN.into(), u64::MAX.into());
        let value = self.number("a number", "64-bit constant", min, max)?;
        let signed = i64::try_from(value).map(i64::cast_unsigned);
        Ok(u64::try_from(value).or(signed).expect("the range was checked"))
    }

    /// A register and, when it is written `w1`, that it is the 32-bit half.
    pub(super) fn any_reg(&mut self) -> Result<(Reg, Width), Fail> {
        let column = self.column();
        let word = self.peek_word();
        let Some((width, number)) = reg_name(word) else {
            return Err(self.expected("a register"));
        };
        let reg = u8::try_from(number).ok().and_then(Reg::new);
        let reg = reg.ok_or(Fail { column, reason: AsmReason::NoSuchRegister { number } })?;
        self.word();
        Ok((reg, width))
    }

    /// A register of this width: `r1` for 64 bit, `w1` for 32 bit.
    pub(super) fn reg_of(&mut self, width: Width) -> Result<Reg, Fail> {
        let mut ahead = self.clone();
        let (reg, found) = ahead.any_reg()?;
        if found == width {
            *self = ahead;
            return Ok(reg);
        }
        Err(self.expected(match width {
            Width::W64 => "a 64-bit register (r0 to r10)",
            Width::W32 => "a 32-bit register (w0 to w10)",
        }))
    }

    /// A 64-bit register.
    pub(super) fn reg(&mut self) -> Result<Reg, Fail> {
        self.reg_of(Width::W64)
    }

    /// The register that carries a value of `size` to or from memory; up to 4 bytes `llvm-objdump`
    /// may call it `w1`.
    pub(super) fn value_reg(&mut self, size: Size) -> Result<Reg, Fail> {
        let mut ahead = self.clone();
        match ahead.any_reg()? {
            (_, Width::W32) if size == Size::Dw => {
                Err(self.expected("a 64-bit register (r0 to r10)"))
            }
            (reg, _) => {
                *self = ahead;
                Ok(reg)
            }
        }
    }

    /// Is a register next?
    pub(super) fn at_reg(&self) -> bool {
        reg_name(self.peek_word()).is_some()
    }

    /// `r10 - 4`, `r10 -4`, `%r10+4`, `r10`: base and offset.
    pub(super) fn address(&mut self) -> Result<(Reg, i16), Fail> {
        let base = self.reg()?;
        if !self.starts_with("+") && !self.starts_with("-") {
            return Ok((base, 0));
        }
        let (min, max) = (i16::MIN.into(), i16::MAX.into());
        let off = self.number("an offset", "offset", min, max)?;
        Ok((base, i16::try_from(off).expect("the range was checked")))
    }

    /// A type of memory access, `u8` to `u64` or `s8` to `s64`.
    pub(super) fn size(&mut self) -> Result<(Size, bool), Fail> {
        let word = self.peek_word();
        for &size in Size::ALL {
            let row = size.row();
            if word == row.unsigned || word == row.signed {
                self.word();
                return Ok((size, word == row.signed));
            }
        }
        Err(self.expected("a type (u8 to u64, s8 to s32)"))
    }

    /// A label, or an offset with its sign; a `<name+0x10>` behind it is skipped.
    pub(super) fn target(&mut self) -> Result<Target<'a>, Fail> {
        let word = self.peek_word();
        let target = if is_name(word) {
            self.word();
            Target::Label(word)
        } else if self.starts_with("+") || self.starts_with("-") {
            let (min, max) = (i32::MIN.into(), i32::MAX.into());
            Target::Offset(self.number("an offset", "offset", min, max)?)
        } else {
            return Err(self.expected("a label or an offset with its sign"));
        };
        if self.starts_with("<") {
            match self.rest.find('>') {
                Some(end) => self.skip(end + 1),
                None => return Err(self.expected("`<symbol>`")),
            }
        }
        Ok(target)
    }
}

fn hex(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Can this word be a label?
fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '.' | '$'))
}

/// Width and number of `r1`, `%r1` or `w1`.
fn reg_name(word: &str) -> Option<(Width, u64)> {
    let word = word.strip_prefix('%').unwrap_or(word);
    let (width, digits) = match (word.strip_prefix('r'), word.strip_prefix('w')) {
        (Some(digits), _) => (Width::W64, digits),
        (_, Some(digits)) => (Width::W32, digits),
        _ => return None,
    };
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().unwrap_or(u64::MAX)).map(|number| (width, number))
}
