//! TC before tcx: filters of the clsact qdisc.

use std::{
    collections::BTreeSet,
    fs,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    sync::Mutex,
};

use skep_abi::ProgType;

use super::{AttachError, Direction, Held, Link, refused, tc::tc_hook};
use crate::{
    leftover::filter_name,
    netlink::{Filter, FilterKind, FilterOn, NewFilter, Socket},
    program::Program,
    sys::SysError,
};

/// The place of a filter among those of one direction; 0 lets the kernel choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterPlace {
    /// The lowest runs first.
    pub priority: u16,
    /// Its number among those of one priority.
    pub handle: u32,
}

/// Attaches a TC program as a filter of the clsact qdisc, also where the kernel has tcx.
///
/// # Errors
///
/// As for [`super::attach_tc`]; `ENOENT` when the kernel has no clsact or no `cls_bpf`.
pub fn attach_tc_clsact(
    program: &Program,
    ifindex: u32,
    direction: Direction,
) -> Result<Link, AttachError> {
    attach_tc_clsact_at(program, ifindex, direction, FilterPlace::default())
}

/// Attaches a TC program as a filter of the clsact qdisc at a place. A program of type `sched_act`
/// becomes the action of a filter that takes every packet (`matchall`).
///
/// # Errors
///
/// `EEXIST` when another filter is at this place; `ENOENT` when the kernel lacks the qdisc, the
/// classifier or the action.
#[doc(alias = "cls_bpf")]
#[doc(alias = "act_bpf")]
pub fn attach_tc_clsact_at(
    program: &Program,
    ifindex: u32,
    direction: Direction,
    place: FilterPlace,
) -> Result<Link, AttachError> {
    let held = clsact(program, ifindex, direction, place);
    let hook = tc_hook(ifindex, direction);
    let filter = held.map_err(|e| refused(program, &hook, e))?;
    Ok(Link::new(Held::Filter(filter), hook))
}

/// An interface: inode of its network namespace, and its number there.
type Interface = (u64, u32);

/// The clsact qdiscs this process made: each goes with the last filter on it. One that was there
/// before stays.
static MADE: Mutex<BTreeSet<Interface>> = Mutex::new(BTreeSet::new());

/// A filter of the clsact qdisc, with a socket of its network namespace.
#[derive(Debug)]
pub(super) struct ClsactFilter {
    socket: Socket,
    interface: Interface,
    filter: FilterOn,
    kind: FilterKind,
}

fn clsact(
    program: &Program,
    ifindex: u32,
    direction: Direction,
    place: FilterPlace,
) -> Result<ClsactFilter, SysError> {
    let mut socket = Socket::open()?;
    let namespace = fs::metadata("/proc/thread-self/ns/net").map_or(0, |meta| meta.ino());
    let interface = (namespace, ifindex);
    let mut made = MADE.lock().expect("nobody panics while holding it");
    if socket.add_clsact(ifindex)? {
        made.insert(interface);
    }
    let kind = match program.prog_type() {
        ProgType::SCHED_ACT => FilterKind::Action,
        _ => FilterKind::Classifier,
    };
    let FilterPlace { priority, handle } = place;
    let name = filter_name(program.name(), made.contains(&interface));
    let new = NewFilter {
        at: Filter { ifindex, parent: direction.parent(), handle, priority },
        kind,
        prog: program.as_fd().as_raw_fd(),
        name: &name,
        replace: false,
    };
    match socket.add_filter(&new) {
        Ok(filter) => Ok(ClsactFilter { socket, interface, filter, kind }),
        Err(e) => {
            // Added or not, nobody knows: it is not to stay.
            if socket.is_unanswered() {
                delete_by_name(&mut socket, &new).ok();
            }
            // The filter's error is the one to report.
            remove_unused_clsact(&mut socket, &mut made, interface).ok();
            Err(e)
        }
    }
}

impl ClsactFilter {
    /// Removes the filter, and the qdisc when it was made here and nothing else hangs on it.
    pub(super) fn remove(mut self) -> Result<(), SysError> {
        let mut made = MADE.lock().expect("nobody panics while holding it");
        // When somebody else has removed the filter, the qdisc still has to go.
        let removed = self.expect_ours("RTM_DELTFILTER", libc::ENOENT);
        let removed = removed.and_then(|()| self.socket.delete_filter(self.filter.at, self.kind));
        let tidied = remove_unused_clsact(&mut self.socket, &mut made, self.interface);
        removed.and(tidied)
    }

    /// An error unless our filter is still at its place.
    fn expect_ours(&mut self, command: &'static str, errno: i32) -> Result<(), SysError> {
        let Self { socket, filter, .. } = self;
        let ours = |on: &FilterOn| (&on.name, on.prog_id) == (&filter.name, filter.prog_id);
        match socket.has_filter(filter.at, ours)? {
            true => Ok(()),
            false => Err(SysError::errno_of(command, errno, "the filter is not there any more")),
        }
    }

    /// Gives the filter another program, if it is still ours.
    pub(super) fn update(&mut self, new: BorrowedFd<'_>, name: &str) -> Result<(), SysError> {
        self.expect_ours("RTM_NEWTFILTER", libc::EPERM)?;
        let prog = new.as_raw_fd();
        let at = self.filter.at;
        let made = MADE.lock().expect("nobody panics while holding it").contains(&self.interface);
        let name = &filter_name(name, made);
        let new = NewFilter { at, kind: self.kind, prog, name, replace: true };
        self.filter = self.socket.add_filter(&new)?;
        Ok(())
    }
}

fn remove_unused_clsact(
    socket: &mut Socket,
    made: &mut BTreeSet<Interface>,
    interface: Interface,
) -> Result<(), SysError> {
    if !made.contains(&interface) {
        return Ok(());
    }
    if socket.delete_unused_clsact(interface.1)? {
        made.remove(&interface);
    }
    Ok(())
}

/// Removes the filter that `new` made, if it did.
fn delete_by_name(socket: &mut Socket, new: &NewFilter<'_>) -> Result<(), SysError> {
    let filters = socket.filters(new.at.ifindex, new.at.parent)?;
    let mut ours = filters.iter().filter(|f| f.name.as_deref() == Some(new.name));
    match (ours.next(), ours.next()) {
        (Some(only), None) => socket.delete_filter(only.at, new.kind),
        _ => Ok(()),
    }
}
