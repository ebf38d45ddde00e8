//! What others named must not steer the terminal: control characters are written as escapes.

use std::{
    fmt,
    io::{self, Write},
};

/// Begins the UTF-8 of the controls U+0080 to U+009F, and of other characters.
const LEAD: u8 = 0xc2;

/// A writer that writes control characters as `\u001b`, other bytes as they are.
///
/// Line feeds and tabs stay. Whatever else is a control came from names and texts of others:
/// processes, objects, programs. The escape is JSON's, so it may stand in a string of JSON too.
pub struct Clean<W> {
    writer: W,
    /// The last byte was [`LEAD`], and is not written yet.
    lead: bool,
}

impl<W: Write> Clean<W> {
    pub const fn new(writer: W) -> Self {
        Self { writer, lead: false }
    }

    /// Writes all of `bytes`.
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some((&first, rest)) = bytes.split_first() {
            if std::mem::take(&mut self.lead) {
                if (0x80..0xa0).contains(&first) {
                    write!(self.writer, "\\u{first:04x}")?;
                    bytes = rest;
                    continue;
                }
                self.writer.write_all(&[LEAD])?;
            }
            let plain = bytes.iter().position(|&b| is_control(b) || b == LEAD);
            let (plain, rest) = bytes.split_at(plain.unwrap_or(bytes.len()));
            self.writer.write_all(plain)?;
            bytes = rest;
            if let Some((&special, rest)) = rest.split_first() {
                bytes = rest;
                match special {
                    LEAD => self.lead = true,
                    control => write!(self.writer, "\\u{control:04x}")?,
                }
            }
        }
        Ok(())
    }
}

const fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\n' && byte != b'\t'
}

impl<W: Write> Write for Clean<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

/// One line on stderr. When nobody hears it, the work goes on.
pub fn say(text: fmt::Arguments<'_>) {
    let mut err = Clean::new(io::stderr().lock());
    drop(err.write_all(format!("{text}\n").as_bytes()));
}

/// As `eprintln!`, with [`Clean`] text.
macro_rules! say {
    ($($text:tt)*) => { $crate::clean::say(format_args!($($text)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_escaped_however_the_text_is_cut() {
        let text = "a\x1b[31mb\tc\n\u{9b}2J\x7f\r ü \u{a0}§ 🐝\0";
        let want = "a\\u001b[31mb\tc\n\\u009b2J\\u007f\\u000d ü \u{a0}§ 🐝\\u0000";
        for size in 1..=text.len() {
            let mut bytes = Vec::new();
            let mut clean = Clean::new(&mut bytes);
            text.as_bytes().chunks(size).for_each(|part| clean.write_all(part).unwrap());
            clean.flush().unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), want, "in pieces of {size}");
        }
    }

    #[test]
    fn escapes_are_those_of_json() {
        let name = "x\u{9b}y\x1b";
        let mut bytes = Vec::new();
        serde_json::to_writer(Clean::new(&mut bytes), name).unwrap();
        assert_eq!(bytes, br#""x\u009by\u001b""#);
        assert_eq!(serde_json::from_slice::<String>(&bytes).unwrap(), name);
    }
}
