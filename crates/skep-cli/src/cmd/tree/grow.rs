//! From a snapshot to trees. Each object stands below everybody who holds it, and below nobody
//! twice.

use std::collections::BTreeSet;

use skep::kernel::inspect::{InterfaceHook, Kind, NetPlace};

use super::{
    node::{HeldBy, Node, Root},
    snapshot::Snapshot,
};
use crate::cmd::manage::Details;

/// Trees of all holders: processes, pins, hooks, maps, nobody.
pub(super) fn trees(all: &Snapshot) -> Vec<Root> {
    let mut seen = BTreeSet::new();
    let mut roots = Vec::new();
    for (&pid, (comm, held)) in &all.processes {
        let holder = HeldBy::Process { pid, comm: comm.clone() };
        let mut tree = Branch::new(all);
        tree.objects(held, Kind::Link);
        for event in all.events.iter().filter(|e| e.pid == pid) {
            tree.event(event.fd, event.kind, &event.name, event.prog_id);
        }
        tree.objects(held, Kind::Program);
        tree.objects(held, Kind::Map);
        tree.end(holder, &mut seen, &mut roots);
    }
    // A process that holds nothing but events.
    for event in all.events.iter().filter(|e| !all.processes.contains_key(&e.pid)) {
        let mut tree = Branch::new(all);
        tree.event(event.fd, event.kind, &event.name, event.prog_id);
        tree.end(HeldBy::Process { pid: event.pid, comm: String::new() }, &mut seen, &mut roots);
    }
    for (path, &(kind, id)) in &all.pins {
        let mut tree = Branch::new(all);
        tree.object(kind, id);
        tree.end(HeldBy::Pin { path: path.display().to_string() }, &mut seen, &mut roots);
    }
    for at in all.hooks.iter().filter(|at| !seen.contains(&(Kind::Program, at.program))) {
        let mut tree = Branch::new(all);
        match at.link {
            Some(link) => tree.object(Kind::Link, link),
            None => tree.object(Kind::Program, at.program),
        }
        tree.end(HeldBy::Hook { hook: place(&at.at) }, &mut BTreeSet::new(), &mut roots);
    }
    for at in &all.hooks {
        seen.insert((Kind::Program, at.program));
        seen.extend(at.link.map(|link| (Kind::Link, link)));
        let program = all.programs.get(&at.program);
        seen.extend(program.into_iter().flat_map(|p| &p.map_ids).map(|id| (Kind::Map, *id)));
    }
    for &(id, (kind, value)) in all.values.iter().filter(|(_, object)| !seen.contains(object)) {
        let Some(map) = all.maps.get(&id) else { continue };
        let mut tree = Branch::new(all);
        tree.object(kind, value);
        let (map_type, name) = (map.map_type.to_string(), map.name.clone());
        tree.end(HeldBy::Map { id, map_type, name }, &mut BTreeSet::new(), &mut roots);
    }
    for &(_, object) in &all.values {
        seen.insert(object);
    }
    let mut tree = Branch::new(all);
    let rest = |kind, ids: Vec<u32>| {
        ids.into_iter().map(move |id| (kind, id)).filter(|object| !seen.contains(object))
    };
    let links: Vec<_> = rest(Kind::Link, all.links.keys().copied().collect()).collect();
    let programs: Vec<_> = rest(Kind::Program, all.programs.keys().copied().collect()).collect();
    let maps: Vec<_> = rest(Kind::Map, all.maps.keys().copied().collect()).collect();
    for (kind, id) in links.into_iter().chain(programs).chain(maps) {
        if !tree.has(kind, id) {
            tree.object(kind, id);
        }
    }
    tree.end(HeldBy::Nobody, &mut BTreeSet::new(), &mut roots);
    roots
}

/// What one holder holds.
struct Branch<'a> {
    all: &'a Snapshot,
    nodes: Vec<Node>,
    /// What stands in it already.
    own: BTreeSet<(Kind, u32)>,
}

impl<'a> Branch<'a> {
    fn new(all: &'a Snapshot) -> Self {
        Self { all, nodes: Vec::new(), own: BTreeSet::new() }
    }

    fn has(&self, kind: Kind, id: u32) -> bool {
        self.own.contains(&(kind, id))
    }

    /// Hangs those of a kind that are not below others already.
    fn objects(&mut self, held: &BTreeSet<(Kind, u32)>, kind: Kind) {
        for &(_, id) in held.iter().filter(|(k, _)| *k == kind) {
            if !self.has(kind, id) {
                self.object(kind, id);
            }
        }
    }

    fn object(&mut self, kind: Kind, id: u32) {
        let node = match kind {
            Kind::Link => self.link(id),
            Kind::Program => self.program(id),
            Kind::Map => self.map(id),
            Kind::Btf => None,
        };
        self.nodes.extend(node);
    }

    /// A program on a descriptor that is no link; the link says it better where there is one.
    fn event(&mut self, fd: u32, kind: &str, name: &str, program: u32) {
        if self.has(Kind::Program, program) {
            return;
        }
        let objects = self.program(program).into_iter().collect();
        let (object_type, name) = (kind.to_owned(), name.to_owned());
        self.nodes.push(Node { kind: "event", id: fd, object_type, name, objects });
    }

    fn link(&mut self, id: u32) -> Option<Node> {
        let info = self.all.links.get(&id)?;
        self.own.insert((Kind::Link, id));
        let below = self.program(info.prog_id).or_else(|| self.map(info.map_id?));
        let mut details = Details::new(info);
        // In a tree one line is enough.
        details.0.retain(|(name, _)| *name != "funcs");
        Some(Node {
            kind: "link",
            id,
            object_type: info.kind().to_string(),
            name: details.text(),
            objects: below.into_iter().collect(),
        })
    }

    fn program(&mut self, id: u32) -> Option<Node> {
        let info = self.all.programs.get(&id)?;
        self.own.insert((Kind::Program, id));
        Some(Node {
            kind: "prog",
            id,
            object_type: info.prog_type.to_string(),
            name: info.name.clone(),
            objects: info.map_ids.iter().filter_map(|map| self.map(*map)).collect(),
        })
    }

    fn map(&mut self, id: u32) -> Option<Node> {
        let info = self.all.maps.get(&id)?;
        self.own.insert((Kind::Map, id));
        Some(Node {
            kind: "map",
            id,
            object_type: info.map_type.to_string(),
            name: info.name.clone(),
            objects: Vec::new(),
        })
    }

    /// Makes a root of it, unless it is empty.
    fn end(self, holder: HeldBy, seen: &mut BTreeSet<(Kind, u32)>, roots: &mut Vec<Root>) {
        seen.extend(self.own);
        if !self.nodes.is_empty() {
            roots.push(Root { holder, objects: self.nodes });
        }
    }
}

/// A place in words.
fn place(at: &NetPlace) -> String {
    match at {
        NetPlace::Interface { name, ifindex, hook } => {
            let hook = match hook {
                InterfaceHook::Xdp(_) => "xdp".to_owned(),
                InterfaceHook::Tcx(direction) => format!("tcx {direction}"),
                InterfaceHook::Netkit(_) => "netkit".to_owned(),
                InterfaceHook::Clsact { direction, name, .. } => {
                    format!("clsact {direction} {name}")
                }
                _ => "hook".to_owned(),
            };
            format!("interface {name}({ifindex}) {hook}")
        }
        NetPlace::Netns { attach_type } => format!("network namespace {attach_type}"),
        NetPlace::Netfilter { family, hook, priority } => {
            format!("netfilter family {family} hook {hook} priority {priority}")
        }
        NetPlace::Cgroup { path, attach_type, .. } => {
            format!("cgroup {} {attach_type}", path.display())
        }
        _ => "a hook".to_owned(),
    }
}
