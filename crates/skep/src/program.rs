//! Live programs, on either engine.

use std::{io::ErrorKind, sync::Arc};

use skep_abi::{AttachType, ProgType};
use skep_kernel::SysError;

use crate::{packets::ETHERNET_HEADER, verdict};

/// Why a program did not run to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It did what it must not, or took too long. Only on the embedded engine: the kernel's
    /// verifier has excluded it beforehand.
    #[error(transparent)]
    Fault(#[from] skep_vm::RunError),
    /// The embedded engine refused the input.
    #[error("program `{program}`")]
    Input {
        /// The program.
        program: String,
        /// What is wrong with it.
        #[source]
        source: Box<skep_vm::TestRunError>,
    },
    /// The kernel refused.
    #[error("program `{program}`")]
    Kernel {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: SysError,
    },
}

/// What a program runs on, with the meaning of `BPF_PROG_TEST_RUN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TestInput<'a> {
    /// The packet, for programs that see packets.
    pub data: &'a [u8],
    /// The context as user space lays it out (`struct __sk_buff`, `struct xdp_md`), the arguments of
    /// a raw tracepoint, the context of a syscall program. May be empty for packet programs.
    pub ctx: &'a [u8],
    /// How many times to run; 0 is 1.
    pub repeat: u32,
}

impl<'a> TestInput<'a> {
    /// One run on a packet.
    pub const fn packet(data: &'a [u8]) -> Self {
        Self { data, ctx: &[], repeat: 1 }
    }
}

/// What a run gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestRun {
    /// The return value: the verdict of a packet program.
    pub retval: u32,
    /// The packet afterwards.
    pub data: Vec<u8>,
    /// The context afterwards.
    pub ctx: Vec<u8>,
    /// Mean duration of one run in nanoseconds.
    pub duration_ns: u64,
}

/// A live program. Clones are the same program.
#[derive(Clone, Debug)]
pub struct Program {
    pub(crate) live: Live,
    pub(crate) section: String,
    pub(crate) prog_type: ProgType,
    pub(crate) attach_type: Option<AttachType>,
}

#[derive(Clone, Debug)]
pub(crate) enum Live {
    Embedded(Arc<skep_vm::Program>),
    Kernel(Arc<skep_kernel::Program>),
}

impl Program {
    /// Name of the function.
    pub fn name(&self) -> &str {
        match &self.live {
            Live::Embedded(p) => p.name(),
            Live::Kernel(p) => p.name(),
        }
    }

    /// ELF section, as written.
    pub fn section(&self) -> &str {
        &self.section
    }

    /// Kind.
    pub const fn prog_type(&self) -> ProgType {
        self.prog_type
    }

    /// Where it attaches, when the section name says more than the kind.
    pub const fn attach_type(&self) -> Option<AttachType> {
        self.attach_type
    }

    /// The program in the kernel, where it lives there: to pin it, or to attach it in ways of the
    /// kernel's own.
    pub fn kernel(&self) -> Option<&skep_kernel::Program> {
        match &self.live {
            Live::Embedded(_) => None,
            Live::Kernel(p) => Some(p),
        }
    }

    /// Runs the program on input that the caller gives. Nothing is attached, no packet is sent.
    ///
    /// # Errors
    ///
    /// [`RunError`] when the program faults or the engine cannot run its type like this.
    #[doc(alias = "BPF_PROG_TEST_RUN")]
    pub fn test_run(&self, input: TestInput<'_>) -> Result<TestRun, RunError> {
        match &self.live {
            Live::Embedded(p) => embedded_run(p, input),
            Live::Kernel(p) => kernel_run(p, self.prog_type, input)
                .map_err(|source| with_size_hint(source, self.prog_type, input.data))
                .map_err(|source| RunError::Kernel { program: p.name().into(), source }),
        }
    }
}

fn embedded_run(program: &skep_vm::Program, input: TestInput<'_>) -> Result<TestRun, RunError> {
    let run = program.test_run(input.data, input.ctx, input.repeat).map_err(|e| match e {
        skep_vm::TestRunError::Run(fault) => RunError::Fault(fault),
        e => RunError::Input { program: program.name().into(), source: Box::new(e) },
    })?;
    Ok(TestRun {
        retval: run.retval,
        data: run.data_out,
        ctx: run.ctx_out,
        duration_ns: run.duration_ns,
    })
}

/// What the errno means when the packet has a size that the kernel does not take, from
/// `net/bpf/test_run.c`: below an Ethernet header, or beyond a page with what stands around it.
fn with_size_hint(mut e: SysError, prog_type: ProgType, data: &[u8]) -> SysError {
    /// No kernel refuses less: a page without room before and behind the packet.
    const SAFE: usize = 3 << 10;
    let takes_packet = verdict::takes_packets(prog_type)
        || matches!(
            prog_type,
            ProgType::SCHED_ACT
                | ProgType::CGROUP_SKB
                | ProgType::LWT_IN
                | ProgType::LWT_OUT
                | ProgType::LWT_XMIT
                | ProgType::FLOW_DISSECTOR
        );
    if takes_packet && e.source.kind() == ErrorKind::InvalidInput {
        e.hint = match data.len() {
            0..ETHERNET_HEADER => Some("the kernel needs a packet of at least 14 bytes"),
            SAFE.. => {
                Some("the kernel takes packets of a memory page, less what it puts around them")
            }
            _ => e.hint,
        };
    }
    e
}

/// The most that a packet can have after a program made it longer. The room costs nothing until it
/// is used, and too little would make the kernel fail after the program has run.
const MOST_PACKET: usize = 1 << 17;

fn kernel_run(
    program: &skep_kernel::Program,
    prog_type: ProgType,
    input: TestInput<'_>,
) -> Result<TestRun, SysError> {
    let packets = !input.data.is_empty();
    // Only these hand their context back; to the others room for it is an error.
    let ctx_out = match prog_type {
        ProgType::XDP | ProgType::SCHED_CLS | ProgType::SCHED_ACT => input.ctx.len(),
        _ => 0,
    };
    let run = program.test_run(&skep_kernel::TestRunOptions {
        data: input.data,
        ctx: input.ctx,
        data_out_capacity: if packets { MOST_PACKET } else { 0 },
        ctx_out_capacity: ctx_out,
        repeat: input.repeat,
        ..Default::default()
    })?;
    Ok(TestRun {
        retval: run.retval,
        data: run.data_out,
        ctx: run.ctx_out,
        duration_ns: run.duration_ns.into(),
    })
}
