//! Programs at work: run statistics, what they print, how full their ring buffers are.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use skep_abi::MapType;

use super::{Kind, open};
use crate::{
    link::tracefs::Tracefs,
    sys::{self, Mapping, SysError},
};

/// While this lives, the kernel counts the runs of all programs and the time they take
/// ([`super::ProgramInfo::run_count`]). Nothing stays on behind it.
#[derive(Debug)]
pub struct RunStatistics {
    _on: OwnedFd,
}

impl RunStatistics {
    /// Turns counting on.
    ///
    /// # Errors
    ///
    /// `EPERM` without `CAP_SYS_ADMIN`; `EINVAL` before Linux 5.8.
    #[doc(alias = "BPF_ENABLE_STATS")]
    pub fn enable() -> Result<Self, SysError> {
        sys::enable_stats().map(|on| Self { _on: on })
    }
}

/// Where a ring buffer stands, in bytes since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingPositions {
    /// Written by programs, headers and rounding included.
    pub produced: u64,
    /// Read by the consumer.
    pub consumed: u64,
    /// Size of the buffer.
    pub size: u32,
}

impl RingPositions {
    /// Bytes that wait for the consumer. A full buffer refuses what programs write.
    pub const fn waiting(&self) -> u64 {
        self.produced.saturating_sub(self.consumed)
    }
}

/// Where a ring buffer stands; none when it is gone, is no ring buffer, or may not be looked into.
/// Neither side notices.
pub fn ring_positions(map_id: u32) -> Option<RingPositions> {
    let fd = open(Kind::Map, map_id).ok()??;
    let info = sys::map_info(fd.as_fd()).ok()?;
    if MapType(info.map_type) != MapType::RINGBUF {
        return None;
    }
    // The first page is the consumer's, the second the producer's.
    let page = sys::page_bytes() as usize;
    let mapping = Mapping::new(fd.as_fd(), 0, 2 * page, false).ok()?;
    Some(RingPositions {
        consumed: mapping.load_u64(0),
        produced: mapping.load_u64(page),
        size: info.max_entries,
    })
}

/// What programs print by `bpf_printk`, line by line, with everything else that is printed into the
/// kernel's trace. Each line goes to one reader only.
#[derive(Debug)]
pub struct TracePipe {
    file: File,
}

impl TracePipe {
    /// Opens the pipe, by a mount of its own where tracefs is not mounted.
    ///
    /// # Errors
    ///
    /// `EPERM` without rights to mount or to read it; `EBUSY` while a tracer holds it.
    pub fn open() -> Result<Self, SysError> {
        let file = Tracefs::find()?.pipe().map_err(|e| SysError::new("opening trace_pipe", e))?;
        Ok(Self { file })
    }

    /// Reads what is there, at most `timeout` later; 0 when nothing came.
    ///
    /// # Errors
    ///
    /// The file's.
    pub fn read(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<usize, SysError> {
        if !sys::wait_readable(&[self.file.as_fd()], timeout)? {
            return Ok(0);
        }
        match self.file.read(buffer) {
            Ok(read) => Ok(read),
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
            {
                Ok(0)
            }
            Err(e) => Err(SysError::new("reading trace_pipe", e)),
        }
    }
}

/// A stream of a program's own (Linux 6.17).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// What it prints by `bpf_stream_printk`.
    Stdout,
    /// Where the kernel, too, reports what the program did wrong.
    Stderr,
}

/// Takes text out of a stream of a program: 0 bytes when it is empty, none when the program is
/// gone.
///
/// # Errors
///
/// `EINVAL` on kernels without streams.
#[doc(alias = "BPF_PROG_STREAM_READ_BY_FD")]
pub fn read_stream(id: u32, stream: Stream, buffer: &mut [u8]) -> Result<Option<usize>, SysError> {
    let Some(fd) = open(Kind::Program, id)? else { return Ok(None) };
    let number = match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    };
    sys::stream_read(fd.as_fd(), number, buffer).map(Some)
}
