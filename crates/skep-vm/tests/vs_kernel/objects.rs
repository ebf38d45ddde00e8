//! The example objects on the example trace.

use std::collections::BTreeMap;

use skep_abi::MapType;
use skep_kernel::probe;
use skep_object::{ObjectSpec, Target, resolve};
use skep_testing::require_kernel;
use skep_vm::hooks::pcap::PcapReader;

fn packets() -> Vec<Vec<u8>> {
    let path = skep_testing::repository().join("examples/traffic.pcap");
    let file = std::fs::read(path).expect("the trace is in the repository");
    let mut reader = PcapReader::new(file.as_slice()).expect("a pcap file");
    let mut all = Vec::new();
    while let Some(packet) = reader.next_packet().expect("a whole file") {
        all.push(packet.data.to_vec());
    }
    all
}

fn compare(name: &str) {
    let path = skep_testing::repository().join("examples").join(name);
    let bytes = std::fs::read(path).expect("the example is in the repository");
    let spec = ObjectSpec::parse(&bytes).expect("the example is well-formed");
    let object = resolve(spec, &Target::NONE).expect("the example needs no kernel");
    let ours = skep_vm::Object::load(&object, &skep_vm::LoadOptions::default()).expect("it loads");
    let options = skep_kernel::LoadOptions { pin_root: None, ..Default::default() };
    let theirs = skep_kernel::Object::load(&object, &options).expect("it loads");
    let mine = ours.programs().first().expect("an example has a program");
    let their = theirs.program(mine.name()).expect("the same programs");
    for (n, packet) in packets().iter().enumerate() {
        let want = their
            .test_run(&skep_kernel::TestRunOptions {
                data: packet,
                data_out_capacity: 4096,
                repeat: 1,
                ..Default::default()
            })
            .expect("the kernel runs it");
        let found = mine.test_run(packet, &[], 1).expect("the engine runs it");
        assert_eq!(found.retval, want.retval, "{name}: verdict for packet {n}");
        assert_eq!(found.data_out, want.data_out, "{name}: packet {n}");
    }
    for map in ours.maps() {
        let other = theirs.map(map.name()).expect("the same maps");
        let mine: Result<BTreeMap<_, _>, _> = map
            .keys()
            .map(|keys| keys.into_iter().map(|k| (k.clone(), map.lookup_vec(&k).ok())).collect());
        let Ok(mine) = mine else { continue };
        let skipped = map.def().map_type.is_percpu() // which CPU the kernel ran on is not known
            || map.def().map_type.is_map_in_map() // values are ids
            || map.def().map_type == MapType::PROG_ARRAY;
        if skipped {
            continue;
        }
        let their: BTreeMap<_, _> = other
            .keys()
            .map(|k| k.expect("keys can be listed"))
            .map(|k| (k.clone(), other.lookup_vec(&k).ok().flatten()))
            .collect();
        assert_eq!(mine, their, "{name}: map {}", map.name());
    }
}

#[test]
fn classify_agrees() {
    require_kernel!(probe::can_load().into_result());
    compare("classify.bpf.o");
}

#[test]
fn rewrite_agrees() {
    require_kernel!(probe::can_load().into_result());
    compare("rewrite.bpf.o");
}

#[test]
fn composition_agrees() {
    require_kernel!(probe::can_load().into_result());
    compare("composition.bpf.o");
}

#[test]
fn legacy_agrees() {
    require_kernel!(probe::can_load().into_result());
    compare("legacy.bpf.o");
}
