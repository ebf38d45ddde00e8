//! One run of a program: its memory, its context, its limits.

use std::sync::Arc;

use skep_abi::context::{Kind, Layout};

use crate::context::{Context, Packet};
use crate::error::{Access, Reason, RunError};
use crate::maps::Map;
use crate::mem::{Fault, Space, Span, Word};
use crate::program::{Program, Settings};

/// Most tail calls of a run, as in the kernel.
const MAX_TAIL_CALLS: u32 = 33;
/// Times that `may_goto` falls through, as in the kernel.
const MAX_LOOPS: u32 = 8 * 1024 * 1024;

/// Bytes that a helper handles in about the time of one instruction.
const BYTES_PER_INSN: u64 = 16;

/// Why a helper did not return.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The call itself is at fault.
    Reason(Reason),
    /// The error happened in a callback.
    Nested(Box<RunError>),
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

/// Where a packet was sent by a redirect helper. Nothing is sent: the host decides.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RedirectTarget {
    /// To an interface.
    Interface {
        /// Its index.
        ifindex: u32,
    },
    /// To the peer of a veth interface in another namespace.
    Peer {
        /// Index of the interface here.
        ifindex: u32,
    },
    /// To an interface, with the link-layer address filled in by the neighbour system.
    Neighbour {
        /// Its index.
        ifindex: u32,
    },
    /// To the entry of a device, CPU or socket map.
    Map {
        /// The map.
        map: Arc<Map>,
        /// Key within it.
        key: u64,
    },
}

/// A redirect as the program asked for it.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// Where to.
    pub target: RedirectTarget,
    /// Flags of the helper.
    pub flags: u64,
}

/// What a run did besides returning a number.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// The last redirect; it counts when the program returns its type's redirect verdict.
    pub redirect: Option<Redirect>,
    /// Copies of the packet sent on the way (`bpf_clone_redirect`), at most [`MAX_CLONES`].
    pub clones: Vec<Redirect>,
}

/// Most copies remembered of one run; further ones fail like a full queue.
pub const MAX_CLONES: usize = 64;

/// A run that returned.
#[derive(Clone, Debug)]
pub struct RunOutput {
    /// `r0` at exit. Most program types use the low 32 bits only.
    pub retval: u64,
    /// Redirects.
    pub effects: Effects,
}

impl RunOutput {
    /// The low 32 bits of `r0`: the verdict of packet programs.
    #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
    pub const fn verdict(&self) -> u32 {
        self.retval as u32
    }
}

/// State of a run.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) space: Space,
    pub(crate) ctx: &'a mut Context,
    pub(crate) settings: &'a Settings,
    /// What `r1` was at entry.
    pub(crate) entry: u64,
    /// CPU number of this run.
    pub(crate) cpu: u32,
    ctx_span: Span,
    layout: Option<&'static Layout>,
    pub(crate) budget: u64,
    pub(crate) depth: usize,
    pub(crate) loops: u32,
    tail_calls: u32,
    pub(crate) effects: Effects,
    /// Ring-buffer records reserved and not yet submitted: the ring and the record's address.
    pub(crate) reserved: Vec<(Arc<Map>, usize)>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(settings: &'a Settings, ctx: &'a mut Context, cpu: u32) -> Self {
        let mut space = Space::new();
        let entry = ctx.entry(&mut space);
        space.context = entry.span;
        let mut run = Self {
            space,
            settings,
            entry: entry.addr,
            cpu,
            ctx_span: entry.span,
            layout: entry.layout,
            ctx,
            budget: settings.budget,
            depth: 0,
            loops: MAX_LOOPS,
            tail_calls: 0,
            effects: Effects::default(),
            reserved: Vec::new(),
        };
        run.grant_packet();
        run
    }

    /// Runs `program` from its first instruction.
    pub(crate) fn start(mut self, program: &Program) -> Result<RunOutput, RunError> {
        self.space.use_maps(program.maps());
        let args = [self.entry, self.ctx.second_argument(), 0, 0, 0];
        let result = self.enter(program, 0, args);
        // A record left behind would hold up its ring for ever.
        for (map, record) in self.reserved.drain(..) {
            let discarded = map.ring_discard(record, 0);
            debug_assert!(discarded.is_ok(), "the record was reserved by this run");
        }
        Ok(RunOutput { retval: result?, effects: self.effects })
    }

    /// Grants the packet anew after a helper moved one of its ends, and pays for the copying.
    pub(crate) fn packet_changed(&mut self) -> Result<(), Reason> {
        self.grant_packet();
        self.charge_bytes(self.ctx.packet().map_or(0, Packet::len) as u64)
    }

    fn grant_packet(&mut self) {
        if let Some((packet, writable)) = self.ctx.packet_span() {
            packet.grant(&mut self.space, writable);
        }
    }

    pub(crate) fn out_of_budget(&self) -> Reason {
        Reason::Budget { budget: self.settings.budget }
    }

    /// Pays for `n` instructions.
    pub(crate) fn charge(&mut self, n: u64) -> Result<(), Reason> {
        self.budget = self.budget.checked_sub(n).ok_or_else(|| self.out_of_budget())?;
        Ok(())
    }

    /// Pays for work on `n` bytes, so that helpers on large memory end a run in time too.
    pub(crate) fn charge_bytes(&mut self, n: u64) -> Result<(), Reason> {
        self.charge(n / BYTES_PER_INSN)
    }

    /// The error for a refused access.
    #[cold]
    pub(crate) fn refused(&self, fault: Fault, access: Access, addr: u64, size: u64) -> Reason {
        if self.ctx_span.contains(addr, size) {
            let off = addr - self.ctx_span.start;
            let why = "this access is not possible on the context";
            return Reason::Context { access, off, size, why };
        }
        self.space.reason(fault, access, addr, size)
    }

    /// Loads a word from plain memory or from a number in the context.
    #[inline(always)]
    pub(crate) fn load<T: Word>(&mut self, addr: u64) -> Result<T, Reason> {
        match self.space.load::<T>(addr) {
            Ok(v) => Ok(v),
            Err(fault) => self.load_ctx(fault, addr, T::SIZE).map(T::narrow),
        }
    }

    /// Loads 32 bits; from the context this can be a 64-bit pointer.
    #[inline(always)]
    pub(crate) fn load_word(&mut self, addr: u64) -> Result<u64, Reason> {
        match self.space.load::<u32>(addr) {
            Ok(v) => Ok(v.into()),
            Err(fault) => self.load_ctx(fault, addr, 4),
        }
    }

    /// Stores the low bytes of `v`.
    #[inline(always)]
    pub(crate) fn store<T: Word>(&mut self, addr: u64, v: T) -> Result<(), Reason> {
        match self.space.store(addr, v) {
            Ok(()) => Ok(()),
            Err(fault) => self.store_ctx(fault, addr, T::SIZE, v.widen()),
        }
    }

    /// A read of the context, as its layout says; else the error.
    #[inline(never)]
    fn load_ctx(&mut self, fault: Fault, addr: u64, size: u64) -> Result<u64, Reason> {
        let (Some(layout), true) = (self.layout, self.ctx_span.contains(addr, size)) else {
            return Err(self.refused(fault, Access::Read, addr, size));
        };
        let off = addr - self.ctx_span.start;
        let refuse = |why| Reason::Context { access: Access::Read, off, size, why };
        let field = u32::try_from(off).ok().and_then(|off| layout.field_at(off));
        let field = field.ok_or_else(|| refuse("no field that this program type may read"))?;
        let (start, len) = (u64::from(field.off), u64::from(field.size));
        match field.kind {
            Kind::Scalar | Kind::Scalar16 | Kind::Queue => {
                if off + size > start + len {
                    return Err(refuse("reads past the field"));
                }
                if !off.is_multiple_of(size.min(4)) {
                    return Err(refuse("is not aligned"));
                }
                if !layout.narrow && size != len {
                    return Err(refuse("reads a part of the field"));
                }
                self.ctx.field_bytes(off, size).ok_or_else(|| refuse("reads past the context"))
            }
            _ if off != start || size != len => Err(refuse("reads a part of a pointer")),
            Kind::Pointer => Ok(0),
            kind => {
                let packet = self.ctx.packet().ok_or_else(|| refuse("there is no packet"))?;
                Ok(match kind {
                    Kind::PacketEnd => packet.end_addr(),
                    Kind::PacketMeta => packet.meta_addr(),
                    _ => packet.data_addr(),
                })
            }
        }
    }

    /// A write to the context, as its layout says; else the error.
    #[inline(never)]
    fn store_ctx(&mut self, fault: Fault, addr: u64, size: u64, v: u64) -> Result<(), Reason> {
        let (Some(layout), true) = (self.layout, self.ctx_span.contains(addr, size)) else {
            return Err(self.refused(fault, Access::Write, addr, size));
        };
        let off = addr - self.ctx_span.start;
        let refuse = |why| Reason::Context { access: Access::Write, off, size, why };
        let field = u32::try_from(off).ok().and_then(|off| layout.field_at(off));
        let field = field
            .filter(|f| layout.may_write(f))
            .ok_or_else(|| refuse("no field that this program type may write"))?;
        let (start, len) = (u64::from(field.off), u64::from(field.size));
        if off + size > start + len {
            return Err(refuse("writes past the field"));
        }
        // `cb` is an array that may be written in pieces.
        if len <= 8 && size != len {
            return Err(refuse("writes a part of the field"));
        }
        let v = match field.kind {
            Kind::Queue if v & 0xffff_ffff >= 0xffff => return Ok(()),
            Kind::Queue | Kind::Scalar16 => v & 0xffff,
            _ => v,
        };
        if !self.ctx.set_field_bytes(off, size, v) {
            return Err(refuse("writes past the context"));
        }
        Ok(())
    }

    pub(crate) fn load_sized(&mut self, addr: u64, size: u64) -> Result<u64, Reason> {
        match size {
            1 => self.load::<u8>(addr).map(Word::widen),
            2 => self.load::<u16>(addr).map(Word::widen),
            4 => self.load_word(addr),
            _ => self.load::<u64>(addr),
        }
    }

    pub(crate) fn store_sized(&mut self, addr: u64, size: u64, v: u64) -> Result<(), Reason> {
        match size {
            1 => self.store(addr, u8::narrow(v)),
            2 => self.store(addr, u16::narrow(v)),
            4 => self.store(addr, u32::narrow(v)),
            _ => self.store(addr, v),
        }
    }

    /// Copies bytes of the program's memory.
    pub(crate) fn read(&mut self, addr: u64, out: &mut [u8]) -> Result<(), Reason> {
        let size = out.len() as u64;
        self.space.read(addr, out).map_err(|f| self.refused(f, Access::Read, addr, size))
    }

    /// Copies bytes into the program's memory.
    pub(crate) fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Reason> {
        let size = bytes.len() as u64;
        self.space.write(addr, bytes).map_err(|f| self.refused(f, Access::Write, addr, size))
    }

    /// A legacy packet load of 1, 2 or 4 bytes; `None` outside of the packet.
    pub(crate) fn load_packet(&self, off: i32, size: i32) -> Result<Option<u64>, Reason> {
        let skb = self.ctx.skb().ok_or(Reason::NoPacket)?;
        let mut bytes = [0; 4];
        let size = usize::try_from(size).unwrap_or(4).min(4);
        let Some(out) = bytes.get_mut(4 - size..) else { return Ok(None) };
        Ok(skb.read_legacy(off, out).then(|| u32::from_be_bytes(bytes).into()))
    }

    /// The map behind a handle.
    pub(crate) fn map(&self, program: &Program, handle: u64) -> Option<Arc<Map>> {
        self.space.map_at(program.maps(), handle).map(Arc::clone)
    }

    /// `bpf_tail_call`: the program to run, unless the slot is empty or the limit is reached.
    pub(crate) fn tail_call(
        &mut self,
        program: &Program,
        map: u64,
        index: u64,
    ) -> Result<Option<Arc<Program>>, Reason> {
        let argument =
            |why: &str| Reason::Argument { helper: "tail_call", arg: 2, why: why.to_owned() };
        let map = self.map(program, map).ok_or_else(|| argument("not a map"))?;
        if map.def().map_type != skep_abi::MapType::PROG_ARRAY {
            return Err(argument("not a prog array"));
        }
        if self.tail_calls >= MAX_TAIL_CALLS {
            return Ok(None);
        }
        #[expect(clippy::cast_possible_truncation, reason = "the kernel takes the low 32 bits")]
        let next = map.program_at::<Program>(index as u32);
        if let Some(next) = &next {
            self.tail_calls += 1;
            self.space.use_maps(next.maps());
        }
        Ok(next)
    }
}

#[cfg(test)]
mod tests;
