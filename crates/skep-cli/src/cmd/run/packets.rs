//! Packets for the packet programs: from a capture, or copies from an interface.

use std::path::Path;

use anyhow::Context as _;

use super::session::{Session, Shared};
use crate::{exit::usage, output::Out};

pub fn feed(
    path: &Path,
    sessions: &mut [Session],
    shared: &Shared<'_>,
    out: &mut Out<'_>,
) -> anyhow::Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    if sessions.iter().all(|s| s.packet_programs().next().is_none()) {
        return Err(usage("--pcap: no program of the objects takes packets"));
    }
    for _ in 0..shared.args.repeat {
        let mut rest = bytes.get(24..).unwrap_or(&[]);
        while let Some((head, tail)) = rest.split_at_checked(16) {
            let len = u32::from_le_bytes(head[8..12].try_into()?) as usize;
            let Some((data, tail)) = tail.split_at_checked(len) else { break };
            rest = tail;
            if shared.over() {
                return Ok(());
            }
            for session in sessions.iter_mut() {
                session.packet(data, |_, _| Ok(()))?;
                session.events(std::time::Duration::ZERO, out)?;
            }
        }
    }
    Ok(())
}

pub fn watch(
    _iface: &str,
    _sessions: &mut [Session],
    _shared: &Shared<'_>,
    _out: &mut Out<'_>,
) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
