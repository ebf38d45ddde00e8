use super::*;

const FRAME: &[u8] = &[0xaa; 60];

fn packets(file: &[u8]) -> Result<Vec<(Vec<u8>, u32, u64)>, PcapError> {
    let mut reader = PcapReader::new(file)?;
    let mut all = Vec::new();
    while let Some(p) = reader.next_packet()? {
        all.push((p.data.to_vec(), p.original_len, p.time_ns));
    }
    Ok(all)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// A big-endian block around `body`.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let total = u32::try_from(body.len() + 12).expect("test blocks are small");
    [&words(&[kind, total]), body, &words(&[total])].concat()
}

fn section() -> Vec<u8> {
    block(0x0a0d_0d0a, &words(&[0x1a2b_3c4d, 1 << 16, u32::MAX, u32::MAX]))
}

fn interface(link_type: u32, options: &[u8]) -> Vec<u8> {
    block(1, &[&words(&[link_type << 16, 0]), options].concat())
}

#[test]
fn what_is_written_is_read_back() {
    let mut writer = PcapWriter::new(Vec::new()).unwrap();
    for (n, time_ns) in [(14, 1), (60, 1_700_000_000_123_456_789), (0, 0)] {
        let data = &FRAME[..n];
        writer.write(&CapturedPacket { data, original_len: 1500, time_ns }).unwrap();
    }
    let file = writer.finish().unwrap();
    let read = packets(&file).unwrap();
    let times: Vec<_> = read.iter().map(|p| (p.0.len(), p.1, p.2)).collect();
    assert_eq!(times, [(14, 1500, 1), (60, 1500, 1_700_000_000_123_456_789), (0, 1500, 0)]);
}

#[test]
fn every_byte_order_and_resolution_of_pcap_is_read() {
    let cases = [
        (words(&[0xa1b2_c3d4, 0x0002_0004, 0, 0, 65535, 1, 3, 5, 1, 9]), 3_000_005_000),
        (words(&[0xa1b2_3c4d, 0x0002_0004, 0, 0, 65535, 1, 3, 5, 1, 9]), 3_000_000_005),
    ];
    for (big, time) in cases {
        let little: Vec<u8> = big.chunks(4).flat_map(|w| w.iter().rev().copied()).collect();
        for mut file in [big, little] {
            file.push(0x55);
            assert_eq!(packets(&file).unwrap(), [(vec![0x55], 9, time)]);
        }
    }
}

#[test]
fn pcapng_packets_of_all_kinds_are_read() {
    let nanoseconds = words(&[9 << 16 | 1, 9 << 24, 0]);
    let file = [
        section(),
        block(0xbad, &words(&[1, 2, 3])),
        interface(1, &[]),
        interface(1, &nanoseconds),
        block(6, &words(&[0, 0, 7, 4, 60, 0xdead_beef])),
        block(6, &words(&[1, 0, 7, 4, 60, 0xdead_beef])),
        block(2, &words(&[1 << 16, 0, 8, 4, 60, 0xdead_beef])),
        block(3, &words(&[4, 0xdead_beef])),
    ]
    .concat();
    let data = 0xdead_beef_u32.to_be_bytes().to_vec();
    let want = [(60, 7000), (60, 7), (60, 8), (4, 0)].map(|(len, t)| (data.clone(), len, t));
    assert_eq!(packets(&file).unwrap(), want);
}

#[test]
fn errors_say_where() {
    let link = words(&[0xa1b2_c3d4, 0x0002_0004, 0, 0, 65535, 113]);
    let long = words(&[0xa1b2_c3d4, 0x0002_0004, 0, 0, 65535, 1, 0, 0, u32::MAX, 0]);
    let cut = words(&[0xa1b2_c3d4, 0x0002_0004, 0, 0, 65535, 1, 0, 0, 8, 8, 0]);
    let mut lengths = section();
    lengths[27] ^= 4;
    let cases: &[(Vec<u8>, u64, &str)] = &[
        (b"".to_vec(), 0, "the file has 0 bytes, expected 4"),
        (b"\x7fELF".to_vec(), 0, "0x7f454c46 is the magic number of neither pcap nor pcapng"),
        (link, 20, "link type 113, expected 1 (Ethernet)"),
        (long, 24, "a packet is 4294967295 bytes long, expected at most 262144"),
        (cut, 40, "a packet has 4 bytes, expected 8"),
        (lengths, 0, "a block, by its second length, is 24 bytes long, expected the first length"),
        ([section(), block(6, &words(&[0; 6]))].concat(), 28, "interface 0 is not described"),
        (
            [section(), interface(1, &[]), block(6, &words(&[0, 0, 0, 9, 9, 0]))].concat(),
            48,
            "a packet has 4 bytes, expected 9",
        ),
        (
            [section(), words(&[6, 0x4000_0000])].concat(),
            28,
            "a block is 1073741824 bytes long, expected a multiple of 4 from 12 to 16 MiB",
        ),
    ];
    for (file, offset, text) in cases {
        let error = packets(file).unwrap_err();
        assert_eq!((error.offset, error.problem.to_string().as_str()), (*offset, *text));
    }
}

#[test]
fn the_example_trace_is_read_whole() {
    let path = skep_testing::repository().join("examples/traffic.pcap");
    let read = packets(&std::fs::read(path).unwrap()).unwrap();
    assert!(read.len() > 10);
    assert!(read.iter().all(|(data, len, _)| data.len() == *len as usize && data.len() >= 14));
}
