//! Where a program goes, in words: what stands behind `PROG=` of `--attach`, and in the flags for
//! all programs of a kind.

use std::{
    fmt,
    fs::File,
    net::IpAddr,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use skep::{
    Attach, Link, Loaded, Program, Target,
    abi::{
        AttachType, ProgType,
        section::{self, SECTIONS, SectionDef},
    },
    kernel::{
        inspect,
        link::{self, IterTarget, Needs, Netfilter, PerfEvent, Route},
    },
};

use super::{packets, session::on_interface};
use crate::{cmd::run::XdpMode, exit::usage};

/// What a place is, beside a section's name.
#[derive(Clone, Debug)]
pub enum Place {
    Interface(String),
    Cgroup(PathBuf),
    Netns(PathBuf),
    PerfEvent(PerfEvent),
    Netfilter(Netfilter),
    Process(u32),
    Map(String),
    Route { destination: IpAddr, prefix: u8, interface: String },
    Iter(Over),
}

/// What an iterator walks over.
#[derive(Clone, Debug)]
pub enum Over {
    Map(String),
    Process(u32),
    Thread(u32),
    Cgroup(PathBuf),
}

/// A section's name, a place, or both: `kprobe/do_unlinkat`, `xdp:eth0`, `cgroup:/sys/fs/cgroup/x`.
#[derive(Clone, Debug)]
pub struct Where {
    pub section: Option<String>,
    pub place: Option<Place>,
}

/// A kind of place: its word, an example, and how it is read.
type Kind = (&'static str, &'static str, fn(&str) -> Result<Place, String>);

const KINDS: &[Kind] = &[
    ("iface", "iface:eth0", |text| Ok(Place::Interface(text.to_owned()))),
    ("cgroup", "cgroup:/sys/fs/cgroup/x", |text| Ok(Place::Cgroup(text.into()))),
    ("netns", "netns:/proc/PID/ns/net", |text| Ok(Place::Netns(text.into()))),
    ("perf_event", "perf_event:cpu-clock@99hz", |text| {
        PerfEvent::parse(text).map(Place::PerfEvent).map_err(|e| e.to_string())
    }),
    ("netfilter", "netfilter:ip/input@-100", netfilter),
    ("pid", "pid:1234", |text| number(text).map(Place::Process)),
    ("map", "map:SOCKETS", |text| Ok(Place::Map(text.to_owned()))),
    ("route", "route:10.1.0.0/16@eth0", route),
    ("over", "over:pid=1234", over),
];

/// The word of the place that a hook needs.
const fn word(needs: Needs) -> Option<&'static str> {
    match needs {
        Needs::Interface | Needs::Packets => Some("iface"),
        Needs::Cgroup => Some("cgroup"),
        Needs::Netns => Some("netns"),
        Needs::PerfEvent => Some("perf_event"),
        Needs::Netfilter => Some("netfilter"),
        Needs::SocketMap => Some("map"),
        Needs::Route => Some("route"),
        _ => None,
    }
}

/// The flag that gives all programs of a kind their place.
pub const fn flag(needs: Needs) -> &'static str {
    match needs {
        Needs::Interface | Needs::Packets => "--iface IF",
        Needs::Cgroup => "--cgroup PATH",
        Needs::Netns => "--netns PATH",
        Needs::PerfEvent => "--perf-event EVENT",
        Needs::Netfilter => "--netfilter HOOK",
        Needs::SocketMap => "--attach PROG=map:MAP",
        Needs::Route => "--attach PROG=route:NET@IF",
        _ => "only a program of its own can give one",
    }
}

impl Where {
    /// Reads what stands behind `PROG=`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let split = text.split_once(':');
        if let Some((word, rest)) = split
            && let Some((_, _, read)) = KINDS.iter().find(|kind| kind.0 == word)
        {
            let section = section::find(word).map(|_| word.to_owned());
            return Ok(Self { section, place: Some(read(rest)?) });
        }
        if let Some(found) = section::find(text) {
            return match of_target(found.def, text) {
                Some((section, place)) => {
                    let section = Some(section.to_owned());
                    Ok(Self { section, place: Some(place_of(found.def, place)?) })
                }
                None => Ok(Self { section: Some(text.to_owned()), place: None }),
            };
        }
        if let Some((section, place)) = split
            && let Some(found) = section::find(section)
        {
            let place = Some(place_of(found.def, place)?);
            return Ok(Self { section: Some(section.to_owned()), place });
        }
        Err(format!("`{text}` is neither a section's name nor a place; {}", possible()))
    }
}

/// A place behind the target of a section's name: `lsm_cgroup/file_open:PATH`, `iter/task:pid=1`.
fn of_target<'t>(def: &SectionDef, text: &'t str) -> Option<(&'t str, &'t str)> {
    let takes = [AttachType::LSM_CGROUP, AttachType::TRACE_ITER].map(Some);
    takes.contains(&def.attach_type).then(|| text.rsplit_once(':')).flatten()
}

/// A place of the kind that programs of this section need.
fn place_of(def: &SectionDef, text: &str) -> Result<Place, String> {
    if def.attach_type == Some(AttachType::TRACE_ITER) {
        return over(text);
    }
    let hook = link::hook(def.prog_type, def.attach_type);
    let word = hook.and_then(|hook| word(hook.needs()));
    let kind = KINDS.iter().find(|kind| Some(kind.0) == word);
    let (_, _, read) = kind.ok_or_else(|| {
        format!("`{}` takes no place behind a colon: its name says where", def.name)
    })?;
    read(text)
}

/// What `--attach` takes, in a sentence.
fn possible() -> String {
    let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.1).collect();
    let sections: Vec<&str> = SECTIONS.iter().map(|def| def.name).collect();
    format!("places are {}; sections are {}", kinds.join(", "), sections.join(", "))
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is no process number"))
}

/// Names of `NFPROTO_*` and `NF_INET_*`, `include/uapi/linux/netfilter.h`.
const FAMILIES: &[(&str, u32)] = &[("ip", 2), ("ip6", 10)];
const HOOKS: &[(&str, u32)] =
    &[("prerouting", 0), ("input", 1), ("forward", 2), ("output", 3), ("postrouting", 4)];

/// `ip/input`, `ip6/output@-100`: smaller priorities come first.
pub fn netfilter(text: &str) -> Result<Place, String> {
    let (place, priority) = text.split_once('@').unwrap_or((text, "0"));
    let find =
        |table: &[(&str, u32)], name: &str| table.iter().find(|row| row.0 == name).map(|row| row.1);
    let parts = place.split_once('/').and_then(|(family, hook)| {
        Some((find(FAMILIES, family)?, find(HOOKS, hook)?, priority.parse().ok()?))
    });
    let (family, hook, priority) = parts.ok_or_else(|| {
        let names = |table: &[(&str, u32)]| {
            table.iter().map(|row| row.0).collect::<Vec<_>>().join(", ")
        };
        format!(
            "`{text}` is no place in netfilter: expected FAMILY/HOOK@PRIORITY, family of {}, hook of {}",
            names(FAMILIES),
            names(HOOKS)
        )
    })?;
    Ok(Place::Netfilter(Netfilter { family, hook, priority, defragment: false }))
}

/// `10.1.0.0/16@eth0`.
fn route(text: &str) -> Result<Place, String> {
    let parts = text.split_once('@').and_then(|(net, interface)| {
        let (destination, prefix) = net.split_once('/')?;
        Some((destination.parse().ok()?, prefix.parse().ok()?, interface.to_owned()))
    });
    let (destination, prefix, interface) = parts.ok_or_else(|| {
        format!("`{text}` is no route: expected NET/BITS@IF, as 10.1.0.0/16@eth0")
    })?;
    Ok(Place::Route { destination, prefix, interface })
}

/// `map=NAME`, `pid=1`, `tid=1`, `cgroup=PATH`.
fn over(text: &str) -> Result<Place, String> {
    let over = match text.split_once('=') {
        Some(("map", name)) => Over::Map(name.to_owned()),
        Some(("pid", pid)) => Over::Process(number(pid)?),
        Some(("tid", tid)) => Over::Thread(number(tid)?),
        Some(("cgroup", path)) => Over::Cgroup(path.into()),
        _ => {
            return Err(format!(
                "an iterator walks over map=NAME, pid=N, tid=N or cgroup=PATH, not `{text}`"
            ));
        }
    };
    Ok(Place::Iter(over))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Cgroup(path) => write!(f, "cgroup {}", path.display()),
            Self::Netns(path) => write!(f, "network namespace {}", path.display()),
            Self::PerfEvent(_) => f.write_str("a perf event"),
            Self::Netfilter(_) => f.write_str("netfilter"),
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Map(name) => write!(f, "map {name}"),
            Self::Route { destination, prefix, .. } => write!(f, "route {destination}/{prefix}"),
            Self::Iter(_) => f.write_str("what it walks over"),
        }
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// A cgroup of version 2; each has the file that is looked for, those of version 1 have not.
fn cgroup(path: &Path) -> anyhow::Result<File> {
    let directory = open(path)?;
    if path.join("cgroup.controllers").exists() {
        return Ok(directory);
    }
    let mounted = inspect::cgroup_root()
        .map_or("none is mounted".into(), |root| format!("it is mounted at {}", root.display()));
    let path = path.display();
    Err(usage(format!("{path} is no directory of a cgroup v2 file system ({mounted})")))
}

impl Place {
    /// Attaches a program here.
    pub fn attach(
        &self,
        program: &Program,
        loaded: &Loaded,
        xdp_mode: XdpMode,
    ) -> anyhow::Result<Link> {
        let at = |target: Target<'_>| program.attach(Attach::At(target));
        let map = |name: &str| -> anyhow::Result<_> {
            let live = loaded.map(name)?.kernel();
            live.ok_or_else(|| usage("only maps of the kernel engine have places"))
        };
        Ok(match self {
            Self::Interface(name) => {
                program.attach(on_interface(program, packets::ifindex(name)?, xdp_mode))
            }
            Self::Cgroup(path) => at(Target::Cgroup(cgroup(path)?.as_fd())),
            Self::Netns(path) => at(Target::Netns(open(&namespace(path))?.as_fd())),
            Self::PerfEvent(event) => at(Target::PerfEvent(*event)),
            Self::Netfilter(place) => at(Target::Netfilter(*place)),
            Self::Process(pid) => at(Target::Process(*pid)),
            Self::Map(name) => at(Target::SocketMap(map(name)?)),
            Self::Route { destination, prefix, interface } => {
                let ifindex = packets::ifindex(interface)?;
                let (destination, prefix) = (*destination, *prefix);
                let route = Route { destination, prefix, ifindex, gateway: None, headroom: 0 };
                at(Target::Route(route))
            }
            Self::Iter(over) => match over {
                Over::Map(name) => at(Target::Iter(IterTarget::Map(map(name)?))),
                Over::Process(pid) => at(Target::Iter(IterTarget::Process(*pid))),
                Over::Thread(tid) => at(Target::Iter(IterTarget::Thread(*tid))),
                Over::Cgroup(path) => at(Target::Iter(IterTarget::Cgroup(cgroup(path)?.as_fd()))),
            },
        }?)
    }
}

/// A path, or the name that `ip netns` gave.
fn namespace(name: &Path) -> PathBuf {
    if name.components().count() == 1 && !name.exists() {
        return Path::new("/run/netns").join(name);
    }
    name.to_owned()
}

/// Section of a program type by its own name, for those who know no section: `sched_cls`, `xdp`.
pub fn section_of_type(name: &str) -> Option<&'static str> {
    let prog_type = ProgType::by_name(name)?;
    let rows = SECTIONS.iter().filter(|def| def.prog_type == prog_type);
    rows.min_by_key(|def| (def.attach_type.is_some(), def.name.len())).map(|def| def.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_with_and_without_sections() {
        for (text, section, place) in [
            ("kprobe/do_unlinkat", Some("kprobe/do_unlinkat"), ""),
            ("uprobe/libc:malloc", Some("uprobe/libc:malloc"), ""),
            ("usdt/libc:libc:setjmp", Some("usdt/libc:libc:setjmp"), ""),
            ("tracepoint/sched/sched_switch", Some("tracepoint/sched/sched_switch"), ""),
            ("xdp", Some("xdp"), ""),
            ("xdp:eth0", Some("xdp"), "interface eth0"),
            ("tcx/ingress:eth0", Some("tcx/ingress"), "interface eth0"),
            ("iface:eth0", None, "interface eth0"),
            ("cgroup:/sys/fs/cgroup/x", None, "cgroup /sys/fs/cgroup/x"),
            ("cgroup/connect4:/a", Some("cgroup/connect4"), "cgroup /a"),
            ("lsm_cgroup/file_open:/a", Some("lsm_cgroup/file_open"), "cgroup /a"),
            ("sk_lookup:/proc/1/ns/net", Some("sk_lookup"), "network namespace /proc/1/ns/net"),
            ("perf_event:cpu-clock@99hz", Some("perf_event"), "a perf event"),
            ("netfilter:ip/input@-5", Some("netfilter"), "netfilter"),
            ("pid:12", None, "process 12"),
            ("sk_msg:socks", Some("sk_msg"), "map socks"),
            ("lwt_xmit:10.0.0.0/8@v0", Some("lwt_xmit"), "route 10.0.0.0/8"),
            ("iter/task:pid=3", Some("iter/task"), "what it walks over"),
            ("over:map=m", None, "what it walks over"),
        ] {
            let read = Where::parse(text).expect(text);
            assert_eq!(read.section.as_deref(), section, "{text}");
            assert_eq!(read.place.map_or(String::new(), |p| p.to_string()), place, "{text}");
        }
    }

    #[test]
    fn what_is_no_place_names_what_is() {
        for (text, why) in [
            ("nowhere", "places are iface:eth0, cgroup:"),
            ("tracing:x", "sections are socket, kprobe"),
            ("perf_event:clock", "there are cpu-clock"),
            ("netfilter:ip", "FAMILY/HOOK@PRIORITY"),
            ("netfilter:ip/input@x", "FAMILY/HOOK@PRIORITY"),
            ("route:10.0.0.0@v", "NET/BITS@IF"),
            ("pid:x", "is no process number"),
            ("iter/task:5", "an iterator walks over map=NAME"),
            ("syscall:x", "takes no place"),
        ] {
            let error = Where::parse(text).expect_err(text);
            assert!(error.contains(why), "{text}: {error}");
        }
        assert_eq!(section_of_type("sched_cls"), Some("tc"));
        assert_eq!(section_of_type("xdp"), Some("xdp"));
        assert_eq!(section_of_type("socket_filter"), Some("socket"));
    }
}
