//! Packets for the packet programs: from a capture, or copies from an interface.

use std::{
    fs::File,
    io::{BufReader, BufWriter, IsTerminal as _, Read, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use skep::{
    Program, TestRun,
    abi::ProgType,
    packets::{AfPacket, CapturedPacket, PcapReader, PcapWriter},
    verdict,
};

use super::session::{self, Session, Shared};
use crate::{
    cmd::asm::name_of,
    exit::{Cannot, usage},
    output::Out,
};

/// Runs the programs on every packet of a capture.
pub fn feed(
    path: &Path,
    sessions: &mut [Session],
    shared: &Shared<'_>,
    out: &mut Out<'_>,
) -> anyhow::Result<()> {
    let programs: usize = sessions.iter().map(Session::packet_programs).sum();
    if programs == 0 {
        return Err(usage("--pcap: no program of the objects takes packets"));
    }
    session::not_run(sessions, "take no packets and do not run", |_, program| {
        !verdict::takes_packets(program.prog_type())
    });
    let from_stdin = path.as_os_str() == "-";
    if from_stdin && shared.args.repeat > 1 {
        return Err(usage("--repeat: standard input can be read only once"));
    }
    let mut passed = shared.args.write_pcap.as_deref().map(|p| Passed::create(p, programs));
    let mut passed = passed.take().transpose()?;
    let mut progress = Progress::new();
    for _ in 0..shared.args.repeat {
        let file: Box<dyn Read> = if from_stdin {
            Box::new(std::io::stdin().lock())
        } else {
            Box::new(File::open(path).with_context(|| format!("cannot read {}", path.display()))?)
        };
        let mut reader = PcapReader::new(BufReader::new(file)).with_context(|| name_of(path))?;
        while let Some(packet) = reader.next_packet().with_context(|| name_of(path))? {
            if shared.over() {
                progress.end();
                return passed.map_or(Ok(()), Passed::finish);
            }
            for session in sessions.iter_mut() {
                session
                    .packet(packet.data, None, |program, run| match &mut passed {
                        Some(passed) => passed.write(program, run, &packet),
                        None => Ok(()),
                    })
                    .with_context(|| format!("packet {}", progress.packets + 1))?;
                session.events(Duration::ZERO, out)?;
            }
            progress.step();
        }
    }
    progress.end();
    passed.map_or(Ok(()), Passed::finish)
}

/// Runs the programs on copies of an interface's packets.
pub fn watch(
    interface: &str,
    sessions: &mut [Session],
    shared: &Shared<'_>,
    out: &mut Out<'_>,
) -> anyhow::Result<()> {
    ifindex(interface)?;
    let mut socket = AfPacket::open(interface).map_err(|e| cannot_open(interface, e))?;
    say!("watching {interface}: programs see copies, packets go their way; {}", shared.ending());
    while !shared.over() {
        let live = socket.next_packet(shared.wait()).context("reading packets");
        if let Some(live) = live? {
            for session in sessions.iter_mut() {
                session.packet(live.data, Some(live.outgoing), |_, _| Ok(()))?;
            }
        }
        for session in sessions.iter_mut() {
            session.events(Duration::ZERO, out)?;
        }
        out.flush()?;
    }
    let (_, lost) = socket.statistics().context("counting lost packets")?;
    if lost > 0 {
        say!("lost: {lost} packets that came too fast");
    }
    Ok(())
}

/// The index of an interface that the user named.
pub fn ifindex(name: &str) -> anyhow::Result<u32> {
    skep::ifindex(name).with_context(|| format!("there is no interface {name}"))
}

fn cannot_open(interface: &str, e: std::io::Error) -> anyhow::Error {
    if e.kind() != std::io::ErrorKind::PermissionDenied {
        return anyhow::Error::new(e).context(format!("cannot watch {interface}"));
    }
    let missing = format!("copies of the packets of {interface} need CAP_NET_RAW");
    let hint = "run as root, or record a capture and give it with --pcap".into();
    Cannot { missing, hint }.into()
}

/// The capture that `--write-pcap` makes.
struct Passed {
    writer: PcapWriter<BufWriter<File>>,
    name: String,
}

impl Passed {
    fn create(path: &Path, programs: usize) -> anyhow::Result<Self> {
        if programs != 1 {
            return Err(usage(format!(
                "--write-pcap: {programs} programs get the packets; choose one with --prog"
            )));
        }
        let name = path.display().to_string();
        let file = File::create(path).with_context(|| format!("cannot write {name}"))?;
        let writer = PcapWriter::new(BufWriter::new(file))
            .with_context(|| format!("cannot write {name}"))?;
        Ok(Self { writer, name })
    }

    /// Stores the packet as the program left it, if it goes on.
    fn write(
        &mut self,
        program: &Program,
        run: &TestRun,
        from: &CapturedPacket<'_>,
    ) -> anyhow::Result<()> {
        let prog_type = program.prog_type();
        if !verdict::passes(prog_type, run.retval) {
            return Ok(());
        }
        // A socket filter's verdict is how many bytes it keeps.
        let keep =
            if prog_type == ProgType::SOCKET_FILTER { run.retval as usize } else { usize::MAX };
        let data = run.data.get(..keep.min(run.data.len())).unwrap_or(&run.data);
        let original_len = u32::try_from(run.data.len()).unwrap_or(u32::MAX);
        self.writer
            .write(&CapturedPacket { data, original_len, time_ns: from.time_ns })
            .with_context(|| format!("cannot write {}", self.name))
    }

    fn finish(self) -> anyhow::Result<()> {
        self.writer.finish().with_context(|| format!("cannot write {}", self.name))?;
        Ok(())
    }
}

/// Says on a terminal how far a long capture is.
struct Progress {
    packets: u64,
    started: Instant,
    said: Option<Instant>,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { packets: 0, started: Instant::now(), said: None, terminal }
    }

    fn step(&mut self) {
        self.packets += 1;
        // Looking at the clock for every packet would cost more than many a program.
        if !self.terminal || !self.packets.is_multiple_of(4096) {
            return;
        }
        if self.said.unwrap_or(self.started).elapsed() >= Duration::from_secs(1) {
            self.said = Some(Instant::now());
            let mut err = std::io::stderr().lock();
            // Only a remark: when it cannot be made, the run goes on.
            drop(write!(err, "\r{} packets", self.packets).and_then(|()| err.flush()));
        }
    }

    fn end(&self) {
        if self.said.is_some() {
            eprintln!(
                "\r{} packets in {:.1} s",
                self.packets,
                self.started.elapsed().as_secs_f64()
            );
        }
    }
}
