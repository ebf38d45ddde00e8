//! `skep run --iface` on a veth pair in a network namespace of its own: the packets of the trace,
//! sent for real, give the maps that the capture gives.

mod common;

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    process::Stdio,
    thread,
    time::Duration,
};

use common::{interrupt, json, run, skep};
use serde_json::Value;
use skep::packets::PcapReader;
use skep_kernel::link::{PacketSocket, ifindex};
use skep_testing::{require_kernel, sandbox, veth};

/// The trace. `tagged` keeps frames with a VLAN tag: for TC and packet sockets the kernel takes the
/// tag out of the frame.
fn frames(tagged: bool) -> Vec<Vec<u8>> {
    let path = skep_testing::repository().join("examples/traffic.pcap");
    let file = BufReader::new(File::open(path).expect("the trace is in the repository"));
    let mut reader = PcapReader::new(file).expect("the trace is a capture");
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet().expect("the trace is whole") {
        let is_tagged =
            matches!(packet.data.get(12..14), Some([0x81, 0] | [0x88, 0xa8] | [0x91, 0]));
        if tagged || !is_tagged {
            frames.push(packet.data.to_vec());
        }
    }
    frames
}

/// Maps and variables of JSON output; verdicts are the embedded engine's only.
fn maps(out: &str) -> Vec<Value> {
    json(out).into_iter().filter(|l| l["type"] == "map" || l["type"] == "variables").collect()
}

/// Runs an example on the interface `right` while `frames` are sent into `left`.
fn on_interface(example: &str, engine: &str, frames: &[Vec<u8>]) -> String {
    let mut child = skep()
        .args(["run", &format!("examples/{example}.bpf.o"), "--engine", engine])
        .args(["--iface", "right", "--duration", "60s", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut err = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut said = String::new();
    while !said.contains("ends after") {
        let read = err.read_line(&mut said).expect("stderr is text");
        assert_ne!(read, 0, "it ended too early: {said}");
    }
    let left = PacketSocket::open(ifindex("left").expect("the interface is there"));
    let left = left.expect("packets can be sent");
    for frame in frames {
        left.send(frame).expect("the frame is sent");
        // A reader in user space must keep up.
        thread::sleep(Duration::from_micros(500));
    }
    thread::sleep(Duration::from_millis(500));
    interrupt(&child);
    let output = child.wait_with_output().expect("the binary ends");
    assert_eq!(output.status.code(), Some(130), "{said}");
    String::from_utf8(output.stdout).expect("stdout is text")
}

/// The maps that the same frames give from a capture on the embedded engine.
fn from_capture(example: &str, frames: &[Vec<u8>]) -> Vec<Value> {
    let file = common::Scratch::new(&format!("interface-{example}.pcap"));
    let to = File::create(&file.0).expect("the temporary directory can be written");
    let mut writer = skep::packets::PcapWriter::new(to).expect("the header is written");
    for data in frames {
        let original_len = u32::try_from(data.len()).expect("frames are short");
        let packet = skep::packets::CapturedPacket { data, original_len, time_ns: 0 };
        writer.write(&packet).expect("the packet is written");
    }
    writer.finish().expect("the capture is written");
    let object = format!("examples/{example}.bpf.o");
    maps(&run(&["run", &object, "--pcap", file.path(), "--json"]).out)
}

#[test]
fn packets_on_an_interface_give_the_maps_of_the_capture() {
    let done = sandbox(|| {
        veth("left", "right")?;
        for (example, tagged) in
            [("classify", true), ("composition", true), ("rewrite", false), ("legacy", false)]
        {
            let frames = frames(tagged);
            let live = on_interface(example, "kernel", &frames);
            assert_eq!(maps(&live), from_capture(example, &frames), "{example}");
        }
        // Copies for the embedded engine: the same counts, with verdicts.
        let frames = frames(true);
        let live = on_interface("classify", "embedded", &frames);
        assert_eq!(maps(&live), from_capture("classify", &frames), "copies");
        assert_eq!(json(&live)[0]["packets"], frames.len());
        Ok::<_, String>(())
    });
    require_kernel!(done.and_then(|inside| inside));
}

#[test]
fn a_missing_interface_is_named() {
    let ran =
        run(&["run", "examples/classify.bpf.o", "--iface", "nowhere0", "--engine", "embedded"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("there is no interface nowhere0"), "{}", ran.err);
}
