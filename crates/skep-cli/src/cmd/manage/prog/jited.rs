//! Machine code as bytes, by function and source line.

use std::fmt;

use serde::Serialize;

use super::dump::{Loaded, Style, hidden};
use crate::{output::Out, show::hex};

/// Bytes that begin at a function, a source line, or behind 16 others.
#[derive(Debug, Serialize)]
struct Row {
    /// The function that starts here.
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    /// The source line that starts here.
    #[serde(skip_serializing_if = "Option::is_none")]
    src: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// Address in the kernel, or offset where addresses are hidden.
    pc: String,
    bytes: String,
    #[serde(skip)]
    style: Style,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(function) = &self.function {
            writeln!(f, "{function}:")?;
        }
        if let Some(src) = &self.src {
            write!(f, "; {src}")?;
            match (&self.file, self.line) {
                (Some(file), Some(line)) if self.style.linum => writeln!(f, " [{file}:{line}]")?,
                _ => writeln!(f)?,
            }
        }
        write!(f, "  {}:", self.pc)?;
        for pair in self.bytes.as_bytes().chunks(2) {
            write!(f, " {}", std::str::from_utf8(pair).unwrap_or("??"))?;
        }
        Ok(())
    }
}

/// Prints the machine code of a program.
pub(super) fn dump(program: &Loaded, style: Style, out: &mut Out<'_>) -> anyhow::Result<()> {
    let code = &program.code;
    if code.jited.is_empty() {
        return Err(hidden(program.info.id, "machine code"));
    }
    let whole = [(0, u32::try_from(code.jited.len()).unwrap_or(u32::MAX))];
    let functions = match code.jited_functions.as_slice() {
        [] => &whole[..],
        known => known,
    };
    let mut rest = code.jited.as_slice();
    for (n, &(address, len)) in functions.iter().enumerate() {
        let (own, left) = rest.split_at_checked(len as usize).unwrap_or((rest, &[]));
        rest = left;
        let named = code.functions.get(n).and_then(|(_, ty)| program.btf.as_ref()?.name(*ty));
        let mut name = Some(named.unwrap_or(&program.info.name).to_owned());
        let mut starts = lines_of(program, address, len, style.source);
        // Bytes before the first line.
        if starts.first().is_none_or(|(offset, _)| *offset != 0) {
            starts.insert(0, (0, None));
        }
        let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([own.len()]).collect::<Vec<_>>();
        for (&(start, line), end) in starts.iter().zip(ends) {
            let mut at = start;
            let mut source = line.and_then(|line| source(program, line));
            for bytes in own.get(start..end).unwrap_or_default().chunks(16) {
                let (src, file, number) = source
                    .take()
                    .map_or((None, None, None), |(s, f, l)| (Some(s), Some(f), Some(l)));
                out.emit(&Row {
                    function: name.take(),
                    src,
                    file,
                    line: number,
                    pc: format!("{:#x}", address.saturating_add(at as u64)),
                    bytes: hex(bytes),
                    style,
                })?;
                at += bytes.len();
            }
        }
    }
    Ok(())
}

/// Where in a function source lines start: offset and index of the line.
fn lines_of(program: &Loaded, address: u64, len: u32, wanted: bool) -> Vec<(usize, Option<usize>)> {
    let all = program.code.jited_lines.iter().enumerate().filter(|_| wanted);
    let inside = all.filter_map(|(n, &at)| {
        let offset = at.checked_sub(address).filter(|o| *o < u64::from(len))?;
        Some((usize::try_from(offset).ok()?, Some(n)))
    });
    let mut found: Vec<_> = inside.collect();
    found.sort_unstable();
    // Several lines at one place: the last one's code is what stands there.
    found.dedup_by_key(|(offset, _)| *offset);
    found
}

fn source(program: &Loaded, index: usize) -> Option<(String, String, u32)> {
    let line = program.code.lines.get(index)?;
    let btf = program.btf.as_ref()?;
    let text = btf.string(line.text_off)?.trim();
    let file = btf.string(line.file_off).unwrap_or("");
    let file = file.rsplit('/').next().unwrap_or(file);
    (!text.is_empty()).then(|| (text.to_owned(), file.to_owned(), line.line))
}
