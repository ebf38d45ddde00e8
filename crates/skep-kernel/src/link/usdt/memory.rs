//! Where a place of a file lies in a process's memory.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::sys::{self, SysError};

/// A file as `/proc/PID/maps` names it.
struct Mapped {
    path: PathBuf,
    inode: u64,
}

/// The address of a place of a file in a process that has it mapped as code.
///
/// # Errors
///
/// `ESRCH` when the process is not there, or does not have the file.
pub(super) fn address(pid: u32, path: &Path, offset: u64) -> Result<u64, SysError> {
    let maps = format!("/proc/{pid}/maps");
    let fail = |e: io::Error| {
        // A process that is gone has no such file.
        let e = if e.kind() == io::ErrorKind::NotFound {
            io::Error::from_raw_os_error(libc::ESRCH)
        } else {
            e
        };
        SysError::new("/proc/PID/maps", e)
    };
    let maps = sys::read_text(maps).map_err(fail)?;
    // A file reached through the process's own root is listed as that process sees it.
    let root = format!("/proc/{pid}/root");
    let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let listed = match path.strip_prefix(&root) {
        Ok(inside) => Path::new("/").join(inside),
        Err(_) => whole,
    };
    let inode = fs::metadata(path).map_or(0, |metadata| metadata.ino());
    let file = Mapped { path: listed, inode };
    maps.lines().find_map(|line| find(line, &file, offset)).ok_or_else(|| {
        let hint = "the process does not have this binary in its memory";
        SysError::errno_of("/proc/PID/maps", libc::ESRCH, hint)
    })
}

/// `7f5c6f5d8000-7f5c6f5d9000 r-xp 00001000 103:01 362990598    /usr/lib/libx.so`
fn find(line: &str, file: &Mapped, offset: u64) -> Option<u64> {
    let mut words = line.splitn(6, ' ');
    let (range, mode, start) = (words.next()?, words.next()?, words.next()?);
    let (_device, inode) = (words.next()?, words.next()?.parse::<u64>().ok()?);
    let path = Path::new(words.next()?.trim_start());
    // A path can be written in several ways, an inode number be there on several file systems.
    let same_name = path.file_name() == file.path.file_name();
    if path != file.path && !(same_name && inode == file.inode && inode != 0) {
        return None;
    }
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let (first, end) = range.split_once('-')?;
    let (first, end, start) = (hex(first)?, hex(end)?, hex(start)?);
    let behind = offset.checked_sub(start).filter(|&behind| behind < end.saturating_sub(first))?;
    (mode.as_bytes().get(2) == Some(&b'x')).then(|| first.checked_add(behind)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps_are_read() {
        let file = Mapped { path: "/usr/lib/lib x.so".into(), inode: 7 };
        let code = "7f00-8f00 r-xp 00001000 08:04 7      /usr/lib/lib x.so";
        assert_eq!(find(code, &file, 0x1010), Some(0x7f10));
        assert_eq!(find(code, &file, 0x0fff), None);
        assert_eq!(find(code, &file, 0x2000), None);
        let elsewhere = "7f00-8f00 r-xp 00001000 08:04 7  /merged/usr/lib/lib x.so";
        assert_eq!(find(elsewhere, &file, 0x1010), Some(0x7f10));
        for other in [
            "7f00-8f00 r--p 00001000 08:04 7      /usr/lib/lib x.so",
            "7f00-8f00 r-xp 00001000 08:04 7      /usr/lib/other.so",
            "7f00-8f00 rw-p 00000000 00:00 0 ",
            "7f00-8f00 rw-p 00000000 00:00 0",
            "7f00 r-xp 00001000 08:04 7      /usr/lib/lib x.so",
            "8f00-7f00 r-xp 00001000 08:04 7      /usr/lib/lib x.so",
            "",
        ] {
            assert_eq!(find(other, &file, 0x1010), None, "{other}");
        }
    }

    #[test]
    fn this_process_knows_where_its_own_code_is() {
        let own = std::env::current_exe().unwrap();
        let notes = super::super::Notes::parse(&fs::read(&own).unwrap()).unwrap();
        let here = this_process_knows_where_its_own_code_is as fn() as usize as u64;
        let place = |offset| address(std::process::id(), &own, offset);
        // Where the file begins in memory, from a place that is known.
        let code = (0..1 << 32).step_by(4096).find_map(|offset| place(offset).ok()).unwrap();
        assert!(code <= here, "{code:#x} {here:#x}");
        assert!(notes.code_offset(u64::MAX).is_none());
        let error = address(0x7fff_fff0, &own, 0).unwrap_err();
        assert_eq!(error.errno(), libc::ESRCH);
    }
}
