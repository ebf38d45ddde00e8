//! Programs on a cgroup of the tests' own, with a child in it.

use std::{
    fs,
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use skep_kernel::{
    AttachError, Program, Target, attach,
    link::{
        Attached, Method, Neighbour, Order, Owner, Position, Sharing, attach_cgroup,
        attach_cgroup_ordered, attach_cgroup_without_link, attached, effective,
    },
    probe,
};
use skep_testing::require_kernel;

use super::{
    AttachType, Counter, ProgType, available, detach, fires, load, or_lacking, or_refused,
};

/// A cgroup that is removed at the end.
pub(crate) struct Cgroup {
    path: PathBuf,
    directory: fs::File,
}

impl Cgroup {
    pub(crate) fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/mounts").map_err(|e| e.to_string())?;
        let mount = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
            (kind == "cgroup2").then_some(place)
        });
        let mount = mount.ok_or("cgroup2 is not mounted")?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("skep-test-{}-{count}", std::process::id());
        let path = PathBuf::from(mount).join(name);
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let directory = fs::File::open(&path).map_err(|e| e.to_string())?;
        Ok(Self { path, directory })
    }

    /// One inside this one.
    pub(crate) fn below(&self) -> Self {
        let path = self.path.join("below");
        fs::create_dir(&path).expect("the cgroup is ours");
        let directory = fs::File::open(&path).expect("made");
        Self { path, directory }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Runs this test binary again, as a process of the cgroup that does what `what` says.
    pub(crate) fn run(&self, what: &str) {
        let exe = std::env::current_exe().expect("it runs");
        let status = Command::new(exe)
            .args(["--exact", "cgroup::as_a_process_of_the_cgroup", "--nocapture"])
            .env("SKEP_TEST_ACT", what)
            .env("SKEP_TEST_CGROUP", &self.path)
            .stdout(Stdio::null())
            .status();
        assert!(status.expect("it starts").success(), "{what}");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        fs::remove_dir(&self.path).ok();
    }
}

/// The child: nothing unless a test above started it.
#[test]
fn as_a_process_of_the_cgroup() {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    let (Some(what), Some(cgroup)) =
        (std::env::var_os("SKEP_TEST_ACT"), std::env::var_os("SKEP_TEST_CGROUP"))
    else {
        return;
    };
    let procs = PathBuf::from(cgroup).join("cgroup.procs");
    fs::write(procs, std::process::id().to_string()).expect("the cgroup is ours");
    match what.to_str() {
        Some("udp") => {
            let near = UdpSocket::bind("127.0.0.1:0").expect("loopback is up");
            near.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("settable");
            near.send_to(b"x", near.local_addr().expect("bound")).expect("sent");
            let mut buffer = [0; 8];
            near.recv_from(&mut buffer).expect("received");
        }
        Some("tcp") => {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
            let near = TcpStream::connect(listener.local_addr().expect("bound"));
            let near = near.expect("connected");
            near.peer_addr().expect("connected");
            near.set_nodelay(true).expect("settable");
            near.nodelay().expect("gettable");
        }
        Some("udp6") => {
            let near = UdpSocket::bind("[::1]:0").expect("loopback is up");
            near.set_read_timeout(Some(std::time::Duration::from_secs(5))).expect("settable");
            near.send_to(b"x", near.local_addr().expect("bound")).expect("sent");
            let mut buffer = [0; 8];
            near.recv_from(&mut buffer).expect("received");
        }
        Some("tcp6") => {
            let listener = TcpListener::bind("[::1]:0").expect("loopback is up");
            let near = TcpStream::connect(listener.local_addr().expect("bound"));
            near.expect("connected").peer_addr().expect("connected");
        }
        Some("unix") => unix(),
        Some("talk") => super::sockets::talk(),
        Some("denied") => {
            let error = UdpSocket::bind("127.0.0.1:0").expect_err("a program denies it");
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        }
        Some("device") => {
            fs::File::open("/dev/null").expect("it is everywhere");
        }
        Some("sysctl") => {
            fs::read("/proc/sys/kernel/ostype").expect("it is everywhere");
        }
        other => panic!("nothing called {other:?}"),
    }
}

/// Names in the abstract name space, gone with the process.
fn unix() {
    use std::os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    };
    let name = |kind: &str| {
        let name = format!("skep-test-{}-{kind}", std::process::id());
        SocketAddr::from_abstract_name(name).expect("short")
    };
    let listener = UnixListener::bind_addr(&name("stream")).expect("ours");
    let near = UnixStream::connect_addr(&name("stream")).expect("it listens");
    near.peer_addr().expect("connected");
    listener.local_addr().expect("bound");
    let datagrams = UnixDatagram::bind_addr(&name("datagrams")).expect("ours");
    datagrams.send_to_addr(b"x", &name("datagrams")).expect("sent");
    datagrams.recv_from(&mut [0; 8]).expect("received");
}

/// Section, what makes it happen, and the verdict that lets everything pass.
const HOOKS: &[(&str, &str, i32)] = &[
    ("cgroup_skb/ingress", "udp", 1),
    ("cgroup_skb/egress", "udp", 1),
    ("cgroup/sock_create", "udp", 1),
    ("cgroup/sock_release", "udp", 1),
    ("cgroup/post_bind6", "udp6", 1),
    ("cgroup/bind6", "udp6", 1),
    ("cgroup/sendmsg6", "udp6", 1),
    ("cgroup/recvmsg6", "udp6", 1),
    ("cgroup/getsockname6", "tcp6", 1),
    ("cgroup/connect6", "tcp6", 1),
    ("cgroup/getpeername6", "tcp6", 1),
    ("cgroup/connect_unix", "unix", 1),
    ("cgroup/sendmsg_unix", "unix", 1),
    ("cgroup/recvmsg_unix", "unix", 1),
    ("cgroup/getpeername_unix", "unix", 1),
    ("cgroup/getsockname_unix", "unix", 1),
    ("cgroup/post_bind4", "udp", 1),
    ("cgroup/bind4", "udp", 1),
    ("cgroup/sendmsg4", "udp", 1),
    ("cgroup/recvmsg4", "udp", 1),
    ("cgroup/getsockname4", "tcp", 1),
    ("cgroup/connect4", "tcp", 1),
    ("cgroup/getpeername4", "tcp", 1),
    ("cgroup/setsockopt", "tcp", 1),
    ("cgroup/getsockopt", "tcp", 1),
    ("sockops", "tcp", 1),
    ("cgroup/dev", "device", 1),
    ("cgroup/sysctl", "sysctl", 1),
];

#[test]
fn every_hook_of_a_cgroup_fires_by_section_name() {
    require_kernel!(probe::can_load().into_result());
    let cgroup = available!(Cgroup::new());
    for &(section, act, verdict) in HOOKS {
        let counter = Counter::new();
        let object = super::events::object_if_known(section, counter.all(verdict));
        let Some(object) = or_refused(section, object) else { continue };
        let program = object.program("probe").expect("it is there");
        let link = attach(program, &Target::Cgroup(cgroup.fd())).expect(section);
        assert_eq!(link.method(), Method::Link, "{section}");
        fires(section, &counter, link, || cgroup.run(act));
        let error = attach(program, &Target::Section).expect_err("it needs a cgroup");
        assert!(matches!(error, AttachError::NeedsTarget { needs: "a cgroup", .. }), "{error}");
    }
}

#[test]
fn the_way_before_links_fires_and_detaches() {
    require_kernel!(probe::can_load().into_result());
    let cgroup = available!(Cgroup::new());
    let counter = Counter::new();
    let kind = Some(AttachType::CGROUP_INET4_CONNECT);
    let program = load(ProgType::CGROUP_SOCK_ADDR, kind, &counter.all(1));
    let link = attach_cgroup_without_link(&program, cgroup.fd(), Sharing::Multi)
        .expect("the cgroup is ours");
    assert_eq!(link.method(), Method::Cgroup);
    fires("cgroup without a link", &counter, link, || cgroup.run("tcp"));
    // Without a process in the cgroup nothing is counted.
    let link = attach_cgroup(&program, cgroup.fd()).expect("the cgroup is ours");
    let before = counter.get();
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| std::net::TcpStream::connect(l.local_addr()?))
        .expect("loopback is up");
    assert_eq!(counter.get(), before, "a process outside was counted");
    detach(link);
    let nothing = fs::File::open("/").expect("it is there");
    let error = attach_cgroup(&program, nothing.as_fd()).expect_err("it is no cgroup");
    assert!(matches!(error, AttachError::Refused { .. }), "{error}");
}

const CONNECT: AttachType = AttachType::CGROUP_INET4_CONNECT;

fn connect(counter: &Counter) -> Program {
    load(ProgType::CGROUP_SOCK_ADDR, Some(CONNECT), &counter.all(1))
}

fn ids(found: &Attached) -> Vec<u32> {
    found.programs.iter().map(|at| at.program).collect()
}

fn id(program: &Program) -> u32 {
    program.info().expect("known").id
}

#[test]
fn programs_of_a_cgroup_run_in_the_order_asked_for() {
    const HOOK: &str = "cgroup, in order";
    require_kernel!(probe::can_load().into_result());
    let cgroup = available!(Cgroup::new());
    let counters = [(); 3].map(|()| Counter::new());
    let [a, b, c] = counters.each_ref().map(connect);
    let first = attach_cgroup(&a, cgroup.fd()).expect("the cgroup is ours");
    let owner = Owner::Cgroup(cgroup.fd());
    let before = attached(owner, CONNECT).expect("it is a cgroup");
    assert_eq!(ids(&before), [id(&a)]);
    let neighbour = Neighbour::LinkId(first.id().expect("known").expect("it is a link"));
    let at = Order::at(Position::Before(neighbour));
    let target = Target::CgroupAmong { cgroup: cgroup.fd(), order: at };
    let second = or_lacking(attach(&b, &target), &[libc::EINVAL]);
    let Some(second) = or_refused(HOOK, second) else { return };
    let stale = Order { revision: before.revision, ..Order::default() };
    let refusal = attach_cgroup_ordered(&c, cgroup.fd(), &stale);
    let Err(AttachError::Refused { source, .. }) = refusal else { panic!("{refusal:?}") };
    assert_eq!(source.errno(), libc::ESTALE);
    let found = attached(owner, CONNECT).expect("it is a cgroup");
    let order = Order {
        revision: found.revision,
        ..Order::at(Position::After(Neighbour::Link(second.fd().expect("it is a link"))))
    };
    let third = attach_cgroup_ordered(&c, cgroup.fd(), &order).expect("fresh");
    assert_eq!(ids(&attached(owner, CONNECT).expect("a cgroup")), [&b, &c, &a].map(id));
    cgroup.run("tcp");
    assert_eq!(counters.each_ref().map(Counter::get), [1; 3]);
    for link in [first, second, third] {
        detach(link);
    }
    assert_eq!(ids(&attached(owner, CONNECT).expect("a cgroup")), []);
    skep_testing::fired(HOOK, Method::Link);
}

#[test]
fn what_runs_in_a_cgroup_comes_from_above_too() {
    const HOOK: &str = "cgroup, before the programs below";
    require_kernel!(probe::can_load().into_result());
    let above = available!(Cgroup::new());
    let below = above.below();
    let counters = [(); 3].map(|()| Counter::new());
    let [a, b, c] = counters.each_ref().map(connect);
    let inherited = attach_cgroup(&a, above.fd()).expect("the cgroup is ours");
    let own = attach_cgroup(&b, below.fd()).expect("the cgroup is ours");
    assert_eq!(ids(&attached(Owner::Cgroup(below.fd()), CONNECT).expect("ours")), [id(&b)]);
    let all = effective(below.fd(), CONNECT).expect("ours");
    assert_eq!(ids(&all), [&b, &a].map(id));
    below.run("tcp");
    assert_eq!(counters.each_ref().map(Counter::get), [1, 1, 0]);
    let order = Order { before_children: true, ..Order::default() };
    let earlier = attach_cgroup_ordered(&c, above.fd(), &order);
    if let Some(earlier) = or_refused(HOOK, or_lacking(earlier, &[libc::EINVAL])) {
        assert_eq!(ids(&effective(below.fd(), CONNECT).expect("ours")), [&c, &b, &a].map(id));
        let [_, _, last] = &counters;
        fires(HOOK, last, earlier, || below.run("tcp"));
    }
    detach(inherited);
    detach(own);
    assert_eq!(ids(&effective(below.fd(), CONNECT).expect("ours")), []);
}

#[test]
fn a_cgroup_gives_its_place_to_another_program() {
    require_kernel!(probe::can_load().into_result());
    let cgroup = available!(Cgroup::new());
    let (old_count, new_count, beside) = (Counter::new(), Counter::new(), Counter::new());
    let (old, new, other) = (connect(&old_count), connect(&new_count), connect(&beside));
    let by_link = attach_cgroup(&old, cgroup.fd()).expect("the cgroup is ours");
    let without = attach_cgroup_without_link(&old, cgroup.fd(), Sharing::Multi);
    // The kernel takes one program twice, if a link holds the other.
    let links = [by_link, without.expect("the cgroup is ours")];
    let stays = attach_cgroup(&other, cgroup.fd()).expect("the cgroup is ours");
    for mut link in links {
        let (before, method) = (new_count.get(), link.method());
        link.update(&new, (method == Method::Link).then_some(&old)).expect("it has the old one");
        cgroup.run("tcp");
        assert_eq!(new_count.get(), before + 1, "{method}");
        let without = if method == Method::Link { "" } else { ", without a link" };
        fires(&format!("cgroup, updated{without}"), &new_count, link, || cgroup.run("tcp"));
    }
    assert!(beside.get() > 0, "the one beside it runs all the time");
    drop(stays);
}

#[test]
fn a_cgroup_is_shared_as_its_first_program_says() {
    require_kernel!(probe::can_load().into_result());
    let above = available!(Cgroup::new());
    let below = above.below();
    let counters = [(); 2].map(|()| Counter::new());
    let [a, b] = counters.each_ref().map(connect);
    for (sharing, flags) in [(Sharing::Alone, 0), (Sharing::Override, 1), (Sharing::Multi, 2)] {
        let link = attach_cgroup_without_link(&a, above.fd(), sharing).expect("ours");
        let found = attached(Owner::Cgroup(above.fd()), CONNECT).expect("ours");
        assert_eq!((ids(&found), found.flags), (vec![id(&a)], flags));
        let other = attach_cgroup(&b, above.fd());
        assert_eq!(other.is_ok(), sharing == Sharing::Multi, "{sharing:?}: {other:?}");
        other.into_iter().for_each(detach);
        let inside = attach_cgroup_without_link(&b, below.fd(), sharing);
        assert_eq!(inside.is_ok(), sharing != Sharing::Alone, "{sharing:?}: {inside:?}");
        let before = counters.each_ref().map(Counter::get);
        below.run("tcp");
        let [first, second] = counters.each_ref().map(Counter::get);
        let [first_before, second_before] = before;
        let (outer, inner) = match sharing {
            Sharing::Alone => (1, 0),
            Sharing::Override => (0, 1),
            Sharing::Multi => (1, 1),
        };
        assert_eq!((first - first_before, second - second_before), (outer, inner), "{sharing:?}");
        inside.into_iter().for_each(detach);
        detach(link);
    }
}

/// The kernel takes away whichever program is there when only one can be.
#[test]
fn another_program_that_came_in_the_place_of_ours_stays() {
    require_kernel!(probe::can_load().into_result());
    let cgroup = available!(Cgroup::new());
    let counters = [(); 2].map(|()| Counter::new());
    let [ours, theirs] = counters.each_ref().map(connect);
    for sharing in [Sharing::Alone, Sharing::Override] {
        let attach = |program| {
            attach_cgroup_without_link(program, cgroup.fd(), sharing).expect("the cgroup is ours")
        };
        let (mut first, second) = (attach(&ours), attach(&theirs));
        let update = first.update(&ours, None).expect_err("it has another's");
        assert!(format!("{update:?}").contains("another program"), "{update:?}");
        let error = first.detach().expect_err("it has another's");
        assert_eq!(error.errno(), libc::ENOENT);
        let found = attached(Owner::Cgroup(cgroup.fd()), CONNECT).expect("ours");
        assert_eq!(ids(&found), [id(&theirs)], "{sharing:?}");
        detach(second);
    }
}

#[test]
fn an_lsm_program_of_a_cgroup_sees_and_denies() {
    require_kernel!(probe::can_load().into_result());
    let cgroup = available!(Cgroup::new());
    let row = "lsm_cgroup";
    let counter = Counter::new();
    let section = "lsm_cgroup/socket_create";
    let object = super::cookies::loaded(section, counter.all(1));
    let Some(object) = or_refused(row, object) else { return };
    let program = object.program("probe").expect("it is there");
    let link = attach(program, &Target::Cgroup(cgroup.fd()));
    let Some(link) = or_refused(row, or_lacking(link, &[libc::EINVAL])) else { return };
    fires(row, &counter, link, || cgroup.run("udp"));
    // Of a cgroup, 0 denies. Nobody but this test's own child is in it.
    let object = super::cookies::loaded(section, counter.all(0)).expect("it did before");
    let program = object.program("probe").expect("it is there");
    let link = attach(program, &Target::Cgroup(cgroup.fd())).expect("it did before");
    cgroup.run("denied");
    std::net::UdpSocket::bind("127.0.0.1:0").expect("this process is outside");
    link.detach().expect("it detaches");
    cgroup.run("udp");
    skep_testing::fired("lsm_cgroup, denying", Method::Link);
}
