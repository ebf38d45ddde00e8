//! The project's example objects on the embedded engine.

use skep_object::{ObjectSpec, Target, resolve};
use skep_vm::{LoadOptions, Object};

/// The example of this name, loaded.
fn example(name: &str) -> Object {
    let path = skep_testing::repository().join("examples").join(name);
    let bytes = std::fs::read(&path).expect("the example is in the repository");
    let spec = ObjectSpec::parse(&bytes).expect("the example is well-formed");
    let object = resolve(spec, &Target::NONE).expect("the example needs no kernel");
    Object::load(&object, &LoadOptions::default()).expect("the engine has all it needs")
}

/// An Ethernet frame with IPv4 and UDP to a port.
fn udp(port: u16) -> Vec<u8> {
    let mut frame = vec![0xff; 12];
    frame.extend([0x08, 0x00, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x30, 0x39]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 12, 0, 0, 1, 2, 3, 4]);
    frame.resize(60, 0);
    frame
}

#[test]
fn classify_counts_and_drops() {
    const PASS: u32 = 2;
    const DROP: u32 = 1;
    let object = example("classify.bpf.o");
    let program = &object.programs()[0];
    for (port, verdict) in [(53, PASS), (53, PASS), (9, DROP)] {
        let run = program.test_run(&udp(port), &[], 1).expect("the program runs");
        assert_eq!(run.retval, verdict, "port {port}");
        assert_eq!(run.data_out, udp(port));
    }
    let protocols = object.map("protocols").expect("the object has this map");
    let udp_counter = protocols.lookup_vec(&5_u32.to_ne_bytes()).expect("the index is inside");
    assert_eq!(udp_counter[..8], 3_u64.to_ne_bytes());
    assert_eq!(udp_counter[8..], 180_u64.to_ne_bytes());
    let flows = object.map("flows").expect("the object has this map");
    assert_eq!(flows.keys().expect("keys can be listed").len(), 2);
}
