//! Maps that only the kernel has, through the library.

use std::{net::UdpSocket, os::fd::AsFd as _};

use skep::{Engine, Object};
use skep_testing::{Skip, repository, skip};

#[test]
fn values_beside_sockets_have_types() {
    let path = repository().join("tests/data/objects/storage.bpf.o");
    let able = Engine::kernel().map_err(|e| e.to_string()).and_then(|engine| {
        let object = Object::open(path).map_err(|e| e.to_string())?;
        object.load(&engine).map_err(|e| e.to_string())
    });
    let loaded = match able {
        Ok(loaded) => loaded,
        Err(reason) => return skip(Skip::Kernel, "values_beside_sockets_have_types", &reason),
    };
    let map = loaded.map("of_socket").expect("the object has it");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    assert_eq!(map.get_of::<[u8; 16]>(socket.as_fd()).expect("readable"), None);
    map.set_of(socket.as_fd(), &[7_u8; 16]).expect("it is a socket");
    assert_eq!(map.get_of(socket.as_fd()).expect("readable"), Some([7_u8; 16]));
    assert!(map.get_of::<u64>(socket.as_fd()).is_err(), "values have 16 bytes");
    let kernel = map.kernel().expect("it is the kernel's");
    kernel.delete_storage(socket.as_fd()).expect("it is there");
    assert_eq!(map.get_of::<[u8; 16]>(socket.as_fd()).expect("readable"), None);
}
