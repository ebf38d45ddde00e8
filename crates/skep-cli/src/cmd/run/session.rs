//! One object of a run: loaded, fed, read, and shown at the end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use skep::{
    Attach, Direction, Engine, Events, Loaded, Map, Object, PrintSink, Program, TestRun,
    abi::{AttachType, ProgType},
    packets::ETHERNET_HEADER,
    verdict,
};

use super::{
    Run, XdpMode,
    attach::Attached,
    event_type::{Wanted, event_type},
    lines::{Event, Line, Verdicts},
    maps,
};
use crate::{output::Out, show::counted, signal::Stop};

/// How long a wait for events lasts before the end of the run is looked at again.
const TICK: Duration = Duration::from_millis(100);

/// What all objects of a run have in common.
pub struct Shared<'a> {
    pub args: &'a Run,
    pub stop: &'a Stop,
    pub started: Instant,
}

impl Shared<'_> {
    /// Is the run over: a signal, or its time?
    pub fn over(&self) -> bool {
        self.stop.asked() || self.args.duration.is_some_and(|d| self.started.elapsed() >= d)
    }

    /// How the run ends, in words.
    pub fn ending(&self) -> String {
        match self.args.duration {
            Some(d) => format!("ends after {d:?}"),
            None => "ends with Ctrl-C".into(),
        }
    }

    /// How long to wait for events at most.
    pub fn wait(&self) -> Duration {
        let left = self.args.duration.map(|d| d.saturating_sub(self.started.elapsed()));
        left.unwrap_or(TICK).min(TICK)
    }
}

/// Entries of a map that are shown without being asked for, in text.
const MOST_ENTRIES: usize = 20;

/// One object of a run.
pub struct Session {
    /// Which object this is, when there are several.
    label: Option<String>,
    loaded: Loaded,
    readers: Vec<Reader>,
    /// Programs that get packets, with what they decided.
    packet: Vec<(Program, Verdicts)>,
    printed: Printed,
    /// Attachments; dropping them detaches.
    attached: Attached,
}

/// Lines of `bpf_printk`, between the program that writes them and the output.
#[derive(Clone, Debug, Default)]
struct Printed(Arc<Mutex<Vec<String>>>);

impl Printed {
    fn sink(&self) -> PrintSink {
        let lines = Arc::clone(&self.0);
        Arc::new(move |line| {
            // A poisoned lock means another thread died while it pushed: the lines are whole.
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push(line.trim_end().to_owned());
        })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A ring or perf buffer that is read.
struct Reader {
    map: String,
    events: Events,
    event_type: Option<skep::btf::TypeId>,
}

impl Session {
    /// Loads an object and makes it ready to be fed.
    pub fn load(mut object: Object, engine: &Engine, shared: &Shared<'_>) -> anyhow::Result<Self> {
        let printed = Printed::default();
        object.print_to(printed.sink());
        let tail_called: Vec<String> = object
            .tail_called()
            .into_iter()
            .filter_map(|i| object.spec().programs.get(i).map(|p| p.name.clone()))
            .collect();
        let args = shared.args;
        let label = (args.objects.len() > 1).then(|| object.name().to_owned());
        let mut attached = Attached::default();
        if engine.features().hooks {
            attached.homeless = args.leave_out(&mut object)?;
        }
        let loaded = args.load.load(object, engine)?;
        let wanted = Wanted::parse(&args.event_type);
        let mut readers = Vec::new();
        for (spec, map) in loaded.maps() {
            if !map.is_event_buffer() {
                continue;
            }
            let btf = loaded.spec().btf.as_ref();
            let event_type = btf.and_then(|btf| event_type(btf, spec, &wanted));
            let events = map.events().with_context(|| format!("cannot read map {}", spec.name))?;
            readers.push(Reader { map: spec.name.clone(), events, event_type });
        }
        let entry = |p: &&Program| {
            verdict::takes_packets(p.prog_type())
                && (!tail_called.iter().any(|n| n == p.name())
                    || args.prog.iter().any(|n| n == p.name()))
        };
        let packet = loaded.programs().iter().filter(entry).map(|p| {
            let program = p.name().into();
            let empty =
                Verdicts { program, packets: 0, bytes: 0, verdicts: BTreeMap::new(), skipped: 0 };
            (p.clone(), empty)
        });
        let packet = packet.collect();
        Ok(Self { label, readers, packet, printed, attached, loaded })
    }

    /// The live object.
    pub const fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Has a program seen a packet?
    pub fn has_run(&self) -> bool {
        self.packet.iter().any(|(_, v)| v.packets + v.skipped > 0)
    }

    /// Number of packet programs that are fed.
    pub fn packet_programs(&self) -> usize {
        self.packet.len()
    }

    /// Gives a packet to each packet program whose hook it would pass; `after` sees what became of
    /// it. `outgoing` is for packets of an interface.
    pub fn packet(
        &mut self,
        data: &[u8],
        outgoing: Option<bool>,
        mut after: impl FnMut(&Program, &TestRun) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for (program, count) in &mut self.packet {
            if outgoing.is_some_and(|outgoing| !sees(program, outgoing)) {
                continue;
            }
            if data.len() < ETHERNET_HEADER {
                count.skipped += 1;
                continue;
            }
            let run = program.run_on_frame(data)?;
            count.packets += 1;
            count.bytes += data.len() as u64;
            let name = verdict::name(program.prog_type(), run.retval);
            *count.verdicts.entry(name.into_owned()).or_default() += 1;
            after(program, &run)?;
        }
        Ok(())
    }

    /// Attaches the programs.
    fn attach(&mut self, shared: &Shared<'_>) -> anyhow::Result<()> {
        let left_out = std::mem::take(&mut self.attached.homeless);
        self.attached = shared.args.attach_object(&self.loaded, |p| self.is_entry(p))?;
        self.attached.homeless.extend(left_out);
        Ok(())
    }

    /// Is this a packet program that is fed, not one that others tail-call?
    pub fn is_entry(&self, program: &Program) -> bool {
        self.packet.iter().any(|(p, _)| p.name() == program.name())
    }

    /// Writes the events that are there; waits up to `wait` for the first.
    pub fn events(&mut self, wait: Duration, out: &mut Out<'_>) -> anyhow::Result<()> {
        out.about(self.label.as_deref());
        for text in self.printed.take() {
            out.emit(&Line::Printk { text })?;
        }
        let btf = self.loaded.spec().btf.as_ref();
        for reader in &mut self.readers {
            for record in reader.events.poll(wait) {
                let event = maps::decode_event(btf, reader.event_type, &record.data);
                let map = reader.map.clone();
                out.emit(&Line::Event(Event { map, cpu: record.cpu, event }))?;
            }
        }
        Ok(())
    }

    /// Detaches, then writes the last events, verdicts, losses and maps.
    pub fn finish(&mut self, shared: &Shared<'_>, out: &mut Out<'_>) -> anyhow::Result<()> {
        let only_reads = std::mem::take(&mut self.attached).only_reads();
        self.events(Duration::ZERO, out)?;
        if let Some(object) = self.label.clone().filter(|_| !shared.args.json) {
            out.section(&Line::Heading { object })?;
        }
        // What the kernel attached decides out of our sight.
        let fed = shared.args.pcap.is_some() || !self.loaded.engine().features().hooks;
        for (_, verdicts) in self.packet.drain(..).filter(|_| fed) {
            out.section(&Line::Verdicts(verdicts))?;
        }
        for reader in &self.readers {
            // In text only a loss is news; JSON says 0 too.
            if let Some(events) = reader.events.lost().filter(|n| *n > 0 || shared.args.json) {
                out.section(&Line::Lost { map: reader.map.clone(), events })?;
            }
        }
        let btf = self.loaded.spec().btf.as_ref();
        let named: Vec<&Map> = self.loaded.maps().map(|(_, map)| map).collect();
        // What was asked for is shown whole.
        let most = if shared.args.map.is_empty() { Some(MOST_ENTRIES) } else { None };
        let style = maps::Style { per_cpu: shared.args.per_cpu, most };
        for (spec, map) in self.loaded.maps() {
            let shown = match shared.args.map.as_slice() {
                [] => !only_reads && maps::shown_by_default(spec),
                names => names.contains(&spec.name),
            };
            if shown {
                out.section(&maps::line(btf, spec, map, &named, style)?)?;
            }
        }
        out.flush()
    }
}

/// Do packets of this direction pass the program's hook?
fn sees(program: &Program, outgoing: bool) -> bool {
    match program.prog_type() {
        ProgType::SOCKET_FILTER => true,
        _ => outgoing == is_egress(program),
    }
}

fn is_egress(program: &Program) -> bool {
    program.attach_type() == Some(AttachType::TCX_EGRESS)
}

/// Attaches everything and streams events until the end.
pub fn attached(
    sessions: &mut [Session],
    shared: &Shared<'_>,
    out: &mut Out<'_>,
) -> anyhow::Result<()> {
    for session in sessions.iter_mut() {
        session.attach(shared)?;
    }
    let all: Vec<&Attached> = sessions.iter().map(|s| &s.attached).collect();
    Attached::check(&all)?;
    for (program, link) in all.iter().flat_map(|one| &one.links) {
        link.notices().iter().for_each(|notice| say!("note: program {program}: {notice}"));
    }
    if let Some(directory) = &shared.args.pin {
        let links = Attached::pin(&all, directory)?;
        let place = directory.display();
        say!(
            "pinned {} below {place}: removing a file detaches its program",
            counted(links, "link")
        );
        return Ok(());
    }
    all.iter().try_for_each(|one| one.run_once(out))?;
    if all.iter().all(|one| one.links.is_empty()) {
        if all.iter().all(|one| one.iterators.is_empty() && one.once.is_empty()) {
            say!("note: loaded, and nothing to attach");
        }
        return read_iterators(sessions, shared, out);
    }
    let structures: usize = sessions.iter().map(|s| s.loaded.struct_ops().len()).sum();
    let links = all.iter().map(|one| one.links.len()).sum::<usize>();
    let programs = links.saturating_sub(structures);
    let kinds = [(programs, "program"), (structures, "struct_ops map")];
    let kinds = kinds.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| counted(n, what));
    let what = kinds.collect::<Vec<_>>().join(" and ");
    say!("attached {what}; {}", shared.ending());
    while !shared.over() {
        let readers: usize = sessions.iter().map(|s| s.readers.len()).sum();
        // Each reader waits its part, so that none makes the others late.
        let parts = u32::try_from(readers).unwrap_or(u32::MAX);
        match shared.wait().checked_div(parts) {
            Some(part) => sessions.iter_mut().try_for_each(|s| s.events(part, out))?,
            None => std::thread::sleep(shared.wait()),
        }
        out.flush()?;
    }
    read_iterators(sessions, shared, out)
}

/// Iterators come last: they may walk over what the other programs have counted.
fn read_iterators(
    sessions: &[Session],
    shared: &Shared<'_>,
    out: &mut Out<'_>,
) -> anyhow::Result<()> {
    let wanted = Wanted::parse(&shared.args.event_type);
    for session in sessions {
        out.about(session.label.as_deref());
        session.attached.read_iterators(&session.loaded, &wanted, out)?;
    }
    out.flush()
}

/// Says which programs are loaded and do not run, and why.
pub fn not_run(sessions: &[Session], why: &str, which: impl Fn(&Session, &Program) -> bool) {
    let programs = sessions.iter().flat_map(|s| s.loaded.programs().iter().map(move |p| (s, p)));
    let names: Vec<&str> = programs.filter(|(s, p)| which(s, p)).map(|(_, p)| p.name()).collect();
    if !names.is_empty() {
        say!("note: programs that {why}: {}", names.join(", "));
    }
}

/// How a packet program attaches to an interface.
pub fn on_interface(program: &Program, ifindex: u32, mode: XdpMode) -> Attach<'static> {
    match program.prog_type() {
        ProgType::XDP => Attach::Xdp { ifindex, mode: mode.into() },
        ProgType::SOCKET_FILTER => Attach::Packets { ifindex },
        _ => {
            let direction = if is_egress(program) { Direction::Egress } else { Direction::Ingress };
            Attach::Tc { ifindex, direction }
        }
    }
}
