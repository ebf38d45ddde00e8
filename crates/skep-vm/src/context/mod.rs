//! Contexts: what a program runs on.
//!
//! A context owns the structure `r1` points to and the packet behind it. The structure is laid
//! out as user space knows it; [`skep_abi::context`] says how its fields are read.

mod packet;
mod plain;
mod skb;
mod xdp;

use std::sync::Arc;

use skep_abi::context::Layout;

pub(crate) use self::packet::Packet;
pub use self::plain::Plain;
pub(crate) use self::skb::ETH_HLEN;
pub use self::skb::SkBuff;
pub use self::xdp::Xdp;

use crate::mem::{Area, Space, Span};

/// What a program runs on, by kind.
#[derive(Debug)]
#[non_exhaustive]
pub enum Context {
    /// An XDP packet.
    Xdp(Xdp),
    /// A socket buffer: TC, socket filter, cgroup and lightweight-tunnel programs.
    SkBuff(SkBuff),
    /// Plain memory: raw tracepoint arguments, tracepoint records, the context of a syscall
    /// program.
    Plain(Plain),
}

impl From<Xdp> for Context {
    fn from(xdp: Xdp) -> Self {
        Self::Xdp(xdp)
    }
}

impl From<SkBuff> for Context {
    fn from(skb: SkBuff) -> Self {
        Self::SkBuff(skb)
    }
}

impl From<Plain> for Context {
    fn from(plain: Plain) -> Self {
        Self::Plain(plain)
    }
}

/// What a run needs to know of its context.
#[derive(Debug)]
pub(crate) struct Entry {
    /// `r1`.
    pub(crate) addr: u64,
    /// The structure.
    pub(crate) span: Span,
    /// How its fields are read; without, it is plain memory granted already.
    pub(crate) layout: Option<&'static Layout>,
}

impl Context {
    /// Grants plain memory and says where the structure is.
    pub(crate) fn entry(&self, space: &mut Space) -> Entry {
        match self {
            Self::Plain(plain) => plain.entry(space),
            Self::Xdp(Xdp { fields, .. }) | Self::SkBuff(SkBuff { fields, .. }) => fields.entry(),
        }
    }

    /// `r2` at entry: the length of memory handed over bare, else 0.
    pub(crate) fn second_argument(&self) -> u64 {
        match self {
            Self::Plain(plain) => plain.second_argument(),
            Self::Xdp(_) | Self::SkBuff(_) => 0,
        }
    }

    pub(crate) fn packet(&self) -> Option<&Packet> {
        match self {
            Self::Xdp(Xdp { packet, .. }) | Self::SkBuff(SkBuff { packet, .. }) => Some(packet),
            Self::Plain(_) => None,
        }
    }

    /// The packet, when programs may access it directly, and whether they may write.
    pub(crate) fn packet_span(&self) -> Option<(&Packet, bool)> {
        match self {
            Self::Xdp(xdp) => Some((&xdp.packet, true)),
            Self::SkBuff(skb) => skb.direct_access().map(|writable| (&skb.packet, writable)),
            Self::Plain(_) => None,
        }
    }

    fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Xdp(Xdp { fields, .. }) | Self::SkBuff(SkBuff { fields, .. }) => Some(fields),
            Self::Plain(_) => None,
        }
    }

    /// `size` bytes of the structure as a number.
    pub(crate) fn field_bytes(&self, off: u64, size: u64) -> Option<u64> {
        self.fields()?.bytes(off, size)
    }

    /// Writes `size` bytes of the structure; false when they are not inside.
    pub(crate) fn set_field_bytes(&mut self, off: u64, size: u64, v: u64) -> bool {
        self.fields().is_some_and(|f| f.set_bytes(off, size, v))
    }

    /// The socket buffer, when this is one.
    pub(crate) fn skb(&self) -> Option<&SkBuff> {
        if let Self::SkBuff(skb) = self { Some(skb) } else { None }
    }

    /// The socket buffer, when this is one.
    pub(crate) fn skb_mut(&mut self) -> Option<&mut SkBuff> {
        if let Self::SkBuff(skb) = self { Some(skb) } else { None }
    }

    /// The XDP packet, when this is one.
    pub(crate) fn xdp_mut(&mut self) -> Option<&mut Xdp> {
        if let Self::Xdp(xdp) = self { Some(xdp) } else { None }
    }
}

/// A structure with a layout.
#[derive(Debug)]
pub(crate) struct Fields {
    area: Arc<Area>,
    layout: &'static Layout,
}

impl Fields {
    fn new(layout: &'static Layout) -> Self {
        Self { area: Arc::new(Area::new(layout.size as usize)), layout }
    }

    fn entry(&self) -> Entry {
        let addr = self.area.addr();
        let span = Span { start: addr, len: self.layout.size.into(), writable: false };
        Entry { addr, span, layout: Some(self.layout) }
    }

    fn bytes(&self, off: u64, size: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        let out = bytes.get_mut(..usize::try_from(size).ok()?)?;
        self.area.read(usize::try_from(off).ok()?, out).then(|| u64::from_le_bytes(bytes))
    }

    fn set_bytes(&self, off: u64, size: u64, v: u64) -> bool {
        let (Ok(off), Ok(size)) = (usize::try_from(off), usize::try_from(size)) else {
            return false;
        };
        v.to_le_bytes().get(..size).is_some_and(|bytes| self.area.write(off, bytes))
    }

    /// The number in a field of at most 8 bytes; 0 for a name that is not in the layout.
    fn get(&self, name: &str) -> u64 {
        let field = self.layout.field(name);
        debug_assert!(field.is_some(), "{name} is in the layout");
        field.and_then(|f| self.bytes(f.off.into(), f.size.into())).unwrap_or_default()
    }

    /// Sets a field of at most 8 bytes.
    fn set(&self, name: &str, v: u64) {
        let field = self.layout.field(name);
        let done = field.is_some_and(|f| self.set_bytes(f.off.into(), f.size.into(), v));
        debug_assert!(done, "{name} is in the layout");
    }

    /// The structure's bytes, as a system call would return them.
    pub(crate) fn image(&self) -> Vec<u8> {
        let mut out = vec![0; self.layout.size as usize];
        let whole = self.area.read(0, &mut out);
        debug_assert!(whole, "the area has the layout's size");
        out
    }
}
