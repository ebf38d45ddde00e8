//! Definitions as text.

use std::fmt::Write as _;

use super::{
    declare::{Base, declarator, float_words, int_words, is_union},
    layout::Layouts,
    names::{Names, identifier},
    order::Step,
};
use crate::{Btf, Composite, Enum, Kind, TypeId};

/// Anonymous types inside each other that are printed.
const MAX_DEPTH: usize = 32;

/// Padding of more bits than this is an array instead of nameless bitfields.
const MAX_NAMELESS: u64 = 64 * 16;

/// Writes definitions, and knows the names and layouts they need.
pub(super) struct Printer<'a> {
    btf: &'a Btf,
    names: Names,
    layouts: Layouts<'a>,
    /// Lines and declarations that may still be written.
    left: usize,
}

impl<'a> Printer<'a> {
    pub(super) fn new(btf: &'a Btf, limit: usize) -> Self {
        Self { btf, names: Names::new(btf), layouts: Layouts::new(btf), left: limit }
    }

    /// Was more written than any real header has?
    pub(super) const fn is_exhausted(&self) -> bool {
        self.left == 0
    }

    /// Writes one declaration or definition and an empty line.
    pub(super) fn step(&mut self, step: Step, out: &mut String) {
        let before = out.len();
        let written = match step {
            Step::Declare(id) => {
                let word = if is_union(self.btf, id) { "union" } else { "struct" };
                write!(out, "{word} {};", self.names.of(id)).ok()
            }
            Step::Define(id) => self.define(id, out),
        };
        if written.is_none() {
            let (Step::Declare(id) | Step::Define(id)) = step;
            out.truncate(before);
            self.count(out.write_fmt(format_args!("/* type {id} cannot be written in C */")));
        }
        out.push_str("\n\n");
    }

    /// Counts a line; writing to a string cannot fail.
    fn count(&mut self, _infallible: std::fmt::Result) {
        self.left = self.left.saturating_sub(1);
    }

    /// Counts the bytes of a name: names overlap freely in the file, here each is written.
    fn count_name(&mut self, name: &str) {
        self.left = self.left.saturating_sub(name.len() / 32);
    }

    fn define(&mut self, id: TypeId, out: &mut String) -> Option<()> {
        match self.btf.get(id)?.kind {
            Kind::Typedef(of) => {
                let name = self.names.of(id).to_owned();
                out.push_str("typedef ");
                self.declaration(of, &name, 0, out, MAX_DEPTH)?;
            }
            _ => self.inline(id, 0, out, MAX_DEPTH)?,
        }
        out.push(';');
        Some(())
    }

    /// `const struct x *name[4]`
    fn declaration(
        &mut self,
        id: TypeId,
        name: &str,
        indent: usize,
        out: &mut String,
        depth: usize,
    ) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        self.left = self.left.checked_sub(1)?;
        self.count_name(name);
        let btf = self.btf;
        let mut parameter = |ty: TypeId, name: &str| {
            let mut text = String::new();
            self.declaration(ty, name, indent, &mut text, depth)?;
            Some(text)
        };
        let (base, text) = declarator(btf, id, name, &mut parameter)?;
        self.base(base, indent, out, depth)?;
        if !text.is_empty() {
            out.push(' ');
            out.push_str(&text);
        }
        Some(())
    }

    /// The type at the left of a declaration.
    fn base(&mut self, base: Base, indent: usize, out: &mut String, depth: usize) -> Option<()> {
        out.push_str(&base.qualifiers.prefix());
        let ty = self.btf.get(base.id)?;
        match ty.kind {
            Kind::Void => out.push_str("void"),
            Kind::Int(int) => out.push_str(&int_words(ty.name, int)),
            Kind::Float { size } => out.push_str(float_words(ty.name, size)),
            Kind::Typedef(_) => out.push_str(self.names.of(base.id)),
            Kind::Fwd { union } => {
                out.push_str(if union { "union " } else { "struct " });
                out.push_str(self.names.of(base.id));
            }
            Kind::Struct(_) | Kind::Union(_) | Kind::Enum(_) | Kind::Enum64(_) => {
                if ty.name.is_empty() {
                    self.inline(base.id, indent, out, depth)?;
                } else {
                    out.push_str(keyword(&ty.kind));
                    out.push(' ');
                    out.push_str(self.names.of(base.id));
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// The definition in full.
    fn inline(&mut self, id: TypeId, indent: usize, out: &mut String, depth: usize) -> Option<()> {
        let ty = self.btf.get(id)?;
        out.push_str(keyword(&ty.kind));
        if !ty.name.is_empty() {
            out.push(' ');
            out.push_str(self.names.of(id));
        }
        match ty.kind {
            Kind::Struct(c) | Kind::Union(c) => {
                let union = matches!(ty.kind, Kind::Union(_));
                self.members(id, c, union, indent, out, depth)
            }
            Kind::Enum(e) | Kind::Enum64(e) => {
                self.enumerators(e, ty.name.is_empty(), indent, out);
                Some(())
            }
            _ => None,
        }
    }

    fn members(
        &mut self,
        id: TypeId,
        composite: Composite<'_>,
        union: bool,
        indent: usize,
        out: &mut String,
        depth: usize,
    ) -> Option<()> {
        let layout = self.layouts.of(id);
        let size = u64::from(composite.size) * 8;
        let tabs = "\t".repeat(indent + 1);
        let mut end = 0;
        let mut pads = 0;
        out.push_str(" {\n");
        for member in composite.members.iter() {
            let at = u64::from(member.bit_offset);
            if !union && self.layouts.natural(member, end, layout.packed) != at {
                self.pad(end, at, &tabs, &mut pads, out)?;
            }
            out.push_str(&tabs);
            let name = if member.name.is_empty() { String::new() } else { identifier(member.name) };
            self.declaration(member.ty, &name, indent + 1, out, depth)?;
            if member.bitfield_size > 0 {
                self.count(write!(out, ": {}", member.bitfield_size));
            }
            self.count(writeln!(out, ";"));
            let width = self.layouts.width(member);
            end = if union { end.max(width) } else { at + width };
        }
        let natural = match layout.packed {
            true => end.next_multiple_of(8),
            false => end.next_multiple_of(u64::from(layout.align) * 8),
        };
        if natural < size && union {
            // A nameless bitfield would not make a union larger.
            self.count(writeln!(out, "{tabs}unsigned char __pad[{}];", size / 8));
        } else if natural < size {
            self.pad(end, size, &tabs, &mut pads, out)?;
        }
        self.count(write!(out, "{}}}", "\t".repeat(indent)));
        if layout.packed {
            out.push_str(" __attribute__((packed))");
        }
        Some(())
    }

    /// Fills the bits from `end` to `at`; `None` when they go backwards.
    ///
    /// Nameless bitfields, so that no member appears that the kernel does not have.
    fn pad(
        &mut self,
        end: u64,
        at: u64,
        tabs: &str,
        pads: &mut u32,
        out: &mut String,
    ) -> Option<()> {
        let mut end = end;
        let mut left = at.checked_sub(end)?;
        if left > MAX_NAMELESS {
            let bytes_start = end.next_multiple_of(8);
            if bytes_start > end {
                self.count(writeln!(out, "{tabs}char: {};", bytes_start - end));
            }
            let bytes = (at - bytes_start) / 8;
            self.count(writeln!(out, "{tabs}unsigned char __pad{pads}[{bytes}];"));
            *pads += 1;
            end = bytes_start + bytes * 8;
            left = at - end;
        }
        while left > 0 {
            // As much as fits before the next boundary of 64 bits.
            let bits = left.min(64 - end % 64);
            self.count(writeln!(out, "{tabs}long: {bits};"));
            end += bits;
            left -= bits;
        }
        Some(())
    }

    fn enumerators(&mut self, e: Enum<'_>, anonymous: bool, indent: usize, out: &mut String) {
        if e.values.is_empty() && !anonymous {
            // All that is known is its name.
            return;
        }
        let tabs = "\t".repeat(indent + 1);
        out.push_str(" {\n");
        for value in e.values.iter() {
            self.count_name(value.name);
            let name = self.names.ordinary.take(value.name);
            let suffix = match (e.size, e.signed) {
                (8, true) => "LL",
                (8, false) => "ULL",
                _ => "",
            };
            let number = value.number();
            // The smallest number is no literal: C sees a minus and a number too large.
            if number == i128::from(i64::MIN) {
                self.count(writeln!(out, "{tabs}{name} = {}LL - 1,", number + 1));
            } else {
                self.count(writeln!(out, "{tabs}{name} = {number}{suffix},"));
            }
        }
        self.count(write!(out, "{}}}", "\t".repeat(indent)));
        let fits_int = e.values.iter().all(|v| {
            let n = v.number();
            i128::from(i32::MIN) <= n && n <= i128::from(u32::MAX)
        });
        match e.size {
            1 => out.push_str(" __attribute__((mode(byte)))"),
            2 => out.push_str(" __attribute__((mode(HI)))"),
            8 if fits_int => out.push_str(" __attribute__((mode(DI)))"),
            _ => {}
        }
    }
}

fn keyword(kind: &Kind<'_>) -> &'static str {
    match kind {
        Kind::Struct(_) => "struct",
        Kind::Union(_) => "union",
        _ => "enum",
    }
}
