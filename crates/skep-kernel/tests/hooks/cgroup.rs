//! Programs on a cgroup of the tests' own, with a child in it.

use std::{
    fs,
    os::fd::{AsFd as _, BorrowedFd},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use skep_kernel::{
    AttachError, Target, attach,
    link::{Method, Sharing, attach_cgroup, attach_cgroup_without_link},
    probe,
};
use skep_testing::require_kernel;

use super::{AttachType, Counter, ProgType, available, fires, load};

/// A cgroup that is removed at the end.
struct Cgroup {
    path: PathBuf,
    directory: fs::File,
}

impl Cgroup {
    fn new() -> Result<Self, String> {
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

    fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Runs this test binary again, as a process of the cgroup that does what `what` says.
    fn run(&self, what: &str) {
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
        Some("device") => {
            fs::File::open("/dev/null").expect("it is everywhere");
        }
        Some("sysctl") => {
            fs::read("/proc/sys/kernel/ostype").expect("it is everywhere");
        }
        other => panic!("nothing called {other:?}"),
    }
}

/// Section, what makes it happen, and the verdict that lets everything pass.
const HOOKS: &[(&str, &str, i32)] = &[
    ("cgroup_skb/ingress", "udp", 1),
    ("cgroup_skb/egress", "udp", 1),
    ("cgroup/sock_create", "udp", 1),
    ("cgroup/sock_release", "udp", 1),
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
        let object = super::events::object(section, counter.all(verdict));
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
    link.detach().expect("it detaches");
    let nothing = fs::File::open("/").expect("it is there");
    let error = attach_cgroup(&program, nothing.as_fd()).expect_err("it is no cgroup");
    assert!(matches!(error, AttachError::Refused { .. }), "{error}");
}
