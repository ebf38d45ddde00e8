//! The bytes that [`Btf`](crate::Btf) is read from: its own, or those of a mapping that stays.

use std::{borrow::Cow, ffi::CStr, ops::Range};

use crate::raw::Bytes4;

/// A file in this machine's byte order, and where its two parts are.
pub(crate) struct File {
    bytes: Cow<'static, [u8]>,
    types: Range<usize>,
    strings: Range<usize>,
    /// The strings with `?` for what is not UTF-8, where something is not.
    lossy: Option<Box<str>>,
}

impl File {
    /// The caller has seen that the parts are within the bytes; what is not reads as empty.
    pub(crate) fn new(
        bytes: Cow<'static, [u8]>,
        types: Range<usize>,
        strings: Range<usize>,
    ) -> Self {
        let mut file = Self { bytes, types, strings, lossy: None };
        file.lossy = lossy(file.strings());
        file
    }

    /// The type section.
    pub(crate) fn words(&self) -> &[Bytes4] {
        self.bytes.get(self.types.clone()).unwrap_or_default().as_chunks().0
    }

    /// The string section.
    pub(crate) fn strings(&self) -> &[u8] {
        self.bytes.get(self.strings.clone()).unwrap_or_default()
    }

    /// The string at this offset of the section.
    pub(crate) fn string(&self, at: usize) -> Option<&str> {
        match &self.lossy {
            Some(text) => text.get(at..)?.split_once('\0').map(|(name, _)| name),
            None => {
                let name = CStr::from_bytes_until_nul(self.strings().get(at..)?).ok()?;
                name.to_str().ok()
            }
        }
    }

    /// Can a string start at this offset? Cheaper than [`File::string`].
    pub(crate) fn has_string(&self, at: usize) -> bool {
        match &self.lossy {
            Some(text) => at < text.len() && text.is_char_boundary(at),
            // In UTF-8 such bytes are inside of a character.
            None => self.strings().get(at).is_some_and(|byte| byte & 0xc0 != 0x80),
        }
    }
}

/// Text of the same length with `?` for each byte that is not UTF-8; `None` when there is none.
fn lossy(bytes: &[u8]) -> Option<Box<str>> {
    if std::str::from_utf8(bytes).is_ok() {
        return None;
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    Some(text.into_boxed_str())
}
