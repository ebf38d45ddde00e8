//! The packets of `examples/traffic.pcap`: a made-up but well-formed trace that has at least a few
//! packets of everything the examples look at. The same bytes on every machine and every day.

mod build;
mod scenes;

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};

/// Where the trace lies, from the repository's root.
pub(crate) const PATH: &str = "examples/traffic.pcap";

/// Packets a second apart would make a long trace; these are 250 µs apart.
const INTERVAL_US: u32 = 250;
/// 2023-11-14 22:13:20 UTC: some date, always the same.
const START_S: u32 = 1_700_000_000;
/// What Ethernet allows, without the frame check sequence.
const FRAME_BYTES: std::ops::RangeInclusive<usize> = 60..=1514;

/// Writes the trace, or compares it with what is there.
pub(crate) fn run(root: &Path, check: bool) -> anyhow::Result<()> {
    let file = to_pcap(&scenes::all())?;
    let path = root.join(PATH);
    if check {
        let found = fs::read(&path).with_context(|| format!("cannot read {PATH}"))?;
        ensure!(found == file, "{PATH} is not what `cargo xtask pcap` writes");
    } else {
        fs::write(&path, &file).with_context(|| format!("cannot write {PATH}"))?;
    }
    Ok(())
}

/// The classic format: little endian, microseconds, Ethernet.
fn to_pcap(frames: &[Vec<u8>]) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1_u32] {
        out.extend(word.to_le_bytes());
    }
    let mut at_us = 0;
    for (index, frame) in frames.iter().enumerate() {
        let size = frame.len();
        ensure!(FRAME_BYTES.contains(&size), "frame {index} has {size} bytes");
        let size = u32::try_from(size)?;
        for word in [START_S + at_us / 1_000_000, at_us % 1_000_000, size, size] {
            out.extend(word.to_le_bytes());
        }
        out.extend(frame);
        at_us += INTERVAL_US;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_in_the_repository_is_the_one_made_here() {
        let root = skep_testing::repository();
        run(&root, true).expect("run `cargo xtask pcap`");
    }

    #[test]
    fn the_trace_stays_small() {
        let frames = scenes::all();
        assert!((500..=1000).contains(&frames.len()), "{} packets", frames.len());
        let size = to_pcap(&frames).expect("frame sizes are checked").len();
        assert!(size < 200_000, "{size} bytes");
    }
}
