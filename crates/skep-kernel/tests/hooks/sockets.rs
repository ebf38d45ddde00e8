//! Programs on socket maps and reuseport groups, by an object that clang made.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::Arc,
    time::Duration,
};

use skep_abi::UpdateMode;
use skep_kernel::{
    AttachError, Link, LoadOptions, Map, Object, Target, attach,
    link::{
        Method, Owner, attach_cgroup, attach_reuseport, attach_sockmap,
        attach_sockmap_without_link, attached,
    },
    probe,
};
use skep_object::ObjectSpec;
use skep_testing::{fired, repository, require_kernel, reuseport_listener};

use super::{
    AttachType, available, cgroup::Cgroup, detach, net::in_own_namespace, or_lacking, or_refused,
};

/// Entries of the map `seen`.
const OPERATIONS: u32 = 0;
const MESSAGES: u32 = 1;
const PARSED: u32 = 2;
const VERDICTS: u32 = 3;
const CHOSEN: u32 = 4;
const MIGRATED: u32 = 5;

/// Loads these programs of an object of the repository; `Err` where the kernel does not take one.
pub(crate) fn object(name: &str, programs: &[&str]) -> Result<Object, String> {
    let path = repository().join("tests/data/objects").join(name);
    let bytes = fs::read(path).expect("the object is committed");
    let spec = ObjectSpec::parse(&bytes).expect("the object is well-formed");
    let programs = Some(programs.iter().map(|&name| name.to_owned()).collect());
    let options = LoadOptions { programs, pin_root: None, ..LoadOptions::default() };
    Object::load_spec(&spec, &options).map_err(|e| e.to_string())
}

pub(crate) fn map<'o>(object: &'o Object, name: &str) -> &'o Arc<Map> {
    object.map(name).expect("the object has it")
}

pub(crate) fn seen(object: &Object, what: u32) -> u64 {
    let value = map(object, "seen").lookup_vec(&what.to_ne_bytes());
    let value = value.expect("readable").expect("arrays are full");
    u64::from_ne_bytes(value.try_into().expect("8 bytes"))
}

/// Two ends of a connection over loopback.
fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (far, _) = listener.accept().expect("connected");
    for end in [&near, &far] {
        end.set_read_timeout(Some(Duration::from_secs(5))).expect("settable");
    }
    (near, far)
}

fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut buffer = vec![0; 64];
    let len = stream.read(&mut buffer).expect("something arrives");
    buffer.truncate(len);
    buffer
}

/// Nothing arrives in a moment.
fn silent(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("settable");
    std::thread::sleep(Duration::from_millis(50));
    let nothing = stream.peek(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
    stream.set_nonblocking(false).expect("settable");
    nothing
}

/// What the child of the cgroup does: a message each way over loopback.
pub(crate) fn talk() {
    let (mut near, mut far) = connection();
    near.write_all(b"ping").expect("written");
    assert_eq!(read(&mut far), b"ping");
    far.write_all(b"pong").expect("written");
    assert_eq!(read(&mut near), b"pong");
}

#[test]
fn sock_ops_fills_a_hash_and_messages_are_redirected_in_it() {
    require_kernel!(probe::can_load().into_result());
    let cgroup = available!(Cgroup::new());
    let object = object("sockets.bpf.o", &["established", "to_peer"]).expect("all kernels");
    let program = |name| object.program(name).expect("it is there");
    let (messages, by_port) = (program("to_peer"), map(&object, "by_port"));
    let ops = attach_cgroup(program("established"), cgroup.fd()).expect("the cgroup is ours");
    let link = attach_sockmap(messages, by_port).expect("all kernels");
    if link.method() == Method::Link {
        // Without a link the second would take the place of the first.
        let again = attach_sockmap_without_link(messages, by_port);
        assert!(matches!(again, Err(AttachError::Refused { .. })), "{again:?}");
    }
    cgroup.run("talk");
    assert_eq!(seen(&object, MESSAGES), 2, "{}", link.method());
    // Connect, both ends established, and their state changes.
    let operations = seen(&object, OPERATIONS);
    for op in [3, 4, 5, 10] {
        assert!(operations & 1 << op != 0, "operation {op} in {operations:#b}");
    }
    fired("sockops, callbacks", ops.method());
    let by = link.method();
    detach(link);
    cgroup.run("talk");
    assert_eq!(seen(&object, MESSAGES), 2, "counted after it was detached");
    fired("sk_msg", by);
    detach(ops);
}

#[test]
fn a_map_is_told_a_program_without_a_link() {
    in_own_namespace(|| {
        let object = object("sockets.bpf.o", &["to_peer", "swallow"]).expect("all kernels");
        let program = |name| object.program(name).expect("it is there");
        let by_port = map(&object, "by_port");
        let (mut near, mut far) = connection();
        let key = |end: &TcpStream| {
            let port = end.local_addr().expect("bound").port();
            u32::from(port).to_ne_bytes()
        };
        // Sockets take along what is attached when they come into the map.
        let join = |ends: [&TcpStream; 2]| {
            for end in ends {
                by_port.delete(&key(end)).ok();
                by_port.set_fd(&key(end), end.as_fd()).expect("it is a connected socket");
            }
        };
        let mut link = attach_sockmap_without_link(program("to_peer"), by_port).expect("it is");
        join([&near, &far]);
        assert_eq!(link.method(), Method::SocketMap);
        near.write_all(b"one").expect("written");
        assert_eq!(read(&mut far), b"one");
        assert_eq!(seen(&object, MESSAGES), 1);
        link.update(program("swallow"), None).expect("it is of the same kind");
        join([&near, &far]);
        let refused = near.write_all(b"two").expect_err("it is dropped");
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
        detach(link);
        join([&near, &far]);
        near.write_all(b"three").expect("written");
        assert_eq!(read(&mut far), b"three");
        assert_eq!(seen(&object, MESSAGES), 1);
        fired("sk_msg without a link", Method::SocketMap);
    });
}

/// Two connections; what arrives at the far end of the first leaves by the far end of the second.
fn spliced(object: &Object, links: impl FnOnce(&Object) -> Vec<Link>) -> Option<Method> {
    let pair = map(object, "pair");
    let ((mut client, first), (mut other, second)) = (connection(), connection());
    let links = links(object);
    let method = links.first()?.method();
    for (index, socket) in [(0_u32, &first), (1, &second)] {
        pair.set_fd(&index.to_ne_bytes(), socket.as_fd()).expect("it is a connected socket");
    }
    client.write_all(b"across").expect("written");
    assert_eq!(read(&mut other), b"across");
    let verdicts = seen(object, VERDICTS);
    assert!(verdicts > 0);
    for link in links {
        detach(link);
    }
    for index in [0_u32, 1] {
        pair.delete(&index.to_ne_bytes()).expect("it is there");
        let socket = if index == 0 { &first } else { &second };
        // A map without programs still takes sockets.
        pair.set_fd(&index.to_ne_bytes(), socket.as_fd()).expect("it is a connected socket");
    }
    client.write_all(b"again").expect("written");
    assert!(silent(&other), "redirected after it was detached");
    assert_eq!(seen(object, VERDICTS), verdicts, "counted after it was detached");
    Some(method)
}

#[test]
fn streams_are_spliced_by_parser_and_verdict() {
    in_own_namespace(|| {
        let object = object("sockets.bpf.o", &["parse", "splice"]).expect("all kernels");
        let method = spliced(&object, |object| {
            let pair = map(object, "pair");
            let one = |name| {
                let program = object.program(name).expect("it is there");
                attach(program, &Target::SocketMap(pair)).expect("all kernels")
            };
            vec![one("parse"), one("splice")]
        });
        assert!(seen(&object, PARSED) > 0);
        let method = method.expect("attached");
        fired("sk_skb/stream_parser", method);
        fired("sk_skb/stream_verdict", method);
    });
}

#[test]
fn streams_are_spliced_by_a_verdict_alone() {
    const HOOK: &str = "sk_skb/verdict";
    in_own_namespace(|| {
        let object = or_refused(HOOK, object("sockets.bpf.o", &["splice_whole"]));
        let Some(object) = object else { return };
        let mut lacking = None;
        let method = spliced(&object, |object| {
            let program = object.program("splice_whole").expect("it is there");
            let link = or_lacking(attach_sockmap(program, map(object, "pair")), &[libc::EINVAL]);
            match link {
                Ok(link) => {
                    let query = attached(
                        Owner::Map(map(object, "pair").as_fd()),
                        AttachType::SK_SKB_VERDICT,
                    );
                    if let Ok(found) = query {
                        let id = program.info().expect("known").id;
                        assert_eq!(found.programs.first().map(|at| at.program), Some(id));
                    }
                    vec![link]
                }
                Err(reason) => {
                    lacking = Some(reason);
                    Vec::new()
                }
            }
        });
        match (method, lacking) {
            (Some(method), _) => fired(HOOK, method),
            (None, reason) => skep_testing::refused(HOOK, &reason.unwrap_or_default()),
        }
    });
}

/// Listeners that share a port, in the map `group` by their index.
fn listeners<const N: usize>(object: &Object) -> (SocketAddr, [Option<TcpListener>; N]) {
    let mut address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let group = map(object, "group");
    let mut index = 0_u32;
    let all = [(); N].map(|()| {
        let listener = reuseport_listener(address).expect("loopback is up");
        address.set_port(listener.local_addr().expect("bound").port());
        group.set_fd(&index.to_ne_bytes(), listener.as_fd()).expect("it shares its port");
        index += 1;
        listener.set_nonblocking(true).expect("settable");
        Some(listener)
    });
    (address.into(), all)
}

/// Does this listener have a connection?
fn accepts(listener: Option<&TcpListener>) -> bool {
    listener.is_some_and(|listener| listener.accept().is_ok())
}

#[test]
fn a_program_chooses_the_socket_of_a_group() {
    const HOOK: &str = "sk_reuseport";
    in_own_namespace(|| {
        let Some(object) = or_refused(HOOK, object("sockets.bpf.o", &["choose"])) else { return };
        let (address, listeners) = listeners::<3>(&object);
        let program = object.program("choose").expect("it is there");
        let [first, ..] = &listeners;
        let socket = first.as_ref().expect("made").as_fd();
        let link = attach(program, &Target::Socket(socket)).expect("it is a group");
        for index in [2_u32, 0, 1, 1] {
            let choice = map(&object, "choice");
            choice.update(&[0; 4], &index.to_ne_bytes(), UpdateMode::Any).expect("writable");
            let _near = TcpStream::connect(address).expect("connected");
            for (number, listener) in (0..).zip(&listeners) {
                assert_eq!(accepts(listener.as_ref()), number == index, "{number} of {index}");
            }
        }
        assert_eq!((seen(&object, CHOSEN), link.method()), (4, Method::SocketOption));
        detach(link);
        let _near = TcpStream::connect(address).expect("connected");
        assert_eq!(seen(&object, CHOSEN), 4, "counted after it was detached");
        fired(HOOK, Method::SocketOption);
        let alone = TcpListener::bind("127.0.0.1:0").expect("loopback is up");
        let error = attach_reuseport(program, alone.as_fd()).expect_err("it shares nothing");
        assert!(matches!(error, AttachError::Refused { .. }), "{error}");
    });
}

#[test]
fn a_waiting_connection_migrates_when_its_listener_closes() {
    const HOOK: &str = "sk_reuseport/migrate";
    in_own_namespace(|| {
        let Some(object) = or_refused(HOOK, object("sockets.bpf.o", &["migrate"])) else { return };
        let (address, [mut first, second]) = listeners::<2>(&object);
        let program = object.program("migrate").expect("it is there");
        let socket = second.as_ref().expect("made").as_fd();
        let link = attach_reuseport(program, socket).expect("it is a group");
        let _near = TcpStream::connect(address).expect("connected");
        assert!(!accepts(second.as_ref()), "the first was chosen");
        drop(first.take());
        assert_eq!((seen(&object, CHOSEN), seen(&object, MIGRATED)), (2, 1));
        assert!(accepts(second.as_ref()), "it went over");
        fired(HOOK, link.method());
        detach(link);
    });
}
