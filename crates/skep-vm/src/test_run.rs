//! Running a program once (or often) on given bytes, with the meaning of `BPF_PROG_TEST_RUN`.

use std::time::Instant;

use skep_abi::ProgType;

use crate::context::{Context, ETH_HLEN, Plain, SkBuff, Xdp};
use crate::error::RunError;
use crate::program::Program;
use crate::run::Effects;

/// Most arguments of a raw tracepoint.
const MAX_TRACE_ARGS: usize = 12;

/// What a test run returns.
#[derive(Clone, Debug, Default)]
pub struct TestRun {
    /// What the program returned in its last run.
    pub retval: u32,
    /// The packet after the last run.
    pub data_out: Vec<u8>,
    /// The context after the last run.
    pub ctx_out: Vec<u8>,
    /// Time of one run, on average.
    pub duration_ns: u64,
    /// Redirects of the last run.
    pub effects: Effects,
}

/// Why a test run did not return.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TestRunError {
    /// The input does not go with the program type.
    #[error("{what} is {found} bytes, expected {expected}")]
    Input {
        /// "the packet" or "the context".
        what: &'static str,
        /// Bytes given.
        found: usize,
        /// What would be right.
        expected: &'static str,
    },
    /// A field of the context holds what cannot be.
    #[error("the context's {field} is {found}, expected {expected}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What would be right.
        expected: &'static str,
    },
    /// Programs of this type cannot run on given bytes.
    #[error("programs of type {prog_type} cannot be test-run")]
    ProgramType {
        /// The type.
        prog_type: ProgType,
    },
    /// The program failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl Program {
    /// Runs the program `repeat` times (once for 0) on a packet and a context, either of which may
    /// be empty where the program type allows it. As in the kernel the runs share one packet.
    ///
    /// # Errors
    ///
    /// [`TestRunError`] for input the kernel refuses too, or when a run fails.
    pub fn test_run(
        &self,
        data_in: &[u8],
        ctx_in: &[u8],
        repeat: u32,
    ) -> Result<TestRun, TestRunError> {
        let mut ctx = match self.prog_type() {
            ProgType::XDP => xdp(data_in, ctx_in)?.into(),
            t if is_skb(t) => skb(t, data_in, ctx_in)?.into(),
            t => plain(t, data_in, ctx_in)?.into(),
        };
        let mut out = self.repeat(&mut ctx, repeat)?;
        match &ctx {
            Context::Xdp(xdp) => {
                out.data_out = xdp.packet.with_metadata();
                out.ctx_out = if ctx_in.is_empty() { Vec::new() } else { xdp_out(xdp) };
            }
            Context::SkBuff(skb) => {
                out.data_out = if skb.pulled.is_empty() {
                    skb.packet.bytes()
                } else {
                    // The kernel hands back an empty link-layer header.
                    [&[0; ETH_HLEN], skb.packet.bytes().as_slice()].concat()
                };
                out.ctx_out = if ctx_in.is_empty() { Vec::new() } else { skb.image() };
            }
            Context::Plain(plain) => out.ctx_out = plain.bytes(),
        }
        Ok(out)
    }

    fn repeat(&self, ctx: &mut Context, repeat: u32) -> Result<TestRun, RunError> {
        let times = repeat.max(1);
        let mut last = None;
        let begin = Instant::now();
        for _ in 0..times {
            last = Some(self.run(ctx)?);
        }
        let took = begin.elapsed().as_nanos() / u128::from(times);
        let duration_ns = u64::try_from(took).unwrap_or(u64::MAX);
        let (retval, effects) = last.map(|o| (o.verdict(), o.effects)).unwrap_or_default();
        Ok(TestRun { retval, duration_ns, effects, ..TestRun::default() })
    }
}

/// Does this type run on a socket buffer?
const fn is_skb(t: ProgType) -> bool {
    matches!(
        t,
        ProgType::SOCKET_FILTER
            | ProgType::SCHED_CLS
            | ProgType::SCHED_ACT
            | ProgType::CGROUP_SKB
            | ProgType::LWT_IN
            | ProgType::LWT_OUT
            | ProgType::LWT_XMIT
            | ProgType::LWT_SEG6LOCAL
            | ProgType::SK_SKB
    )
}

fn frame(data: &[u8]) -> Result<(), TestRunError> {
    if data.len() < ETH_HLEN {
        let (what, found) = ("the packet", data.len());
        return Err(TestRunError::Input {
            what,
            found,
            expected: "an Ethernet header, 14 or more",
        });
    }
    Ok(())
}

/// The field of 4 bytes at `off`; 0 behind the end.
fn word(ctx: &[u8], off: usize) -> u32 {
    let bytes = ctx.get(off..off + 4).and_then(|b| b.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

fn xdp(data: &[u8], ctx: &[u8]) -> Result<Xdp, TestRunError> {
    frame(data)?;
    let mut xdp = Xdp::new(data);
    if ctx.is_empty() {
        return Ok(xdp);
    }
    let field = |field, found: u32, expected| {
        Err(TestRunError::Field { field, found: found.into(), expected })
    };
    let (start, end, meta) = (word(ctx, 0), word(ctx, 4), word(ctx, 8));
    if end as usize != data.len() {
        return field("data_end", end, "the length of the packet");
    }
    if meta != 0 {
        return field("data_meta", meta, "0");
    }
    if start > 252 || start % 4 != 0 || start > end {
        return field("data", start, "the length of the metadata: a multiple of 4, at most 252");
    }
    xdp.packet.data += start as usize;
    Ok(xdp.with_ingress(word(ctx, 12), word(ctx, 16)))
}

/// `struct xdp_md` as the kernel hands it back: offsets from the metadata.
fn xdp_out(xdp: &Xdp) -> Vec<u8> {
    let packet = &xdp.packet;
    let mut image = xdp.fields.image();
    let offsets = [packet.data - packet.meta, packet.end - packet.meta, 0];
    let bytes = offsets.iter().flat_map(|&o| u32::try_from(o).unwrap_or(u32::MAX).to_le_bytes());
    for (to, from) in image.iter_mut().zip(bytes) {
        *to = from;
    }
    image
}

/// Fields of `struct __sk_buff` that a test run takes from the caller.
const SKB_INPUT: &[&str] = &[
    "mark",
    "priority",
    "ingress_ifindex",
    "ifindex",
    "tstamp",
    "wire_len",
    "gso_segs",
    "gso_size",
    "hwtstamp",
];

fn skb(t: ProgType, data: &[u8], ctx: &[u8]) -> Result<SkBuff, TestRunError> {
    frame(data)?;
    let mut skb = SkBuff::new(t, data);
    skb.set_field("ingress_ifindex", 0);
    skb.set_field("wire_len", 0);
    skb.addressed_to_loopback();
    if !ctx.is_empty() {
        skb.take_fields(ctx, SKB_INPUT);
        if skb.field("ifindex") == Some(0) {
            skb.set_field("ifindex", 1);
        }
        if skb.field("wire_len") == Some(0) {
            skb.set_field("wire_len", data.len() as u64);
        }
    }
    if !matches!(t, ProgType::SCHED_CLS | ProgType::SCHED_ACT) {
        skb.pull_link_layer();
    }
    Ok(skb)
}

fn plain(t: ProgType, data: &[u8], ctx: &[u8]) -> Result<Plain, TestRunError> {
    let size = |what, found, expected| Err(TestRunError::Input { what, found, expected });
    if !data.is_empty() {
        return size("the packet", data.len(), "none for this program type");
    }
    match t {
        ProgType::RAW_TRACEPOINT
        | ProgType::RAW_TRACEPOINT_WRITABLE
        | ProgType::TRACING
        | ProgType::LSM => {
            if ctx.len() > MAX_TRACE_ARGS * 8 || !ctx.len().is_multiple_of(8) {
                return size("the context", ctx.len(), "at most 12 arguments of 8 bytes");
            }
            let (args, _) = ctx.as_chunks::<8>();
            let args: Vec<u64> = args.iter().map(|a| u64::from_le_bytes(*a)).collect();
            Ok(Plain::raw_tracepoint(&args))
        }
        ProgType::TRACEPOINT | ProgType::KPROBE | ProgType::PERF_EVENT => {
            Ok(Plain::tracepoint(ctx))
        }
        ProgType::SYSCALL => {
            if ctx.len() > usize::from(u16::MAX) {
                return size("the context", ctx.len(), "at most 65535");
            }
            Ok(Plain::syscall(ctx))
        }
        prog_type => Err(TestRunError::ProgramType { prog_type }),
    }
}
