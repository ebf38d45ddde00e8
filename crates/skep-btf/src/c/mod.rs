//! BTF as a C header that compiles and gives every type the layout that the BTF says.
//!
//! Types come in an order in which each is complete where C needs it complete; forward declarations
//! do the rest. Names that C would see twice get the suffix `___2`, `___3`, which CO-RE ignores as a
//! flavor. Functions and variables are not part of the header.
//!
//! The layout is that of the BPF target: pointers of the BTF's size, integers aligned to their own.

mod declare;
mod layout;
mod names;
mod order;
mod print;
mod text;

pub use text::type_text;

use std::fmt;

use crate::Btf;

/// A C header, ready to be printed.
#[derive(Clone, Debug)]
pub struct Header {
    text: String,
}

impl Header {
    /// The header's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

const PROLOGUE: &str = "\
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

";

const EPILOGUE: &str = "\
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
";

/// The header with all types of this BTF, those of its base included.
///
/// Accesses through the header's structures are recorded for CO-RE, unless
/// `BPF_NO_PRESERVE_ACCESS_INDEX` is defined. What C cannot express, and types inside each other
/// without end, are left as a comment.
pub fn header(btf: &Btf) -> Header {
    let mut text = String::from(PROLOGUE);
    let limit = work_limit(btf);
    let mut printer = print::Printer::new(btf, limit);
    for step in order::order(btf, limit) {
        printer.step(step, &mut text);
        if printer.is_exhausted() {
            text.push_str("/* the rest is left out: types are repeated inside each other */\n\n");
            break;
        }
    }
    text.push_str(EPILOGUE);
    Header { text }
}

/// Declarations and dependencies that a header of this BTF may have.
///
/// Anonymous types are written where they are used, so hostile ones could be written without end.
/// A kernel's header has one declaration for eight words. A long name counts as several.
fn work_limit(btf: &Btf) -> usize {
    let layers = std::iter::successors(Some(btf), |layer| layer.base());
    layers.map(|layer| layer.inner.file.words().len()).sum::<usize>().saturating_mul(4) + 10_000
}

#[cfg(test)]
mod tests;
