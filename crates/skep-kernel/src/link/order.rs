//! The place of a program among several at one hook: tcx, netkit, cgroups.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use crate::sys::LinkExtra;

const BPF_F_BEFORE: u32 = 1 << 3;
const BPF_F_AFTER: u32 = 1 << 4;
const BPF_F_ID: u32 = 1 << 5;
const BPF_F_PREORDER: u32 = 1 << 6;
const BPF_F_LINK: u32 = 1 << 13;

/// Where a program comes to stand among those at a hook, and in which state the hook must be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Order<'a> {
    /// Its place.
    pub position: Position<'a>,
    /// The hook's revision that [`super::attached`] told: attaching fails with `ESTALE` when
    /// somebody has changed the hook since. 0 for any.
    pub revision: u64,
    /// At a cgroup: before the programs of the cgroups below, which else run first (Linux 6.15).
    #[doc(alias = "BPF_F_PREORDER")]
    pub before_children: bool,
}

/// A place among the programs at a hook. They run first to last.
#[derive(Clone, Copy, Debug, Default)]
pub enum Position<'a> {
    /// Where the kernel puts a new one: behind the others.
    #[default]
    Usual,
    /// Before all others.
    #[doc(alias = "BPF_F_BEFORE")]
    First,
    /// Behind all others.
    #[doc(alias = "BPF_F_AFTER")]
    Last,
    /// Right before another.
    #[doc(alias = "BPF_F_BEFORE")]
    Before(Neighbour<'a>),
    /// Right behind another.
    #[doc(alias = "BPF_F_AFTER")]
    After(Neighbour<'a>),
}

/// What a program stands beside.
#[derive(Clone, Copy, Debug)]
pub enum Neighbour<'a> {
    /// A program that was attached without a link.
    Program(BorrowedFd<'a>),
    /// The same, by its id.
    #[doc(alias = "BPF_F_ID")]
    ProgramId(u32),
    /// A link, see [`super::Link::fd`].
    #[doc(alias = "BPF_F_LINK")]
    Link(BorrowedFd<'a>),
    /// The same, by its id, see [`super::Link::id`].
    LinkId(u32),
}

impl<'a> Order<'a> {
    /// A place, whatever the hook's revision.
    pub const fn at(position: Position<'a>) -> Self {
        Self { position, revision: 0, before_children: false }
    }

    /// `BPF_F_*`, and the neighbour's descriptor or id.
    fn numbers(&self) -> (u32, u32) {
        let (side, neighbour) = match self.position {
            Position::Usual => return (0, 0),
            Position::First => return (BPF_F_BEFORE, 0),
            Position::Last => return (BPF_F_AFTER, 0),
            Position::Before(neighbour) => (BPF_F_BEFORE, neighbour),
            Position::After(neighbour) => (BPF_F_AFTER, neighbour),
        };
        let (flags, number) = match neighbour {
            Neighbour::Program(fd) => (0, fd.as_raw_fd().cast_unsigned()),
            Neighbour::ProgramId(id) => (BPF_F_ID, id),
            Neighbour::Link(fd) => (BPF_F_LINK, fd.as_raw_fd().cast_unsigned()),
            Neighbour::LinkId(id) => (BPF_F_LINK | BPF_F_ID, id),
        };
        (side | flags, number)
    }

    /// Does it ask for nothing?
    pub(super) fn is_usual(&self) -> bool {
        matches!(self.position, Position::Usual) && self.revision == 0 && !self.before_children
    }

    /// As a link is made with it.
    pub(super) fn extra(&self) -> LinkExtra<'static> {
        let (flags, relative) = self.numbers();
        let flags = flags | if self.before_children { BPF_F_PREORDER } else { 0 };
        LinkExtra::Ordered { relative, revision: self.revision, flags }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_flags_and_a_number() {
        let cases = [
            (Position::Usual, (0, 0)),
            (Position::First, (0x8, 0)),
            (Position::Last, (0x10, 0)),
            (Position::Before(Neighbour::ProgramId(7)), (0x28, 7)),
            (Position::After(Neighbour::LinkId(9)), (0x2030, 9)),
        ];
        for (position, want) in cases {
            let order = Order::at(position);
            assert_eq!(order.numbers(), want, "{position:?}");
            assert_eq!(order.is_usual(), want == (0, 0), "{position:?}");
        }
    }
}
