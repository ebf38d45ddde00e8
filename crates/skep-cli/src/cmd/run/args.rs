//! What `skep run` can be told.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use skep::{Engine, kernel::link::PerfEvent};

use super::place::Place;
use crate::{
    cmd::load::LoadArgs,
    exit::{Cannot, usage},
    parse::{assignment, duration},
};

/// Load objects, attach every program, stream what they emit, print their maps at the end.
///
/// Programs attach by their section names. Packet programs (XDP, TC, socket filters) get their
/// packets from a capture file (--pcap) or an interface (--iface). From a capture, and from an
/// interface on the embedded engine, they come as they are on the wire, with their VLAN tags. The
/// kernel engine's TC programs and socket filters on an interface see the packet without its tag,
/// which is in skb->vlan_tci: the kernel has taken it out before.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// ELF objects built for the bpf target.
    #[arg(required = true, value_name = "OBJECT")]
    pub objects: Vec<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArgs,
    /// Run only this program, also one that the file marks as optional (SEC("?…")); may be
    /// repeated.
    #[arg(long, value_name = "NAME")]
    pub prog: Vec<String>,
    /// What a freplace, fentry or fexit program attaches to, when that is a loaded program:
    /// `new=id:7`, `new=name:old`, `new=pinned:/sys/fs/bpf/old`; with `:FUNCTION` behind it another
    /// function than the section names. May be repeated.
    #[arg(long, value_name = "PROG=WHICH[:FUNCTION]", value_parser = assignment)]
    pub target_prog: Vec<(String, String)>,
    /// Attach a program elsewhere than its section says: a section's name (kprobe/do_unlinkat,
    /// uprobe/libc:malloc), a place (cgroup:/sys/fs/cgroup/x, iface:eth0, netns:PATH,
    /// perf_event:cpu-clock@99hz, netfilter:ip/input@-100, pid:1234, map:SOCKETS,
    /// route:10.1.0.0/16@eth0, over:pid=1234) or both (xdp:eth0, cgroup/connect4:PATH,
    /// iter/task:pid=1234). May be repeated, also for one program and several places.
    #[arg(
        long,
        value_name = "PROG=WHERE",
        value_parser = assignment,
        conflicts_with = "pcap",
        help_heading = "Places"
    )]
    pub attach: Vec<(String, String)>,
    /// Load this program and do not attach it; may be repeated.
    #[arg(long, value_name = "PROG", help_heading = "Places")]
    pub no_attach: Vec<String>,
    /// Take a program as what a section of this name holds, where its own says nothing: xdp, tc,
    /// cgroup/skb, or a program type.
    #[arg(long = "type", value_name = "PROG=TYPE", value_parser = assignment, help_heading = "Places")]
    pub prog_type: Vec<(String, String)>,
    /// The cgroup (version 2) that programs for cgroups attach to.
    #[arg(long, value_name = "PATH", help_heading = "Places")]
    pub cgroup: Option<PathBuf>,
    /// The network namespace for socket look-up and flow dissectors: /proc/PID/ns/net, or a name of
    /// ip netns.
    #[arg(long, value_name = "PATH", help_heading = "Places")]
    pub netns: Option<PathBuf>,
    /// The only process that uprobes, static probes and perf events watch.
    #[arg(long, value_name = "PID", help_heading = "Places")]
    pub pid: Option<u32>,
    /// What runs perf_event programs: cpu-clock@99hz, page-faults, cache-misses@1000…
    #[arg(long, value_name = "EVENT", value_parser = perf_event, help_heading = "Places")]
    pub perf_event: Option<PerfEvent>,
    /// Where netfilter programs go: ip/input, ip6/output@-100…
    #[arg(long, value_name = "HOOK", value_parser = super::place::netfilter, help_heading = "Places")]
    pub netfilter: Option<Place>,
    /// Pin every link below this directory of a bpf file system, named for its program, and end:
    /// programs stay attached until the file is removed, or, where the kernel can, `skep link detach` takes them off.
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = ["pcap", "duration"],
        help_heading = "Places"
    )]
    pub pin: Option<PathBuf>,
    /// Feed the packets of this capture (pcap or pcapng) to the packet programs.
    #[arg(long, value_name = "FILE", conflicts_with = "iface", help_heading = "Packets")]
    pub pcap: Option<PathBuf>,
    /// Attach packet programs to this interface; the embedded engine sees copies of its packets.
    #[arg(long, value_name = "IF", help_heading = "Packets")]
    pub iface: Option<String>,
    /// How XDP programs attach to the interface.
    #[arg(long, value_name = "MODE", value_enum, default_value_t, help_heading = "Packets")]
    pub xdp_mode: XdpMode,
    /// Store what the program lets pass, as it changed it (pcap).
    #[arg(long, value_name = "FILE", requires = "pcap", help_heading = "Packets")]
    pub write_pcap: Option<PathBuf>,
    /// Feed the whole capture this many times.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        requires = "pcap",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Packets"
    )]
    pub repeat: u32,
    /// Stop after this time: 3s, 500ms, 2m.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Set a global variable before the load; may be repeated.
    #[arg(long, value_name = "VAR=VALUE", value_parser = assignment)]
    pub set: Vec<(String, String)>,
    /// Change how many entries a map holds; may be repeated.
    #[arg(long, value_name = "MAP=N", value_parser = assignment)]
    pub max_entries: Vec<(String, String)>,
    /// Print only these maps at the end, whole; may be repeated. Without, each map that holds
    /// data, and of many entries the first 20.
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    pub map: Vec<String>,
    /// Decode ring and perf buffer records as this BTF type, of one map or of all; of an iterator
    /// that is named, its output.
    #[arg(long, value_name = "[NAME=]TYPE", help_heading = "Output")]
    pub event_type: Vec<String>,
    /// Show the value of each CPU beside the sum.
    #[arg(long, help_heading = "Output")]
    pub per_cpu: bool,
    #[command(flatten, next_help_heading = "Output")]
    pub load: LoadArgs,
    /// Print JSON, one object per line.
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Which engine, and what it is told.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    /// Where programs run.
    #[arg(long, value_name = "ENGINE", value_enum, default_value_t)]
    pub engine: EngineChoice,
    /// Types of the target kernel for CO-RE: a BTF file, an ELF file with .BTF, or a directory laid
    /// out as BTFHub's archive that has the running kernel's.
    #[arg(long, value_name = "FILE|DIR")]
    pub btf: Option<PathBuf>,
    /// Load by the rights that this bpf file system delegates to the user namespace; without it
    /// /sys/fs/bpf is looked at, or what LIBBPF_BPF_TOKEN_PATH names, when other rights are missing.
    #[arg(long, value_name = "DIR")]
    pub token: Option<PathBuf>,
    /// Pin the maps that the object asks to pin, below this directory of a bpf file system;
    /// without it nothing is pinned.
    #[arg(long, value_name = "DIR")]
    pub pin_root: Option<PathBuf>,
}

/// Where programs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineChoice {
    /// The kernel where it is allowed and needed, else embedded.
    #[default]
    Auto,
    /// In this process, without rights.
    Embedded,
    /// In the running Linux kernel.
    Kernel,
}

/// How XDP attaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum XdpMode {
    /// Let the kernel choose: in the driver where it can, else generic.
    #[default]
    Auto,
    /// Behind the driver, on every interface.
    Generic,
    /// In the driver.
    Native,
}

fn perf_event(text: &str) -> Result<PerfEvent, String> {
    PerfEvent::parse(text).map_err(|e| e.to_string())
}

impl Run {
    /// Does a flag ask for something that only the kernel has?
    pub fn hooks_flag(&self) -> Option<&'static str> {
        let flags = [
            ("--attach", !self.attach.is_empty()),
            ("--cgroup", self.cgroup.is_some()),
            ("--netns", self.netns.is_some()),
            ("--pid", self.pid.is_some()),
            ("--perf-event", self.perf_event.is_some()),
            ("--netfilter", self.netfilter.is_some()),
            ("--pin", self.pin.is_some()),
        ];
        flags.into_iter().find_map(|(flag, given)| given.then_some(flag))
    }

    /// Rules that one flag alone cannot express.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.write_pcap.is_some() && self.write_pcap == self.pcap {
            return Err(usage("--write-pcap would overwrite the capture that --pcap reads"));
        }
        if self.pcap.is_none() {
            // The parser takes them with --iface, which excludes what they need.
            let given =
                [("--write-pcap", self.write_pcap.is_some()), ("--repeat", self.repeat > 1)];
            if let Some((flag, _)) = given.iter().find(|(_, given)| *given) {
                return Err(usage(format!("{flag} goes with --pcap FILE only")));
            }
        }
        Ok(())
    }

    /// `--max-entries` as numbers.
    pub fn sizes(&self) -> anyhow::Result<Vec<(&str, u32)>> {
        let number = |(map, n): &'_ (String, String)| {
            n.parse().map_err(|_| usage(format!("--max-entries {map}={n}: expected a number")))
        };
        self.max_entries.iter().map(|entry| Ok((entry.0.as_str(), number(entry)?))).collect()
    }
}

impl EngineArgs {
    /// Puts what the flags say into an object.
    pub fn apply(&self, object: &mut skep::Object) -> anyhow::Result<()> {
        if let Some(path) = &self.btf {
            object.target_btf(crate::btf_file::read(path)?);
        }
        if let Some(root) = &self.pin_root {
            object.pin_root(root);
        }
        // What a run makes ends with it; only who names a place wants to keep something.
        object.pin_maps(self.pin_root.is_some());
        Ok(())
    }

    /// Says once, on standard error, what the engine does differently from what the objects ask.
    pub fn notify(&self, loaded: &[&skep::Loaded]) {
        let (mut notices, mut unpinned) = (Vec::new(), Vec::new());
        let mut engine = "";
        for one in loaded {
            engine = one.engine().name();
            notices.extend(one.notices().iter().map(String::as_str));
            unpinned.extend(one.unpinned());
        }
        let mut said = HashSet::new();
        notices.retain(|notice| said.insert(*notice));
        for notice in notices {
            say!("note: {notice}");
        }
        if !unpinned.is_empty() {
            let why = match self.pin_root {
                Some(_) => format!("the {engine} engine has no pins"),
                None => "--pin-root DIR pins them in the kernel".into(),
            };
            say!("note: maps not pinned: {} ({why})", unpinned.join(", "));
        }
    }

    /// The engine for a program that gets its input from the command line: `auto` is the embedded
    /// one, for a kernel adds nothing to that.
    pub fn for_bytes(&self) -> anyhow::Result<Engine> {
        match self.engine {
            EngineChoice::Auto => Ok(Engine::embedded_because("the input is given")),
            choice => self.engine(choice),
        }
    }

    fn kernel(&self) -> Result<Engine, skep::EngineError> {
        self.token.as_deref().map_or_else(Engine::kernel, Engine::kernel_by_token)
    }

    /// The engine by this choice.
    pub fn engine(&self, choice: EngineChoice) -> anyhow::Result<Engine> {
        match choice {
            EngineChoice::Auto if self.token.is_none() => Ok(Engine::auto()),
            EngineChoice::Embedded => Ok(Engine::embedded()),
            EngineChoice::Kernel | EngineChoice::Auto => self.kernel().map_err(|e| {
                Cannot {
                    missing: e.to_string(),
                    hint: "run as root, or use --engine embedded with --pcap or --iface".into(),
                }
                .into()
            }),
        }
    }
}

impl From<XdpMode> for skep::XdpMode {
    fn from(mode: XdpMode) -> Self {
        match mode {
            XdpMode::Auto => Self::Auto,
            XdpMode::Generic => Self::Generic,
            XdpMode::Native => Self::Native,
        }
    }
}
