//! What hangs on the network: on interfaces, network namespaces and cgroups.

use std::{
    fs,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use skep_abi::AttachType;

use super::{CGROUP_HOOKS, Kind, LinkInfo, ids, link};
use crate::{
    link::{Attached, Direction, NetkitEnd, Owner, XdpMode, attached, effective, ifname},
    netlink::Socket,
    sys::SysError,
};

/// A program that hangs somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetProgram {
    /// Where.
    pub at: NetPlace,
    /// The program's id.
    pub program: u32,
    /// The id of the link that holds it, as far as the kernel tells.
    pub link: Option<u32>,
}

/// A place where a program hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetPlace {
    /// On an interface.
    Interface {
        /// Its name.
        name: String,
        /// Its index.
        ifindex: u32,
        /// Where on it.
        hook: InterfaceHook,
    },
    /// On this network namespace: flow dissector, socket look-up.
    Netns {
        /// The hook.
        attach_type: AttachType,
    },
    /// In netfilter, of whatever network namespace.
    Netfilter {
        /// Protocol family.
        family: u32,
        /// Which of the family's hooks.
        hook: u32,
        /// Its place among the others, the smallest first.
        priority: i32,
    },
    /// On a cgroup.
    Cgroup {
        /// The directory.
        path: PathBuf,
        /// The hook.
        attach_type: AttachType,
        /// `BPF_F_ALLOW_OVERRIDE` (1), `BPF_F_ALLOW_MULTI` (2).
        flags: u32,
    },
}

/// Where on an interface a program hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InterfaceHook {
    /// XDP.
    Xdp(XdpMode),
    /// tcx.
    Tcx(Direction),
    /// netkit.
    Netkit(NetkitEnd),
    /// A filter of the clsact qdisc.
    Clsact {
        /// Which packets.
        direction: Direction,
        /// The filter's name.
        name: String,
        /// The order among the filters.
        priority: u16,
        /// The number among those of the same priority.
        handle: u32,
    },
}

/// What hangs on the interfaces of this network namespace, or on the one of this name, in the order
/// in which it runs.
///
/// # Errors
///
/// `ENODEV` when there is no such interface; `EPERM` without `CAP_NET_ADMIN`, which the kernel wants
/// for telling what tcx has.
pub fn on_interfaces(only: Option<&str>) -> Result<Vec<NetProgram>, SysError> {
    let mut socket = Socket::open()?;
    let mut interfaces = socket.links()?;
    interfaces.retain(|interface| only.is_none_or(|name| name == interface.name));
    if interfaces.is_empty() && only.is_some() {
        let hint = "there is no interface of this name in this network namespace";
        return Err(SysError::errno_of("RTM_GETLINK", libc::ENODEV, hint));
    }
    let links = links("xdp");
    let mut found = Vec::new();
    for interface in interfaces {
        let (name, ifindex) = (interface.name, interface.ifindex);
        let at = |hook| NetPlace::Interface { name: name.clone(), ifindex, hook };
        for (mode, program) in interface.xdp.each() {
            let held = |l: &&LinkInfo| l.ifindex == Some(ifindex) && l.prog_id == program;
            let link = links.iter().find(held).map(|l| l.id);
            found.push(NetProgram { at: at(InterfaceHook::Xdp(mode)), program, link });
        }
        let mut ordered = |attach_type, hook: InterfaceHook| -> Result<(), SysError> {
            let on = or_no_hook(attached(Owner::Interface(ifindex), attach_type))?;
            let one = |p: crate::link::AttachedProgram| NetProgram {
                at: at(hook.clone()),
                program: p.program,
                link: p.link,
            };
            found.extend(on.programs.into_iter().map(one));
            Ok(())
        };
        if interface.kind == "netkit" {
            for (attach_type, end) in [
                (AttachType::NETKIT_PRIMARY, NetkitEnd::Primary),
                (AttachType::NETKIT_PEER, NetkitEnd::Peer),
            ] {
                match ordered(attach_type, InterfaceHook::Netkit(end)) {
                    // The peer: the primary tells what both have.
                    Err(e) if e.errno() == libc::EACCES => {}
                    other => other?,
                }
            }
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            ordered(direction.attach_type(), InterfaceHook::Tcx(direction))?;
        }
        for direction in [Direction::Ingress, Direction::Egress] {
            // An interface without the qdisc has no filters, and says so with an error.
            let filters = socket.filters(ifindex, direction.parent()).unwrap_or_default();
            for filter in filters {
                let Some(program) = filter.prog_id else { continue };
                let hook = InterfaceHook::Clsact {
                    direction,
                    name: filter.name.unwrap_or_default(),
                    priority: filter.at.priority,
                    handle: filter.at.handle,
                };
                found.push(NetProgram { at: at(hook), program, link: None });
            }
        }
    }
    Ok(found)
}

/// The name of the interface that a link hangs on.
///
/// A link tells an index only, which counts in the network namespace of its interface: `None` unless
/// the interface of that index here lists this link, or its program where the kernel tells no more.
pub fn interface_of(info: &LinkInfo) -> Option<String> {
    let index = info.ifindex?;
    let here = match info.kind().name() {
        Some("xdp") => {
            let interfaces = Socket::open().and_then(|mut socket| socket.links()).ok()?;
            let interface = interfaces.into_iter().find(|i| i.ifindex == index)?;
            let runs = interface.xdp.each().into_iter().any(|(_, id)| id == info.prog_id);
            // The same program on the same index elsewhere cannot be told apart.
            let alike = |l: &LinkInfo| l.ifindex == Some(index) && l.prog_id == info.prog_id;
            runs && links("xdp").into_iter().filter(alike).count() == 1
        }
        _ => {
            let on = attached(Owner::Interface(index), info.attach_type?).ok()?;
            on.programs.iter().any(|p| p.link == Some(info.id))
        }
    };
    if here { ifname(index).ok() } else { None }
}

/// What hangs on this network namespace, and in netfilter.
///
/// # Errors
///
/// When `/proc` does not show the namespace; `EPERM` without `CAP_NET_ADMIN`.
pub fn on_netns() -> Result<Vec<NetProgram>, SysError> {
    let namespace = fs::File::open("/proc/thread-self/ns/net");
    let namespace = namespace.map_err(|e| SysError::new("open of the network namespace", e))?;
    let inode = namespace.metadata().map_or(0, |meta| meta.ino());
    let links = links("netns");
    let mut found = Vec::new();
    for attach_type in [AttachType::FLOW_DISSECTOR, AttachType::SK_LOOKUP] {
        let on = or_no_hook(attached(Owner::Netns(namespace.as_fd()), attach_type))?;
        for program in on.programs.into_iter().map(|p| p.program) {
            let held = |l: &&LinkInfo| {
                l.netns_ino.map(u64::from) == Some(inode)
                    && l.attach_type == Some(attach_type)
                    && l.prog_id == program
            };
            let link = links.iter().find(held).map(|l| l.id);
            found.push(NetProgram { at: NetPlace::Netns { attach_type }, program, link });
        }
    }
    for info in self::links("netfilter") {
        let Some((family, hook, priority, _)) = info.netfilter else { continue };
        let at = NetPlace::Netfilter { family, hook, priority };
        found.push(NetProgram { at, program: info.prog_id, link: Some(info.id) });
    }
    Ok(found)
}

/// What hangs on a cgroup; with `inherited` what runs for its processes, which includes what hangs
/// on those above it.
///
/// # Errors
///
/// When the directory cannot be opened; `EBADF` when it is not that of a cgroup (version 2);
/// `EPERM` without `CAP_NET_ADMIN`.
pub fn on_cgroup(path: &Path, inherited: bool) -> Result<Vec<NetProgram>, SysError> {
    let cgroup = fs::File::open(path).map_err(|e| SysError::new("open of the cgroup", e))?;
    let id = cgroup.metadata().map_or(0, |meta| meta.ino());
    let mut links: Option<Vec<LinkInfo>> = None;
    let mut found = Vec::new();
    for &attach_type in CGROUP_HOOKS {
        let on = match inherited {
            true => effective(cgroup.as_fd(), attach_type),
            false => attached(Owner::Cgroup(cgroup.as_fd()), attach_type),
        };
        let on = or_no_hook(on)?;
        for program in on.programs.into_iter().map(|p| p.program) {
            let links = links.get_or_insert_with(|| self::links("cgroup"));
            let held = |l: &&LinkInfo| {
                (inherited || l.cgroup_id == Some(id))
                    && l.attach_type == Some(attach_type)
                    && l.prog_id == program
            };
            let link = links.iter().find(held).map(|l| l.id);
            let at = NetPlace::Cgroup { path: path.to_owned(), attach_type, flags: on.flags };
            found.push(NetProgram { at, program, link });
        }
    }
    Ok(found)
}

const NO_HOOK: &[i32] = &[libc::EINVAL, libc::EOPNOTSUPP, libc::ENOENT, libc::ENODEV];

/// A hook that the kernel, or a namespace, does not have has no programs, nor has an interface that
/// is gone meanwhile.
fn or_no_hook(on: Result<Attached, SysError>) -> Result<Attached, SysError> {
    match on {
        Err(e) if NO_HOOK.contains(&e.errno()) => Ok(Attached::default()),
        other => other,
    }
}

/// All links of a kind. Who may not list them learns no links' ids.
fn links(kind: &str) -> Vec<LinkInfo> {
    let all = ids(Kind::Link).unwrap_or_default();
    let of_kind = |id| link(id).ok().flatten().filter(|info| info.kind().name() == Some(kind));
    all.into_iter().filter_map(of_kind).collect()
}
