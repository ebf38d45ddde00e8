//! What skep's processes left behind.
//!
//! A program that a link or a perf event holds goes with its process, however that ends. What the
//! ways before links attach stays until it is taken away: filters of the clsact qdisc, XDP set over
//! netlink, routes through programs, programs told to a cgroup, structures of functions stored in
//! their map, probes in tracefs. Each says whose it is: when that process is gone, it is a leftover,
//! and can be removed.

mod mark;
mod process;
mod structure;

use std::{
    fmt, fs,
    net::IpAddr,
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
};

use mark::Marked;
use skep_abi::AttachType;

pub(crate) use mark::{filter_name, mark, mark_structure};
pub use process::{Life, Process};

use crate::{
    inspect::{self, Kind, cgroups},
    link::{Direction, Owner, XdpMode, attached, tracefs},
    netlink::{Filter, FilterKind, FilterOn, RouteTo, Socket, XdpSet},
    sys::{self, LinkTarget, ProgAttach, SysError},
};

/// Only where the expected program is.
const XDP_FLAGS_REPLACE: u32 = 1 << 4;

/// Something attached in a way that outlives its process, by a skep of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Where it is.
    pub place: Place,
    /// The program there; probes have none.
    pub program: Option<u32>,
    /// Who attached it.
    pub process: Process,
    /// Is that process still there? Only what is [`Life::Dead`]'s is left over.
    pub life: Life,
}

/// Where something is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A filter of the clsact qdisc of an interface of this network namespace.
    Filter {
        /// The interface.
        interface: String,
        /// Its index.
        ifindex: u32,
        /// Which packets.
        direction: Direction,
        /// The order among the filters.
        priority: u16,
        /// The number among those of the same priority.
        handle: u32,
        /// Is the program the filter's action, and not the filter?
        action: bool,
        /// Did the process also make the qdisc?
        made_qdisc: bool,
    },
    /// An interface's XDP program.
    Xdp {
        /// The interface.
        interface: String,
        /// Its index.
        ifindex: u32,
        /// Where it runs.
        mode: XdpMode,
    },
    /// A route through a program.
    Route {
        /// Where its packets go.
        destination: IpAddr,
        /// How many bits of that count.
        prefix: u8,
        /// The interface they leave by.
        ifindex: u32,
        /// The next machine.
        gateway: Option<IpAddr>,
    },
    /// A cgroup's program.
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// The hook.
        attach_type: AttachType,
    },
    /// A structure of functions, stored in its map without a link.
    StructOps {
        /// The map's name.
        map: String,
        /// The map's id.
        id: u32,
    },
    /// A probe defined in tracefs.
    Probe {
        /// Its name in the group `skep`.
        name: String,
        /// On a binary, not on the kernel?
        user: bool,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter { interface, direction, priority, handle, .. } => {
                write!(f, "clsact {direction} of {interface} (pref {priority} handle {handle:#x})")
            }
            Self::Xdp { interface, mode, .. } => write!(f, "xdp ({mode}) of {interface}"),
            Self::Route { destination, prefix, ifindex, .. } => {
                write!(f, "route {destination}/{prefix} of interface {ifindex}")
            }
            Self::Cgroup { path, attach_type } => write!(f, "{attach_type} of {}", path.display()),
            Self::StructOps { map, id } => write!(f, "struct_ops map '{map}' (id {id})"),
            Self::Probe { name, user: false } => write!(f, "kprobe skep/{name} in tracefs"),
            Self::Probe { name, user: true } => write!(f, "uprobe skep/{name} in tracefs"),
        }
    }
}

/// Everything of that kind: on the interfaces of this network namespace, on all cgroups, in
/// `struct_ops` maps, in tracefs.
/// What this process may not look at is left out.
pub fn leftovers() -> Vec<Leftover> {
    let marked = mark::marked().unwrap_or_default();
    let mut found = on_interfaces(&marked).unwrap_or_default();
    found.extend(on_routes().unwrap_or_default());
    found.extend(on_cgroups(&marked));
    found.extend(structure::stored(&marked));
    found.extend(in_tracefs());
    found
}

impl Leftover {
    /// Takes it away. What is not there any more, or has another's program by now, is no error.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn remove(&self) -> Result<(), SysError> {
        let other =
            |e: &SysError| matches!(self.place, Place::Xdp { .. }) && e.errno() == libc::EEXIST;
        match self.detach() {
            Err(e) if matches!(e.errno(), libc::ENOENT | libc::ENODEV) || other(&e) => Ok(()),
            done => done,
        }
    }

    fn detach(&self) -> Result<(), SysError> {
        match &self.place {
            &Place::Filter { ifindex, direction, priority, handle, action, made_qdisc, .. } => {
                let kind = if action { FilterKind::Action } else { FilterKind::Classifier };
                let at = Filter { ifindex, parent: direction.parent(), handle, priority };
                let mut socket = Socket::open()?;
                let named = |on: &FilterOn| on.name.as_deref().and_then(mark::of_filter_name);
                let ours = |on: &FilterOn| {
                    named(on).is_some_and(|(process, _)| process == self.process)
                        && on.prog_id == self.program
                };
                if !socket.has_filter(at, ours)? {
                    return Ok(());
                }
                socket.delete_filter(at, kind)?;
                if made_qdisc {
                    socket.delete_unused_clsact(ifindex)?;
                }
                Ok(())
            }
            &Place::Xdp { ifindex, mode, .. } => {
                let Some(program) = self.open_program()? else { return Ok(()) };
                let expected = Some(program.as_raw_fd());
                let flags = mode.flags() | XDP_FLAGS_REPLACE;
                Socket::open()?.set_xdp(&XdpSet { ifindex, prog: -1, flags, expected })
            }
            &Place::Route { destination, prefix, ifindex, gateway } => {
                let route = RouteTo { destination, prefix, ifindex, gateway };
                let mut socket = Socket::open()?;
                let there = socket.program_routes()?;
                let ours = |(on, names): &(RouteTo, Vec<String>)| {
                    *on == route && of_names(names) == Some(self.process)
                };
                if there.iter().any(ours) { socket.delete_route(&route) } else { Ok(()) }
            }
            Place::Cgroup { path, attach_type } => {
                let Some(program) = self.open_program()? else { return Ok(()) };
                let cgroup = fs::File::open(path).map_err(|e| SysError::new("open", e))?;
                // Where only one program can be, the kernel takes away whichever it is.
                let on = attached(Owner::Cgroup(cgroup.as_fd()), *attach_type)?;
                if on.programs.iter().all(|at| Some(at.program) != self.program) {
                    return Ok(());
                }
                let target = LinkTarget::Fd(cgroup.as_fd());
                let at = ProgAttach::new(target, attach_type.0, 0);
                sys::prog_detach(&at, program.as_fd())
            }
            &Place::StructOps { id, .. } => structure::remove(id),
            Place::Probe { name, user } => tracefs::remove_probe(name, *user),
        }
    }

    fn open_program(&self) -> Result<Option<std::os::fd::OwnedFd>, SysError> {
        self.program.map_or(Ok(None), |id| inspect::open(Kind::Program, id))
    }
}

/// Alive when one of them is, dead when all of them are.
fn life_of(processes: &[Process]) -> Life {
    let lives = || processes.iter().map(Process::life);
    if lives().any(|life| life == Life::Alive) {
        Life::Alive
    } else if lives().all(|life| life == Life::Dead) {
        Life::Dead
    } else {
        Life::Unknown
    }
}

fn of_program(place: Place, program: u32, marked: &Marked) -> Option<Leftover> {
    let processes: Vec<_> = marked.get(&program)?.iter().map(|mark| mark.process).collect();
    let process = *processes.last()?;
    Some(Leftover { place, program: Some(program), process, life: life_of(&processes) })
}

fn on_interfaces(marked: &Marked) -> Result<Vec<Leftover>, SysError> {
    let mut socket = Socket::open()?;
    let mut found = Vec::new();
    for link in socket.links()? {
        let (interface, ifindex) = (link.name, link.ifindex);
        for (mode, program) in link.xdp.each() {
            let place = Place::Xdp { interface: interface.clone(), ifindex, mode };
            found.extend(of_program(place, program, marked));
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            // An interface without the qdisc has no filters, and says so with an error.
            let filters = socket.filters(ifindex, direction.parent()).unwrap_or_default();
            for filter in filters {
                let named = filter.name.as_deref().and_then(mark::of_filter_name);
                let Some((process, made_qdisc)) = named else { continue };
                let place = Place::Filter {
                    interface: interface.clone(),
                    ifindex,
                    direction,
                    priority: filter.at.priority,
                    handle: filter.at.handle,
                    action: filter.kind == FilterKind::Action.name(),
                    made_qdisc,
                };
                let (program, life) = (filter.prog_id, process.life());
                found.push(Leftover { place, program, process, life });
            }
        }
    }
    Ok(found)
}

fn on_routes() -> Result<Vec<Leftover>, SysError> {
    let mut found = Vec::new();
    for (route, names) in Socket::open()?.program_routes()? {
        let Some(process) = of_names(&names) else { continue };
        let RouteTo { destination, prefix, ifindex, gateway } = route;
        let place = Place::Route { destination, prefix, ifindex, gateway };
        found.push(Leftover { place, program: None, process, life: process.life() });
    }
    Ok(found)
}

/// Whose a route is whose programs have these names.
fn of_names(names: &[String]) -> Option<Process> {
    names.iter().find_map(|name| mark::of_filter_name(name)).map(|(process, _)| process)
}

fn on_cgroups(marked: &Marked) -> Vec<Leftover> {
    let mut found = Vec::new();
    if marked.is_empty() {
        return found;
    }
    for path in cgroups() {
        let Ok(cgroup) = fs::File::open(&path) else { continue };
        for &attach_type in inspect::CGROUP_HOOKS {
            let Ok(on) = attached(Owner::Cgroup(cgroup.as_fd()), attach_type) else { continue };
            for program in on.programs {
                let place = Place::Cgroup { path: path.clone(), attach_type };
                found.extend(of_program(place, program.program, marked));
            }
        }
    }
    found
}

fn in_tracefs() -> Vec<Leftover> {
    let probes = tracefs::probes().unwrap_or_default();
    let of_skep = |(name, user): (String, bool)| {
        let (process, _) = name.strip_prefix(tracefs::NAME)?.rsplit_once('_')?;
        let process: Process = process.parse().ok()?;
        let place = Place::Probe { name, user };
        Some(Leftover { place, program: None, process, life: process.life() })
    };
    probes.into_iter().filter_map(of_skep).collect()
}
