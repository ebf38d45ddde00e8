//! One output model: a value is a line of JSON or a piece of text, from the same fields.

use std::{fmt, io::Write};

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
    /// JSON objects with line breaks inside.
    Pretty,
}

impl Format {
    /// The format that the `--json` flag asks for.
    pub const fn json_if(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// The flags of commands that list and show what is loaded, as bpftool has them.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Print {
    /// Print JSON, one object per line.
    #[arg(short = 'j', long)]
    pub json: bool,
    /// Print JSON for people, objects over several lines.
    #[arg(short = 'p', long)]
    pretty: bool,
}

impl Print {
    /// The format that the flags ask for.
    pub const fn format(self) -> Format {
        if self.pretty { Format::Pretty } else { Format::json_if(self.json) }
    }
}

/// Where values go.
pub struct Out<'a> {
    writer: &'a mut dyn Write,
    format: Format,
    /// Has text been written?
    begun: bool,
    /// The object that the values are about, where there are several.
    object: Option<String>,
}

/// A value that says which object it is about.
#[derive(serde::Serialize)]
struct Labelled<'a, T> {
    object: &'a str,
    #[serde(flatten)]
    value: &'a T,
}

impl<'a> Out<'a> {
    pub fn new(writer: &'a mut dyn Write, format: Format) -> Self {
        Self { writer, format, begun: false, object: None }
    }

    /// From now on values are about this object: JSON says so in each line.
    pub fn about(&mut self, object: Option<&str>) {
        self.object = object.map(Into::into);
    }

    /// Writes one value. Text that is empty writes nothing.
    pub fn emit<T: serde::Serialize + fmt::Display>(&mut self, value: &T) -> anyhow::Result<()> {
        match self.format {
            Format::Json | Format::Pretty => {
                match self.object.take() {
                    Some(object) => {
                        self.json(&Labelled { object: &object, value })?;
                        self.object = Some(object);
                    }
                    None => self.json(value)?,
                }
                writeln!(self.writer)?;
            }
            Format::Text => {
                let text = value.to_string();
                if !text.is_empty() {
                    writeln!(self.writer, "{text}")?;
                    self.begun = true;
                }
            }
        }
        Ok(())
    }

    fn json<T: serde::Serialize>(&mut self, value: &T) -> anyhow::Result<()> {
        let writer = &mut *self.writer;
        let written = match self.format {
            Format::Pretty => serde_json::to_writer_pretty(writer, value),
            _ => serde_json::to_writer(writer, value),
        };
        Ok(written.map_err(std::io::Error::from)?)
    }

    /// Is it text for people?
    pub fn is_text(&self) -> bool {
        self.format == Format::Text
    }

    /// Writes bytes as they are: text that a program made.
    pub fn raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.begun |= !bytes.is_empty();
        Ok(self.writer.write_all(bytes)?)
    }

    /// As [`Out::emit`]; in text an empty line stands before it, unless it comes first.
    pub fn section<T: serde::Serialize + fmt::Display>(&mut self, value: &T) -> anyhow::Result<()> {
        if self.format == Format::Text && self.begun {
            writeln!(self.writer)?;
        }
        self.emit(value)
    }

    /// Hands over what was written so far; live streams call it after each batch.
    pub fn flush(&mut self) -> anyhow::Result<()> {
        Ok(self.writer.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize)]
    struct Line {
        packets: u32,
    }

    impl fmt::Display for Line {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} packets", self.packets)
        }
    }

    #[test]
    fn text_and_json_show_the_same_value() {
        for (format, want) in [
            (Format::Text, "3 packets\n"),
            (Format::Json, "{\"packets\":3}\n"),
            (Format::Pretty, "{\n  \"packets\": 3\n}\n"),
        ] {
            let mut bytes = Vec::new();
            Out::new(&mut bytes, format).emit(&Line { packets: 3 }).unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), want);
        }
    }

    #[test]
    fn lines_of_json_name_their_object_when_told() {
        let mut bytes = Vec::new();
        let mut out = Out::new(&mut bytes, Format::Json);
        out.about(Some("a.o"));
        out.emit(&Line { packets: 3 }).unwrap();
        out.about(None);
        out.emit(&Line { packets: 4 }).unwrap();
        let want = "{\"object\":\"a.o\",\"packets\":3}\n{\"packets\":4}\n";
        assert_eq!(String::from_utf8(bytes).unwrap(), want);
    }
}
