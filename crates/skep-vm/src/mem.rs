//! Memory that programs may touch: areas, and the checked way into them.
//!
//! Programs hold native addresses, as in the kernel. Every access passes [`Space`], which knows
//! the spans granted to the run. Single accesses are atomic (relaxed) because map values are
//! shared between runs on several threads; misaligned ones are made of single bytes.
//!
//! Apart from the storage of maps this is the only module of the engine with unsafe code.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::any::Any;
use std::ptr::{NonNull, with_exposed_provenance_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use skep_abi::MapType;
use skep_isa::AtomicOp;

use crate::error::{Access, Reason};
use crate::maps::Map;
use crate::op::AtomicImm;

/// Bytes of stack per frame, as in the kernel.
pub(crate) const FRAME_SIZE: usize = 512;
/// Frames of a run, as in the kernel.
pub(crate) const MAX_FRAMES: usize = 8;
const STACK_SIZE: usize = FRAME_SIZE * MAX_FRAMES;
/// Spans found lately; one per pointer that a loop typically has in flight.
const HOT: usize = 4;

/// Handles of maps as programs see them: this plus the map's position. Nothing lies there.
pub(crate) const MAP_BASE: u64 = 0xfffd_0000_0000_0000;
/// Handles of inner maps, by the order in which lookups returned them.
const INNER_BASE: u64 = 0xfffd_8000_0000_0000;

/// Zeroed bytes at a fixed address, shared and mutable through atomic accesses only.
pub(crate) struct Area {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: the memory belongs to the area alone, and every access to it is an atomic one (or goes
// through `&mut self`), so threads may share and move it.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

impl std::fmt::Debug for Area {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Area({:#x}, {} bytes)", self.addr(), self.len)
    }
}

impl Area {
    /// Zeroed memory, aligned to 64 bytes.
    pub(crate) fn new(len: usize) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout's size is not 0.
        let raw = unsafe { alloc_zeroed(layout) };
        let Some(ptr) = NonNull::new(raw) else { handle_alloc_error(layout) };
        // Programs compute with this address as a number.
        ptr.as_ptr().expose_provenance();
        Self { ptr, len }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len.max(1), 64).expect("callers bound the length far below 2^63")
    }

    /// Address of the first byte.
    pub(crate) fn addr(&self) -> u64 {
        self.ptr.as_ptr().addr() as u64
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Does `off..off + len` lie inside?
    fn contains(&self, off: usize, len: usize) -> bool {
        off.checked_add(len).is_some_and(|end| end <= self.len)
    }

    /// Copies out; false when the range is not inside.
    #[must_use]
    pub(crate) fn read(&self, off: usize, out: &mut [u8]) -> bool {
        if !self.contains(off, out.len()) {
            return false;
        }
        // SAFETY: the range was just checked.
        unsafe { copy_out(self.addr() + off as u64, out) };
        true
    }

    /// Copies in; false when the range is not inside.
    #[must_use]
    pub(crate) fn write(&self, off: usize, bytes: &[u8]) -> bool {
        if !self.contains(off, bytes.len()) {
            return false;
        }
        // SAFETY: the range was just checked.
        unsafe { copy_in(self.addr() + off as u64, bytes) };
        true
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout.
        unsafe { dealloc(self.ptr.as_ptr(), Self::layout(self.len)) };
    }
}

/// An unsigned integer that can be loaded and stored in one access.
pub(crate) trait Word: Copy {
    /// Size in bytes.
    const SIZE: u64 = size_of::<Self>() as u64;

    /// Zero-extended.
    fn widen(self) -> u64;
    /// The low bytes of `v`.
    fn narrow(v: u64) -> Self;

    /// Relaxed load.
    ///
    /// # Safety
    ///
    /// `addr..addr + SIZE` must be live memory whose provenance was exposed and that is only
    /// accessed atomically.
    unsafe fn load(addr: u64) -> Self;

    /// Relaxed store.
    ///
    /// # Safety
    ///
    /// As [`Word::load`], and the memory must be writable.
    unsafe fn store(addr: u64, v: Self);
}

/// An exposed address as a pointer.
#[expect(clippy::cast_possible_truncation, reason = "only built for 64-bit machines, see `lib.rs`")]
fn pointer<T>(addr: u64) -> *mut T {
    with_exposed_provenance_mut(addr as usize)
}

macro_rules! words {
    ($( $t:ty = $atomic:ty; )+) => { $(
        impl Word for $t {
            #[inline(always)]
            fn widen(self) -> u64 {
                u64::from(self)
            }

            #[inline(always)]
            #[allow(
                clippy::cast_possible_truncation,
                trivial_numeric_casts,
                reason = "the low bytes are meant; one of the rows is u64 to u64"
            )]
            fn narrow(v: u64) -> Self {
                v as Self
            }

            #[inline(always)]
            unsafe fn load(addr: u64) -> Self {
                if addr.is_multiple_of(Self::SIZE) {
                    // SAFETY: live by the caller's promise, aligned as just checked.
                    return unsafe { <$atomic>::from_ptr(pointer(addr)) }.load(Ordering::Relaxed);
                }
                let mut bytes = [0; size_of::<Self>()];
                for (at, b) in (addr..).zip(&mut bytes) {
                    // SAFETY: inside the caller's range; a byte is always aligned.
                    *b = unsafe { AtomicU8::from_ptr(pointer(at)) }.load(Ordering::Relaxed);
                }
                Self::from_le_bytes(bytes)
            }

            #[inline(always)]
            unsafe fn store(addr: u64, v: Self) {
                if addr.is_multiple_of(Self::SIZE) {
                    // SAFETY: live by the caller's promise, aligned as just checked.
                    unsafe { <$atomic>::from_ptr(pointer(addr)) }.store(v, Ordering::Relaxed);
                    return;
                }
                for (at, b) in (addr..).zip(v.to_le_bytes()) {
                    // SAFETY: inside the caller's range; a byte is always aligned.
                    unsafe { AtomicU8::from_ptr(pointer(at)) }.store(b, Ordering::Relaxed);
                }
            }
        }
    )+ };
}

words! {
    u8 = AtomicU8;
    u16 = AtomicU16;
    u32 = AtomicU32;
    u64 = AtomicU64;
}

/// Copies `out.len()` bytes from `addr`.
///
/// # Safety
///
/// As [`Word::load`], for the whole range.
unsafe fn copy_out(addr: u64, out: &mut [u8]) {
    let mut at = addr;
    let mut words = out.chunks_exact_mut(8);
    for word in &mut words {
        // SAFETY: inside the caller's range.
        word.copy_from_slice(&unsafe { u64::load(at) }.to_le_bytes());
        at += 8;
    }
    for (at, b) in (at..).zip(words.into_remainder()) {
        // SAFETY: inside the caller's range.
        *b = unsafe { u8::load(at) };
    }
}

/// Copies `bytes` to `addr`.
///
/// # Safety
///
/// As [`Word::store`], for the whole range.
unsafe fn copy_in(addr: u64, bytes: &[u8]) {
    let mut at = addr;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        // SAFETY: inside the caller's range.
        unsafe { u64::store(at, u64::from_le_bytes(*word)) };
        at += 8;
    }
    for (at, &b) in (at..).zip(rest) {
        // SAFETY: inside the caller's range.
        unsafe { u8::store(at, b) };
    }
}

/// A range of addresses and what may be done with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    /// First address.
    pub(crate) start: u64,
    /// Bytes.
    pub(crate) len: u64,
    /// May programs write?
    pub(crate) writable: bool,
}

impl Span {
    /// Does `addr..addr + size` lie inside?
    #[inline(always)]
    pub(crate) fn contains(&self, addr: u64, size: u64) -> bool {
        let off = addr.wrapping_sub(self.start);
        off < self.len && self.len - off >= size
    }
}

/// What a granted span is called in messages.
pub(crate) type Name = &'static str;

/// A span granted by name: plain context, key of a callback, ring-buffer reservation.
#[derive(Debug)]
struct Grant {
    span: Span,
    name: Name,
    #[expect(dead_code, reason = "held so that the memory outlives the span")]
    owner: Arc<dyn Any + Send + Sync>,
}

/// Why an access was refused. Its description is made later, when it is known to be an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing granted contains the access.
    Unmapped,
    /// Granted, but not for writing.
    ReadOnly,
}

/// Everything a run may touch.
///
/// Invariant: each span lies in memory that its owner (held here) keeps alive and that is
/// accessed atomically only.
#[derive(Debug)]
pub(crate) struct Space {
    /// `None` only while dropping.
    stack: Option<Area>,
    /// Live frames of the stack, the packet, and other spans used lately.
    stack_span: Span,
    packet_span: Span,
    hot: [Span; HOT],
    packet: Option<Arc<Area>>,
    grants: Vec<Grant>,
    next_hot: usize,
    /// The context, for messages: its accesses are not plain ones.
    pub(crate) context: Span,
    /// Maps of the programs that ran.
    maps: Vec<Arc<[Arc<Map>]>>,
    /// Inner maps that lookups returned, with handles of their own.
    inner: Vec<Arc<Map>>,
}

impl Space {
    /// A space with a stack and nothing else.
    pub(crate) fn new() -> Self {
        let kept = STACK.try_with(std::cell::Cell::take).ok().flatten();
        Self {
            stack: Some(kept.unwrap_or_else(|| Area::new(STACK_SIZE))),
            stack_span: Span::default(),
            packet_span: Span::default(),
            hot: [Span::default(); HOT],
            packet: None,
            grants: Vec::new(),
            next_hot: 0,
            context: Span::default(),
            maps: Vec::new(),
            inner: Vec::new(),
        }
    }

    fn stack(&self) -> &Area {
        self.stack.as_ref().expect("only `drop` takes the stack")
    }

    /// Makes frames `0..depth` the stack, clears the innermost, and returns its `r10`.
    pub(crate) fn enter_frame(&mut self, depth: usize) -> u64 {
        let depth = depth.clamp(1, MAX_FRAMES);
        let used = depth * FRAME_SIZE;
        let start = STACK_SIZE - used;
        self.set_depth(depth);
        // What an earlier run left must not show.
        let cleared = self.stack().write(start, &[0; FRAME_SIZE]);
        debug_assert!(cleared, "a frame lies inside the stack");
        self.stack().addr() + (start + FRAME_SIZE) as u64
    }

    /// Makes frames `0..depth` the stack, after a return.
    pub(crate) fn set_depth(&mut self, depth: usize) {
        let used = depth.min(MAX_FRAMES) * FRAME_SIZE;
        let start = self.stack().addr() + (STACK_SIZE - used) as u64;
        self.stack_span = Span { start, len: used as u64, writable: true };
    }

    /// Grants `off..off + len` of `area` as the packet, in place of an earlier packet.
    pub(crate) fn set_packet(&mut self, area: &Arc<Area>, off: usize, len: usize, writable: bool) {
        self.packet_span = if area.contains(off, len) {
            Span { start: area.addr() + off as u64, len: len as u64, writable }
        } else {
            Span::default()
        };
        if !self.packet.as_ref().is_some_and(|old| Arc::ptr_eq(old, area)) {
            self.packet = Some(Arc::clone(area));
        }
    }

    /// Grants the first `len` bytes of an area under a name.
    pub(crate) fn grant_area(&mut self, area: &Arc<Area>, len: usize, writable: bool, name: Name) {
        let len = len.min(area.len()) as u64;
        let span = Span { start: area.addr(), len, writable };
        let owner: Arc<dyn Any + Send + Sync> = Arc::<Area>::clone(area);
        self.grants.push(Grant { span, name, owner });
    }

    /// Grants a record that the program reserved in a ring buffer, until [`Self::revoke`].
    pub(crate) fn grant_record(&mut self, ring: &Arc<Map>, start: u64, len: u64) {
        let range = ring.addr_range();
        let end = start.checked_add(len).and_then(|end| usize::try_from(end).ok());
        let begins = usize::try_from(start).is_ok_and(|start| start >= range.start);
        if begins && end.is_some_and(|end| end <= range.end) {
            let span = Span { start, len, writable: true };
            let owner: Arc<dyn Any + Send + Sync> = Arc::<Map>::clone(ring);
            self.grants.push(Grant { span, name: "the ring-buffer record", owner });
        }
    }

    /// The span with this access, among those that are looked at first.
    #[inline(always)]
    fn hit(&self, addr: u64, size: u64) -> Option<Span> {
        if self.stack_span.contains(addr, size) {
            return Some(self.stack_span);
        }
        if self.packet_span.contains(addr, size) {
            return Some(self.packet_span);
        }
        self.hot.iter().find(|s| s.contains(addr, size)).copied()
    }

    /// The address, if the access is allowed. Fills the list of hot spans.
    #[inline(always)]
    fn check(&mut self, addr: u64, size: u64, write: bool) -> Result<(), Fault> {
        match self.hit(addr, size) {
            Some(s) if !write || s.writable => Ok(()),
            _ => self.check_slow(addr, size, write),
        }
    }

    #[cold]
    #[inline(never)]
    fn check_slow(&mut self, addr: u64, size: u64, write: bool) -> Result<(), Fault> {
        let span = self.hit(addr, size).or_else(|| self.find(addr, size)).ok_or(Fault::Unmapped)?;
        if write && !span.writable { Err(Fault::ReadOnly) } else { Ok(()) }
    }

    fn find(&mut self, addr: u64, size: u64) -> Option<Span> {
        if let Some(grant) = self.grants.iter().find(|g| g.span.contains(addr, size)) {
            let span = grant.span;
            self.push_hot(span);
            return Some(span);
        }
        let at = usize::try_from(addr).ok()?;
        let maps = self.maps.iter().flat_map(|maps| maps.iter()).chain(&self.inner);
        // Records of ring buffers are granted one by one: others may have reserved some too.
        let maps = maps.filter(|map| map.def().map_type != MapType::RINGBUF);
        let span = maps.filter(|map| map.addr_range().contains(&at)).find_map(|map| {
            let span = map.value_span(at)?;
            let (start, len) = (span.start as u64, span.len as u64);
            Some(Span { start, len, writable: span.writable })
        })?;
        self.push_hot(span);
        span.contains(addr, size).then_some(span)
    }

    fn push_hot(&mut self, span: Span) {
        if let Some(slot) = self.hot.get_mut(self.next_hot) {
            *slot = span;
        }
        self.next_hot = (self.next_hot + 1) % HOT;
    }

    /// Grants the values of a program's maps, for as long as the run lasts.
    pub(crate) fn use_maps(&mut self, maps: &Arc<[Arc<Map>]>) {
        if !maps.is_empty() && !self.maps.iter().any(|known| Arc::ptr_eq(known, maps)) {
            self.maps.push(Arc::clone(maps));
        }
    }

    /// Puts the value span of a map among the hot ones. Only maps that the run holds count.
    pub(crate) fn remember(&mut self, map: &Arc<Map>, span: Span) {
        let inside = usize::try_from(span.start).is_ok_and(|at| map.addr_range().contains(&at));
        if inside && !self.hot.contains(&span) {
            self.push_hot(span);
        }
    }

    /// Holds an inner map and returns its handle.
    pub(crate) fn add_inner(&mut self, map: Arc<Map>) -> u64 {
        let known = self.inner.iter().position(|m| Arc::ptr_eq(m, &map));
        let index = known.unwrap_or_else(|| {
            self.inner.push(map);
            self.inner.len() - 1
        });
        INNER_BASE + index as u64
    }

    /// The map behind a handle.
    pub(crate) fn map_at<'m>(&'m self, maps: &'m [Arc<Map>], handle: u64) -> Option<&'m Arc<Map>> {
        if let Some(index) = handle.checked_sub(INNER_BASE) {
            return self.inner.get(usize::try_from(index).ok()?);
        }
        maps.get(usize::try_from(handle.checked_sub(MAP_BASE)?).ok()?)
    }

    /// Takes back the grant that starts at this address.
    pub(crate) fn revoke(&mut self, start: u64) {
        self.grants.retain(|g| g.span.start != start);
        for span in &mut self.hot {
            if span.start == start {
                *span = Span::default();
            }
        }
    }

    /// Loads a word.
    #[inline(always)]
    pub(crate) fn load<T: Word>(&mut self, addr: u64) -> Result<T, Fault> {
        self.check(addr, T::SIZE, false)?;
        // SAFETY: inside a granted span, see the invariant of `Space`.
        Ok(unsafe { T::load(addr) })
    }

    /// Stores a word.
    #[inline(always)]
    pub(crate) fn store<T: Word>(&mut self, addr: u64, v: T) -> Result<(), Fault> {
        self.check(addr, T::SIZE, true)?;
        // SAFETY: inside a writable granted span, see the invariant of `Space`.
        unsafe { T::store(addr, v) };
        Ok(())
    }

    /// Copies bytes out of granted memory.
    pub(crate) fn read(&mut self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        if out.is_empty() {
            return Ok(());
        }
        self.check(addr, out.len() as u64, false)?;
        // SAFETY: inside a granted span, see the invariant of `Space`.
        unsafe { copy_out(addr, out) };
        Ok(())
    }

    /// Copies bytes into granted memory.
    pub(crate) fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.check(addr, bytes.len() as u64, true)?;
        // SAFETY: inside a writable granted span, see the invariant of `Space`.
        unsafe { copy_in(addr, bytes) };
        Ok(())
    }

    /// May the program read (write) this range?
    pub(crate) fn allows(&mut self, addr: u64, size: u64, access: Access) -> Result<(), Fault> {
        if size == 0 { Ok(()) } else { self.check(addr, size, access == Access::Write) }
    }

    /// Atomic read-modify-write of an aligned address; returns the old value.
    pub(crate) fn atomic(
        &mut self,
        addr: u64,
        kind: AtomicImm,
        operand: u64,
        expected: u64,
    ) -> Result<u64, Fault> {
        macro_rules! apply {
            ($atomic:ty, $word:ty) => {{
                // SAFETY: inside a writable granted span (checked below), and aligned, which is
                // the caller's condition checked there too.
                let cell = unsafe { <$atomic>::from_ptr(pointer(addr)) };
                let (v, order) = (<$word>::narrow(operand), Ordering::SeqCst);
                let old = match kind.op {
                    AtomicOp::Add => cell.fetch_add(v, order),
                    AtomicOp::Or => cell.fetch_or(v, order),
                    AtomicOp::And => cell.fetch_and(v, order),
                    AtomicOp::Xor => cell.fetch_xor(v, order),
                    AtomicOp::Xchg => cell.swap(v, order),
                    AtomicOp::CmpXchg => {
                        let expected = <$word>::narrow(expected);
                        match cell.compare_exchange(expected, v, order, order) {
                            Ok(old) | Err(old) => old,
                        }
                    }
                };
                Ok(old.widen())
            }};
        }
        let size = if kind.wide { 8 } else { 4 };
        if !addr.is_multiple_of(size) {
            return Err(Fault::Unmapped);
        }
        self.check(addr, size, true)?;
        if kind.wide { apply!(AtomicU64, u64) } else { apply!(AtomicU32, u32) }
    }

    /// The error for a refused access.
    pub(crate) fn reason(&self, fault: Fault, access: Access, addr: u64, size: u64) -> Reason {
        let place = self.place(addr, size);
        match fault {
            Fault::Unmapped => Reason::OutOfBounds { access, size, place },
            Fault::ReadOnly => Reason::ReadOnly { size, place },
        }
    }

    /// An address in words, relative to the nearest memory the program was given.
    fn place(&self, addr: u64, size: u64) -> String {
        if addr < 4096 {
            return format!("address {addr:#x} (a null pointer)");
        }
        let mut known = vec![
            (self.stack_span, "the stack"),
            (self.packet_span, "the packet"),
            (self.context, "the context"),
        ];
        // The hot spans repeat grants: the name counts that comes first.
        known.extend(self.grants.iter().map(|g| (g.span, g.name)));
        known.extend(self.hot.iter().map(|&s| (s, "a map value")));
        let near = known
            .iter()
            .filter(|(s, _)| s.start != 0)
            .map(|&(s, name)| (distance(s, addr), s, name))
            .min_by_key(|&(d, ..)| d);
        match near {
            Some((d, s, name)) if d < 1 << 20 => {
                let len = s.len;
                let is = format!("{name} is {len} bytes");
                let off = addr.wrapping_sub(s.start);
                if off < len {
                    match size.saturating_sub(len - off) {
                        0 => format!("offset {off} of {name} ({is})"),
                        past => format!("offset {off} of {name}, {past} bytes past its end ({is})"),
                    }
                } else if addr >= s.start {
                    format!("{} bytes past the end of {name} ({is})", off - len)
                } else {
                    format!("{} bytes before {name} ({is})", s.start - addr)
                }
            }
            _ => format!("address {addr:#x}, which is nothing the program was given"),
        }
    }
}

/// Bytes between an address and a span.
fn distance(s: Span, addr: u64) -> u64 {
    if addr < s.start { s.start - addr } else { (addr - s.start).saturating_sub(s.len) }
}

thread_local! {
    /// The stack of the last run of this thread, to save an allocation per run.
    static STACK: std::cell::Cell<Option<Area>> = const { std::cell::Cell::new(None) };
}

impl Drop for Space {
    fn drop(&mut self) {
        let stack = self.stack.take();
        // A thread that is just ending has no slot any more; then the stack is freed.
        let _ = STACK.try_with(|slot| slot.set(stack));
    }
}
